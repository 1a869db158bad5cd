/*
 * statistics.sql
 *		What the workers have done, cumulated, as pg_stat_* has it.
 *
 * The workers add to it about once a second: what they did within the last
 * may be missing, and is lost when one is killed.  What another session has
 * locked is added once it is free.
 */

/*
 * A row for each endpoint, and one for all that there were, whose endpoint_id
 * is empty.  Not dumped: a copy begins anew.
 */
CREATE TABLE osmtalk.endpoint_counters (
	endpoint_id text PRIMARY KEY,
	attempts bigint NOT NULL,
	delivered bigint NOT NULL,
	retried bigint NOT NULL,
	failed bigint NOT NULL,
	total_ms double precision NOT NULL,
	latencies bigint[] NOT NULL,
	last_failed_at timestamptz,
	stats_reset timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE osmtalk.endpoint_counters IS 'Internal: what stat_endpoint and stat_delivery show';
COMMENT ON COLUMN osmtalk.endpoint_counters.latencies IS 'Answers by how long they took, an element for each of latency_bounds() and one for those beyond';

CREATE FUNCTION osmtalk.latency_bounds() RETURNS int[]
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_latency_bounds';
COMMENT ON FUNCTION osmtalk.latency_bounds() IS
'The upper bounds in milliseconds of the latencies that statistics tell apart; beyond the last there is one more';

CREATE FUNCTION osmtalk.add_counts(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT t.x + t.y FROM unnest(a, b) WITH ORDINALITY t (x, y, i) ORDER BY t.i);
COMMENT ON FUNCTION osmtalk.add_counts(bigint[], bigint[]) IS 'Internal: the sums of two histograms';

/*
 * Called by the worker, in the transaction in which note_results() is, and no
 * more than that does it wait for rows that another session has locked.
 */
CREATE FUNCTION osmtalk.add_to_counters(
	endpoint_ids text[], attempts bigint[], delivered bigint[], retried bigint[], failed bigint[],
	total_ms double precision[], latencies text[]) RETURNS SETOF int
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
-- the worker sends nothing meanwhile
SET lock_timeout = '40ms'
AS $$
DECLARE
	n record;
BEGIN
	FOR n IN
		SELECT t.*
		  FROM unnest(endpoint_ids, attempts, delivered, retried, failed, total_ms, latencies)
			   WITH ORDINALITY t (id, attempts, delivered, retried, failed, total_ms, latencies, number)
	LOOP
		PERFORM FROM osmtalk.endpoint_counters c WHERE c.endpoint_id = n.id FOR NO KEY UPDATE SKIP LOCKED;
		IF FOUND THEN
			UPDATE osmtalk.endpoint_counters c
			   SET attempts = c.attempts + n.attempts, delivered = c.delivered + n.delivered,
				   retried = c.retried + n.retried, failed = c.failed + n.failed,
				   total_ms = c.total_ms + n.total_ms,
				   latencies = osmtalk.add_counts(c.latencies, n.latencies::bigint[]),
				   last_failed_at = CASE WHEN n.failed > 0 THEN now() ELSE c.last_failed_at END
			 WHERE c.endpoint_id = n.id;
			CONTINUE;
		END IF;
		PERFORM FROM osmtalk.endpoint_counters c WHERE c.endpoint_id = n.id;
		IF NOT FOUND THEN
			-- An insert may wait for another's that is not committed.  There is none while the
			-- endpoint's row is locked here; the one for all is inserted once, by some worker.
			PERFORM FROM osmtalk.endpoints e WHERE e.id = n.id FOR NO KEY UPDATE SKIP LOCKED;
			IF FOUND OR n.id = '' THEN
				INSERT INTO osmtalk.endpoint_counters AS c
					(endpoint_id, attempts, delivered, retried, failed, total_ms, latencies, last_failed_at)
				VALUES (n.id, n.attempts, n.delivered, n.retried, n.failed, n.total_ms, n.latencies::bigint[],
						CASE WHEN n.failed > 0 THEN now() END)
				ON CONFLICT ON CONSTRAINT endpoint_counters_pkey DO NOTHING;
				CONTINUE WHEN FOUND;
			ELSE
				PERFORM FROM osmtalk.endpoints e WHERE e.id = n.id;
				CONTINUE WHEN NOT FOUND; -- it is not configured any more
			END IF;
		END IF;
		RETURN NEXT n.number;
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.add_to_counters(text[], bigint[], bigint[], bigint[], bigint[], double precision[], text[]) IS
'Internal: adds what a worker has done, an element of each array for an endpoint; one with an empty id is for all of them. Returns the numbers, from 1, of the elements whose row another session has locked: these are to be added again';

CREATE FUNCTION osmtalk.forget_counters() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.endpoints'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	DELETE FROM osmtalk.endpoint_counters c WHERE c.endpoint_id = OLD.id;
	RETURN NULL;
END
$$;
CREATE TRIGGER forget_counters AFTER DELETE ON osmtalk.endpoints
	FOR EACH ROW EXECUTE FUNCTION osmtalk.forget_counters();

/*
 * By interpolation within the latency's bounds, as Prometheus does it.
 */
CREATE FUNCTION osmtalk.latency_quantile(latencies bigint[], quantile double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
	WITH bucket AS (
		SELECT t.i, t.n, sum(t.n) OVER (ORDER BY t.i) AS upto, sum(t.n) OVER () * quantile AS rank,
			   coalesce((osmtalk.latency_bounds())[t.i - 1], 0) AS lower, (osmtalk.latency_bounds())[t.i] AS upper
		  FROM unnest(latencies) WITH ORDINALITY t (n, i))
	SELECT b.lower + coalesce((b.upper - b.lower) * ((b.rank - (b.upto - b.n)) / b.n)::double precision, 0)
	  FROM bucket b WHERE b.n > 0 AND b.upto >= b.rank ORDER BY b.i LIMIT 1;
END;
COMMENT ON FUNCTION osmtalk.latency_quantile(bigint[], double precision) IS
'An estimate in milliseconds, by interpolation, of a quantile (0.5: the median) of a histogram of latency_bounds(); of what is beyond the last bound, that bound; null where nothing was counted';

/*
 * As Prometheus has a histogram.
 */
CREATE FUNCTION osmtalk.latency_buckets(latencies bigint[], OUT le double precision, OUT answers bigint) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 15
BEGIN ATOMIC
	SELECT coalesce((osmtalk.latency_bounds())[t.i] / 1000.0, 'infinity')::double precision,
		   (sum(t.n) OVER (ORDER BY t.i))::bigint
	  FROM unnest(latencies) WITH ORDINALITY t (n, i) ORDER BY t.i;
END;
COMMENT ON FUNCTION osmtalk.latency_buckets(bigint[]) IS
'A histogram of latency_bounds() with a row for each bound, in seconds: how many answers took so long or less; the last is infinity, with all of them';

CREATE VIEW osmtalk.stat_delivery WITH (security_invoker = true) AS
	SELECT coalesce(c.attempts, 0) AS attempts, coalesce(c.delivered, 0) AS delivered,
		   coalesce(c.retried, 0) AS retried, coalesce(c.failed, 0) AS failed,
		   coalesce(c.total_ms, 0) AS total_ms,
		   coalesce(c.latencies, array_fill(0::bigint, ARRAY[cardinality(osmtalk.latency_bounds()) + 1])) AS latencies,
		   c.last_failed_at, c.stats_reset
	  FROM (SELECT 1) AS always
	  LEFT JOIN osmtalk.endpoint_counters c ON c.endpoint_id = ''
	 WHERE (SELECT osmtalk.sees_every_org());
COMMENT ON VIEW osmtalk.stat_delivery IS
'What this database''s workers have done since stats_reset, in one row; up to a second late. Not for a session that is bound to a tenant';
COMMENT ON COLUMN osmtalk.stat_delivery.attempts IS 'POSTs made or refused';
COMMENT ON COLUMN osmtalk.stat_delivery.delivered IS 'Of them, those that ended with 2xx';
COMMENT ON COLUMN osmtalk.stat_delivery.retried IS 'Those that failed and are made again';
COMMENT ON COLUMN osmtalk.stat_delivery.failed IS 'Those that failed and are not: events that are dead until they are redelivered';
COMMENT ON COLUMN osmtalk.stat_delivery.total_ms IS 'The time that answers took, in all';
COMMENT ON COLUMN osmtalk.stat_delivery.last_failed_at IS 'When the last of those that failed was counted';
COMMENT ON COLUMN osmtalk.stat_delivery.latencies IS 'How many answers took how long: for each of latency_bounds() those up to it and beyond the one before; at the end those beyond the last';

/*
 * With the owner's rights, as deliveries, for it shows URLs redacted.
 */
CREATE VIEW osmtalk.stat_endpoint WITH (security_barrier = true) AS
	SELECT e.id AS endpoint_id, e.org_id,
		   CASE WHEN (SELECT has_column_privilege('osmtalk.endpoints'::regclass, 'url', 'SELECT'))
				THEN e.url ELSE osmtalk.redacted_url(e.url)
		   END AS url,
		   e.state, e.consecutive_failures, e.first_failure_at, e.last_failure_at, e.last_success_at, e.next_probe_at,
		   (SELECT count(*) FROM osmtalk.waiting w WHERE w.endpoint_id = e.id) AS waiting,
		   coalesce(c.attempts, 0) AS attempts, coalesce(c.delivered, 0) AS delivered,
		   coalesce(c.retried, 0) AS retried, coalesce(c.failed, 0) AS failed,
		   coalesce(c.total_ms, 0) AS total_ms,
		   coalesce(c.latencies, array_fill(0::bigint, ARRAY[cardinality(osmtalk.latency_bounds()) + 1])) AS latencies,
		   c.last_failed_at, c.stats_reset
	  FROM osmtalk.endpoints e
	  LEFT JOIN osmtalk.endpoint_counters c ON c.endpoint_id = e.id
	 WHERE (SELECT osmtalk.sees_every_org()) OR e.org_id = (SELECT osmtalk.current_org_id());
COMMENT ON VIEW osmtalk.stat_endpoint IS
'The health of each endpoint, and what was sent there since stats_reset, as in stat_delivery';
COMMENT ON COLUMN osmtalk.stat_endpoint.url IS 'redacted_url() of it for whoever may not read the url of endpoints';
COMMENT ON COLUMN osmtalk.stat_endpoint.waiting IS 'Events that wait for the endpoint';

CREATE FUNCTION osmtalk.reset_statistics() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM osmtalk.require_every_org('reset_statistics()');
	-- in one order, so that two sessions do not wait for each other
	PERFORM FROM osmtalk.endpoint_counters c ORDER BY c.endpoint_id DESC FOR NO KEY UPDATE;
	UPDATE osmtalk.endpoint_counters c
	   SET attempts = 0, delivered = 0, retried = 0, failed = 0, total_ms = 0,
		   latencies = array_fill(0::bigint, ARRAY[cardinality(c.latencies)]), last_failed_at = NULL, stats_reset = now();
END
$$;
COMMENT ON FUNCTION osmtalk.reset_statistics() IS 'Has stat_delivery and stat_endpoint count from zero';
