--
-- Who may do what.  Nobody has anything until it is granted; the group roles
-- have what they are for, and triggers do the rest with the owner's rights.
-- doc/privileges.md has the whole of it, which 041_matrix.pl compares.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SET LOCAL jit = off; -- it takes longer than all else
SELECT plan(342);

CREATE ROLE osmtalk_test_nobody;
CREATE ROLE osmtalk_test_facts;			-- records facts, and no more
CREATE ROLE osmtalk_test_dialer;		-- dials: EXECUTE and no rights on tables
GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;

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

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES ('org', 'https://org.example/token', 'a secret of the organisation'), ('org2', NULL, NULL);
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent', 'org', true), ('agent2', 'org2', false);
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES ('cmp', 'org', 'Campaign', 'a secret of the campaign'), ('cmp2', 'org2', 'Other', NULL);
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld' || i, 'cmp', '+919876543210' FROM generate_series(1, 9) i;
INSERT INTO osmtalk.calls (id, lead_id, agent_id, answered_at) SELECT 'call' || i, 'ld' || i, 'agent', now() - interval '1 min' FROM generate_series(1, 5) i;

-- ---------------------------------------------------------------------------
-- Nobody
-- ---------------------------------------------------------------------------
CREATE TEMP VIEW granted AS
	SELECT c.oid::regclass::text AS object, g.grantee, g.privilege_type, g.is_grantable, c.relowner AS owner FROM pg_class c, aclexplode(c.relacl) g WHERE c.relnamespace = 'osmtalk'::regnamespace
	UNION ALL SELECT a.attrelid::regclass || '.' || a.attname, g.grantee, g.privilege_type, g.is_grantable, c.relowner FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) g WHERE c.relnamespace = 'osmtalk'::regnamespace
	UNION ALL SELECT p.oid::regprocedure::text, g.grantee, g.privilege_type, g.is_grantable, p.proowner FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g WHERE p.pronamespace = 'osmtalk'::regnamespace
	UNION ALL SELECT t.oid::regtype::text, g.grantee, g.privilege_type, g.is_grantable, t.typowner FROM pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) g WHERE t.typnamespace = 'osmtalk'::regnamespace AND t.typelem = 0 AND t.typrelid = 0
	UNION ALL SELECT 'schema', g.grantee, g.privilege_type, g.is_grantable, n.nspowner FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) g WHERE n.nspname = 'osmtalk';
SELECT is_empty($$ SELECT * FROM granted WHERE grantee = 0 $$, 'nothing is PUBLIC''s: no table, column, function, type but those of rows, nor the schema');
SELECT is_empty($$ SELECT * FROM granted WHERE grantee NOT IN (owner, 'osmtalk_app'::regrole, 'osmtalk_admin'::regrole, 'osmtalk_monitor'::regrole, 'pg_monitor'::regrole) $$, 'nor anybody''s but the group roles'' and pg_monitor''s');
SELECT is_empty($$ SELECT * FROM granted WHERE grantee <> owner AND (is_grantable OR privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'CREATE', 'MAINTAIN')) $$, 'who can pass nothing on, and truncate, refer to, or put triggers on nothing');
SELECT is_empty($$ SELECT p.oid::regprocedure FROM pg_proc p JOIN granted g ON g.object = p.oid::regprocedure::text WHERE p.prorettype = 'trigger'::regtype AND g.grantee <> g.owner $$, 'nobody may execute a trigger function');
SELECT is_empty($$ SELECT * FROM granted WHERE object IN ('osmtalk.org_settings.webhook_secret', 'osmtalk.campaigns.webhook_secret', 'osmtalk.org_settings.webhook_headers', 'osmtalk.campaigns.webhook_headers') AND privilege_type = 'SELECT' AND grantee <> owner $$, 'nobody may read a secret, nor headers that may be some');
SELECT is_empty($$ SELECT * FROM granted WHERE object ~ '^osmtalk\.(org_settings|campaigns)$' AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE') AND grantee <> owner $$, 'nor the tables that have them as a whole');
SELECT is_empty($$ SELECT * FROM granted WHERE object ~ '^osmtalk\.(events|delivery_attempts|outbox|claims|slots|paused)' AND privilege_type <> 'SELECT' AND grantee <> owner $$, 'nobody may write an event, or a record of its delivery');
SELECT ok(NOT has_schema_privilege('osmtalk_test_nobody', 'osmtalk', 'USAGE') AND NOT has_schema_privilege('osmtalk_test_nobody', 'osmtalk', 'CREATE'), 'somebody else: not even the schema');
GRANT USAGE ON SCHEMA osmtalk TO osmtalk_test_nobody, osmtalk_test_facts, osmtalk_test_dialer;
SELECT is_empty($$ SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND has_function_privilege('osmtalk_test_nobody', p.oid, 'EXECUTE') $$, 'and with USAGE no function');
SELECT pg_temp.acts_as('osmtalk_test_nobody', command, '42501', 'USAGE alone: ' || command) FROM unnest(ARRAY[
	'SELECT osmtalk.disposition(NULL)', 'SELECT osmtalk.new_id(''x'')',
	'SELECT 1 FROM osmtalk.org_settings', 'SELECT 1 FROM osmtalk.agents', 'SELECT 1 FROM osmtalk.campaigns', 'SELECT 1 FROM osmtalk.leads', 'SELECT 1 FROM osmtalk.calls',
	'SELECT 1 FROM osmtalk.dnc_entries', 'SELECT 1 FROM osmtalk.events', 'SELECT 1 FROM osmtalk.outbox', 'SELECT 1 FROM osmtalk.delivery_attempts',
	'SELECT 1 FROM osmtalk.deliveries', 'SELECT 1 FROM osmtalk.due_leads', 'SELECT 1 FROM osmtalk.stale_calls', 'SELECT 1 FROM osmtalk.campaign_report', 'SELECT 1 FROM osmtalk.worker_status',
	'SELECT osmtalk.place_call(''ld9'')', 'SELECT osmtalk.place_next_call(''cmp'')', 'SELECT osmtalk.requeue_lead(''ld1'')', 'SELECT osmtalk.redeliver(''x'')',
	'SELECT osmtalk.send_test_event(''org'')', 'SELECT osmtalk.adopt()', 'SELECT osmtalk.wait_until_drained(''0'')', 'SELECT osmtalk.expire_calls()',
	'SELECT osmtalk.delivery_target(''webhook.test'', ''org'', ''cmp'')', 'SELECT osmtalk.record_event(''t'', ''org'', NULL, NULL, NULL, ''b'')',
	'SELECT osmtalk.is_dnc_listed(''org'', ''+919876543210'')', 'SELECT osmtalk.start_worker()', 'SELECT osmtalk.pause()', 'SELECT osmtalk.resume()', 'CREATE TABLE osmtalk.mine ()',
	'SELECT osmtalk.report_html()', 'SELECT osmtalk.report_calls(''-infinity'', ''infinity'', NULL)',
	'SELECT osmtalk.rotate_webhook_secret(''org'')', 'SELECT osmtalk.new_webhook_secret()', 'SELECT 1 FROM osmtalk.previous_secrets',
	'SELECT osmtalk.explain_outcome(''call1'')', 'SELECT osmtalk.preview_event(''call1'')', 'SELECT osmtalk.preview_lead_event(''ld1'')', 'SELECT osmtalk.request_headers(''e'', ''b'', ''s'', NULL, NULL)',
	'CREATE TABLE public.one (status osmtalk.call_status)']) command;

-- ---------------------------------------------------------------------------
-- Trigger functions: for osmtalk's own tables alone, whoever may execute them
-- ---------------------------------------------------------------------------
CREATE TABLE public.mine (LIKE osmtalk.calls);
GRANT ALL ON public.mine TO osmtalk_test_nobody;
SELECT pg_temp.acts_as('osmtalk_test_nobody', 'CREATE TRIGGER t AFTER INSERT ON public.mine FOR EACH ROW EXECUTE FUNCTION osmtalk.calls_after_insert()', '42501', 'a trigger function with the owner''s rights is nobody''s to use on his own table');
CREATE FUNCTION pg_temp.forges(function regprocedure) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	when_ text;
	got text;
BEGIN
	-- at every time and for every operation that a trigger can have: nothing gets past
	FOREACH when_ IN ARRAY ARRAY['BEFORE INSERT', 'AFTER INSERT', 'BEFORE UPDATE', 'AFTER UPDATE', 'BEFORE DELETE', 'AFTER DELETE'] LOOP
		EXECUTE format('CREATE TRIGGER t %s ON public.mine FOR EACH ROW EXECUTE FUNCTION %s', when_, function);
		BEGIN
			INSERT INTO public.mine (id, org_id, direction, status) VALUES ('x', 'org', 'web', 'queued');
			UPDATE public.mine SET ended_at = now();
			DELETE FROM public.mine;
			got := concat_ws(', ', got, when_);
		EXCEPTION WHEN trigger_protocol_violated THEN
			NULL;
		END;
		DROP TRIGGER t ON public.mine;
	END LOOP;
	RETURN got;
END
$$;
SELECT is(pg_temp.forges(p.oid), NULL, 'on another table: ' || p.proname) FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND p.prorettype = 'trigger'::regtype ORDER BY p.proname;
SELECT throws_ok(format('SELECT %s', p.oid::regprocedure), CASE l.lanname WHEN 'c' THEN '39P01' ELSE '0A000' END, NULL, 'as no trigger: ' || p.proname)
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'osmtalk'::regnamespace AND p.prorettype = 'trigger'::regtype ORDER BY p.proname;
-- functions of the triggers' that read and write without the executor: EXECUTE alone gives no rights on tables
GRANT EXECUTE ON FUNCTION osmtalk.record_event(text, text, text, text, text, text), osmtalk.decide_lead(osmtalk.calls), osmtalk.delivery_target(text, text, text), osmtalk.first_set(text, text) TO osmtalk_test_nobody;
CREATE FUNCTION public.forged_call(lead text) RETURNS osmtalk.calls LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	call osmtalk.calls;
BEGIN
	SELECT * INTO call FROM osmtalk.calls c WHERE c.id = 'call5';
	call.lead_id := lead;
	RETURN call;
END
$$;
SELECT pg_temp.acts_as('osmtalk_test_nobody', command, '42501', 'the executor''s rules hold: ' || command) FROM unnest(ARRAY[
	'SELECT osmtalk.record_event(''t'', ''org'', NULL, NULL, NULL, ''b'')', 'SELECT osmtalk.decide_lead(public.forged_call(''ld5''))',
	-- not even whether there is one
	'SELECT osmtalk.decide_lead(public.forged_call(''none''))']) command;
GRANT SELECT ON osmtalk.campaigns, osmtalk.org_settings TO osmtalk_test_nobody;
SELECT pg_temp.acts_as('osmtalk_test_nobody', format('SELECT osmtalk.record_event(''t'', %L, NULL, NULL, NULL, ''b'')', org), '42501', 'nor does it help to see where the event would go: ' || org) FROM unnest('{org,org2}'::text[]) org;
REVOKE ALL ON osmtalk.campaigns, osmtalk.org_settings FROM osmtalk_test_nobody;

-- ---------------------------------------------------------------------------
-- A role of the user's own: with rights on the facts it finalises calls
-- ---------------------------------------------------------------------------
GRANT UPDATE (started_at, answered_at, ended_at, sip_status_code, voicemail_detected, error, analysis, analysis_error, transcript, metadata), SELECT (id)
   ON osmtalk.calls TO osmtalk_test_facts;
SET LOCAL ROLE osmtalk_test_facts;
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"success": true}' WHERE id = 'call1';
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = 'call2';
RESET ROLE;
SELECT results_eq($$ SELECT status::text, disposition, outcome FROM osmtalk.leads WHERE id IN ('ld1', 'ld2') ORDER BY id $$,
	$$ VALUES ('completed', 'qualified', '{"success": true}'::jsonb), ('busy', NULL, NULL) $$, 'a role that may write facts finalises calls');
SELECT results_eq($$ SELECT e.type, e.call_id, e.skipped_reason, o.id IS NOT NULL FROM osmtalk.events e LEFT JOIN osmtalk.outbox o ON o.event_id = e.id ORDER BY e.id COLLATE "C" $$,
	$$ VALUES ('campaign.lead_completed', 'call1', NULL, true), ('call.analysis_completed', 'call1', NULL, true), ('campaign.lead_completed', 'call2', NULL, true) $$,
	'and its events are written and enqueued');
GRANT EXECUTE ON FUNCTION osmtalk.place_call(text), osmtalk.place_next_call(text), osmtalk.requeue_lead(text, timestamptz), osmtalk.send_test_event(text, text),
	osmtalk.redeliver(text), osmtalk.wait_until_drained(interval), osmtalk.adopt(boolean), osmtalk.pause(), osmtalk.resume() TO osmtalk_test_dialer;
SELECT pg_temp.acts_as('osmtalk_test_dialer', command, '00000', 'EXECUTE is enough: ' || command) FROM unnest(ARRAY[
	'SELECT osmtalk.place_call(''ld9'')', 'SELECT osmtalk.place_next_call(''cmp'')', 'SELECT osmtalk.requeue_lead(''ld2'')', 'SELECT osmtalk.send_test_event(''org'', ''cmp'')',
	format('SELECT osmtalk.redeliver(%L)', (SELECT min(id) FROM osmtalk.events)), 'SELECT osmtalk.wait_until_drained(''0'')', 'SELECT osmtalk.adopt()',
	'SELECT osmtalk.pause()', 'SELECT osmtalk.resume()']) command;
SELECT pg_temp.acts_as('osmtalk_test_dialer', 'SELECT 1 FROM osmtalk.calls', '42501', 'and gives nothing else');

-- ---------------------------------------------------------------------------
-- osmtalk_app: facts
-- ---------------------------------------------------------------------------
SELECT pg_temp.acts_as('osmtalk_app', command, '00000', 'the application: ' || command) FROM unnest(ARRAY[
	'UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 200, analysis = ''{}'', metadata = ''{}'', transcript = ''t'' WHERE id = ''call3''',
	'INSERT INTO osmtalk.calls (id, lead_id, ended_at) VALUES (''call6'', ''ld6'', now())', 'INSERT INTO osmtalk.calls (org_id, direction) VALUES (''org'', ''inbound'') RETURNING *',
	'INSERT INTO osmtalk.calls (id, org_id, ended_at) VALUES (''call3'', ''org'', now()) ON CONFLICT (id) DO UPDATE SET ended_at = EXCLUDED.ended_at',
	'INSERT INTO osmtalk.leads (campaign_id, phone_number, variables) VALUES (''cmp'', ''00 91 98765 43210'', ''{}'') RETURNING *',
	'UPDATE osmtalk.leads SET variables = ''{"a": 1}'', next_attempt_at = now() WHERE id = ''ld8''', 'SELECT * FROM osmtalk.leads WHERE id = ''ld8'' FOR UPDATE',
	'INSERT INTO osmtalk.dnc_entries (org_id, phone_number, source) VALUES (''org'', ''+49 30 1234567'', ''opt_out'') ON CONFLICT (org_id, phone_number) DO UPDATE SET reason = EXCLUDED.reason',
	'SELECT osmtalk.place_call(''ld9'')', 'SELECT osmtalk.place_next_call(''cmp'')', 'SELECT osmtalk.requeue_lead(''ld2'')', 'SELECT osmtalk.wait_until_drained(''0'')', 'SELECT osmtalk.explain_outcome(''call3'')',
	'SELECT * FROM osmtalk.due_leads, osmtalk.stale_calls, osmtalk.campaign_report, osmtalk.dnc_entries, osmtalk.agents', 'SELECT id, name, retry_on FROM osmtalk.campaigns',
	'SELECT osmtalk.call_outcome(NULL, now(), NULL, false, NULL), osmtalk.disposition(''{}''), osmtalk.normalize_phone(''+4930123456''), osmtalk.is_terminal(''busy''), osmtalk.signature(''b'', ''s''), osmtalk.verify_signature(''b'', ''s'', ''x''), osmtalk.is_webhook_url(''x''), osmtalk.analysis_configured(a) FROM osmtalk.agents a']) command;
SELECT pg_temp.acts_as('osmtalk_app', format('UPDATE osmtalk.calls SET %I = DEFAULT WHERE id = ''call3''', c), '42501', 'it cannot write calls.' || c)
  FROM unnest('{id,org_id,agent_id,lead_id,direction,phone_number,status,placed_at,decided_at,analyzed_at,awaiting_since,origin,placed_by}'::text[]) c;
SELECT pg_temp.acts_as('osmtalk_app', format('INSERT INTO osmtalk.calls (org_id, %I) VALUES (''org'', NULL)', c), '42501', 'nor insert calls.' || c)
  FROM unnest('{status,placed_at,decided_at,analyzed_at,awaiting_since,origin,placed_by}'::text[]) c;
SELECT pg_temp.acts_as('osmtalk_app', format('UPDATE osmtalk.leads SET %I = DEFAULT WHERE id = ''ld8''', c), '42501', 'nor write leads.' || c)
  FROM unnest('{id,campaign_id,status,disposition,attempts,call_id,outcome,completed_at}'::text[]) c;
SELECT pg_temp.acts_as('osmtalk_app', format('INSERT INTO osmtalk.leads (campaign_id, phone_number, %I) VALUES (''cmp'', ''+4930123456'', NULL)', c), '42501', 'nor insert leads.' || c)
  FROM unnest('{status,disposition,attempts,call_id,outcome,completed_at}'::text[]) c;
SELECT pg_temp.acts_as('osmtalk_app', command, '42501', 'the application: ' || command) FROM unnest(ARRAY[
	'DELETE FROM osmtalk.calls WHERE id = ''call3''', 'DELETE FROM osmtalk.leads', 'DELETE FROM osmtalk.dnc_entries', 'UPDATE osmtalk.dnc_entries SET phone_number = ''+4930123456''',
	'SELECT webhook_secret FROM osmtalk.org_settings', 'SELECT default_webhook_url FROM osmtalk.org_settings', 'SELECT webhook_secret FROM osmtalk.campaigns', 'SELECT webhook_url FROM osmtalk.campaigns',
	'SELECT * FROM osmtalk.campaigns', 'SELECT c FROM osmtalk.campaigns c', 'SELECT to_jsonb(c) FROM osmtalk.campaigns c', 'UPDATE osmtalk.campaigns SET webhook_url = ''https://mine.example/''',
	'INSERT INTO osmtalk.org_settings (org_id) VALUES (''x'')', 'INSERT INTO osmtalk.campaigns (org_id, name) VALUES (''org'', ''x'')', 'INSERT INTO osmtalk.agents (org_id) VALUES (''org'')',
	'INSERT INTO osmtalk.events (type, org_id, body) VALUES (''t'', ''org'', ''forged'')', 'INSERT INTO osmtalk.outbox (event_id) VALUES (''x'')', 'UPDATE osmtalk.outbox SET attempts = 9',
	'INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at) VALUES (''x'', 1, now())', 'SELECT 1 FROM osmtalk.events', 'SELECT 1 FROM osmtalk.outbox', 'SELECT 1 FROM osmtalk.delivery_attempts',
	'SELECT 1 FROM osmtalk.events_00', 'SELECT 1 FROM osmtalk.deliveries', 'SELECT nextval(''osmtalk.outbox_id_seq'')',
	'SELECT osmtalk.redeliver(''x'')', 'SELECT osmtalk.send_test_event(''org'')', 'SELECT osmtalk.pause()', 'SELECT osmtalk.resume()', 'SELECT osmtalk.adopt()', 'SELECT osmtalk.expire_calls()',
	'SELECT osmtalk.preview_event(''call3'')', 'SELECT osmtalk.report_html()', 'SELECT osmtalk.preview_lead_event(''ld3'')',
	'SELECT osmtalk.apply_retention()', 'TRUNCATE osmtalk.events_00', 'TRUNCATE osmtalk.calls', 'SELECT osmtalk.decide_lead(c) FROM osmtalk.calls c', 'SELECT osmtalk.record_analysis(c) FROM osmtalk.calls c',
	'SELECT osmtalk.decide_lead(c) FROM osmtalk.calls c', 'SELECT osmtalk.record_event(''t'', ''org'', NULL, NULL, NULL, ''b'')', 'SELECT * FROM osmtalk.delivery_target(''webhook.test'', ''org'', NULL)',
	'CREATE TABLE osmtalk.mine ()', 'CREATE FUNCTION osmtalk.mine() RETURNS int LANGUAGE sql RETURN 1',
	'CREATE TRIGGER t AFTER INSERT ON osmtalk.calls FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'ALTER TABLE osmtalk.calls DISABLE TRIGGER ALL', 'LOCK TABLE osmtalk.outbox',
	'SET LOCAL session_replication_role = replica']) command;
SELECT pg_temp.acts_as('osmtalk_app', 'INSERT INTO osmtalk.calls (id, lead_id, org_id) VALUES (''call6'', ''ld6'', ''org2'')', '23514', 'the tenant boundary holds for it');
SELECT pg_temp.acts_as('osmtalk_app', 'INSERT INTO osmtalk.calls (id, lead_id, agent_id) VALUES (''call6'', ''ld6'', ''agent2'')', '23514', 'for agents, too');

-- ---------------------------------------------------------------------------
-- osmtalk_admin: configuration and operation
-- ---------------------------------------------------------------------------
SELECT pg_temp.acts_as('osmtalk_admin', command, '00000', 'the administrator: ' || command) FROM unnest(ARRAY[
	'INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES (''x'', ''https://x.example/'', ''s'')', 'INSERT INTO osmtalk.org_settings VALUES (''x'', NULL, NULL)',
	'UPDATE osmtalk.org_settings SET default_webhook_url = ''https://new.example/'', webhook_secret = ''new'' WHERE org_id = ''org''',
	'INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES (''org'', ''s'') ON CONFLICT (org_id) DO UPDATE SET webhook_secret = ''s''', 'SELECT org_id, default_webhook_url FROM osmtalk.org_settings',
	'UPDATE osmtalk.org_settings SET webhook_events = ''{call.failed}'', webhook_headers = ''{"X-Token": "t"}'' WHERE org_id = ''org''', 'SELECT webhook_events FROM osmtalk.org_settings UNION SELECT webhook_events FROM osmtalk.campaigns',
	'INSERT INTO osmtalk.campaigns (org_id, name, webhook_url, webhook_events, webhook_headers) VALUES (''org'', ''a'', ''https://cmp.example/'', ''{}'', ''{"X-Token": "t"}'')',
	'INSERT INTO osmtalk.agents (org_id, name) VALUES (''org'', ''a'')', 'UPDATE osmtalk.agents SET name = ''b''', 'DELETE FROM osmtalk.agents WHERE id = ''none''',
	'INSERT INTO osmtalk.campaigns (org_id, name, webhook_secret) VALUES (''org'', ''a'', ''s'')', 'UPDATE osmtalk.campaigns SET webhook_secret = ''mine'', max_attempts = 2, agent_id = ''agent'' WHERE id = ''cmp''', 'DELETE FROM osmtalk.campaigns WHERE id = ''none''',
	'SELECT id, webhook_url FROM osmtalk.campaigns', 'INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES (''cmp'', ''+4930123456'')', 'UPDATE osmtalk.leads SET status = ''failed'' WHERE id = ''ld8''', 'DELETE FROM osmtalk.leads WHERE id = ''ld8''',
	'DELETE FROM osmtalk.calls WHERE id = ''call5''', 'DELETE FROM osmtalk.dnc_entries', 'SELECT * FROM osmtalk.events, osmtalk.outbox, osmtalk.delivery_attempts',
	'SELECT * FROM osmtalk.deliveries', 'SELECT * FROM osmtalk.due_leads, osmtalk.stale_calls, osmtalk.campaign_report', 'SELECT * FROM osmtalk.worker_status', 'SELECT * FROM osmtalk.retained', 'SELECT * FROM osmtalk.in_flight, osmtalk.not_adopted', 'SELECT osmtalk.report_html()',
	'SELECT osmtalk.requeue_lead(''ld2'')', 'SELECT osmtalk.send_test_event(''org'', ''cmp'')', format('SELECT osmtalk.redeliver(%L)', (SELECT min(id) FROM osmtalk.events)),
	'SELECT osmtalk.pause()', 'SELECT osmtalk.resume()', 'SELECT osmtalk.adopt()', 'SELECT osmtalk.apply_retention()', 'SELECT osmtalk.wait_until_drained(''0'')',
	'SELECT osmtalk.explain_outcome(''call3'')', 'SELECT osmtalk.preview_event(''call3'')', 'SELECT osmtalk.preview_lead_event(''ld3'')', 'SELECT * FROM osmtalk.secret_problems()']) command;
SELECT pg_temp.acts_as('osmtalk_admin', command, '42501', 'the administrator: ' || command) FROM unnest(ARRAY[
	'SELECT webhook_secret FROM osmtalk.campaigns', 'SELECT webhook_secret FROM osmtalk.org_settings', 'SELECT * FROM osmtalk.org_settings', 'SELECT s FROM osmtalk.org_settings s', 'TABLE osmtalk.campaigns',
	'UPDATE osmtalk.campaigns SET name = webhook_secret', 'UPDATE osmtalk.campaigns SET name = ''x'' WHERE webhook_secret LIKE ''a%''', 'UPDATE osmtalk.campaigns SET name = ''x'' RETURNING webhook_secret', 'DELETE FROM osmtalk.campaigns WHERE webhook_secret = ''s''',
	'INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES (''org'', ''s'') ON CONFLICT (org_id) DO UPDATE SET default_webhook_url = EXCLUDED.webhook_secret', 'SELECT * FROM osmtalk.delivery_target(''webhook.test'', ''org'', NULL)',
	'SELECT webhook_headers FROM osmtalk.org_settings', 'SELECT webhook_headers FROM osmtalk.campaigns', 'UPDATE osmtalk.campaigns SET name = ''x'' RETURNING webhook_headers',
	'INSERT INTO osmtalk.org_settings (org_id, webhook_headers) VALUES (''org'', ''{}'') ON CONFLICT (org_id) DO UPDATE SET default_webhook_url = EXCLUDED.webhook_headers::text', 'SELECT osmtalk.is_standard_secret(''x'')',
	'UPDATE osmtalk.campaigns SET org_id = ''org2''', 'UPDATE osmtalk.org_settings SET org_id = ''org3''', 'UPDATE osmtalk.leads SET outcome = ''{}''', 'UPDATE osmtalk.leads SET disposition = ''qualified''', 'UPDATE osmtalk.leads SET call_id = ''x''',
	'INSERT INTO osmtalk.calls (org_id) VALUES (''org'')', 'UPDATE osmtalk.calls SET ended_at = now()', 'INSERT INTO osmtalk.events (type, org_id, body) VALUES (''t'', ''org'', ''forged'')', 'DELETE FROM osmtalk.events', 'UPDATE osmtalk.events SET body = ''x''',
	'INSERT INTO osmtalk.outbox (event_id) VALUES (''x'')', 'DELETE FROM osmtalk.outbox', 'DELETE FROM osmtalk.delivery_attempts', 'INSERT INTO osmtalk.paused DEFAULT VALUES', 'DELETE FROM osmtalk.paused', 'UPDATE osmtalk.slots SET newest = now()',
	'SELECT osmtalk.place_call(''ld9'')', 'SELECT osmtalk.expire_calls()', 'SELECT osmtalk.request_headers(''e'', ''b'', ''s'', NULL, NULL)', 'TRUNCATE osmtalk.leads', 'CREATE TABLE osmtalk.mine ()']) command;
SELECT pg_temp.acts_as('osmtalk_admin', 'UPDATE osmtalk.leads SET campaign_id = ''cmp2'' WHERE id = ''ld8''', '23514', 'it moves no lead to another organisation');
SELECT pg_temp.acts_as('osmtalk_admin', 'UPDATE osmtalk.campaigns SET agent_id = ''agent2'' WHERE id = ''cmp''', '23514', 'nor takes an agent of it');
SELECT pg_temp.acts_as('osmtalk_admin', 'UPDATE osmtalk.org_settings SET default_webhook_url = ''file:///etc/passwd''', '22023', 'and writes URLs within the rules');

-- ---------------------------------------------------------------------------
-- osmtalk_monitor: looks on
-- ---------------------------------------------------------------------------
SELECT pg_temp.acts_as('osmtalk_monitor', command, '00000', 'monitoring: ' || command) FROM unnest(ARRAY[
	'SELECT * FROM osmtalk.deliveries', 'SELECT * FROM osmtalk.campaign_report', 'SELECT * FROM osmtalk.worker_status', 'SELECT * FROM osmtalk.retained', 'SELECT * FROM osmtalk.in_flight', 'SELECT * FROM osmtalk.not_adopted',
	'SELECT * FROM osmtalk.redelivery_progress', 'SELECT * FROM osmtalk.dead_letters', 'SELECT * FROM osmtalk.unsent_events',
	'SELECT count(*) FROM osmtalk.calls WHERE status IN (''queued'', ''in_progress'') AND placed_at < now() - interval ''1 hour''', 'SELECT status, disposition, count(*) FROM osmtalk.leads GROUP BY 1, 2',
	'SELECT http_status, avg(duration_ms) FROM osmtalk.delivery_attempts GROUP BY 1', 'SELECT osmtalk.report_html(''1 day'', ''cmp'')', 'SELECT osmtalk.wait_until_drained(''0'')']) command;
CREATE TEMP VIEW monitored AS
	SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	 WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_column_privilege('osmtalk_monitor', c.oid, a.attnum, 'SELECT');
SELECT is_empty($$ SELECT * FROM monitored WHERE attname ~ 'secret|headers|body|transcript|phone|variables|metadata|^analysis|^outcome$|^reason$'
	-- why it was not sent
	AND (relname, attname) NOT IN (('dead_letters', 'reason'), ('unsent_events', 'reason'), ('outcomes_without_event', 'reason')) $$,
	'monitoring reads no phone number, no secret, no body, nor what was said');
SELECT is_empty($$ SELECT * FROM monitored WHERE attname ~ 'url' AND attname <> 'without_url' AND relname NOT IN ('deliveries', 'stat_endpoint', 'dead_letters') $$,
	'nor a URL, but in deliveries and stat_endpoint, redacted');
SELECT pg_temp.acts_as('osmtalk_monitor', command, '42501', 'monitoring: ' || command) FROM unnest(ARRAY[
	'SELECT * FROM osmtalk.leads', 'SELECT * FROM osmtalk.calls', 'SELECT phone_number FROM osmtalk.leads', 'SELECT 1 FROM osmtalk.dnc_entries', 'SELECT * FROM osmtalk.due_leads', 'SELECT * FROM osmtalk.stale_calls', 'SELECT body FROM osmtalk.events',
	'SELECT response_body FROM osmtalk.delivery_attempts', 'SELECT webhook_secret FROM osmtalk.org_settings', 'SELECT webhook_url FROM osmtalk.campaigns', 'UPDATE osmtalk.calls SET ended_at = now()', 'INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES (''cmp'', ''+4930123456'')',
	'DELETE FROM osmtalk.outbox', 'SELECT osmtalk.pause()', 'SELECT osmtalk.redeliver(''x'')', 'SELECT osmtalk.place_next_call(''cmp'')', 'SELECT osmtalk.send_test_event(''org'')', 'SELECT osmtalk.explain_outcome(''call3'')', 'SELECT osmtalk.preview_event(''call3'')', 'SELECT osmtalk.report_events(''-infinity'', ''infinity'', NULL)']) command;

-- ---------------------------------------------------------------------------
-- A role that shadows names in its own schemas runs nothing with the owner's rights
-- ---------------------------------------------------------------------------
CREATE SCHEMA osmtalk_test_trap AUTHORIZATION osmtalk_app;
SET LOCAL ROLE osmtalk_app;
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
