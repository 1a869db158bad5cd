--
-- Which updates fire what: a call is written to many times while it runs, and
-- only what the rules depend on may cost anything.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(38);

INSERT INTO osmtalk.org_settings (org_id) VALUES ('org');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent', 'org', true);
INSERT INTO osmtalk.campaigns (id, org_id, name, agent_id) VALUES ('cmp', 'org', 'Campaign', 'agent');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld' || i, 'cmp', '+919876543210' FROM generate_series(1, 3) i;
INSERT INTO osmtalk.calls (id, lead_id, answered_at) SELECT 'call' || i, 'ld' || i, now() - interval '1 min' FROM generate_series(1, 3) i;

-- The triggers that fired for a command, as EXPLAIN ANALYZE counts them.
CREATE FUNCTION pg_temp.fired(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF, FORMAT JSON) ' || command INTO plan;
	RETURN (SELECT string_agg(t ->> 'Trigger Name', ' ' ORDER BY t ->> 'Trigger Name' COLLATE "C")
			  FROM json_array_elements(plan -> 0 -> 'Triggers') t
			 WHERE t ->> 'Trigger Name' NOT LIKE 'RI_ConstraintTrigger%' AND (t ->> 'Calls')::numeric > 0);
END
$$;

-- ---------------------------------------------------------------------------
-- calls
-- ---------------------------------------------------------------------------
SELECT is(pg_temp.fired(format('UPDATE osmtalk.calls SET %s', change)), NULL, 'nothing: ' || change) FROM unnest(ARRAY[
	'transcript = coalesce(transcript, '''') || ''Hello. ''', 'metadata = ''{"a": 1}''', 'dynamic_variables = ''{"a": 1}''', 'direction = ''inbound''', 'phone_number = ''+911234567''',
	'ended_at = ended_at, started_at = started_at, answered_at = answered_at', 'error = error, analysis = analysis, analysis_error = analysis_error',
	'sip_status_code = sip_status_code, voicemail_detected = voicemail_detected', 'status = status, placed_at = placed_at, decided_at = decided_at, analyzed_at = analyzed_at',
	'org_id = org_id, agent_id = agent_id, lead_id = lead_id', 'id = id']) change;
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET started_at = now() WHERE id = ''call1'''), 'before_update', 'a fact: the row''s own rules');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET sip_status_code = 200, metadata = ''{}'' WHERE id = ''call1'''), 'before_update', 'among other columns too');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET ended_at = now() WHERE id = ''call1'''), 'before_update', 'an end that waits for the analysis');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET analysis = ''null'' WHERE id = ''call1'''), 'before_update', 'JSON null, no analysis');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET analysis = ''{}'' WHERE id = ''call1'''), 'after_update before_update', 'the analysis decides');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET analysis = ''{"a": 1}'' WHERE id = ''call1'''), 'after_update before_update', 'later analysis corrects');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET sip_status_code = 486, error = ''x'' WHERE id = ''call1'''), 'before_update', 'later facts change nothing else');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET ended_at = now(), error = ''x'' WHERE id = ''call2'''), 'after_update before_update', 'an end that decides');
SELECT is(pg_temp.fired('UPDATE osmtalk.calls SET agent_id = NULL WHERE id = ''call3'''), 'before_reference', 'another agent');
SELECT is(pg_temp.fired('INSERT INTO osmtalk.calls (id, lead_id) VALUES (''call4'', ''ld3'')'), 'after_insert before_insert', 'a call of a lead');
SELECT is(pg_temp.fired('INSERT INTO osmtalk.calls (id, org_id) VALUES (''call5'', ''org'')'), 'before_insert', 'a call outside campaigns');
SELECT is(pg_temp.fired('INSERT INTO osmtalk.calls (id, agent_id, analysis) VALUES (''call6'', ''agent'', ''{}'')'), 'after_insert before_insert', 'one with an analysis');
SELECT is(pg_temp.fired('INSERT INTO osmtalk.calls (id, org_id, lead_id, placed_at, analysis, analyzed_at) VALUES (''call7'', ''org'', ''ld3'', now(), ''{}'', now())'), 'before_insert', 'history');
SELECT is(pg_temp.fired('INSERT INTO osmtalk.calls (id, lead_id) VALUES (''call4'', ''ld3'') ON CONFLICT DO NOTHING'), 'before_insert', 'a conflict: nothing after the row');
SELECT is(pg_temp.fired('DELETE FROM osmtalk.calls WHERE id = ''call7'''), NULL, 'deleting a call');

-- ---------------------------------------------------------------------------
-- leads
-- ---------------------------------------------------------------------------
SELECT is(pg_temp.fired(format('UPDATE osmtalk.leads SET %s', change)), NULL, 'nothing: ' || change) FROM unnest(ARRAY[
	'variables = ''{"a": 1}''', 'attempts = attempts + 1', 'next_attempt_at = now()', 'outcome = NULL', 'disposition = disposition', 'status = status', 'campaign_id = campaign_id']) change;
SELECT is(pg_temp.fired('UPDATE osmtalk.leads SET phone_number = ''00911234567'' WHERE id = ''ld3'''), 'normalize_phone', 'a number');
SELECT is(pg_temp.fired('UPDATE osmtalk.leads SET status = ''pending'' WHERE id = ''ld3'''), 'before_status', 'a status that is not terminal');
SELECT is(pg_temp.fired('UPDATE osmtalk.leads SET status = ''failed'' WHERE id = ''ld3'''), 'after_transition before_status', 'one that is');
SELECT is(pg_temp.fired('UPDATE osmtalk.leads SET status = ''busy'' WHERE id = ''ld3'''), 'before_status', 'from one to another');

-- ---------------------------------------------------------------------------
-- Each trigger is on, for sessions and not for replicas
-- ---------------------------------------------------------------------------
SELECT is_empty($$ SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'osmtalk'::regnamespace AND NOT tgisinternal AND tgenabled <> 'O' $$, 'all are enabled');

SELECT * FROM finish();
ROLLBACK;
