-- Bound B of the benchmark: what the server alone can do for a queue.
--
-- The least that claiming, recording an attempt and removing an event can be,
-- in tables of its own shaped like the contract's, in batches of 500: one
-- statement that claims what is due, one that records the attempts from arrays
-- (as whoever made them would), one that removes the rows; two durable commits
-- a batch.  Nothing is sent anywhere, not even to a client; no bodies are read.
-- Fixed: the worker's statements may change, these do not.
--
-- psql variable: events.  Prints the seconds it took.

SET client_min_messages = warning;
SET synchronous_commit = on;

DROP SCHEMA IF EXISTS bound_b CASCADE;
CREATE SCHEMA bound_b;
CREATE TABLE bound_b.outbox (
	id bigint PRIMARY KEY,
	event_id text NOT NULL,
	due_at timestamptz NOT NULL,
	attempts int NOT NULL DEFAULT 0,
	claimed timestamptz
) WITH (fillfactor = 50);
CREATE TABLE bound_b.attempts (
	event_id text NOT NULL,
	attempt int NOT NULL,
	url text,
	started_at timestamptz NOT NULL,
	duration_ms double precision,
	http_status int,
	error text,
	response_body text,
	PRIMARY KEY (event_id, attempt)
);
INSERT INTO bound_b.outbox (id, event_id, due_at)
SELECT i, 'evt_' || lpad(i::text, 27, '0'), now() FROM generate_series(1, :events) i;
VACUUM ANALYZE bound_b.outbox;
VACUUM ANALYZE bound_b.attempts;
CHECKPOINT;

SELECT clock_timestamp() AS started \gset

DO $$
DECLARE
	ids bigint[];
	event_ids text[];
	numbers int[];
	starts timestamptz[];
BEGIN
	LOOP
		WITH due AS (
			SELECT id FROM bound_b.outbox
			 WHERE claimed IS NULL AND due_at <= now()
			 ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED),
		taken AS (
			UPDATE bound_b.outbox o
			   SET attempts = o.attempts + 1, claimed = clock_timestamp()
			  FROM due WHERE o.id = due.id
			RETURNING o.id, o.event_id, o.attempts, o.claimed)
		SELECT array_agg(id), array_agg(event_id), array_agg(attempts), array_agg(claimed)
		  INTO ids, event_ids, numbers, starts
		  FROM taken;
		COMMIT;
		EXIT WHEN ids IS NULL;

		INSERT INTO bound_b.attempts (event_id, attempt, url, started_at, duration_ms, http_status)
		SELECT u.event_id, u.attempt, 'http://127.0.0.1:54321/hook', u.started_at, 0.75, 204
		  FROM unnest(event_ids, numbers, starts) AS u (event_id, attempt, started_at);
		DELETE FROM bound_b.outbox WHERE id = ANY (ids);
		COMMIT;
	END LOOP;
END
$$;

SELECT extract(epoch FROM clock_timestamp() - :'started') AS seconds,
	   (SELECT count(*) FROM bound_b.attempts) AS recorded,
	   (SELECT count(*) FROM bound_b.outbox) AS remaining;
DROP SCHEMA bound_b CASCADE;
