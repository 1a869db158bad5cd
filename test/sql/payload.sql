--
-- The bytes of each event, whatever is in it and whatever the session's settings.
--
-- A body's own timestamp is shown as <created_at>, after a check that it is
-- just that; every other byte is shown as it is.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
\pset format unaligned
\pset tuples_only on

CREATE SCHEMA payload;

CREATE FUNCTION payload.marked(body text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN regexp_replace(body, '^([{]"event":"[a-z._]+","timestamp":")[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z"', '\1<created_at>"');
CREATE FUNCTION payload.of_call(call_id text) RETURNS SETOF text LANGUAGE sql STABLE BEGIN ATOMIC
	SELECT payload.marked(e.body) FROM osmtalk.events e WHERE e.call_id = of_call.call_id ORDER BY e.type COLLATE "C" DESC;
END;

-- ---------------------------------------------------------------------------
-- The document's example
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.org_settings (org_id) VALUES ('org_xxx');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment, enable_success_evaluation, post_call_analysis)
VALUES ('agent_xxx', 'org_xxx', true, true, '{"schema": [{"name": "budget_inr", "type": "number"}]}');
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name) VALUES ('cmp_xxx', 'org_xxx', 'agent_xxx', 'Q2 Renewals — Mumbai');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
VALUES ('ld_xxx', 'cmp_xxx', '+919876543210', '{"first_name": "Arjun", "company": "Acme", "policy_type": "Health"}');
INSERT INTO osmtalk.calls (id, lead_id, started_at, answered_at, transcript, dynamic_variables, metadata)
VALUES ('call_xxx', 'ld_xxx', '2026-05-06T11:20:00Z', '2026-05-06T11:20:07.25Z', 'Hello Arjun.', '{"first_name": "Arjun"}', '{"crm_id": 42}');
UPDATE osmtalk.calls SET ended_at = '2026-05-06T11:23:40.875Z',
	   analysis = '{"lead_qualified": true, "next_action": "book_demo", "budget_inr": 250000,
		"summary": "Caller interested in Pro tier. Confirmed demo Friday 3pm.", "sentiment": "positive", "success": true}'
 WHERE id = 'call_xxx';
SELECT * FROM payload.of_call('call_xxx');

-- the document's own text: same keys in the same order, same values
CREATE TABLE payload.document (body json);
INSERT INTO payload.document VALUES ('{
"event": "campaign.lead_completed",
"timestamp": "2026-05-06T11:23:45.123Z",
"campaign": {
"id": "cmp_xxx",
"name": "Q2 Renewals — Mumbai"
},
"lead": {
"id": "ld_xxx",
"phoneNumber": "+919876543210",
"variables": {
"first_name": "Arjun",
"company": "Acme",
"policy_type": "Health"
},
"status": "completed",
"disposition": "qualified",
"attempts": 1,
"callId": "call_xxx",
"outcome": {
"lead_qualified": true,
"next_action": "book_demo",
"budget_inr": 250000,
"summary": "Caller interested in Pro tier. Confirmed demo Friday 3pm.",
"sentiment": "positive",
"success": true
}
}
}');
SELECT path,
	   ARRAY(SELECT json_object_keys(d.body #> path)) = ARRAY(SELECT json_object_keys(e.body::json #> path)) AS same_keys_in_order
  FROM payload.document d, osmtalk.events e, (VALUES ('{}'::text[]), ('{campaign}'), ('{lead}')) p (path)
 WHERE e.call_id = 'call_xxx' AND e.type = 'campaign.lead_completed' ORDER BY path;
SELECT d.body::jsonb - 'timestamp' = e.body::jsonb - 'timestamp' AS same_values
  FROM payload.document d, osmtalk.events e WHERE e.call_id = 'call_xxx' AND e.type = 'campaign.lead_completed';
-- and those of the other event, as the contract lists them
SELECT path, string_agg(key, ' ' ORDER BY n) AS keys
  FROM osmtalk.events e, (VALUES ('{}'::text[]), ('{call}')) p (path),
	   json_object_keys(e.body::json #> path) WITH ORDINALITY k (key, n)
 WHERE e.call_id = 'call_xxx' AND e.type = 'call.analysis_completed' GROUP BY path ORDER BY path;
-- the timestamp is created_at, which is now(), in milliseconds
SELECT bool_and(body::json ->> 'timestamp' = to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) FROM osmtalk.events WHERE org_id = 'org_xxx';
BEGIN;
UPDATE osmtalk.leads SET status = 'pending' WHERE id = 'ld_xxx';
UPDATE osmtalk.leads SET status = 'completed' WHERE id = 'ld_xxx';
SELECT count(*) FROM osmtalk.events WHERE created_at = now() AND lead_id = 'ld_xxx'
   AND body::json ->> 'timestamp' = to_char(now(), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
ROLLBACK;

-- ---------------------------------------------------------------------------
-- Nothing is left out
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_bare', 'org_xxx', '');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_bare', 'cmp_bare', '+911234567');
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_bare';
SELECT payload.marked(body) FROM osmtalk.events WHERE lead_id = 'ld_bare';
INSERT INTO osmtalk.calls (id, agent_id, direction, dynamic_variables, metadata, analysis) VALUES ('call_bare', 'agent_xxx', 'web', NULL, NULL, '{}');
SELECT * FROM payload.of_call('call_bare');
-- empty objects and arrays, JSON nulls, scalars
INSERT INTO osmtalk.calls (id, agent_id, phone_number, transcript, dynamic_variables, metadata, analysis)
VALUES ('call_empty', 'agent_xxx', '', '', '{}', 'null', '[]'),
	   ('call_scalar', 'agent_xxx', ' ', ' ', '" "', 'false', '0'),
	   ('call_nested', 'agent_xxx', NULL, NULL, '[{}, [], [[]], {"": {}}]', '{"a": {"b": {"c": [1, {"d": null}]}}}', '[null, [null]]');
SELECT * FROM payload.of_call('call_empty');
SELECT * FROM payload.of_call('call_scalar');
SELECT * FROM payload.of_call('call_nested');
-- each status of a lead
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('org_xxx', '+919999999999');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_status' || i, 'cmp_bare', '+91123456' || i FROM generate_series(1, 5) i;
INSERT INTO osmtalk.calls (id, lead_id, phone_number, answered_at, ended_at, sip_status_code, voicemail_detected, error) VALUES
	('call_status1', 'ld_status1', NULL, '2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z', 200, true, NULL),
	('call_status2', 'ld_status2', NULL, NULL, '2026-05-06 11:01:00Z', 480, false, NULL),
	('call_status3', 'ld_status3', NULL, NULL, '2026-05-06 11:01:00Z', 486, false, NULL),
	('call_status4', 'ld_status4', NULL, NULL, '2026-05-06 11:01:00Z', 500, false, NULL),
	('call_status5', 'ld_status5', '0091 99999 99999', NULL, NULL, NULL, false, NULL);
SELECT o.b FROM generate_series(1, 5) i, payload.of_call('call_status' || i) o (b) ORDER BY i;

-- ---------------------------------------------------------------------------
-- Characters
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name)
VALUES ('cmp_"\/	é', 'org_xxx', 'agent_xxx', E'"quoted" \\back\\slash\\ /slash/ <b>&amp;</b> \'apostrophe\' {"not":"json"}');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
VALUES ('ld_नमस्ते', 'cmp_"\/	é', '+919876543210',
		'{"k: \"e, y\"": "v: \"a, l\" }", "back\\": "\\", "\\\"": "\\\\\" : ,", "sp  ace": "a  b : c , d", "नाम": "अर्जुन", "e": "é", "😀": "👍", "nl": "a\nb\r\n\tc\b\f", "ctl": "\u0001\u001f", "slash": "<\/script>"}');
INSERT INTO osmtalk.calls (id, lead_id, phone_number, answered_at, transcript, metadata)
VALUES ('call_' || chr(10), 'ld_नमस्ते', E'call "me" \\ \t\u0661', '2026-05-06 11:00:00Z',
		(SELECT string_agg(chr(i), '' ORDER BY i) FROM generate_series(1, 126) i) || U&'\+01F525 end', '{"a b": "c d"}');
UPDATE osmtalk.calls SET ended_at = '2026-05-06 11:02:03.456789Z', analysis = '{"summary": "काल : \"done\" 🔥"}' WHERE id = 'call_' || chr(10);
UPDATE osmtalk.calls SET analysis_error = 'x' WHERE id = 'call_' || chr(10);
SELECT * FROM payload.of_call('call_' || chr(10));
-- what goes in comes out
SELECT e.body::jsonb #>> '{call,transcript}' = c.transcript AS transcript, e.body::jsonb #> '{call,phoneNumber}' = to_jsonb(c.phone_number) AS phone_number,
	   e.body::jsonb #>> '{call,id}' = c.id AS id, e.body::jsonb #>> '{call,campaignId}' = l.campaign_id AS campaign_id
  FROM osmtalk.events e JOIN osmtalk.calls c ON c.id = e.call_id JOIN osmtalk.leads l ON l.id = c.lead_id
 WHERE e.call_id = 'call_' || chr(10) AND e.type = 'call.analysis_completed';
SELECT e.body::jsonb #> '{lead,variables}' = l.variables AS variables, e.body::jsonb #>> '{campaign,name}' = c.name AS name
  FROM osmtalk.events e JOIN osmtalk.leads l ON l.id = e.lead_id JOIN osmtalk.campaigns c ON c.id = l.campaign_id
 WHERE e.lead_id = 'ld_नमस्ते' AND e.type = 'campaign.lead_completed';

-- what an editor would not show: raw too, all of it
CREATE TABLE payload.invisible AS
SELECT n, chr(n) AS c FROM unnest(ARRAY[127, 128, 133, 159, 160, 173, 769, 8203, 8232, 8233, 8238, 65279, 65534, 65535, 917505, 1114109]) n;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
SELECT 'ld_invisible', 'cmp_bare', '+919876543210', jsonb_object_agg('k' || c, 'v' || c) FROM payload.invisible;
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_invisible';
SELECT i.n FROM payload.invisible i, osmtalk.events e WHERE e.lead_id = 'ld_invisible' AND strpos(e.body, '"k' || c || '":"v' || c || '"') = 0;
SELECT e.body::jsonb #> '{lead,variables}' = l.variables FROM osmtalk.events e JOIN osmtalk.leads l ON l.id = e.lead_id WHERE l.id = 'ld_invisible';

-- ---------------------------------------------------------------------------
-- Numbers: as jsonb has stored them
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.calls (id, agent_id, analysis)
VALUES ('call_numbers', 'agent_xxx', '[0, -0, 0.0, -0.00, 1.0, 1.50, 1e3, 1E-3, 1.5e+10, 9007199254740993, 123456789012345678901234567890.123456789012345678901234567890, -1e-30, 1e40]');
SELECT * FROM payload.of_call('call_numbers');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, attempts) VALUES ('ld_attempts', 'cmp_bare', '+911234567', 2147483647);
UPDATE osmtalk.leads SET status = 'busy' WHERE id = 'ld_attempts';
SELECT body::json #> '{lead,attempts}' FROM osmtalk.events WHERE lead_id = 'ld_attempts';

-- ---------------------------------------------------------------------------
-- Times and durations
-- ---------------------------------------------------------------------------
CREATE TABLE payload.times (n int, answered_at timestamptz, ended_at timestamptz);
INSERT INTO payload.times VALUES
	(1, '2026-05-06 11:00:00Z', '2026-05-06 11:00:42Z'),
	(2, '2026-05-06 11:00:00Z', '2026-05-06 11:00:42.5Z'),
	(3, '2026-05-06 11:00:00Z', '2026-05-06 11:00:42.120Z'),
	(4, '2026-05-06 11:00:00Z', '2026-05-06 11:00:42.1239999Z'),
	(5, '2026-05-06 11:00:00Z', '2026-05-06 11:00:42.999999Z'),
	(6, '2026-05-06 11:00:00Z', '2026-05-06 11:00:00.000999Z'),
	(7, '2026-05-06 11:00:00Z', '2026-05-06 11:00:00.001Z'),
	(8, '2026-05-06 11:00:00Z', '2026-05-06 11:00:00Z'),
	(9, '2026-05-06 11:00:00Z', '2026-05-06 10:59:59.999999Z'),
	(10, '2026-05-06 11:00:00Z', '1999-12-31 23:59:59.999999Z'),
	(11, '2026-05-06 11:00:00Z', '2026-05-06 12:46:40Z'),
	(12, '2026-05-06 11:00:00Z', 'infinity'),
	(13, '-infinity', '2026-05-06 11:00:00Z'),
	(14, NULL, '2026-05-06 11:00:00Z'),
	(15, '2026-05-06 11:00:00Z', NULL),
	(16, 'infinity', '-infinity'),
	(17, '0044-03-15 12:00:00.5Z BC', '0044-03-15 12:00:10Z BC'),
	(18, '0001-12-31 23:59:59.9Z BC', '0001-01-01 00:00:00Z'),
	(19, '9999-12-31 23:59:59.999999Z', '10000-01-01 00:00:00Z'),
	(20, '4714-11-24 00:00:00Z BC', '294276-12-31 23:59:59.999999Z'),
	(21, '294276-12-31 23:59:59.999999Z', '4714-11-24 00:00:00Z BC'),
	(22, '1969-12-31 23:59:59.9995Z', '1970-01-01 00:00:00.0005Z'),
	(23, '2016-12-31 23:59:60Z', '2017-01-01 00:00:01Z'),
	(24, '2026-03-29 01:59:59+01', '2026-03-29 03:00:00+02'),
	(25, '1970-01-01 00:00:00.000001Z', '245578-01-05 21:38:13.297964Z');
INSERT INTO osmtalk.calls (id, agent_id, started_at, answered_at, ended_at, analysis)
SELECT 'call_time' || n, 'agent_xxx', answered_at, answered_at, ended_at, 'true' FROM payload.times;
SELECT n, e.body::json #> '{call,startedAt}', e.body::json #> '{call,answeredAt}', e.body::json #> '{call,endedAt}', e.body::json #> '{call,durationSeconds}', e.body::json #> '{call,status}'
  FROM payload.times JOIN osmtalk.events e ON e.call_id = 'call_time' || n ORDER BY n;

-- ---------------------------------------------------------------------------
-- Any analysis: the call commits, its lead is decided, one event of each kind
-- ---------------------------------------------------------------------------
CREATE TABLE payload.analyses (n int GENERATED ALWAYS AS IDENTITY, analysis jsonb);
INSERT INTO payload.analyses (analysis) VALUES
	('{}'), ('[]'), ('""'), ('0'), ('-0'), ('1'), ('1e131071'), ('1e-16383'), ('true'), ('false'), ('"null"'), ('"qualified"'), ('[null]'), ('[[]]'), ('[{}]'),
	('{"": ""}'), ('{"lead_qualified": null}'), ('{"lead_qualified": "true"}'), ('{"lead_qualified": 1}'), ('{"lead_qualified": {}}'),
	('{"lead_qualified": []}'), ('{"lead_qualified": [true]}'), ('{"success": null}'), ('{"success": "false"}'), ('{"success": -1}'), ('{"success": {"success": true}}'),
	('{"success": false}'), ('{"success": true}'), ('{"lead_qualified": true}'), ('{"next_action": null}'), ('{"next_action": 1}'), ('{"next_action": {}}'),
	('{"next_action": []}'), ('{"next_action": ["callback_later"]}'), ('{"next_action": true}'), ('{"next_action": ""}'), ('{"next_action": "callback_later"}'),
	('{"next_action": "not_interested"}'), ('{"next_action": "CALLBACK_LATER"}'), ('{"success": true, "success": false}'), ('{"a": 1, "a": 2, "a": {"a": 3}}'),
	('{"event": "campaign.lead_completed", "lead": {"id": "ld_other"}}'), ('{"sentiment": "😡"}'), ('{"summary": "\u0001\u001f\\\"\/"}'), ('{"summary": "\ud83d\ude00"}');
INSERT INTO payload.analyses (analysis) VALUES
	('{"summary": "\ufffe\uffff\ufeff\u2028"}'), ('{"a": "b\", \"c\": \"d"}'), ('{"\"}}": "{{\""}'), ('{"\\": "\\\\"}'),
	((repeat('[', 6000) || repeat(']', 6000))::jsonb), ((repeat('{"a":', 6000) || '1' || repeat('}', 6000))::jsonb),
	((SELECT jsonb_object_agg('k' || i, i) FROM generate_series(1, 10000) i)), ((SELECT jsonb_agg(i) FROM generate_series(1, 100000) i)),
	(to_jsonb(repeat('x', 10000000))), (to_jsonb(repeat('"\', 1000000))), (to_jsonb(repeat(chr(1), 1000000))), (to_jsonb(repeat('😀', 1000000))),
	(jsonb_build_object(repeat('key ', 100000), repeat(' : , ', 100000))), (jsonb_build_object('n', repeat('9', 100000)::numeric)),
	('{"a": [1, 2, {"b": [true, false, null, "x", 1.5]}], "c": {"d": {"e": {"f": []}}}}'), ('"<!-- ]]> -->"'), ('"%s%n%d"'), ('"''; DROP TABLE calls; --"'), ('"$$ $1 :x"');
SELECT count(*) > 60 AS enough FROM payload.analyses;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_any' || n, 'cmp_xxx', '+919876543210' FROM payload.analyses;
INSERT INTO osmtalk.calls (id, lead_id, answered_at) SELECT 'call_any' || n, 'ld_any' || n, now() - interval '1 min' FROM payload.analyses;
UPDATE osmtalk.calls c SET ended_at = now(), analysis = a.analysis FROM payload.analyses a WHERE c.id = 'call_any' || a.n;
CREATE TABLE payload.any AS
SELECT a.n, a.analysis, l.status, l.disposition, l.outcome, e.type, e.body
  FROM payload.analyses a JOIN osmtalk.leads l ON l.id = 'ld_any' || a.n LEFT JOIN osmtalk.events e ON e.lead_id = l.id;
SELECT type, count(*) - (SELECT count(*) FROM payload.analyses) AS missing_or_surplus, count(DISTINCT n) = count(*) AS one_each FROM payload.any GROUP BY type ORDER BY type;
SELECT n, status, disposition FROM payload.any WHERE status <> 'completed' OR disposition <> osmtalk.disposition(analysis) OR outcome <> analysis;
SELECT n, type FROM payload.any
 WHERE body::jsonb #> CASE type WHEN 'campaign.lead_completed' THEN '{lead,outcome}'::text[] ELSE '{analysis}' END
	   <> CASE WHEN length(analysis::text) < 200000 THEN analysis ELSE 'null' END
	OR (body::json ->> 'truncated') IS DISTINCT FROM CASE WHEN length(analysis::text) > 200000 THEN 'true' END;
SELECT disposition, count(*) FROM payload.any WHERE type = 'campaign.lead_completed' GROUP BY 1 ORDER BY 1;
-- what jsonb itself refuses is the application's error, and no end of the call
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_refused', 'cmp_xxx', '+919876543210');
INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_refused', 'ld_refused', now() - interval '1 min');
\set VERBOSITY sqlstate
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"a": "\u0000"}' WHERE id = 'call_refused';
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"a": "\ud83d"}' WHERE id = 'call_refused';
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"a": NaN}' WHERE id = 'call_refused';
\set VERBOSITY default
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"a": "\\u0000"}' WHERE id = 'call_refused' RETURNING status;
SELECT e.body::json #>> '{lead,outcome}' FROM osmtalk.events e WHERE e.call_id = 'call_refused' AND e.type = 'campaign.lead_completed';

-- deeper than this session could read it
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_deep', 'cmp_xxx', '+919876543210');
INSERT INTO osmtalk.calls (id, lead_id, answered_at, analysis_error) VALUES ('call_deep', 'ld_deep', now() - interval '1 min', 'later');
SET max_stack_depth = '100kB';
UPDATE osmtalk.calls c SET ended_at = now(), analysis = a.analysis FROM payload.analyses a
 WHERE c.id = 'call_deep' AND length(a.analysis::text) = 12000 RETURNING c.status;
RESET max_stack_depth;
SELECT type, length(body) > 12000 AS whole FROM osmtalk.events WHERE call_id = 'call_deep' ORDER BY type COLLATE "C";

-- ---------------------------------------------------------------------------
-- Every body so far: valid JSON, no whitespace outside strings, no escaped non-ASCII
-- ---------------------------------------------------------------------------
SELECT count(*) > 100 AS many, count(body::json) = count(*) AS valid,
	   count(*) FILTER (WHERE length(body) < 100000 AND regexp_replace(body, '"([^"\\]|\\.)*"', '""', 'g') ~ '\s') AS with_whitespace,
	   count(*) FILTER (WHERE length(body) < 100000 AND body ~ '\\u(00[2-9a-f]|0[1-9a-f]|[1-9a-f])') AS with_needless_escapes,
	   count(*) FILTER (WHERE body ~ '^\s|\s$') AS padded
  FROM osmtalk.events WHERE org_id = 'org_xxx';

-- ---------------------------------------------------------------------------
-- webhook.test
-- ---------------------------------------------------------------------------
SELECT osmtalk.send_test_event('org_xxx') AS test1 \gset
SELECT osmtalk.send_test_event('org_xxx', 'cmp_xxx') AS test2 \gset
SELECT payload.marked(body) FROM osmtalk.events WHERE id = :'test1';
SELECT payload.marked(body) FROM osmtalk.events WHERE id = :'test2';

-- ---------------------------------------------------------------------------
-- The same bytes whatever the session's settings
-- ---------------------------------------------------------------------------
-- One call of which everything matters, ended again and again, each time in a
-- new session, and rolled back.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
VALUES ('ld_same', 'cmp_xxx', '+919876543210', '{"name": "José Ωμέγα 😀", "n": 1.50, "t": "\u0001 : , \\ \""}');
INSERT INTO osmtalk.calls (id, lead_id, phone_number, transcript, started_at, answered_at, metadata, dynamic_variables)
VALUES ('call_same', 'ld_same', 'ext. "७"', E'Grüße\n\\x41\\u0041 \'quoted\' 😀', '0044-03-15 12:00:00.123456Z BC', '2026-03-29 00:59:59.9995Z', '{"float": 0.1, "e": 1e-7}', '{"é": "ü"}');
CREATE FUNCTION payload.analysis() RETURNS jsonb LANGUAGE sql RETURN '{"summary": "Größe: “x” 🔥 \\ \"", "budget_inr": 250000.00, "success": true, "share": 0.30000000000000004}'::jsonb;
CREATE FUNCTION payload.digest() RETURNS text LANGUAGE sql
RETURN (SELECT encode(sha256(convert_to(string_agg(payload.marked(e.body), E'\n' ORDER BY e.type COLLATE "C"), 'UTF8')), 'hex')
		  FROM osmtalk.events e WHERE e.lead_id = 'ld_same');
\set finish 'BEGIN; UPDATE osmtalk.calls SET ended_at = ''2026-03-29 01:00:02.0005Z'', analysis = payload.analysis() WHERE id = ''call_same''; '
\set same 'SELECT pg_catalog.count(*), payload.digest() OPERATOR(pg_catalog.=) :''reference'' AS same FROM osmtalk.events e WHERE e.call_id OPERATOR(pg_catalog.=) ''call_same''; ROLLBACK;'
:finish
SELECT * FROM payload.of_call('call_same');
SELECT payload.digest() AS reference \gset
ROLLBACK;
\echo :reference
\c -
SET timezone = 'Asia/Kolkata';
:finish :same
\c -
SET timezone = 'America/St_Johns'; SET datestyle = 'German, DMY'; SET intervalstyle = 'sql_standard';
:finish :same
\c -
SET timezone = 'Antarctica/Troll'; SET datestyle = 'Postgres, MDY'; SET intervalstyle = 'iso_8601';
:finish :same
\c -
SET timezone = '-13:45'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'postgres_verbose';
:finish :same
\c -
SET extra_float_digits = -15; SET bytea_output = 'escape'; SET xmlbinary = 'hex';
:finish :same
\c -
SET extra_float_digits = 3; SET quote_all_identifiers = on; SET array_nulls = off; SET transform_null_equals = on;
:finish :same
\c -
SET escape_string_warning = off; SET standard_conforming_strings = off; SET backslash_quote = off;
:finish :same
\c -
-- the database has what this machine has
DO $$
DECLARE
	setting text;
	locale text;
BEGIN
	FOREACH setting IN ARRAY '{lc_messages,lc_monetary,lc_numeric,lc_time}'::text[] LOOP
		FOREACH locale IN ARRAY '{C,POSIX,C.UTF-8,de_DE.UTF-8,tr_TR.UTF-8}'::text[] LOOP
			BEGIN
				PERFORM set_config(setting, locale, false);
			EXCEPTION WHEN invalid_parameter_value THEN
				NULL;
			END;
		END LOOP;
	END LOOP;
END
$$;
:finish :same
\c -
SET client_encoding = 'LATIN1';
:finish :same
\c -
SET client_encoding = 'SJIS';
:finish :same
\c -
SET row_security = off; SET default_transaction_isolation = 'serializable'; SET synchronous_commit = off;
:finish :same
\c -
SET plan_cache_mode = 'force_generic_plan'; SET enable_seqscan = off; SET work_mem = '64kB'; SET jit_above_cost = 0;
:finish :same
\c -
SET plan_cache_mode = 'force_custom_plan'; SET enable_indexscan = off; SET enable_bitmapscan = off; SET from_collapse_limit = 1; SET jit = off;
:finish :same
\c -
LOAD 'plpgsql';
SET plpgsql.extra_errors = 'all'; SET plpgsql.variable_conflict = 'use_column';
:finish :same
\c -
SET plpgsql.variable_conflict = 'use_variable'; SET check_function_bodies = off; SET default_tablespace = ''; SET search_path = '';
:finish :same
\c -
SET search_path = osmtalk;
:finish :same
-- a schema that shadows what the rules are made of, first in the path
\c -
SET client_min_messages = warning;
CREATE SCHEMA payload_hostile;
SET search_path = payload_hostile, pg_catalog;
CREATE FUNCTION wrong(pg_catalog.text, pg_catalog.text) RETURNS pg_catalog.text LANGUAGE sql RETURN 'hostile';
CREATE FUNCTION wrong(jsonb, pg_catalog.text) RETURNS jsonb LANGUAGE sql RETURN '"hostile"'::jsonb;
CREATE FUNCTION never(pg_catalog.text, pg_catalog.text) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION never(jsonb, jsonb) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION never(osmtalk.lead_status, osmtalk.lead_status) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION never(osmtalk.call_status, osmtalk.call_status) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION never(xid8, xid8) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION never(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql RETURN false;
CREATE OPERATOR || (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = wrong);
CREATE OPERATOR -> (LEFTARG = jsonb, RIGHTARG = pg_catalog.text, FUNCTION = wrong);
CREATE OPERATOR = (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = never);
CREATE OPERATOR <> (LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = never);
CREATE OPERATOR = (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = never);
CREATE OPERATOR <> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = never);
CREATE OPERATOR = (LEFTARG = osmtalk.lead_status, RIGHTARG = osmtalk.lead_status, FUNCTION = never);
CREATE OPERATOR <> (LEFTARG = osmtalk.lead_status, RIGHTARG = osmtalk.lead_status, FUNCTION = never);
CREATE OPERATOR = (LEFTARG = osmtalk.call_status, RIGHTARG = osmtalk.call_status, FUNCTION = never);
CREATE OPERATOR <> (LEFTARG = osmtalk.call_status, RIGHTARG = osmtalk.call_status, FUNCTION = never);
CREATE OPERATOR = (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = never);
CREATE OPERATOR <> (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = never);
CREATE OPERATOR = (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = never);
CREATE OPERATOR > (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = never);
CREATE OPERATOR < (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = never);
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql RETURN '2000-01-01'::timestamptz;
CREATE FUNCTION pg_current_xact_id() RETURNS xid8 LANGUAGE sql RETURN '1'::xid8;
CREATE FUNCTION jsonb_typeof(jsonb) RETURNS pg_catalog.text LANGUAGE sql RETURN 'null';
CREATE FUNCTION isfinite(timestamptz) RETURNS boolean LANGUAGE sql RETURN false;
CREATE FUNCTION format(pg_catalog.text, VARIADIC "any") RETURNS pg_catalog.text LANGUAGE internal AS 'text_format';
CREATE FUNCTION trim_scale(numeric) RETURNS numeric LANGUAGE sql RETURN 666;
CREATE FUNCTION trunc(numeric, int) RETURNS numeric LANGUAGE sql RETURN 666;
CREATE TABLE calls (id pg_catalog.text);
CREATE TABLE leads (id pg_catalog.text);
CREATE DOMAIN text AS pg_catalog.int4 CHECK (value IS NULL);
BEGIN; UPDATE osmtalk.calls SET ended_at = '2026-03-29 01:00:02.0005Z', analysis = payload.analysis() WHERE id OPERATOR(pg_catalog.=) 'call_same';
:same
-- and a temporary one, which no path leaves out by itself
\c -
CREATE TEMPORARY TABLE calls (id text);
CREATE TEMPORARY TABLE leads (id text, status text);
CREATE DOMAIN pg_temp.jsonb AS pg_catalog.int4 CHECK (value IS NULL);
CREATE DOMAIN pg_temp.record AS pg_catalog.int4;
:finish :same
\c -
SET client_min_messages = warning;
DROP SCHEMA payload_hostile CASCADE;
DROP SCHEMA payload CASCADE;

-- ---------------------------------------------------------------------------
-- Sizes: the largest values are set to null until the body fits osmtalk.max_payload
-- ---------------------------------------------------------------------------
SHOW osmtalk.max_payload;
SET osmtalk.max_payload = '1MB';
CREATE SCHEMA sizes;
SET search_path = sizes, public;
INSERT INTO osmtalk.org_settings (org_id) VALUES ('payload_sizes');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent_sizes', 'payload_sizes', true);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name) VALUES ('cmp_sizes', 'payload_sizes', 'agent_sizes', 'sizes');
-- a body's size, whether it is truncated, and which of the values that give way are null
CREATE FUNCTION of_call(call_id text) RETURNS TABLE (type text, size int, truncated text, nulls text) LANGUAGE sql AS $$
	SELECT e.type, octet_length(e.body), substring(e.body, ',"truncated".*$'),
		   (SELECT string_agg(k.key, ' ' ORDER BY k.key COLLATE "C")
			  FROM jsonb_each(coalesce(b -> 'call', b -> 'lead') || coalesce(b -> 'campaign', '{}') || (b - 'call' - 'lead' - 'campaign')) k
			 WHERE k.value = 'null' AND k.key NOT IN ('startedAt', 'disposition'))
	  FROM osmtalk.events e, LATERAL (SELECT e.body::jsonb) b (b)
	 WHERE e.call_id = of_call.call_id ORDER BY e.type COLLATE "C"
$$;
-- a call with an analysis, and its lead, with so many kilobytes of transcript, dynamicVariables, metadata, analysis, variables, phoneNumber
CREATE FUNCTION sizes(name text, t int, d int, m int, a int, v int DEFAULT 0, phone int DEFAULT 0)
RETURNS TABLE (type text, size int, truncated text, nulls text) LANGUAGE sql BEGIN ATOMIC
	INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
	VALUES ('ld_' || name, 'cmp_sizes', '+919876543210', jsonb_build_object('v', repeat('v', v * 1024)));
	INSERT INTO osmtalk.calls (id, lead_id, answered_at, phone_number, transcript, dynamic_variables, metadata)
	VALUES ('call_' || name, 'ld_' || name, '2026-05-06 11:00:00Z', repeat('1', phone * 1024), repeat('t', t * 1024),
			jsonb_build_object('d', repeat('d', d * 1024)), jsonb_build_object('m', repeat('m', m * 1024)));
	UPDATE osmtalk.calls SET ended_at = '2026-05-06 11:01:00Z', analysis = jsonb_build_object('a', repeat('a', a * 1024)) WHERE id = 'call_' || name;
	SELECT * FROM of_call('call_' || name) o;
END;
SELECT * FROM sizes('none', 60, 60, 60, 60);
SELECT * FROM sizes('transcript', 100, 60, 60, 60);
SELECT * FROM sizes('variables', 60, 100, 60, 60, 254);
SELECT * FROM sizes('metadata', 60, 60, 100, 60);
SELECT * FROM sizes('analysis', 60, 60, 60, 255);
-- several, in the order of their sizes: the larger of two that are both too large goes first, and then the other may stay
SELECT * FROM sizes('two', 200, 150, 60, 60);
SELECT * FROM sizes('three', 140, 150, 160, 130, 150);
SELECT * FROM sizes('all', 300, 300, 300, 300, 300);
-- of equals the first in the body
SELECT * FROM sizes('equal', 0, 100, 100, 100);
-- if that is not enough, other strings
SELECT * FROM sizes('phone', 10, 10, 10, 10, 0, 300);
-- the lead and the call keep what they have
SELECT octet_length(l.outcome ->> 'a') AS outcome, octet_length(l.variables ->> 'v') AS variables, octet_length(c.transcript) AS transcript, octet_length(c.analysis ->> 'a') AS analysis
  FROM osmtalk.leads l JOIN osmtalk.calls c ON c.lead_id = l.id WHERE l.id = 'ld_all';
-- to the byte: what is just as large as allowed is sent whole
CREATE FUNCTION exact(n int, len int) RETURNS TABLE (type text, size int, truncated text, nulls text) LANGUAGE sql BEGIN ATOMIC
	INSERT INTO osmtalk.calls (id, agent_id, transcript) VALUES ('exact' || n, 'agent_sizes', repeat('"', len / 2) || repeat('x', len % 2));
	UPDATE osmtalk.calls SET analysis = '{}' WHERE id = 'exact' || n;
	SELECT * FROM of_call('exact' || n) o;
END;
SELECT size AS empty FROM exact(100, 0) \gset
SELECT * FROM exact(101, 262144 - :empty);
SELECT * FROM exact(102, 262145 - :empty);
-- with the mark, which needs room itself: what is left when the transcript has gone fits, or is a byte too long
INSERT INTO osmtalk.calls (id, agent_id, transcript, metadata)
SELECT 'mark' || n, 'agent_sizes', repeat('x', 400000), to_jsonb(repeat('x', 262144 - :empty + 3 - 2 - 17 + n)) FROM generate_series(0, 1) n;
UPDATE osmtalk.calls SET analysis = '{}' WHERE id IN ('mark0', 'mark1');
SELECT n, o.* FROM generate_series(0, 1) n, of_call('mark' || n) o;
-- names and ids
INSERT INTO osmtalk.org_settings (org_id) SELECT repeat('o', 150000);
INSERT INTO osmtalk.campaigns (id, org_id, name) SELECT 'cmp_long', repeat('o', 150000), repeat('n', 300000);
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT repeat('l', 150000), 'cmp_long', '+919876543210';
INSERT INTO osmtalk.calls (id, lead_id, ended_at) SELECT repeat('c', 150000), repeat('l', 150000), now();
SELECT o.* FROM of_call(repeat('c', 150000)) o;
SELECT osmtalk.send_test_event(repeat('o', 150000), 'cmp_long') AS test3, osmtalk.send_test_event(repeat('o', 150000)) AS test4 \gset
SELECT length(body), right(body, 140) FROM osmtalk.events WHERE id IN (:'test3', :'test4') ORDER BY 1;
INSERT INTO osmtalk.org_settings (org_id) SELECT repeat(chr(1), 150000);
SELECT osmtalk.send_test_event(repeat(chr(1), 150000)) AS test5 \gset
SELECT length(body), substring(body, '"organization".*$') FROM osmtalk.events WHERE id = :'test5';
-- numbers: nine kilobytes that would be 131 megabytes; strings: whatever their escapes make of them
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables) VALUES ('ld_amplified', 'cmp_sizes', '+919876543210', ('{"n": ' || repeat('9', 131072) || '}')::jsonb);
INSERT INTO osmtalk.calls (id, lead_id, transcript, metadata) VALUES ('amplified', 'ld_amplified', repeat(chr(1), 200000000), to_jsonb(repeat(chr(1), 60000)));
UPDATE osmtalk.calls SET answered_at = '2026-05-06 11:00:00Z', ended_at = '2026-05-06 11:01:00Z',
	   analysis = ('{"success": true, "n": [' || repeat('1e131071,', 9000) || '1]}')::jsonb WHERE id = 'amplified';
SELECT o.*, l.status, l.disposition FROM of_call('amplified') o, osmtalk.leads l WHERE l.id = 'ld_amplified';
-- a larger limit, and the smallest: seen by sessions at the reload
\set VERBOSITY sqlstate
ALTER SYSTEM SET osmtalk.max_payload = '1000';
ALTER SYSTEM SET osmtalk.max_payload = '65537kB';
\set VERBOSITY default
SET client_min_messages = warning;
DROP SCHEMA sizes CASCADE;
