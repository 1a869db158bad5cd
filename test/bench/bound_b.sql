-- Bound B of the benchmark: what the server alone can do for a queue.
--
-- The least that claiming, recording an attempt and removing an event can be,
-- in tables of its own shaped like the contract's: batches of 500 by range of
-- id (nobody has to find them), one statement to claim, one to record and
-- remove, each a durable commit of its own.  No bodies, no HTTP.  Fixed: the
-- worker's statements may change, this one does not.
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
SELECT set_config('bound_b.events', :'events', false) \g /dev/null

DO $$
DECLARE
	batch constant bigint := 500;
	last constant bigint := current_setting('bound_b.events');
	i bigint := 1;
BEGIN
	WHILE i <= last LOOP
		UPDATE bound_b.outbox
		   SET attempts = attempts + 1, claimed = clock_timestamp()
		 WHERE id BETWEEN i AND i + batch - 1 AND due_at <= now();
		COMMIT;

		WITH done AS (
			DELETE FROM bound_b.outbox WHERE id BETWEEN i AND i + batch - 1 RETURNING event_id, attempts, claimed
		)
		INSERT INTO bound_b.attempts (event_id, attempt, url, started_at, duration_ms, http_status)
		SELECT event_id, attempts, 'http://127.0.0.1:54321/hook', claimed, 0.75, 204 FROM done;
		COMMIT;

		i := i + batch;
	END LOOP;
END
$$;

SELECT extract(epoch FROM clock_timestamp() - :'started') AS seconds,
	   (SELECT count(*) FROM bound_b.attempts) AS recorded,
	   (SELECT count(*) FROM bound_b.outbox) AS remaining;
DROP SCHEMA bound_b CASCADE;
