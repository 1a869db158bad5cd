--
-- What was not delivered, and why: every decided call is either an event, whose
-- delivery is known, or says why there is none.  The worker does not see this
-- transaction.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(36);

CREATE ROLE osmtalk_test_monitor;
GRANT osmtalk_monitor TO osmtalk_test_monitor;
GRANT USAGE ON SCHEMA public TO PUBLIC;

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('org', 'https://org.example/hook?token=abc'), ('mute', NULL);
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('analyst', 'org', true);
INSERT INTO osmtalk.campaigns (id, org_id, name, max_attempts, retry_on) VALUES ('cmp', 'org', 'Retries', 2, '{no_answer}'), ('cmp_mute', 'mute', 'No URL', 1, '{}');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld' || i, CASE i WHEN 9 THEN 'cmp_mute' ELSE 'cmp' END, '+49301111111' || i FROM generate_series(1, 9) i;

CREATE FUNCTION pg_temp.call(call text, lead text, answered interval DEFAULT '1 min') RETURNS void LANGUAGE sql AS $$
	INSERT INTO osmtalk.calls (id, lead_id) VALUES (call, lead);
	UPDATE osmtalk.calls c SET answered_at = now() - answered, ended_at = now() WHERE c.id = call;
$$;
CREATE FUNCTION pg_temp.reason(call text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws('|', u.type, u.org_id, u.campaign_id, u.lead_id, CASE WHEN u.event_id IS NULL THEN 'none' ELSE 'event' END, u.reason), E'\n' ORDER BY u.type)
	  FROM osmtalk.unsent_events u WHERE u.call_id = call AND u.decided_at = now()
$$;

-- ---------------------------------------------------------------------------
-- Calls without an event
-- ---------------------------------------------------------------------------
SELECT pg_temp.call('call_first', 'ld1', NULL);
SELECT is(pg_temp.reason('call_first'), 'campaign.lead_completed|org|cmp|ld1|none|not final: the lead is called again', 'a retry is no final outcome');
SELECT pg_temp.call('call_second', 'ld1', NULL);
SELECT is(pg_temp.reason('call_second'), 'campaign.lead_completed|org|cmp|ld1|event|pending', 'the last attempt is one');
SELECT is(pg_temp.reason('call_first'), 'campaign.lead_completed|org|cmp|ld1|none|not final: the lead is called again', '... and what was said of the one before stands');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_running', 'ld2');
UPDATE osmtalk.leads SET status = 'busy' WHERE id = 'ld2';
SELECT is(pg_temp.reason('call_running'), 'campaign.lead_completed|org|cmp|ld2|event|pending', 'the application has closed the lead: an event');
UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id = 'call_running';
SELECT is(pg_temp.reason('call_running'), E'campaign.lead_completed|org|cmp|ld2|event|pending\ncampaign.lead_completed|org|cmp|ld2|none|not sent again: the lead had its outcome already', '... its call, which decides nothing more, has none');
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) SELECT 'org', '+49301111111' || i FROM unnest('{2,3}'::int[]) i;
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_dnc_closed', 'ld2'), ('call_dnc', 'ld3');
SELECT is(pg_temp.reason('call_dnc_closed'), 'campaign.lead_completed|org|cmp|ld2|none|not sent again: the lead had its outcome already', 'a number on the DNC list, of a lead that is closed: none');
SELECT is(pg_temp.reason('call_dnc'), 'campaign.lead_completed|org|cmp|ld3|event|pending', '... of one that is not: an event');
INSERT INTO osmtalk.calls (id, lead_id, agent_id) VALUES ('call_analysed', 'ld4', 'analyst');
UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id = 'call_analysed';
SELECT is(pg_temp.reason('call_analysed'), NULL, 'what waits for its analysis is not decided');
UPDATE osmtalk.calls SET analysis = '{}' WHERE id = 'call_analysed';
SELECT is(pg_temp.reason('call_analysed'), E'call.analysis_completed|org|cmp|ld4|event|pending\ncampaign.lead_completed|org|cmp|ld4|event|pending', '... then there are two events');
SELECT pg_temp.call('call_mute', 'ld9');
SELECT is(pg_temp.reason('call_mute'), 'campaign.lead_completed|mute|cmp_mute|ld9|event|no URL', 'no URL');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_old', 'ld5'), ('call_new', 'ld5');
UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id IN ('call_old', 'call_new');

SELECT is_empty($$
	SELECT c.id FROM osmtalk.calls c WHERE c.decided_at IS NOT NULL
	   AND NOT EXISTS (SELECT FROM osmtalk.events e WHERE e.call_id = c.id AND e.type = 'campaign.lead_completed')
	   AND NOT EXISTS (SELECT FROM osmtalk.outcomes_without_event o WHERE o.call_id = c.id) $$, 'every decided call is one or the other');
SELECT is((SELECT count(*) FROM osmtalk.outcomes_without_event), 3::bigint, 'and nothing is said of others');
SELECT is_empty('SELECT event_id FROM osmtalk.unsent_events WHERE event_id IS NOT NULL GROUP BY 1 HAVING count(*) <> 1', 'an event is listed once');

-- by a statement, where the table is not as the extension has made it
ALTER TABLE osmtalk.outcomes_without_event ADD COLUMN more int DEFAULT 7;
SELECT pg_temp.call('call_more', 'ld6', NULL);
SELECT results_eq('SELECT reason, more, decided_at = now() FROM osmtalk.outcomes_without_event WHERE call_id = ''call_more''', $$ VALUES ('not final: the lead is called again', 7, true) $$, 'a column of somebody else''s in the table gets its default');

-- ---------------------------------------------------------------------------
-- Events that were not delivered
-- ---------------------------------------------------------------------------
CREATE FUNCTION pg_temp.attempt(call text, status int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, http_status, error, slot)
	SELECT e.id, 1 + coalesce((SELECT max(a.attempt) FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id), 0), 'https://org.example/hook?token=abc', now(), status, CASE WHEN status >= 300 THEN 'HTTP ' || status END, e.slot
	  FROM osmtalk.events e WHERE e.call_id = call;
$$;
CREATE FUNCTION pg_temp.outbox(call text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT e.id FROM osmtalk.events e WHERE e.call_id = call $$;
SELECT pg_temp.attempt('call_second', 500);
UPDATE osmtalk.outbox SET due_at = now() + interval '5 min', retries = 1, endpoint_hash = osmtalk.waiting_queue() WHERE event_id IN (SELECT pg_temp.outbox('call_second'));
SELECT osmtalk.find_waiting();
SELECT is(pg_temp.reason('call_second'), 'campaign.lead_completed|org|cmp|ld1|event|waiting for a retry', 'a retry is due');
UPDATE osmtalk.outbox SET origin = 'elsewhere' WHERE event_id IN (SELECT pg_temp.outbox('call_second'));
SELECT is(pg_temp.reason('call_second'), 'campaign.lead_completed|org|cmp|ld1|event|not adopted', 'of another database');
DELETE FROM osmtalk.outbox WHERE event_id IN (SELECT pg_temp.outbox('call_second'));
SELECT is(pg_temp.reason('call_second'), 'campaign.lead_completed|org|cmp|ld1|event|failed', 'failed');
SELECT results_eq('SELECT last_error, attempts, last_attempt_at = now() FROM osmtalk.unsent_events WHERE call_id = ''call_second''', $$ VALUES ('HTTP 500', 1::bigint, true) $$, '... with its error');
SELECT osmtalk.redeliver(event_id) FROM osmtalk.unsent_events WHERE call_id = 'call_second';
SELECT is(pg_temp.reason('call_second'), 'campaign.lead_completed|org|cmp|ld1|event|pending', 'redelivered');
SELECT osmtalk.pause();
SELECT is(pg_temp.reason('call_second'), 'campaign.lead_completed|org|cmp|ld1|event|paused', 'paused');
SELECT osmtalk.resume();
DELETE FROM osmtalk.outbox WHERE event_id IN (SELECT pg_temp.outbox('call_second'));
SELECT pg_temp.attempt('call_second', 204);
SELECT is(pg_temp.reason('call_second'), NULL, 'what was delivered is not listed');
SELECT pg_temp.attempt('call_dnc', 404);
DELETE FROM osmtalk.outbox WHERE event_id IN (SELECT pg_temp.outbox('call_dnc'));
SELECT osmtalk.send_test_event('org');
SELECT is_empty('SELECT * FROM osmtalk.unsent_events WHERE type = ''webhook.test''', 'a test is no outcome');

-- ---------------------------------------------------------------------------
-- Dead letters
-- ---------------------------------------------------------------------------
SELECT results_eq('SELECT lead_id, type, reason, http_status, attempts, failed_at = now() FROM osmtalk.dead_letters', $$ VALUES ('ld3', 'campaign.lead_completed', 'HTTP 404', 404, 1::bigint, true) $$, 'what failed for good');
INSERT INTO osmtalk.events (id, type, org_id, body) VALUES (E'evt_o''x\\'' ); DROP', 'webhook.test', 'org', '{}');
CREATE FUNCTION pg_temp.run(command text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; END $$;
SELECT lives_ok(command, 'the command can be run as it is: ' || command) FROM osmtalk.dead_letters WHERE event_id LIKE 'evt_o%';
SELECT results_eq('SELECT event_id FROM osmtalk.outbox WHERE event_id LIKE ''evt_o%''', ARRAY[E'evt_o''x\\'' ); DROP'], '... and sends it again');
SET LOCAL ROLE osmtalk_test_monitor;
SELECT is((SELECT url FROM osmtalk.dead_letters), 'https://org.example/hook?...', 'monitoring sees no query string');
SELECT cmp_ok((SELECT count(*) FROM osmtalk.unsent_events), '>', 5::bigint, '... and what was not sent');
SELECT is((SELECT count(*) FROM osmtalk.redelivery_progress), 0::bigint, '... and redeliveries');
RESET ROLE;

-- ---------------------------------------------------------------------------
-- Of a time
-- ---------------------------------------------------------------------------
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	result text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		result := result || line || E'\n';
	END LOOP;
	RETURN result;
END
$$;
-- ---------------------------------------------------------------------------
-- What is not wanted, and what waits for its endpoint
-- ---------------------------------------------------------------------------
UPDATE osmtalk.campaigns SET webhook_events = '{webhook.test}' WHERE id = 'cmp';
SELECT pg_temp.call('call_filtered', 'ld8');
SELECT is(pg_temp.reason('call_filtered'), 'campaign.lead_completed|org|cmp|ld8|none|filtered: webhook_events does not have its type', 'an event that is not wanted');
UPDATE osmtalk.campaigns SET webhook_events = NULL WHERE id = 'cmp';
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_held', 'cmp', '+493022222222');
SELECT pg_temp.call('call_held', 'ld_held');
SELECT osmtalk.put_waiting(ARRAY[o.endpoint_hash], ARRAY[o.id], ARRAY[osmtalk.endpoint_id('org', 'https://org.example/hook?token=abc')])
  FROM osmtalk.outbox o JOIN osmtalk.events e ON e.id = o.event_id WHERE e.call_id = 'call_held';
UPDATE osmtalk.endpoints SET state = 'probing', next_probe_at = 'infinity' WHERE org_id = 'org';
SELECT is(pg_temp.reason('call_held'), 'campaign.lead_completed|org|cmp|ld_held|event|failing endpoint', 'an endpoint that fails');
SELECT osmtalk.disable_endpoint(id) FROM osmtalk.endpoints WHERE org_id = 'org';
SELECT is(pg_temp.reason('call_held'), 'campaign.lead_completed|org|cmp|ld_held|event|disabled endpoint', 'one that is disabled');

SET LOCAL enable_seqscan = off;
SELECT matches(pg_temp.plan('SELECT * FROM osmtalk.unsent_events WHERE decided_at > now() - interval ''1 hour'''), 'Bitmap Index Scan on events_00_created_at_idx\n *Index Cond: \(created_at > ', 'events of a time are found by it');
SELECT matches(pg_temp.plan('SELECT * FROM osmtalk.unsent_events WHERE decided_at > now() - interval ''1 hour'''), 'outcomes_without_event_pkey.*\n(.*\n)? *Index Cond: \(decided_at > ', '... and so are outcomes without one');
SELECT matches(pg_temp.plan('SELECT * FROM osmtalk.dead_letters WHERE created_at > now() - interval ''1 hour'''), 'Bitmap Index Scan on events_00_created_at_idx\n *Index Cond: \(created_at > ', '... and dead letters');
RESET enable_seqscan;
UPDATE osmtalk.outcomes_without_event SET decided_at = now() - interval '31 days' WHERE call_id = 'call_first';
SELECT is(osmtalk.forget_outcomes(), 1::bigint, 'after osmtalk.retention they go');
SELECT is(pg_temp.reason('call_running'), E'campaign.lead_completed|org|cmp|ld2|event|pending\ncampaign.lead_completed|org|cmp|ld2|none|not sent again: the lead had its outcome already', '... those alone');

SELECT * FROM finish();
ROLLBACK;
