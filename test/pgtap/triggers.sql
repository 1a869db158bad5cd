--
-- Which updates touch what: a call is written to many times while it runs, and
-- only what the rules depend on may cost anything.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(39);

INSERT INTO osmtalk.org_settings (org_id) VALUES ('org');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent', 'org', true);
INSERT INTO osmtalk.campaigns (id, org_id, name, agent_id) VALUES ('cmp', 'org', 'Campaign', 'agent');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld' || i, 'cmp', '+919876543210' FROM generate_series(1, 3) i;
INSERT INTO osmtalk.calls (id, lead_id, answered_at) SELECT 'call' || i, 'ld' || i, now() - interval '1 min' FROM generate_series(1, 3) i;

-- The tables that a command's triggers write to: besides the one that it names,
-- or to that one once more.
CREATE FUNCTION pg_temp.written() RETURNS TABLE (name text, n bigint) LANGUAGE sql AS $$
	SELECT regexp_replace(relname::text, '_([0-9]{2}|kept)$', ''), sum(n_tup_ins + n_tup_upd)::bigint FROM pg_stat_xact_user_tables WHERE schemaname = 'osmtalk' GROUP BY 1
$$;
CREATE FUNCTION pg_temp.touched(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before jsonb := (SELECT jsonb_object_agg(name, n) FROM pg_temp.written());
	rows bigint;
BEGIN
	EXECUTE command;
	GET DIAGNOSTICS rows = ROW_COUNT;
	RETURN (SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") FROM pg_temp.written()
			 WHERE n > (before -> name)::bigint + CASE WHEN command LIKE '% osmtalk.' || name || ' %' THEN rows ELSE 0 END);
END
$$;

-- ---------------------------------------------------------------------------
-- calls
-- ---------------------------------------------------------------------------
SELECT is(pg_temp.touched(format('UPDATE osmtalk.calls SET %s', change)), NULL, 'nothing: ' || change) FROM unnest(ARRAY[
	'transcript = coalesce(transcript, '''') || ''Hello. ''', 'metadata = ''{"a": 1}''', 'dynamic_variables = ''{"a": 1}''', 'direction = ''inbound''', 'phone_number = ''+911234567''',
	'ended_at = ended_at, started_at = started_at, answered_at = answered_at', 'error = error, analysis = analysis, analysis_error = analysis_error',
	'sip_status_code = sip_status_code, voicemail_detected = voicemail_detected', 'status = status, placed_at = placed_at, decided_at = decided_at, analyzed_at = analyzed_at',
	'org_id = org_id, agent_id = agent_id, lead_id = lead_id', 'id = id']) change;
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET started_at = now() WHERE id = ''call1'''), NULL, 'a fact: the row''s own rules');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET sip_status_code = 200, metadata = ''{}'' WHERE id = ''call1'''), NULL, 'among other columns too');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET ended_at = now() WHERE id = ''call1'''), NULL, 'an end that waits for the analysis');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET analysis = ''null'' WHERE id = ''call1'''), NULL, 'JSON null, no analysis');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET analysis = ''{}'' WHERE id = ''call1'''), 'events leads', 'the analysis decides');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET analysis = ''{"a": 1}'' WHERE id = ''call1'''), 'leads', 'later analysis corrects');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET sip_status_code = 486, error = ''x'' WHERE id = ''call1'''), NULL, 'later facts change nothing else');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET ended_at = now(), error = ''x'' WHERE id = ''call2'''), 'events leads', 'an end that decides');
SELECT is(pg_temp.touched('UPDATE osmtalk.calls SET agent_id = NULL WHERE id = ''call3'''), NULL, 'no agent any more');
SELECT is(pg_temp.touched('INSERT INTO osmtalk.calls (id, lead_id) VALUES (''call4'', ''ld3'')'), 'leads', 'a call of a lead');
SELECT is(pg_temp.touched('INSERT INTO osmtalk.calls (id, org_id) VALUES (''call5'', ''org'')'), NULL, 'a call outside campaigns');
SELECT is(pg_temp.touched('INSERT INTO osmtalk.calls (id, agent_id, analysis) VALUES (''call6'', ''agent'', ''{}'')'), 'events', 'one with an analysis');
SELECT is(pg_temp.touched('INSERT INTO osmtalk.calls (id, org_id, lead_id, placed_at, analysis, analyzed_at) VALUES (''call7'', ''org'', ''ld3'', now(), ''{}'', now())'), NULL, 'history');
SELECT is(pg_temp.touched('INSERT INTO osmtalk.calls (id, lead_id) VALUES (''call4'', ''ld3'') ON CONFLICT DO NOTHING'), NULL, 'a conflict: nothing after the row');
SELECT is(pg_temp.touched('DELETE FROM osmtalk.calls WHERE id = ''call7'''), NULL, 'deleting a call');

-- ---------------------------------------------------------------------------
-- leads
-- ---------------------------------------------------------------------------
SELECT is(pg_temp.touched(format('UPDATE osmtalk.leads SET %s', change)), NULL, 'nothing: ' || change) FROM unnest(ARRAY[
	'variables = ''{"a": 1}''', 'attempts = attempts + 1', 'next_attempt_at = now()', 'outcome = NULL', 'disposition = disposition', 'status = status', 'campaign_id = campaign_id']) change;
SELECT is(pg_temp.touched('UPDATE osmtalk.leads SET phone_number = ''00911234567'' WHERE id = ''ld3'''), NULL, 'a number');
SELECT is(pg_temp.touched('UPDATE osmtalk.leads SET status = ''pending'' WHERE id = ''ld3'''), NULL, 'a status that is not terminal');
SELECT is(pg_temp.touched('UPDATE osmtalk.leads SET status = ''failed'' WHERE id = ''ld3'''), 'events', 'one that is');
SELECT is(pg_temp.touched('UPDATE osmtalk.leads SET status = ''busy'' WHERE id = ''ld3'''), NULL, 'from one to another');

-- ---------------------------------------------------------------------------
-- Each trigger is on, for sessions and not for replicas; but for what tells
-- sessions of a change, whoever makes it
-- ---------------------------------------------------------------------------
SELECT is_empty($$ SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'osmtalk'::regnamespace AND NOT tgisinternal AND tgenabled <> CASE tgname WHEN 'subscriptions_changed' THEN 'A' ELSE 'O' END $$, 'all are enabled');

-- exact, however long
SELECT is(osmtalk.duration_seconds('2026-11-30 06:32:00.554646+00', '188225-08-28 22:34:57.887608+00'), 5875864819377.332, 'a duration is cut off after milliseconds, and not rounded');
SELECT * FROM finish();
ROLLBACK;
