/*
 * retries.sql
 *		When a failed event is tried again, and where events wait until then.
 *
 * Events that wait are rows of the outbox still, in a queue of their own that
 * no worker sends from: so none is in a worker's memory, and those of other
 * endpoints are not behind them.  The table "waiting" has them in the order in
 * which they are due, or for each endpoint that is left alone.
 */

/* ---- which answers, and when ---- */

CREATE FUNCTION osmtalk.default_retry_schedule() RETURNS interval[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '{1 min,5 min,30 min,2 h,12 h}'::interval[];
COMMENT ON FUNCTION osmtalk.default_retry_schedule() IS
'A schedule to set as webhook_retry_schedule: the pauses before each of five retries, the last 15 hours after the first attempt';

CREATE FUNCTION osmtalk.is_retryable(http_status int, permanent_statuses int[] DEFAULT NULL) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN http_status IS NULL THEN true
	WHEN http_status BETWEEN 200 AND 299 THEN false
	WHEN permanent_statuses IS NOT NULL THEN http_status <> ALL (permanent_statuses)
	ELSE http_status IN (408, 425, 429) OR http_status BETWEEN 500 AND 599
END;
COMMENT ON FUNCTION osmtalk.is_retryable(int, int[]) IS
'Whether an attempt that ended so is made again, if there is a schedule: after no answer (null: network, DNS, TLS, time-out), and after 408, 425, 429 and 5xx; or, if permanent statuses are given, after all but those and 2xx';

/*
 * The pause is spread by a fifth to both sides, so that those that failed
 * together do not come back together.  A receiver may ask for more
 * (Retry-After, RFC 9110 10.2.3), up to twice as much; one that is overloaded
 * has a minute at least, after all else.
 */
CREATE FUNCTION osmtalk.retry_delay(
	schedule interval[], retry int, http_status int, retry_after interval, jitter double precision) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
	-- the greatest and the least ignore nulls
	SELECT CASE WHEN p.pause IS NOT NULL THEN
		greatest(p.pause,
				 CASE WHEN retry_after IS NOT NULL THEN least(retry_after, p.pause * 2) END,
				 CASE WHEN http_status IN (429, 503) THEN interval '1 minute' END)
		END
	  FROM (SELECT schedule[array_lower(schedule, 1) + retry - 1] * (0.8 + 0.4 * jitter) AS pause) p);
COMMENT ON FUNCTION osmtalk.retry_delay(interval[], int, int, interval, double precision) IS
'How long after a failure a retry is due, the first being 1: the schedule''s pause times 0.8 to 1.2 as jitter goes from 0 to 1; what Retry-After asked for (null: nothing), from that up to twice that; at least a minute after 429 and 503. Null when the schedule is at its end';

CREATE FUNCTION osmtalk.check_retry_schedule(schedule interval[]) RETURNS interval[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF schedule <> '{}' AND (
		array_ndims(schedule) <> 1 OR cardinality(schedule) > 50 OR array_position(schedule, NULL) IS NOT NULL
		OR EXISTS (SELECT FROM unnest(schedule) s (pause)
					WHERE s.pause <= interval '0' OR s.pause > interval '30 days'
					   OR extract(year FROM s.pause) <> 0 OR abs(extract(day FROM s.pause)) > 30))
	THEN
		RAISE EXCEPTION 'invalid retry schedule'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'A retry schedule is an array of at most 50 intervals, each above zero and at most 30 days; null or empty for none.',
				  HINT = 'osmtalk.default_retry_schedule() is one.';
	END IF;
	RETURN schedule;
END
$$;
COMMENT ON FUNCTION osmtalk.check_retry_schedule(interval[]) IS
'The schedule, if it is one, null or empty; raises 22023 otherwise';

CREATE FUNCTION osmtalk.schedule_before_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID NOT IN ('osmtalk.org_settings'::regclass, 'osmtalk.campaigns'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	NEW.webhook_retry_schedule := osmtalk.check_retry_schedule(NEW.webhook_retry_schedule);
	RETURN NEW;
END
$$;
CREATE TRIGGER check_schedule BEFORE INSERT OR UPDATE OF webhook_retry_schedule ON osmtalk.org_settings
	FOR EACH ROW WHEN (NEW.webhook_retry_schedule IS NOT NULL) EXECUTE FUNCTION osmtalk.schedule_before_write();
CREATE TRIGGER check_schedule BEFORE INSERT OR UPDATE OF webhook_retry_schedule ON osmtalk.campaigns
	FOR EACH ROW WHEN (NEW.webhook_retry_schedule IS NOT NULL) EXECUTE FUNCTION osmtalk.schedule_before_write();

/*
 * A schedule is what lets an event wait for its endpoint: those that wait are
 * looked at again, by the new one.
 */
CREATE FUNCTION osmtalk.schedule_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID NOT IN ('osmtalk.org_settings'::regclass, 'osmtalk.campaigns'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	PERFORM osmtalk.look_again_at(e.id) FROM osmtalk.endpoints e WHERE e.org_id = NEW.org_id AND e.state <> 'healthy';
	RETURN NULL;
END
$$;
CREATE TRIGGER schedule_changed AFTER UPDATE OF webhook_retry_schedule ON osmtalk.org_settings
	FOR EACH ROW WHEN (NEW.webhook_retry_schedule IS DISTINCT FROM OLD.webhook_retry_schedule)
	EXECUTE FUNCTION osmtalk.schedule_changed();
CREATE TRIGGER schedule_changed AFTER UPDATE OF webhook_retry_schedule ON osmtalk.campaigns
	FOR EACH ROW WHEN (NEW.webhook_retry_schedule IS DISTINCT FROM OLD.webhook_retry_schedule)
	EXECUTE FUNCTION osmtalk.schedule_changed();

/* ---- waiting ---- */

/*
 * Not dumped: it follows from the outbox, see find_waiting().
 */
CREATE TABLE osmtalk.waiting (
	outbox_id bigint PRIMARY KEY,
	due_at timestamptz NOT NULL,
	endpoint_id text
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
CREATE INDEX waiting_due_at_idx ON osmtalk.waiting (due_at) WHERE endpoint_id IS NULL;
CREATE INDEX waiting_endpoint_id_idx ON osmtalk.waiting (endpoint_id, outbox_id) WHERE endpoint_id IS NOT NULL;
COMMENT ON TABLE osmtalk.waiting IS 'Internal: which rows of the outbox wait for their time or their endpoint; they are in the queue waiting_queue()';
COMMENT ON COLUMN osmtalk.waiting.endpoint_id IS 'The endpoint that it waits for; null: it waits for due_at';

CREATE FUNCTION osmtalk.waiting_queue() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1::bigint;
COMMENT ON FUNCTION osmtalk.waiting_queue() IS
'Internal: the endpoint_hash of the outbox rows that wait, which no worker sends';

/*
 * From here on these are the worker's, whose session makes plans that suit
 * tables of any size (see statements.c).
 */
CREATE FUNCTION osmtalk.wait_for_retry(
	endpoint_hash bigint, outbox_id bigint, attempt int, endpoint_id text, schedule interval[],
	http_status int, retry_after interval, OUT slot smallint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	retries int;
	due timestamptz;
BEGIN
	IF NOT osmtalk.is_retryable(http_status, (SELECT e.permanent_statuses FROM osmtalk.endpoints e
											 WHERE e.id = wait_for_retry.endpoint_id))
	THEN
		RETURN;
	END IF;
	SELECT o.retries INTO retries FROM osmtalk.outbox o
	 WHERE o.endpoint_hash = wait_for_retry.endpoint_hash AND o.id = wait_for_retry.outbox_id;
	due := clock_timestamp() + osmtalk.retry_delay(schedule, retries + 1, http_status, retry_after, random());
	IF due IS NULL THEN
		RETURN;
	END IF;
	UPDATE osmtalk.outbox o
	   SET endpoint_hash = osmtalk.waiting_queue(), due_at = due, attempts = wait_for_retry.attempt,
		   retries = o.retries + 1, worker_deaths = 0
	 WHERE o.endpoint_hash = wait_for_retry.endpoint_hash AND o.id = wait_for_retry.outbox_id
	RETURNING o.slot INTO slot;
	IF FOUND THEN
		INSERT INTO osmtalk.waiting (outbox_id, due_at) VALUES (wait_for_retry.outbox_id, due)
		ON CONFLICT ON CONSTRAINT waiting_pkey DO UPDATE SET due_at = due, endpoint_id = NULL;
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.wait_for_retry(bigint, bigint, int, text, interval[], int, interval) IS
'Internal: has the outbox row wait for its next attempt, that one having failed; returns the event''s slot, or null if there is to be none';

CREATE FUNCTION osmtalk.put_waiting(endpoint_hashes bigint[], outbox_ids bigint[], endpoint_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w record;
BEGIN
	FOR w IN SELECT * FROM unnest(endpoint_hashes, outbox_ids, endpoint_ids) t (endpoint_hash, outbox_id, endpoint_id) LOOP
		INSERT INTO osmtalk.waiting (outbox_id, due_at, endpoint_id)
		SELECT w.outbox_id, o.due_at, w.endpoint_id FROM osmtalk.outbox o
		 WHERE o.endpoint_hash = w.endpoint_hash AND o.id = w.outbox_id
		ON CONFLICT ON CONSTRAINT waiting_pkey DO UPDATE SET due_at = excluded.due_at, endpoint_id = excluded.endpoint_id;
		UPDATE osmtalk.outbox o SET endpoint_hash = osmtalk.waiting_queue()
		 WHERE o.endpoint_hash = w.endpoint_hash AND o.id = w.outbox_id;
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.put_waiting(bigint[], bigint[], text[]) IS
'Internal: has outbox rows wait until their endpoint is sent to again, or, if that is null, until they are due';

/*
 * One event is sent to an endpoint that is probed; the next no sooner than
 * after a pause.  False: another has been.
 */
CREATE FUNCTION osmtalk.begin_probe(endpoint_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM osmtalk.endpoints e
	  WHERE e.id = begin_probe.endpoint_id AND e.state = 'probing' AND e.next_probe_at <= now()
		FOR NO KEY UPDATE SKIP LOCKED;
	IF FOUND THEN
		UPDATE osmtalk.endpoints e
		   SET probes = e.probes + 1, next_probe_at = now() + osmtalk.probe_pause(e.probes + 1)
		 WHERE e.id = begin_probe.endpoint_id;
	END IF;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION osmtalk.begin_probe(text) IS
'Internal: takes the endpoint''s turn to be probed; false if it is not, or no more';

/*
 * A probe that was claimed and is not made, for want of a slot, or because of a
 * pause: the endpoint is as if it had not been asked.
 */
CREATE FUNCTION osmtalk.return_probe(endpoint_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM osmtalk.endpoints e WHERE e.id = return_probe.endpoint_id FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN NOT EXISTS (SELECT FROM osmtalk.endpoints e WHERE e.id = return_probe.endpoint_id);
	END IF;
	UPDATE osmtalk.endpoints e
	   SET probes = e.probes - 1, next_probe_at = now()
	 WHERE e.id = return_probe.endpoint_id AND e.state = 'probing' AND e.probes > 0;
	RETURN true;
END
$$;
COMMENT ON FUNCTION osmtalk.return_probe(text) IS
'Internal: gives back the turn that begin_probe() took, if the endpoint is probed still; false: its row is locked by another session';

/*
 * Endpoints that events wait for and need not, one after the other by the
 * index; with how many of them may go.
 */
CREATE FUNCTION osmtalk.awaited_endpoints(OUT endpoint_id text, OUT probe boolean, OUT released_to bigint) RETURNS SETOF record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	WITH RECURSIVE awaited (id) AS (
		(SELECT w.endpoint_id FROM osmtalk.waiting w WHERE w.endpoint_id IS NOT NULL ORDER BY w.endpoint_id LIMIT 1)
		UNION ALL
		SELECT n.id FROM awaited a
		 CROSS JOIN LATERAL (SELECT w.endpoint_id AS id FROM osmtalk.waiting w
							  WHERE w.endpoint_id > a.id ORDER BY w.endpoint_id LIMIT 1) n)
	SELECT a.id, CASE WHEN e.state = 'probing' AND e.next_probe_at <= now() THEN true WHEN e.state <> 'healthy' THEN false END, e.released_to
	  FROM awaited a LEFT JOIN osmtalk.endpoints e ON e.id = a.id
	 WHERE e.state IS NULL OR e.state = 'healthy' OR (e.state = 'probing' AND e.next_probe_at <= now())
		OR EXISTS (SELECT FROM osmtalk.waiting w WHERE w.endpoint_id = a.id AND w.outbox_id <= e.released_to);
END
$$;
COMMENT ON FUNCTION osmtalk.awaited_endpoints() IS
'Internal: the endpoints of which waiting events can go: all (a null probe), or those up to the outbox id released_to, and one more if it is to be probed';

-- asked once a second: each question costs an index's first page while nothing waits
CREATE FUNCTION osmtalk.has_releasable() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM osmtalk.waiting w WHERE w.endpoint_id IS NULL AND w.due_at <= clock_timestamp() LIMIT 1;
	IF FOUND THEN
		RETURN true;
	END IF;
	PERFORM FROM osmtalk.endpoints e
	  WHERE e.notice IS NOT NULL AND (e.noticed_at IS NULL OR e.noticed_at <= now() - interval '1 minute') LIMIT 1;
	IF FOUND THEN
		RETURN true;
	END IF;
	PERFORM FROM osmtalk.waiting w WHERE w.endpoint_id IS NOT NULL LIMIT 1;
	RETURN FOUND AND EXISTS (SELECT FROM osmtalk.awaited_endpoints());
END
$$;
COMMENT ON FUNCTION osmtalk.has_releasable() IS
'Internal: whether there is something for release_waiting() to do';

/*
 * Back into the queue of the endpoint that it goes to now, as if it had come
 * just now: so it is found like any other.
 */
CREATE FUNCTION osmtalk.enqueue_again(outbox_ids bigint[]) RETURNS int
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w record;
	released int := 0;
BEGIN
	FOR w IN
		SELECT i.id, o.event_id, o.slot, o.is_free
		  FROM unnest(outbox_ids) i (id)
		  LEFT JOIN LATERAL (SELECT r.event_id, r.slot, true AS is_free FROM osmtalk.outbox r
							  WHERE r.endpoint_hash = osmtalk.waiting_queue() AND r.id = i.id
								AND r.origin = osmtalk.current_origin()
								FOR UPDATE SKIP LOCKED) o ON true
	LOOP
		IF w.is_free THEN
			UPDATE osmtalk.outbox o
			   SET id = nextval('osmtalk.outbox_id_seq'), xid = pg_current_xact_id(), due_at = least(o.due_at, clock_timestamp()),
				   endpoint_hash = coalesce(
					(SELECT osmtalk.endpoint_hash(t.url) FROM osmtalk.events e, osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t
					  WHERE e.id = w.event_id AND e.slot = w.slot), 0)
			 WHERE o.endpoint_hash = osmtalk.waiting_queue() AND o.id = w.id;
			DELETE FROM osmtalk.waiting x WHERE x.outbox_id = w.id;
			released := released + 1;
		ELSE
			-- removed; or locked: then it is for later
			DELETE FROM osmtalk.waiting x
			 WHERE x.outbox_id = w.id
			   AND NOT EXISTS (SELECT FROM osmtalk.outbox r
								WHERE r.endpoint_hash = osmtalk.waiting_queue() AND r.id = w.id AND r.origin = osmtalk.current_origin());
		END IF;
	END LOOP;
	RETURN released;
END
$$;
COMMENT ON FUNCTION osmtalk.enqueue_again(bigint[]) IS
'Internal: ends the waiting of outbox rows; returns of how many';

CREATE FUNCTION osmtalk.release_waiting(most int) RETURNS int
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	awaited record;
	released int;
BEGIN
	PERFORM osmtalk.send_notices();
	released := osmtalk.enqueue_again(ARRAY(
		SELECT w.outbox_id FROM osmtalk.waiting w
		 WHERE w.endpoint_id IS NULL AND w.due_at <= clock_timestamp()
		 ORDER BY w.due_at LIMIT most));
	FOR awaited IN SELECT a.endpoint_id, a.probe, a.released_to FROM osmtalk.awaited_endpoints() a LOOP
		EXIT WHEN released >= most;
		released := released + osmtalk.enqueue_again(ARRAY(
			SELECT w.outbox_id FROM osmtalk.waiting w
			 WHERE w.endpoint_id = awaited.endpoint_id AND (awaited.probe IS NULL OR w.outbox_id <= awaited.released_to)
			 ORDER BY w.outbox_id LIMIT most - released));
		IF awaited.probe THEN
			released := released + osmtalk.enqueue_again(ARRAY(
				SELECT w.outbox_id FROM osmtalk.waiting w
				 WHERE w.endpoint_id = awaited.endpoint_id AND w.outbox_id > awaited.released_to
				 ORDER BY w.outbox_id LIMIT 1));
		END IF;
	END LOOP;
	RETURN released;
END
$$;
COMMENT ON FUNCTION osmtalk.release_waiting(int) IS
'Internal: has events go whose time has come, or whose endpoint is sent to again, about so many; returns how many';

/*
 * Rows are in the queue and not known to wait after a restore, or an adoption.
 */
CREATE FUNCTION osmtalk.find_waiting() RETURNS int
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found int;
BEGIN
	INSERT INTO osmtalk.waiting (outbox_id, due_at)
	SELECT o.id, o.due_at FROM osmtalk.outbox o
	 WHERE o.endpoint_hash = osmtalk.waiting_queue() AND o.origin = osmtalk.current_origin()
	   AND NOT EXISTS (SELECT FROM osmtalk.waiting w WHERE w.outbox_id = o.id)
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS found = ROW_COUNT;
	RETURN found;
END
$$;
COMMENT ON FUNCTION osmtalk.find_waiting() IS
'Internal: takes note of all outbox rows that are in the queue of those that wait; returns how many were not known';

/*
 * Those that wait would do so until the clock has caught up.  Not moved is the
 * time that somebody has set for an event.
 */
CREATE FUNCTION osmtalk.follow_clock(set_back_by interval) RETURNS int
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	moved int;
BEGIN
	UPDATE osmtalk.endpoints e
	   SET next_probe_at = e.next_probe_at - set_back_by, noticed_at = e.noticed_at - set_back_by
	 WHERE e.next_probe_at > now() OR e.noticed_at > now();
	UPDATE osmtalk.waiting w SET due_at = w.due_at - set_back_by
	 WHERE w.endpoint_id IS NULL AND w.due_at > now()
	   AND EXISTS (SELECT FROM osmtalk.outbox o
					WHERE o.endpoint_hash = osmtalk.waiting_queue() AND o.id = w.outbox_id AND o.retries > 0);
	GET DIAGNOSTICS moved = ROW_COUNT;
	RETURN moved;
END
$$;
COMMENT ON FUNCTION osmtalk.follow_clock(interval) IS
'Internal: the clock has been set back by so much: what was to be in a while still is; returns how many events wait less';

/* An operator may hasten a retry: UPDATE osmtalk.outbox SET due_at = now() WHERE event_id = ... */
CREATE FUNCTION osmtalk.outbox_due_at_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.outbox'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	UPDATE osmtalk.waiting w SET due_at = NEW.due_at WHERE w.outbox_id = NEW.id;
	PERFORM osmtalk.wake_for_waiting();
	RETURN NULL;
END
$$;
CREATE TRIGGER due_at_changed AFTER UPDATE OF due_at ON osmtalk.outbox
	FOR EACH ROW WHEN (OLD.endpoint_hash = 1 AND NEW.endpoint_hash = 1 AND OLD.due_at IS DISTINCT FROM NEW.due_at)
	EXECUTE FUNCTION osmtalk.outbox_due_at_changed();
