--
-- Two organisations, and sessions of one of them: no row, count or message of
-- the other, in any object that any role may use.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT * FROM no_plan();

-- all that applications, administrators and monitoring may, in one
CREATE ROLE osmtalk_test_tenant;
GRANT osmtalk_app, osmtalk_admin, osmtalk_monitor TO osmtalk_test_tenant;
CREATE ROLE osmtalk_test_operator BYPASSRLS;
GRANT osmtalk_app, osmtalk_admin, osmtalk_monitor TO osmtalk_test_operator;
GRANT USAGE ON SCHEMA public TO PUBLIC;

-- Whatever is text of an organisation's contains its name.
CREATE FUNCTION pg_temp.furnish(org text, number text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret)
	VALUES (org, format('https://%s.example/hook', org), 'whsec_0123456789_' || org);
	INSERT INTO osmtalk.agents (id, org_id, name, enable_sentiment) VALUES ('agent_' || org, org, org, true);
	INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name) VALUES ('cmp_' || org, org, 'agent_' || org, org);
	INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
	SELECT format('ld%s_%s', i, org), 'cmp_' || org, number || i, jsonb_build_object('name', org) FROM generate_series(1, 5) i;
	INSERT INTO osmtalk.dnc_entries (org_id, phone_number, reason) VALUES (org, number || 5, org);
	INSERT INTO osmtalk.calls (id, lead_id) SELECT format('call%s_%s', i, org), format('ld%s_%s', i, org) FROM unnest('{1,2,5}'::int[]) i;
	UPDATE osmtalk.calls c SET answered_at = now() - interval '1 min', ended_at = now(), transcript = org WHERE c.id = 'call1_' || org;
	UPDATE osmtalk.calls c SET analysis = jsonb_build_object('summary', org) WHERE c.id = 'call1_' || org;
	PERFORM osmtalk.send_test_event(org);
	INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, duration_ms, error, response_body, slot)
	SELECT e.id, 1, format('https://%s.example/hook', org), now(), 1, org, org, e.slot FROM osmtalk.events e WHERE e.org_id = org AND e.type = 'webhook.test';
	INSERT INTO osmtalk.claims (worker, endpoint_hashes, outbox_ids, attempts)
	SELECT 0, array_agg(o.endpoint_hash), array_agg(o.id), array_agg(o.attempts + 1) FROM osmtalk.outbox o JOIN osmtalk.events e ON e.id = o.event_id
	 WHERE e.org_id = org AND e.type = 'webhook.test';
	INSERT INTO osmtalk.waiting (outbox_id, due_at, endpoint_id)
	SELECT o.id, o.due_at, osmtalk.endpoint_id(org, format('https://%s.example/hook', org)) FROM osmtalk.outbox o JOIN osmtalk.events e ON e.id = o.event_id
	 WHERE e.org_id = org AND e.type = 'webhook.test';
	PERFORM osmtalk.add_to_counters(ARRAY[osmtalk.endpoint_id(org, format('https://%s.example/hook', org))], '{1}', '{1}', '{0}', '{0}', '{1}', ARRAY['{1,0,0,0,0,0,0,0,0,0,0,0,0,0,0}']);
END
$$;
SELECT pg_temp.furnish('mine', '+4930111111');
SELECT pg_temp.furnish('foreign', '+4930222222');
SELECT osmtalk.enable_tenant_isolation();

-- Columns that a role may read of a table or view, as SQL; null if none.
CREATE FUNCTION pg_temp.readable(who name, relation regclass) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
	 WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(who, relation, a.attnum, 'SELECT')
$$;

-- All of it as one text, and how many rows; what is refused is an error of its own.
CREATE FUNCTION pg_temp.seen(relation regclass, columns text, OUT content text, OUT n bigint) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT string_agg(r::text, E''\n''), count(*) FROM (SELECT %s FROM %s) r', columns, relation) INTO content, n;
END
$$;

-- What an organisation's session gets of a command: state and message.
CREATE FUNCTION pg_temp.outcome(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
	rows bigint;
	state text;
	message text;
BEGIN
	BEGIN
		EXECUTE command;
		GET DIAGNOSTICS rows = ROW_COUNT;
		RAISE EXCEPTION USING ERRCODE = 'P0999';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		state := SQLSTATE;
		message := SQLERRM;
	END;
	RETURN CASE state WHEN 'P0999' THEN rows || ' rows' ELSE concat_ws(' ', state, message, nullif(detail, ''), nullif(hint, '')) END;
END
$$;

CREATE TEMPORARY TABLE relations AS
	SELECT c.oid::regclass AS name, pg_temp.readable('osmtalk_test_tenant', c.oid) AS columns
	  FROM pg_class c WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S');
DELETE FROM relations WHERE columns IS NULL;
CREATE TEMPORARY TABLE seen (as_whom text, name regclass, content text, n bigint);
GRANT ALL ON relations, seen TO osmtalk_test_tenant, osmtalk_test_operator;
SELECT cmp_ok((SELECT count(*)::int FROM relations), '>', 15, 'tables and views of which something can be read');

SET LOCAL ROLE osmtalk_test_tenant;
SELECT is(osmtalk.current_org_id(), NULL, 'no tenant is set');
INSERT INTO seen SELECT 'nobody', r.name, s.* FROM relations r, pg_temp.seen(r.name, r.columns) s;
SET LOCAL osmtalk.org_id = 'mine';
INSERT INTO seen SELECT 'mine', r.name, s.* FROM relations r, pg_temp.seen(r.name, r.columns) s;
RESET ROLE;
SET LOCAL osmtalk.org_id = '';
INSERT INTO seen SELECT 'superuser', r.name, s.* FROM relations r, pg_temp.seen(r.name, r.columns) s;
SET LOCAL ROLE osmtalk_test_operator;
INSERT INTO seen SELECT 'operator', r.name, s.* FROM relations r, pg_temp.seen(r.name, r.columns) s;
RESET ROLE;
SELECT osmtalk.disable_tenant_isolation();
SET LOCAL ROLE osmtalk_test_tenant;
INSERT INTO seen SELECT 'unisolated', r.name, s.* FROM relations r, pg_temp.seen(r.name, r.columns) s;
RESET ROLE;
SELECT osmtalk.enable_tenant_isolation();

SELECT is_empty($$ SELECT name, content FROM seen WHERE as_whom = 'mine' AND content ~ 'foreign|\+4930222222' $$, 'nothing of the other is seen');
SELECT is_empty($$ SELECT name, content FROM seen WHERE as_whom = 'nobody' AND content ~ 'mine|foreign|\+4930' $$, 'nothing of anybody by a session that names no tenant');
-- each organisation has as many rows as the other; a view of the whole has one
SELECT is_empty($$
	SELECT m.name, m.n, s.n FROM seen m JOIN seen s ON s.name = m.name
	 WHERE m.as_whom = 'mine' AND s.as_whom = 'superuser'
	   AND m.name::text IN ('osmtalk.org_settings', 'osmtalk.agents', 'osmtalk.campaigns', 'osmtalk.leads', 'osmtalk.calls', 'osmtalk.dnc_entries',
							'osmtalk.events', 'osmtalk.outbox', 'osmtalk.delivery_attempts', 'osmtalk.endpoints', 'osmtalk.deliveries', 'osmtalk.stat_endpoint', 'osmtalk.due_leads', 'osmtalk.campaign_report')
	   AND (m.n * 2 <> s.n OR m.n = 0) $$, 'all of its own is');
SELECT is_empty($$
	SELECT m.name, m.n FROM seen m JOIN seen s ON s.name = m.name
	 WHERE m.as_whom = 'mine' AND s.as_whom = 'superuser' AND m.n = s.n
	   AND m.name::text NOT IN ('osmtalk.stale_calls', 'osmtalk.slots', 'osmtalk.paused', 'osmtalk.tenant_isolation', 'osmtalk.retained', 'osmtalk.not_adopted', 'osmtalk.worker_status') $$,
	'and as many rows as there are in all, of nothing but what is nobody''s');
SELECT is((SELECT n FROM seen WHERE as_whom = 'mine' AND name = 'osmtalk.claims'::regclass), 0::bigint, 'workers'' batches are mixed: they are not shown');
SELECT results_eq($$ SELECT name, content, n FROM seen WHERE as_whom = 'operator' AND name <> 'osmtalk.worker_status'::regclass ORDER BY name $$,
	$$ SELECT name, content, n FROM seen WHERE as_whom = 'superuser' AND name <> 'osmtalk.worker_status'::regclass ORDER BY name $$, 'a role with BYPASSRLS sees all');
SELECT results_eq($$ SELECT name, content, n FROM seen WHERE as_whom = 'unisolated' AND name::text NOT IN ('osmtalk.worker_status', 'osmtalk.tenant_isolation') ORDER BY name $$,
	$$ SELECT name, content, n FROM seen WHERE as_whom = 'superuser' AND name::text NOT IN ('osmtalk.worker_status', 'osmtalk.tenant_isolation') ORDER BY name $$, 'so does everybody after disable_tenant_isolation()');

-- figures of the whole
CREATE TEMPORARY TABLE status AS SELECT pending, in_flight, delivered, failed, last_error, last_error_at FROM osmtalk.worker_status;
SET LOCAL ROLE osmtalk_test_tenant;
SET LOCAL osmtalk.org_id = 'mine';
SELECT is((SELECT sum(pending)::int FROM osmtalk.worker_status), (SELECT count(*)::int FROM osmtalk.outbox), 'worker_status counts what waits of its own');
SELECT is((SELECT count(*)::int FROM osmtalk.worker_status WHERE (in_flight, delivered, failed, last_error, last_error_at) IS NOT DISTINCT FROM (NULL, NULL, NULL, NULL, NULL)),
	(SELECT count(*)::int FROM osmtalk.worker_status), '... and has no figures of the worker''s, nor its last error');

-- ---------------------------------------------------------------------------
-- Commands about the other's rows, and about rows that are not there: the same
-- ---------------------------------------------------------------------------
CREATE FUNCTION pg_temp.like_nothing(command text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	foreigners text := pg_temp.outcome(replace(command, '@', 'foreign'));
BEGIN
	RETURN NEXT public.is(foreigners, replace(pg_temp.outcome(replace(command, '@', 'absent')), 'absent', 'foreign'), what || ': as if it were not there');
	RETURN NEXT public.isnt(pg_temp.outcome(replace(command, '@', 'mine')), replace(foreigners, 'foreign', 'mine'), '... and its own is');
END
$$;
SELECT pg_temp.like_nothing('SELECT osmtalk.place_call(''ld3_@'')', 'place_call()');
SELECT pg_temp.like_nothing('SELECT osmtalk.requeue_lead(''ld1_@'')', 'requeue_lead()');
SELECT pg_temp.like_nothing('SELECT osmtalk.send_test_event(''@'')', 'send_test_event()');
SELECT pg_temp.like_nothing('SELECT osmtalk.rotate_webhook_secret(''@'')', 'rotate_webhook_secret()');
SELECT pg_temp.like_nothing('SELECT osmtalk.rotate_webhook_secret(''mine'', ''cmp_@'')', 'rotate_webhook_secret() of a campaign');
SELECT pg_temp.like_nothing('SELECT osmtalk.send_test_event(''mine'', ''cmp_@'')', 'send_test_event() of a campaign');
SELECT is(osmtalk.place_next_call('cmp_foreign'), NULL, 'place_next_call(): nothing is due there');
SELECT isnt((osmtalk.place_next_call('cmp_mine')).id, NULL, '... but in its own');
SELECT is(pg_temp.outcome(format('SELECT osmtalk.redeliver(%L)', 'evt_foreign')), 'P0002 there is no event "evt_foreign"', 'redeliver() of what is not there');
RESET ROLE;
CREATE TEMPORARY TABLE foreign_event AS SELECT id FROM osmtalk.events WHERE org_id = 'foreign' LIMIT 1;
GRANT SELECT ON foreign_event TO osmtalk_test_tenant;
SET LOCAL ROLE osmtalk_test_tenant;
SELECT is(pg_temp.outcome((SELECT format('SELECT osmtalk.redeliver(%L)', id) FROM foreign_event)),
	(SELECT format('P0002 there is no event "%s"', id) FROM foreign_event), '... and of the other''s');
SELECT is(pg_temp.outcome(format('SELECT osmtalk.redeliver(%L)', (SELECT id FROM osmtalk.events LIMIT 1))), '1 rows', '... and of its own');

SELECT pg_temp.like_nothing('UPDATE osmtalk.org_settings SET default_webhook_url = NULL WHERE org_id = ''@''', 'UPDATE org_settings');
SELECT pg_temp.like_nothing('UPDATE osmtalk.agents SET name = ''x'' WHERE id = ''agent_@''', 'UPDATE agents');
SELECT pg_temp.like_nothing('UPDATE osmtalk.campaigns SET name = ''x'' WHERE id = ''cmp_@''', 'UPDATE campaigns');
SELECT pg_temp.like_nothing('UPDATE osmtalk.leads SET next_attempt_at = now() WHERE id = ''ld3_@''', 'UPDATE leads');
SELECT pg_temp.like_nothing('UPDATE osmtalk.calls SET ended_at = now() WHERE id = ''call2_@''', 'UPDATE calls');
SELECT pg_temp.like_nothing('UPDATE osmtalk.dnc_entries SET reason = ''x'' WHERE org_id = ''@''', 'UPDATE dnc_entries');
SELECT pg_temp.like_nothing('DELETE FROM osmtalk.calls WHERE id = ''call2_@''', 'DELETE calls');
SELECT pg_temp.like_nothing('DELETE FROM osmtalk.leads WHERE id = ''ld4_@''', 'DELETE leads');
SELECT pg_temp.like_nothing('DELETE FROM osmtalk.dnc_entries WHERE org_id = ''@''', 'DELETE dnc_entries');

CREATE FUNCTION pg_temp.is_refused(command text, what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	outcome text := pg_temp.outcome(command);
BEGIN
	RETURN NEXT public.matches(outcome, '^(42501|23514|23503) ', what || ': refused');
	RETURN NEXT public.doesnt_match(regexp_replace(outcome, '"(cmp|ld3|agent)_foreign"|=\((cmp|ld3|agent)_foreign\)', '', 'g'), 'foreign|4930222222', '... with nothing but what the command said');
END
$$;
SELECT pg_temp.is_refused('INSERT INTO osmtalk.org_settings (org_id) VALUES (''another'')', 'INSERT org_settings');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.agents (org_id) VALUES (''another'')', 'INSERT agents');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.campaigns (org_id, name) VALUES (''another'', ''x'')', 'INSERT campaigns');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.campaigns (org_id, agent_id, name) VALUES (''mine'', ''agent_foreign'', ''x'')', 'INSERT campaigns with the other''s agent');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES (''cmp_foreign'', ''+493011111'')', 'INSERT leads');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.calls (lead_id) VALUES (''ld3_foreign'')', 'INSERT calls');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.calls (org_id, lead_id) VALUES (''mine'', ''ld3_foreign'')', 'INSERT calls of the other''s lead');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.calls (org_id, agent_id) VALUES (''mine'', ''agent_foreign'')', 'INSERT calls of the other''s agent');
SELECT pg_temp.is_refused('INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES (''another'', ''+4930222333'')', 'INSERT dnc_entries');
SELECT pg_temp.is_refused('UPDATE osmtalk.leads SET campaign_id = ''cmp_foreign'' WHERE id = ''ld4_mine''', 'a lead moved to the other''s campaign');
SELECT pg_temp.is_refused('UPDATE osmtalk.campaigns SET agent_id = ''agent_foreign'' WHERE id = ''cmp_mine''', 'a campaign given the other''s agent');
SELECT matches(pg_temp.outcome(command), '^42501 osmtalk\.\w+\(\) is for all organisations', command || ' is for nobody''s tenant')
  FROM unnest('{SELECT osmtalk.pause(),SELECT osmtalk.resume(),SELECT osmtalk.adopt()}'::text[]) command;
SELECT matches(pg_temp.outcome(command), '^42501 ', command || ' is the owner''s')
  FROM unnest('{SELECT osmtalk.enable_tenant_isolation(),SELECT osmtalk.disable_tenant_isolation(),ALTER TABLE osmtalk.calls DISABLE ROW LEVEL SECURITY}'::text[]) command;

-- ---------------------------------------------------------------------------
-- Its own work
-- ---------------------------------------------------------------------------
UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now(), analysis = '{}' WHERE id = 'call2_mine';
SELECT is((SELECT status::text FROM osmtalk.leads WHERE id = 'ld2_mine'), 'completed', 'a call of its own is decided');
SELECT is((SELECT count(*)::int FROM osmtalk.deliveries WHERE call_id = 'call2_mine' AND type = 'campaign.lead_completed'), 1, '... and has its event');
SELECT is(osmtalk.wait_until_drained('0'), false, 'events of its own wait');
RESET ROLE;
DELETE FROM osmtalk.outbox o USING osmtalk.events e WHERE e.id = o.event_id AND e.org_id = 'mine';
SET LOCAL ROLE osmtalk_test_tenant;
SELECT is(osmtalk.wait_until_drained('0'), true, 'those of the other do not count');
RESET ROLE;
SELECT is(osmtalk.wait_until_drained('0'), false, '(but for an operator)');

SELECT * FROM finish();
ROLLBACK;
