/*
 * report_charts.sql
 *		What the report's page is made of: values, as text, and charts.
 *
 * Reads nothing.  What it makes is ASCII, whatever is in it, so it means the
 * same in any client encoding; and well-formed XML, by which a test can tell
 * that no value has become markup.  All text that comes from outside goes
 * through report_text() or report_name().
 *
 * Charts are SVG without a size of its own: positions are per cent, so that a
 * chart is as wide as there is room, and its text is not scaled with it.
 */

/* ---- values ---- */

CREATE FUNCTION osmtalk.report_text(value text, most int DEFAULT 300) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (
	SELECT coalesce(string_agg(CASE
			-- tabs, line and paragraph separators
			WHEN c.code BETWEEN 9 AND 13 OR c.code IN (133, 8232, 8233) THEN ' '
			-- what cannot be seen and changes what can: controls, directional overrides, isolates; and what no page may contain
			WHEN c.code < 32 OR c.code BETWEEN 127 AND 159 OR c.code BETWEEN 8234 AND 8238 OR c.code BETWEEN 8294 AND 8297
				OR c.code BETWEEN 64976 AND 65007 OR c.code & 65534 = 65534 THEN '&#65533;'
			-- quotation marks, &, <, >
			WHEN c.code IN (34, 38, 39, 60, 62) OR c.code > 126 THEN '&#' || c.code || ';'
			ELSE c.character
		END, '' ORDER BY c.number), '')
	  FROM (SELECT s.character, ascii(s.character) AS code, s.number
			  FROM string_to_table(CASE WHEN length(value) > most THEN left(value, most - 1) || chr(8230) ELSE value END, NULL)
				   WITH ORDINALITY s (character, number)) c);
COMMENT ON FUNCTION osmtalk.report_text(text, int) IS
'Internal: text as HTML has it, in an element or in a quoted attribute, in ASCII; what is longer is cut';

CREATE FUNCTION osmtalk.report_name(value text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN '<bdi>' || osmtalk.report_text(value, 120) || '</bdi>';
COMMENT ON FUNCTION osmtalk.report_name(text) IS
'Internal: report_text(), whatever direction it is written in, apart from what is around it';

CREATE FUNCTION osmtalk.report_number(n numeric) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN coalesce(to_char(n, 'FM999,999,999,999,990'), '&#8211;');
COMMENT ON FUNCTION osmtalk.report_number(numeric) IS 'Internal: a number of things; a dash for null';

CREATE FUNCTION osmtalk.report_percent(part numeric, whole numeric) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
	WHEN whole > 0 THEN CASE
		WHEN part = 0 THEN '0'
		WHEN part = whole THEN '100'
		-- neither none nor all
		ELSE to_char(least(greatest(100 * part / whole, 0.1), 99.9), 'FM990.0')
	END || '&#160;%'
	ELSE '&#8211;'
END;
COMMENT ON FUNCTION osmtalk.report_percent(numeric, numeric) IS
'Internal: a share, 100 % of what is all and 0 % of what is nothing alone; a dash if there is no whole';

CREATE FUNCTION osmtalk.report_duration(ms numeric) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN coalesce(CASE
	WHEN ms < 9.95 THEN to_char(ms, 'FM990.0') || '&#160;ms'
	WHEN ms < 999.5 THEN to_char(ms, 'FM990') || '&#160;ms'
	ELSE to_char(ms / 1000, 'FM999,999,990.0') || '&#160;s'
END, '&#8211;');
COMMENT ON FUNCTION osmtalk.report_duration(numeric) IS 'Internal: milliseconds; a dash for null';

CREATE FUNCTION osmtalk.report_time(at timestamptz) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN isfinite(at) THEN format('<time datetime="%s">%s</time>', osmtalk.iso_time(at), to_char(at, 'DD Mon YYYY HH24:MI')) ELSE '&#8211;' END;
COMMENT ON FUNCTION osmtalk.report_time(timestamptz) IS 'Internal: a time, in the session''s time zone; a dash for null';

CREATE FUNCTION osmtalk.report_bar_time(at timestamp, step interval) RETURNS text
LANGUAGE sql STABLE
RETURN to_char(at, CASE
	WHEN step < '1 day' THEN 'Dy DD Mon YYYY HH24:MI'
	WHEN step = '1 day' THEN 'Dy DD Mon YYYY'
	WHEN step = '7 days' THEN '"week of" DD Mon YYYY'
	WHEN step = '1 month' THEN 'Mon YYYY'
	ELSE 'YYYY'
END);
COMMENT ON FUNCTION osmtalk.report_bar_time(timestamp, interval) IS 'Internal: what a bar stands for';

CREATE FUNCTION osmtalk.report_tick(at timestamp, step interval) RETURNS text
LANGUAGE sql STABLE
RETURN CASE step
	WHEN '5 minutes' THEN CASE WHEN date_bin('30 minutes', at, '2001-01-01') = at THEN to_char(at, 'HH24:MI') END
	WHEN '15 minutes' THEN CASE WHEN date_bin('2 hours', at, '2001-01-01') = at THEN to_char(at, 'HH24:MI') END
	WHEN '1 hour' THEN CASE WHEN date_bin('12 hours', at, '2001-01-01') = at THEN to_char(at, 'Dy HH24:MI') END
	WHEN '6 hours' THEN CASE WHEN date_bin('1 day', at, '2001-01-01') = at THEN to_char(at, 'Dy DD') END
	WHEN '1 day' THEN CASE WHEN date_bin('7 days', at, '2001-01-01') = at THEN to_char(at, 'DD Mon') END
	WHEN '7 days' THEN CASE WHEN date_bin('56 days', at, '2001-01-01') = at THEN to_char(at, 'DD Mon') END
	WHEN '1 month' THEN CASE WHEN extract(month FROM at) IN (1, 7) THEN to_char(at, 'Mon YYYY') END
	ELSE CASE WHEN extract(year FROM at) % 5 = 0 THEN to_char(at, 'YYYY') END
END;
COMMENT ON FUNCTION osmtalk.report_tick(timestamp, interval) IS 'Internal: what is written below a bar; null for most';

CREATE FUNCTION osmtalk.report_label(key text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE key
	WHEN 'd_qualified' THEN 'qualified'
	WHEN 'd_callback' THEN 'callback'
	WHEN 'd_completed' THEN 'completed'
	WHEN 'd_not_interested' THEN 'not interested'
	WHEN 'd_other' THEN 'other'
	WHEN 'no_answer' THEN 'no answer'
	WHEN 'dnc_blocked' THEN 'blocked (DNC)'
	WHEN 'in_progress' THEN 'not ended'
	WHEN 'succeeded' THEN 'answered with 2xx'
	WHEN 'p50' THEN 'median (p50)'
	WHEN 'p95' THEN 'p95'
	ELSE key
END;
COMMENT ON FUNCTION osmtalk.report_label(text) IS 'Internal: the words for a key of the figures';

CREATE FUNCTION osmtalk.report_sum(series jsonb, key text) RETURNS numeric
LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(sum((r ->> key)::numeric), 0) FROM jsonb_array_elements(series) r);
COMMENT ON FUNCTION osmtalk.report_sum(jsonb, text) IS 'Internal: the total of a key of the figures';

/* ---- charts ---- */

CREATE FUNCTION osmtalk.report_ceiling(n numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE
RETURN (
	SELECT min(m * power(10::numeric, e)) FROM unnest('{2,4,6,8,10}'::int[]) m, generate_series(0, 15) e
	 WHERE m * power(10::numeric, e) >= n);
COMMENT ON FUNCTION osmtalk.report_ceiling(numeric) IS 'Internal: a round even number of at least this, the end of an axis';

CREATE FUNCTION osmtalk.report_legend(keys text[]) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (
	SELECT '<ul class="legend" role="list">' || string_agg(format(
			'<li><svg class="key" aria-hidden="true"><rect class="%s" width="100%%" height="100%%" rx="2"/></svg>%s</li>', k.key, osmtalk.report_label(k.key)),
			'' ORDER BY k.number) || '</ul>'
	  FROM unnest(keys) WITH ORDINALITY k (key, number));
COMMENT ON FUNCTION osmtalk.report_legend(text[]) IS 'Internal: what the colours stand for';

CREATE FUNCTION osmtalk.report_breakdown(title text, figures jsonb, keys text[]) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (
	WITH part AS (
		SELECT k.key, k.number, p.n, sum(p.n) OVER (ORDER BY k.number) - p.n AS before, sum(p.n) OVER () AS whole
		  FROM unnest(keys) WITH ORDINALITY k (key, number), LATERAL (SELECT (figures ->> k.key)::numeric AS n) p)
	SELECT format('<svg class="breakdown" role="img"><title>%s: %s</title>%s</svg>', title,
			coalesce(string_agg(format('%s %s', osmtalk.report_label(p.key), osmtalk.report_number(p.n)), ', ' ORDER BY p.number) FILTER (WHERE p.n > 0), 'none'),
			string_agg(format('<rect class="%s" x="%s%%" width="%s%%" height="100%%"/>', p.key,
							  round(100 * p.before / nullif(p.whole, 0), 3), round(100 * p.n / nullif(p.whole, 0), 3)),
					   '' ORDER BY p.number) FILTER (WHERE p.n > 0))
	  FROM part p);
COMMENT ON FUNCTION osmtalk.report_breakdown(text, jsonb, text[]) IS 'Internal: one bar, divided as the figures are';

/*
 * Lines at the values that are written beside them, at equal distances, from
 * top to bottom; between them the bars; below them the ticks.
 */
CREATE FUNCTION osmtalk.report_plot(name text, title text, description text, axis text[], bars text, series jsonb, step interval) RETURNS text
LANGUAGE sql STABLE
RETURN (
	WITH tick AS (
		SELECT row_number() OVER (ORDER BY r.number) AS number, t.label, 100 * (r.number - 0.5) / jsonb_array_length(series) AS x
		  FROM jsonb_array_elements(series) WITH ORDINALITY r (value, number),
			   LATERAL (SELECT osmtalk.report_tick((r.value ->> 'at')::timestamp, step) AS label) t
		 WHERE t.label IS NOT NULL)
	SELECT format('<div class="chart"><div class="axis" aria-hidden="true">%s</div>'
				  '<svg class="plot" role="img" aria-labelledby="%s-title" aria-describedby="%s-desc"><title id="%s-title">%s</title><desc id="%s-desc">%s</desc>'
				  '<svg width="100%%" height="88%%">%s%s</svg>%s</svg></div>',
			(SELECT string_agg('<span>' || a || '</span>', '' ORDER BY n) FROM unnest(axis) WITH ORDINALITY a (a, n)),
			name, name, name, title, name, description,
			(SELECT string_agg(format('<line class="grid" x2="100%%" y1="%s%%" y2="%s%%"/>', y, y), '')
			   FROM (SELECT round(100.0 * i / (cardinality(axis) - 1), 3) AS y FROM generate_series(0, cardinality(axis) - 1) i) g),
			bars,
			(SELECT string_agg(format('<text class="tick%s" x="%s%%" y="97%%">%s</text>', CASE WHEN t.number % 2 = 0 THEN ' even' END, round(t.x, 3), t.label),
							   '' ORDER BY t.number)
			   -- one at the edge would not be seen whole
			   FROM tick t WHERE t.x < 95)));
COMMENT ON FUNCTION osmtalk.report_plot(text, text, text, text[], text, jsonb, interval) IS 'Internal: a chart over time';

CREATE FUNCTION osmtalk.report_bars(series jsonb, keys text[], step interval, most numeric) RETURNS text
LANGUAGE sql STABLE
RETURN (
	WITH part AS (
		SELECT r.number AS bar, (r.value ->> 'at')::timestamp AS at, k.key, k.number, p.n,
			   sum(p.n) OVER (PARTITION BY r.number ORDER BY k.number) AS top, sum(p.n) OVER (PARTITION BY r.number) AS whole
		  FROM jsonb_array_elements(series) WITH ORDINALITY r (value, number), unnest(keys) WITH ORDINALITY k (key, number),
			   LATERAL (SELECT (r.value ->> k.key)::numeric AS n) p),
	bar AS (
		SELECT p.bar, format('<g><title>%s: %s (%s)</title>%s</g>', osmtalk.report_bar_time(p.at, step), osmtalk.report_number(p.whole),
				string_agg(format('%s %s', osmtalk.report_label(p.key), osmtalk.report_number(p.n)), ', ' ORDER BY p.number),
				-- what there is little of can be seen
				string_agg(format('<rect class="%s" x="%s%%" width="%s%%" y="%s%%" height="%s%%"/>', p.key,
								  round(100 * (p.bar - 0.9) / jsonb_array_length(series), 3), round(80.0 / jsonb_array_length(series), 3),
								  round(100 - greatest(100 * p.top / most, 1.2), 3), round(greatest(100 * p.n / most, 1.2), 3)),
						   '' ORDER BY p.number)) AS markup
		  FROM part p WHERE p.n > 0 GROUP BY p.bar, p.at, p.whole)
	SELECT string_agg(b.markup, '' ORDER BY b.bar) FROM bar b);
COMMENT ON FUNCTION osmtalk.report_bars(jsonb, text[], interval, numeric) IS 'Internal: for each of the rows a bar, divided by keys';

CREATE FUNCTION osmtalk.report_bar_chart(name text, title text, series jsonb, keys text[], step interval) RETURNS text
LANGUAGE sql STABLE
RETURN (
	WITH whole AS (
		SELECT (SELECT sum((r.value ->> k)::numeric) FROM unnest(keys) k) AS n, (r.value ->> 'at')::timestamp AS at
		  FROM jsonb_array_elements(series) r),
	scale AS (
		SELECT osmtalk.report_ceiling(max(w.n)) AS most FROM whole w)
	SELECT osmtalk.report_legend(keys) || osmtalk.report_plot(name, title,
			format('%s bars. The highest: %s, %s. The table below has all numbers.', jsonb_array_length(series),
				   (SELECT osmtalk.report_bar_time(w.at, step) FROM whole w ORDER BY w.n DESC, w.at LIMIT 1), osmtalk.report_number((SELECT max(w.n) FROM whole w))),
			ARRAY[osmtalk.report_number(s.most), osmtalk.report_number(s.most / 2), '0'],
			osmtalk.report_bars(series, keys, step, s.most), series, step)
	  FROM scale s);
COMMENT ON FUNCTION osmtalk.report_bar_chart(text, text, jsonb, text[], interval) IS 'Internal: bars over time';

/*
 * Latencies differ by orders of magnitude: the scale is logarithmic, and what
 * is shorter than a tenth of a millisecond is at its end.
 */
CREATE FUNCTION osmtalk.report_latency_chart(name text, title text, series jsonb, step interval) RETURNS text
LANGUAGE sql STABLE
RETURN (
	WITH bar AS (
		SELECT r.number, (r.value ->> 'at')::timestamp AS at, (r.value ->> 'p50')::numeric AS p50, (r.value ->> 'p95')::numeric AS p95,
			   log(greatest((r.value ->> 'p50')::numeric, 0.1)) AS low, log(greatest((r.value ->> 'p95')::numeric, 0.1)) AS high
		  FROM jsonb_array_elements(series) WITH ORDINALITY r (value, number) WHERE (r.value ->> 'p50') IS NOT NULL),
	scale AS (
		SELECT floor(min(b.low)) AS low, greatest(ceil(max(b.high)), floor(min(b.low)) + 1) AS high FROM bar b),
	placed AS (
		SELECT b.*, 100 * (s.high - b.low) / (s.high - s.low) AS y50, 100 * (s.high - b.high) / (s.high - s.low) AS y95,
			   100 * (b.number - 0.9) / jsonb_array_length(series) AS x, 80.0 / jsonb_array_length(series) AS width
		  FROM bar b, scale s)
	SELECT '<ul class="legend" role="list"><li><svg class="key" aria-hidden="true"><rect class="range" width="100%" height="100%"/><rect class="median" y="80%" width="100%" height="20%"/></svg>'
		   'from the median (p50) to p95</li></ul>'
		   || osmtalk.report_plot(name, title,
				format('%s bars from p50 to p95, on a logarithmic scale. The highest p95: %s, %s. The table below has all numbers.', (SELECT count(*) FROM bar),
					   (SELECT osmtalk.report_bar_time(b.at, step) FROM bar b ORDER BY b.p95 DESC, b.at LIMIT 1), osmtalk.report_duration((SELECT max(b.p95) FROM bar b))),
				(SELECT array_agg(CASE WHEN e < 0 THEN '0.1&#160;ms' WHEN e < 3 THEN power(10::numeric, e)::int || '&#160;ms' ELSE osmtalk.report_number(power(10::numeric, e - 3)) || '&#160;s' END ORDER BY e DESC)
				   FROM generate_series(s.low::int, s.high::int) e),
				(SELECT string_agg(format('<g><title>%s: p50 %s, p95 %s</title><rect class="range" x="%s%%" width="%s%%" y="%s%%" height="%s%%"/>'
										  '<line class="median" x1="%s%%" x2="%s%%" y1="%s%%" y2="%s%%"/></g>',
										  osmtalk.report_bar_time(p.at, step), osmtalk.report_duration(p.p50), osmtalk.report_duration(p.p95),
										  round(p.x, 3), round(p.width, 3), round(p.y95, 3), round(p.y50 - p.y95, 3),
										  round(p.x, 3), round(p.x + p.width, 3), round(p.y50, 3), round(p.y50, 3)), '' ORDER BY p.number) FROM placed p),
				series, step)
	  FROM scale s);
COMMENT ON FUNCTION osmtalk.report_latency_chart(text, text, jsonb, interval) IS 'Internal: p50 and p95 over time';
