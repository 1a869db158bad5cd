--
-- The record of deliveries, as SQL sees and changes it: the states of the view
-- deliveries, redeliver(), send_test_event(), adopt(), wait_until_drained().
--
-- What the worker would write is written here by hand, in transactions that are
-- rolled back: it never sees any of it.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

INSERT INTO osmtalk.org_settings (org_id) VALUES ('deliveries'), ('deliveries2');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_dlv', 'deliveries', 'Deliveries'), ('cmp_dlv2', 'deliveries2', 'of another');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_dlv', 'cmp_dlv', '+919876543210');

-- ---------------------------------------------------------------------------
-- From event to outbox
-- ---------------------------------------------------------------------------
BEGIN;
-- no URL: recorded, not enqueued
INSERT INTO osmtalk.calls (id, lead_id, ended_at) VALUES ('call_dlv', 'ld_dlv', '2026-05-06 11:00:00Z');
SELECT e.id LIKE 'evt\_%' AS id, e.type, e.org_id, e.campaign_id, e.lead_id, e.call_id, e.created_at = now() AS created_now, e.skipped_reason, o.id IS NOT NULL AS enqueued
  FROM osmtalk.events e LEFT JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.org_id = 'deliveries';
SELECT event_id = (SELECT id FROM osmtalk.events WHERE call_id = 'call_dlv') AS event_id, type, org_id, campaign_id, lead_id, call_id, url, state, attempts,
	   http_status, error, created_at = now() AS created_now, last_attempt_at, delivered_at
  FROM osmtalk.deliveries WHERE org_id = 'deliveries';
-- with one: due at once, of this database
UPDATE osmtalk.org_settings SET default_webhook_url = 'https://org.example/hook' WHERE org_id = 'deliveries';
INSERT INTO osmtalk.calls (id, lead_id, ended_at) VALUES ('call_dlv2', 'ld_dlv', '2026-05-06 11:00:00Z');
SELECT e.skipped_reason, o.attempts, o.due_at <= now() AS due, o.origin = osmtalk.current_origin() AS of_this_database, o.endpoint_hash = osmtalk.endpoint_hash('https://org.example/') AS its_queue
  FROM osmtalk.events e LEFT JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.call_id = 'call_dlv2';
SELECT url, state, attempts, http_status, error, last_attempt_at, delivered_at FROM osmtalk.deliveries WHERE call_id = 'call_dlv2';
-- the URL that counts is that of now, until an attempt was made
UPDATE osmtalk.campaigns SET webhook_url = 'https://campaign.example/hook' WHERE id = 'cmp_dlv';
SELECT url, state FROM osmtalk.deliveries WHERE call_id = 'call_dlv2';
ROLLBACK;

-- ---------------------------------------------------------------------------
-- Queues
-- ---------------------------------------------------------------------------
-- by scheme, host and port
SELECT a, b, osmtalk.endpoint_hash(a) = osmtalk.endpoint_hash(b) AS same
  FROM (VALUES ('https://a.example/x', 'HTTPS://A.Example:443/y?z#q'), ('http://a.example', 'http://a.example:0080/'), ('http://a.example?x', 'http://a.example#y'),
			   ('https://a.example/', 'http://a.example/'), ('https://a.example/', 'https://a.example:444/'), ('https://a.example/', 'https://b.example/'),
			   ('https://[::1]/', 'https://[::1]:443/'), ('https://[::1]/', 'https://[::2]/'), ('http://a.example/:81', 'http://a.example/')) v (a, b);
SELECT osmtalk.endpoint_hash('ftp://a.example/') AS other_scheme, osmtalk.endpoint_hash('') AS nothing, osmtalk.endpoint_hash(NULL) AS no_url,
	   osmtalk.endpoint_hash('http://' || repeat('a', 100000)) IS NOT NULL AS long;
BEGIN;
-- a row that is enqueued by hand finds its own: in the statement that writes the event, too
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_queue', 'deliveries', 'c', 'http://c.example:8080/hook');
WITH e AS (INSERT INTO osmtalk.events (id, type, org_id, campaign_id, body) VALUES ('evt_queue', 'campaign.lead_completed', 'deliveries', 'cmp_queue', '{}') RETURNING id)
INSERT INTO osmtalk.outbox (event_id) SELECT id FROM e;
INSERT INTO osmtalk.outbox (event_id) VALUES ('evt_of_nowhere');
SELECT event_id, endpoint_hash = osmtalk.endpoint_hash('http://c.example:8080') AS its_queue, endpoint_hash = 0 AS none FROM osmtalk.outbox ORDER BY 1;
ROLLBACK;

-- ---------------------------------------------------------------------------
-- States
-- ---------------------------------------------------------------------------
-- The outbox row decides first, then the last attempt.
BEGIN;
UPDATE osmtalk.org_settings SET default_webhook_url = 'https://now.example/' WHERE org_id = 'deliveries';
INSERT INTO osmtalk.events (id, type, org_id, body, skipped_reason)
SELECT e, 'webhook.test', 'deliveries', '{}', CASE WHEN e LIKE '%skipped%' THEN 'no webhook URL' END
  FROM unnest('{pending,pending again,in flight,in flight again,delivered,delivered at last,failed,refused,failed after success,lost,skipped,skipped then delivered,skipped then pending}'::text[]) e;
INSERT INTO osmtalk.outbox (event_id, origin, due_at, attempts) VALUES
	('pending', '0/0', now(), 0),
	('pending again', '0/0', now() + interval '1 hour', 2),
	('in flight', '0/0', now(), 0),
	('in flight again', '0/0', now(), 1),
	('skipped then pending', '0/0', now(), 0);
-- of a batch some may be settled already: gone, or to be tried again
INSERT INTO osmtalk.claims (worker, endpoint_hashes, outbox_ids, attempts)
SELECT 0, array_agg(o.endpoint_hash), array_agg(o.id), array_agg(CASE WHEN o.event_id LIKE 'in flight%' THEN o.attempts + 1 ELSE o.attempts END)
  FROM osmtalk.outbox o WHERE o.event_id IN ('in flight', 'in flight again', 'pending again');
SELECT event_id, attempt FROM osmtalk.in_flight ORDER BY 1;
INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body) VALUES
	('pending again', 1, 'https://then.example/', '2026-05-06 11:00:00Z', 100, 500, 'HTTP 500', 'oops'),
	('pending again', 2, 'https://then.example/', '2026-05-06 12:00:00Z', 100, 503, 'HTTP 503', 'oops'),
	('in flight again', 1, 'https://then.example/', '2026-05-06 11:00:00Z', 100, 500, 'HTTP 500', NULL),
	('delivered', 1, 'https://then.example/', '2026-05-06 11:00:00Z', 250.5, 204, NULL, ''),
	('delivered at last', 1, 'https://first.example/', '2026-05-06 11:00:00Z', 100, 404, 'HTTP 404', 'x'),
	('delivered at last', 2, 'https://then.example/', '2026-05-06 12:00:00Z', 1500, 200, NULL, 'ok'),
	('delivered at last', 3, 'https://then.example/', '2026-05-06 13:00:00Z', 1500, 299, NULL, 'ok'),
	('failed', 1, 'https://then.example/', '2026-05-06 11:00:00Z', 15000, NULL, 'timed out', NULL),
	('refused', 1, NULL, '2026-05-06 11:00:00Z', 0, NULL, 'no webhook URL', NULL),
	('failed after success', 1, 'https://then.example/', '2026-05-06 11:00:00Z', 100, 200, NULL, 'ok'),
	('failed after success', 10, 'https://then.example/', '2026-05-06 12:00:00Z', 100, 300, 'HTTP 300', 'x'),
	('skipped then delivered', 1, 'https://then.example/', '2026-05-06 11:00:00Z', 100, 200, NULL, 'ok');
SELECT event_id, state, attempts, url, http_status, error, last_attempt_at, delivered_at
  FROM osmtalk.deliveries WHERE org_id = 'deliveries' ORDER BY event_id COLLATE "C";
SELECT count(*) - count(DISTINCT event_id) AS rows_too_many FROM osmtalk.deliveries;

-- ---------------------------------------------------------------------------
-- redeliver()
-- ---------------------------------------------------------------------------
-- Each into the outbox of this database, once; attempt numbers go on.
DELETE FROM osmtalk.claims;
SET client_min_messages = warning;
SELECT osmtalk.redeliver(id), osmtalk.redeliver(event_id => id) FROM osmtalk.events WHERE org_id = 'deliveries' \g /dev/null
RESET client_min_messages;
SELECT o.event_id, o.attempts, o.origin = osmtalk.current_origin() AS new, o.due_at <= now() AS due
  FROM osmtalk.outbox o JOIN osmtalk.events e ON e.id = o.event_id WHERE e.org_id = 'deliveries' ORDER BY o.event_id COLLATE "C";
SELECT DISTINCT state, count(*) FROM osmtalk.deliveries WHERE org_id = 'deliveries' GROUP BY state ORDER BY state;
SELECT body, skipped_reason, count(*) FROM osmtalk.events WHERE org_id = 'deliveries' GROUP BY 1, 2 ORDER BY 2 NULLS FIRST;
ROLLBACK;
-- skipped, and still no URL: stays skipped
BEGIN;
SELECT osmtalk.send_test_event('deliveries') AS event \gset
SELECT osmtalk.redeliver(:'event');
SELECT state, error FROM osmtalk.deliveries WHERE event_id = :'event';
-- not skipped then, no URL now: tried, so that the record says why it fails
INSERT INTO osmtalk.events (id, type, org_id, body) VALUES ('evt_dlv', 'webhook.test', 'deliveries', '{}');
SELECT state, error, url FROM osmtalk.deliveries WHERE event_id = 'evt_dlv';
SELECT osmtalk.redeliver('evt_dlv');
SELECT state, error, url FROM osmtalk.deliveries WHERE event_id = 'evt_dlv';
ROLLBACK;
\set VERBOSITY sqlstate
SELECT osmtalk.redeliver('evt_unknown');
SELECT osmtalk.redeliver(NULL);
\set VERBOSITY default
SELECT osmtalk.redeliver('evt_unknown');

-- ---------------------------------------------------------------------------
-- send_test_event()
-- ---------------------------------------------------------------------------
BEGIN;
UPDATE osmtalk.campaigns SET webhook_url = 'https://campaign.example/hook' WHERE id = 'cmp_dlv';
SELECT osmtalk.send_test_event('deliveries') AS test1, osmtalk.send_test_event('deliveries', 'cmp_dlv') AS test2,
	   osmtalk.send_test_event(campaign_id => 'cmp_dlv2', org_id => 'deliveries2') AS test3 \gset
SELECT CASE event_id WHEN :'test1' THEN 1 WHEN :'test2' THEN 2 ELSE 3 END AS n, type, org_id, campaign_id, lead_id, call_id, url, state, error
  FROM osmtalk.deliveries WHERE org_id IN ('deliveries', 'deliveries2') ORDER BY 1;
ROLLBACK;
SELECT osmtalk.send_test_event('no such organisation');
SELECT osmtalk.send_test_event('deliveries', 'no such campaign');
\set VERBOSITY sqlstate
SELECT osmtalk.send_test_event(NULL);
SELECT osmtalk.send_test_event('');
SELECT osmtalk.send_test_event('deliveries', 'cmp_dlv2');
SELECT osmtalk.send_test_event('deliveries', '');
\set VERBOSITY default

-- ---------------------------------------------------------------------------
-- adopt()
-- ---------------------------------------------------------------------------
-- What came with a copy of another database: outbox rows and undecided calls.
BEGIN;
SELECT osmtalk.adopt(discard => true) \g /dev/null
INSERT INTO osmtalk.events (id, type, org_id, body) SELECT 'evt_dlv' || i, 'webhook.test', 'deliveries', '{}' FROM generate_series(1, 4) i;
INSERT INTO osmtalk.outbox (event_id, origin, attempts, worker_deaths, xid) VALUES
	('evt_dlv1', '0/0', 0, 0, '3'),
	('evt_dlv2', '7385961234567890123/5', 3, 2, '3'),
	('evt_dlv3', osmtalk.current_origin(), 0, 1, pg_current_xact_id()),
	('evt_dlv4', '', 1, 0, '3');
INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, error) VALUES ('evt_dlv4', 7, now(), 'x');
INSERT INTO osmtalk.calls (id, org_id, placed_at, status, origin, awaiting_since) VALUES
	('call_dlv_open', 'deliveries', now(), 'queued', '0/0', NULL),
	('call_dlv_talking', 'deliveries', now(), 'in_progress', NULL, NULL),
	('call_dlv_waits', 'deliveries', now(), 'completed', '0/0', now()),
	('call_dlv_final', 'deliveries', now(), 'completed', '0/0', NULL),
	('call_dlv_mine', 'deliveries', now(), 'queued', osmtalk.current_origin(), NULL);
SELECT events_not_adopted, calls_not_adopted FROM osmtalk.worker_status;
SELECT event_id, state FROM osmtalk.deliveries WHERE org_id = 'deliveries' ORDER BY 1;
SAVEPOINT copy;
SELECT osmtalk.adopt();
SELECT event_id, origin = osmtalk.current_origin() AS mine, xid = pg_current_xact_id() AS found_at_once, attempts, worker_deaths
  FROM osmtalk.outbox WHERE event_id LIKE 'evt_dlv_' ORDER BY 1;
SELECT id, status, origin = osmtalk.current_origin() AS mine FROM osmtalk.calls WHERE id LIKE 'call_dlv_%' ORDER BY 1;
SELECT events_not_adopted, calls_not_adopted, detail FROM osmtalk.worker_status;
SELECT osmtalk.adopt();
-- dropped: nothing vanishes without a word, and redeliver() brings it back
ROLLBACK TO copy;
SELECT osmtalk.adopt(true);
SELECT event_id, origin = osmtalk.current_origin() AS mine FROM osmtalk.outbox WHERE event_id LIKE 'evt_dlv_' ORDER BY 1;
SELECT event_id, state, attempts, error FROM osmtalk.deliveries WHERE org_id = 'deliveries' ORDER BY 1;
SELECT id, origin = osmtalk.current_origin() AS mine FROM osmtalk.calls WHERE id LIKE 'call_dlv_%' ORDER BY 1;
SELECT events_not_adopted, calls_not_adopted FROM osmtalk.worker_status;
SELECT osmtalk.adopt(), osmtalk.adopt(true);
SELECT osmtalk.redeliver('evt_dlv4');
SELECT attempts, origin = osmtalk.current_origin() AS mine FROM osmtalk.outbox WHERE event_id = 'evt_dlv4';
SELECT attempt, error FROM osmtalk.delivery_attempts WHERE event_id = 'evt_dlv4' ORDER BY attempt;
-- facts of a discarded call that come after all count as usual
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_dlv_open' RETURNING status;
ROLLBACK;

-- ---------------------------------------------------------------------------
-- wait_until_drained()
-- ---------------------------------------------------------------------------
SELECT osmtalk.wait_until_drained() AS what_came_before;
BEGIN;
SELECT osmtalk.adopt(discard => true) \g /dev/null
SELECT osmtalk.wait_until_drained('0') AS nothing_at_all;
INSERT INTO osmtalk.outbox (event_id, origin, due_at) VALUES ('evt_dlv_foreign', '0/0', now()), ('evt_dlv_later', osmtalk.current_origin(), now() + interval '1 day');
SELECT osmtalk.wait_until_drained('0') AS foreign_or_later;
INSERT INTO osmtalk.outbox (event_id) VALUES ('evt_dlv_due');
SELECT osmtalk.wait_until_drained('20 ms') AS one_due, clock_timestamp() - now() < interval '20 s' AS soon;
UPDATE osmtalk.outbox SET due_at = now() + interval '1 day' WHERE event_id = 'evt_dlv_due';
INSERT INTO osmtalk.claims (worker, endpoint_hashes, outbox_ids, attempts) SELECT 0, ARRAY[endpoint_hash], ARRAY[id], '{1}' FROM osmtalk.outbox WHERE event_id = 'evt_dlv_due';
SELECT osmtalk.wait_until_drained(timeout => '-1 s') AS one_in_flight;
DELETE FROM osmtalk.outbox WHERE event_id = 'evt_dlv_due';
SELECT osmtalk.wait_until_drained() AS none;
ROLLBACK;

-- ---------------------------------------------------------------------------
-- One row for each worker, or one that says why there is none
-- ---------------------------------------------------------------------------
SELECT count(*) AS rows, count(state) AS states, bool_and(pid IS NOT NULL OR state <> 'running') AS consistent FROM osmtalk.worker_status;
