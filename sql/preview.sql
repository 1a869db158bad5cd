/*
 * preview.sql
 *		What is sent, or would be, without sending it.
 *
 * Of an event that is there its stored bytes, of another what the functions
 * that the triggers call make of the rows as they are.  Headers and signature
 * are the worker's own (compose.c).  Writes nothing.
 *
 * No statement here has a secret or a URL among its parameters: what a plan is
 * made with can get into the log.
 */

CREATE FUNCTION osmtalk.request_headers(
	event_id text, body text, secret text, previous_secrets text[], custom jsonb, OUT headers text[], OUT problem text)
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_request_headers';
COMMENT ON FUNCTION osmtalk.request_headers(text, text, text, text[], jsonb) IS
'Internal: the headers that a worker gives a request of this event, signed if the secret is not null, or why it can make none; but for Host, Accept and Content-Length, which libcurl makes. Of custom headers, which may hold tokens, "..." is shown';

CREATE FUNCTION osmtalk.curl_command(url text, headers text[], body text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_curl_command';
COMMENT ON FUNCTION osmtalk.curl_command(text, text[], text) IS
'Internal: a command for a POSIX shell that makes the request, byte for byte';

CREATE FUNCTION osmtalk.header_object(headers text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT pg_catalog.jsonb_object_agg(pg_catalog.split_part(h.header, ': ', 1), pg_catalog.substr(h.header, pg_catalog.strpos(h.header, ': ') + 2))
	  FROM pg_catalog.unnest(headers) h (header);
END;
COMMENT ON FUNCTION osmtalk.header_object(text[]) IS
'Internal: names and values of the headers that are sent';

CREATE FUNCTION osmtalk.wants_event(type text, org_id text, campaign_id text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT osmtalk.is_subscribed(wants_event.type, c.webhook_events, s.webhook_events)
	  FROM osmtalk.org_settings s LEFT JOIN osmtalk.campaigns c ON c.id = wants_event.campaign_id
	 WHERE s.org_id = wants_event.org_id;
END;
COMMENT ON FUNCTION osmtalk.wants_event(text, text, text) IS
'Internal: whether an event of this type, of this organisation and campaign, would be written now';

CREATE FUNCTION osmtalk.preview(type text, org_id text, campaign_id text, event_id text, body text, state text, reason text)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
	SELECT preview.type, preview.event_id, preview.state,
		   NULLIF(pg_catalog.concat_ws(' ', preview.reason,
			CASE
				WHEN t.url IS NOT NULL THEN NULL
				WHEN preview.type LIKE 'call.%' THEN 'There is no webhook URL: the organisation has no default_webhook_url, and this event goes nowhere else.'
				ELSE 'There is no webhook URL: neither the campaign nor the organisation has one.'
			END,
			CASE WHEN NOT osmtalk.is_webhook_url(t.url) THEN 'The webhook URL is not valid.'
				 WHEN osmtalk.is_refused_url(t.url) THEN 'The worker refuses that URL: this target is not allowed.' END,
			CASE WHEN preview.event_id IS NULL AND osmtalk.endpoint_standing(h.state, h.disabled_by, h.next_probe_at, t.retry_schedule IS NOT NULL) <> 'send'
				THEN pg_catalog.format('It would wait: the endpoint is %s.', h.state) END,
			CASE WHEN preview.event_id IS NULL AND NOT osmtalk.wants_event(preview.type, preview.org_id, preview.campaign_id)
				THEN 'Events of this type are not wanted: they are not in webhook_events.' END,
			'It cannot be sent: ' || r.problem || '.'), ''),
		   t.url, osmtalk.header_object(r.headers), preview.body, pg_catalog.octet_length(preview.body),
		   osmtalk.curl_command(t.url, r.headers, preview.body)
	  FROM osmtalk.delivery_target(preview.type, preview.org_id, preview.campaign_id) t
	 CROSS JOIN LATERAL osmtalk.request_headers(COALESCE(preview.event_id, osmtalk.new_id('preview')), preview.body, t.secret, t.previous_secrets, t.headers) r
	  LEFT JOIN osmtalk.endpoints h ON h.id = osmtalk.endpoint_id(preview.org_id, t.url);
END;
COMMENT ON FUNCTION osmtalk.preview(text, text, text, text, text, text, text) IS
'Internal: the request for an event of this type, to the URL and with the secret of now; a null event_id is one that does not exist yet, a null body one that cannot be known';

/* ---- events that are there ---- */

CREATE FUNCTION osmtalk.why_not_sent(
	event_id text, state text, attempts bigint, http_status int, error text, last_attempt_at timestamptz, waits_for text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE state
	WHEN 'delivered' THEN pg_catalog.format('Already sent as event %s: attempt %s, at %s, was answered with HTTP %s. It is sent again only by SELECT osmtalk.redeliver(%L).',
		osmtalk.quoted(event_id), attempts, osmtalk.iso_time(last_attempt_at), http_status, event_id)
	WHEN 'failed' THEN pg_catalog.format('Already tried as event %s, and failed after %s attempts: %s. It is sent again only by SELECT osmtalk.redeliver(%L).',
		osmtalk.quoted(event_id), attempts, error, event_id)
	WHEN 'skipped' THEN pg_catalog.format('Not enqueued when it came about: %s. It is sent, if there is a URL, by SELECT osmtalk.redeliver(%L).', error, event_id)
	WHEN 'pending' THEN 'It waits for ' || waits_for || '.'
END;
COMMENT ON FUNCTION osmtalk.why_not_sent(text, text, bigint, int, text, timestamptz, text) IS
'Internal: why an event is not being sent, in words, by what deliveries says of it; null if it is, or is about to be';

CREATE FUNCTION osmtalk.preview_stored(event osmtalk.events)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
	SELECT p.*
	  FROM osmtalk.deliveries d,
		   LATERAL osmtalk.preview((event).type, (event).org_id, (event).campaign_id, (event).id, (event).body, d.state,
			osmtalk.why_not_sent(d.event_id, d.state, d.attempts, d.http_status, d.error, d.last_attempt_at, d.waits_for)) p
	 WHERE d.event_id = (event).id;
END;
COMMENT ON FUNCTION osmtalk.preview_stored(osmtalk.events) IS
'Internal: the request of an event that is there';

/* ---- events that may come ---- */

/*
 * The lead as the call would leave it, were it decided now: decide_lead() asks
 * the same rules.  A call that has not ended ends now.
 */
CREATE FUNCTION osmtalk.lead_if_decided(call osmtalk.calls, lead osmtalk.leads) RETURNS osmtalk.leads
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	policy record; -- not the campaign: there is a secret in it
	status osmtalk.call_status := call.status;
	outcome osmtalk.lead_status;
	analyzed constant boolean := EXISTS (SELECT FROM osmtalk.agents a WHERE a.id = call.agent_id AND osmtalk.analysis_configured(a));
BEGIN
	IF osmtalk.is_open(status) THEN
		status := osmtalk.call_status(call.started_at, call.answered_at, now(), call.sip_status_code, call.voicemail_detected, call.error);
	END IF;
	SELECT c.retry_on, c.max_attempts INTO policy FROM osmtalk.campaigns c WHERE c.id = lead.campaign_id;
	outcome := osmtalk.lead_outcome(status);
	lead.outcome := CASE WHEN osmtalk.has_analysis(call.analysis) THEN call.analysis END;
	IF osmtalk.is_retried(outcome, lead.attempts, policy.retry_on, policy.max_attempts) THEN
		lead.status := 'pending';
		lead.disposition := NULL;
	ELSE
		lead.status := outcome;
		lead.disposition := osmtalk.lead_disposition(outcome, osmtalk.disposition_by(status, analyzed, call.analysis));
	END IF;
	RETURN lead;
END
$$;
COMMENT ON FUNCTION osmtalk.lead_if_decided(osmtalk.calls, osmtalk.leads) IS
'Internal: the lead as its latest call would leave it if that ended, if it has not, and decided the lead now, without waiting for an analysis';

CREATE FUNCTION osmtalk.preview_lead_completed(call osmtalk.calls)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead osmtalk.leads;
	decided osmtalk.leads;
	effect text;
	body text;
	reason text;
BEGIN
	SELECT * INTO lead FROM osmtalk.leads l WHERE l.id = call.lead_id;
	effect := osmtalk.effect_on_lead(call, lead);
	IF lead.call_id IS DISTINCT FROM call.id OR osmtalk.is_terminal(lead.status) OR effect NOT IN ('open', 'waits') THEN
		-- in the words of the explanation
		SELECT 'Nothing is sent. ' || coalesce(
				(SELECT e.sentence FROM osmtalk.explain_lead(call) e WHERE e.winner),
				CASE WHEN lead.call_id IS DISTINCT FROM call.id
					 THEN format('The lead has been called again since (call %s): an older call changes nothing of it.', coalesce(osmtalk.quoted(lead.call_id), 'unknown'))
					 ELSE format('The application has made the lead %s itself, which stands.', lead.status) END)
			INTO reason;
		IF effect IN ('takes', 'blocked', 'application') THEN
			reason := reason || ' There is no event of it: that type was not wanted then, or it is not kept any more (osmtalk.retention).';
		END IF;
	ELSE
		decided := osmtalk.lead_if_decided(call, lead);
		reason := CASE effect
			WHEN 'open' THEN 'Not final: the call has not ended. If it ended now,'
			ELSE format('Not decided: the call waits for its analysis, %s. If none came,', osmtalk.end_of_wait(call))
		END;
		IF osmtalk.is_terminal(decided.status) THEN
			reason := format('%s the lead would become %s, and this would be sent.', reason, decided.status);
			SELECT osmtalk.lead_completed_body(now(), c, decided) INTO body FROM osmtalk.campaigns c WHERE c.id = lead.campaign_id;
		ELSE
			reason := format('%s the lead would be %s again, by the retry policy of its campaign, and nothing would be sent.', reason, decided.status);
		END IF;
	END IF;
	RETURN QUERY SELECT p.* FROM osmtalk.preview('campaign.lead_completed', call.org_id, lead.campaign_id, NULL, body, 'not written', reason) p;
END
$$;
COMMENT ON FUNCTION osmtalk.preview_lead_completed(osmtalk.calls) IS
'Internal: the campaign.lead_completed that a call, which has a lead, has not caused, or not yet';

/*
 * What is said of an open call by itself, where somebody wants to hear it.
 */
CREATE FUNCTION osmtalk.preview_call_events(call osmtalk.calls)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before constant osmtalk.call_status := call.status;
	campaign_id constant text := (SELECT l.campaign_id FROM osmtalk.leads l WHERE l.id = call.lead_id);
BEGIN
	IF NOT osmtalk.is_open(call.status) THEN
		RETURN;
	END IF;
	call.ended_at := now();
	call.status := osmtalk.call_status(call.started_at, call.answered_at, call.ended_at, call.sip_status_code, call.voicemail_detected, call.error);
	RETURN QUERY
	SELECT p.*
	  FROM unnest(osmtalk.call_events(before, call.status, call.started_at, call.answered_at)) t (type),
		   LATERAL osmtalk.preview(t.type, call.org_id, campaign_id, NULL, osmtalk.call_event_body(now(), t.type, call, campaign_id),
			'not written', 'Not final: the call has not ended. If it ended now, this would be sent.') p
	 WHERE osmtalk.wants_event(t.type, call.org_id, campaign_id);
END
$$;
COMMENT ON FUNCTION osmtalk.preview_call_events(osmtalk.calls) IS
'Internal: the call.started, call.completed and call.failed that a call would cause if it ended now, if it has not';

CREATE FUNCTION osmtalk.preview_analysis_completed(call osmtalk.calls, analyzed boolean)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
	SELECT p.*
	  FROM osmtalk.preview('call.analysis_completed', (call).org_id, (SELECT l.campaign_id FROM osmtalk.leads l WHERE l.id = (call).lead_id),
			NULL, NULL, 'not written', 'Nothing is sent. ' ||
			CASE
				WHEN (call).analyzed_at < pg_catalog.now() - osmtalk.retention()
					THEN 'The analysis came long ago: its event, if there was one, is not kept any more.'
				WHEN osmtalk.has_analysis((call).analysis) OR (call).analyzed_at IS NOT NULL
					THEN 'The analysis came with imported history, before the agent had analysis configured, or when such events were not wanted: only the first analysis of a call is an event.'
				WHEN NOT analyzed THEN 'The agent has no analysis configured.'
				WHEN (call).analysis_error IS NOT NULL THEN 'The analysis failed: ' || osmtalk.quoted((call).analysis_error) || '.'
				ELSE 'No analysis has come yet.'
			END) p;
END;
COMMENT ON FUNCTION osmtalk.preview_analysis_completed(osmtalk.calls, boolean) IS
'Internal: why there is no call.analysis_completed of a call; analyzed: whether its agent has analysis configured';

/* ---- for administrators ---- */

CREATE FUNCTION osmtalk.preview_event(call_id text)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	call osmtalk.calls;
	analyzed boolean;
	written text[];
BEGIN
	SELECT * INTO call FROM osmtalk.calls c WHERE c.id = preview_event.call_id AND osmtalk.sees_org(c.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no call "%"', call_id USING ERRCODE = 'no_data_found';
	END IF;
	analyzed := EXISTS (SELECT FROM osmtalk.agents a WHERE a.id = call.agent_id AND osmtalk.analysis_configured(a));
	written := ARRAY(SELECT e.type FROM osmtalk.events e WHERE e.call_id = call.id);

	RETURN QUERY
	SELECT p.* FROM osmtalk.events e, LATERAL osmtalk.preview_stored(e) p
	 WHERE e.call_id = call.id AND e.type = 'campaign.lead_completed' ORDER BY e.created_at, e.id;
	-- a call can have two: of a lead that the application closed meanwhile, and opened again
	IF call.lead_id IS NOT NULL AND (
		NOT 'campaign.lead_completed' = ANY (written)
		OR EXISTS (SELECT FROM osmtalk.leads l WHERE l.id = call.lead_id AND l.call_id = call.id AND NOT osmtalk.is_terminal(l.status)
					  AND osmtalk.effect_on_lead(call, l) IN ('open', 'waits')))
	THEN
		RETURN QUERY SELECT p.* FROM osmtalk.preview_lead_completed(call) p;
	END IF;
	RETURN QUERY
	SELECT p.* FROM osmtalk.events e, LATERAL osmtalk.preview_stored(e) p
	 WHERE e.call_id = call.id AND e.type <> 'campaign.lead_completed' ORDER BY e.created_at, e.id;
	RETURN QUERY SELECT p.* FROM osmtalk.preview_call_events(call) p WHERE NOT p.type = ANY (written);
	IF FOUND THEN
		written := written || 'call.completed'::text;
	END IF;
	-- a call that can have no event has a row that says so, too
	IF NOT 'call.analysis_completed' = ANY (written) AND (analyzed OR (call.lead_id IS NULL AND written = '{}')) THEN
		RETURN QUERY SELECT p.* FROM osmtalk.preview_analysis_completed(call, analyzed) p;
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.preview_event(text) IS
'The request of each event that the call has caused, or would cause: URL, headers, body and its bytes, and a curl command that makes it; reason says why it is not sent. Writes nothing. Unknown call: P0002';

CREATE FUNCTION osmtalk.preview_lead_event(lead_id text)
RETURNS TABLE (type text, event_id text, state text, reason text, url text, headers jsonb, body text, bytes int, curl text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lead osmtalk.leads;
	call osmtalk.calls;
BEGIN
	SELECT l.* INTO lead FROM osmtalk.leads l JOIN osmtalk.campaigns c ON c.id = l.campaign_id
	 WHERE l.id = preview_lead_event.lead_id AND osmtalk.sees_org(c.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no lead "%"', lead_id USING ERRCODE = 'no_data_found';
	END IF;
	-- by the call, which an index has; what an application has closed uncalled has none
	RETURN QUERY
	SELECT p.* FROM osmtalk.events e, LATERAL osmtalk.preview_stored(e) p
	 WHERE (e.call_id = lead.call_id OR (lead.call_id IS NULL AND e.call_id IS NULL))
	   AND e.lead_id = lead.id AND e.type = 'campaign.lead_completed'
	 ORDER BY e.created_at, e.id;
	IF FOUND THEN
		RETURN;
	END IF;
	SELECT * INTO call FROM osmtalk.calls c WHERE c.id = lead.call_id;
	IF call.lead_id = lead.id THEN
		RETURN QUERY SELECT p.* FROM osmtalk.preview_lead_completed(call) p;
		RETURN;
	END IF;
	RETURN QUERY
	SELECT p.* FROM osmtalk.campaigns c, LATERAL osmtalk.preview('campaign.lead_completed', c.org_id, c.id, NULL, NULL, 'not written',
		CASE WHEN osmtalk.is_terminal(lead.status)
			 THEN format('Nothing is sent. The lead is %s, but it was inserted so, or its event is not kept any more: only a change from pending or calling into a terminal status is an event.', lead.status)
			 ELSE format('Not final: the lead is %s. An event comes when it changes into a terminal status.', lead.status)
		END) p
	 WHERE c.id = lead.campaign_id;
END
$$;
COMMENT ON FUNCTION osmtalk.preview_lead_event(text) IS
'preview_event() for a lead: the campaign.lead_completed of its latest call, or of its closing by the application, or why there is none. Unknown lead: P0002';
