/*
 * views.sql
 *		For people and their monitoring: reports, deliveries, the worker.
 */

CREATE VIEW osmtalk.campaign_report WITH (security_invoker = true) AS
	SELECT c.id AS campaign_id, c.name,
		   COALESCE(s.leads, 0) AS leads,
		   COALESCE(s.by_status, '{}') AS by_status,
		   COALESCE(d.by_disposition, '{}') AS by_disposition
	  FROM osmtalk.campaigns c
	  LEFT JOIN LATERAL (
		SELECT sum(g.leads)::bigint AS leads, jsonb_object_agg(g.status, g.leads) AS by_status
		  FROM (SELECT l.status, count(*) AS leads FROM osmtalk.leads l
				 WHERE l.campaign_id = c.id GROUP BY l.status) g) s ON true
	  LEFT JOIN LATERAL (
		SELECT jsonb_object_agg(g.disposition, g.leads) AS by_disposition
		  FROM (SELECT l.disposition, count(*) AS leads FROM osmtalk.leads l
				 WHERE l.campaign_id = c.id AND l.disposition IS NOT NULL GROUP BY l.disposition) g) d ON true;
COMMENT ON VIEW osmtalk.campaign_report IS
'Every campaign with its number of leads, in all, by status and by disposition (only those that occur)';

CREATE VIEW osmtalk.in_flight WITH (security_invoker = true) AS
	SELECT o.id AS outbox_id, o.event_id, t.attempt, c.claimed_at
	  FROM osmtalk.claims c
	  CROSS JOIN LATERAL unnest(c.endpoint_hashes, c.outbox_ids, c.attempts) t (endpoint_hash, outbox_id, attempt)
	  JOIN osmtalk.outbox o ON o.endpoint_hash = t.endpoint_hash AND o.id = t.outbox_id AND o.attempts < t.attempt;
COMMENT ON VIEW osmtalk.in_flight IS
'The outbox rows that a worker has taken and whose result it has not recorded yet: being sent, or about to be';

/*
 * With the owner's rights, since it shows of the configuration what its
 * readers may not read there; so it keeps tenants apart by itself.
 */
CREATE VIEW osmtalk.deliveries WITH (security_barrier = true) AS
	SELECT e.id AS event_id, e.type, e.org_id, e.campaign_id, e.lead_id, e.call_id,
		   -- asked once, of whoever reads the view
		   CASE WHEN (SELECT has_column_privilege('osmtalk.delivery_attempts'::regclass, 'url', 'SELECT'))
				THEN u.url ELSE osmtalk.redacted_url(u.url)
		   END AS url,
		   CASE
			WHEN o.id IS NOT NULL THEN CASE WHEN u.in_flight THEN 'in_flight' ELSE 'pending' END
			WHEN last.http_status BETWEEN 200 AND 299 THEN 'delivered'
			WHEN last.attempt IS NOT NULL THEN 'failed'
			WHEN e.skipped_reason IS NOT NULL THEN 'skipped'
			ELSE 'failed'
		   END AS state,
		   COALESCE(a.attempts, 0) AS attempts,
		   last.http_status,
		   CASE
			WHEN last.attempt IS NOT NULL THEN last.error
			WHEN o.id IS NOT NULL THEN NULL
			WHEN e.skipped_reason IS NOT NULL THEN e.skipped_reason
			ELSE 'its outbox row was removed before it was sent'
		   END AS error,
		   e.created_at,
		   last.started_at AS last_attempt_at,
		   a.delivered_at,
		   CASE
			WHEN o.id IS NULL OR u.in_flight THEN NULL
			WHEN o.origin <> (SELECT osmtalk.current_origin()) THEN 'adopt(): it was enqueued in another database'
			WHEN (SELECT EXISTS (SELECT FROM osmtalk.paused)) THEN 'resume(): sending is paused'
			WHEN current_setting('osmtalk.enabled', true) = 'off' THEN 'osmtalk.enabled: it is off'
			WHEN h.state = 'disabled' THEN 'enable_endpoint(): the endpoint is disabled, ' || h.disabled_reason
			WHEN h.state = 'probing' THEN format('the endpoint, which fails: %s; an event is sent there at %s', h.last_error, h.next_probe_at)
			WHEN w.outbox_id IS NOT NULL AND o.retries > 0 THEN format('retry %s at %s', o.retries, w.due_at)
			WHEN w.outbox_id IS NOT NULL OR o.due_at > now() THEN format('its time, %s', o.due_at)
		   END AS waits_for
	  FROM osmtalk.events e
	  LEFT JOIN osmtalk.outbox o ON o.event_id = e.id
	  LEFT JOIN osmtalk.waiting w ON w.outbox_id = o.id
	  LEFT JOIN osmtalk.endpoints h ON h.id = w.endpoint_id
	  LEFT JOIN LATERAL (
		SELECT d.attempt, d.url, d.http_status, d.error, d.started_at
		  FROM osmtalk.delivery_attempts d WHERE d.event_id = e.id AND d.slot = e.slot
		 ORDER BY d.attempt DESC LIMIT 1) last ON true
	  LEFT JOIN LATERAL (
		SELECT count(*) AS attempts,
			   min(d.started_at + coalesce(d.duration_ms, 0) * interval '1 millisecond')
				FILTER (WHERE d.http_status BETWEEN 200 AND 299) AS delivered_at
		  FROM osmtalk.delivery_attempts d WHERE d.event_id = e.id AND d.slot = e.slot) a ON true
	  -- as delivery_target() does; a function here would run with the rights of
	  -- whoever reads the view, who need not be able to read the secrets beside
	  LEFT JOIN osmtalk.campaigns c ON c.id = e.campaign_id AND e.type NOT LIKE 'call.%'
	  LEFT JOIN osmtalk.org_settings s ON s.org_id = e.org_id
	 CROSS JOIN LATERAL (
		SELECT COALESCE(last.url, NULLIF(c.webhook_url, ''), NULLIF(s.default_webhook_url, '')) AS url,
			   -- the view in_flight, whatever policies bind whoever reads this
			   (o.id, o.attempts) IN (
				SELECT t.outbox_id, t.attempt - 1
				  FROM osmtalk.claims f CROSS JOIN LATERAL unnest(f.outbox_ids, f.attempts) t (outbox_id, attempt)) AS in_flight) u
	 WHERE (SELECT osmtalk.sees_every_org()) OR e.org_id = (SELECT osmtalk.current_org_id());
COMMENT ON VIEW osmtalk.deliveries IS
'One row per event and what became of it: pending, in_flight, delivered, failed or skipped; the outbox decides first, then the last attempt';
COMMENT ON COLUMN osmtalk.deliveries.url IS 'The last attempted, else where it would go now; redacted_url() of it for whoever may not read the url of delivery_attempts';
COMMENT ON COLUMN osmtalk.deliveries.attempts IS 'POSTs made or refused';
COMMENT ON COLUMN osmtalk.deliveries.delivered_at IS 'The first 2xx';
COMMENT ON COLUMN osmtalk.deliveries.waits_for IS 'Of one that is pending: why it is not being sent; null when its turn is to come';

/*
 * Rows that carry another database's origin: neither sent nor timed out.
 */
CREATE VIEW osmtalk.not_adopted WITH (security_invoker = true) AS
	SELECT (SELECT count(*) FROM osmtalk.outbox o WHERE o.origin <> i.origin) AS events,
		   (SELECT count(*) FROM osmtalk.calls c
			 WHERE (c.status IN ('queued', 'in_progress') OR c.awaiting_since IS NOT NULL)
			   AND c.origin IS DISTINCT FROM i.origin AND c.origin IS DISTINCT FROM 'discarded') AS calls
	  FROM (SELECT osmtalk.current_origin() AS origin OFFSET 0) i;
COMMENT ON VIEW osmtalk.not_adopted IS
'How many outbox rows and undecided calls wait for adopt(): another database enqueued or placed them';

CREATE VIEW osmtalk.worker_status WITH (security_invoker = true) AS
	SELECT CASE WHEN NOT w.left_paused THEN w.pid END AS pid,
		   CASE
			WHEN w.left_paused THEN 'paused'
			WHEN p.since IS NOT NULL AND w.state IN ('running', 'disabled') THEN 'pausing'
			WHEN w.state = 'running' AND (n.events > 0 OR n.calls > 0) THEN 'waiting for adopt()'
			ELSE w.state
		   END AS state,
		   w.started_at, w.in_flight,
		   (SELECT greatest(count(*) - coalesce(w.in_flight, 0), 0) FROM osmtalk.outbox o
			 WHERE o.origin = osmtalk.current_origin()
			   -- its share: see ownership.c; all, where there is no other
			   AND (w.is_alone OR (o.endpoint_hash & 63) % w.workers = w.number)) AS pending,
		   w.delivered, w.failed, w.last_error, w.last_error_at,
		   n.events AS events_not_adopted, n.calls AS calls_not_adopted,
		   nullif(concat_ws(' ',
			CASE WHEN p.since IS NOT NULL THEN
				format('Paused since %s by %s; osmtalk.resume() goes on.', p.since, p.by_role)
			END,
			CASE WHEN n.events > 0 OR n.calls > 0 THEN
				format('%s events and %s undecided calls of another database are neither sent nor timed out until osmtalk.adopt() takes them over; new events are sent.',
					   n.events, n.calls)
			END), '') AS detail
	  FROM osmtalk.not_adopted n
	  LEFT JOIN osmtalk.paused p ON true
	 CROSS JOIN LATERAL (
		-- one that is starting in a paused database only looks in, to see that it is
		SELECT s.*, count(*) OVER () = 1 AS is_alone,
			   p.since IS NOT NULL AND (s.pid IS NULL OR s.state = 'starting') AS left_paused
		  FROM osmtalk.worker_slots() s) w;
COMMENT ON VIEW osmtalk.worker_status IS
'This database''s workers: process and counters since its start; a null pid and the reason in state where there is none';
COMMENT ON COLUMN osmtalk.worker_status.state IS
'running; waiting for adopt() (running, but rows of another database wait); disabled (osmtalk.enabled is off); pausing (requests in flight finish); or why there is no worker: paused, see pause(), or another reason';
