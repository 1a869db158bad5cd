--
-- health(): each check is made to find something, and finds nothing else.
-- What needs another server (not preloaded, a standby) is in 096_health.pl.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(52);

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES ('org', 'https://org.example/token', 'a secret of the organisation'), ('quiet', NULL, NULL);
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp', 'org', 'Campaign');
-- nothing is sent of what is enqueued here, for none of it is committed

CREATE FUNCTION pg_temp.of(name text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', h.status, h.message, h.fix) FROM osmtalk.health() h WHERE h.check_name = name
$$;
-- all but that check are well
CREATE FUNCTION pg_temp.others(VARIADIC names text[] DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' | ', h.check_name, h.status, h.message), E'\n') FROM osmtalk.health() h WHERE h.check_name <> ALL (names) AND h.status <> 'ok'
$$;

-- the worker is about to start
DO $$
BEGIN
	FOR i IN 1 .. 1200 LOOP
		EXIT WHEN (SELECT bool_and(s.state = 'running') FROM osmtalk.worker_slots() s);
		PERFORM pg_sleep(0.05);
	END LOOP;
END
$$;

SELECT results_eq($$ SELECT check_name FROM osmtalk.health() $$,
	'{preloaded,worker,paused,enabled,versions,limits,clock,oldest_due,endpoints,dead_events,adoption,retention,stale_calls,secrets,tenants,owner}'::text[], 'a row for each check');
SELECT is(pg_temp.others(), NULL, 'all is well after the installation');
SELECT is_empty($$ SELECT * FROM osmtalk.health() WHERE message IS NULL OR (fix IS NULL) <> (status = 'ok') $$, 'each says what it found, and what to do if it is not well');
SELECT is((SELECT max(status) FROM osmtalk.health()), 'ok', 'the worst is the greatest');
SELECT matches(pg_temp.of('versions'), '^ok \| osmtalk \d+\.\d+\.\d+, in the server as in this database; OpenSSL \S+.*; the worker sends with libcurl/\S+', 'versions of the libraries');

-- ---- the server ----

SAVEPOINT s;
SELECT osmtalk.pause();
SELECT matches(pg_temp.of('paused'), '^warn \| Sending is paused since .* by "\w+": events queue', 'a pause');
SELECT matches(pg_temp.of('paused'), '\| SELECT osmtalk\.resume\(\);$', 'and how it ends');
SELECT is(pg_temp.others('paused', 'worker'), NULL, 'nothing else');
ROLLBACK TO s;

UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'osmtalk';
SELECT matches(pg_temp.of('versions'), '^warn \| The objects in this database are of version 0\.0\.9, the library that the server has is of .* \| ALTER EXTENSION osmtalk UPDATE;$', 'old objects');
ROLLBACK TO s;

INSERT INTO osmtalk.events (type, org_id, body, created_at) VALUES ('t', 'org', '{}', now() + interval '1 hour');
SELECT matches(pg_temp.of('clock'), '^warn \| The server''s clock was set back, or was ahead: the newest event is (00:59:5\d|01:00:00) in its future', 'a clock that was set back');
SELECT is(pg_temp.others('clock'), NULL, 'nothing else');
ROLLBACK TO s;

-- ---- events ----

SELECT osmtalk.send_test_event('org');
SELECT matches(pg_temp.of('oldest_due'), '^ok \| The oldest due event has waited for \d+ s\.$', 'an event that has only just come');
UPDATE osmtalk.outbox SET due_at = now() - interval '5 min';
SELECT matches(pg_temp.of('oldest_due'), '^warn \| The event "evt_\w+" has been due for 00:05:\d\d\.', 'one that is late');
SELECT is(pg_temp.others('oldest_due'), NULL, 'nothing else');
UPDATE osmtalk.outbox SET due_at = now() - interval '20 min';
SELECT matches(pg_temp.of('oldest_due'), '^error ', 'one that is very late');
SELECT osmtalk.pause();
SELECT matches(pg_temp.of('oldest_due'), '^warn ', 'which is no error while sending is paused');
ROLLBACK TO s;

-- of many queues the first of each, and those that wait for their time; not what is due later, waits for an endpoint, or is not ours
INSERT INTO osmtalk.events (id, type, org_id, body) SELECT 'evt_' || i, 't', 'org', '{}' FROM generate_series(1, 40) i;
INSERT INTO osmtalk.outbox (id, event_id, endpoint_hash, due_at) SELECT i, 'evt_' || i, -20 + i, now() - i * interval '1 s' FROM generate_series(1, 20) i;
SELECT results_eq($$ SELECT event_id, due_at FROM osmtalk.oldest_due() $$, $$ VALUES ('evt_20', now() - interval '20 s') $$, 'the oldest of all queues');
INSERT INTO osmtalk.outbox (id, event_id, endpoint_hash, due_at) VALUES (31, 'evt_31', 77, now() + interval '1 min'), (32, 'evt_32', 77, now() - interval '40 s');
INSERT INTO osmtalk.outbox (id, event_id, endpoint_hash, due_at, origin) VALUES (33, 'evt_33', 78, now() - interval '1 hour', 'another/1');
SELECT is((SELECT event_id FROM osmtalk.oldest_due()), 'evt_32', 'not of those due later, or of another database');
INSERT INTO osmtalk.outbox (id, event_id, endpoint_hash, due_at) VALUES (34, 'evt_34', 1, now() - interval '50 s'), (35, 'evt_35', 1, now() - interval '1 hour');
INSERT INTO osmtalk.waiting (outbox_id, due_at, endpoint_id) VALUES (34, now() - interval '50 s', NULL), (35, now() - interval '1 hour', 'ep_1');
SELECT is((SELECT event_id FROM osmtalk.oldest_due()), 'evt_34', 'one whose retry is due, not one that waits for its endpoint');
DELETE FROM osmtalk.outbox;
DELETE FROM osmtalk.waiting;
SELECT results_eq($$ SELECT event_id, due_at FROM osmtalk.oldest_due() $$, $$ VALUES (NULL::text, NULL::timestamptz) $$, 'none');
ROLLBACK TO s;

UPDATE osmtalk.endpoints SET state = 'disabled', disabled_reason = 'it answered 410 Gone', consecutive_failures = 12, last_error = E'HTTP 410\u001b[31m' || chr(8238);
SELECT matches(pg_temp.of('endpoints'), '^warn \| Endpoints: 1 disabled; 0 events wait for them\. One is ep_\w+ of "org": "it answered 410 Gone", 12 failures in succession, "HTTP 410\\u001b\[31m\?"\.', 'an endpoint, with an error that cannot mislead a terminal');
SELECT is(pg_temp.others('endpoints'), NULL, 'nothing else');
UPDATE osmtalk.endpoints SET state = 'probing', next_probe_at = now() + interval '1 min', last_failure_at = now();
INSERT INTO osmtalk.waiting (outbox_id, due_at, endpoint_id) SELECT i, now(), (SELECT id FROM osmtalk.endpoints) FROM generate_series(1, 3) i;
SELECT matches(pg_temp.of('endpoints'), '^warn \| Endpoints: 1 probed; 3 events wait for them', 'one that is probed, and what waits');
UPDATE osmtalk.endpoints SET state = 'healthy', consecutive_failures = 4;
SELECT matches(pg_temp.of('endpoints'), '^ok ', 'four failures are nothing');
UPDATE osmtalk.endpoints SET consecutive_failures = 5;
SELECT matches(pg_temp.of('endpoints'), '^warn \| Endpoints: 1 failing without a retry schedule;', 'five are');
ROLLBACK TO s;

SELECT osmtalk.add_to_counters(ARRAY[osmtalk.endpoint_id('org', 'https://org.example/token'), ''], '{5,5}', '{3,3}', '{0,0}', '{2,2}', '{40,40}', ARRAY['{0,2,1,0,0,0,0,0,0,0,0,0,0,0,0}', '{0,2,1,0,0,0,0,0,0,0,0,0,0,0,0}']);
SELECT matches(pg_temp.of('dead_events'), '^warn \| Events have failed for good, the last at .*; within the hour at 1 endpoints, and 2 in all since ', 'events that died');
SELECT is(pg_temp.others('dead_events'), NULL, 'nothing else');
SELECT ok(d.last_failed_at = now() AND e.last_failed_at = now(), 'the statistics have when') FROM osmtalk.stat_delivery d, osmtalk.stat_endpoint e;
SELECT results_eq($$ SELECT b.le, b.answers FROM osmtalk.stat_delivery d, osmtalk.latency_buckets(d.latencies) b $$,
	$$ VALUES (0.001::float8, 0::bigint), (0.002, 2), (0.005, 3), (0.01, 3), (0.025, 3), (0.05, 3), (0.1, 3), (0.25, 3), (0.5, 3), (1, 3), (2.5, 3), (5, 3), (10, 3), (30, 3), ('infinity', 3) $$,
	'and a histogram as Prometheus has it');
UPDATE osmtalk.endpoint_counters SET last_failed_at = now() - interval '61 min';
SELECT matches(pg_temp.of('dead_events'), '^ok ', 'an hour later they are history');
SELECT osmtalk.reset_statistics();
SELECT is((SELECT last_failed_at FROM osmtalk.stat_delivery), NULL, 'which reset_statistics() forgets');
ROLLBACK TO s;

INSERT INTO osmtalk.events (id, type, org_id, body) VALUES ('evt_x', 't', 'org', '{}');
INSERT INTO osmtalk.outbox (event_id, origin) VALUES ('evt_x', '1/1');
SELECT matches(pg_temp.of('adoption'), '^warn \| This database is a copy: 1 events and 0 undecided calls of another .* SELECT osmtalk\.adopt\(\);', 'rows of another database');
SELECT is(pg_temp.others('adoption'), NULL, 'nothing else');
INSERT INTO osmtalk.calls (id, org_id, placed_at, status, origin) VALUES ('call_x', 'org', now(), 'in_progress', '1/1'), ('call_y', 'org', now(), 'in_progress', 'discarded');
DELETE FROM osmtalk.outbox;
SELECT matches(pg_temp.of('adoption'), '^warn \| This database is a copy: 0 events and 1 undecided calls', 'or calls of another');
INSERT INTO osmtalk.events (id, type, org_id, body) SELECT 'evt_' || i, 't', 'org', '{}' FROM generate_series(1, 9) i;
INSERT INTO osmtalk.outbox (id, event_id, endpoint_hash) SELECT i, 'evt_' || i, 7 + i % 2 FROM generate_series(1, 8) i;
INSERT INTO osmtalk.outbox (id, event_id, endpoint_hash, origin) VALUES (9, 'evt_9', 8, '1/1');
SELECT matches(pg_temp.of('adoption'), '^warn \| This database is a copy: 1 events and 1 undecided calls', 'also at the end of a queue');
ROLLBACK TO s;

SET LOCAL client_min_messages = error;
INSERT INTO osmtalk.calls (id, org_id) VALUES ('call_open', 'org');
SELECT matches(pg_temp.of('stale_calls'), '^ok \| No call is open for over an hour\.$', 'a call that was placed just now');
SET LOCAL session_replication_role = replica;
UPDATE osmtalk.calls SET placed_at = now() - interval '61 min' WHERE id = 'call_open';
SET LOCAL session_replication_role = origin;
SELECT matches(pg_temp.of('stale_calls'), '^warn \| 1 calls were placed over an hour ago, .* \| SELECT \* FROM osmtalk\.stale_calls;', 'one that nobody has ended');
SELECT is(pg_temp.others('stale_calls'), NULL, 'nothing else');
ROLLBACK TO s;

-- ---- configuration ----

SET LOCAL client_min_messages = error;
UPDATE osmtalk.org_settings SET webhook_secret = 'short' WHERE org_id = 'org';
SELECT matches(pg_temp.of('secrets'), '^warn \| Webhook secrets: 1 shorter than 16 bytes or blank, which can be guessed\.', 'a short secret');
SELECT is(pg_temp.others('secrets'), NULL, 'nothing else');
UPDATE osmtalk.org_settings SET webhook_secret = '' WHERE org_id = 'org';
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url, webhook_secret) VALUES (E'cmp"\n2', 'org', 'Another', 'https://cmp.example/', repeat('x', 8193));
SELECT matches(pg_temp.of('secrets'), '^error \| Webhook secrets: 1 longer than 8192 bytes, with which nothing is sent, 1 missing, so that events are not signed\.', 'one that is too long, and none');
ROLLBACK TO s;

SELECT osmtalk.enable_tenant_isolation();
SELECT matches(pg_temp.of('tenants'), '^ok \| Tenants are isolated, in every table\.', 'tenants isolated');
ALTER TABLE osmtalk.leads DISABLE ROW LEVEL SECURITY;
SELECT matches(pg_temp.of('tenants'), '^error \| Tenants are isolated, but not in osmtalk\.leads\. \| SELECT osmtalk\.enable_tenant_isolation\(\);', 'and not quite');
CREATE ROLE osmtalk_test_bound IN ROLE osmtalk_monitor;
SET LOCAL ROLE osmtalk_test_bound;
SELECT results_eq($$ SELECT check_name, status::text FROM osmtalk.health() $$, $$ VALUES ('session', 'warn') $$, 'a session that is bound to one learns nothing of the others');
ROLLBACK TO s;
ALTER TABLE osmtalk.outbox ENABLE ROW LEVEL SECURITY;
SELECT matches(pg_temp.of('tenants'), '^error \| Tenants are not isolated, but for osmtalk\.outbox, where', 'nor the other way round');
ROLLBACK TO s;

ALTER VIEW osmtalk.retained OWNER TO pg_monitor;
SELECT matches(pg_temp.of('owner'), '^error \| 1 tables, views and functions in the schema do not belong to its owner, "osmtalk_owner"', 'a view of somebody else''s');
ROLLBACK TO s;
ALTER ROLE osmtalk_owner SUPERUSER;
SELECT matches(pg_temp.of('owner'), '^error \| The schema osmtalk belongs to "osmtalk_owner", a superuser', 'an owner who is a superuser');
ROLLBACK TO s;

-- ---- what cannot be checked ----

ALTER TABLE osmtalk.claims RENAME TO elsewhere;
SELECT is(pg_temp.of('clock'), 'warn | It could not be checked: "relation \"osmtalk.claims\" does not exist". | Ask again; if it stays so, remove the cause.', 'a check that fails says so');
SELECT is(pg_temp.others('clock'), NULL, 'and the others are made');
ROLLBACK TO s;

-- ---- who may ask ----

CREATE ROLE osmtalk_test_server IN ROLE pg_monitor;
CREATE FUNCTION pg_temp.asks(role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	got text;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role);
	got := (SELECT string_agg(DISTINCT h.status::text, ' ') FROM osmtalk.health() h);
	RAISE EXCEPTION USING ERRCODE = 'P0999'; -- to be oneself again
EXCEPTION
	WHEN SQLSTATE 'P0999' THEN
		RETURN got;
	WHEN insufficient_privilege THEN
		RETURN 'refused';
END
$$;
SELECT results_eq($$ SELECT pg_temp.asks(r) FROM unnest('{osmtalk_monitor,osmtalk_admin,osmtalk_test_server,osmtalk_app}'::text[]) r $$,
	'{ok,ok,ok,refused}'::text[], 'administrators, monitoring, and the server''s own, with pg_monitor');
CREATE FUNCTION pg_temp.reads(role text, command text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role);
	EXECUTE command;
	RAISE EXCEPTION USING ERRCODE = 'P0999';
EXCEPTION
	WHEN SQLSTATE 'P0999' THEN
		RETURN true;
	WHEN insufficient_privilege THEN
		RETURN false;
END
$$;
SELECT is_empty($$ SELECT c FROM unnest('{worker_status,not_adopted,in_flight,retained,stat_delivery,stat_endpoint,oldest_due()}'::text[]) c WHERE NOT pg_temp.reads('osmtalk_test_server', 'SELECT * FROM osmtalk.' || c) $$,
	'who sees how workers and endpoints do');
SELECT is_empty($$ SELECT c FROM unnest(ARRAY['* FROM osmtalk.deliveries', '* FROM osmtalk.campaign_report', '* FROM osmtalk.org_settings', '1 FROM osmtalk.leads', 'id FROM osmtalk.calls', '1 FROM osmtalk.events',
		'1 FROM osmtalk.delivery_attempts', '1 FROM osmtalk.dnc_entries', 'url FROM osmtalk.endpoints', 'osmtalk.pause()', 'osmtalk.check_secrets()', 'osmtalk.installation()', 'osmtalk.reset_statistics()']) c
	 WHERE pg_temp.reads('osmtalk_test_server', 'SELECT ' || c) $$, 'and neither what calls there were, nor a URL, and changes nothing');

SELECT * FROM finish();
ROLLBACK;
