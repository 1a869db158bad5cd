/*
 * redelivery.sql
 *		Many events sent again: chosen by what became of them, at a given rate.
 *
 * A redelivery is a list of events, which the worker moves to the outbox a few
 * at a time; what is there goes the way of every other event.  Until then an
 * event stays what it is.  What became of it is counted when its outbox row
 * goes, in the same transaction.
 *
 * Sessions write redeliveries, and workers the counters, so that a transaction
 * that cancels one and is left open does not hold up the sending.
 */

-- a number of the outbox's: a sequence more is one more to restore
CREATE TABLE osmtalk.redeliveries (
	id bigint PRIMARY KEY DEFAULT nextval('osmtalk.outbox_id_seq'),
	org_id text,
	condition text NOT NULL,
	rate int NOT NULL CHECK (rate BETWEEN 1 AND 10000),
	total bigint NOT NULL DEFAULT 0,
	started_at timestamptz NOT NULL DEFAULT now(),
	by_role text NOT NULL DEFAULT session_user,
	cancelled_at timestamptz,
	resumed_at timestamptz,
	origin text NOT NULL DEFAULT osmtalk.current_origin(),
	xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON TABLE osmtalk.redeliveries IS 'Redeliveries of many events; see redeliver_matching() and the view redelivery_progress';
COMMENT ON COLUMN osmtalk.redeliveries.org_id IS 'The tenant whose session began it; null: it was bound to none';
COMMENT ON COLUMN osmtalk.redeliveries.condition IS 'By which the events were chosen';
COMMENT ON COLUMN osmtalk.redeliveries.rate IS 'Events a second, at most';
COMMENT ON COLUMN osmtalk.redeliveries.by_role IS 'Who began it';
COMMENT ON COLUMN osmtalk.redeliveries.cancelled_at IS 'Nothing is moved to the outbox since; see resume_redelivery()';
COMMENT ON COLUMN osmtalk.redeliveries.resumed_at IS 'And is again since; see resume_redelivery()';
COMMENT ON COLUMN osmtalk.redeliveries.origin IS 'current_origin() of the database in which it goes on; see adopt()';
COMMENT ON COLUMN osmtalk.redeliveries.xid IS 'The transaction that began it, which alone can add to it';

CREATE TABLE osmtalk.redelivery_events (
	redelivery_id bigint NOT NULL,
	event_id text NOT NULL,
	slot smallint NOT NULL,
	round int NOT NULL DEFAULT 0,
	PRIMARY KEY (redelivery_id, round, event_id)
);
COMMENT ON TABLE osmtalk.redelivery_events IS 'Internal: events of redeliveries that are not in the outbox yet';
COMMENT ON COLUMN osmtalk.redelivery_events.slot IS 'The event''s when it was chosen; it may be in the slot -1 since';
COMMENT ON COLUMN osmtalk.redelivery_events.round IS 'How often it was put off, because another session had locked something of it: until after all others';

CREATE TABLE osmtalk.redelivery_counters (
	redelivery_id bigint PRIMARY KEY,
	unfed bigint NOT NULL DEFAULT 0,
	done bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	already_waiting bigint NOT NULL DEFAULT 0,
	removed bigint NOT NULL DEFAULT 0,
	without_url bigint NOT NULL DEFAULT 0,
	fed_round int NOT NULL DEFAULT 0,
	fed_to text NOT NULL DEFAULT '',
	fed_at timestamptz,
	credit double precision NOT NULL DEFAULT 0,
	active_seconds double precision NOT NULL DEFAULT 0
)
-- updated many times a second: new versions find room beside the old
WITH (fillfactor = 20);
COMMENT ON TABLE osmtalk.redelivery_counters IS 'Internal: how far redeliveries are; see the view redelivery_progress';
COMMENT ON COLUMN osmtalk.redelivery_counters.unfed IS 'Events that are not in the outbox yet';
COMMENT ON COLUMN osmtalk.redelivery_counters.fed_round IS 'Events of the rounds before have been taken';
COMMENT ON COLUMN osmtalk.redelivery_counters.fed_to IS 'And of that round, events up to this id: what is dead before it is not passed again';
COMMENT ON COLUMN osmtalk.redelivery_counters.fed_at IS 'When some were taken last';
COMMENT ON COLUMN osmtalk.redelivery_counters.credit IS 'The fraction of an event by which that was too few';
COMMENT ON COLUMN osmtalk.redelivery_counters.active_seconds IS 'For how long events have been taken, pauses left out';

SELECT pg_extension_config_dump('osmtalk.redeliveries', '');
SELECT pg_extension_config_dump('osmtalk.redelivery_events', '');
SELECT pg_extension_config_dump('osmtalk.redelivery_counters', '');

/* ---- by sessions: begin, cancel, resume ---- */

CREATE FUNCTION osmtalk.check_predicate(predicate text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_check_predicate';
COMMENT ON FUNCTION osmtalk.check_predicate(text) IS
'Internal: the predicate, if it is one expression, so that in parentheses it can be nothing else; else 42601 or 22023';

CREATE FUNCTION osmtalk.start_redelivery(condition text, rate int) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	started bigint;
BEGIN
	-- those that ended long ago are forgotten
	WITH past AS (
		DELETE FROM osmtalk.redeliveries r USING osmtalk.redelivery_counters c
		 WHERE c.redelivery_id = r.id AND (c.unfed = 0 OR r.cancelled_at IS NOT NULL)
		   AND greatest(r.started_at, r.cancelled_at, c.fed_at) < now() - osmtalk.failed_retention()
		RETURNING r.id),
	dropped AS (
		DELETE FROM osmtalk.redelivery_events e USING past p WHERE e.redelivery_id = p.id)
	DELETE FROM osmtalk.redelivery_counters c USING past p WHERE c.redelivery_id = p.id;

	INSERT INTO osmtalk.redeliveries (org_id, condition, rate)
	VALUES (CASE WHEN NOT osmtalk.sees_every_org() THEN osmtalk.current_org_id() END, condition, rate)
	RETURNING id INTO started;
	INSERT INTO osmtalk.redelivery_counters (redelivery_id) VALUES (started);
	RETURN started;
END
$$;
COMMENT ON FUNCTION osmtalk.start_redelivery(text, int) IS
'Internal: begins a redelivery, without events, and returns its id; see redeliver_matching()';

CREATE FUNCTION osmtalk.add_to_redelivery(redelivery_id bigint, event_ids text[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	added bigint;
BEGIN
	-- nobody else has seen it yet
	PERFORM FROM osmtalk.redeliveries r WHERE r.id = add_to_redelivery.redelivery_id AND r.xid = pg_current_xact_id();
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the redelivery % was not begun by this transaction', redelivery_id
			USING ERRCODE = 'object_not_in_prerequisite_state';
	END IF;
	INSERT INTO osmtalk.redelivery_events (redelivery_id, event_id, slot)
	SELECT add_to_redelivery.redelivery_id, e.id, e.slot
	  FROM osmtalk.events e WHERE e.id = ANY (event_ids) AND osmtalk.sees_org(e.org_id)
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS added = ROW_COUNT;
	UPDATE osmtalk.redeliveries r SET total = r.total + added WHERE r.id = add_to_redelivery.redelivery_id;
	UPDATE osmtalk.redelivery_counters c SET unfed = c.unfed + added WHERE c.redelivery_id = add_to_redelivery.redelivery_id;
	RETURN added;
END
$$;
COMMENT ON FUNCTION osmtalk.add_to_redelivery(bigint, text[]) IS
'Internal: adds events to a redelivery that this transaction has begun, and returns how many; those of other tenants are left out';

/*
 * With the caller's rights, as the predicate is the caller's: it can do what he
 * can.  What he may not do, the two functions before do, who look at each
 * event by themselves.
 */
CREATE FUNCTION osmtalk.redeliver_matching(
	predicate text DEFAULT NULL, dry_run boolean DEFAULT true, rate int DEFAULT 100,
	since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL,
	campaign_id text DEFAULT NULL, state text DEFAULT NULL, org_id text DEFAULT NULL,
	OUT redelivery_id bigint, OUT total bigint, OUT by_state jsonb, OUT oldest timestamptz, OUT newest timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	for_real constant boolean := NOT coalesce(dry_run, true);
	condition constant text := nullif(concat_ws(' AND ',
		-- a line break ends a comment that the predicate may end with
		'(' || osmtalk.check_predicate(predicate) || E'\n)',
		'created_at >= ' || quote_literal(since), 'created_at < ' || quote_literal(until),
		'campaign_id = ' || quote_literal(campaign_id), 'state = ' || quote_literal(state),
		'org_id = ' || quote_literal(org_id)), '');
	batch record;
	n bigint;
BEGIN
	IF condition IS NULL THEN
		RAISE EXCEPTION 'nothing says which events are to be sent again'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'Give a predicate, since, until, campaign_id, state or org_id; the predicate ''true'' means all.';
	END IF;
	IF state NOT IN ('pending', 'in_flight', 'delivered', 'failed', 'skipped') THEN
		RAISE EXCEPTION 'there is no state "%"', state
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'It is one of pending, in_flight, delivered, failed and skipped.';
	END IF;
	IF rate IS NULL OR rate NOT BETWEEN 1 AND 10000 THEN
		RAISE EXCEPTION 'the rate must be from 1 to 10000 events a second'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	total := 0;
	by_state := '{}';
	FOR batch IN EXECUTE format($query$
		SELECT m.state, count(*) AS n, min(m.created_at) AS oldest, max(m.created_at) AS newest, %s AS event_ids
		  FROM (SELECT event_id, state, created_at, row_number() OVER () / 5000 AS number
				  FROM osmtalk.deliveries WHERE %s) m
		 GROUP BY m.number, m.state
		$query$, CASE WHEN for_real THEN 'array_agg(m.event_id)' ELSE 'NULL::text[]' END, condition)
	LOOP
		n := batch.n;
		IF for_real THEN
			redelivery_id := coalesce(redelivery_id, osmtalk.start_redelivery(condition, rate));
			n := osmtalk.add_to_redelivery(redelivery_id, batch.event_ids);
		END IF;
		total := total + n;
		by_state := by_state || jsonb_build_object(batch.state, coalesce((by_state ->> batch.state)::bigint, 0) + n);
		oldest := least(oldest, batch.oldest);
		newest := greatest(newest, batch.newest);
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.redeliver_matching(text, boolean, int, timestamptz, timestamptz, text, text, text) IS
'Counts the events for which a predicate over deliveries holds, evaluated with the caller''s rights, and which are of that time, campaign, state and organisation; with dry_run => false sends them again, rate a second: same ids, same bytes, attempt numbers continue. Returns what they are and, if it has begun one, the redelivery''s id, for the view redelivery_progress and cancel_redelivery()';

CREATE FUNCTION osmtalk.set_redelivery_cancelled(redelivery_id bigint, cancelled boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM osmtalk.redeliveries r WHERE r.id = set_redelivery_cancelled.redelivery_id AND osmtalk.sees_org(r.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no redelivery %', coalesce(redelivery_id::text, 'null') USING ERRCODE = 'no_data_found';
	END IF;
	PERFORM FROM osmtalk.redelivery_counters c WHERE c.redelivery_id = set_redelivery_cancelled.redelivery_id AND c.unfed = 0;
	IF FOUND THEN
		RAISE NOTICE 'all events of the redelivery % are in the outbox already, or were', redelivery_id;
		RETURN;
	END IF;
	UPDATE osmtalk.redeliveries r
	   SET cancelled_at = CASE WHEN cancelled THEN now() END,
		   resumed_at = CASE WHEN NOT cancelled THEN clock_timestamp() END
	 WHERE r.id = set_redelivery_cancelled.redelivery_id AND cancelled = (r.cancelled_at IS NULL);
END
$$;
COMMENT ON FUNCTION osmtalk.set_redelivery_cancelled(bigint, boolean) IS
'Internal: what cancel_redelivery() and resume_redelivery() have in common';

CREATE FUNCTION osmtalk.cancel_redelivery(redelivery_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM osmtalk.set_redelivery_cancelled(redelivery_id, true);
END
$$;
COMMENT ON FUNCTION osmtalk.cancel_redelivery(bigint) IS
'Once this commits, no more events of the redelivery are put in the outbox; those that are there are sent. Nothing if it is cancelled already, nor, but for a NOTICE, if all are there; unknown: P0002';

CREATE FUNCTION osmtalk.resume_redelivery(redelivery_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM osmtalk.set_redelivery_cancelled(redelivery_id, false);
END
$$;
COMMENT ON FUNCTION osmtalk.resume_redelivery(bigint) IS
'A cancelled redelivery goes on where it was, at its rate, once this commits. Nothing if it is not cancelled; unknown: P0002';

/* ---- by the worker ---- */

CREATE FUNCTION osmtalk.has_redeliveries() RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (
	SELECT FROM osmtalk.redeliveries r JOIN osmtalk.redelivery_counters c ON c.redelivery_id = r.id
	 WHERE c.unfed > 0 AND r.cancelled_at IS NULL AND r.origin = osmtalk.current_origin());
COMMENT ON FUNCTION osmtalk.has_redeliveries() IS
'Internal: whether feed_redeliveries() has anything to do';

/*
 * Moves the next n events of a redelivery to the outbox, with the care that
 * redeliver() takes.
 */
CREATE FUNCTION osmtalk.feed_redelivery(redelivery_id bigint, after_round int, after text, n bigint,
	OUT taken bigint, OUT put_off bigint, OUT was_all boolean, OUT last_round int, OUT last_id text,
	OUT already_waiting bigint, OUT removed bigint, OUT without_url bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- who waits for whoever has just called redeliver() waits until he commits: see feed_one_by_one()
SET lock_timeout = '1ms'
AS $$
DECLARE
	over record;
BEGIN
	FOR over IN
		SELECT i.slot, array_agg(i.event_id) AS event_ids
		  FROM (SELECT e.event_id, e.slot FROM osmtalk.redelivery_events e
				 WHERE e.redelivery_id = feed_redelivery.redelivery_id AND (e.round, e.event_id) > (after_round, after)
				 ORDER BY e.round, e.event_id LIMIT n) i
		 WHERE osmtalk.slot_is_over(i.slot)
		 GROUP BY i.slot
	LOOP
		PERFORM osmtalk.keep_events(over.slot, over.event_ids);
	END LOOP;

	WITH item AS MATERIALIZED (
		SELECT e.round, e.event_id, e.slot FROM osmtalk.redelivery_events e
		 WHERE e.redelivery_id = feed_redelivery.redelivery_id AND (e.round, e.event_id) > (after_round, after)
		 ORDER BY e.round, e.event_id LIMIT n),
	found AS MATERIALIZED (
		SELECT v.id, v.slot, t.url, w.id IS NOT NULL AS waits
		  FROM item i
		 CROSS JOIN LATERAL (
			SELECT e.id, e.slot, e.type, e.org_id, e.campaign_id FROM osmtalk.events e
			 -- two partitions of seventeen
			 WHERE e.id = i.event_id AND e.slot = ANY (ARRAY[i.slot, (-1)::smallint]) LIMIT 1) v
		  LEFT JOIN LATERAL osmtalk.delivery_target(v.type, v.org_id, v.campaign_id) t ON true
		  -- each looked up, however few the planner thinks there are
		  LEFT JOIN LATERAL (SELECT o.id FROM osmtalk.outbox o WHERE o.event_id = v.id OFFSET 0) w ON true),
	enqueued AS (
		INSERT INTO osmtalk.outbox (event_id, slot, endpoint_hash, attempts, redelivery_id)
		SELECT f.id, f.slot, osmtalk.endpoint_hash(f.url),
			   coalesce((SELECT max(a.attempt) FROM osmtalk.delivery_attempts a WHERE a.event_id = f.id AND a.slot = f.slot), 0),
			   feed_redelivery.redelivery_id
		  FROM found f WHERE NOT f.waits AND f.url IS NOT NULL
		ON CONFLICT ON CONSTRAINT outbox_event_id_key DO NOTHING
		RETURNING 1),
	last AS (SELECT i.round, i.event_id FROM item i ORDER BY i.round DESC, i.event_id DESC LIMIT 1),
	counted AS (
		SELECT (SELECT count(*) FROM item) AS items,
			   (SELECT count(*) FROM found) AS events,
			   (SELECT count(*) FROM found f WHERE NOT f.waits AND f.url IS NULL) AS without_url,
			   (SELECT count(*) FROM enqueued) AS enqueued)
	SELECT c.items, 0, c.items < n, l.round, l.event_id, c.events - c.without_url - c.enqueued, c.items - c.events, c.without_url
	  INTO taken, put_off, was_all, last_round, last_id, already_waiting, removed, without_url
	  FROM counted c LEFT JOIN last l ON true;
	DELETE FROM osmtalk.redelivery_events e
	 WHERE e.redelivery_id = feed_redelivery.redelivery_id
	   AND (e.round, e.event_id) > (after_round, after) AND (e.round, e.event_id) <= (last_round, last_id);
END
$$;
COMMENT ON FUNCTION osmtalk.feed_redelivery(bigint, int, text, bigint) IS
'Internal: moves the next events of a redelivery, after that one, to the outbox; says how many it has taken, whether there are no more, which was the last, and how many of them were not enqueued, and why. 55P03 if another session has locked something of one, as redeliver() does until it is committed';

/*
 * The same, for when another session has locked something of one of them: it
 * is put off until after all others, where it waits with its like.  So the
 * list is still gone through in one direction, and what has been put off once
 * counts as not taken yet.
 *
 * For as long as the worker can be spared: the rest is for the next step.
 */
CREATE FUNCTION osmtalk.feed_one_by_one(redelivery_id bigint, after_round int, after text, n bigint,
	OUT taken bigint, OUT put_off bigint, OUT was_all boolean, OUT last_round int, OUT last_id text,
	OUT already_waiting bigint, OUT removed bigint, OUT without_url bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	deadline constant timestamptz := clock_timestamp() + interval '10 ms';
	one record;
	is_locked boolean;
BEGIN
	taken := 0;
	put_off := 0;
	was_all := false;
	last_round := after_round;
	last_id := after;
	already_waiting := 0;
	removed := 0;
	without_url := 0;
	WHILE taken + put_off < n LOOP
		BEGIN
			SELECT * INTO one FROM osmtalk.feed_redelivery(redelivery_id, last_round, last_id, 1);
			is_locked := false;
		EXCEPTION WHEN lock_not_available THEN
			is_locked := true;
		END;
		IF is_locked THEN
			SELECT e.round, e.event_id INTO last_round, last_id FROM osmtalk.redelivery_events e
			 WHERE e.redelivery_id = feed_one_by_one.redelivery_id AND (e.round, e.event_id) > (last_round, last_id)
			 ORDER BY e.round, e.event_id LIMIT 1;
			UPDATE osmtalk.redelivery_events e SET round = e.round + 1
			 WHERE e.redelivery_id = feed_one_by_one.redelivery_id AND e.round = last_round AND e.event_id = last_id;
			put_off := put_off + 1;
			EXIT WHEN last_round > 0; -- nothing new: it can wait for the next step
		ELSE
			was_all := one.was_all;
			EXIT WHEN was_all;
			taken := taken + 1;
			last_round := one.last_round;
			last_id := one.last_id;
			already_waiting := already_waiting + one.already_waiting;
			removed := removed + one.removed;
			without_url := without_url + one.without_url;
		END IF;
		EXIT WHEN clock_timestamp() > deadline;
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.feed_one_by_one(bigint, int, text, bigint) IS
'Internal: what feed_redelivery() does, for each event by itself; those of which another session has locked something are put off, some may be left for the next step';

CREATE FUNCTION osmtalk.feed_redeliveries(OUT pause double precision, OUT moved bigint, OUT complaint text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- the worker sends nothing meanwhile
SET lock_timeout = '40ms'
-- each statement takes a few rows by index; the tables may never have been analyzed
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	present constant timestamptz := clock_timestamp();
	job record;
	fed record;
	elapsed double precision;
	goes_on boolean;
	counted double precision;
	allowed double precision;
	n bigint;
	room bigint := 1000;
	one_by_one boolean;
BEGIN
	moved := 0;
	FOR job IN
		SELECT r.id, r.rate, r.resumed_at, c.unfed, c.fed_round, c.fed_to, c.fed_at, c.credit
		  FROM osmtalk.redeliveries r JOIN osmtalk.redelivery_counters c ON c.redelivery_id = r.id
		 WHERE c.unfed > 0 AND r.cancelled_at IS NULL AND r.origin = osmtalk.current_origin()
		 ORDER BY r.id
	LOOP
		-- often enough that they come evenly; less often for those that somebody may still have locked
		pause := least(pause, CASE WHEN job.fed_round > 0 THEN 500 ELSE greatest(least(1000.0 / job.rate, 200), 50) END);
		-- A late step is made up for, half a second of it.  Not so a longer absence:
		-- it has just begun, the worker was away, it was cancelled, the clock was set.
		elapsed := extract(epoch FROM present - job.fed_at);
		goes_on := coalesce(elapsed BETWEEN 0 AND greatest(1, 3.0 / job.rate), false)
			AND (job.fed_at < job.resumed_at) IS NOT TRUE;
		counted := CASE WHEN goes_on THEN least(elapsed, greatest(0.5, 3.0 / job.rate)) ELSE 0 END;
		allowed := least(job.credit + counted * job.rate, greatest(job.rate / 2.0, 3));
		n := least(floor(allowed), job.unfed, room);
		CONTINUE WHEN n = 0 AND goes_on;
		-- as redeliver() does; whoever empties a slot is not waited for
		PERFORM FROM osmtalk.slots s WHERE s.slot = -1 FOR KEY SHARE SKIP LOCKED;
		EXIT WHEN NOT FOUND;
		BEGIN
			one_by_one := job.fed_round > 0;
			IF NOT one_by_one THEN
				BEGIN
					SELECT * INTO fed FROM osmtalk.feed_redelivery(job.id, job.fed_round, job.fed_to, n);
				EXCEPTION WHEN lock_not_available THEN
					one_by_one := true;
				END;
			END IF;
			IF one_by_one THEN
				SELECT * INTO fed FROM osmtalk.feed_one_by_one(job.id, job.fed_round, job.fed_to, n);
			END IF;
			UPDATE osmtalk.redelivery_counters c
			   SET -- what somebody has taken out of the list is not waited for
				   unfed = CASE WHEN fed.was_all THEN 0 ELSE c.unfed - fed.taken END,
				   removed = c.removed + fed.removed + CASE WHEN fed.was_all THEN c.unfed - fed.taken ELSE 0 END,
				   already_waiting = c.already_waiting + fed.already_waiting,
				   without_url = c.without_url + fed.without_url,
				   fed_round = coalesce(fed.last_round, c.fed_round),
				   fed_to = coalesce(fed.last_id, c.fed_to),
				   fed_at = present,
				   credit = allowed - fed.taken - fed.put_off,
				   active_seconds = c.active_seconds + counted
			 WHERE c.redelivery_id = job.id;
			room := room - fed.taken;
			moved := moved + fed.taken;
		EXCEPTION WHEN lock_not_available THEN
			-- its row of counters, or a table: the others go on
			complaint := SQLERRM;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.feed_redeliveries() IS
'Internal: moves to the outbox as many events of redeliveries as their rates allow since the last call. Returns after how many milliseconds it is to be called again, null if none is under way; how many it has moved; and why a redelivery was left out, if one was';

/*
 * Of a copy's redeliveries, taken over or dropped by adopt().
 */
CREATE FUNCTION osmtalk.adopt_redeliveries(discard boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	mine constant text := osmtalk.current_origin();
	foreign_ids constant bigint[] := ARRAY(
		SELECT r.id FROM osmtalk.redeliveries r JOIN osmtalk.redelivery_counters c ON c.redelivery_id = r.id
		 WHERE r.origin <> mine
		   AND r.total > c.done + c.failed + c.already_waiting + c.removed + c.without_url);
BEGIN
	IF discard THEN
		DELETE FROM osmtalk.redelivery_events e WHERE e.redelivery_id = ANY (foreign_ids);
		UPDATE osmtalk.redelivery_counters c SET removed = c.removed + c.unfed, unfed = 0
		 WHERE c.redelivery_id = ANY (foreign_ids);
	END IF;
	UPDATE osmtalk.redeliveries r SET origin = mine WHERE r.id = ANY (foreign_ids);
	RETURN cardinality(foreign_ids);
END
$$;
COMMENT ON FUNCTION osmtalk.adopt_redeliveries(boolean) IS
'Internal: takes over the redeliveries that another database has begun, or drops what is left of them; returns how many';

/* ---- for people ---- */

CREATE VIEW osmtalk.redelivery_progress WITH (security_invoker = true) AS
	SELECT r.id,
		   CASE
			WHEN w.waiting <= 0 THEN 'finished'
			WHEN r.cancelled_at IS NOT NULL THEN 'cancelled'
			WHEN r.origin <> osmtalk.current_origin() THEN 'waiting for adopt()'
			WHEN h.held THEN 'held: nothing is sent'
			ELSE 'running'
		   END AS state,
		   r.total, c.done, c.failed, w.waiting,
		   c.already_waiting, c.removed, c.without_url,
		   c.unfed AS not_enqueued,
		   r.rate,
		   round(w.measured::numeric, 1) AS measured_rate,
		   CASE WHEN c.unfed > 0 AND r.cancelled_at IS NULL AND r.origin = osmtalk.current_origin() AND NOT h.held THEN
			now() + c.unfed / CASE WHEN c.active_seconds > 5 THEN w.measured ELSE r.rate END * interval '1 s'
		   END AS eta,
		   r.started_at, r.cancelled_at, r.by_role, r.org_id
	  FROM osmtalk.redeliveries r
	  JOIN osmtalk.redelivery_counters c ON c.redelivery_id = r.id
	 CROSS JOIN LATERAL (
		SELECT r.total - c.done - c.failed - c.already_waiting - c.removed - c.without_url AS waiting,
			   (r.total - c.unfed) / nullif(c.active_seconds, 0) AS measured OFFSET 0) w
	 CROSS JOIN (
		SELECT EXISTS (SELECT FROM osmtalk.paused) OR current_setting('osmtalk.enabled', true) = 'off' AS held) h;
COMMENT ON VIEW osmtalk.redelivery_progress IS
'One row per redelivery of many events: how far it is. total = done + failed + waiting + already_waiting + removed + without_url';
COMMENT ON COLUMN osmtalk.redelivery_progress.state IS 'running, cancelled (see resume_redelivery()), waiting for adopt() (begun in another database), held: nothing is sent (until resume(), or osmtalk.enabled is on), finished';
COMMENT ON COLUMN osmtalk.redelivery_progress.done IS 'Delivered';
COMMENT ON COLUMN osmtalk.redelivery_progress.failed IS 'Failed once more';
COMMENT ON COLUMN osmtalk.redelivery_progress.waiting IS 'To be sent, or without a result yet';
COMMENT ON COLUMN osmtalk.redelivery_progress.already_waiting IS 'Was in the outbox by itself when its turn came';
COMMENT ON COLUMN osmtalk.redelivery_progress.removed IS 'Retention had removed the event when its turn came, or somebody else; or adopt() has dropped it';
COMMENT ON COLUMN osmtalk.redelivery_progress.without_url IS 'There was no URL to send it to when its turn came';
COMMENT ON COLUMN osmtalk.redelivery_progress.not_enqueued IS 'Of those waiting, how many are not in the outbox yet: what cancel_redelivery() holds back';
COMMENT ON COLUMN osmtalk.redelivery_progress.measured_rate IS 'Events a second, while it was running';
COMMENT ON COLUMN osmtalk.redelivery_progress.eta IS 'When the last is put in the outbox, if it goes on like this';

CREATE POLICY tenant ON osmtalk.redeliveries USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.redelivery_events USING (EXISTS (
	SELECT FROM osmtalk.redeliveries r WHERE r.id = redelivery_id AND r.org_id = (SELECT osmtalk.current_org_id())));
CREATE POLICY tenant ON osmtalk.redelivery_counters USING (EXISTS (
	SELECT FROM osmtalk.redeliveries r WHERE r.id = redelivery_id AND r.org_id = (SELECT osmtalk.current_org_id())));
