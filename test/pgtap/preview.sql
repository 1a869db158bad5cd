--
-- preview_event(), preview_lead_event(): one row for each event that there is or
-- may be, and in words why it is not sent.  080_preview.pl compares with what
-- receivers get.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SET LOCAL client_min_messages = error;
SELECT * FROM no_plan();

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES
	('org', 'https://org.example/hook?token=t0ken', 'whsec_a_secret_of_the_organisation'), ('none', NULL, NULL), ('wordy', 'https://wordy.example/', repeat('s', 9000));
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('plain', 'org', false), ('analyst', 'org', true), ('analyst_none', 'none', true);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_url, webhook_secret, retry_on, max_attempts) VALUES
	('cmp', 'org', 'plain', 'Campaign', 'https://cmp.example/', 'whsec_a_secret_of_the_campaign', '{}', 1), ('cmp_analyst', 'org', 'analyst', 'Analysed', NULL, NULL, '{}', 1),
	('cmp_retry', 'org', 'plain', 'Again', NULL, NULL, '{busy}', 2), ('cmp_none', 'none', 'analyst_none', 'Nowhere', NULL, NULL, '{}', 1), ('cmp_wordy', 'wordy', NULL, 'Wordy', NULL, NULL, '{}', 1);

-- a lead of the campaign, called; returns the call's id
CREATE FUNCTION pg_temp.placed(id text, campaign text, answered timestamptz DEFAULT now() - interval '1 min') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_' || id, campaign, '+4930123456');
	INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_' || id, 'ld_' || id, answered);
	RETURN 'call_' || id;
END
$$;
CREATE FUNCTION pg_temp.is_previewed(call text, type text, state text, reason text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	p record;
BEGIN
	SELECT * INTO p FROM osmtalk.preview_event(call) e WHERE e.type IS NOT DISTINCT FROM is_previewed.type;
	RETURN NEXT public.is(p.state, state, what || ': state');
	RETURN NEXT CASE WHEN reason IS NULL THEN public.is(p.reason, NULL, what || ': nothing keeps it') ELSE public.matches(p.reason, reason, what || ': reason') END;
	RETURN NEXT public.ok(coalesce(octet_length(p.body), -1) = coalesce(p.bytes, -1), what || ': bytes of the body');
	RETURN NEXT public.ok(p.url IS NULL OR p.body IS NULL OR p.reason ~ 'cannot be sent' OR p.curl LIKE 'curl %' || quote_literal(p.url), what || ': a command where there is something to send');
	RETURN NEXT public.ok(p.body IS NOT NULL OR (p.headers IS NULL AND p.curl IS NULL), what || ': no headers without a body');
END
$$;

-- ---------------------------------------------------------------------------
-- Before anything is sent
-- ---------------------------------------------------------------------------
SELECT pg_temp.placed('open', 'cmp');
SELECT pg_temp.is_previewed('call_open', 'campaign.lead_completed', 'not written', '^Not final: the call has not ended\. If it ended now, the lead would become completed, and this would be sent\.$', 'an open call');
SELECT is((SELECT count(*)::int FROM osmtalk.preview_event('call_open')), 1, 'it has one event');
SELECT results_eq($$ SELECT event_id, url, headers - 'X-OsmTalk-Event-Id', headers ->> 'X-OsmTalk-Event-Id' ~ '^preview_[0-9a-v]{27}$' FROM osmtalk.preview_event('call_open') $$,
	$$ SELECT NULL::text, 'https://cmp.example/', jsonb_build_object('Content-Type', 'application/json', 'User-Agent', 'osmTalk-Webhooks/' || extversion,
			'X-OsmTalk-Signature', osmtalk.signature((SELECT body FROM osmtalk.preview_event('call_open')), 'whsec_a_secret_of_the_campaign')), true FROM pg_extension WHERE extname = 'osmtalk' $$,
	'its URL and headers; there is no id yet');
SELECT is((SELECT body::jsonb -> 'lead' FROM osmtalk.preview_event('call_open')),
	'{"id": "ld_open", "phoneNumber": "+4930123456", "variables": {}, "status": "completed", "disposition": "completed", "attempts": 1, "callId": "call_open", "outcome": null}', 'its body');
SELECT results_eq($$ SELECT type, state, reason, url, headers - 'X-OsmTalk-Event-Id', body, bytes FROM osmtalk.preview_lead_event('ld_open') $$,
	$$ SELECT type, state, reason, url, headers - 'X-OsmTalk-Event-Id', body, bytes FROM osmtalk.preview_event('call_open') $$, 'by its lead the same');
SELECT pg_temp.placed('ringing', 'cmp', NULL);
SELECT pg_temp.is_previewed('call_ringing', 'campaign.lead_completed', 'not written', 'If it ended now, the lead would become no_answer,', 'one that was not answered');
SELECT pg_temp.placed('again', 'cmp_retry');
UPDATE osmtalk.calls SET sip_status_code = 486 WHERE id = 'call_again';
SELECT pg_temp.is_previewed('call_again', 'campaign.lead_completed', 'not written', 'Not final.* the lead would be pending again, by the retry policy of its campaign, and nothing would be sent\.$', 'one that would be tried again');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_again';
SELECT pg_temp.is_previewed('call_again', 'campaign.lead_completed', 'not written', '^Nothing is sent\. The lead "ld_again" went back to pending, .* tries busy again, and it had used 1 of 2 attempts\.', 'one that is tried again');
SET LOCAL session_replication_role = replica;
UPDATE osmtalk.calls SET decided_at = now() - interval '1 year' WHERE id = 'call_again';
SET LOCAL session_replication_role = origin;
SELECT matches((SELECT explanation FROM osmtalk.explain_outcome('call_again') WHERE decision = 'summary'),
	'^Call "call_again" came out as busy, because the SIP code was 486\. What the call made of the lead "ld_again" is not known any more', 'one of which the event would not be kept any more');
SELECT results_eq($$ SELECT matched FROM osmtalk.explain_outcome('call_again') WHERE decision = 'lead' ORDER BY step $$, '{f,f,f,f,NULL,NULL,NULL,t}'::boolean[], '... no rule is said to have decided it');
SELECT pg_temp.is_previewed(pg_temp.placed('waits', 'cmp_analyst'), 'call.analysis_completed', 'not written', '^Nothing is sent\. No analysis has come yet\.$', 'an analysis that has not come');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_waits';
SELECT pg_temp.is_previewed('call_waits', 'campaign.lead_completed', 'not written', '^Not decided: the call waits for its analysis, until \d{4}-\S+Z at the latest\. If none came, the lead would become completed, and this would be sent\.$', 'a call that waits for it');
SELECT is((SELECT count(*)::int FROM osmtalk.preview_event('call_waits')), 2, 'it has two events');
UPDATE osmtalk.calls SET analysis_error = E'no\x1b[2Jmodel' WHERE id = 'call_waits';
SELECT pg_temp.is_previewed('call_waits', 'call.analysis_completed', 'not written', '^Nothing is sent\. The analysis failed: "no\\u001b\[2Jmodel"\.$', 'an analysis that failed');

-- ---------------------------------------------------------------------------
-- That never will be
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.calls (id, org_id) VALUES ('call_alone', 'org');
SELECT pg_temp.is_previewed('call_alone', 'call.analysis_completed', 'not written', '^Nothing is sent\. The agent has no analysis configured\.$', 'a call of no lead and no analysis');
SELECT is((SELECT count(*)::int FROM osmtalk.preview_event('call_alone')), 1, 'a row says so');
SELECT pg_temp.placed('older', 'cmp');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_newer', 'ld_older');
SELECT pg_temp.is_previewed('call_older', 'campaign.lead_completed', 'not written', '^Nothing is sent\. The lead has been called again since \(call "call_newer"\)', 'an older call, open');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_older';
SELECT pg_temp.is_previewed('call_older', 'campaign.lead_completed', 'not written', '^Nothing is sent\. The lead "ld_older" had been called again before', '... and at its end');
SELECT is((SELECT reason FROM osmtalk.preview_lead_event('ld_older')), (SELECT reason FROM osmtalk.preview_event('call_newer')), 'a lead is previewed by its latest call');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, status) VALUES ('ld_old', 'cmp', '+4930123457', 'completed'), ('ld_new', 'cmp', '+4930123458', 'pending'), ('ld_closed', 'cmp', '+4930123459', 'pending');
SELECT matches((SELECT reason FROM osmtalk.preview_lead_event('ld_old')), '^Nothing is sent\. The lead is completed, but it was inserted so,', 'a lead that was inserted as terminal');
SELECT matches((SELECT reason FROM osmtalk.preview_lead_event('ld_new')), '^Not final: the lead is pending\.', 'one that was not called');
INSERT INTO osmtalk.calls (id, org_id, agent_id, placed_at, status, analysis) VALUES ('call_history', 'org', 'analyst', '2020-01-01', 'completed', '{}');
SELECT pg_temp.is_previewed('call_history', 'call.analysis_completed', 'not written', 'came with imported history', 'history');

-- ---------------------------------------------------------------------------
-- Of a lead that has gone on since
-- ---------------------------------------------------------------------------
CREATE FUNCTION pg_temp.summary(call text) RETURNS text LANGUAGE sql AS $$ SELECT explanation FROM osmtalk.explain_outcome(call) WHERE decision = 'summary' $$;
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_events) VALUES ('cmp_muted', 'org', 'plain', 'Muted', '{}');
SELECT pg_temp.placed('muted', 'cmp_muted');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_muted';
SELECT osmtalk.requeue_lead('ld_muted');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_muted_2', 'ld_muted');
UPDATE osmtalk.campaigns SET webhook_events = NULL WHERE id = 'cmp_muted';
SELECT matches(pg_temp.summary('call_muted'), 'The lead "ld_muted" became completed\.', 'an outcome that nobody wanted to hear of then is known, whatever is wanted now');
SELECT pg_temp.placed('twice', 'cmp');
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_twice';
SET LOCAL session_replication_role = replica;
UPDATE osmtalk.events SET created_at = created_at - interval '1 min' WHERE call_id = 'call_twice';
SET LOCAL session_replication_role = origin;
SELECT osmtalk.requeue_lead('ld_twice');
SELECT results_eq($$ SELECT p.state, p.reason ~ 'the lead would become completed, and this would be sent' FROM osmtalk.preview_event('call_twice') p $$,
	$$ VALUES ('pending', NULL), ('not written', true) $$, 'a call may have two events');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_twice';
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_twice_2', 'ld_twice');
SELECT matches(pg_temp.summary('call_twice'), 'The lead "ld_twice" became completed\.', 'of two events of a call that at its end says what it made of the lead');

-- ---------------------------------------------------------------------------
-- Where it would go
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_url, webhook_retry_schedule) VALUES ('cmp_target', 'org', 'plain', 'Target', 'https://target.example/', '{1 h}');
SELECT pg_temp.placed('target', 'cmp_target');
SELECT osmtalk.disable_endpoint(osmtalk.endpoint_id('org', 'https://target.example/'));
SELECT pg_temp.is_previewed('call_target', 'campaign.lead_completed', 'not written', 'this would be sent\. It would wait: the endpoint is disabled\.$', 'a disabled endpoint');
SELECT is(osmtalk.is_refused_url(url), refused, url) FROM (VALUES
	('https://target.example/', false), ('https://8.8.8.8/', false), ('https://10.1.2.3/x', true), ('https://[::1]:8443/', true), ('https://[2001:4860:4860::8888]/', false),
	('https://[::ffff:10.0.0.1]/', true), ('ftp://target.example/', true), ('https://169.254.169.254/latest/', true)) t (url, refused);
UPDATE osmtalk.campaigns SET webhook_url = 'https://10.1.2.3/x' WHERE id = 'cmp_target';
SELECT pg_temp.is_previewed('call_target', 'campaign.lead_completed', 'not written', 'The worker refuses that URL: this target is not allowed\.$', 'one to which no worker posts');

-- ---------------------------------------------------------------------------
-- Calls as such
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_events) VALUES ('cmp_calls', 'org', 'plain', 'Calls', '{call.started,call.completed,call.failed}');
SELECT pg_temp.placed('calls', 'cmp_calls', NULL);
SELECT results_eq($$ SELECT p.type, p.state, p.body::jsonb -> 'call' ->> 'status' FROM osmtalk.preview_event('call_calls') p WHERE p.type LIKE 'call.%' $$,
	$$ VALUES ('call.completed', 'not written', 'no_answer') $$, 'what is said at its end of a call, where somebody wants to hear it');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_calls';
SELECT results_eq($$ SELECT p.type, p.state FROM osmtalk.preview_event('call_calls') p WHERE p.type LIKE 'call.%' $$, $$ VALUES ('call.completed', 'pending') $$, '... and when it is');

-- ---------------------------------------------------------------------------
-- Events that are there
-- ---------------------------------------------------------------------------
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_closed';
SELECT results_eq($$ SELECT p.event_id, p.state, p.reason, p.body, p.headers ->> 'X-OsmTalk-Event-Id' FROM osmtalk.preview_lead_event('ld_closed') p $$,
	$$ SELECT e.id, 'pending', NULL, e.body, e.id FROM osmtalk.events e WHERE e.lead_id = 'ld_closed' $$, 'a lead that was closed without a call');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_open';
SELECT pg_temp.is_previewed('call_open', 'campaign.lead_completed', 'pending', NULL, 'an event that is about to be sent');
SELECT results_eq($$ SELECT p.event_id, p.body FROM osmtalk.preview_event('call_open') p $$, $$ SELECT e.id, e.body FROM osmtalk.events e WHERE e.call_id = 'call_open' $$, 'as it is stored');
UPDATE osmtalk.outbox SET due_at = now() + interval '1 h' WHERE event_id = (SELECT id FROM osmtalk.events WHERE call_id = 'call_open');
SELECT pg_temp.is_previewed('call_open', 'campaign.lead_completed', 'pending', '^It waits for its time, \S+ \S+\.$', 'one that is tried again later');
SELECT osmtalk.pause();
SELECT pg_temp.is_previewed('call_open', 'campaign.lead_completed', 'pending', '^It waits for resume\(\): sending is paused\.$', 'in a paused database');
SELECT osmtalk.resume();
UPDATE osmtalk.outbox SET origin = '0/0' WHERE event_id = (SELECT id FROM osmtalk.events WHERE call_id = 'call_open');
SELECT pg_temp.is_previewed('call_open', 'campaign.lead_completed', 'pending', '^It waits for adopt\(\): it was enqueued in another database\.$', 'of another database');
DELETE FROM osmtalk.outbox WHERE event_id = (SELECT id FROM osmtalk.events WHERE call_id = 'call_open');
SELECT pg_temp.is_previewed('call_open', 'campaign.lead_completed', 'failed', '^Already tried as event "evt_\w+", and failed after 0 attempts: its outbox row was removed before it was sent\. It is sent again only by SELECT osmtalk\.redeliver\(''evt_\w+''\)\.$', 'one that was taken out');
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_waits';
SELECT results_eq($$ SELECT type, state, url FROM osmtalk.preview_event('call_waits') $$,
	$$ VALUES ('campaign.lead_completed', 'pending', 'https://org.example/hook?token=t0ken'), ('call.analysis_completed', 'pending', 'https://org.example/hook?token=t0ken') $$, 'both events of a call, the lead''s first');

-- ---------------------------------------------------------------------------
-- That cannot be sent
-- ---------------------------------------------------------------------------
SELECT pg_temp.is_previewed(pg_temp.placed('nowhere', 'cmp_none'), 'campaign.lead_completed', 'not written', '^Not final.* There is no webhook URL: neither the campaign nor the organisation has one\.$', 'without a URL');
SELECT pg_temp.is_previewed('call_nowhere', 'call.analysis_completed', 'not written', 'There is no webhook URL: the organisation has no default_webhook_url', '... the organisation''s event');
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{}' WHERE id = 'call_nowhere';
SELECT pg_temp.is_previewed('call_nowhere', 'campaign.lead_completed', 'skipped', '^Not enqueued when it came about: no webhook URL\. It is sent, if there is a URL, by SELECT osmtalk\.redeliver\(''evt_\w+''\)\. There is no webhook URL', 'an event without a URL');
SELECT ok((SELECT bool_and(headers ? 'User-Agent' AND url IS NULL AND curl IS NULL AND body IS NOT NULL) FROM osmtalk.preview_event('call_nowhere')), '... has body and headers, and no command');
UPDATE osmtalk.org_settings SET default_webhook_url = 'https://none.example/' WHERE org_id = 'none';
SELECT pg_temp.is_previewed('call_nowhere', 'campaign.lead_completed', 'skipped', 'by SELECT osmtalk\.redeliver\(''evt_\w+''\)\.$', '... until there is one');
SELECT ok((SELECT bool_and(NOT headers ? 'X-OsmTalk-Signature') FROM osmtalk.preview_event('call_nowhere')), 'without a secret there is no signature');
SELECT pg_temp.is_previewed(pg_temp.placed('wordy', 'cmp_wordy'), 'campaign.lead_completed', 'not written', 'It cannot be sent: the webhook secret is longer than 8192 bytes\.$', 'a secret that is too long');
SELECT ok((SELECT headers IS NULL AND curl IS NULL FROM osmtalk.preview_event('call_wordy')), '... is never shown unsigned');
INSERT INTO osmtalk.events (id, type, org_id, call_id, body) VALUES (E'evt\n1', 'webhook.test', 'org', 'call_alone', '{}');
SELECT pg_temp.is_previewed('call_alone', 'webhook.test', 'failed', 'It cannot be sent: the event''s id cannot be sent in a header\.$', 'an id that is no header');

-- ---------------------------------------------------------------------------
-- Who asks for what is not there; what is shown; what is written
-- ---------------------------------------------------------------------------
SELECT throws_ok($$ SELECT * FROM osmtalk.preview_event('none') $$, 'P0002', 'there is no call "none"', 'no such call');
SELECT throws_ok($$ SELECT * FROM osmtalk.preview_event(NULL) $$, 'P0002', NULL, 'nor null');
SELECT throws_ok($$ SELECT * FROM osmtalk.preview_lead_event('none') $$, 'P0002', 'there is no lead "none"', 'no such lead');
SELECT throws_ok($$ SELECT * FROM osmtalk.explain_outcome('none') $$, 'P0002', 'there is no call "none"', 'nor for an explanation');
SELECT is_empty($$ SELECT c.id FROM osmtalk.calls c, LATERAL osmtalk.preview_event(c.id) p WHERE p::text ~ 'whsec|ssss' $$, 'no secret is shown');
SELECT is_empty($$ SELECT c.id FROM osmtalk.calls c, LATERAL osmtalk.explain_outcome(c.id) x WHERE x::text ~ 'whsec|ssss|t0ken' $$, 'nor in an explanation');
SELECT is((SELECT provolatile FROM pg_proc WHERE oid = f::regprocedure), 's', f || ' does not write') FROM unnest('{osmtalk.preview_event(text),osmtalk.preview_lead_event(text),osmtalk.explain_outcome(text)}'::text[]) f;

-- ---------------------------------------------------------------------------
-- Words of others
-- ---------------------------------------------------------------------------
SELECT is(osmtalk.quoted(given), expected, 'quoted: ' || expected) FROM (VALUES
	('plain', '"plain"'), ('say "hi" \ there', '"say \"hi\" \\ there"'), (E'a\nb\tc', '"a\nb\tc"'), (E'\x1b[31mred', '"\u001b[31mred"'), (E'\u009b31m', '"?31m"'),
	(E'abc\u202edcba', '"abc?dcba"'), (E'zero\u200bwidth\ufeff', '"zero?width?"'), ('नमस्ते 😀', '"नमस्ते 😀"'), (repeat('x', 200), '"' || repeat('x', 200) || '"'), (repeat('x', 201), '"' || repeat('x', 200) || '..."')) t (given, expected);
SELECT is(osmtalk.quoted(NULL), NULL, 'quoted: null');
SELECT is(osmtalk.value_in_words(given), expected, 'in words: ' || expected) FROM (VALUES
	('"x"'::jsonb, '"x"'), ('true', 'true'), ('null', 'null'), ('1.50', '1.50'), ('1e131071', '1' || repeat('0', 39)), ('[1e131071]', 'an array'), ('{"a": 1}', 'an object'), (NULL, 'absent')) t (given, expected);
INSERT INTO osmtalk.calls (id, org_id, ended_at, error) VALUES ('call_"; rm', 'org', now(), E'\x1b]0;title\x07<script>');
SELECT is((SELECT explanation FROM osmtalk.explain_outcome('call_"; rm') WHERE decision = 'summary'),
	'Call "call_\"; rm" came out as failed, because the error "\u001b]0;title\u0007<script>" was recorded. It has no lead (it is of no campaign, or the lead was deleted), so it decides none.', 'in an explanation');

SELECT * FROM finish();
ROLLBACK;
