--
-- The bars of report_html()'s charts where the local clock is set forward and
-- back: nothing is lost, nothing counted twice.  090_report.pl looks at the page.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages = error;
SELECT * FROM no_plan();
INSERT INTO osmtalk.org_settings (org_id) VALUES ('org');
-- on 26 October 2025 it was 02:00 to 03:00 twice in Berlin, from 00:00Z to 02:00Z; on 30 March that hour was missing
INSERT INTO osmtalk.calls (org_id, placed_at, status)
SELECT 'org', d.day::timestamptz + m * interval '10 min', 'completed'
  FROM unnest('{2025-10-25 20:00Z,2025-03-29 20:00Z}'::text[]) d (day), generate_series(1, 90) m;

CREATE FUNCTION pg_temp.bars(since timestamptz, until timestamptz, step interval, OUT bars bigint, OUT calls bigint, OUT first text, OUT last text) LANGUAGE sql AS $$
	SELECT count(*), sum((b.value ->> 'calls')::int), (array_agg(b.value ->> 'at' ORDER BY b.n))[1], (array_agg(b.value ->> 'at' ORDER BY b.n DESC))[1]
	  FROM jsonb_array_elements(osmtalk.report_call_figures(since, until, NULL, step)) WITH ORDINALITY b (value, n)
$$;
CREATE FUNCTION pg_temp.are_all_in_bars(zone text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	p record;
	counted record;
BEGIN
	PERFORM set_config('timezone', zone, true);
	FOR p IN
		SELECT since::timestamptz, until::timestamptz, step::interval FROM (VALUES
			('2025-10-25 23:30Z', '2025-10-26 01:30Z', '5 min'), ('2025-10-26 00:45Z', '2025-10-26 01:10Z', '5 min'), ('2025-10-26 00:45Z', '2025-10-26 08:00Z', '15 min'),
			('2025-10-25 20:00Z', '2025-10-27 00:00Z', '1 hour'), ('2025-10-26 00:50Z', '2025-10-26 01:05Z', '1 hour'), ('2025-10-24 10:00Z', '2025-10-28 10:00Z', '6 hours'), ('2025-10-01 10:00Z', '2025-11-10 10:00Z', '1 day'),
			('2025-03-30 00:30Z', '2025-03-30 01:30Z', '5 min'), ('2025-03-29 20:00Z', '2025-03-31 00:00Z', '1 hour'), ('2025-03-28 00:00Z', '2025-04-01 00:00Z', '6 hours'), ('2025-03-01 00:00Z', '2025-04-10 00:00Z', '1 day'),
			('2025-01-01 00:00Z', '2025-12-01 00:00Z', '7 days'), ('2024-01-01 00:00Z', '2026-01-01 00:00Z', '1 month')) v (since, until, step)
	LOOP
		SELECT * INTO counted FROM pg_temp.bars(p.since, p.until, p.step);
		RETURN NEXT public.is(counted.calls, (SELECT count(*) FROM osmtalk.calls c WHERE c.placed_at BETWEEN p.since AND p.until), format('%s: from %s to %s by %s', zone, p.since, p.until, p.step));
	END LOOP;
END
$$;
SELECT pg_temp.are_all_in_bars(zone) FROM unnest('{UTC,Europe/Berlin,America/New_York,Australia/Lord_Howe,Asia/Kolkata,Pacific/Chatham,Asia/Beirut}'::text[]) zone;
SET LOCAL timezone = 'Europe/Berlin';
SELECT is(bars, 25::bigint, 'a day of 25 hours has as many bars') FROM pg_temp.bars('2025-10-26 00:00', '2025-10-26 23:59', '1 hour');
SELECT is(bars, 23::bigint, 'one of 23 has those') FROM pg_temp.bars('2025-03-30 00:00', '2025-03-30 23:59', '1 hour');
SELECT results_eq($$ SELECT bars, first::timestamptz, last::timestamptz FROM pg_temp.bars('2025-10-25 12:00', '2025-10-27 12:00', '1 day') $$,
	$$ VALUES (3::bigint, '2025-10-25 00:00+02'::timestamptz, '2025-10-27 00:00+01'::timestamptz) $$, 'a day begins at midnight');
SELECT * FROM finish();
ROLLBACK;
