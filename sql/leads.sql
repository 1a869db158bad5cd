/*
 * leads.sql
 *		What happens when a lead's status changes, and how a call decides it.
 */

/*
 * Keeps the columns that follow from the status in step with it, whoever
 * changes it.
 */
CREATE FUNCTION osmtalk.leads_before_status() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT osmtalk.is_terminal(NEW.status) THEN
		NEW.completed_at := NULL;
	ELSE
		NEW.next_attempt_at := NULL;
		IF NOT osmtalk.is_terminal(OLD.status) THEN
			NEW.completed_at := now();
		END IF;
	END IF;
	NEW.disposition := CASE WHEN NEW.status = 'completed' THEN coalesce(NEW.disposition, 'completed') END;
	RETURN NEW;
END
$$;
CREATE TRIGGER before_status BEFORE UPDATE ON osmtalk.leads
	FOR EACH ROW WHEN (NEW.status <> OLD.status)
	EXECUTE FUNCTION osmtalk.leads_before_status();

/*
 * Each transition from a non-terminal into a terminal status is an event.
 */
CREATE FUNCTION osmtalk.leads_after_transition() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	campaign osmtalk.campaigns;
BEGIN
	SELECT * INTO STRICT campaign FROM osmtalk.campaigns c WHERE c.id = NEW.campaign_id;
	PERFORM osmtalk.record_event('campaign.lead_completed', campaign.org_id, campaign.id, NEW.id, NEW.call_id,
								 osmtalk.lead_completed_body(now(), campaign, NEW));
	RETURN NULL;
END
$$;
CREATE TRIGGER after_transition AFTER UPDATE ON osmtalk.leads
	-- is_terminal(), spelled out: a condition is parsed anew by each statement
	FOR EACH ROW WHEN (OLD.status IN ('pending', 'calling') AND NEW.status NOT IN ('pending', 'calling'))
	EXECUTE FUNCTION osmtalk.leads_after_transition();

/*
 * A lead moves only between campaigns of one organisation: its calls carry
 * that organisation.
 */
CREATE FUNCTION osmtalk.leads_before_move() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM osmtalk.check_same_org(n.org_id, o.org_id, 'lead')
	   FROM osmtalk.campaigns n, osmtalk.campaigns o
	  WHERE n.id = NEW.campaign_id AND o.id = OLD.campaign_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER before_move BEFORE UPDATE OF campaign_id ON osmtalk.leads
	FOR EACH ROW WHEN (NEW.campaign_id <> OLD.campaign_id)
	EXECUTE FUNCTION osmtalk.leads_before_move();

CREATE FUNCTION osmtalk.call_disposition(call osmtalk.calls) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF call.status <> 'completed' THEN
		RETURN NULL;
	END IF;
	PERFORM FROM osmtalk.agents a WHERE a.id = call.agent_id AND osmtalk.analysis_configured(a);
	RETURN CASE WHEN FOUND THEN osmtalk.disposition(call.analysis) ELSE 'completed' END;
END
$$;
COMMENT ON FUNCTION osmtalk.call_disposition(osmtalk.calls) IS
'The disposition that a call gives its lead: disposition() of its analysis if its agent has analysis configured, else completed; null unless the call completed';

/*
 * What an analysis changes of a lead that is decided already.
 */
CREATE FUNCTION osmtalk.apply_analysis(call osmtalk.calls) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE osmtalk.leads l
	   SET outcome = CASE WHEN osmtalk.has_analysis(call.analysis) THEN call.analysis END,
		   disposition = CASE WHEN l.status = 'completed'
							  THEN coalesce(osmtalk.call_disposition(call), l.disposition) END
	 WHERE l.id = call.lead_id AND l.call_id = call.id;
END
$$;
COMMENT ON FUNCTION osmtalk.apply_analysis(osmtalk.calls) IS
'Internal: sets the outcome, and the disposition of a completed lead, from its latest call; sends nothing';

/*
 * Decides a call's lead.  The caller has found, under the lead's lock, that
 * this is the lead's latest call, and that it was not decided before.
 */
CREATE FUNCTION osmtalk.decide_lead(call osmtalk.calls) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead record;
	analysis constant jsonb := CASE WHEN osmtalk.has_analysis(call.analysis) THEN call.analysis END;
	decided constant osmtalk.lead_status := call.status::text::osmtalk.lead_status;
BEGIN
	SELECT l.status, l.attempts, c.retry_on, c.max_attempts, c.retry_backoff INTO lead
	  FROM osmtalk.leads l JOIN osmtalk.campaigns c ON c.id = l.campaign_id
	 WHERE l.id = call.lead_id AND l.call_id = call.id FOR NO KEY UPDATE OF l;
	IF NOT FOUND THEN
		RETURN;
	END IF;

	IF osmtalk.is_terminal(lead.status) THEN
		-- The application made it terminal while the call ran, and its event
		-- has said so: its word stands.
		PERFORM osmtalk.apply_analysis(call);
	ELSIF decided = ANY (lead.retry_on) AND lead.attempts < lead.max_attempts THEN
		UPDATE osmtalk.leads l
		   SET status = 'pending', next_attempt_at = now() + lead.retry_backoff, outcome = analysis
		 WHERE l.id = call.lead_id;
	ELSE
		UPDATE osmtalk.leads l
		   SET status = decided, outcome = analysis,
			   disposition = osmtalk.call_disposition(call)
		 WHERE l.id = call.lead_id;
	END IF;
END
$$;

COMMENT ON FUNCTION osmtalk.decide_lead(osmtalk.calls) IS
'Internal: sets the lead''s outcome from its latest call, by the campaign''s retry policy';
