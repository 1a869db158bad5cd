--
-- The rules of retries and of endpoints' health, as functions, with times that
-- are given.
--
\set ON_ERROR_STOP on
SELECT plan(133);
SET client_min_messages = error;

-- ---------------------------------------------------------------------------
-- Which attempts are made again
-- ---------------------------------------------------------------------------
SELECT is(osmtalk.default_retry_schedule(), '{00:01,00:05,00:30,02:00,12:00}'::interval[], 'the documented schedule');
SELECT is(osmtalk.is_retryable(status), expected, format('after %s', coalesce(status::text, 'no answer')))
  FROM (VALUES (NULL, true), (200, false), (204, false), (299, false), (300, false), (301, false), (302, false), (308, false),
		(400, false), (401, false), (403, false), (404, false), (407, false), (408, true), (409, false), (410, false), (413, false),
		(422, false), (425, true), (426, false), (429, true), (451, false), (499, false), (500, true), (501, true), (502, true),
		(503, true), (504, true), (599, true), (600, false)) t (status, expected);
SELECT is(osmtalk.is_retryable(status, permanent::int[]), expected, format('after %s, permanent: %s', coalesce(status::text, 'no answer'), permanent))
  FROM (VALUES (404, '{}', true), (404, '{404}', false), (500, '{404}', true), (500, '{404,500}', false), (301, '{404}', true),
		(204, '{}', false), (NULL, '{500}', true)) t (status, permanent, expected);

-- ---------------------------------------------------------------------------
-- When
-- ---------------------------------------------------------------------------
SELECT is(osmtalk.retry_delay(schedule::interval[], retry, status, after::interval, jitter), expected::interval, what)
  FROM (VALUES
	('{1m,5m}', 1, 500, NULL, 0.5, '1m', 'the first pause'),
	('{1m,5m}', 2, 500, NULL, 0.5, '5m', 'the second'),
	('{1m,5m}', 3, 500, NULL, 0.5, NULL, 'the end'),
	('{1m,5m}', 3, 503, '1h', 0.5, NULL, 'the end, whatever the receiver asks for'),
	('{1m,5m}', 1, 500, NULL, 0.0, '48s', 'a fifth less'),
	('{1m,5m}', 1, 500, NULL, 1.0, '72s', 'a fifth more'),
	('{1m,5m}', 1, NULL, NULL, 0.0, '48s', 'no answer'),
	('{1m,5m}', 2, 500, '1s', 0.5, '5m', 'Retry-After of less than the pause'),
	('{1m,5m}', 2, 500, '7m', 0.5, '7m', 'of more'),
	('{1m,5m}', 2, 500, '20m', 0.5, '10m', 'of more than twice the pause'),
	('{1m,5m}', 2, 500, '20m', 0.0, '8m', 'of which the spread pause is what counts'),
	('{1m,5m}', 1, 503, NULL, 0.0, '1m', '503: a minute after the spread'),
	('{1m,5m}', 1, 429, '1s', 0.0, '1m', '429: likewise'),
	('{1s,5m}', 1, 429, '20s', 0.5, '1m', '429: even if twice the pause is less'),
	('{1s,5m}', 1, 500, NULL, 0.5, '1s', 'others have no least pause'),
	('{1s,5m}', 2, 429, NULL, 0.5, '5m', '429: the pause if that is longer'),
	('[0:1]={1m,5m}', 1, 500, NULL, 0.5, '1m', 'an array that begins elsewhere')) t (schedule, retry, status, after, jitter, expected, what);

-- ---------------------------------------------------------------------------
-- Schedules
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('acme', 'https://a.invalid/'), ('other', 'https://a.invalid/');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp', 'acme', 'Campaign');
SELECT throws_ok(format('UPDATE osmtalk.%s SET webhook_retry_schedule = %L', name, schedule), '22023', 'invalid retry schedule', format('%s: %s', name, schedule))
  FROM unnest('{org_settings,campaigns}'::text[]) name,
	   unnest('{"{0 s}","{-1 min}","{1 min,NULL}","{{1 min},{2 min}}","{31 days}","{1 year}"}'::text[]) schedule;
SELECT throws_ok($$ UPDATE osmtalk.campaigns SET webhook_retry_schedule = array_fill(interval '1 min', ARRAY[51]) $$, '22023', NULL, 'of 51 pauses');
SELECT lives_ok($$ UPDATE osmtalk.campaigns SET webhook_retry_schedule = array_fill(interval '30 days', ARRAY[50]) $$, 'of 50, of 30 days');
CREATE FUNCTION pg_temp.schedule(org interval[], campaign interval[], type text DEFAULT 'campaign.lead_completed') RETURNS interval[] LANGUAGE plpgsql AS $$
BEGIN
	UPDATE osmtalk.org_settings SET webhook_retry_schedule = org WHERE org_id = 'acme';
	UPDATE osmtalk.campaigns SET webhook_retry_schedule = campaign WHERE id = 'cmp';
	RETURN (SELECT t.retry_schedule FROM osmtalk.delivery_target(type, 'acme', 'cmp') t);
END $$;
SELECT is(pg_temp.schedule(NULL, NULL), NULL, 'no schedule');
SELECT is(pg_temp.schedule('{1m}', NULL), '{1m}', 'the organisation''s');
SELECT is(pg_temp.schedule('{1m}', '{2m}'), '{2m}', 'the campaign''s wins');
SELECT is(pg_temp.schedule('{1m}', '{}'), NULL, 'even if it is empty');
SELECT is(pg_temp.schedule('{}', NULL), NULL, 'an empty one is none');
SELECT is(pg_temp.schedule('{1m}', '{2m}', 'call.analysis_completed'), '{1m}', 'an event of the organisation has the organisation''s');

-- ---------------------------------------------------------------------------
-- Endpoints
-- ---------------------------------------------------------------------------
SELECT matches(osmtalk.endpoint_id('acme', 'https://a.invalid/'), '^ep_[0-9a-f]{24}$', 'an id');
SELECT isnt(osmtalk.endpoint_id('acme', 'https://a.invalid/'), osmtalk.endpoint_id('other', 'https://a.invalid/'), 'another organisation''s is another');
CREATE FUNCTION pg_temp.endpoints() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(org_id || ' ' || url, ', ' ORDER BY org_id, url) FROM osmtalk.endpoints
$$;
SELECT is(pg_temp.endpoints(), 'acme https://a.invalid/, other https://a.invalid/', 'one for each URL of an organisation');
UPDATE osmtalk.campaigns SET webhook_url = 'https://b.invalid/';
UPDATE osmtalk.org_settings SET default_webhook_url = '' WHERE org_id = 'other';
SELECT is(pg_temp.endpoints(), 'acme https://a.invalid/, acme https://b.invalid/', 'they follow the configuration');
UPDATE osmtalk.campaigns SET webhook_url = 'https://a.invalid/';
UPDATE osmtalk.org_settings SET default_webhook_url = NULL WHERE org_id = 'acme';
SELECT is(pg_temp.endpoints(), 'acme https://a.invalid/', 'one that is still used stays');
DELETE FROM osmtalk.campaigns;
SELECT is(pg_temp.endpoints(), NULL, 'the last use ends it');
UPDATE osmtalk.org_settings SET default_webhook_url = 'https://a.invalid/' WHERE org_id = 'acme';

-- what the worker says: each call is a batch of results for the one endpoint
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', state, consecutive_failures, next_probe_at - now()) FROM osmtalk.endpoints WHERE org_id = 'acme'
$$;
CREATE FUNCTION pg_temp.note(failures int, succeeded boolean DEFAULT false, retried boolean DEFAULT true, gone boolean DEFAULT false,
	at timestamptz DEFAULT now(), dead text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM osmtalk.note_results(ARRAY[osmtalk.endpoint_id('acme', 'https://a.invalid/')], ARRAY[succeeded], ARRAY[failures], ARRAY[retried], ARRAY[gone],
		ARRAY[CASE WHEN failures > 0 THEN at END], ARRAY[at], ARRAY[CASE WHEN failures > 0 THEN 'HTTP 500' END], ARRAY[dead]);
	RETURN pg_temp.state();
END $$;
CREATE FUNCTION pg_temp.enable() RETURNS void LANGUAGE sql AS $$ SELECT osmtalk.enable_endpoint(id) FROM osmtalk.endpoints $$;
BEGIN;
SELECT is(pg_temp.note(4), 'healthy 4', 'four failures');
SELECT is(pg_temp.note(0, succeeded => true), 'healthy 0', 'a success ends the run');
SELECT is(pg_temp.note(4), 'healthy 4', 'four again');
SELECT is(pg_temp.note(1), 'probing 5 00:01:00', 'the fifth opens the breaker');
SELECT is(pg_temp.note(3), 'probing 8 00:01:00', 'what was in flight does not put off the probe');
SELECT is(osmtalk.begin_probe(id), false, 'not before its time') FROM osmtalk.endpoints;
UPDATE osmtalk.endpoints SET next_probe_at = now();
SELECT is(osmtalk.begin_probe(id), true, 'a probe') FROM osmtalk.endpoints;
SELECT is(osmtalk.begin_probe(id), false, 'one') FROM osmtalk.endpoints;
SELECT is(osmtalk.return_probe(id), true, 'that is not made') FROM osmtalk.endpoints;
SELECT is(pg_temp.note(0), 'probing 8 00:00:00', 'is as if it had not been asked for');
SELECT is(probes, 0, 'nor counted') FROM osmtalk.endpoints;
SELECT is(osmtalk.begin_probe(id), true, 'the next') FROM osmtalk.endpoints;
SELECT is(pg_temp.note(1), 'probing 9 00:02:00', 'that fails: the next after twice the time');
SELECT is(pg_temp.note(0, succeeded => true), 'healthy 0', 'one that succeeds');
SELECT is(osmtalk.return_probe(id), true, 'a probe of one that is not probed any more') FROM osmtalk.endpoints;
SELECT is(pg_temp.note(0), 'healthy 0', 'changes nothing');
SELECT is(osmtalk.return_probe('ep_none'), true, 'nor of one that is not configured any more');
SELECT is(pg_temp.note(5, retried => false), 'healthy 5', 'without a schedule there is no breaker');
SELECT is(pg_temp.note(1, retried => false, gone => true), 'healthy 6', 'nor does 410 disable it');
SELECT is(pg_temp.note(0, succeeded => true), 'healthy 0', 'well again');
SELECT is(pg_temp.note(1, gone => true), 'disabled 1', '410 does');
SELECT is(pg_temp.note(0, succeeded => true), 'disabled 0', 'until somebody enables it');
SELECT pg_temp.enable();
SELECT is(pg_temp.state(), 'probing 0 00:00:00', 'who does has it probed');
SELECT is(pg_temp.note(1), 'probing 1 00:00:00', 'it fails still');
SELECT is(pg_temp.note(0, succeeded => true), 'healthy 0', 'and does not');
SELECT osmtalk.disable_endpoint(id) FROM osmtalk.endpoints;
SELECT is(pg_temp.state(), 'disabled 0', 'by hand');
SELECT pg_temp.enable();
SELECT is(pg_temp.state(), 'healthy 0', 'of which whoever did it knows that it is well');
SELECT is(pg_temp.note(1, at => now() - interval '5 days 1 s'), 'healthy 1', 'a failure, five days ago');
SELECT is(pg_temp.note(1, retried => false), 'healthy 2', 'nothing but failures since, without a schedule');
SELECT is(pg_temp.note(1), 'disabled 3', 'with one');
SELECT matches(disabled_reason, '^nothing but failures since .*: HTTP 500$', 'it says why') FROM osmtalk.endpoints;
ROLLBACK;
-- ---------------------------------------------------------------------------
-- What is told of them
-- ---------------------------------------------------------------------------
BEGIN;
-- a notice that is left has not been sent
CREATE FUNCTION pg_temp.notice() RETURNS text LANGUAGE sql AS $$
	SELECT osmtalk.send_notices();
	SELECT concat_ws(' ', notice ->> 'type', notice ->> 'event_id') FROM osmtalk.endpoints WHERE org_id = 'acme'
$$;
SELECT pg_temp.note(1, dead => 'evt_1');
SELECT is(pg_temp.notice(), '', 'the first is sent at once');
SELECT is((SELECT noticed_at = now() FROM osmtalk.endpoints WHERE org_id = 'acme'), true, '... at that time');
UPDATE osmtalk.endpoints SET noticed_at = now() - interval '59 s';
SELECT pg_temp.note(1, dead => 'evt_2');
SELECT is(pg_temp.notice(), 'event.failed evt_2', 'the next waits for its minute');
SELECT pg_temp.note(1, dead => 'evt_3', gone => true);
SELECT is(pg_temp.notice(), 'endpoint.disabled', 'that of a state takes its place');
SELECT pg_temp.note(1, dead => 'evt_4');
SELECT is(pg_temp.notice(), 'endpoint.disabled', 'that of an event does not');
SELECT pg_temp.enable();
SELECT is(pg_temp.notice(), '', 'nothing is said of what is not so any more');
SELECT osmtalk.disable_endpoint(id) FROM osmtalk.endpoints;
SELECT is(pg_temp.notice(), 'endpoint.disabled', 'by hand, too');
UPDATE osmtalk.endpoints SET noticed_at = now() - interval '1 min';
SELECT is(pg_temp.notice(), '', 'the minute is over: it is sent');
ROLLBACK;

SELECT is(osmtalk.probe_pause(probes), pause, format('the pause after %s probes', probes))
  FROM (VALUES (0, interval '1 min'), (1, '2 min'), (5, '32 min'), (6, '1 h'), (1000000, '1 h')) t (probes, pause);
SELECT is(osmtalk.endpoint_standing(state::osmtalk.endpoint_state, disabled_by, at, retried), expected, format('%s %s %s %s', state, disabled_by, at, retried))
  FROM (VALUES
	('healthy', NULL, NULL, true, 'send'), ('healthy', NULL, NULL, false, 'send'),
	('probing', NULL, 'infinity'::timestamptz, true, 'wait'), ('probing', NULL, '-infinity', true, 'probe'), ('probing', NULL, 'infinity', false, 'send'),
	('disabled', NULL, NULL, true, 'wait'), ('disabled', NULL, NULL, false, 'send'), ('disabled', 'me', NULL, false, 'wait')) t (state, disabled_by, at, retried, expected);
SELECT * FROM finish();
