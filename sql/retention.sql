/*
 * retention.sql
 *		How events and their attempts go when they are old.
 *
 * A slot of the ring that is over (ring.c) is gone through once, a few pages
 * at a time.  What must be kept longer moves to the slot -1: what is still to
 * be delivered, what failed, what got its result late.  Then the slot is
 * truncated: no DELETE, no dead rows, no vacuum.  The slot -1 has what is left
 * over, few rows in the ordinary case, and is cleaned by small DELETEs.
 *
 * Whoever holds a lock on a slot, a report or a dump, is not waited for, and
 * nobody waits behind us: the slot is tried again later, for days if need be.
 */

/*
 * Those of a slot's events in some of its pages that must stay (keep) and
 * those that may go (past), at most 500 of each, and the newest.
 */
CREATE FUNCTION osmtalk.look_at_slot(name text, from_block bigint, to_block bigint,
	OUT newest timestamptz, OUT keep text[], OUT past text[])
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format($look$
		SELECT max(e.created_at),
			   (array_agg(e.id) FILTER (WHERE e.keep))[:500],
			   (array_agg(e.id) FILTER (WHERE NOT e.keep))[:500]
		  FROM (SELECT e.id, e.created_at,
					   -- still to be delivered, whatever its age
					   EXISTS (SELECT FROM osmtalk.outbox o WHERE o.event_id = e.id)
					   -- else by the age of its result
					   OR coalesce(greatest(e.created_at, last.started_at)
								   > now() - CASE WHEN (CASE WHEN last.started_at IS NULL THEN e.skipped_reason IS NOT NULL
														ELSE last.http_status BETWEEN 200 AND 299 END) IS TRUE
												  THEN osmtalk.retention() ELSE osmtalk.failed_retention() END,
								   true) AS keep
				  FROM osmtalk.events_%1$s e
				  LEFT JOIN LATERAL (
					SELECT a.started_at, a.http_status FROM osmtalk.delivery_attempts_%1$s a
					 WHERE a.event_id = e.id ORDER BY a.attempt DESC LIMIT 1) last ON true
				 WHERE e.ctid >= '(%2$s,0)' AND e.ctid < '(%3$s,0)'
				OFFSET 0) e
		$look$, name, from_block, to_block)
		INTO newest, keep, past;
END
$$;
COMMENT ON FUNCTION osmtalk.look_at_slot(text, bigint, bigint) IS
'Internal: which events in these pages of a slot must stay and which may go, and the time of the newest';

/*
 * Moves events, with their attempts and outbox rows, to the slot -1; those
 * whose outbox rows another session has locked stay.  Returns how many moved.
 */
CREATE FUNCTION osmtalk.keep_events(number smallint, ids text[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	movable text[];
	moved bigint;
BEGIN
	UPDATE osmtalk.outbox o SET slot = -1
	 WHERE o.event_id IN (SELECT w.event_id FROM osmtalk.outbox w WHERE w.event_id = ANY (ids) FOR NO KEY UPDATE SKIP LOCKED);
	movable := ARRAY(SELECT unnest(ids) EXCEPT
					 SELECT o.event_id FROM osmtalk.outbox o WHERE o.event_id = ANY (ids) AND o.slot <> -1);
	-- planned with the number, so that no other partition is opened
	EXECUTE format('UPDATE osmtalk.delivery_attempts SET slot = -1 WHERE slot = %s AND event_id = ANY ($1)', number) USING movable;
	EXECUTE format('UPDATE osmtalk.events SET slot = -1 WHERE slot = %s AND id = ANY ($1)', number) USING movable;
	GET DIAGNOSTICS moved = ROW_COUNT;
	RETURN moved;
END
$$;
COMMENT ON FUNCTION osmtalk.keep_events(smallint, text[]) IS
'Internal: moves events of a slot to the slot -1; returns how many';

/*
 * Whether the outbox got rows since a snapshot that belong to a slot's events.
 */
CREATE FUNCTION osmtalk.enqueued_since(name text, seen pg_snapshot) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found boolean;
BEGIN
	-- by index from the new rows to the events; the other way round would read them all
	EXECUTE format($look$
		SELECT EXISTS (
			SELECT FROM (
				SELECT o.event_id FROM osmtalk.outbox o WHERE o.xid >= pg_snapshot_xmax($1)
				UNION ALL
				SELECT o.event_id FROM osmtalk.outbox o WHERE o.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1)))
				OFFSET 0) o,
			LATERAL (SELECT FROM osmtalk.events_%1$s e WHERE e.id = o.event_id OFFSET 0) e)
		$look$, name) INTO found USING seen;
	RETURN found;
END
$$;
COMMENT ON FUNCTION osmtalk.enqueued_since(text, pg_snapshot) IS
'Internal: whether events of a slot were put in the outbox since';

/*
 * One step towards emptying a slot, until the deadline or a little after.
 * Returns how much was done; 0 if it has to wait.
 */
CREATE FUNCTION osmtalk.empty_slot(number smallint, deadline timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name constant text := to_char(number, 'FM00');
	events constant regclass := format('osmtalk.events_%s', name);
	attempts constant regclass := format('osmtalk.delivery_attempts_%s', name);
	cutoff constant timestamptz := now() - osmtalk.retention();
	pages constant bigint := 32; -- at a time: some milliseconds
	blocks bigint;
	state osmtalk.slots;
	seen_before pg_snapshot;
	newest timestamptz;
	keep text[];
	moved bigint;
	changed boolean;
	done bigint := 0;
BEGIN
	SELECT * INTO state FROM osmtalk.slots s WHERE s.slot = number;

	IF state.next_block IS NULL THEN
		-- What a look does not see because its writer has not committed must not
		-- be missed: it begins at a moment when nobody is writing there.
		BEGIN
			EXECUTE format('LOCK TABLE ONLY %s, ONLY %s IN SHARE MODE NOWAIT', events, attempts);
			RAISE EXCEPTION USING ERRCODE = 'OT000'; -- to let go again
		EXCEPTION
			WHEN lock_not_available THEN
				RETURN 0;
			WHEN SQLSTATE 'OT000' THEN
				NULL;
		END;
		EXECUTE format('SELECT 0, pg_current_snapshot(), pg_relation_size($1) + pg_relation_size($2), max(e.id) FROM %s e', events)
		   INTO state.next_block, state.seen, state.seen_size, state.seen_id USING events, attempts;
	END IF;

	blocks := pg_relation_size(events) / current_setting('block_size')::bigint;
	IF state.next_block = 0 THEN
		-- if there is anything too young, it is likely to be at the end
		SELECT l.newest INTO newest FROM osmtalk.look_at_slot(name, blocks - 4, blocks) l;
	END IF;
	WHILE state.next_block < blocks AND (newest IS NULL OR newest <= cutoff) LOOP
		SELECT l.newest, l.keep INTO newest, keep
		  FROM osmtalk.look_at_slot(name, state.next_block, state.next_block + pages) l;
		EXIT WHEN newest > cutoff;
		IF keep IS NOT NULL THEN
			moved := osmtalk.keep_events(number, keep);
			done := done + moved;
			-- the next step looks at these pages again, if some are left or locked
			EXIT WHEN moved < cardinality(keep) OR cardinality(keep) = 500;
		END IF;
		state.next_block := state.next_block + pages;
		done := done + pages;
		EXIT WHEN clock_timestamp() >= deadline;
	END LOOP;

	IF newest > cutoff THEN
		-- events of two rounds share the slot: not before the younger ones are old
		state.newest := newest;
		state.next_block := NULL;
	ELSIF state.next_block >= blocks THEN
		-- Nothing in it must stay.  What came meanwhile?  Asked before the lock,
		-- where it may take its time, and for the rest under the lock.
		seen_before := state.seen;
		state.seen := pg_current_snapshot();
		changed := osmtalk.enqueued_since(name, seen_before);
		IF NOT changed THEN
			BEGIN
				EXECUTE format('LOCK TABLE ONLY %s, ONLY %s IN ACCESS EXCLUSIVE MODE', events, attempts);
				EXECUTE format('SELECT pg_relation_size($1) + pg_relation_size($2) <> $3 OR coalesce(max(e.id) > $4, max(e.id) IS NOT NULL) FROM %s e', events)
				   INTO changed USING events, attempts, state.seen_size, state.seen_id;
				changed := changed OR osmtalk.enqueued_since(name, state.seen);
				IF changed THEN
					RAISE EXCEPTION USING ERRCODE = 'OT000';
				END IF;
				EXECUTE format('TRUNCATE TABLE ONLY %s, ONLY %s', events, attempts);
				state.filled_since := clock_timestamp();
				state.newest := NULL;
				state.next_block := NULL;
				done := done + 1;
			EXCEPTION
				WHEN lock_not_available THEN
					done := 0; -- another time
				WHEN SQLSTATE 'OT000' THEN
					NULL;
			END;
		END IF;
		IF changed THEN
			-- gone through once more
			state.next_block := NULL;
			done := done + 1;
		END IF;
	END IF;

	UPDATE osmtalk.slots s
	   SET (filled_since, newest, next_block, seen, seen_size, seen_id)
		 = (state.filled_since, state.newest, state.next_block, state.seen, state.seen_size, state.seen_id)
	 WHERE s.slot = number;
	RETURN done;
END
$$;
COMMENT ON FUNCTION osmtalk.empty_slot(smallint, timestamptz) IS
'Internal: one step towards emptying a slot of the ring; returns how much was done, 0 if it has to wait';

/*
 * One step of a walk through the slot -1, which removes what need not be kept
 * any longer.  It walks thirty times in a retention.
 */
CREATE FUNCTION osmtalk.clean_kept(deadline timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pages constant bigint := 32;
	blocks constant bigint := pg_relation_size('osmtalk.events_kept') / current_setting('block_size')::bigint;
	state osmtalk.slots;
	past text[];
	done bigint := 0;
BEGIN
	SELECT * INTO state FROM osmtalk.slots s WHERE s.slot = -1;
	IF state.next_block IS NULL AND (blocks = 0 OR state.filled_since > now() - osmtalk.retention() / 30) THEN
		RETURN 0;
	END IF;
	state.next_block := coalesce(state.next_block, 0);
	WHILE state.next_block < blocks LOOP
		SELECT l.past INTO past FROM osmtalk.look_at_slot('kept', state.next_block, state.next_block + pages) l;
		IF past IS NOT NULL THEN
			DELETE FROM osmtalk.delivery_attempts_kept a WHERE a.event_id = ANY (past);
			DELETE FROM osmtalk.events_kept e WHERE e.id = ANY (past);
			done := done + cardinality(past);
			EXIT;
		END IF;
		state.next_block := state.next_block + pages;
		done := done + pages;
		EXIT WHEN clock_timestamp() >= deadline;
	END LOOP;
	IF state.next_block >= blocks THEN
		state.next_block := NULL;
		state.filled_since := now();
	END IF;
	UPDATE osmtalk.slots s SET (filled_since, next_block) = (state.filled_since, state.next_block) WHERE s.slot = -1;
	RETURN done;
END
$$;
COMMENT ON FUNCTION osmtalk.clean_kept(timestamptz) IS
'Internal: one step of removing what is too old from the slot -1; returns how much was done, 0 if it has to wait';

CREATE FUNCTION osmtalk.apply_retention() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '40ms'
-- each statement takes a few rows by index; the tables may never have been analyzed
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
	-- the worker sends nothing meanwhile, and a look takes some milliseconds
	deadline constant timestamptz := clock_timestamp() + interval '3 ms';
	number smallint;
	done bigint := 0;
BEGIN
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'apply_retention() must see what other sessions commit'
			USING ERRCODE = 'invalid_transaction_state',
				  HINT = 'Call it at the isolation level READ COMMITTED.';
	END IF;
	-- who has locked one is about to remove it
	DELETE FROM osmtalk.previous_secrets p
	 WHERE p.id IN (SELECT o.id FROM osmtalk.previous_secrets o WHERE o.valid_until <= now() FOR UPDATE SKIP LOCKED);
	GET DIAGNOSTICS done = ROW_COUNT;
	IF osmtalk.retention() IS NULL THEN
		RETURN done;
	END IF;
	done := done + osmtalk.forget_outcomes();
	-- one at a time, and none while a redelivery is under way, whose outbox row cannot be seen yet
	PERFORM FROM osmtalk.slots s WHERE s.slot = -1 FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN done;
	END IF;
	FOR number IN
		SELECT s.slot FROM osmtalk.slots s
		 WHERE osmtalk.slot_is_over(s.slot)
		   -- a restored dump is not complete at once
		   AND s.filled_since <= now() - osmtalk.retention()
		   AND (s.newest IS NULL OR s.newest <= now() - osmtalk.retention())
		   AND (pg_relation_size(format('osmtalk.events_%s', to_char(s.slot, 'FM00'))) > 0
				OR pg_relation_size(format('osmtalk.delivery_attempts_%s', to_char(s.slot, 'FM00'))) > 0)
		 ORDER BY s.slot
	LOOP
		done := done + osmtalk.empty_slot(number, deadline);
		IF clock_timestamp() >= deadline THEN
			RETURN done;
		END IF;
	END LOOP;
	RETURN done + osmtalk.clean_kept(deadline);
END
$$;
COMMENT ON FUNCTION osmtalk.apply_retention() IS
'Does a small part of removing events older than osmtalk.retention and osmtalk.failed_retention, and secrets whose overlap is over, and says how much in units of no meaning: 0 when there is nothing to do now, or it has to wait. The worker calls it; call it in a transaction of its own';

CREATE VIEW osmtalk.retained WITH (security_invoker = true) AS
	SELECT s.slot,
		   CASE
			WHEN s.slot = -1 THEN 'kept longer'
			WHEN s.slot = osmtalk.current_slot() THEN 'current'
			WHEN z.empty THEN 'empty'
			WHEN NOT osmtalk.slot_is_over(s.slot) THEN 'filled'
			WHEN s.next_block IS NOT NULL THEN 'being emptied'
			ELSE 'over'
		   END AS state,
		   z.events AS events_bytes, z.attempts AS attempts_bytes,
		   CASE WHEN s.slot >= 0 THEN s.filled_since END AS filled_since
	  FROM osmtalk.slots s,
	LATERAL (SELECT CASE s.slot WHEN -1 THEN 'kept' ELSE to_char(s.slot, 'FM00') END AS name OFFSET 0) n,
	LATERAL (SELECT pg_total_relation_size(('osmtalk.events_' || n.name)::regclass) AS events,
					pg_total_relation_size(('osmtalk.delivery_attempts_' || n.name)::regclass) AS attempts,
					pg_relation_size(('osmtalk.events_' || n.name)::regclass)
					+ pg_relation_size(('osmtalk.delivery_attempts_' || n.name)::regclass) = 0 AS empty OFFSET 0) z;
COMMENT ON VIEW osmtalk.retained IS
'The slots that events and their attempts are kept in, with their state and size, indexes included';
COMMENT ON COLUMN osmtalk.retained.state IS
'current (new events go there), filled, over (old enough to be emptied), being emptied, empty; kept longer: what was failed, undelivered or delivered late when its slot was emptied';
COMMENT ON COLUMN osmtalk.retained.filled_since IS 'When it was last emptied, or the extension created';
