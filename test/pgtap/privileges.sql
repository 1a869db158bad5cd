--
-- Who may do what.  Nobody has anything until it is granted; a role with UPDATE
-- on the fact columns of calls finalises calls, and triggers do the rest with
-- the owner's rights.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(96);

CREATE ROLE osmtalk_test_nobody;
CREATE ROLE osmtalk_test_app;			-- records facts, and no more
CREATE ROLE osmtalk_test_dialer;		-- dials: EXECUTE and no rights on tables
CREATE ROLE osmtalk_test_dashboard;		-- reads views, and no more
CREATE ROLE osmtalk_test_manager;		-- keeps campaigns and leads
GRANT USAGE ON SCHEMA public TO PUBLIC;

CREATE FUNCTION pg_temp.acts_as(who name, command text, code text, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	got text := '00000';
BEGIN
	-- 00000: it works.  Either way nothing of it stays.
	BEGIN
		EXECUTE format('SET LOCAL ROLE %I', who);
		EXECUTE command;
		RAISE EXCEPTION USING ERRCODE = 'P0999';
	EXCEPTION WHEN OTHERS THEN
		got := CASE SQLSTATE WHEN 'P0999' THEN '00000' ELSE SQLSTATE END;
		what := CASE WHEN got IN ('00000', code) THEN what ELSE what || ' [' || SQLERRM || ']' END;
	END;
	RETURN public.is(got, code, what);
END
$$;

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES ('org', 'https://org.example/token', 'org-secret'), ('org2', NULL, NULL);
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent', 'org', true), ('agent2', 'org2', false);
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES ('cmp', 'org', 'Campaign', 'campaign-secret'), ('cmp2', 'org2', 'Other', NULL);
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld' || i, 'cmp', '+919876543210' FROM generate_series(1, 9) i;
INSERT INTO osmtalk.calls (id, lead_id, agent_id, answered_at) SELECT 'call' || i, 'ld' || i, 'agent', now() - interval '1 min' FROM generate_series(1, 5) i;

-- ---------------------------------------------------------------------------
-- Nobody
-- ---------------------------------------------------------------------------
SELECT is_empty($$
	SELECT c.oid::regclass, g.grantee, g.privilege_type FROM pg_class c, aclexplode(c.relacl) g
	 WHERE c.relnamespace = 'osmtalk'::regnamespace AND g.grantee <> c.relowner $$, 'no rights on tables, views and sequences are granted');
SELECT is_empty($$
	SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	 WHERE c.relnamespace = 'osmtalk'::regnamespace AND a.attacl IS NOT NULL $$, 'nor on columns');
SELECT ok(NOT has_schema_privilege('osmtalk_test_nobody', 'osmtalk', 'USAGE') AND NOT has_schema_privilege('osmtalk_test_nobody', 'osmtalk', 'CREATE'), 'nor on the schema');
SELECT results_eq($$
	SELECT p.proname::text COLLATE "default" FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY p.proname $$,
	ARRAY['analysis_configured', 'call_outcome', 'call_status', 'check_same_org', 'check_webhook_url', 'current_origin', 'current_slot', 'disposition', 'disposition_by', 'endpoint_hash', 'first_set', 'has_analysis',
		  'is_open', 'is_retried', 'is_terminal', 'is_webhook_url', 'iso_time', 'lead_disposition', 'lead_outcome', 'microseconds_between', 'new_id', 'normalize_phone', 'signature', 'slot_is_over',
		  'try_normalize_phone', 'verify_signature', 'worker_slots'],
	'with USAGE everybody may call what only computes, and no more');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')
	   AND (p.prosecdef OR p.prorettype = 'trigger'::regtype OR p.prosrc ~* 'insert into|update osmtalk|delete from') $$,
	'none of which writes');
SELECT pg_temp.acts_as('osmtalk_test_nobody', 'SELECT osmtalk.disposition(NULL)', '42501', 'without USAGE not even these');
GRANT USAGE ON SCHEMA osmtalk TO osmtalk_test_nobody, osmtalk_test_app, osmtalk_test_dialer, osmtalk_test_dashboard, osmtalk_test_manager;
SELECT pg_temp.acts_as('osmtalk_test_nobody', 'SELECT osmtalk.disposition(NULL), osmtalk.new_id(''x''), osmtalk.normalize_phone(''+919876543210''), osmtalk.signature(''b'', ''s'')', '00000', 'with USAGE they work');
SELECT pg_temp.acts_as('osmtalk_test_nobody', command, '42501', 'USAGE alone: ' || command) FROM unnest(ARRAY[
	'SELECT 1 FROM osmtalk.org_settings', 'SELECT 1 FROM osmtalk.agents', 'SELECT 1 FROM osmtalk.campaigns', 'SELECT 1 FROM osmtalk.leads', 'SELECT 1 FROM osmtalk.calls',
	'SELECT 1 FROM osmtalk.dnc_entries', 'SELECT 1 FROM osmtalk.events', 'SELECT 1 FROM osmtalk.outbox', 'SELECT 1 FROM osmtalk.delivery_attempts',
	'SELECT 1 FROM osmtalk.deliveries', 'SELECT 1 FROM osmtalk.due_leads', 'SELECT 1 FROM osmtalk.stale_calls', 'SELECT 1 FROM osmtalk.campaign_report', 'SELECT 1 FROM osmtalk.worker_status',
	'SELECT osmtalk.place_call(''ld9'')', 'SELECT osmtalk.place_next_call(''cmp'')', 'SELECT osmtalk.requeue_lead(''ld1'')', 'SELECT osmtalk.redeliver(''x'')',
	'SELECT osmtalk.send_test_event(''org'')', 'SELECT osmtalk.adopt()', 'SELECT osmtalk.wait_until_drained(''0'')', 'SELECT osmtalk.expire_calls()',
	'SELECT osmtalk.delivery_target(''webhook.test'', ''org'', ''cmp'')', 'SELECT osmtalk.record_event(''t'', ''org'', NULL, NULL, NULL, ''b'')',
	'SELECT osmtalk.is_dnc_listed(''org'', ''+919876543210'')', 'SELECT osmtalk.start_worker()', 'SELECT osmtalk.pause()', 'SELECT osmtalk.resume()', 'CREATE TABLE osmtalk.mine ()']) command;
CREATE TABLE public.mine (id text);
GRANT ALL ON public.mine TO osmtalk_test_nobody;
SELECT pg_temp.acts_as('osmtalk_test_nobody', 'CREATE TRIGGER t AFTER INSERT ON public.mine FOR EACH ROW EXECUTE FUNCTION osmtalk.calls_after_insert()', '42501', 'a trigger function with the owner''s rights is nobody''s to use on his own table');

-- ---------------------------------------------------------------------------
-- The application: facts
-- ---------------------------------------------------------------------------
GRANT UPDATE (started_at, answered_at, ended_at, sip_status_code, voicemail_detected, error, analysis, analysis_error, transcript, metadata), SELECT (id)
   ON osmtalk.calls TO osmtalk_test_app;
SET LOCAL ROLE osmtalk_test_app;
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"success": true}' WHERE id = 'call1';
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = 'call2';
RESET ROLE;
SELECT results_eq($$ SELECT status::text, disposition, outcome FROM osmtalk.leads WHERE id IN ('ld1', 'ld2') ORDER BY id $$,
	$$ VALUES ('completed', 'qualified', '{"success": true}'::jsonb), ('busy', NULL, NULL) $$, 'a role that may write facts finalises calls');
SELECT results_eq($$ SELECT e.type, e.call_id, e.skipped_reason, o.id IS NOT NULL FROM osmtalk.events e LEFT JOIN osmtalk.outbox o ON o.event_id = e.id ORDER BY e.id COLLATE "C" $$,
	$$ VALUES ('campaign.lead_completed', 'call1', NULL, true), ('call.analysis_completed', 'call1', NULL, true), ('campaign.lead_completed', 'call2', NULL, true) $$,
	'and its events are written and enqueued');
SELECT pg_temp.acts_as('osmtalk_test_app', format('UPDATE osmtalk.calls SET %I = DEFAULT WHERE id = ''call3''', c), '42501', 'but it cannot write calls.' || c)
  FROM unnest('{id,org_id,agent_id,lead_id,direction,phone_number,dynamic_variables,status,placed_at,decided_at,analyzed_at,awaiting_since,origin,placed_by}'::text[]) c;
SELECT pg_temp.acts_as('osmtalk_test_app', command, '42501', 'the application: ' || command) FROM unnest(ARRAY[
	'SELECT * FROM osmtalk.calls', 'DELETE FROM osmtalk.calls WHERE id = ''call3''', 'INSERT INTO osmtalk.calls (lead_id) VALUES (''ld9'')',
	'SELECT webhook_secret FROM osmtalk.org_settings', 'SELECT webhook_secret FROM osmtalk.campaigns', 'UPDATE osmtalk.leads SET status = ''completed''',
	'INSERT INTO osmtalk.events (type, org_id, body) VALUES (''t'', ''org'', ''forged'')', 'INSERT INTO osmtalk.outbox (event_id) VALUES (''x'')',
	'SELECT osmtalk.redeliver(''x'')', 'SELECT osmtalk.apply_retention()', 'TRUNCATE osmtalk.events_00', 'SELECT osmtalk.decide_lead(c) FROM (SELECT NULL::osmtalk.calls) t (c)']) command;
-- with INSERT on the columns of an application: it places, and is not taken for history
GRANT INSERT (id, lead_id, agent_id, phone_number, answered_at, ended_at) ON osmtalk.calls TO osmtalk_test_app;
SELECT pg_temp.acts_as('osmtalk_test_app', 'INSERT INTO osmtalk.calls (id, lead_id, ended_at) VALUES (''call6'', ''ld6'', now())', '00000', 'INSERT of its own columns places a call');
SELECT pg_temp.acts_as('osmtalk_test_app', 'INSERT INTO osmtalk.calls (id, lead_id, placed_at) VALUES (''call6'', ''ld6'', now())', '42501', 'placed_at is not one of them');
SELECT pg_temp.acts_as('osmtalk_test_app', 'INSERT INTO osmtalk.calls (id, lead_id, org_id) VALUES (''call6'', ''ld6'', ''org2'')', '42501', 'nor is org_id');
SELECT pg_temp.acts_as('osmtalk_test_app', 'INSERT INTO osmtalk.calls (id, lead_id, agent_id) VALUES (''call6'', ''ld6'', ''agent2'')', '23514', 'the tenant boundary holds for agents that it cannot see');

-- ---------------------------------------------------------------------------
-- The dialer: functions
-- ---------------------------------------------------------------------------
GRANT EXECUTE ON FUNCTION osmtalk.place_call(text), osmtalk.place_next_call(text), osmtalk.requeue_lead(text, timestamptz), osmtalk.send_test_event(text, text),
	osmtalk.redeliver(text), osmtalk.wait_until_drained(interval), osmtalk.adopt(boolean), osmtalk.pause(), osmtalk.resume() TO osmtalk_test_dialer;
SELECT pg_temp.acts_as('osmtalk_test_dialer', command, '00000', 'EXECUTE is enough: ' || command) FROM unnest(ARRAY[
	'SELECT osmtalk.place_call(''ld9'')', 'SELECT osmtalk.place_next_call(''cmp'')', 'SELECT osmtalk.requeue_lead(''ld2'')', 'SELECT osmtalk.send_test_event(''org'', ''cmp'')',
	format('SELECT osmtalk.redeliver(%L)', (SELECT min(id) FROM osmtalk.events)), 'SELECT osmtalk.wait_until_drained(''0'')', 'SELECT osmtalk.adopt()',
	'SELECT osmtalk.pause()', 'SELECT osmtalk.resume()']) command;
SELECT pg_temp.acts_as('osmtalk_test_dialer', 'SELECT 1 FROM osmtalk.calls', '42501', 'and gives nothing else');

-- ---------------------------------------------------------------------------
-- The dashboard: views
-- ---------------------------------------------------------------------------
GRANT SELECT ON osmtalk.deliveries, osmtalk.due_leads, osmtalk.stale_calls, osmtalk.campaign_report, osmtalk.worker_status, osmtalk.retained TO osmtalk_test_dashboard;
SELECT pg_temp.acts_as('osmtalk_test_dashboard', 'SELECT * FROM osmtalk.' || v, '00000', 'SELECT is enough: ' || v)
  FROM unnest('{deliveries,due_leads,stale_calls,campaign_report,worker_status,retained}'::text[]) v;
SELECT is_empty($$ SELECT table_name, column_name FROM information_schema.columns c JOIN information_schema.views v USING (table_schema, table_name)
	WHERE table_schema = 'osmtalk' AND column_name ~ 'secret|body|transcript' AND table_name NOT IN ('stale_calls') $$, 'no view shows a secret or a body');
SELECT pg_temp.acts_as('osmtalk_test_dashboard', 'SELECT 1 FROM osmtalk.events', '42501', 'and gives nothing else');

-- ---------------------------------------------------------------------------
-- The manager: campaigns and leads, but not where events go
-- ---------------------------------------------------------------------------
GRANT SELECT, INSERT, UPDATE ON osmtalk.leads TO osmtalk_test_manager;
GRANT SELECT (id, name), UPDATE (name, max_attempts, agent_id) ON osmtalk.campaigns TO osmtalk_test_manager;
GRANT UPDATE (default_webhook_url) ON osmtalk.org_settings TO osmtalk_test_manager;
SELECT pg_temp.acts_as('osmtalk_test_manager', 'INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES (''cmp'', ''00 91 98765 43210'')', '00000', 'adds leads');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'UPDATE osmtalk.leads SET status = ''failed'' WHERE id = ''ld8''', '00000', 'ends leads, with their event');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'UPDATE osmtalk.leads SET campaign_id = ''cmp2'' WHERE id = ''ld8''', '23514', 'moves none to another organisation');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'UPDATE osmtalk.campaigns SET agent_id = ''agent2'' WHERE id = ''cmp''', '23514', 'nor takes an agent of it');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'UPDATE osmtalk.campaigns SET webhook_secret = ''mine'' WHERE id = ''cmp''', '42501', 'changes no secret');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'SELECT webhook_secret FROM osmtalk.campaigns', '42501', 'and reads none');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'UPDATE osmtalk.org_settings SET default_webhook_url = ''https://new.example/''', '00000', 'URLs may be written blind');
SELECT pg_temp.acts_as('osmtalk_test_manager', 'UPDATE osmtalk.org_settings SET default_webhook_url = ''file:///etc/passwd''', '22023', 'within the rules');

-- ---------------------------------------------------------------------------
-- A role that shadows names in its own schemas runs nothing with the owner's rights
-- ---------------------------------------------------------------------------
CREATE SCHEMA osmtalk_test_trap AUTHORIZATION osmtalk_test_app;
SET LOCAL ROLE osmtalk_test_app;
CREATE FUNCTION osmtalk_test_trap.trap() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE FUNCTION osmtalk_test_trap.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT osmtalk_test_trap.trap()';
CREATE FUNCTION osmtalk_test_trap.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE OPERATOR osmtalk_test_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = osmtalk_test_trap.trap);
CREATE FUNCTION osmtalk_test_trap.is_terminal(osmtalk.lead_status) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
SET LOCAL search_path = osmtalk_test_trap, pg_catalog;
UPDATE osmtalk.calls SET ended_at = pg_catalog.now(), sip_status_code = 486 WHERE id OPERATOR(pg_catalog.=) 'call4';
RESET ROLE;
SET LOCAL search_path = public;
SELECT results_eq($$ SELECT status::text FROM osmtalk.leads WHERE id = 'ld4' $$, ARRAY['busy'], 'the search path of the caller means nothing to the rules');

SELECT * FROM finish();
ROLLBACK;
