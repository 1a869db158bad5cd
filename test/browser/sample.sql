-- sample.sql - a week of somebody's business, for a page to show
--
--     psql -v leads=4000 -f test/browser/sample.sql
--
-- Into a database that has the extension, and nothing in it; as a superuser.
-- Nothing is random: rows differ between runs by the time of the run alone.
-- Everything is written as history: no rule applies, and nothing is sent.

\set ON_ERROR_STOP on
\if :{?leads} \else \set leads 4000 \endif
SET session_replication_role = replica;
SET jit = off;

CREATE FUNCTION pg_temp.u(i bigint, what bigint) RETURNS double precision LANGUAGE sql IMMUTABLE
RETURN (hashint8extended(i, what) & 1048575) / 1048576.0;
-- of ten, about the standard normal distribution
CREATE FUNCTION pg_temp.z(i bigint, what bigint) RETURNS double precision LANGUAGE sql IMMUTABLE
RETURN (pg_temp.u(i, what) + pg_temp.u(i, what + 1) + pg_temp.u(i, what + 2) + pg_temp.u(i, what + 3) - 2) * 1.732;

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret)
VALUES ('acme', 'https://crm.acme.example/webhooks/osmtalk?key=not-to-be-shown', 'whsec_sample_of_acme_0123'), ('globex', 'https://hooks.globex.example/in', NULL);
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url, max_attempts)
VALUES ('cmp_renewals', 'acme', 'Q2 Renewals — Mumbai', NULL, 3),
	   ('cmp_winback', 'acme', 'Win back 2025', NULL, 1),
	   ('cmp_demo', 'acme', 'Demo follow-up', 'https://hooks.partner.example/osmtalk/in?token=not-to-be-shown', 2),
	   ('cmp_survey', 'globex', 'Kundenbefragung Österreich', NULL, 1),
	   ('cmp_health', 'globex', 'Health policy, second call', NULL, 2),
	   ('cmp_pilot', 'globex', 'مشروع تجريبي', 'https://pilot.globex.example/', 1),
	   ('cmp_idle', 'acme', 'Autumn (draft)', NULL, 1);

-- how much of the leads, and what becomes of them, differs between campaigns
CREATE TEMP TABLE share (campaign_id text, part double precision, completed double precision, qualified double precision);
INSERT INTO share VALUES ('cmp_renewals', .40, .62, .34), ('cmp_winback', .22, .41, .12), ('cmp_demo', .14, .71, .48), ('cmp_survey', .12, .55, .20),
	('cmp_health', .10, .48, .25), ('cmp_pilot', .02, .66, .31);

-- the latest working day but for yesterday
SELECT date_trunc('day', now()) - min(n) * interval '1 day' AS bad_day FROM generate_series(2, 5) n WHERE extract(isodow FROM date_trunc('day', now()) - n * interval '1 day') < 6 \gset

CREATE TEMP TABLE made AS
WITH drawn AS (
	SELECT i, (SELECT s.campaign_id FROM (SELECT s.*, sum(s.part) OVER (ORDER BY s.part DESC, s.campaign_id) AS upto FROM share s) s
				WHERE s.upto >= least(pg_temp.u(i, 1), .9999) ORDER BY s.upto LIMIT 1) AS campaign_id,
		   -- by day, mostly
		   date_trunc('day', now()) - (pg_temp.u(i, 2) * 8)::int * interval '1 day' + (13.5 + 2.6 * pg_temp.z(i, 3)) * interval '1 hour' AS placed_at
	  FROM generate_series(1, :leads) i)
SELECT d.*, pg_temp.u(d.i, 11) AS fate, pg_temp.u(d.i, 12) AS luck, s.completed, s.qualified
  FROM drawn d JOIN share s USING (campaign_id)
 WHERE d.placed_at < now() - interval '5 min' AND (extract(isodow FROM d.placed_at) < 6 OR pg_temp.u(d.i, 13) < .2);

CREATE TEMP TABLE decided AS
SELECT m.*, c.org_id, format('ld_%s', i) AS lead_id, format('call_%s', i) AS call_id, format('evt_%s', i) AS event_id,
	   CASE WHEN fate < completed THEN 'completed' WHEN fate < completed + (1 - completed) * .45 THEN 'no_answer'
			WHEN fate < completed + (1 - completed) * .72 THEN 'voicemail' WHEN fate < completed + (1 - completed) * .87 THEN 'busy'
			WHEN fate < completed + (1 - completed) * .96 THEN 'failed' ELSE 'dnc_blocked' END AS status,
	   placed_at + (20 + 180 * pg_temp.u(i, 14)) * interval '1 second' AS decided_at
  FROM made m JOIN osmtalk.campaigns c ON c.id = m.campaign_id;

INSERT INTO osmtalk.leads (id, campaign_id, phone_number, status, disposition, attempts, call_id, completed_at)
SELECT lead_id, campaign_id, '+4930' || lpad(i::text, 7, '0'), status::osmtalk.lead_status,
	   CASE WHEN status = 'completed' THEN CASE WHEN luck < qualified THEN 'qualified' WHEN luck < qualified + .18 THEN 'callback'
												WHEN luck < qualified + .40 THEN 'completed' ELSE 'not_interested' END END,
	   1, call_id, decided_at FROM decided;
-- those that are still to be called
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT format('ld_open_%s_%s', s.campaign_id, i), s.campaign_id, '+4940' || lpad(i::text, 7, '0') FROM share s, generate_series(1, (:leads * s.part * s.completed)::int) i;

INSERT INTO osmtalk.calls (id, org_id, lead_id, direction, phone_number, status, placed_at, started_at, answered_at, ended_at, decided_at, transcript)
SELECT call_id, org_id, lead_id, 'outbound', '+4930' || lpad(i::text, 7, '0'), status::osmtalk.call_status, placed_at, placed_at,
	   CASE WHEN status = 'completed' THEN placed_at + interval '8 s' END, decided_at, decided_at, 'said-in-confidence' FROM decided;
-- outside campaigns, and one that has not ended
INSERT INTO osmtalk.calls (id, org_id, direction, status, placed_at, ended_at)
SELECT format('call_in_%s', i), 'acme', 'inbound', 'completed', placed_at + interval '7 min', placed_at + interval '9 min' FROM decided WHERE i % 23 = 0 AND placed_at < now() - interval '10 min';
INSERT INTO osmtalk.calls (id, org_id, direction, status, placed_at, started_at) VALUES ('call_now', 'acme', 'inbound', 'in_progress', now() - interval '2 min', now() - interval '2 min');

INSERT INTO osmtalk.events (id, type, org_id, campaign_id, lead_id, call_id, body, created_at, skipped_reason)
SELECT event_id, 'campaign.lead_completed', org_id, campaign_id, lead_id, call_id, format('{"secret-of-a-body":%s}', repeat('1', 400)), decided_at,
	   CASE WHEN campaign_id = 'cmp_pilot' AND pg_temp.u(i, 15) < .3 THEN 'no webhook URL' END FROM decided;

-- requests: the partner's endpoint was down for an afternoon, the pilot's certificate has expired
CREATE TEMP TABLE answer AS
SELECT d.event_id, d.i, e.created_at, coalesce(c.webhook_url, s.default_webhook_url) AS url, pg_temp.u(d.i, 16) AS luck,
	   d.campaign_id = 'cmp_demo' AND e.created_at BETWEEN :'bad_day'::timestamptz + interval '12 hours' AND :'bad_day'::timestamptz + interval '17 hours' AS down,
	   d.campaign_id = 'cmp_pilot' AND d.number <= 6 AS refused
  FROM (SELECT *, row_number() OVER (ORDER BY decided_at DESC) <= 5 AS waits, row_number() OVER (PARTITION BY campaign_id ORDER BY decided_at DESC) AS number FROM decided) d JOIN osmtalk.events e ON e.id = d.event_id JOIN osmtalk.campaigns c ON c.id = d.campaign_id JOIN osmtalk.org_settings s ON s.org_id = c.org_id
 WHERE e.skipped_reason IS NULL AND NOT d.waits;
INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, duration_ms, http_status, error, response_body)
SELECT event_id, 1, url, created_at + interval '3 ms',
	   CASE WHEN down AND luck < .4 THEN 15000 + 2 * luck ELSE exp(ln(38) + .55 * pg_temp.z(i, 17)) * CASE WHEN luck > .97 THEN 12 ELSE 1 END END,
	   CASE WHEN refused OR down AND luck < .4 THEN NULL WHEN down THEN 503 WHEN luck < .003 THEN 500 WHEN luck < .004 THEN 404 ELSE 200 END,
	   CASE WHEN refused THEN 'SSL peer certificate or SSH remote key was not OK' WHEN down AND luck < .4 THEN 'timed out after 15000 ms' WHEN down THEN 'HTTP 503' WHEN luck < .003 THEN 'HTTP 500' WHEN luck < .004 THEN 'HTTP 404' END,
	   'secret-of-an-answer' FROM answer;
-- some of the failures were sent again, by hand
INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, duration_ms, http_status)
SELECT event_id, 2, url, :'bad_day'::timestamptz + interval '33 hours' + pg_temp.u(i, 18) * interval '20 min', exp(ln(38) + .55 * pg_temp.z(i, 19)), 200
  FROM answer WHERE down AND pg_temp.u(i, 20) < .7;
-- what came last waits
INSERT INTO osmtalk.outbox (event_id, due_at)
SELECT e.id, now() + interval '1 day' FROM osmtalk.events e
 WHERE e.skipped_reason IS NULL AND NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id);

RESET session_replication_role;
ANALYZE;
