--
-- Which types of events are wanted, and the events of calls: when there is one,
-- what it says, and that an outcome is decided whether or not anybody hears.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
CREATE SCHEMA event_types;
SET search_path = event_types;

SELECT osmtalk.event_types(), osmtalk.default_event_types();

-- ---------------------------------------------------------------------------
-- The rules
-- ---------------------------------------------------------------------------
-- by whose word
SELECT w.campaign, w.organisation, string_agg(t, ' ' ORDER BY t COLLATE "C") FILTER (WHERE osmtalk.is_subscribed(t, w.campaign, w.organisation)) AS wanted
  FROM unnest(osmtalk.event_types()) t,
	   (VALUES (1, NULL::text[], NULL::text[]), (2, NULL, '{}'), (3, NULL, '{call.failed}'), (4, '{}', NULL), (5, '{}', '{call.failed}'),
			   (6, '{webhook.test,call.started}', '{call.failed}'), (7, '{webhook.test}', '{}')) w (n, campaign, organisation)
 GROUP BY w.n, w.campaign, w.organisation ORDER BY w.n;
SELECT osmtalk.is_subscribed('unknown', NULL, NULL), osmtalk.is_subscribed(NULL, NULL, NULL);

-- every change of a call's status, with a start known and not
SELECT before, status,
	   osmtalk.call_events(before, status, NULL, NULL) AS not_started,
	   osmtalk.call_events(before, status, now(), NULL) AS started,
	   osmtalk.call_events(before, status, 'infinity', now()) AS answered
  FROM (SELECT NULL::osmtalk.call_status UNION ALL SELECT unnest(enum_range(NULL::osmtalk.call_status))) b (before),
	   unnest(enum_range(NULL::osmtalk.call_status)) status
 WHERE before IS DISTINCT FROM status
 ORDER BY before NULLS FIRST, status;
SELECT osmtalk.has_started(a, b) FROM (VALUES (1, NULL::timestamptz, NULL::timestamptz), (2, 'infinity', '-infinity'), (3, 'now', NULL), (4, NULL, 'now'), (5, 'infinity', 'now')) t (n, a, b) ORDER BY n;

-- ---------------------------------------------------------------------------
-- What may be wanted
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('types', '{call.started,call.begun}');
INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('types', '{transfer.initiated}');
INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('types', '{NULL}');
INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('types', '{""}');
INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('types', ARRAY[repeat('x', 1000)]);
\set VERBOSITY sqlstate
INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('types', '{call.begun}');
\set VERBOSITY default
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_events) VALUES
	('types', 'https://types.invalid/', NULL), ('types_none', 'https://types.invalid/', '{}'), ('types_all', 'https://types.invalid/', osmtalk.event_types()),
	('types_nowhere', NULL, osmtalk.event_types()), ('types_twice', NULL, '{{call.failed,call.failed},{webhook.test,call.failed}}');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) SELECT 'agent_' || org_id, org_id, true FROM osmtalk.org_settings WHERE org_id LIKE 'types%';
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_events) VALUES ('cmp_types', 'types', 'T', '{call.begun}');
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_events) VALUES
	('cmp_types', 'types', 'T', NULL), ('cmp_types_failures', 'types', 'T', '{call.failed}'), ('cmp_none_leads', 'types_none', 'T', '{campaign.lead_completed}'), ('cmp_none', 'types_none', 'T', NULL),
	('cmp_all', 'types_all', 'T', NULL), ('cmp_all_none', 'types_all', 'T', '{}');
UPDATE osmtalk.campaigns SET webhook_events = '{lead}' WHERE id = 'cmp_types';

-- ---------------------------------------------------------------------------
-- When there is an event
-- ---------------------------------------------------------------------------
CREATE FUNCTION event_types.of(call text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(e.type || CASE WHEN e.skipped_reason IS NULL THEN '' ELSE ' (' || e.skipped_reason || ')' END, ', ' ORDER BY e.id COLLATE "C"), 'none')
	  FROM osmtalk.events e WHERE e.call_id = call
$$;
CREATE FUNCTION event_types.lead(campaign text) RETURNS text LANGUAGE sql AS $$
	INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES (campaign, '+919876543210') RETURNING id
$$;
-- Does with a new call what the statements say, each by itself; %L is its id.
CREATE FUNCTION event_types.after(org text, VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	call text := osmtalk.new_id('call');
	statement text;
	result text;
BEGIN
	FOREACH statement IN ARRAY statements LOOP
		EXECUTE format(statement, call, org);
		result := concat_ws('; ', result, event_types.of(call));
	END LOOP;
	RETURN result;
END
$$;
SELECT n, event_types.after('types_all', VARIADIC s) FROM (VALUES
	(1, ARRAY['INSERT INTO osmtalk.calls (id, org_id) VALUES (%1$L, %2$L)', 'UPDATE osmtalk.calls SET started_at = now() WHERE id = %1$L', 'UPDATE osmtalk.calls SET answered_at = now() WHERE id = %1$L',
			  'UPDATE osmtalk.calls SET ended_at = now() + interval ''1 min'' WHERE id = %1$L', 'UPDATE osmtalk.calls SET started_at = NULL, ended_at = NULL, error = ''late'' WHERE id = %1$L']),
	(2, ARRAY['INSERT INTO osmtalk.calls (id, org_id, answered_at) VALUES (%1$L, %2$L, now())', 'UPDATE osmtalk.calls SET ended_at = now(), error = ''x'' WHERE id = %1$L']),
	(3, ARRAY['INSERT INTO osmtalk.calls (id, org_id, started_at, ended_at, sip_status_code) VALUES (%1$L, %2$L, now(), now(), 486)']),
	(4, ARRAY['INSERT INTO osmtalk.calls (id, org_id, ended_at, sip_status_code) VALUES (%1$L, %2$L, now(), 503)']),
	(5, ARRAY['INSERT INTO osmtalk.calls (id, org_id) VALUES (%1$L, %2$L)', 'UPDATE osmtalk.calls SET answered_at = now(), ended_at = now(), voicemail_detected = true WHERE id = %1$L']),
	(6, ARRAY['INSERT INTO osmtalk.calls (id, org_id) VALUES (%1$L, %2$L)', 'UPDATE osmtalk.calls SET ended_at = now() WHERE id = %1$L', 'UPDATE osmtalk.calls SET started_at = now() WHERE id = %1$L']),
	-- a start that is taken back, and comes again, is another
	(7, ARRAY['INSERT INTO osmtalk.calls (id, org_id, started_at) VALUES (%1$L, %2$L, now())', 'UPDATE osmtalk.calls SET started_at = NULL WHERE id = %1$L', 'UPDATE osmtalk.calls SET started_at = now() WHERE id = %1$L']),
	(8, ARRAY['INSERT INTO osmtalk.calls (id, org_id, started_at) VALUES (%1$L, %2$L, ''infinity'')', 'UPDATE osmtalk.calls SET ended_at = ''infinity'' WHERE id = %1$L']),
	-- history is no news, what comes after it is
	(9, ARRAY['INSERT INTO osmtalk.calls (id, org_id, started_at, placed_at) VALUES (%1$L, %2$L, now(), now())', 'UPDATE osmtalk.calls SET status = ''in_progress'' WHERE id = %1$L', 'UPDATE osmtalk.calls SET ended_at = now() WHERE id = %1$L']),
	(10, ARRAY['INSERT INTO osmtalk.calls (id, org_id, direction, started_at) VALUES (%1$L, %2$L, ''inbound'', now())', 'INSERT INTO osmtalk.calls (id, org_id, started_at, ended_at) VALUES (%1$L, %2$L, now(), now()) ON CONFLICT DO NOTHING',
			   'INSERT INTO osmtalk.calls (id, org_id) VALUES (%1$L, %2$L) ON CONFLICT (id) DO UPDATE SET ended_at = now()']),
	-- with analysis: three
	(11, ARRAY['INSERT INTO osmtalk.calls (id, org_id, agent_id, direction, started_at, ended_at, analysis) VALUES (%1$L, %2$L, ''agent_types_all'', ''web'', now(), now(), ''{}'')'])) t (n, s) ORDER BY n;
-- a number of the DNC list is not called
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('types_all', '+911234567890');
SELECT event_types.after('types_all', 'INSERT INTO osmtalk.calls (id, org_id, phone_number, started_at) VALUES (%L, %L, ''+911234567890'', now())');
-- nowhere to send them to
SELECT event_types.after('types_nowhere', 'INSERT INTO osmtalk.calls (id, org_id, started_at, ended_at, error) VALUES (%L, %L, now(), now(), ''x'')');
-- nobody asks
SELECT event_types.after('types', 'INSERT INTO osmtalk.calls (id, org_id, started_at, ended_at, error) VALUES (%L, %L, now(), now(), ''x'')');

-- ---------------------------------------------------------------------------
-- Of leads: the campaign's word counts, else the organisation's, and each is decided
-- ---------------------------------------------------------------------------
CREATE FUNCTION event_types.of_lead(campaign text, facts text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	l osmtalk.leads;
	c osmtalk.calls;
BEGIN
	SELECT * INTO c FROM osmtalk.place_call(event_types.lead(campaign));
	EXECUTE format('UPDATE osmtalk.calls SET %s WHERE id = %L', facts, c.id);
	SELECT * INTO l FROM osmtalk.leads x WHERE x.id = c.lead_id;
	RETURN concat_ws(' ', l.status, l.disposition, 'decided', l.completed_at = now()) || ': ' || event_types.of(c.id);
END
$$;
SELECT c, event_types.of_lead(c, 'started_at = now(), ended_at = now(), error = ''x''') AS failed,
	   event_types.of_lead(c, 'answered_at = now(), ended_at = now() + interval ''1 min''') AS completed
  FROM unnest('{cmp_types,cmp_types_failures,cmp_none_leads,cmp_none,cmp_all,cmp_all_none}'::text[]) c;
-- an analysis of a campaign's call
UPDATE osmtalk.campaigns SET agent_id = 'agent_' || org_id WHERE id LIKE 'cmp_types%' OR id LIKE 'cmp_all%';
SELECT c, event_types.of_lead(c, 'answered_at = now(), ended_at = now() + interval ''1 min'', analysis = ''{"success": true}''')
  FROM unnest('{cmp_types,cmp_types_failures,cmp_all,cmp_all_none}'::text[]) c;

-- A lead that was decided here, with no event of that time, was not wanted then:
-- whatever is wanted now, and however often it was called.
SELECT l.campaign_id, count(*) AS decided,
	   count(*) FILTER (WHERE NOT EXISTS (SELECT FROM osmtalk.events e WHERE e.lead_id = l.id AND e.type = 'campaign.lead_completed' AND e.created_at = l.completed_at)) AS filtered
  FROM osmtalk.leads l JOIN osmtalk.campaigns c ON c.id = l.campaign_id
 WHERE c.org_id LIKE 'types%' AND osmtalk.is_terminal(l.status) GROUP BY 1 ORDER BY 1;

-- by hand, too
UPDATE osmtalk.leads SET status = 'pending' WHERE campaign_id = 'cmp_none';
UPDATE osmtalk.leads SET status = 'completed' WHERE campaign_id = 'cmp_none';
SELECT count(*) AS none FROM osmtalk.events WHERE campaign_id = 'cmp_none';
UPDATE osmtalk.org_settings SET webhook_events = NULL WHERE org_id = 'types_none';
UPDATE osmtalk.leads SET status = 'pending' WHERE campaign_id = 'cmp_none';
UPDATE osmtalk.leads SET status = 'completed' WHERE campaign_id = 'cmp_none';
SELECT count(*) AS two FROM osmtalk.events WHERE campaign_id = 'cmp_none';

-- ---------------------------------------------------------------------------
-- A test that is not wanted
-- ---------------------------------------------------------------------------
SELECT osmtalk.send_test_event('types_all') IS NULL AS no_test;
SELECT osmtalk.send_test_event('types_all', 'cmp_all_none') IS NULL AS no_test;
SELECT osmtalk.send_test_event('types', 'cmp_types_failures') IS NULL AS no_test;
SELECT osmtalk.send_test_event('types_twice') IS NULL AS no_test;
UPDATE osmtalk.org_settings SET webhook_events = '{call.started}' WHERE org_id = 'types_twice';
SELECT osmtalk.send_test_event('types_twice') IS NULL AS no_test;

-- ---------------------------------------------------------------------------
-- The session knows who asks, at once and after all is undone
-- ---------------------------------------------------------------------------
UPDATE osmtalk.org_settings SET webhook_events = NULL WHERE org_id LIKE 'types%';
UPDATE osmtalk.campaigns SET webhook_events = NULL WHERE org_id LIKE 'types%';
\set failed '\'INSERT INTO osmtalk.calls (id, org_id, started_at, ended_at, error) VALUES (%L, %L, now(), now(), \'\'x\'\')\''
SELECT event_types.after('types', :failed) AS nobody;
BEGIN;
UPDATE osmtalk.org_settings SET webhook_events = '{call.failed}' WHERE org_id = 'types';
SELECT event_types.after('types', :failed) AS in_the_transaction;
SAVEPOINT s;
UPDATE osmtalk.org_settings SET webhook_events = '{call.started}' WHERE org_id = 'types';
SELECT event_types.after('types', :failed) AS in_the_savepoint;
ROLLBACK TO s;
SELECT event_types.after('types', :failed) AS before_it;
ROLLBACK;
SELECT event_types.after('types', :failed) AS nobody;
DO $$ BEGIN UPDATE osmtalk.org_settings SET webhook_events = '{call.started}' WHERE org_id = 'types'; PERFORM set_config('event_types.of', event_types.after('types', 'INSERT INTO osmtalk.calls (id, org_id, started_at) VALUES (%L, %L, now())'), false); END $$;
SELECT current_setting('event_types.of') AS in_one_statement;
DELETE FROM osmtalk.calls WHERE org_id = 'types_twice';
UPDATE osmtalk.org_settings SET webhook_events = NULL WHERE org_id = 'types';
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_events) VALUES ('types_new', 'https://types.invalid/', '{call.failed}');
SELECT event_types.after('types_new', :failed) AS new_row, event_types.after('types', :failed) AS others;
BEGIN;
DELETE FROM osmtalk.calls WHERE org_id = 'types_new';
DELETE FROM osmtalk.org_settings WHERE org_id = 'types_new';
INSERT INTO osmtalk.org_settings (org_id) VALUES ('types_new');
SELECT event_types.after('types_new', :failed) AS deleted;
ROLLBACK;
SELECT event_types.after('types_new', :failed) AS back;

-- ---------------------------------------------------------------------------
-- What they say, whatever the session's settings
-- ---------------------------------------------------------------------------
UPDATE osmtalk.org_settings SET webhook_events = osmtalk.event_types() WHERE org_id = 'types_all';
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_types', 'cmp_all', '+919876543210');
BEGIN;
SET LOCAL timezone = 'Asia/Kolkata';
SET LOCAL datestyle = 'German';
SET LOCAL extra_float_digits = -10;
INSERT INTO osmtalk.calls (id, lead_id, agent_id, started_at, dynamic_variables, metadata) VALUES
	('call_types', 'ld_types', NULL, '2026-05-06 11:20:01.5Z', '{"name": "Jörg"}', '{"a": [1.10, null]}');
UPDATE osmtalk.calls SET answered_at = '2026-05-06 11:20:08.25Z', ended_at = '2026-05-06 11:23:40Z', transcript = E'a\n"b"', sip_status_code = 503, error = E'gateway \u2192 lost' WHERE id = 'call_types';
COMMIT;
SELECT regexp_replace(body, '"timestamp":"[^"]*Z"', '"timestamp":"…"') FROM osmtalk.events WHERE call_id = 'call_types' AND type LIKE 'call.%' ORDER BY id COLLATE "C";
SELECT bool_and(body::jsonb ->> 'timestamp' = osmtalk.iso_time(created_at)) AS time_of_event, bool_and(lead_id = 'ld_types' AND campaign_id = 'cmp_all' AND org_id = 'types_all') AS about
  FROM osmtalk.events WHERE call_id = 'call_types';
-- the bytes are kept within the limit: the error goes last
SELECT length(body) < 262144 AS fits, body::jsonb -> 'call' -> 'transcript' AS transcript, body::jsonb -> 'call' ->> 'error' AS error, body::jsonb -> 'truncated' AS truncated
  FROM (SELECT osmtalk.call_event_body(now(), 'call.failed', c, NULL) AS body FROM (SELECT (jsonb_populate_record(c, jsonb_build_object('transcript', repeat('x', 300000)))).*
		  FROM osmtalk.calls c WHERE c.id = 'call_types') c) b;
