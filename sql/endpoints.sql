/*
 * endpoints.sql
 *		The URLs that organisations' events go to, and how they are.
 *
 * A URL that fails again and again is left alone for a while, where a retry
 * schedule says that its events can wait.  Knows nothing of single events but
 * that some wait; when they are tried again is in retries.sql.
 */

CREATE TYPE osmtalk.endpoint_state AS ENUM ('healthy', 'probing', 'disabled');
COMMENT ON TYPE osmtalk.endpoint_state IS
'healthy: sent to. probing: it failed again and again, and gets one event from time to time until it takes one. disabled: sent nothing';

CREATE TABLE osmtalk.endpoints (
	id text PRIMARY KEY,
	org_id text NOT NULL,
	url text NOT NULL,
	state osmtalk.endpoint_state NOT NULL DEFAULT 'healthy',
	consecutive_failures int NOT NULL DEFAULT 0,
	first_failure_at timestamptz,
	last_failure_at timestamptz,
	last_error text,
	last_success_at timestamptz,
	next_probe_at timestamptz,
	probes int NOT NULL DEFAULT 0,
	disabled_at timestamptz,
	disabled_by text,
	disabled_reason text,
	permanent_statuses int[],
	noticed_at timestamptz,
	notice json,
	released_to bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX endpoints_org_id_idx ON osmtalk.endpoints (org_id);
-- empty while all is well: then claims ask no further
CREATE INDEX endpoints_ailing_idx ON osmtalk.endpoints (id) WHERE consecutive_failures > 0 OR state <> 'healthy';
CREATE INDEX endpoints_notice_idx ON osmtalk.endpoints (noticed_at) WHERE notice IS NOT NULL;
COMMENT ON TABLE osmtalk.endpoints IS 'A row for each URL that an organisation''s events go to, while it is configured';
COMMENT ON COLUMN osmtalk.endpoints.id IS 'endpoint_id() of the organisation and the URL';
COMMENT ON COLUMN osmtalk.endpoints.consecutive_failures IS 'Attempts that failed since the last that did not';
COMMENT ON COLUMN osmtalk.endpoints.first_failure_at IS 'The first of them';
COMMENT ON COLUMN osmtalk.endpoints.next_probe_at IS 'Of one that is probed: when the next event is sent';
COMMENT ON COLUMN osmtalk.endpoints.probes IS 'How many have been sent so';
COMMENT ON COLUMN osmtalk.endpoints.disabled_by IS 'Who disabled it; null: the rules did, and only events with a retry schedule wait for it';
COMMENT ON COLUMN osmtalk.endpoints.permanent_statuses IS 'The answers after which no retry is made: exactly these; null: see is_retryable()';
COMMENT ON COLUMN osmtalk.endpoints.noticed_at IS 'The last NOTIFY about it';
COMMENT ON COLUMN osmtalk.endpoints.notice IS 'Internal: the next NOTIFY, once a minute has passed';
COMMENT ON COLUMN osmtalk.endpoints.released_to IS 'Internal: events that wait for it, up to this id of their outbox row, are looked at again: the configuration has changed';
SELECT pg_extension_config_dump('osmtalk.endpoints', '');

CREATE FUNCTION osmtalk.endpoint_id(org_id text, url text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_endpoint_id';
COMMENT ON FUNCTION osmtalk.endpoint_id(text, text) IS
'The id in osmtalk.endpoints of an organisation''s URL: ep_ and 24 hexadecimal digits of a SHA-256 of both';

/* ---- which there are ---- */

-- which campaigns have a URL, of thousands
CREATE INDEX campaigns_endpoint_id_idx ON osmtalk.campaigns (osmtalk.endpoint_id(org_id, webhook_url)) WHERE webhook_url <> '';

CREATE FUNCTION osmtalk.is_configured(org_id text, endpoint_id text) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM osmtalk.org_settings s
					WHERE s.org_id = is_configured.org_id
					  AND osmtalk.endpoint_id(s.org_id, nullif(s.default_webhook_url, '')) = is_configured.endpoint_id)
		OR EXISTS (SELECT FROM osmtalk.campaigns c
					WHERE osmtalk.endpoint_id(c.org_id, c.webhook_url) = is_configured.endpoint_id AND c.webhook_url <> '');
END;
COMMENT ON FUNCTION osmtalk.is_configured(text, text) IS
'Internal: whether the organisation, or a campaign of it, has the URL of that endpoint';

/*
 * What waits for an endpoint is looked at again, each event by what the
 * configuration says then: it may go elsewhere now, or at once; or it waits
 * again.
 */
CREATE FUNCTION osmtalk.look_again_at(endpoint_id text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM osmtalk.waiting w WHERE w.endpoint_id = look_again_at.endpoint_id LIMIT 1;
	IF FOUND THEN
		UPDATE osmtalk.endpoints e SET released_to = nextval('osmtalk.outbox_id_seq') WHERE e.id = look_again_at.endpoint_id;
		PERFORM osmtalk.wake_for_waiting();
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.look_again_at(text) IS
'Internal: has the events that wait for the endpoint claimed anew, once this commits';

/*
 * Keeps the table as the configuration is.  Named for the order: after
 * the triggers that check and those that keep tenants apart.
 */
CREATE FUNCTION osmtalk.follow_configuration() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	old_id text;
BEGIN
	IF TG_RELID NOT IN ('osmtalk.org_settings'::regclass, 'osmtalk.campaigns'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM osmtalk.endpoints e WHERE NOT osmtalk.is_configured(e.org_id, e.id);
		RETURN NULL;
	END IF;
	-- a URL can hold a token: no statement has it among its parameters
	IF TG_RELID = 'osmtalk.campaigns'::regclass THEN
		IF TG_OP <> 'DELETE' THEN
			INSERT INTO osmtalk.endpoints (id, org_id, url)
			SELECT osmtalk.endpoint_id(c.org_id, c.webhook_url), c.org_id, c.webhook_url
			  FROM osmtalk.campaigns c WHERE c.id = NEW.id AND c.webhook_url <> ''
			ON CONFLICT DO NOTHING;
		END IF;
		IF TG_OP <> 'INSERT' THEN
			old_id := osmtalk.endpoint_id(OLD.org_id, nullif(OLD.webhook_url, ''));
			IF old_id IS NULL THEN
				-- where there was none, its events went to the organisation's
				SELECT osmtalk.endpoint_id(s.org_id, s.default_webhook_url) INTO old_id
				  FROM osmtalk.org_settings s WHERE s.org_id = OLD.org_id;
			END IF;
		END IF;
	ELSE
		IF TG_OP <> 'DELETE' THEN
			INSERT INTO osmtalk.endpoints (id, org_id, url)
			SELECT osmtalk.endpoint_id(s.org_id, s.default_webhook_url), s.org_id, s.default_webhook_url
			  FROM osmtalk.org_settings s WHERE s.org_id = NEW.org_id AND s.default_webhook_url <> ''
			ON CONFLICT DO NOTHING;
		END IF;
		IF TG_OP <> 'INSERT' THEN
			old_id := osmtalk.endpoint_id(OLD.org_id, OLD.default_webhook_url);
		END IF;
	END IF;
	IF TG_OP = 'INSERT' THEN
		RETURN NULL;
	END IF;
	PERFORM osmtalk.look_again_at(old_id);
	PERFORM FROM osmtalk.endpoints e WHERE e.id = old_id AND NOT osmtalk.is_configured(e.org_id, e.id);
	IF FOUND THEN
		-- who has just configured it, and not committed yet, is waited for, and then seen
		PERFORM FROM osmtalk.endpoints e WHERE e.id = old_id FOR UPDATE;
		DELETE FROM osmtalk.endpoints e WHERE e.id = old_id AND NOT osmtalk.is_configured(e.org_id, e.id);
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER follow_configuration AFTER INSERT OR DELETE OR UPDATE OF org_id, default_webhook_url ON osmtalk.org_settings
	FOR EACH ROW EXECUTE FUNCTION osmtalk.follow_configuration();
CREATE TRIGGER follow_configuration AFTER INSERT OR DELETE OR UPDATE OF webhook_url ON osmtalk.campaigns
	FOR EACH ROW EXECUTE FUNCTION osmtalk.follow_configuration();
CREATE TRIGGER follow_truncate AFTER TRUNCATE ON osmtalk.org_settings
	FOR EACH STATEMENT EXECUTE FUNCTION osmtalk.follow_configuration();
CREATE TRIGGER follow_truncate AFTER TRUNCATE ON osmtalk.campaigns
	FOR EACH STATEMENT EXECUTE FUNCTION osmtalk.follow_configuration();

/*
 * A dump has rows of both tables, and which are restored first is not ours to
 * say: a row that came by the configuration takes over what the dump knows.
 */
CREATE FUNCTION osmtalk.endpoints_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.endpoints'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	-- not one that is about to go: whoever removes it is waited for
	PERFORM FROM osmtalk.endpoints e WHERE e.id = NEW.id FOR KEY SHARE;
	IF NOT FOUND THEN
		RETURN NEW;
	END IF;
	IF NEW.state <> 'healthy' OR NEW.last_failure_at IS NOT NULL OR NEW.permanent_statuses IS NOT NULL THEN
		UPDATE osmtalk.endpoints e
		   SET state = NEW.state, consecutive_failures = NEW.consecutive_failures, first_failure_at = NEW.first_failure_at,
			   last_failure_at = NEW.last_failure_at, last_error = NEW.last_error, last_success_at = NEW.last_success_at,
			   next_probe_at = NEW.next_probe_at, probes = NEW.probes, disabled_at = NEW.disabled_at,
			   disabled_by = NEW.disabled_by, disabled_reason = NEW.disabled_reason, permanent_statuses = NEW.permanent_statuses
		 WHERE e.id = NEW.id;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER before_insert BEFORE INSERT ON osmtalk.endpoints
	FOR EACH ROW EXECUTE FUNCTION osmtalk.endpoints_before_insert();

/* ---- how they are ---- */

/*
 * What an event for the endpoint is to do.  A retry schedule is what allows
 * an event to wait: without one it gets its one attempt, whatever the
 * endpoint's state, unless somebody has disabled it.
 */
CREATE FUNCTION osmtalk.endpoint_standing(
	state osmtalk.endpoint_state, disabled_by text, next_probe_at timestamptz, retried boolean) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
	WHEN state = 'disabled' AND (retried OR disabled_by IS NOT NULL) THEN 'wait'
	WHEN state = 'probing' AND retried THEN CASE WHEN next_probe_at > now() THEN 'wait' ELSE 'probe' END
	ELSE 'send'
END;
COMMENT ON FUNCTION osmtalk.endpoint_standing(osmtalk.endpoint_state, text, timestamptz, boolean) IS
'What an event for an endpoint in that state does now: send; probe, as the one that does; or wait. retried: it has a retry schedule';

CREATE FUNCTION osmtalk.probe_pause(probes int) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN least(interval '1 minute' * (2 ^ least(probes, 10)), interval '1 hour');
COMMENT ON FUNCTION osmtalk.probe_pause(int) IS
'How long an endpoint that was probed so many times is left alone before the next: a minute at first, twice as long each time, at most an hour';

/*
 * What became of attempts at each of some endpoints, in arrays: an element for
 * an endpoint.  Called by the worker, in a transaction of its own.
 *
 * Rows that another session has locked are not waited for, whose transaction
 * may stay open: the worker keeps what it has to say of them.  So two workers
 * do not wait for each other either.
 *
 * A breaker opens after five failures in succession, and five days of nothing
 * but failures disable the endpoint, as 410 Gone does at once: where there is
 * a retry schedule.
 */
CREATE FUNCTION osmtalk.note_results(
	endpoint_ids text[], succeeded boolean[], failures int[], retried boolean[], gone boolean[],
	first_failures timestamptz[], last_times timestamptz[], errors text[], dead_events text[]) RETURNS SETOF int
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- the worker sends nothing meanwhile: should a table be locked, or a trigger of somebody's wait
SET lock_timeout = '40ms'
AS $$
DECLARE
	n record;
	was osmtalk.endpoints;
	ep osmtalk.endpoints;
BEGIN
	FOR n IN
		SELECT t.*
		  FROM unnest(endpoint_ids, succeeded, failures, retried, gone, first_failures, last_times, errors, dead_events)
			   WITH ORDINALITY t (id, succeeded, failures, retried, gone, first_failure_at, last_at, error, dead_event, number)
	LOOP
		SELECT * INTO was FROM osmtalk.endpoints e WHERE e.id = n.id FOR NO KEY UPDATE SKIP LOCKED;
		IF NOT FOUND THEN
			PERFORM FROM osmtalk.endpoints e WHERE e.id = n.id;
			IF FOUND THEN
				RETURN NEXT n.number;
			END IF;
			CONTINUE; -- else it is not configured any more
		END IF;
		ep := was;
		IF n.succeeded THEN
			ep.consecutive_failures := 0;
			ep.first_failure_at := NULL;
			ep.last_success_at := n.last_at;
			ep.probes := 0;
		END IF;
		IF n.failures > 0 THEN
			ep.consecutive_failures := least(ep.consecutive_failures::bigint + n.failures, 2147483647);
			ep.first_failure_at := coalesce(ep.first_failure_at, n.first_failure_at);
			ep.last_failure_at := n.last_at;
			ep.last_error := n.error;
		END IF;
		IF ep.state = 'disabled' THEN
			NULL; -- until somebody enables it
		ELSIF n.retried AND n.gone THEN
			ep.state := 'disabled';
			ep.disabled_reason := 'it answered 410 Gone';
		ELSIF n.retried AND ep.consecutive_failures > 0 AND ep.first_failure_at <= n.last_at - interval '5 days' THEN
			ep.state := 'disabled';
			ep.disabled_reason := format('nothing but failures since %s: %s', ep.first_failure_at, ep.last_error);
		ELSIF n.retried AND ep.consecutive_failures >= 5 THEN
			ep.state := 'probing';
			-- one that is probed has its next time already
			IF was.state <> 'probing' THEN
				ep.next_probe_at := now() + osmtalk.probe_pause(0);
			END IF;
		ELSIF ep.consecutive_failures = 0 THEN
			ep.state := 'healthy';
			ep.next_probe_at := NULL;
		END IF;
		IF ep.state = 'disabled' AND was.state <> 'disabled' THEN
			ep.disabled_at := now();
			ep.next_probe_at := NULL;
		END IF;

		IF ep.state = 'disabled' AND was.state <> 'disabled' THEN
			ep.notice := json_build_object('type', 'endpoint.disabled', 'endpoint_id', ep.id, 'org_id', ep.org_id);
		ELSIF ep.state = 'healthy' AND was.state = 'probing' THEN
			ep.notice := json_build_object('type', 'endpoint.recovered', 'endpoint_id', ep.id, 'org_id', ep.org_id);
		ELSIF n.dead_event IS NOT NULL AND ep.notice IS NULL THEN
			ep.notice := json_build_object('type', 'event.failed', 'endpoint_id', ep.id, 'org_id', ep.org_id, 'event_id', n.dead_event);
		END IF;
		UPDATE osmtalk.endpoints e
		   SET state = ep.state, consecutive_failures = ep.consecutive_failures, first_failure_at = ep.first_failure_at,
			   last_failure_at = ep.last_failure_at, last_error = ep.last_error, last_success_at = ep.last_success_at,
			   next_probe_at = ep.next_probe_at, probes = ep.probes, disabled_at = ep.disabled_at,
			   disabled_reason = ep.disabled_reason, notice = ep.notice
		 WHERE e.id = ep.id;
	END LOOP;
	PERFORM osmtalk.send_notices();
END
$$;
COMMENT ON FUNCTION osmtalk.note_results(text[], boolean[], int[], boolean[], boolean[], timestamptz[], timestamptz[], text[], text[]) IS
'Internal: takes note of attempts, an element of each array for an endpoint: whether one succeeded, how many failed after it, whether there is a retry schedule, whether 410 came; when the first failed and the last ended, its error, an event that will not be tried again. Returns the numbers, from 1, of the elements whose endpoint another session has locked: these are to be told again';

/*
 * At most one a minute for an endpoint: the latest of those that came
 * meanwhile, but that of a state before that of an event.
 */
CREATE FUNCTION osmtalk.send_notices() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n record;
BEGIN
	FOR n IN
		SELECT e.id, e.notice FROM osmtalk.endpoints e
		 WHERE e.notice IS NOT NULL AND (e.noticed_at IS NULL OR e.noticed_at <= now() - interval '1 minute')
		 ORDER BY e.id FOR NO KEY UPDATE SKIP LOCKED
	LOOP
		PERFORM pg_notify('osmtalk', n.notice::text);
		UPDATE osmtalk.endpoints e SET notice = NULL, noticed_at = now() WHERE e.id = n.id;
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.send_notices() IS
'Internal: NOTIFY osmtalk with each endpoint''s notice whose minute has come';

-- whoever did it, the rules or somebody: what is claimed and not begun is not sent
CREATE TRIGGER left_alone AFTER UPDATE OF state ON osmtalk.endpoints
	FOR EACH ROW WHEN (NEW.state <> 'healthy' AND (NEW.state, NEW.disabled_by) IS DISTINCT FROM (OLD.state, OLD.disabled_by))
	EXECUTE FUNCTION osmtalk.endpoint_left_alone();

/* ---- by hand ---- */

CREATE FUNCTION osmtalk.disable_endpoint(endpoint_id text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE osmtalk.endpoints e
	   SET state = 'disabled', next_probe_at = NULL, disabled_at = now(), disabled_by = session_user,
		   disabled_reason = coalesce(nullif(disable_endpoint.reason, ''), 'disabled by ' || session_user),
		   notice = json_build_object('type', 'endpoint.disabled', 'endpoint_id', e.id, 'org_id', e.org_id)
	 WHERE e.id = disable_endpoint.endpoint_id AND osmtalk.sees_org(e.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no endpoint "%"', endpoint_id
			USING ERRCODE = 'no_data_found', HINT = 'Its id is in osmtalk.endpoints.';
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.disable_endpoint(text, text) IS
'Once this commits, no request to the endpoint of that id begins, but for those that a worker is about to begin until it is woken, milliseconds later; its events wait until enable_endpoint(), and use up no attempt. Unknown: P0002';

/*
 * One that was disabled by the rules gets one event first: what waits would
 * fail for good if it answered 410 again.
 */
CREATE FUNCTION osmtalk.enable_endpoint(endpoint_id text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE osmtalk.endpoints e
	   SET state = CASE WHEN e.state = 'disabled' AND e.disabled_by IS NULL THEN 'probing' ELSE 'healthy' END::osmtalk.endpoint_state,
		   next_probe_at = CASE WHEN e.state = 'disabled' AND e.disabled_by IS NULL THEN now() END,
		   consecutive_failures = 0, first_failure_at = NULL, probes = 0,
		   disabled_at = NULL, disabled_by = NULL, disabled_reason = NULL,
		   -- of one that is probed when it takes an event
		   notice = CASE
			WHEN e.state = 'healthy' THEN e.notice
			WHEN e.state <> 'disabled' OR e.disabled_by IS NOT NULL
				THEN json_build_object('type', 'endpoint.recovered', 'endpoint_id', e.id, 'org_id', e.org_id)
			WHEN e.notice ->> 'type' = 'event.failed' THEN e.notice
		   END
	 WHERE e.id = enable_endpoint.endpoint_id AND osmtalk.sees_org(e.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no endpoint "%"', endpoint_id
			USING ERRCODE = 'no_data_found', HINT = 'Its id is in osmtalk.endpoints.';
	END IF;
	PERFORM osmtalk.wake_for_waiting();
END
$$;
COMMENT ON FUNCTION osmtalk.enable_endpoint(text) IS
'Sends to the endpoint of that id again, once this commits, what waits for it first: one that was disabled, or is probed. One that the rules have disabled gets one event, and the others when it has taken that. Unknown: P0002';
