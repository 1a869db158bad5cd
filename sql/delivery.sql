/*
 * delivery.sql
 *		From an event to the outbox, and back to it.
 *
 * Knows nothing of HTTP: what is in the outbox is the worker's to send.
 */

-- before the row is written: that needs no queue of events, and a wake-up for a
-- row that another trigger keeps out does no harm
CREATE TRIGGER wake_worker BEFORE INSERT ON osmtalk.outbox
	FOR EACH ROW EXECUTE FUNCTION osmtalk.wake_worker();

CREATE FUNCTION osmtalk.first_set(campaign text, organisation text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE(NULLIF(campaign, ''), NULLIF(organisation, ''));
COMMENT ON FUNCTION osmtalk.first_set(text, text) IS
'The campaign''s URL or secret, the organisation''s where that is null or empty; null if neither is set';

/*
 * Inlined where it is used in FROM, so that a batch is one join, and a column
 * that is not asked for costs nothing.
 */
CREATE FUNCTION osmtalk.delivery_target(type text, org_id text, campaign_id text)
RETURNS TABLE (url text, secret text, previous_secrets text[], headers jsonb, secret_of text, retry_schedule interval[])
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT osmtalk.first_set(c.webhook_url, s.default_webhook_url),
		   osmtalk.first_set(c.webhook_secret, s.webhook_secret),
		   -- none where nothing is signed now
		   ARRAY(SELECT p.secret FROM osmtalk.previous_secrets p
				  WHERE p.org_id = s.org_id
					AND p.campaign_id IS NOT DISTINCT FROM CASE WHEN c.webhook_secret <> '' THEN c.id END
					AND p.valid_until > now()
					AND p.secret <> osmtalk.first_set(c.webhook_secret, s.webhook_secret)
				  ORDER BY p.id COLLATE "C" DESC),
		   -- with the URL that they were set beside: a token goes nowhere else
		   CASE WHEN c.webhook_url <> '' THEN c.webhook_headers ELSE s.webhook_headers END,
		   CASE WHEN c.webhook_secret <> '' THEN c.id END,
		   nullif(coalesce(c.webhook_retry_schedule, s.webhook_retry_schedule), '{}')
	  FROM (SELECT 1) AS always
	  LEFT JOIN osmtalk.org_settings s ON s.org_id = delivery_target.org_id
	  LEFT JOIN osmtalk.campaigns c ON c.id = delivery_target.campaign_id
		   AND delivery_target.type NOT LIKE 'call.%';
END;
COMMENT ON FUNCTION osmtalk.delivery_target(text, text, text) IS
'Where an event of this type goes and what signs it, as of now: the campaign''s URL and secret, each the organisation''s where the campaign has none; events of calls (call.*) are always the organisation''s. Nulls where there is none. previous_secrets: those that were replaced and are valid still, the latest first; headers: those beside the URL; secret_of: the campaign whose secret it is, null for the organisation; retry_schedule: the campaign''s, even if empty, or else the organisation''s';

/*
 * A row's queue, where whoever enqueues it has not given it.
 */
CREATE FUNCTION osmtalk.outbox_before_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- the plan may be made while there are no events yet, and is kept
SET enable_seqscan = off
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.outbox'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	SELECT osmtalk.endpoint_hash(t.url) INTO NEW.endpoint_hash
	  FROM osmtalk.events e, osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t
	 WHERE e.slot = NEW.slot AND e.id = NEW.event_id;
	IF NOT FOUND THEN
		SELECT osmtalk.endpoint_hash(t.url) INTO NEW.endpoint_hash
		  FROM osmtalk.events e, osmtalk.delivery_target(e.type, e.org_id, e.campaign_id) t
		 WHERE e.id = NEW.event_id;
	END IF;
	-- the event is not there, or has no URL now: the worker will say so
	NEW.endpoint_hash := coalesce(NEW.endpoint_hash, 0);
	RETURN NEW;
END
$$;
CREATE TRIGGER before_insert BEFORE INSERT ON osmtalk.outbox
	FOR EACH ROW WHEN (NEW.endpoint_hash = 0)
	EXECUTE FUNCTION osmtalk.outbox_before_insert();

CREATE FUNCTION osmtalk.record_event(
	type text, org_id text, campaign_id text, lead_id text, call_id text, body text) RETURNS text
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'osmtalk_record_event';
COMMENT ON FUNCTION osmtalk.record_event(text, text, text, text, text, text) IS
'Internal: writes the event, and its outbox row if there is a URL to send it to; returns the event''s id. The body''s timestamp is now()';

CREATE FUNCTION osmtalk.send_test_event(org_id text, campaign_id text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	campaign osmtalk.campaigns;
BEGIN
	PERFORM FROM osmtalk.org_settings s WHERE s.org_id = send_test_event.org_id AND osmtalk.sees_org(s.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no organisation "%"', org_id
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'An organisation is a row in osmtalk.org_settings.';
	END IF;
	IF campaign_id IS NOT NULL THEN
		SELECT * INTO campaign FROM osmtalk.campaigns c
		 WHERE c.id = send_test_event.campaign_id AND c.org_id = send_test_event.org_id;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'the organisation "%" has no campaign "%"', org_id, campaign_id
				USING ERRCODE = 'invalid_parameter_value';
		END IF;
	END IF;
	PERFORM FROM osmtalk.org_settings s
	  WHERE s.org_id = send_test_event.org_id
		AND osmtalk.is_subscribed('webhook.test', campaign.webhook_events, s.webhook_events);
	IF NOT FOUND THEN
		RAISE WARNING 'there is no event: webhook.test is not among the types that are wanted'
			USING HINT = 'They are in webhook_events of the campaign, or of the organisation where that is null.';
		RETURN NULL;
	END IF;
	RETURN osmtalk.record_event('webhook.test', org_id, campaign_id, NULL, NULL,
								osmtalk.test_body(now(), org_id, campaign));
END
$$;
COMMENT ON FUNCTION osmtalk.send_test_event(text, text) IS
'Enqueues a webhook.test to the URL, and with the secret, of the campaign or the organisation; returns the event''s id, or null, with a warning, if webhook_events leaves that type out. Unknown organisation or campaign: 22023';

CREATE FUNCTION osmtalk.redeliver(event_id text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	event osmtalk.events;
	target record;
BEGIN
	-- so that retention does not take it away meanwhile
	PERFORM FROM osmtalk.slots s WHERE s.slot = -1 FOR KEY SHARE;
	SELECT * INTO event FROM osmtalk.events e WHERE e.id = redeliver.event_id AND osmtalk.sees_org(e.org_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no event "%"', event_id USING ERRCODE = 'no_data_found';
	END IF;
	-- a URL can hold a token: no variable has it, which would be a parameter of statements
	SELECT t.url IS NOT NULL AS is_known, h.id AS endpoint_id, h.state AS endpoint_state,
		   osmtalk.endpoint_standing(h.state, h.disabled_by, h.next_probe_at, t.retry_schedule IS NOT NULL) <> 'send' AS waits
	  INTO target
	  FROM osmtalk.delivery_target(event.type, event.org_id, event.campaign_id) t
	  LEFT JOIN osmtalk.endpoints h ON h.id = osmtalk.endpoint_id(event.org_id, t.url);
	IF event.skipped_reason IS NOT NULL AND NOT target.is_known THEN
		RAISE NOTICE 'the event is not sent: there is no webhook URL for it';
		RETURN;
	END IF;
	IF osmtalk.slot_is_over(event.slot) AND osmtalk.keep_events(event.slot, ARRAY[event.id]) > 0 THEN
		event.slot := -1;
	END IF;
	INSERT INTO osmtalk.outbox (event_id, slot, attempts)
	SELECT event.id, event.slot, coalesce(max(a.attempt), 0)
	  FROM osmtalk.delivery_attempts a WHERE a.event_id = event.id
	ON CONFLICT ON CONSTRAINT outbox_event_id_key DO NOTHING;
	IF NOT FOUND THEN
		RAISE NOTICE 'the event is in the outbox already'
			USING HINT = 'waits_for, in osmtalk.deliveries, says why it is not being sent.';
		RETURN;
	END IF;
	-- the insert may have waited for the worker to settle an attempt: number on from that
	UPDATE osmtalk.outbox o
	   SET attempts = greatest(o.attempts, (SELECT max(a.attempt) FROM osmtalk.delivery_attempts a WHERE a.event_id = event.id))
	 WHERE o.event_id = event.id;
	IF target.waits THEN
		RAISE NOTICE 'the event waits: its endpoint is %', target.endpoint_state
			USING HINT = format('SELECT osmtalk.enable_endpoint(%L); sends to it again.', target.endpoint_id);
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.redeliver(text) IS
'Puts an event back in the outbox: same id, same bytes, attempt numbers continue. Pending or in flight: nothing; skipped: sent if there is a URL now; a NOTICE says what keeps it from being sent; unknown: P0002';

/*
 * What is done for all organisations at once is not for a session of one.
 */
CREATE FUNCTION osmtalk.require_every_org(what text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT osmtalk.sees_every_org() THEN
		RAISE EXCEPTION 'osmtalk.% is for all organisations, and tenants are isolated', what
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'It needs a role with BYPASSRLS, a member of the owner, or a superuser.';
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.require_every_org(text) IS
'Internal: raises 42501 in a session that is bound to a tenant';

/*
 * Takes over, or drops, what another database enqueued and left undecided.
 */
CREATE FUNCTION osmtalk.adopt(discard boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	mine constant text := osmtalk.current_origin();
	rows bigint;
	total bigint := 0;
BEGIN
	PERFORM osmtalk.require_every_org('adopt()');
	-- a restore that put triggers off has not switched it
	PERFORM osmtalk.apply_tenant_isolation();
	IF discard THEN
		-- nothing vanishes silently: each event's record says what became of it
		WITH dropped AS (
			DELETE FROM osmtalk.outbox o WHERE o.origin <> mine RETURNING o.event_id, o.slot, o.attempts, o.redelivery_id
		), counted AS (
			UPDATE osmtalk.redelivery_counters c SET failed = c.failed + d.n
			  FROM (SELECT d.redelivery_id, count(*) AS n FROM dropped d GROUP BY d.redelivery_id) d
			 WHERE c.redelivery_id = d.redelivery_id
		)
		INSERT INTO osmtalk.delivery_attempts (slot, event_id, attempt, started_at, duration_ms, error)
		SELECT d.slot, d.event_id,
			   greatest(d.attempts, (SELECT max(a.attempt) FROM osmtalk.delivery_attempts a WHERE a.event_id = d.event_id)) + 1,
			   now(), 0, 'not sent: enqueued in another database and discarded by adopt()'
		  FROM dropped d;
		GET DIAGNOSTICS rows = ROW_COUNT;
		total := total + rows;
	ELSE
		-- a transaction id of another server means nothing here
		UPDATE osmtalk.outbox o
		   SET origin = mine, xid = pg_current_xact_id(), worker_deaths = 0
		 WHERE o.origin <> mine;
		GET DIAGNOSTICS rows = ROW_COUNT;
		total := total + rows;
	END IF;

	UPDATE osmtalk.calls c
	   SET origin = CASE WHEN discard THEN 'discarded' ELSE mine END
	 WHERE (c.status IN ('queued', 'in_progress') OR c.awaiting_since IS NOT NULL)
	   AND c.origin IS DISTINCT FROM mine AND c.origin IS DISTINCT FROM 'discarded';
	GET DIAGNOSTICS rows = ROW_COUNT;
	total := total + rows + osmtalk.adopt_redeliveries(discard);

	PERFORM osmtalk.start_worker();
	RETURN total;
END
$$;
COMMENT ON FUNCTION osmtalk.adopt(boolean) IS
'Takes over the outbox rows, undecided calls and redeliveries that carry another database''s origin (a restored dump, a TEMPLATE copy, an upgraded cluster), so that they are sent and timed out here; with discard, drops them: never sent, never timed out. Returns how many';

-- of each row, so that a pause of what is paused already tells nobody
CREATE TRIGGER pause_changed AFTER INSERT OR DELETE ON osmtalk.paused
	FOR EACH ROW EXECUTE FUNCTION osmtalk.pause_changed();
CREATE TRIGGER paused_truncated AFTER TRUNCATE ON osmtalk.paused
	FOR EACH STATEMENT EXECUTE FUNCTION osmtalk.pause_changed();

CREATE FUNCTION osmtalk.pause() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM osmtalk.require_every_org('pause()');
	INSERT INTO osmtalk.paused DEFAULT VALUES ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION osmtalk.pause() IS
'Once this commits, no request of this database begins, but for those that a worker is about to begin until it is woken, milliseconds later, and its events queue, until resume(); requests in flight have a second and a half to finish, those that do not are made again then. The worker leaves, so calls are not timed out meanwhile. Nothing if it is paused already';

CREATE FUNCTION osmtalk.resume() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM osmtalk.require_every_org('resume()');
	DELETE FROM osmtalk.paused;
END
$$;
COMMENT ON FUNCTION osmtalk.resume() IS
'Ends what pause() began, once this commits. Nothing if it is not paused';

CREATE FUNCTION osmtalk.wait_until_drained(timeout interval DEFAULT '30 s') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- to compile a query takes longer than what it asks about
SET jit = off
AS $$
DECLARE
	deadline constant timestamptz := clock_timestamp() + coalesce(timeout, interval '30 s');
	own_origin constant text := osmtalk.current_origin();
	everybodys constant boolean := osmtalk.sees_every_org();
	pause double precision := 0.002;
BEGIN
	LOOP
		PERFORM FROM osmtalk.outbox o
		  WHERE o.origin = own_origin AND o.due_at <= clock_timestamp()
			AND (o.endpoint_hash <> osmtalk.waiting_queue()
				 OR NOT EXISTS (SELECT FROM osmtalk.waiting w WHERE w.outbox_id = o.id AND w.endpoint_id IS NOT NULL))
			AND (everybodys OR osmtalk.sees_org((SELECT e.org_id FROM osmtalk.events e WHERE e.id = o.event_id)))
		  LIMIT 1;
		IF NOT FOUND THEN
			PERFORM FROM osmtalk.in_flight f
			  WHERE everybodys OR osmtalk.sees_org((SELECT e.org_id FROM osmtalk.events e WHERE e.id = f.event_id))
			  LIMIT 1;
			IF NOT FOUND THEN
				RETURN true;
			END IF;
		END IF;
		IF clock_timestamp() >= deadline THEN
			RETURN false;
		END IF;
		PERFORM pg_sleep(pause);
		pause := least(pause * 1.5, 0.1);
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.wait_until_drained(interval) IS
'Waits until no event of this database is due or in flight, but for those that wait for an endpoint: true then, false at the time-out. Call it outside the transaction that enqueued';
