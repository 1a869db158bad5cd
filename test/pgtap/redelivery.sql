--
-- Many events sent again: which, by whom, how many at a time.  The worker does
-- not see this transaction; what it would do is called by hand, and the clock
-- is set by setting back when it was called last.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(92);

CREATE ROLE osmtalk_test_admin;
GRANT osmtalk_admin TO osmtalk_test_admin;
CREATE ROLE osmtalk_test_monitor;
GRANT osmtalk_monitor TO osmtalk_test_monitor;
GRANT USAGE ON SCHEMA public TO PUBLIC;

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES
	('mine', 'https://mine.example/hook?token=abc', 'whsec_0123456789'), ('other', 'https://other.example/', NULL), ('mute', NULL, NULL);
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp', 'mine', 'A campaign');

-- events of one state, with ids that tell it
CREATE FUNCTION pg_temp.events(org text, n int, state text, created timestamptz DEFAULT now(), in_slot int2 DEFAULT NULL, campaign text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO osmtalk.events (id, type, org_id, campaign_id, body, created_at, slot, skipped_reason)
	SELECT format('evt_%s_%s_%s', org, state, to_char(i, 'FM0000')), 'campaign.lead_completed', org, campaign, '{}', created, coalesce(in_slot, osmtalk.current_slot()),
		   CASE state WHEN 'skipped' THEN 'no webhook URL' END FROM generate_series(1, n) i;
	INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, duration_ms, http_status, error, slot, url)
	SELECT e.id, 3, created, 1, CASE state WHEN 'failed' THEN 500 ELSE 200 END, CASE state WHEN 'failed' THEN 'HTTP 500' END, e.slot, format('https://%s.example/hook?token=abc', org)
	  FROM osmtalk.events e WHERE e.id LIKE format('evt\_%s\_%s\_%%', org, state) AND state IN ('failed', 'delivered');
	INSERT INTO osmtalk.outbox (event_id) SELECT e.id FROM osmtalk.events e WHERE e.id LIKE format('evt\_%s\_%s\_%%', org, state) AND state = 'pending';
END
$$;
SELECT pg_temp.events('mine', 30, 'failed', now() - interval '1 hour', campaign => 'cmp');
SELECT pg_temp.events('mine', 20, 'delivered', now() - interval '1 day');
SELECT pg_temp.events('mine', 2, 'pending');
SELECT pg_temp.events('other', 5, 'failed', now() - interval '2 hours');
SELECT pg_temp.events('mute', 3, 'skipped');

-- ---------------------------------------------------------------------------
-- Which events: a predicate
-- ---------------------------------------------------------------------------
SET LOCAL ROLE osmtalk_test_admin;
CREATE FUNCTION pg_temp.counted(predicate text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws('|', r.redelivery_id, r.total, r.by_state) FROM osmtalk.redeliver_matching(predicate) r $$;
SELECT is(pg_temp.counted('state = ''failed'''), '35|{"failed": 35}', 'a dry run, the default, counts');
SELECT is(pg_temp.counted('true'), '60|{"failed": 35, "pending": 2, "skipped": 3, "delivered": 20}', 'by state');
SELECT is(pg_temp.counted('false'), '0|{}', 'none');
SELECT is(pg_temp.counted('NULL'), '0|{}', 'null is not true');
SELECT results_eq($$ SELECT total, oldest, newest FROM osmtalk.redeliver_matching('org_id IN (''mine'', ''other'') AND state = ''failed''') $$,
	$$ VALUES (35::bigint, now() - interval '2 hours', now() - interval '1 hour') $$, 'and says from when they are');
SELECT is(pg_temp.counted('http_status >= 500 AND error ~ ''500'' OR attempts = 2'), '35|{"failed": 35}', 'any columns of deliveries, OR and AND');
SELECT is(pg_temp.counted(E'state = ''failed'' -- and no more'), '35|{"failed": 35}', 'a comment ends where the predicate does');
SELECT is(pg_temp.counted('deliveries.state = ''failed'' /* deliveries */'), '35|{"failed": 35}', 'names can be qualified');
SELECT is(pg_temp.counted('event_id = (SELECT max(event_id) FROM osmtalk.deliveries WHERE state = ''failed'')'), '1|{"failed": 1}', 'it may ask for more');
SELECT is(pg_temp.counted('error LIKE ''%500'' AND ''%s'' <> ''%I'''), '35|{"failed": 35}', 'nothing in it is a pattern');
SELECT is((SELECT count(*) FROM osmtalk.redeliveries), 0::bigint, 'a dry run leaves nothing behind');

SELECT throws_ok(format('SELECT * FROM osmtalk.redeliver_matching(%L, false)', predicate), code, NULL, 'refused: ' || predicate) FROM (VALUES
	('true); DROP TABLE osmtalk.outbox; --', '42601'),
	('true; DROP TABLE osmtalk.outbox', '22023'),
	('true; SELECT true', '22023'),
	('true) OR (true', '42601'),
	('true) UNION SELECT (true', '42601'),
	('true UNION SELECT true', '22023'),
	('true FROM osmtalk.outbox', '22023'),
	('true WHERE true', '22023'),
	('true, true', '22023'),
	('true AS x', '22023'),
	('true LIMIT 1', '22023'),
	('true INTO x', '22023'),
	('', '22023'),
	('   ', '22023'),
	('DISTINCT true', '22023'),
	('true /*', '42601'),
	('''', '42601'),
	('$$', '42601'),
	('$1', '42P02'),
	('*', '42601'),
	('1', '42804'),
	('no_such_column', '42703'),
	('count(*) > 0', '42803'),
	('generate_series(1, 2) > 1', '0A000'),
	('(SELECT true', '42601')) t (predicate, code);
SELECT is((SELECT count(*) FROM osmtalk.redeliveries), 0::bigint, 'nothing came of them');

-- it can do what the caller can
SELECT throws_ok(format('SELECT * FROM osmtalk.redeliver_matching(%L)', predicate), '42501', NULL, 'not the caller''s to do: ' || predicate) FROM unnest(ARRAY[
	'EXISTS (SELECT FROM osmtalk.org_settings WHERE webhook_secret IS NOT NULL)',
	'EXISTS (SELECT FROM osmtalk.previous_secrets)',
	'osmtalk.record_event(''t'', ''mine'', NULL, NULL, NULL, ''b'') IS NULL',
	'pg_read_file(''/etc/passwd'') IS NULL']) predicate;
RESET ROLE;
SET LOCAL ROLE osmtalk_test_monitor;
SELECT throws_ok('SELECT * FROM osmtalk.redeliver_matching(''true'')', '42501', NULL, 'not for monitoring');
SELECT throws_ok('SELECT osmtalk.start_redelivery(''x'', 1)', '42501', NULL, 'nor what it consists of');
RESET ROLE;

-- ---------------------------------------------------------------------------
-- Which events: the usual cases
-- ---------------------------------------------------------------------------
SET LOCAL ROLE osmtalk_test_admin;
SELECT is((SELECT total FROM osmtalk.redeliver_matching(state => 'failed')), 35::bigint, 'by state');
SELECT is((SELECT total FROM osmtalk.redeliver_matching(campaign_id => 'cmp')), 30::bigint, 'by campaign');
SELECT is((SELECT total FROM osmtalk.redeliver_matching(org_id => 'other')), 5::bigint, 'by organisation');
SELECT is((SELECT total FROM osmtalk.redeliver_matching(since => now() - interval '90 min', until => now())), 30::bigint, 'by time: from, and before');
SELECT is((SELECT total FROM osmtalk.redeliver_matching('attempts > 0', since => '-infinity', state => 'delivered')), 20::bigint, 'with a predicate, too');
SELECT is((SELECT total FROM osmtalk.redeliver_matching('true OR true', org_id => 'other')), 5::bigint, '... which does not take anything back');
SELECT throws_ok(command, '22023', NULL, command) FROM unnest(ARRAY[
	'SELECT osmtalk.redeliver_matching()', 'SELECT osmtalk.redeliver_matching(NULL, false)', 'SELECT osmtalk.redeliver_matching(dry_run => false)',
	'SELECT osmtalk.redeliver_matching(state => ''dead'')', 'SELECT osmtalk.redeliver_matching(''true'', rate => 0)',
	'SELECT osmtalk.redeliver_matching(''true'', rate => 10001)', 'SELECT osmtalk.redeliver_matching(''true'', rate => NULL)']) command;

-- ---------------------------------------------------------------------------
-- At a rate
-- ---------------------------------------------------------------------------
CREATE TEMPORARY TABLE job AS SELECT * FROM osmtalk.redeliver_matching(state => 'failed', org_id => 'mine', dry_run => false, rate => 40);
GRANT SELECT ON job TO PUBLIC;
SELECT results_eq('SELECT total, by_state::text FROM job WHERE redelivery_id IS NOT NULL', $$ VALUES (30::bigint, '{"failed": 30}') $$, 'begun');
SELECT results_eq('SELECT state, total, done, failed, waiting, not_enqueued, rate, by_role FROM osmtalk.redelivery_progress',
	format('VALUES (''running'', 30::bigint, 0::bigint, 0::bigint, 30::bigint, 30::bigint, 40, %L)', session_user), 'progress: it waits');
SELECT is((SELECT count(*) FROM osmtalk.deliveries WHERE state = 'failed' AND org_id = 'mine'), 30::bigint, 'its events are what they were');
RESET ROLE;

-- what came to the outbox by a step that is taken that long after the one before
CREATE FUNCTION pg_temp.step(after interval) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before bigint := count(*) FROM osmtalk.outbox o WHERE o.redelivery_id IS NOT NULL;
BEGIN
	UPDATE osmtalk.redelivery_counters SET fed_at = clock_timestamp() - after;
	PERFORM osmtalk.feed_redeliveries();
	RETURN (SELECT count(*) - before FROM osmtalk.outbox o WHERE o.redelivery_id IS NOT NULL);
END
$$;
SELECT is((osmtalk.feed_redeliveries()).pause, 50::double precision, 'the first step says when the next is due');
SELECT results_eq('SELECT (SELECT count(*) FROM osmtalk.outbox WHERE redelivery_id IS NOT NULL), fed_at <= clock_timestamp() FROM osmtalk.redelivery_counters', 'VALUES (0::bigint, true)', 'and begins to count the time');
SELECT is(pg_temp.step('0.1 s'), 4::bigint, 'in a tenth of a second a tenth of the rate');
SELECT is(pg_temp.step('0.01 s'), 0::bigint, 'in less than one takes, none');
SELECT is(pg_temp.step('0.026 s'), 1::bigint, 'then one');
SELECT is(pg_temp.step('0.9 s'), 20::bigint, 'a late step makes up for half a second at most');
SELECT is(pg_temp.step('1 h'), 0::bigint, 'an absence is not made up for');
SELECT is(pg_temp.step('-1 h'), 0::bigint, 'the clock was set back');
SELECT is((SELECT fed_at <= clock_timestamp() FROM osmtalk.redelivery_counters), true, '... and time is counted from there');
SELECT is(pg_temp.step('0.05 s'), 2::bigint, '... and it goes on');
SELECT results_eq('SELECT DISTINCT o.attempts, o.origin = osmtalk.current_origin(), o.slot = osmtalk.current_slot(), o.endpoint_hash = osmtalk.endpoint_hash(''https://mine.example''), o.redelivery_id = (SELECT redelivery_id FROM job) FROM osmtalk.outbox o WHERE redelivery_id IS NOT NULL',
	'VALUES (3, true, true, true, true)', 'rows of the outbox are as redeliver() makes them');
SELECT osmtalk.cancel_redelivery(redelivery_id) FROM job;
SELECT is((osmtalk.feed_redeliveries()).pause, NULL, 'cancelled: there is nothing to do');
SELECT is((SELECT state || '|' || waiting || '|' || not_enqueued FROM osmtalk.redelivery_progress), 'cancelled|30|3', '... but for what is in the outbox');
SELECT osmtalk.resume_redelivery(redelivery_id) FROM job;
SELECT is(pg_temp.step('0.1 s'), 0::bigint, 'resumed: time that has passed before does not count');
UPDATE osmtalk.redeliveries SET resumed_at = resumed_at - interval '1 min';
SELECT is(pg_temp.step('0.1 s'), 3::bigint, '... then it goes on');
SELECT is((osmtalk.feed_redeliveries()).pause, NULL, 'and that was all');
SELECT is((SELECT count(*) FROM osmtalk.redelivery_events), 0::bigint, 'nothing is left in the list');
SELECT throws_ok('SELECT osmtalk.cancel_redelivery(-1)', 'P0002', NULL, 'cancel: there is no such redelivery');
SELECT throws_ok('SELECT osmtalk.resume_redelivery(NULL)', 'P0002', NULL, 'resume: nor this');

-- ---------------------------------------------------------------------------
-- What cannot be sent
-- ---------------------------------------------------------------------------
DELETE FROM osmtalk.outbox WHERE redelivery_id IS NOT NULL;
SELECT pg_temp.events('other', 1, 'delivered');
SELECT pg_temp.events('mine', 3, 'skipped', now() - interval '35 days', (SELECT s::int2 FROM generate_series(0, 15) s WHERE osmtalk.slot_is_over(s::int2) LIMIT 1));
TRUNCATE job;
INSERT INTO job SELECT * FROM osmtalk.redeliver_matching('org_id <> ''mine'' OR state IN (''pending'', ''skipped'')', false, 10000);
SELECT is((SELECT total FROM job), 14::bigint, 'events of all sorts');
SELECT osmtalk.redeliver('evt_other_delivered_0001');
DELETE FROM osmtalk.events WHERE id = 'evt_other_failed_0005';
SELECT osmtalk.feed_redeliveries();
SELECT is(pg_temp.step('0.5 s'), 7::bigint, 'some are enqueued');
SELECT results_eq(format('SELECT total, waiting, already_waiting, removed, without_url, not_enqueued FROM osmtalk.redelivery_progress WHERE id = %s', (SELECT redelivery_id FROM job)),
	'VALUES (14::bigint, 7::bigint, 3::bigint, 1::bigint, 3::bigint, 0::bigint)', '... and it is said what became of the others');
SELECT results_eq('SELECT e.slot, o.slot FROM osmtalk.events e JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.id LIKE ''evt\_mine\_skipped\_%''', 'SELECT -1::int2, -1::int2 FROM generate_series(1, 3)',
	'what is in a slot that is over is moved, so that it is not emptied');

-- ---------------------------------------------------------------------------
-- Tenants
-- ---------------------------------------------------------------------------
DELETE FROM osmtalk.outbox;
SELECT osmtalk.enable_tenant_isolation();
SET LOCAL ROLE osmtalk_test_admin;
SET LOCAL osmtalk.org_id = 'other';
SELECT is_empty('SELECT * FROM osmtalk.redelivery_progress', 'what an operator has begun is not a tenant''s to see');
SELECT throws_ok(format('SELECT osmtalk.cancel_redelivery(%s)', (SELECT redelivery_id FROM job)), 'P0002', NULL, '... nor to cancel');
SELECT is(pg_temp.counted('true'), '5|{"failed": 4, "delivered": 1}', 'a tenant''s predicate sees its own');
SELECT is((SELECT total FROM osmtalk.redeliver_matching('true', org_id => 'mine', dry_run => false)), 0::bigint, '... and redelivers no other''s');
TRUNCATE job;
INSERT INTO job SELECT * FROM osmtalk.redeliver_matching('true', false);
SELECT is((SELECT total || '|' || org_id FROM osmtalk.redelivery_progress), '5|other', 'it sees what it has begun');
SELECT is(osmtalk.add_to_redelivery(redelivery_id, ARRAY['evt_mine_failed_0001']), 0::bigint, '... and can add no other''s event') FROM job;
SET LOCAL osmtalk.org_id = 'mine';
SELECT is_empty('SELECT id FROM osmtalk.redelivery_progress', 'another tenant does not see it');
SELECT is_empty('SELECT redelivery_id FROM osmtalk.redelivery_events UNION ALL SELECT redelivery_id FROM osmtalk.redelivery_counters UNION ALL SELECT id FROM osmtalk.redeliveries', '... nor what it consists of');
SELECT throws_ok(format('SELECT osmtalk.resume_redelivery(%s)', (SELECT redelivery_id FROM job)), 'P0002', NULL, '... nor can it resume it');
RESET ROLE;
SELECT osmtalk.disable_tenant_isolation();

-- a transaction's id, as if it had been another
UPDATE osmtalk.redeliveries SET xid = '3';
SELECT throws_ok(format('SELECT osmtalk.add_to_redelivery(%s, ''{}'')', (SELECT redelivery_id FROM job)), '55000', NULL, 'nothing is added to one that was begun before');

SELECT * FROM finish();
ROLLBACK;
