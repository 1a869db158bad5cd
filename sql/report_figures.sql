/*
 * report_figures.sql
 *		What the report's page says, as figures.
 *
 * report_html() runs with the owner's rights: it names endpoints, which its
 * readers cannot see in the tables.  So no policy binds it, and what it shows
 * is nobody's rows but the session's because it reads tables through nothing
 * but the first five functions here, each of which keeps tenants apart.  They
 * are inlined where they are used.
 *
 * What follows them counts, and gives JSON, of which report.sql makes the
 * page.  Nothing of it has phone numbers, bodies, secrets, or URLs but as
 * redacted_url() has them.
 */

CREATE FUNCTION osmtalk.report_campaigns(campaign_id text)
RETURNS TABLE (id text, org_id text, name text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT c.id, c.org_id, c.name FROM osmtalk.campaigns c
	 WHERE (report_campaigns.campaign_id IS NULL OR c.id = report_campaigns.campaign_id)
	   AND ((SELECT osmtalk.sees_every_org()) OR c.org_id = (SELECT osmtalk.current_org_id()));
END;
COMMENT ON FUNCTION osmtalk.report_campaigns(text) IS
'Internal: the campaigns that a report is about: one, or all that the session may see';

CREATE FUNCTION osmtalk.report_leads(campaign_id text)
RETURNS TABLE (campaign text, status osmtalk.lead_status, disposition text, completed_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT l.campaign_id, l.status, l.disposition, l.completed_at
	  FROM osmtalk.report_campaigns(report_leads.campaign_id) c JOIN osmtalk.leads l ON l.campaign_id = c.id;
END;
COMMENT ON FUNCTION osmtalk.report_leads(text) IS
'Internal: the leads that a report is about';

CREATE FUNCTION osmtalk.report_calls(since timestamptz, until timestamptz, campaign_id text)
RETURNS TABLE (placed_at timestamptz, status osmtalk.call_status)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT c.placed_at, c.status FROM osmtalk.calls c
	 WHERE c.placed_at >= report_calls.since AND c.placed_at <= report_calls.until
	   AND (report_calls.campaign_id IS NULL
			OR EXISTS (SELECT FROM osmtalk.leads l WHERE l.id = c.lead_id AND l.campaign_id = report_calls.campaign_id))
	   AND ((SELECT osmtalk.sees_every_org()) OR c.org_id = (SELECT osmtalk.current_org_id()));
END;
COMMENT ON FUNCTION osmtalk.report_calls(timestamptz, timestamptz, text) IS
'Internal: the calls that a report is about, those outside campaigns included if it is about no campaign';

CREATE FUNCTION osmtalk.report_attempts(since timestamptz, until timestamptz, campaign_id text)
RETURNS TABLE (url text, started_at timestamptz, duration_ms double precision, succeeded boolean, error text)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT d.url, d.started_at,
		   -- not what somebody may have inserted by hand: JSON has no infinity
		   CASE WHEN d.duration_ms >= 0 AND d.duration_ms < 'Infinity' THEN d.duration_ms END,
		   coalesce(d.http_status BETWEEN 200 AND 299, false), d.error
	  FROM osmtalk.delivery_attempts d
	 WHERE d.started_at >= report_attempts.since AND d.started_at <= report_attempts.until
	   -- their events are looked up only where it matters whose they are
	   AND (report_attempts.campaign_id IS NULL AND (SELECT osmtalk.sees_every_org())
			OR EXISTS (
				SELECT FROM osmtalk.events e
				 WHERE e.id = d.event_id AND e.slot = d.slot AND (report_attempts.campaign_id IS NULL OR e.campaign_id = report_attempts.campaign_id)
				   AND ((SELECT osmtalk.sees_every_org()) OR e.org_id = (SELECT osmtalk.current_org_id()))));
END;
COMMENT ON FUNCTION osmtalk.report_attempts(timestamptz, timestamptz, text) IS
'Internal: the requests that a report is about';

CREATE FUNCTION osmtalk.report_events(since timestamptz, until timestamptz, campaign_id text)
RETURNS TABLE (event_id text, type text, event_campaign_id text, url text, state text, attempts bigint, error text, created_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT d.event_id, d.type, d.campaign_id, d.url, d.state, d.attempts, d.error, d.created_at
	  FROM osmtalk.deliveries d
	 -- which keeps tenants apart by itself
	 WHERE d.created_at >= report_events.since AND d.created_at <= report_events.until
	   AND (report_events.campaign_id IS NULL OR d.campaign_id = report_events.campaign_id);
END;
COMMENT ON FUNCTION osmtalk.report_events(timestamptz, timestamptz, text) IS
'Internal: the events that a report is about, and what became of them';

/* ---- time, in the session's time zone ---- */

CREATE FUNCTION osmtalk.report_step(period interval) RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN period <= '2 hours' THEN interval '5 minutes'
	WHEN period <= '8 hours' THEN interval '15 minutes'
	WHEN period <= '2 days' THEN interval '1 hour'
	WHEN period <= '8 days' THEN interval '6 hours'
	WHEN period <= '62 days' THEN interval '1 day'
	WHEN period <= '400 days' THEN interval '7 days'
	WHEN period <= '5 years' THEN interval '1 month'
	ELSE interval '1 year'
END;
COMMENT ON FUNCTION osmtalk.report_step(interval) IS
'Internal: what a bar of a chart over this period stands for, so that there are some dozens of them';

/*
 * Long bars begin by the local clock, at midnight, say, whichever moment that
 * is.  Short ones are of equal length: an hour that the local clock has twice
 * is two of them.
 */
CREATE FUNCTION osmtalk.report_local_bucket(at timestamptz, step interval) RETURNS timestamp
LANGUAGE sql STABLE
RETURN CASE step
	WHEN '1 year' THEN date_trunc('year', at::timestamp)
	WHEN '1 month' THEN date_trunc('month', at::timestamp)
	-- that day was a Monday
	ELSE date_bin(step, at::timestamp, '2001-01-01')
END;
COMMENT ON FUNCTION osmtalk.report_local_bucket(timestamptz, interval) IS
'Internal: the beginning of the long bar that this moment belongs to, by the clock of the session''s time zone';

CREATE FUNCTION osmtalk.report_bucket(at timestamptz, step interval) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN CASE
	WHEN step < '6 hours' THEN date_bin(step, at, '2001-01-01'::timestamp::timestamptz)
	ELSE osmtalk.report_local_bucket(at, step)::timestamptz
END;
COMMENT ON FUNCTION osmtalk.report_bucket(timestamptz, interval) IS
'Internal: the beginning of the bar that this moment belongs to';

CREATE FUNCTION osmtalk.report_buckets(since timestamptz, until timestamptz, step interval) RETURNS SETOF timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT b.at FROM generate_series(osmtalk.report_bucket(since, step), osmtalk.report_bucket(until, step), step) b (at)
	 WHERE step < '6 hours'
	UNION ALL
	SELECT b.at::timestamptz FROM generate_series(osmtalk.report_local_bucket(since, step), osmtalk.report_local_bucket(until, step), step) b (at)
	 WHERE step >= '6 hours';
END;
COMMENT ON FUNCTION osmtalk.report_buckets(timestamptz, timestamptz, interval) IS
'Internal: all of the period''s bars, whether or not there is anything in them';

/* ---- figures ---- */

CREATE FUNCTION osmtalk.report_outcome_figures(since timestamptz, until timestamptz, campaign_id text, most int) RETURNS jsonb
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH lead AS (
		SELECT l.campaign AS campaign_id, l.status, l.disposition,
			   l.completed_at >= report_outcome_figures.since AND l.completed_at <= report_outcome_figures.until AS finished
		  FROM osmtalk.report_leads(report_outcome_figures.campaign_id) l),
	counted AS (
		SELECT l.campaign_id,
			   count(*) FILTER (WHERE l.finished AND osmtalk.is_terminal(l.status)) AS finished,
			   count(*) FILTER (WHERE NOT osmtalk.is_terminal(l.status)) AS open,
			   count(*) FILTER (WHERE l.finished AND l.status = 'completed') AS completed,
			   count(*) FILTER (WHERE l.finished AND l.status = 'voicemail') AS voicemail,
			   count(*) FILTER (WHERE l.finished AND l.status = 'no_answer') AS no_answer,
			   count(*) FILTER (WHERE l.finished AND l.status = 'busy') AS busy,
			   count(*) FILTER (WHERE l.finished AND l.status = 'failed') AS failed,
			   count(*) FILTER (WHERE l.finished AND l.status = 'dnc_blocked') AS dnc_blocked,
			   count(*) FILTER (WHERE l.finished AND l.disposition = 'qualified') AS d_qualified,
			   count(*) FILTER (WHERE l.finished AND l.disposition = 'callback') AS d_callback,
			   count(*) FILTER (WHERE l.finished AND l.disposition = 'completed') AS d_completed,
			   count(*) FILTER (WHERE l.finished AND l.disposition = 'not_interested') AS d_not_interested,
			   count(*) FILTER (WHERE l.finished AND l.disposition NOT IN ('qualified', 'callback', 'completed', 'not_interested')) AS d_other
		  FROM lead l GROUP BY l.campaign_id),
	campaign AS (
		SELECT row_number() OVER (ORDER BY n.finished DESC, n.open DESC, c.name COLLATE "C", c.id COLLATE "C") AS number,
			   c.org_id, left(c.name, 200) AS name, n.*
		  FROM osmtalk.report_campaigns(report_outcome_figures.campaign_id) c
		  JOIN counted n ON n.campaign_id = c.id
		 WHERE n.finished + n.open > 0)
	SELECT jsonb_build_object(
		'rows', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.number), '[]') FROM campaign c WHERE c.number <= report_outcome_figures.most),
		'total', (SELECT to_jsonb(t) FROM (
			SELECT count(*) AS campaigns, coalesce(sum(finished), 0) AS finished, coalesce(sum(open), 0) AS open,
				   sum(completed) AS completed, sum(voicemail) AS voicemail, sum(no_answer) AS no_answer, sum(busy) AS busy,
				   sum(failed) AS failed, sum(dnc_blocked) AS dnc_blocked, sum(d_qualified) AS d_qualified, sum(d_callback) AS d_callback,
				   sum(d_completed) AS d_completed, sum(d_not_interested) AS d_not_interested, sum(d_other) AS d_other
			  FROM campaign) t),
		'campaigns', (SELECT count(*) FROM osmtalk.report_campaigns(report_outcome_figures.campaign_id)));
END;
COMMENT ON FUNCTION osmtalk.report_outcome_figures(timestamptz, timestamptz, text, int) IS
'Internal: of each campaign the leads that are open, and those whose outcome was decided in the period, by status and disposition; the busiest campaigns alone, and the total of all';

CREATE FUNCTION osmtalk.report_call_figures(since timestamptz, until timestamptz, campaign_id text, step interval) RETURNS jsonb
LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT jsonb_agg(to_jsonb(r) ORDER BY r.at) FROM (
		SELECT b.at, coalesce(c.calls, 0) AS calls, coalesce(c.completed, 0) AS completed, coalesce(c.voicemail, 0) AS voicemail,
			   coalesce(c.no_answer, 0) AS no_answer, coalesce(c.busy, 0) AS busy, coalesce(c.failed, 0) AS failed,
			   coalesce(c.dnc_blocked, 0) AS dnc_blocked, coalesce(c.in_progress, 0) AS in_progress
		  FROM osmtalk.report_buckets(since, until, step) b (at)
		  LEFT JOIN (
			SELECT osmtalk.report_bucket(c.placed_at, step) AS at, count(*) AS calls,
				   count(*) FILTER (WHERE c.status = 'completed') AS completed,
				   count(*) FILTER (WHERE c.status = 'voicemail') AS voicemail,
				   count(*) FILTER (WHERE c.status = 'no_answer') AS no_answer,
				   count(*) FILTER (WHERE c.status = 'busy') AS busy,
				   count(*) FILTER (WHERE c.status = 'failed') AS failed,
				   count(*) FILTER (WHERE c.status = 'dnc_blocked') AS dnc_blocked,
				   count(*) FILTER (WHERE osmtalk.is_open(c.status)) AS in_progress
			  FROM osmtalk.report_calls(since, until, campaign_id) c GROUP BY 1) c ON c.at = b.at) r;
END;
COMMENT ON FUNCTION osmtalk.report_call_figures(timestamptz, timestamptz, text, interval) IS
'Internal: for each bar the calls that were placed then, by status';

CREATE FUNCTION osmtalk.report_request_figures(since timestamptz, until timestamptz, campaign_id text, step interval) RETURNS jsonb
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH counted AS MATERIALIZED (
		SELECT g.at, g.requests, g.succeeded, g.requests - g.succeeded AS failed,
			   round(g.latency[1]::numeric, 3) AS p50, round(g.latency[2]::numeric, 3) AS p95
		  FROM (SELECT osmtalk.report_bucket(a.started_at, step) AS at, count(*) AS requests,
					   count(*) FILTER (WHERE a.succeeded) AS succeeded,
					   percentile_cont('{0.5,0.95}'::float8[]) WITHIN GROUP (ORDER BY a.duration_ms) FILTER (WHERE a.succeeded) AS latency
				  FROM osmtalk.report_attempts(since, until, campaign_id) a
				 GROUP BY GROUPING SETS ((osmtalk.report_bucket(a.started_at, step)), ())) g)
	SELECT jsonb_build_object(
		'rows', (SELECT jsonb_agg(to_jsonb(r) ORDER BY r.at) FROM (
			SELECT b.at, coalesce(c.requests, 0) AS requests, coalesce(c.succeeded, 0) AS succeeded, coalesce(c.failed, 0) AS failed, c.p50, c.p95
			  FROM osmtalk.report_buckets(since, until, step) b (at) LEFT JOIN counted c ON c.at = b.at) r),
		'total', (SELECT to_jsonb(c) FROM counted c WHERE c.at IS NULL));
END;
COMMENT ON FUNCTION osmtalk.report_request_figures(timestamptz, timestamptz, text, interval) IS
'Internal: for each bar, and in all, the requests that began then, how many were answered with 2xx, and how long those took';

CREATE FUNCTION osmtalk.report_endpoint_figures(since timestamptz, until timestamptz, campaign_id text, most int) RETURNS jsonb
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH by_url AS (
		SELECT a.url, count(*) AS requests, count(*) FILTER (WHERE NOT a.succeeded) AS failed,
			   max(a.started_at) FILTER (WHERE NOT a.succeeded) AS failed_at, max(a.started_at) FILTER (WHERE a.succeeded) AS succeeded_at
		  FROM osmtalk.report_attempts(since, until, campaign_id) a GROUP BY a.url),
	last_error AS (
		SELECT u.url, u.failed_at, max(a.error) AS error
		  FROM osmtalk.report_attempts(since, until, campaign_id) a
		  JOIN by_url u ON u.failed_at = a.started_at AND u.url IS NOT DISTINCT FROM a.url
		 WHERE NOT a.succeeded GROUP BY u.url, u.failed_at),
	-- URLs that differ in what must not be shown are one
	endpoint AS (
		SELECT osmtalk.redacted_url(u.url) AS url, sum(u.requests) AS requests, sum(u.failed) AS failed,
			   max(u.failed_at) AS failed_at, coalesce(max(u.failed_at) > max(u.succeeded_at), true) AS failing
		  FROM by_url u GROUP BY 1 HAVING sum(u.failed) > 0),
	numbered AS (
		SELECT row_number() OVER (ORDER BY e.failing DESC, e.failed DESC, e.url COLLATE "C") AS number, e.* FROM endpoint e),
	shown AS (
		SELECT n.number, left(n.url, 300) AS url, n.requests, n.failed, n.failed_at, n.failing,
			   (SELECT left(max(l.error), 300) FROM last_error l
				 WHERE l.failed_at = n.failed_at AND osmtalk.redacted_url(l.url) IS NOT DISTINCT FROM n.url) AS error
		  FROM numbered n WHERE n.number <= most)
	SELECT jsonb_build_object(
		'rows', (SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.number), '[]') FROM shown s),
		'endpoints', (SELECT count(*) FROM endpoint));
END;
COMMENT ON FUNCTION osmtalk.report_endpoint_figures(timestamptz, timestamptz, text, int) IS
'Internal: the endpoints to which requests failed in the period, first those whose last one did, then by number; and the last failure of each';

CREATE FUNCTION osmtalk.report_event_figures(since timestamptz, until timestamptz, campaign_id text, most int) RETURNS jsonb
LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH event AS MATERIALIZED (
		SELECT * FROM osmtalk.report_events(since, until, campaign_id)),
	dead AS (
		SELECT row_number() OVER (ORDER BY e.created_at DESC, e.event_id COLLATE "C") AS number, e.* FROM event e WHERE e.state = 'failed'),
	reason AS (
		SELECT row_number() OVER (ORDER BY e.state, count(*) DESC, left(e.error, 300) COLLATE "C") AS number,
			   e.state, left(e.error, 300) AS error, count(*) AS events, max(e.created_at) AS latest
		  FROM event e WHERE e.state IN ('failed', 'skipped') GROUP BY e.state, left(e.error, 300))
	SELECT jsonb_build_object(
		'delivered', (SELECT count(*) FROM event e WHERE e.state = 'delivered'),
		'failed', (SELECT count(*) FROM event e WHERE e.state = 'failed'),
		'skipped', (SELECT count(*) FROM event e WHERE e.state = 'skipped'),
		'events', (SELECT count(*) FROM event e),
		'reasons', (SELECT count(*) FROM reason),
		'by_reason', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.number), '[]') FROM reason r WHERE r.number <= most),
		'dead', (SELECT coalesce(jsonb_agg(jsonb_build_object(
					'event_id', left(d.event_id, 200), 'type', left(d.type, 200), 'campaign_id', left(d.event_campaign_id, 200),
					'url', left(osmtalk.redacted_url(d.url), 300), 'attempts', d.attempts, 'error', left(d.error, 300), 'created_at', d.created_at)
					ORDER BY d.number), '[]') FROM dead d WHERE d.number <= most));
END;
COMMENT ON FUNCTION osmtalk.report_event_figures(timestamptz, timestamptz, text, int) IS
'Internal: the events that were written in the period by state, why events failed or were not sent, and the latest that failed';
