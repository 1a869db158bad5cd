/*
 * dialing.sql
 *		For the application that dials: which lead is next, and its call.
 */

CREATE VIEW osmtalk.due_leads WITH (security_invoker = true) AS
	SELECT l.* FROM osmtalk.leads l
	 WHERE l.status = 'pending' AND (l.next_attempt_at IS NULL OR l.next_attempt_at <= now());
COMMENT ON VIEW osmtalk.due_leads IS 'Leads ready to be called';

CREATE VIEW osmtalk.stale_calls WITH (security_invoker = true) AS
	SELECT c.* FROM osmtalk.calls c
	 WHERE c.status IN ('queued', 'in_progress') AND c.placed_at < now() - interval '1 hour';
COMMENT ON VIEW osmtalk.stale_calls IS 'Calls placed and not ended for over an hour';

CREATE FUNCTION osmtalk.place_call(lead_id text) RETURNS osmtalk.calls
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead_status osmtalk.lead_status;
	call osmtalk.calls;
BEGIN
	SELECT l.status INTO lead_status FROM osmtalk.leads l
	 WHERE l.id = place_call.lead_id
	   AND (osmtalk.sees_every_org() OR osmtalk.sees_org((SELECT c.org_id FROM osmtalk.campaigns c WHERE c.id = l.campaign_id)))
	   FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no lead "%"', lead_id USING ERRCODE = 'no_data_found';
	END IF;
	IF lead_status <> 'pending' THEN
		RAISE EXCEPTION 'the lead "%" is not pending', lead_id
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = format('Its status is %s.', lead_status),
				  HINT = 'osmtalk.requeue_lead() makes a terminal lead pending again.';
	END IF;
	INSERT INTO osmtalk.calls (lead_id) VALUES (place_call.lead_id) RETURNING * INTO call;
	RETURN call;
END
$$;
COMMENT ON FUNCTION osmtalk.place_call(text) IS
'Creates the lead''s call row, DNC check included, and returns it; the caller dials unless its status is dnc_blocked. 55000 unless the lead is pending, P0002 if there is none';

CREATE FUNCTION osmtalk.place_next_call(campaign_id text) RETURNS osmtalk.calls
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	next_lead_id text;
BEGIN
	SELECT l.id INTO next_lead_id
	  FROM osmtalk.leads l
	 WHERE l.campaign_id = place_next_call.campaign_id AND l.status = 'pending'
	   AND (osmtalk.sees_every_org() OR osmtalk.sees_org((SELECT c.org_id FROM osmtalk.campaigns c WHERE c.id = l.campaign_id)))
	   AND (l.next_attempt_at IS NULL OR l.next_attempt_at <= now())
	 ORDER BY l.next_attempt_at NULLS FIRST, l.id
	 LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN osmtalk.place_call(next_lead_id);
END
$$;
COMMENT ON FUNCTION osmtalk.place_next_call(text) IS
'place_call() for one due lead of the campaign; many dialers may call it at once, each gets another lead. Null when none is due';

CREATE FUNCTION osmtalk.requeue_lead(lead_id text, at timestamptz DEFAULT now()) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead_status osmtalk.lead_status;
	abandoned boolean;
BEGIN
	SELECT l.status, l.status = 'calling' AND NOT EXISTS (SELECT FROM osmtalk.calls c WHERE c.id = l.call_id)
	  INTO lead_status, abandoned
	  FROM osmtalk.leads l
	 WHERE l.id = requeue_lead.lead_id
	   AND (osmtalk.sees_every_org() OR osmtalk.sees_org((SELECT c.org_id FROM osmtalk.campaigns c WHERE c.id = l.campaign_id)))
	   FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no lead "%"', lead_id USING ERRCODE = 'no_data_found';
	END IF;
	IF NOT osmtalk.is_terminal(lead_status) AND NOT abandoned THEN
		RAISE EXCEPTION 'the lead "%" is not in a terminal status', lead_id
			USING ERRCODE = 'object_not_in_prerequisite_state',
				  DETAIL = format('Its status is %s.', lead_status);
	END IF;
	UPDATE osmtalk.leads l
	   SET status = 'pending', next_attempt_at = requeue_lead.at, outcome = NULL
	 WHERE l.id = requeue_lead.lead_id;
END
$$;
COMMENT ON FUNCTION osmtalk.requeue_lead(text, timestamptz) IS
'Makes a terminal lead pending again, due at the given time; its next terminal transition is a new event. So does a lead whose call was deleted before it decided. 55000 otherwise, P0002 if there is none';
