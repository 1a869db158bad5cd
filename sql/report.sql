/*
 * report.sql
 *		A page for people: what came of leads, calls and events.
 *
 * Makes HTML of the figures in report_figures.sql, with report_charts.sql.
 * report_html() is all that anybody may call; the rest reads nothing.
 *
 * The page needs nothing but itself, and its policy allows it nothing else:
 * no script, no image, no form.
 */

/* ---- how it looks ---- */

/*
 * Neighbours in a bar differ in lightness and in hue, also as the colour-blind
 * see them, and each colour from what is behind it, by 3:1; text by 4.5:1.
 */
CREATE FUNCTION osmtalk.report_colours() RETURNS text
LANGUAGE sql IMMUTABLE
RETURN '
:root { color-scheme: light dark;
 --page: #f5f6f8; --card: #ffffff; --text: #1b2027; --muted: #56606c; --line: #d5dae1; --bad: #b8202f; --good: #0b7062; --focus: #1d5fae;
 --completed: #1d5fae; --voicemail: #2f9ab4; --no-answer: #8a5a00; --busy: #c28218; --failed: #b8202f; --dnc: #2b323b; --open: #868f9c;
 --qualified: #0b7062; --callback: #8f6fd6; --plain: #4a6a94; --not-interested: #b58235; --range: #7fa8d9; }
@media (prefers-color-scheme: dark) { :root {
 --page: #0f1318; --card: #171c23; --text: #e6eaf0; --muted: #a0abb9; --line: #303945; --bad: #ff8b86; --good: #4cc7b4; --focus: #8cbcff;
 --completed: #5b9df0; --voicemail: #9bdbe6; --no-answer: #c98f2c; --busy: #f3cf86; --failed: #ef6461; --dnc: #e3e8ee; --open: #76818f;
 --qualified: #34b39f; --callback: #b9a0f2; --plain: #5a7fb4; --not-interested: #e2b168; --range: #3f6ea8; } }
.completed, .succeeded { fill: var(--completed); }
.voicemail { fill: var(--voicemail); }
.no_answer { fill: var(--no-answer); }
.busy { fill: var(--busy); }
.failed { fill: var(--failed); }
.dnc_blocked, .d_other { fill: var(--dnc); }
.in_progress { fill: var(--open); }
.d_qualified { fill: var(--qualified); }
.d_callback { fill: var(--callback); }
.d_completed { fill: var(--plain); }
.d_not_interested { fill: var(--not-interested); }
.range { fill: var(--range); }
.median { fill: var(--text); stroke: var(--text); }
';
COMMENT ON FUNCTION osmtalk.report_colours() IS 'Internal: the colours of the page, light and dark';

CREATE FUNCTION osmtalk.report_style() RETURNS text
LANGUAGE sql IMMUTABLE
RETURN '
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
 font-variant-numeric: tabular-nums; overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
header, main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
footer { padding-bottom: 3rem; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; font-weight: 700; letter-spacing: -.015em; }
h2 { margin: 0; font-size: 1.125rem; line-height: 1.3; font-weight: 650; }
h3 { margin: 1.5rem 0 .5rem; font-size: .9375rem; font-weight: 650; }
p { margin: .25rem 0 0; }
small, .note, header p, footer { color: var(--muted); font-size: .875rem; }
section { margin: 1.25rem 0; padding: 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: .625rem; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem; margin: 1.5rem 0 1.25rem; }
.tiles div { padding: 1rem 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: .625rem; }
.tiles dt { color: var(--muted); font-size: .875rem; font-weight: 550; }
.tiles dd { margin: 0; color: var(--muted); font-size: .8125rem; line-height: 1.4; }
.tiles .value { margin: .125rem 0 .25rem; color: var(--text); font-size: 1.75rem; font-weight: 650; line-height: 1.2; letter-spacing: -.02em; }
.tiles .pair { font-size: 1.375rem; line-height: 2.1rem; }
.legend { display: flex; flex-wrap: wrap; gap: .125rem 1rem; margin: .75rem 0; padding: 0; list-style: none; font-size: .8125rem; }
.key { width: .75rem; height: .75rem; margin-right: .375rem; vertical-align: -.0625rem; }
.chart { display: grid; grid-template-columns: auto 1fr; column-gap: .5rem; font-size: .75rem; line-height: 1rem; }
.axis { min-width: 3.25rem; display: flex; flex-direction: column; justify-content: space-between; height: 192px; margin-top: -.5rem; color: var(--muted); text-align: right; white-space: nowrap; }
.plot { display: block; width: 100%; height: 200px; overflow: visible; }
.plot .grid { stroke: var(--line); }
.plot .median { stroke-width: 2; }
.tick { fill: var(--muted); font-size: .75rem; text-anchor: middle; }
.campaigns { margin: 0; padding: 0; list-style: none; }
.campaigns > li, .columns { display: grid; grid-template-columns: minmax(12rem, 2fr) 3fr 3fr; gap: .25rem 1.5rem; padding: .625rem 0; }
.campaigns > li { align-items: center; border-top: 1px solid var(--line); }
.columns { align-items: end; margin-top: .25rem; }
.columns h3, .columns .legend { margin: 0; }
.campaigns .name { display: block; overflow: hidden; font-weight: 550; line-height: 1.35; }
.campaigns small { display: block; font-size: .8125rem; }
.breakdown { display: block; width: 100%; height: .875rem; border-radius: .1875rem; background: var(--line); }
.breakdown rect { stroke: var(--card); }
details { margin-top: .75rem; }
summary { width: fit-content; cursor: pointer; color: var(--muted); font-size: .875rem; }
summary:hover { color: var(--text); }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: .125rem; }
.scroll { overflow-x: auto; margin-top: .5rem; }
table { width: 100%; border-collapse: collapse; font-size: .8125rem; line-height: 1.4; }
caption { text-align: left; color: var(--muted); padding-bottom: .375rem; }
th, td { padding: .375rem .625rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; font-weight: 400; }
thead th { color: var(--muted); font-weight: 550; vertical-align: bottom; }
thead th, td:not(.words), .scroll th, time { white-space: nowrap; }
.scroll th:first-child { position: sticky; left: 0; background: var(--card); }
.scroll .words:first-child, .scroll td.words { min-width: 9rem; white-space: normal; }
.list { margin-top: .625rem; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.words, tbody th, th[colspan] { text-align: left; }
tfoot th, tfoot td { border-bottom: 0; font-weight: 650; }
tfoot th { text-align: left; }
b { white-space: nowrap; font-weight: 600; }
.bad { color: var(--bad); }
.good { color: var(--good); }
code { font: .8125rem/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 46rem) {
 header, main, footer { padding-left: .875rem; padding-right: .875rem; }
 section { padding: 1rem .875rem; }
 .tiles { grid-template-columns: 1fr 1fr; gap: .625rem; }
 .tiles div { padding: .75rem .875rem; }
 .tiles .value { font-size: 1.5rem; }
 .tiles .pair { font-size: 1.0625rem; line-height: 1.8rem; letter-spacing: -.03em; }
 .tick.even { display: none; }
 .campaigns > li, .columns { grid-template-columns: 1fr; }
 .columns > :first-child { display: none; }
 .list, .list tbody, .list tr, .list th { display: block; text-align: left; }
 .list thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
 .list tr { padding: .625rem 0; border-bottom: 1px solid var(--line); }
 .list th, .list td { padding: 0; border: 0; }
 .list td { display: inline-block; margin-right: .875rem; text-align: left; }
 .list td::before { content: attr(data-label) ": "; color: var(--muted); font-weight: 400; }
}
@media print { body { background: none; } section, .tiles div { break-inside: avoid; } }
';
COMMENT ON FUNCTION osmtalk.report_style() IS 'Internal: the page''s style sheet, but for the colours';

/* ---- parts ---- */

CREATE FUNCTION osmtalk.report_section(name text, title text, note text, content text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format(E'\n<section id="%s" aria-labelledby="%s-heading"><h2 id="%s-heading">%s</h2>\n<p class="note">%s</p>\n%s</section>', name, name, name, title, note, content);
COMMENT ON FUNCTION osmtalk.report_section(text, text, text, text) IS 'Internal: a part of the page';

CREATE FUNCTION osmtalk.report_scroll(title text, content text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format('<details><summary>%s</summary><div class="scroll" role="region" tabindex="0" aria-label="%s">%s</div></details>', title, title, content);
COMMENT ON FUNCTION osmtalk.report_scroll(text, text) IS 'Internal: a table that is opened, and may be wider than the page';

CREATE FUNCTION osmtalk.report_cells(figures jsonb, keys text[]) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (
	SELECT string_agg('<td>' || CASE WHEN k.key IN ('p50', 'p95') THEN osmtalk.report_duration((figures ->> k.key)::numeric)
									 ELSE osmtalk.report_number((figures ->> k.key)::numeric) END || '</td>', '' ORDER BY k.number)
	  FROM unnest(keys) WITH ORDINALITY k (key, number));
COMMENT ON FUNCTION osmtalk.report_cells(jsonb, text[]) IS 'Internal: figures, as cells of a table';

CREATE FUNCTION osmtalk.report_headings(keys text[]) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (
	SELECT string_agg('<th scope="col">' || osmtalk.report_label(k.key) || '</th>', '' ORDER BY k.number)
	  FROM unnest(keys) WITH ORDINALITY k (key, number));
COMMENT ON FUNCTION osmtalk.report_headings(text[]) IS 'Internal: what is above report_cells()';

CREATE FUNCTION osmtalk.report_series_table(name text, title text, series jsonb, total jsonb, keys text[], step interval) RETURNS text
LANGUAGE sql STABLE
RETURN osmtalk.report_scroll('Table: ' || title,
	format('<table id="%s"><thead><tr><th scope="col" class="words">from</th>%s</tr></thead><tbody>%s</tbody><tfoot><tr><th scope="row">in all</th>%s</tr></tfoot></table>',
		   name, osmtalk.report_headings(keys),
		   (SELECT string_agg(format(E'\n<tr><th scope="row">%s</th>%s</tr>', osmtalk.report_bar_time((r.value ->> 'at')::timestamp, step), osmtalk.report_cells(r.value, keys)), '' ORDER BY r.number)
			  FROM jsonb_array_elements(series) WITH ORDINALITY r (value, number)),
		   osmtalk.report_cells(total, keys)));
COMMENT ON FUNCTION osmtalk.report_series_table(text, text, jsonb, jsonb, text[], interval) IS 'Internal: the numbers of a chart over time';

CREATE FUNCTION osmtalk.report_url(url text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN url IS NULL THEN 'no URL' ELSE osmtalk.report_name(url) END;
COMMENT ON FUNCTION osmtalk.report_url(text) IS 'Internal: a URL that has been redacted, or that there is none';

/*
 * On a phone a row is not one of a table but a paragraph, in which each value
 * has its heading before it; that it is a table remains said by the roles.
 */
CREATE FUNCTION osmtalk.report_list(name text, headings text[], numbers text[], lines jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format('<table id="%s" class="list" role="table"><thead role="rowgroup"><tr role="row">%s</tr></thead><tbody role="rowgroup">%s</tbody></table>', name, (
	SELECT string_agg(format('<th role="columnheader" scope="col"%s>%s</th>', CASE WHEN h.heading <> ALL (numbers) THEN ' class="words"' END, h.heading), '' ORDER BY h.number)
	  FROM unnest(headings) WITH ORDINALITY h (heading, number)), (
	SELECT string_agg(format(E'\n<tr role="row">%s</tr>', (
				SELECT string_agg(CASE WHEN c.number = 1 THEN format('<th role="rowheader" scope="row" class="words">%s</th>', c.value)
									   ELSE format('<td role="cell"%s data-label="%s">%s</td>', CASE WHEN headings[c.number] <> ALL (numbers) THEN ' class="words"' END, headings[c.number], c.value) END,
								  '' ORDER BY c.number)
				  FROM jsonb_array_elements_text(l.value) WITH ORDINALITY c (value, number))), '' ORDER BY l.number)
	  FROM jsonb_array_elements(lines) WITH ORDINALITY l (value, number)));
COMMENT ON FUNCTION osmtalk.report_list(text, text[], text[], jsonb) IS 'Internal: a table of things, whose cells are HTML; the headings named are above numbers';

CREATE FUNCTION osmtalk.report_tiles(calls jsonb, requests jsonb, events jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN (
	SELECT format(E'\n<dl class="tiles">%s</dl>', string_agg(format(
			'<div id="%s"><dt>%s</dt><dd class="value%s">%s</dd><dd>%s</dd></div>', t.name, t.title, CASE WHEN t.name = 'latency' THEN ' pair' END, t.value, t.note), '' ORDER BY t.number))
	  FROM (SELECT (calls ->> 'calls')::numeric AS calls, (calls ->> 'completed')::numeric AS completed, (calls ->> 'dnc_blocked')::numeric AS dnc_blocked,
				   (calls ->> 'in_progress')::numeric AS in_progress, (events ->> 'events')::numeric AS events, (events ->> 'delivered')::numeric AS delivered,
				   (events ->> 'failed')::numeric AS failed, (events ->> 'skipped')::numeric AS skipped) f,
		   LATERAL (VALUES
			(1, 'calls-tile', 'Calls', osmtalk.report_number(f.calls),
			 format('%s not ended, %s blocked (DNC)', osmtalk.report_number(f.in_progress), osmtalk.report_number(f.dnc_blocked))),
			(2, 'connect-rate', 'Connect rate', osmtalk.report_percent(f.completed, f.calls - f.dnc_blocked - f.in_progress),
			 format('%s completed of %s dialled and ended', osmtalk.report_number(f.completed), osmtalk.report_number(f.calls - f.dnc_blocked - f.in_progress))),
			(3, 'delivered', 'Events delivered', osmtalk.report_percent(f.delivered, f.events - f.skipped),
			 format('%s of %s; %s failed, %s waiting', osmtalk.report_number(f.delivered), osmtalk.report_number(f.events - f.skipped), osmtalk.report_number(f.failed),
					osmtalk.report_number(f.events - f.skipped - f.delivered - f.failed))),
			(4, 'latency', 'Latency p50 / p95', osmtalk.report_duration((requests ->> 'p50')::numeric) || ' / ' || osmtalk.report_duration((requests ->> 'p95')::numeric),
			 format('of %s requests answered with 2xx', osmtalk.report_number(coalesce((requests ->> 'succeeded')::numeric, 0))))) t (number, name, title, value, note));
COMMENT ON FUNCTION osmtalk.report_tiles(jsonb, jsonb, jsonb) IS 'Internal: the figures at the top of the page';

/* ---- sections ---- */

CREATE FUNCTION osmtalk.report_campaign(figures jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN format(E'\n<li><div><span class="name">%s</span><small>%s finished, %s open</small></div>'
			  '<div>%s<small>%s completed</small></div><div>%s<small>%s qualified</small></div></li>',
	osmtalk.report_name(figures ->> 'name'), osmtalk.report_number((figures ->> 'finished')::numeric), osmtalk.report_number((figures ->> 'open')::numeric),
	osmtalk.report_breakdown('Status', figures, '{completed,voicemail,no_answer,busy,failed,dnc_blocked}'),
	osmtalk.report_percent((figures ->> 'completed')::numeric, (figures ->> 'finished')::numeric),
	osmtalk.report_breakdown('Disposition', figures, '{d_qualified,d_callback,d_completed,d_not_interested,d_other}'),
	osmtalk.report_percent((figures ->> 'd_qualified')::numeric, (figures ->> 'completed')::numeric));
COMMENT ON FUNCTION osmtalk.report_campaign(jsonb) IS 'Internal: a campaign, with a bar for status and one for disposition';

CREATE FUNCTION osmtalk.report_campaign_table(figures jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN osmtalk.report_scroll('Table: outcomes by campaign', (
	SELECT format('<table id="outcomes-table"><thead><tr><td colspan="5"></td><th scope="colgroup" colspan="6">status</th><th scope="colgroup" colspan="5">disposition</th></tr>'
				  '<tr><th scope="col" class="words">campaign</th><th scope="col" class="words">id</th><th scope="col" class="words">organisation</th>%s</tr></thead>'
				  '<tbody>%s</tbody><tfoot><tr><th scope="row" colspan="3">all %s campaigns</th>%s</tr></tfoot></table>',
				  osmtalk.report_headings(k.keys),
				  (SELECT string_agg(format(E'\n<tr><th scope="row" class="words">%s</th><td class="words">%s</td><td class="words">%s</td>%s</tr>', osmtalk.report_name(r.value ->> 'name'),
											osmtalk.report_name(r.value ->> 'campaign_id'), osmtalk.report_name(r.value ->> 'org_id'), osmtalk.report_cells(r.value, k.keys)), '' ORDER BY r.number)
					 FROM jsonb_array_elements(figures -> 'rows') WITH ORDINALITY r (value, number)),
				  osmtalk.report_number((figures -> 'total' ->> 'campaigns')::numeric), osmtalk.report_cells(figures -> 'total', k.keys))
	  FROM (VALUES ('{finished,open,completed,voicemail,no_answer,busy,failed,dnc_blocked,d_qualified,d_callback,d_completed,d_not_interested,d_other}'::text[])) k (keys)));
COMMENT ON FUNCTION osmtalk.report_campaign_table(jsonb) IS 'Internal: the numbers of all campaigns';

CREATE FUNCTION osmtalk.report_outcomes(figures jsonb, shown int) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN osmtalk.report_section('outcomes', 'Outcomes by campaign',
	'Leads whose outcome was decided in the period, by status; those that are completed, by disposition.',
	CASE WHEN jsonb_array_length(figures -> 'rows') = 0 THEN '<p>No lead was finished, and none is open.</p>' ELSE (
		SELECT format('<div class="columns"><div></div><div><h3>Status</h3>%s</div><div><h3>Disposition</h3>%s</div></div>',
					  osmtalk.report_legend('{completed,voicemail,no_answer,busy,failed,dnc_blocked}'),
					  osmtalk.report_legend('{d_qualified,d_callback,d_completed,d_not_interested,d_other}'))
			   || '<ol class="campaigns" role="list">' || string_agg(osmtalk.report_campaign(r.value), '' ORDER BY r.number) FILTER (WHERE r.number <= shown) || '</ol>'
			   || CASE WHEN count(*) <= shown THEN '' ELSE
					format('<details><summary>%s more campaigns</summary><ol class="campaigns" role="list">%s</ol></details>', osmtalk.report_number(count(*) - shown),
						   string_agg(osmtalk.report_campaign(r.value), '' ORDER BY r.number) FILTER (WHERE r.number > shown))
				  END
		  FROM jsonb_array_elements(figures -> 'rows') WITH ORDINALITY r (value, number))
		|| osmtalk.report_campaign_table(figures)
		|| CASE WHEN jsonb_array_length(figures -> 'rows') < (figures -> 'total' ->> 'campaigns')::int
				THEN format('<p class="note">The %s campaigns with most finished leads are listed; the total is of all.</p>', jsonb_array_length(figures -> 'rows')) ELSE '' END
	END
	|| CASE WHEN (figures ->> 'campaigns')::int > (figures -> 'total' ->> 'campaigns')::int
			THEN format('<p class="note">Campaigns that have neither finished leads in the period nor open ones: %s.</p>',
						osmtalk.report_number((figures ->> 'campaigns')::numeric - (figures -> 'total' ->> 'campaigns')::numeric)) ELSE '' END);
COMMENT ON FUNCTION osmtalk.report_outcomes(jsonb, int) IS 'Internal: the section of campaigns';

CREATE FUNCTION osmtalk.report_call_section(series jsonb, total jsonb, step interval) RETURNS text
LANGUAGE sql STABLE
RETURN osmtalk.report_section('calls', 'Calls over time', 'Calls by when they were placed, and what came of each.',
	CASE WHEN (total ->> 'calls')::numeric = 0 THEN '<p>No calls.</p>' ELSE
		osmtalk.report_bar_chart('calls-chart', 'Calls over time, by status', series, '{completed,voicemail,no_answer,busy,failed,dnc_blocked,in_progress}', step)
		|| osmtalk.report_series_table('calls-table', 'calls over time', series, total, '{calls,completed,voicemail,no_answer,busy,failed,dnc_blocked,in_progress}', step)
	END);
COMMENT ON FUNCTION osmtalk.report_call_section(jsonb, jsonb, interval) IS 'Internal: the section of calls';

CREATE FUNCTION osmtalk.report_delivery_section(figures jsonb, step interval) RETURNS text
LANGUAGE sql STABLE
RETURN osmtalk.report_section('delivery', 'Delivery over time', 'Requests by when they began: how many were answered with 2xx, and how long those took.',
	CASE WHEN (figures -> 'total' ->> 'requests')::numeric = 0 THEN '<p>No requests.</p>' ELSE
		'<h3>Requests</h3>' || osmtalk.report_bar_chart('requests-chart', 'Requests over time, by result', figures -> 'rows', '{succeeded,failed}', step)
		|| CASE WHEN (figures -> 'total' ->> 'p50') IS NULL THEN '' ELSE
			'<h3>Latency</h3>' || osmtalk.report_latency_chart('latency-chart', 'Latency of requests answered with 2xx, over time', figures -> 'rows', step)
		END
		|| osmtalk.report_series_table('delivery-table', 'delivery over time', figures -> 'rows', figures -> 'total', '{requests,succeeded,failed,p50,p95}', step)
	END);
COMMENT ON FUNCTION osmtalk.report_delivery_section(jsonb, interval) IS 'Internal: the section of requests';

CREATE FUNCTION osmtalk.report_endpoint_section(figures jsonb) RETURNS text
LANGUAGE sql STABLE
RETURN osmtalk.report_section('endpoints', 'Failing endpoints', 'Where requests failed in the period. An endpoint is well again if its last request was answered with 2xx.',
	CASE WHEN (figures ->> 'endpoints')::int = 0 THEN '<p>None.</p>' ELSE (
		SELECT osmtalk.report_list('endpoints-table', '{endpoint,now,failed,requests,share,last failure,last error}', '{failed,requests,share}', jsonb_agg(jsonb_build_array(
					osmtalk.report_url(r.value ->> 'url'),
					CASE WHEN (r.value ->> 'failing')::boolean THEN '<b class="bad">failing</b>' ELSE '<b class="good">well again</b>' END,
					osmtalk.report_number((r.value ->> 'failed')::numeric), osmtalk.report_number((r.value ->> 'requests')::numeric),
					osmtalk.report_percent((r.value ->> 'failed')::numeric, (r.value ->> 'requests')::numeric),
					osmtalk.report_time((r.value ->> 'failed_at')::timestamptz), osmtalk.report_name(r.value ->> 'error')) ORDER BY r.number))
			   || CASE WHEN count(*) < (figures ->> 'endpoints')::int THEN format('<p class="note">And %s more.</p>', osmtalk.report_number((figures ->> 'endpoints')::int - count(*))) ELSE '' END
		  FROM jsonb_array_elements(figures -> 'rows') WITH ORDINALITY r (value, number))
	END);
COMMENT ON FUNCTION osmtalk.report_endpoint_section(jsonb) IS 'Internal: the section of endpoints';

CREATE FUNCTION osmtalk.report_reasons(figures jsonb) RETURNS text
LANGUAGE sql STABLE
RETURN (
	SELECT osmtalk.report_list('reasons-table', '{reason,result,events,latest}', '{events}', jsonb_agg(jsonb_build_array(
				CASE WHEN r.value ->> 'error' IS NULL THEN 'none recorded' ELSE osmtalk.report_name(r.value ->> 'error') END,
				CASE r.value ->> 'state' WHEN 'failed' THEN 'failed' ELSE 'not sent' END,
				osmtalk.report_number((r.value ->> 'events')::numeric), osmtalk.report_time((r.value ->> 'latest')::timestamptz)) ORDER BY r.number))
		   || CASE WHEN count(*) < (figures ->> 'reasons')::int THEN format('<p class="note">And %s more reasons, of fewer events.</p>', osmtalk.report_number((figures ->> 'reasons')::int - count(*))) ELSE '' END
	  FROM jsonb_array_elements(figures -> 'by_reason') WITH ORDINALITY r (value, number));
COMMENT ON FUNCTION osmtalk.report_reasons(jsonb) IS 'Internal: why events failed, or were not sent';

CREATE FUNCTION osmtalk.report_dead_events(figures jsonb) RETURNS text
LANGUAGE sql STABLE
RETURN (
	SELECT format('<details><summary>Table: %s</summary>%s</details>',
			CASE WHEN count(*) < (figures ->> 'failed')::int THEN format('the latest %s of %s dead events', count(*), osmtalk.report_number((figures ->> 'failed')::numeric)) ELSE 'dead events' END,
			osmtalk.report_list('dead-table', '{event,written,type,endpoint,attempts,reason}', '{attempts}', jsonb_agg(jsonb_build_array(
				format('<code>%s</code>', osmtalk.report_name(r.value ->> 'event_id')), osmtalk.report_time((r.value ->> 'created_at')::timestamptz),
				osmtalk.report_name(r.value ->> 'type'), osmtalk.report_url(r.value ->> 'url'), osmtalk.report_number((r.value ->> 'attempts')::numeric),
				osmtalk.report_name(r.value ->> 'error')) ORDER BY r.number)))
	  FROM jsonb_array_elements(figures -> 'dead') WITH ORDINALITY r (value, number));
COMMENT ON FUNCTION osmtalk.report_dead_events(jsonb) IS 'Internal: the latest events that failed';

CREATE FUNCTION osmtalk.report_dead_section(figures jsonb) RETURNS text
LANGUAGE sql STABLE
RETURN osmtalk.report_section('dead-letters', 'Dead letters', 'Events of the period that failed and are not tried again, and those that had nowhere to go. '
	'<code>SELECT osmtalk.redeliver(<i>event id</i>)</code> sends one again.',
	CASE WHEN (figures ->> 'reasons')::int = 0 THEN '<p>None.</p>' ELSE osmtalk.report_reasons(figures) END
	|| CASE WHEN (figures ->> 'failed')::int = 0 THEN '' ELSE osmtalk.report_dead_events(figures) END);
COMMENT ON FUNCTION osmtalk.report_dead_section(jsonb) IS 'Internal: the section of dead letters';

/* ---- the page ---- */

CREATE FUNCTION osmtalk.report_page(since timestamptz, until timestamptz, subject text, content text) RETURNS text
LANGUAGE sql STABLE
RETURN format(
'<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta name="referrer" content="no-referrer"/>
<meta http-equiv="Content-Security-Policy" content="default-src ''none''; style-src ''unsafe-inline''; base-uri ''none''; form-action ''none''"/>
<title>osmTalk report</title>
<style>%s%s</style>
</head>
<body>
<header>
<h1>osmTalk report</h1>
<p>%s</p>
<p>%s to %s, %s</p>
</header>
<main>%s
</main>
<footer>
<details><summary>What is counted</summary>
<p>Calls: those placed in the period, in campaigns or not. Connect rate: of the calls that were dialled and have ended, those with the status completed. Events: those written in the period; those
without a URL are not counted where it is said how many were delivered. Requests: those that began in the period, repetitions included; their latency is from the start of a request to the end of its answer.
A bar of a chart begins at the time that it is named after; the first and the last may be cut off by the period. Percentages are rounded, but to neither 0 nor 100.</p>
</details>
</footer>
</body>
</html>', osmtalk.report_colours(), osmtalk.report_style(), subject, osmtalk.report_time(since), osmtalk.report_time(until), osmtalk.report_name(current_setting('TimeZone')), content);
COMMENT ON FUNCTION osmtalk.report_page(timestamptz, timestamptz, text, text) IS 'Internal: what is around the sections';

/*
 * Stable: everything on the page is of one moment, the calling statement's.
 */
CREATE FUNCTION osmtalk.report_html(since interval DEFAULT '7 days', campaign_id text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- compiling takes longer than all else
SET jit = off
AS $$
DECLARE
	step constant interval := osmtalk.report_step(since);
	until constant timestamptz := now();
	beginning timestamptz;
	subject text;
	calls jsonb;
	all_calls jsonb;
	requests jsonb;
	events jsonb;
BEGIN
	IF since <= interval '100 years' THEN
		beginning := until - since;
	END IF;
	IF beginning < until IS NOT TRUE THEN
		RAISE EXCEPTION 'invalid period'
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'It must be longer than 0 and at most 100 years.';
	END IF;
	IF campaign_id IS NOT NULL THEN
		SELECT format('Campaign %s (%s)', osmtalk.report_name(c.name), osmtalk.report_name(c.id)) INTO subject
		  FROM osmtalk.report_campaigns(report_html.campaign_id) c;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'there is no campaign "%"', campaign_id
				USING ERRCODE = 'invalid_parameter_value';
		END IF;
	ELSIF NOT osmtalk.sees_every_org() THEN
		subject := format('Organisation %s', osmtalk.report_name(osmtalk.current_org_id()));
	ELSE
		subject := 'All organisations';
	END IF;
	subject := format('%s, database %s', subject, osmtalk.report_name(current_database()));

	calls := osmtalk.report_call_figures(beginning, until, campaign_id, step);
	all_calls := (SELECT jsonb_object_agg(k, osmtalk.report_sum(calls, k)) FROM jsonb_object_keys(calls -> 0) k WHERE k <> 'at');
	requests := osmtalk.report_request_figures(beginning, until, campaign_id, step);
	events := osmtalk.report_event_figures(beginning, until, campaign_id, 50);
	RETURN osmtalk.report_page(beginning, until, subject, concat(
		osmtalk.report_tiles(all_calls, requests -> 'total', events),
		osmtalk.report_outcomes(osmtalk.report_outcome_figures(beginning, until, campaign_id, 500), 12),
		osmtalk.report_call_section(calls, all_calls, step),
		osmtalk.report_delivery_section(requests, step),
		osmtalk.report_endpoint_section(osmtalk.report_endpoint_figures(beginning, until, campaign_id, 50)),
		osmtalk.report_dead_section(events)));
END
$$;
COMMENT ON FUNCTION osmtalk.report_html(interval, text) IS
'A page of HTML, by itself: outcomes by campaign, calls and deliveries over time, failing endpoints, dead letters, of the time from so long ago until now, of one campaign or of all that the session may see. It has no phone numbers, no bodies, and no query strings of URLs. Invalid period, or no such campaign: 22023';
