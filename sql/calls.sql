/*
 * calls.sql
 *		What happens when a call is placed, ends or is analysed.
 *
 * A trigger that runs before the row is written changes only that row (it
 * may lock the lead); effects on leads and events come after it, so that
 * ON CONFLICT DO NOTHING leaves none behind.  Locks are taken call first,
 * then lead.
 */

/*
 * Whether a call that has ended as completed still waits for its analysis.
 */
CREATE FUNCTION osmtalk.may_wait(
	status osmtalk.call_status, agent_id text, analysis jsonb, analysis_error text, awaiting_since timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN status = 'completed' AND agent_id IS NOT NULL AND analysis_error IS NULL
	AND NOT osmtalk.has_analysis(analysis)
	AND (awaiting_since <= pg_catalog.now() - osmtalk.analysis_timeout()) IS NOT TRUE;
COMMENT ON FUNCTION osmtalk.may_wait(osmtalk.call_status, text, jsonb, text, timestamptz) IS
'Internal: whether an ended call waits for its analysis if its agent has analysis configured';

CREATE FUNCTION osmtalk.awaits_analysis(call osmtalk.calls) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT osmtalk.may_wait(call.status, call.agent_id, call.analysis, call.analysis_error, call.awaiting_since) THEN
		RETURN false;
	END IF;
	PERFORM FROM osmtalk.agents a WHERE a.id = call.agent_id AND osmtalk.analysis_configured(a);
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION osmtalk.awaits_analysis(osmtalk.calls) IS
'Internal: whether the lead of this ended call is not yet decided because the analysis may still come';

CREATE FUNCTION osmtalk.calls_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	of_lead record;
	agent_org_id text;
BEGIN
	IF TG_RELID <> 'osmtalk.calls'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	IF NEW.lead_id IS NOT NULL THEN
		SELECT c.org_id, c.agent_id, l.phone_number INTO of_lead
		  FROM osmtalk.leads l JOIN osmtalk.campaigns c ON c.id = l.campaign_id
		 WHERE l.id = NEW.lead_id;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'there is no lead "%"', NEW.lead_id
				USING ERRCODE = 'foreign_key_violation', SCHEMA = 'osmtalk', TABLE = 'calls', COLUMN = 'lead_id';
		END IF;
		PERFORM osmtalk.check_same_org(NEW.org_id, of_lead.org_id, 'call''s lead');
		IF NEW.placed_at IS NULL THEN
			NEW.org_id := of_lead.org_id;
			NEW.agent_id := coalesce(NEW.agent_id, of_lead.agent_id);
			NEW.phone_number := coalesce(NEW.phone_number, of_lead.phone_number);
		END IF;
	END IF;
	IF NEW.agent_id IS NOT NULL THEN
		SELECT a.org_id INTO agent_org_id FROM osmtalk.agents a WHERE a.id = NEW.agent_id;
		PERFORM osmtalk.check_same_org(NEW.org_id, agent_org_id, 'call''s agent');
		IF NEW.placed_at IS NULL THEN
			NEW.org_id := coalesce(NEW.org_id, agent_org_id);
		END IF;
	END IF;

	IF NEW.placed_at IS NOT NULL THEN
		-- history: kept as it came; it only must not look as if placed by this
		-- very transaction, which is what calls_after_insert() goes by
		NEW.placed_by := nullif(NEW.placed_by, pg_current_xact_id());
		RETURN NEW;
	END IF;

	NEW.placed_at := now();
	NEW.placed_by := pg_current_xact_id();
	NEW.origin := osmtalk.current_origin();
	NEW.decided_at := NULL;
	NEW.awaiting_since := NULL;
	NEW.analyzed_at := CASE WHEN osmtalk.has_analysis(NEW.analysis) THEN now() END;

	-- a row that is there already is not placed again: of an insert that becomes
	-- an update (ON CONFLICT) the facts must arrive as they are
	IF NEW.direction = 'outbound' AND osmtalk.is_dnc_listed(NEW.org_id, NEW.phone_number)
		AND NOT EXISTS (SELECT FROM osmtalk.calls c WHERE c.id = NEW.id)
	THEN
		NEW.status := 'dnc_blocked';
		NEW.ended_at := now();
		NEW.decided_at := now();
		RETURN NEW;
	END IF;

	NEW.status := osmtalk.call_status(NEW.started_at, NEW.answered_at, NEW.ended_at,
									  NEW.sip_status_code, NEW.voicemail_detected, NEW.error);
	IF NEW.lead_id IS NOT NULL AND NOT osmtalk.is_open(NEW.status) THEN
		NEW.awaiting_since := least(NEW.ended_at, now());
		IF NOT osmtalk.awaits_analysis(NEW) THEN
			NEW.awaiting_since := NULL;
			NEW.decided_at := now();
		END IF;
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER before_insert BEFORE INSERT ON osmtalk.calls
	FOR EACH ROW EXECUTE FUNCTION osmtalk.calls_before_insert();

CREATE FUNCTION osmtalk.calls_after_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.calls'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	IF NEW.status = 'dnc_blocked' THEN
		UPDATE osmtalk.leads l
		   SET status = 'dnc_blocked', call_id = NEW.id,
			   outcome = CASE WHEN osmtalk.has_analysis(NEW.analysis) THEN NEW.analysis END
		 WHERE l.id = NEW.lead_id AND NOT osmtalk.is_terminal(l.status);
		IF NOT FOUND AND NEW.lead_id IS NOT NULL THEN
			INSERT INTO osmtalk.outcomes_without_event (type, org_id, campaign_id, lead_id, call_id, reason)
			SELECT 'campaign.lead_completed', NEW.org_id, l.campaign_id, l.id, NEW.id, 'not sent again: the lead had its outcome already'
			  FROM osmtalk.leads l WHERE l.id = NEW.lead_id;
		END IF;
	ELSIF NEW.lead_id IS NOT NULL THEN
		UPDATE osmtalk.leads l
		   SET status = 'calling', attempts = l.attempts + 1, call_id = NEW.id,
			   disposition = NULL, outcome = NULL, completed_at = NULL, next_attempt_at = NULL
		 WHERE l.id = NEW.lead_id;
		IF NEW.decided_at IS NOT NULL THEN
			PERFORM osmtalk.decide_lead(NEW);
		END IF;
	END IF;
	IF NEW.analyzed_at IS NOT NULL THEN
		PERFORM osmtalk.record_analysis(NEW);
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER after_insert AFTER INSERT ON osmtalk.calls
	FOR EACH ROW WHEN (NEW.placed_by = pg_catalog.pg_current_xact_id()
					   AND (NEW.lead_id IS NOT NULL OR NEW.analyzed_at IS NOT NULL))
	EXECUTE FUNCTION osmtalk.calls_after_insert();

/*
 * An update is seen by what has changed, not by what the statement names: a
 * trigger of the user's may have set it.
 */
CREATE FUNCTION osmtalk.calls_before_update() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_calls_before_update';
COMMENT ON FUNCTION osmtalk.calls_before_update() IS
'Trigger: sets in a call''s row what follows from its facts';
CREATE TRIGGER before_update BEFORE UPDATE ON osmtalk.calls
	FOR EACH ROW EXECUTE FUNCTION osmtalk.calls_before_update();

CREATE FUNCTION osmtalk.calls_after_update() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_calls_after_update';
COMMENT ON FUNCTION osmtalk.calls_after_update() IS
'Trigger: decides the call''s lead, applies late analysis, writes the event of the first analysis';
CREATE TRIGGER after_update AFTER UPDATE ON osmtalk.calls
	FOR EACH ROW EXECUTE FUNCTION osmtalk.calls_after_update();

/*
 * References made later are held to the same organisation as those made at
 * insert.
 */
CREATE FUNCTION osmtalk.calls_before_reference() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.calls'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	PERFORM osmtalk.check_same_org(NEW.org_id, a.org_id, 'call''s agent')
	   FROM osmtalk.agents a WHERE a.id = NEW.agent_id;
	PERFORM osmtalk.check_same_org(NEW.org_id, c.org_id, 'call''s lead')
	   FROM osmtalk.leads l JOIN osmtalk.campaigns c ON c.id = l.campaign_id WHERE l.id = NEW.lead_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER before_reference BEFORE UPDATE OF agent_id, lead_id ON osmtalk.calls
	FOR EACH ROW WHEN (NEW.agent_id IS DISTINCT FROM OLD.agent_id
					   OR (NEW.lead_id IS DISTINCT FROM OLD.lead_id AND NEW.lead_id IS NOT NULL))
	EXECUTE FUNCTION osmtalk.calls_before_reference();

/*
 * The event of a call's first analysis, if its agent has analysis configured.
 */
CREATE FUNCTION osmtalk.record_analysis(call osmtalk.calls) RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'osmtalk_record_analysis_sql';
COMMENT ON FUNCTION osmtalk.record_analysis(osmtalk.calls) IS
'Internal: writes the event of a call''s first analysis';

/*
 * Calls whose time is up.  The worker calls this when its look at the two
 * partial indexes finds any; the triggers above do the deciding.
 */
CREATE FUNCTION osmtalk.has_overdue_calls() RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (
		SELECT FROM osmtalk.calls c
		 WHERE c.awaiting_since IS NOT NULL AND c.origin = osmtalk.current_origin()
		   AND c.awaiting_since <= pg_catalog.now() - osmtalk.analysis_timeout())
	OR EXISTS (
		SELECT FROM osmtalk.calls c
		 WHERE c.status IN ('queued', 'in_progress') AND c.origin = osmtalk.current_origin()
		   AND c.placed_at <= pg_catalog.now() - osmtalk.call_timeout());
COMMENT ON FUNCTION osmtalk.has_overdue_calls() IS
'Internal: whether expire_calls() has anything to do';

CREATE FUNCTION osmtalk.expire_calls(max_calls int DEFAULT 500) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	mine constant text := osmtalk.current_origin();
	overdue record;
	expired bigint := 0;
BEGIN
	FOR overdue IN
		(SELECT c.id, c.lead_id, true AS ended FROM osmtalk.calls c
		  WHERE c.awaiting_since IS NOT NULL AND c.origin = mine
			AND c.awaiting_since <= now() - osmtalk.analysis_timeout()
		  ORDER BY c.awaiting_since)
		UNION ALL
		(SELECT c.id, c.lead_id, false FROM osmtalk.calls c
		  WHERE c.status IN ('queued', 'in_progress') AND c.origin = mine
			AND c.placed_at <= now() - osmtalk.call_timeout()
		  ORDER BY c.placed_at)
	LOOP
		-- counted by what was decided: calls that cannot be must not hold up the others
		EXIT WHEN expired >= max_calls;
		-- what another session has locked is left for the next time
		PERFORM FROM osmtalk.calls c WHERE c.id = overdue.id FOR NO KEY UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND;
		PERFORM FROM osmtalk.leads l WHERE l.id = overdue.lead_id FOR NO KEY UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND AND overdue.lead_id IS NOT NULL;
		BEGIN
			IF overdue.ended THEN
				-- the trigger before the update sees that the wait is over
				UPDATE osmtalk.calls c SET decided_at = now() WHERE c.id = overdue.id;
			ELSE
				UPDATE osmtalk.calls c SET ended_at = now(), error = coalesce(c.error, 'call timed out')
				 WHERE c.id = overdue.id AND c.status IN ('queued', 'in_progress');
			END IF;
			expired := expired + 1;
		EXCEPTION WHEN OTHERS OR assert_failure THEN
			-- a trigger of the user's: the other calls must not wait for its repair
			RAISE WARNING 'call "%" is overdue and could not be decided: %', overdue.id, SQLERRM
				USING ERRCODE = SQLSTATE;
		END;
	END LOOP;
	RETURN expired;
END
$$;
COMMENT ON FUNCTION osmtalk.expire_calls(int) IS
'Decides calls that waited for their analysis longer than osmtalk.analysis_timeout and ends those placed longer than osmtalk.call_timeout ago, at most max_calls; returns how many. The worker does this by itself';
