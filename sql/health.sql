/*
 * health.sql
 *		Whether all is well, in words, and what to do where it is not.
 *
 * A check is a function without arguments, check_<name>(), that returns a
 * status, a sentence and the fix.  health() asks them all; they run with
 * the owner's rights, within it alone.  A check reads a few rows by index,
 * whatever the number of events: health() is for monitoring, every minute.
 *
 * What users have written, ids and errors, is shown quoted; a fix is
 * something to copy, and has nothing of theirs in it.  No secret is shown.
 */

CREATE TYPE osmtalk.health_status AS ENUM ('ok', 'warn', 'error');
COMMENT ON TYPE osmtalk.health_status IS
'ok; warn: look at it when there is time; error: events are not sent, or late. max() is the worst';

CREATE FUNCTION osmtalk.installation(
	OUT is_preloaded boolean, OUT library text, OUT openssl text, OUT worker_library text,
	OUT enabled boolean, OUT workers int, OUT max_in_flight int, OUT most_in_flight int)
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'osmtalk_show_installation';
COMMENT ON FUNCTION osmtalk.installation() IS
'Internal: osmtalk''s library in this session (whether it is the preloaded one, its version, its OpenSSL), what this database''s worker sends with, settings, and how many requests at once a worker has descriptors for';

-- from one to the next by the index
CREATE FUNCTION osmtalk.queues() RETURNS SETOF bigint
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH RECURSIVE queue (hash) AS (
		(SELECT o.endpoint_hash FROM osmtalk.outbox o ORDER BY o.endpoint_hash LIMIT 1)
		UNION ALL
		SELECT n.hash FROM queue q
		 CROSS JOIN LATERAL (SELECT o.endpoint_hash AS hash FROM osmtalk.outbox o
							  WHERE o.endpoint_hash > q.hash ORDER BY o.endpoint_hash LIMIT 1) n)
	SELECT q.hash FROM queue q;
END;
COMMENT ON FUNCTION osmtalk.queues() IS 'Internal: which endpoint_hash there are in the outbox';

/*
 * The first of each queue, and of those that wait for their time.  What waits
 * for its endpoint is not due.
 */
CREATE FUNCTION osmtalk.oldest_due(OUT event_id text, OUT due_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT d.event_id, d.due_at FROM (
		SELECT f.event_id, f.due_at FROM osmtalk.queues() q (hash)
		 CROSS JOIN LATERAL (SELECT o.event_id, o.due_at FROM osmtalk.outbox o
							  WHERE o.endpoint_hash = q.hash AND o.origin = osmtalk.current_origin()
								AND o.due_at <= statement_timestamp()
							  ORDER BY o.id LIMIT 1) f
		 WHERE q.hash <> osmtalk.waiting_queue()
		UNION ALL
		(SELECT o.event_id, w.due_at FROM osmtalk.waiting w
		   LEFT JOIN osmtalk.outbox o ON o.endpoint_hash = osmtalk.waiting_queue() AND o.id = w.outbox_id
		  WHERE w.endpoint_id IS NULL AND w.due_at <= statement_timestamp() ORDER BY w.due_at LIMIT 1)) d
	 ORDER BY d.due_at LIMIT 1;
END;
COMMENT ON FUNCTION osmtalk.oldest_due() IS
'The event that has been due for the longest and has no result yet, and since when; nulls where nothing is due. Not of those that wait for an endpoint, or for adopt()';

/* ---- the server and the worker ---- */

CREATE FUNCTION osmtalk.check_preloaded(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN i.is_preloaded THEN 'ok' ELSE 'error' END::osmtalk.health_status,
		   CASE WHEN i.is_preloaded THEN 'The library is preloaded.'
				ELSE 'The library is not preloaded: there is no worker, and nothing is sent.' END,
		   CASE WHEN NOT i.is_preloaded THEN 'Add osmtalk to shared_preload_libraries in postgresql.conf, and restart the server.' END
	  FROM osmtalk.installation() i;
END;
COMMENT ON FUNCTION osmtalk.check_preloaded() IS 'Internal, of health(): shared_preload_libraries';

CREATE FUNCTION osmtalk.check_worker(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_paused constant boolean := EXISTS (SELECT FROM osmtalk.paused);
	wanted int;
	running int;
	worst record;
BEGIN
	SELECT max(w.workers), count(*) FILTER (WHERE w.state IN ('running', 'disabled')) INTO wanted, running
	  FROM osmtalk.worker_slots() w;
	-- the first that is not well, or else the first
	SELECT w.* INTO worst FROM osmtalk.worker_slots() w ORDER BY w.state IN ('running', 'disabled'), w.number LIMIT 1;
	status := 'ok';
	message := CASE
		WHEN worst.state LIKE 'standby%' THEN 'This server is a standby: a worker starts when it is promoted.'
		WHEN is_paused AND worst.pid IS NULL THEN 'There is no worker while sending is paused.'
		WHEN worst.state IN ('running', 'disabled') AND running >= wanted THEN
			format('%s, since %s.', CASE running WHEN 1 THEN 'The worker is running' ELSE format('%s workers are running', running) END,
				   to_char(worst.started_at, 'YYYY-MM-DD HH24:MI:SS TZ'))
	END;
	IF message IS NOT NULL THEN
		RETURN;
	END IF;

	status := 'error';
	IF worst.state IN ('running', 'disabled') OR (worst.state LIKE 'no worker: no background%' AND running > 0) THEN
		status := 'warn';
		message := format('%s of %s workers are running; those do the work of all.', running, wanted);
		fix := 'If it stays so: raise max_worker_processes and restart the server, or lower osmtalk.workers.';
	ELSIF worst.state IN ('starting', 'stopped: will be restarted', 'stopped: makes way for DDL') THEN
		status := 'warn';
		message := format('The worker is not running at this moment: %s.', worst.state);
		fix := 'None, if it passes within a minute; else see the server''s log.';
	ELSIF worst.state LIKE 'waiting: %' THEN
		message := format('Results of deliveries cannot be recorded, so nothing is sent. The last error: %s.', osmtalk.quoted(worst.last_error));
		fix := 'Remove the cause: a full disk, a read-only server, a lock on the outbox, a synchronous standby that is away. Sending goes on by itself.';
	ELSE
		message := format('There is no worker, and nothing is sent: %s.',
						  trim(BOTH '"' FROM osmtalk.quoted(regexp_replace(worst.state, '^(no worker|stopped): ', ''))))
			|| CASE WHEN worst.state LIKE '%last_error%' THEN format(' The last error: %s.', osmtalk.quoted(worst.last_error)) ELSE '' END;
		fix := CASE
			WHEN worst.state LIKE 'no worker: no background%' THEN
				format('ALTER SYSTEM SET max_worker_processes = %s; and restart the server.', current_setting('max_worker_processes')::int + 8)
			WHEN worst.state LIKE 'no worker: %' THEN
				'See the server''s log. A template database, and one that allows no connections, has no worker.'
			WHEN worst.state LIKE 'not preloaded%' THEN 'See preloaded.'
			WHEN worst.state LIKE 'stopped: cannot work%' THEN
				'Remove the cause: a read-only database, a lock on the outbox; it is tried again within seconds.'
			ELSE 'Do what it says; the server''s log has a hint.'
		END;
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.check_worker() IS 'Internal, of health(): the state of this database''s workers';

CREATE FUNCTION osmtalk.check_paused(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN p.since IS NULL THEN 'ok' ELSE 'warn' END::osmtalk.health_status,
		   CASE WHEN p.since IS NULL THEN 'Sending is not paused.'
				ELSE format('Sending is paused since %s by %s: events queue, and neither are calls timed out nor old events removed.',
							to_char(p.since, 'YYYY-MM-DD HH24:MI:SS TZ'), osmtalk.quoted(p.by_role)) END,
		   CASE WHEN p.since IS NOT NULL THEN 'SELECT osmtalk.resume();' END
	  FROM (SELECT 1) AS always LEFT JOIN osmtalk.paused p ON true;
END;
COMMENT ON FUNCTION osmtalk.check_paused() IS 'Internal, of health(): pause()';

CREATE FUNCTION osmtalk.check_enabled(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN i.enabled THEN 'ok' ELSE 'warn' END::osmtalk.health_status,
		   CASE WHEN i.enabled THEN 'osmtalk.enabled is on.'
				ELSE 'osmtalk.enabled is off: in no database of this server is anything sent, and events queue.' END,
		   CASE WHEN NOT i.enabled THEN
				'ALTER SYSTEM SET osmtalk.enabled = on; SELECT pg_reload_conf(); or, where the server''s command line has it off, start it without.' END
	  FROM osmtalk.installation() i;
END;
COMMENT ON FUNCTION osmtalk.check_enabled() IS 'Internal, of health(): osmtalk.enabled';

/*
 * The worker looks at its own build when it starts; so the state of one that
 * has none that fits is what is known of that.
 */
CREATE FUNCTION osmtalk.check_versions(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	server constant record := osmtalk.installation();
	objects text;
	installed text;
	unfit text;
BEGIN
	SELECT x.extversion INTO objects FROM pg_extension x WHERE x.extname = 'osmtalk';
	SELECT a.default_version INTO installed FROM pg_available_extensions a WHERE a.name = 'osmtalk';
	SELECT w.state INTO unfit FROM osmtalk.worker_slots() w
	 WHERE w.state ~ '^stopped: (the server was not restarted|the worker''s library|the extension is of)' LIMIT 1;
	IF objects <> server.library THEN
		status := CASE WHEN unfit IS NULL THEN 'warn' ELSE 'error' END;
		message := format('The objects in this database are of version %s, the library that the server has is of %s.', objects, server.library);
		fix := CASE WHEN installed = server.library THEN 'ALTER EXTENSION osmtalk UPDATE;' ELSE 'Restart the server; then ALTER EXTENSION osmtalk UPDATE;' END;
	ELSIF unfit IS NOT NULL THEN
		status := 'error';
		message := format('The worker''s library is not that of the server: %s.', trim(BOTH '"' FROM osmtalk.quoted(unfit)));
		fix := 'Restart the server; if that does not help, install osmtalk again before.';
	ELSIF installed IS DISTINCT FROM server.library THEN
		status := 'warn';
		message := format('Version %s is installed on this machine, and the server has %s.', coalesce(installed, 'none'), server.library);
		fix := 'Restart the server; then, in each database, ALTER EXTENSION osmtalk UPDATE;';
	ELSE
		status := 'ok';
		message := format('osmtalk %s, in the server as in this database; %s%s.', server.library, server.openssl,
						  '; the worker sends with ' || server.worker_library);
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.check_versions() IS
'Internal, of health(): osmtalk''s library, objects, worker and files; libcurl, OpenSSL';

CREATE FUNCTION osmtalk.check_limits(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN l.processes > l.most_processes OR l.share > l.most_in_flight THEN 'warn' ELSE 'ok' END::osmtalk.health_status,
		   CASE
			WHEN l.processes > l.most_processes THEN
				format('osmtalk.workers = %s and the launcher are %s processes, and max_worker_processes is %s.', l.workers, l.processes, l.most_processes)
			WHEN l.share > l.most_in_flight THEN
				format('osmtalk.max_in_flight is %s, and a worker has file descriptors for %s requests at once: more are not made.', l.max_in_flight, l.most_in_flight)
			ELSE format('Processes and descriptors are enough for %s requests at once.', l.max_in_flight)
		   END,
		   CASE
			WHEN l.processes > l.most_processes THEN
				format('ALTER SYSTEM SET max_worker_processes = %s; and restart the server; or lower osmtalk.workers.', l.most_processes + l.processes)
			WHEN l.share > l.most_in_flight THEN
				format('Let a process of the server open %s files (max_files_per_process, and ulimit -n or LimitNOFILE), and restart it; or lower osmtalk.max_in_flight.', 3 * (l.share + 20))
		   END
	  FROM (SELECT i.workers, i.max_in_flight, i.most_in_flight,
				   (i.max_in_flight + i.workers - 1) / i.workers AS share,
				   -- the launcher
				   i.workers + 1 AS processes, current_setting('max_worker_processes')::int AS most_processes
			  FROM osmtalk.installation() i) l;
END;
COMMENT ON FUNCTION osmtalk.check_limits() IS 'Internal, of health(): max_worker_processes, and descriptors for osmtalk.max_in_flight';

/*
 * A clock that is wrong by the same as ever cannot be told from here; one that
 * was set back can, while something is younger than now.
 */
CREATE FUNCTION osmtalk.check_clock(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	latest record;
	behind interval;
BEGIN
	SELECT * INTO latest FROM (
		SELECT 'the newest event' AS what, e.created_at AS at
		  FROM (SELECT max(n.id) AS id FROM osmtalk.events n) m
		  JOIN osmtalk.events e ON e.id = m.id
		UNION ALL SELECT 'the last claim', max(c.claimed_at) FROM osmtalk.claims c
		UNION ALL SELECT 'the start of the worker', max(w.started_at) FROM osmtalk.worker_slots() w
		UNION ALL SELECT 'the start of the server', pg_postmaster_start_time()
		UNION ALL SELECT 'the last change of the configuration', pg_conf_load_time()
		UNION ALL SELECT 'the last failure of an endpoint', max(p.last_failure_at) FROM osmtalk.endpoints p
				   WHERE p.consecutive_failures > 0 OR p.state <> 'healthy'
		UNION ALL SELECT 'the emptying of a slot', max(s.filled_since) FROM osmtalk.slots s) t
	 WHERE t.at IS NOT NULL ORDER BY t.at DESC LIMIT 1;
	behind := latest.at - clock_timestamp();
	IF behind > interval '5 s' THEN
		status := 'warn';
		message := format('The server''s clock was set back, or was ahead: %s is %s in its future.', latest.what, date_trunc('second', behind));
		fix := 'See whether the clock is right now (timedatectl, chronyc tracking). Events are sent all the same; their times, and when retries and retention are due, follow the clock.';
	ELSE
		status := 'ok';
		message := 'Nothing is younger than the server''s clock.';
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.check_clock() IS 'Internal, of health(): whether something is younger than the server''s clock';

/* ---- events ---- */

CREATE FUNCTION osmtalk.check_oldest_due(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE
			WHEN d.late IS NULL OR d.late < interval '1 min' THEN 'ok'
			-- somebody wants it so
			WHEN d.late < interval '15 min' OR d.is_stopped THEN 'warn'
			ELSE 'error'
		   END::osmtalk.health_status,
		   CASE
			WHEN d.late IS NULL THEN 'No event is due.'
			WHEN d.late < interval '1 min' THEN format('The oldest due event has waited for %s s.', floor(extract(epoch FROM d.late)))
			ELSE format('The event %s has been due for %s.', osmtalk.quoted(d.event_id), date_trunc('second', d.late))
		   END,
		   CASE WHEN d.late >= interval '1 min' THEN
			'If the worker is well: is it one endpoint? SELECT endpoint_id, org_id, url, attempts, delivered, consecutive_failures FROM osmtalk.stat_endpoint ORDER BY attempts DESC; If all are late: raise osmtalk.max_in_flight or osmtalk.workers.'
		   END
	  FROM (SELECT f.event_id, statement_timestamp() - f.due_at AS late,
				   EXISTS (SELECT FROM osmtalk.paused) OR NOT (SELECT i.enabled FROM osmtalk.installation() i) AS is_stopped
			  FROM (SELECT 1) AS always LEFT JOIN osmtalk.oldest_due() f ON true) d;
END;
COMMENT ON FUNCTION osmtalk.check_oldest_due() IS 'Internal, of health(): how late the oldest due event is';

CREATE FUNCTION osmtalk.check_endpoints(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- more are not counted, for it takes a while
	most constant int := 100000;
	ailing record;
	worst record;
	waiting bigint;
BEGIN
	SELECT count(*) FILTER (WHERE e.state = 'probing') AS probing,
		   count(*) FILTER (WHERE e.state = 'disabled') AS disabled,
		   -- as many as open a breaker, where there is a retry schedule
		   count(*) FILTER (WHERE e.state = 'healthy' AND e.consecutive_failures >= 5) AS failing
	  INTO ailing FROM osmtalk.endpoints e WHERE e.consecutive_failures > 0 OR e.state <> 'healthy';
	IF ailing.probing + ailing.disabled + ailing.failing = 0 THEN
		status := 'ok';
		message := 'No endpoint fails again and again.';
		RETURN;
	END IF;
	SELECT count(*) INTO waiting FROM (SELECT FROM osmtalk.waiting w WHERE w.endpoint_id IS NOT NULL LIMIT most) w;
	SELECT e.id, e.org_id, e.consecutive_failures, e.last_error, e.disabled_reason INTO worst
	  FROM osmtalk.endpoints e WHERE e.consecutive_failures > 0 OR e.state <> 'healthy'
	 ORDER BY e.state DESC, e.consecutive_failures DESC LIMIT 1;
	status := 'warn';
	message := format('Endpoints: %s; %s events wait for them. One is %s of %s: %s.',
		concat_ws(', ', nullif(ailing.disabled, 0) || ' disabled', nullif(ailing.probing, 0) || ' probed',
						nullif(ailing.failing, 0) || ' failing without a retry schedule'),
		CASE WHEN waiting = most THEN 'at least ' ELSE '' END || waiting, worst.id, osmtalk.quoted(worst.org_id),
		concat_ws(', ', osmtalk.quoted(worst.disabled_reason), worst.consecutive_failures || ' failures in succession', osmtalk.quoted(worst.last_error)));
	fix := 'SELECT endpoint_id, org_id, url, state, consecutive_failures, waiting FROM osmtalk.stat_endpoint WHERE consecutive_failures > 0 OR state <> ''healthy''; ask those whose they are; of one that is well again: SELECT osmtalk.enable_endpoint(endpoint_id);';
END
$$;
COMMENT ON FUNCTION osmtalk.check_endpoints() IS 'Internal, of health(): endpoints that are probed, disabled or fail, and what waits for them';

CREATE FUNCTION osmtalk.check_dead_events(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN f.lately > 0 THEN 'warn' ELSE 'ok' END::osmtalk.health_status,
		   CASE
			WHEN f.lately > 0 THEN
				format('Events have failed for good, the last at %s; within the hour at %s endpoints, and %s in all since %s, those that failed so when they were sent again included.',
					   to_char(f.last_failed_at, 'YYYY-MM-DD HH24:MI TZ'), f.endpoints, f.failed, to_char(f.stats_reset, 'YYYY-MM-DD HH24:MI TZ'))
			ELSE 'No event has failed for good within the hour.'
		   END,
		   CASE WHEN f.lately > 0 THEN
				'SELECT org_id, url, reason, command FROM osmtalk.dead_letters WHERE created_at > now() - interval ''2 days''; or longer, if they had waited. When the cause is gone: the command, or osmtalk.redeliver_matching() for many. This stays for an hour.'
		   END
	  FROM (SELECT count(*) FILTER (WHERE c.last_failed_at > now() - interval '1 hour') AS lately,
				   count(*) FILTER (WHERE c.last_failed_at > now() - interval '1 hour' AND c.endpoint_id <> '') AS endpoints,
				   max(c.failed) FILTER (WHERE c.endpoint_id = '') AS failed,
				   max(c.stats_reset) FILTER (WHERE c.endpoint_id = '') AS stats_reset,
				   max(c.last_failed_at) AS last_failed_at
			  FROM osmtalk.endpoint_counters c) f;
END;
COMMENT ON FUNCTION osmtalk.check_dead_events() IS 'Internal, of health(): events that failed for good within the hour';

/*
 * Rows of another database stay where they are, and ours go; so they come to
 * be the first of their queue, if they were not from the beginning.  Only if
 * there are any are they counted.
 */
CREATE FUNCTION osmtalk.check_adoption(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	foreign_events bigint := 0;
	foreign_calls bigint;
BEGIN
	PERFORM FROM osmtalk.queues() q (hash)
	  CROSS JOIN LATERAL (
		(SELECT o.origin FROM osmtalk.outbox o WHERE o.endpoint_hash = q.hash ORDER BY o.id LIMIT 1)
		UNION ALL
		(SELECT o.origin FROM osmtalk.outbox o WHERE o.endpoint_hash = q.hash ORDER BY o.id DESC LIMIT 1)) e
	  WHERE e.origin <> osmtalk.current_origin() LIMIT 1;
	IF FOUND THEN
		SELECT n.events INTO foreign_events FROM osmtalk.not_adopted n;
	END IF;
	SELECT n.calls INTO foreign_calls FROM osmtalk.not_adopted n;
	IF foreign_events = 0 AND foreign_calls = 0 THEN
		status := 'ok';
		message := 'No row is of another database.';
	ELSE
		status := 'warn';
		message := format('This database is a copy: %s events and %s undecided calls of another are neither sent nor timed out.', foreign_events, foreign_calls);
		fix := 'If this one takes over from the other: SELECT osmtalk.adopt(); if not, to drop them: SELECT osmtalk.adopt(discard => true);';
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.check_adoption() IS 'Internal, of health(): rows that wait for adopt()';

/*
 * Overdue by the conditions of apply_retention().  One slot is, now and then,
 * for as long as it takes.
 */
CREATE FUNCTION osmtalk.check_retention(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN r.overdue >= 2 THEN 'warn' ELSE 'ok' END::osmtalk.health_status,
		   CASE
			WHEN osmtalk.retention() IS NULL THEN 'Events are kept for ever: osmtalk.retention is 0.'
			WHEN r.overdue >= 2 THEN
				format('%s of 16 slots are older than osmtalk.retention and could not be emptied%s.', r.overdue,
					   CASE WHEN r.is_full THEN '; events of two rounds are going to share one' ELSE '' END)
			ELSE format('%s of 16 slots are filled, and none waits to be emptied.', r.filled)
		   END,
		   CASE WHEN r.overdue >= 2 AND osmtalk.retention() IS NOT NULL THEN
				'End what has locks on those tables: SELECT pid, relation::regclass, mode FROM pg_locks WHERE relation::regclass::text ~ ''^osmtalk\.(events|delivery_attempts)_''; the worker does the rest. Nothing but space is lost.'
		   END
	  FROM (SELECT count(*) FILTER (WHERE s.size > 0) AS filled,
				   count(*) FILTER (WHERE s.size > 0 AND s.is_overdue) AS overdue,
				   bool_or(s.size > 0 AND s.is_overdue AND s.slot = (osmtalk.current_slot() + 1) % 16) AS is_full
			  FROM (SELECT t.slot,
						   pg_relation_size(format('osmtalk.events_%s', to_char(t.slot, 'FM00')))
						   + pg_relation_size(format('osmtalk.delivery_attempts_%s', to_char(t.slot, 'FM00'))) AS size,
						   osmtalk.slot_is_over(t.slot) AND t.filled_since <= now() - osmtalk.retention()
						   AND (t.newest IS NULL OR t.newest <= now() - osmtalk.retention()) AS is_overdue
					  FROM osmtalk.slots t WHERE t.slot >= 0) s) r;
END;
COMMENT ON FUNCTION osmtalk.check_retention() IS 'Internal, of health(): slots of the ring of events that should be empty';

/* ---- configuration ---- */

CREATE FUNCTION osmtalk.check_secrets(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bad record;
BEGIN
	SELECT count(*) FILTER (WHERE p.problem = 'too long') AS long, count(*) FILTER (WHERE p.problem = 'missing') AS missing,
		   count(*) FILTER (WHERE p.problem = 'short') AS short, count(*) FILTER (WHERE p.problem = 'not standard') AS nonstandard, count(*) AS n
	  INTO bad
	  FROM osmtalk.secret_problems() p;
	IF bad.n = 0 THEN
		status := 'ok';
		message := 'Every webhook URL has a secret that is neither short nor too long.';
		RETURN;
	END IF;
	status := CASE WHEN bad.long > 0 THEN 'error' ELSE 'warn' END;
	message := format('Webhook secrets: %s.',
		concat_ws(', ', nullif(bad.long, 0) || ' longer than 8192 bytes, with which nothing is sent',
						nullif(bad.missing, 0) || ' missing, so that events are not signed',
						nullif(bad.short, 0) || ' shorter than 16 bytes or blank, which can be guessed',
						nullif(bad.nonstandard, 0) || ' not of the form of Standard Webhooks, so that its headers are not sent'));
	fix := 'SELECT * FROM osmtalk.secret_problems(); says whose. SELECT osmtalk.rotate_webhook_secret(org_id); or (org_id, campaign_id); give the receiver what it returns, which is shown once.';
END
$$;
COMMENT ON FUNCTION osmtalk.check_secrets() IS 'Internal, of health(): secrets that are missing, short, too long, or not of the form that osmtalk.standard_webhooks_headers asks for; shows none';

CREATE FUNCTION osmtalk.check_tenants(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN t.astray IS NULL THEN 'ok' ELSE 'error' END::osmtalk.health_status,
		   CASE
			WHEN t.astray IS NULL AND t.isolated THEN 'Tenants are isolated, in every table.'
			WHEN t.astray IS NULL THEN 'Tenants are not isolated, in no table.'
			WHEN t.isolated THEN format('Tenants are isolated, but not in %s.', t.astray)
			ELSE format('Tenants are not isolated, but for %s, where sessions see no rows.', t.astray)
		   END,
		   CASE WHEN t.astray IS NULL THEN NULL
				WHEN t.isolated THEN 'SELECT osmtalk.enable_tenant_isolation();'
				ELSE 'SELECT osmtalk.disable_tenant_isolation(); or, if they should be isolated: SELECT osmtalk.enable_tenant_isolation();' END
	  FROM (SELECT i.isolated, string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname) FILTER (WHERE c.relrowsecurity <> i.isolated) AS astray
			  FROM (SELECT EXISTS (SELECT FROM osmtalk.tenant_isolation) AS isolated) i,
				   pg_policy p JOIN pg_class c ON c.oid = p.polrelid
			 WHERE c.relnamespace = 'osmtalk'::regnamespace AND p.polname = 'tenant'
			 GROUP BY i.isolated) t;
END;
COMMENT ON FUNCTION osmtalk.check_tenants() IS 'Internal, of health(): row security of the tables, against tenant_isolation';

CREATE FUNCTION osmtalk.check_owner(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN r.rolsuper OR o.others > 0 THEN 'error' ELSE 'ok' END::osmtalk.health_status,
		   CASE
			WHEN r.rolsuper THEN format('The schema osmtalk belongs to %s, a superuser, as whom no worker works.', osmtalk.quoted(r.rolname))
			WHEN o.others > 0 THEN
				format('%s tables, views and functions in the schema do not belong to its owner, %s: triggers and the worker fail at them.', o.others, osmtalk.quoted(r.rolname))
			ELSE format('Everything belongs to %s, which is no superuser.', osmtalk.quoted(r.rolname))
		   END,
		   CASE
			WHEN r.rolsuper THEN 'ALTER SCHEMA osmtalk OWNER TO osmtalk_owner; and what is in it likewise, see doc/security.md.'
			WHEN o.others > 0 THEN 'Give everything in the schema to its owner, with ALTER ... OWNER TO, see doc/security.md.'
		   END
	  FROM pg_namespace n
	  JOIN pg_roles r ON r.oid = n.nspowner
	 CROSS JOIN LATERAL (
		SELECT (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'S') AND c.relowner <> n.nspowner)
			 + (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proowner <> n.nspowner) AS others) o
	 WHERE n.nspname = 'osmtalk';
END;
COMMENT ON FUNCTION osmtalk.check_owner() IS 'Internal, of health(): whose the schema is, and what is in it';

CREATE FUNCTION osmtalk.check_stale_calls(OUT status osmtalk.health_status, OUT message text, OUT fix text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT CASE WHEN c.n > 0 THEN 'warn' ELSE 'ok' END::osmtalk.health_status,
		   CASE WHEN c.n > 0 THEN format('%s calls were placed over an hour ago, and nobody has recorded their end; after osmtalk.call_timeout they end as failed.',
										 CASE WHEN c.n = 1000 THEN 'At least ' ELSE '' END || c.n)
				ELSE 'No call is open for over an hour.' END,
		   CASE WHEN c.n > 0 THEN 'SELECT * FROM osmtalk.stale_calls; and see why the dialer does not record ended_at.' END
	  FROM (SELECT count(*) AS n
			  FROM (SELECT FROM osmtalk.calls l
					 WHERE l.status IN ('queued', 'in_progress') AND l.origin = osmtalk.current_origin()
					   AND l.placed_at < now() - interval '1 hour' LIMIT 1000) l) c;
END;
COMMENT ON FUNCTION osmtalk.check_stale_calls() IS 'Internal, of health(): calls that have not ended for an hour';

/* ---- all of them ---- */

CREATE FUNCTION osmtalk.health(OUT check_name text, OUT status osmtalk.health_status, OUT message text, OUT fix text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 15
SET search_path = pg_catalog, pg_temp
-- who has locked a table is not waited for: the check says so
SET lock_timeout = '1s'
-- a few rows by index; the tables may never have been analyzed
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
	IF NOT osmtalk.sees_every_org() THEN
		check_name := 'session';
		status := 'warn';
		message := 'This session is bound to a tenant, and health() is of all of them.';
		fix := 'Ask as a role with BYPASSRLS, or as a superuser.';
		RETURN NEXT;
		RETURN;
	END IF;
	-- one more: check_<name>() above, its name here, and in doc/monitoring.md
	FOREACH check_name IN ARRAY ARRAY[
		'preloaded', 'worker', 'paused', 'enabled', 'versions', 'limits', 'clock',
		'oldest_due', 'endpoints', 'dead_events', 'adoption', 'retention', 'stale_calls',
		'secrets', 'tenants', 'owner']
	LOOP
		BEGIN
			EXECUTE format('SELECT c.status, c.message, c.fix FROM osmtalk.%I() c', 'check_' || check_name) INTO STRICT status, message, fix;
		EXCEPTION WHEN OTHERS THEN
			status := 'warn';
			message := format('It could not be checked: %s.', osmtalk.quoted(SQLERRM));
			fix := 'Ask again; if it stays so, remove the cause.';
		END;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.health() IS
'Whether all is well: a row for each check, with a status, a sentence, and what to do if it is not ok. A check that cannot be made says so';
