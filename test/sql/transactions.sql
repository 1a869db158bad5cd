--
-- An event exists if and only if the transaction that caused it commits:
-- savepoints, exceptions, two phases, COPY, MERGE, many rows at once.
--
-- Calls end here as busy, so that each is one lead event.  What is enqueued is
-- looked at before the commit, because the worker takes it right after.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

CREATE SCHEMA transactions;
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('transactions', 'http://127.0.0.1:1/nobody-listens');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_tx', 'transactions', 'Transactions');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT 'ld_tx' || i, 'cmp_tx', '+919876544' || lpad(i::text, 3, '0') FROM generate_series(1, 400) i;
INSERT INTO osmtalk.calls (id, lead_id) SELECT 'call_tx' || i, 'ld_tx' || i FROM generate_series(1, 100) i;

-- events of these calls, and which of them are in the outbox by now
CREATE FUNCTION transactions.events(VARIADIC calls int[], OUT call_id text, OUT events bigint, OUT enqueued bigint)
RETURNS SETOF record LANGUAGE sql AS $$
	SELECT 'call_tx' || i, (SELECT count(*) FROM osmtalk.events e WHERE e.call_id = 'call_tx' || i),
		   (SELECT count(*) FROM osmtalk.events e JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.call_id = 'call_tx' || i)
	  FROM unnest(calls) i
$$;
CREATE PROCEDURE transactions.finish(i int) LANGUAGE sql AS $$
	UPDATE osmtalk.calls SET ended_at = '2026-05-06 11:00:00Z', sip_status_code = 486 WHERE id = 'call_tx' || i
$$;
CREATE FUNCTION transactions.number(id text) RETURNS int LANGUAGE sql IMMUTABLE RETURN substring(id, '_tx([0-9]+)$')::int;
\set finish 'CALL transactions.finish'

-- commit
BEGIN;
:finish(1);
SELECT * FROM transactions.events(1);
COMMIT;
SELECT call_id, events FROM transactions.events(1);

-- rollback
BEGIN;
:finish(2);
SELECT * FROM transactions.events(2);
ROLLBACK;
SELECT * FROM transactions.events(2);
SELECT c.status, l.status AS lead FROM osmtalk.calls c JOIN osmtalk.leads l ON l.id = c.lead_id WHERE c.id = 'call_tx2';

-- an error at commit or before it is a rollback
BEGIN;
:finish(2);
SELECT 1 / 0;
COMMIT;
SELECT * FROM transactions.events(2);
CREATE TABLE transactions.deferred (id int PRIMARY KEY, other int REFERENCES transactions.deferred DEFERRABLE INITIALLY DEFERRED);
BEGIN;
:finish(2);
INSERT INTO transactions.deferred VALUES (1, 2);
COMMIT;
SELECT * FROM transactions.events(2);

-- savepoints: what is rolled back is gone, what is released stays
BEGIN;
:finish(3);
SAVEPOINT a;
:finish(4);
SAVEPOINT b;
:finish(5);
RELEASE b;
ROLLBACK TO a;
:finish(6);
SELECT * FROM transactions.events(3, 4, 5, 6);
SAVEPOINT c;
:finish(7);
RELEASE c;
COMMIT;
SELECT call_id, events FROM transactions.events(3, 4, 5, 6, 7);
-- decided otherwise at the second try, within one transaction
BEGIN;
SAVEPOINT a;
:finish(8);
ROLLBACK TO a;
UPDATE osmtalk.calls SET ended_at = now(), error = 'bot crashed' WHERE id = 'call_tx8';
COMMIT;
SELECT body::jsonb #>> '{lead,status}' AS status FROM osmtalk.events WHERE call_id = 'call_tx8';
-- placed, ended, and placed again after a rollback to before
BEGIN;
SAVEPOINT a;
INSERT INTO osmtalk.calls (id, lead_id, ended_at, sip_status_code) VALUES ('call_tx9b', 'ld_tx9', now(), 486);
ROLLBACK TO a;
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_tx9b', 'ld_tx9');
COMMIT;
SELECT status, attempts, call_id FROM osmtalk.leads WHERE id = 'ld_tx9';
SELECT count(*) AS events FROM osmtalk.events WHERE lead_id = 'ld_tx9';

-- exception blocks
DO $$
BEGIN
	CALL transactions.finish(10);
	BEGIN
		CALL transactions.finish(11);
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
		CALL transactions.finish(12);
	END;
	BEGIN
		CALL transactions.finish(13);
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		NULL;
	END;
END
$$;
SELECT call_id, events FROM transactions.events(10, 11, 12, 13);

-- commits and rollbacks inside a procedure
CREATE PROCEDURE transactions.batch() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 14..19 LOOP
		CALL transactions.finish(i);
		IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
	END LOOP;
END
$$;
CALL transactions.batch();
SELECT call_id, events FROM transactions.events(14, 15, 16, 17, 18, 19);

-- two phases
BEGIN;
:finish(20);
PREPARE TRANSACTION 'osmtalk_tx20';
SELECT * FROM transactions.events(20);
SELECT status FROM osmtalk.leads WHERE id = 'ld_tx20';
COMMIT PREPARED 'osmtalk_tx20';
SELECT call_id, events FROM transactions.events(20);
BEGIN;
:finish(21);
SAVEPOINT a;
:finish(22);
ROLLBACK TO a;
PREPARE TRANSACTION 'osmtalk_tx21';
ROLLBACK PREPARED 'osmtalk_tx21';
SELECT * FROM transactions.events(21, 22);
-- finished by another session than the one that prepared it
BEGIN;
:finish(23);
PREPARE TRANSACTION 'osmtalk_tx23';
\c -
COMMIT PREPARED 'osmtalk_tx23';
SELECT call_id, events FROM transactions.events(23);

-- at every isolation level, committed asynchronously or not
BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL synchronous_commit = off; :finish(24); COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE; :finish(25); COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE; :finish(26); ROLLBACK;
SELECT call_id, events FROM transactions.events(24, 25, 26);

-- many rows in one statement
BEGIN;
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE transactions.number(id) BETWEEN 30 AND 59;
SELECT count(*) AS events, count(DISTINCT e.call_id) AS calls, count(DISTINCT e.id) AS ids, count(o.event_id) AS enqueued
  FROM osmtalk.events e LEFT JOIN osmtalk.outbox o ON o.event_id = e.id WHERE transactions.number(e.call_id) BETWEEN 30 AND 59;
COMMIT;
-- again, in part
UPDATE osmtalk.calls SET ended_at = now(), error = 'x' WHERE transactions.number(id) BETWEEN 50 AND 69;
SELECT body::jsonb #>> '{lead,status}' AS status, count(*), count(DISTINCT call_id) AS calls
  FROM osmtalk.events WHERE transactions.number(call_id) BETWEEN 30 AND 69 GROUP BY 1 ORDER BY 1;
-- a statement that fails on its last row leaves nothing of the others
UPDATE osmtalk.calls SET ended_at = CASE WHEN id = 'call_tx79' THEN (1 / (length(id) - 9))::text::timestamptz ELSE now() END
 WHERE transactions.number(id) BETWEEN 70 AND 79;
SELECT count(*) AS events FROM osmtalk.events WHERE transactions.number(call_id) BETWEEN 70 AND 79;

-- joins that meet a row twice, a cursor, a writable CTE, a prepared statement
UPDATE osmtalk.calls c SET ended_at = now(), sip_status_code = 486 FROM generate_series(1, 3) WHERE c.id = 'call_tx80';
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM osmtalk.calls WHERE id = 'call_tx81' FOR UPDATE;
MOVE c;
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE CURRENT OF c;
COMMIT;
WITH finished AS (UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = 'call_tx82' RETURNING id, status)
SELECT f.status, (SELECT count(*) FROM osmtalk.events e WHERE e.call_id = f.id) AS events_seen_by_the_statement_itself FROM finished f;
PREPARE finish (text) AS UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = $1;
EXECUTE finish('call_tx83');
EXECUTE finish('call_tx83');
EXECUTE finish('call_tx84');
SELECT call_id, events FROM transactions.events(80, 81, 82, 83, 84);

-- COPY
COPY osmtalk.calls (id, lead_id, answered_at, ended_at, sip_status_code, error, analysis) FROM stdin;
call_tx101	ld_tx101	\N	2026-05-06 11:00:00Z	486	\N	\N
call_tx102	ld_tx102	2026-05-06 11:00:00Z	2026-05-06 11:01:00Z	200	\N	{"summary": "tab\\tand \\u00e9"}
call_tx103	ld_tx103	\N	\N	\N	\N	\N
call_tx104	ld_tx104	\N	2026-05-06 11:00:00Z	\N	bot crashed	\N
\.
SELECT l.id, l.status, l.attempts, l.call_id, l.outcome, (SELECT count(*) FROM osmtalk.events e WHERE e.call_id = l.call_id) AS events
  FROM osmtalk.leads l WHERE transactions.number(l.id) BETWEEN 101 AND 104 ORDER BY l.id;
COPY osmtalk.calls (id, lead_id, ended_at, sip_status_code) FROM stdin;
call_tx105	ld_tx105	2026-05-06 11:00:00Z	486
call_tx106	ld_tx106	2026-05-06 11:00:00Z	no number
\.
SELECT * FROM transactions.events(105, 106);
-- of history
COPY osmtalk.calls (id, org_id, lead_id, status, placed_at, ended_at, decided_at) FROM stdin;
call_tx107	transactions	ld_tx107	busy	2020-01-01 00:00:00Z	2020-01-01 00:01:00Z	2020-01-01 00:01:00Z
\.
SELECT * FROM transactions.events(107);
SELECT status, attempts, call_id FROM osmtalk.leads WHERE id = 'ld_tx107';

-- MERGE
MERGE INTO osmtalk.calls c
USING (SELECT 'call_tx' || i AS id, 'ld_tx' || i AS lead_id FROM generate_series(90, 119) i
		WHERE i < 95 OR i > 110) s
   ON c.id = s.id
 WHEN MATCHED THEN UPDATE SET ended_at = now(), sip_status_code = 486
 WHEN NOT MATCHED THEN INSERT (id, lead_id, ended_at, sip_status_code) VALUES (s.id, s.lead_id, now(), 600);
SELECT count(*) AS events, count(DISTINCT call_id) AS calls FROM osmtalk.events
 WHERE transactions.number(call_id) BETWEEN 90 AND 94 OR transactions.number(call_id) BETWEEN 111 AND 119;
MERGE INTO osmtalk.calls c USING (SELECT 'call_tx90' AS id) s ON c.id = s.id
 WHEN MATCHED THEN UPDATE SET ended_at = now(), error = 'x';
MERGE INTO osmtalk.calls c USING (SELECT 'call_tx90' AS id) s ON c.id = s.id WHEN MATCHED THEN DELETE;
SELECT call_id, events FROM transactions.events(90);

-- INSERT … ON CONFLICT
INSERT INTO osmtalk.calls (id, lead_id, ended_at, sip_status_code)
SELECT 'call_tx' || i, 'ld_tx' || i, now(), 486 FROM generate_series(111, 125) i ON CONFLICT DO NOTHING;
INSERT INTO osmtalk.calls AS c (id, lead_id, ended_at, sip_status_code)
SELECT 'call_tx' || i, 'ld_tx' || i, now(), 486 FROM generate_series(95, 99) i
ON CONFLICT (id) DO UPDATE SET ended_at = EXCLUDED.ended_at, sip_status_code = EXCLUDED.sip_status_code;
INSERT INTO osmtalk.calls AS c (id, lead_id, ended_at)
SELECT 'call_tx' || i, 'ld_tx' || i, now() FROM generate_series(95, 99) i
ON CONFLICT (id) DO UPDATE SET ended_at = EXCLUDED.ended_at WHERE false;
SELECT count(*) AS events, count(DISTINCT call_id) AS calls FROM osmtalk.events
 WHERE transactions.number(call_id) BETWEEN 95 AND 99 OR transactions.number(call_id) BETWEEN 111 AND 125;
SELECT attempts, count(*) FROM osmtalk.leads WHERE transactions.number(id) BETWEEN 95 AND 99 OR transactions.number(id) BETWEEN 111 AND 125 GROUP BY 1;

-- leads too: only updates into a terminal status
BEGIN;
UPDATE osmtalk.leads SET status = 'failed' WHERE transactions.number(id) BETWEEN 200 AND 219;
SELECT count(*) AS events FROM osmtalk.events WHERE transactions.number(lead_id) BETWEEN 200 AND 219;
ROLLBACK;
MERGE INTO osmtalk.leads l USING (SELECT 'ld_tx' || i AS id FROM generate_series(200, 209) i) s ON l.id = s.id
 WHEN MATCHED THEN UPDATE SET status = 'failed';
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_tx' || i, 'cmp_tx', '+919876544999' FROM generate_series(205, 214) i
ON CONFLICT (id) DO UPDATE SET status = 'busy';
COPY osmtalk.leads (id, campaign_id, phone_number, status) FROM stdin;
ld_tx_c	cmp_tx	+919876544998	completed
\.
SELECT body::jsonb #>> '{lead,status}' AS status, count(*), count(DISTINCT lead_id) AS leads FROM osmtalk.events
 WHERE transactions.number(lead_id) BETWEEN 200 AND 219 OR lead_id = 'ld_tx_c' GROUP BY 1 ORDER BY 1;

-- deleted in the transaction that finished it: the event stays
BEGIN;
:finish(27);
DELETE FROM osmtalk.leads WHERE id = 'ld_tx27';
DELETE FROM osmtalk.calls WHERE id = 'call_tx27';
COMMIT;
SELECT call_id, events FROM transactions.events(27);

-- a subscriber of a replication applies what another server decided: nothing of its own
SET session_replication_role = replica;
:finish(28);
RESET session_replication_role;
SELECT * FROM transactions.events(28);

-- The balance: one event for each lead that a call has made terminal, and no other.
SELECT count(*) AS leads_without_event FROM osmtalk.leads l
 WHERE l.campaign_id = 'cmp_tx' AND osmtalk.is_terminal(l.status) AND l.id <> 'ld_tx_c'
   AND NOT EXISTS (SELECT FROM osmtalk.events e WHERE e.lead_id = l.id);
SELECT count(*) AS events_without_outcome FROM osmtalk.events e JOIN osmtalk.leads l ON l.id = e.lead_id
 WHERE e.org_id = 'transactions' AND NOT osmtalk.is_terminal(l.status);
SELECT count(*) AS twice FROM (SELECT FROM osmtalk.events WHERE org_id = 'transactions' GROUP BY lead_id HAVING count(*) > 1) t;
SELECT count(*) AS skipped FROM osmtalk.events WHERE org_id = 'transactions' AND skipped_reason IS NOT NULL;
-- each was taken from the outbox once, or waits there
SELECT osmtalk.wait_until_drained();
SELECT count(*) AS neither_tried_nor_waiting FROM osmtalk.events e
 WHERE e.org_id = 'transactions'
   AND NOT EXISTS (SELECT FROM osmtalk.outbox o WHERE o.event_id = e.id)
   AND NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id);

SET client_min_messages = warning;
DROP SCHEMA transactions CASCADE;
