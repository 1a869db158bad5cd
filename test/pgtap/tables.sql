--
-- Tables that somebody has added to: what is there takes part in the recording
-- of events, as it does with any INSERT.
--
\set ON_ERROR_STOP on
SELECT plan(18);
SET client_min_messages = error;

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('org', 'https://example.invalid/'), ('none', NULL);

CREATE FUNCTION pg_temp.record(org_id text DEFAULT 'org') RETURNS text LANGUAGE sql AS $$
	SELECT osmtalk.record_event('webhook.test', org_id, NULL, NULL, NULL, '{}')
$$;
CREATE FUNCTION pg_temp.row_of(id text) RETURNS text LANGUAGE sql AS $$
	SELECT concat(to_jsonb(e) - 'id', to_jsonb(o) - 'id' - 'event_id')
	  FROM osmtalk.events e LEFT JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.id = row_of.id
$$;
-- fired by statements of the extension's, which are its owner's
CREATE FUNCTION pg_temp.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO noted VALUES (TG_ARGV[0]);
	RETURN NEW;
END
$$;
CREATE TEMP TABLE noted (what text);
GRANT INSERT ON noted TO osmtalk_owner; -- as whom a rule is applied

-- ---------------------------------------------------------------------------
-- The same rows either way
-- ---------------------------------------------------------------------------
BEGIN;
CREATE TEMP TABLE recorded ON COMMIT DROP AS SELECT 1 AS number, pg_temp.record() AS id UNION ALL SELECT 2, pg_temp.record('none');
ALTER TABLE osmtalk.outbox ADD CHECK (id > 0);
ALTER TABLE osmtalk.events ADD CHECK (id <> '');
INSERT INTO recorded SELECT 3, pg_temp.record() UNION ALL SELECT 4, pg_temp.record('none');
SELECT matches(pg_temp.row_of(id), '"attempts": 0.*"worker_deaths": 0', 'a row is complete') FROM recorded WHERE number = 1;
SELECT is((SELECT pg_temp.row_of(id) FROM recorded WHERE number = 1), (SELECT pg_temp.row_of(id) FROM recorded WHERE number = 3),
		  'a statement writes the same');
SELECT matches(pg_temp.row_of(id), 'no webhook URL', 'an event that is not enqueued') FROM recorded WHERE number = 2;
SELECT is((SELECT pg_temp.row_of(id) FROM recorded WHERE number = 2), (SELECT pg_temp.row_of(id) FROM recorded WHERE number = 4),
		  'a statement writes the same');
SELECT is((SELECT count(DISTINCT o.id) FROM osmtalk.outbox o), 2::bigint, 'ids come from one sequence');
ROLLBACK;

-- ---------------------------------------------------------------------------
-- Triggers and rules
-- ---------------------------------------------------------------------------
BEGIN;
CREATE TRIGGER noted AFTER INSERT ON osmtalk.events FOR EACH ROW EXECUTE FUNCTION pg_temp.note('row');
SELECT pg_temp.record('none');
SELECT is((SELECT string_agg(what, ',') FROM noted), 'row', 'a trigger for each event fires');
ROLLBACK;
BEGIN;
CREATE TRIGGER noted AFTER INSERT ON osmtalk.events FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.note('statement');
SELECT pg_temp.record('none');
SELECT is((SELECT string_agg(what, ',') FROM noted), 'statement', 'one for each statement, too');
ROLLBACK;
BEGIN;
CREATE TRIGGER noted BEFORE INSERT ON osmtalk.outbox FOR EACH ROW EXECUTE FUNCTION pg_temp.note('outbox');
SELECT pg_temp.record();
SELECT is((SELECT string_agg(what, ',') FROM noted), 'outbox', 'and one of the outbox');
SELECT is((SELECT count(*) FROM osmtalk.outbox), 1::bigint, 'beside the row');
ROLLBACK;
BEGIN;
CREATE TRIGGER noted AFTER DELETE ON osmtalk.outbox FOR EACH ROW EXECUTE FUNCTION pg_temp.note('deleted');
SELECT pg_temp.record();
SELECT is((SELECT count(*) FROM noted), 0::bigint, 'one of another operation does not');
ROLLBACK;
BEGIN;
CREATE RULE noted AS ON INSERT TO osmtalk.events DO ALSO INSERT INTO noted VALUES ('rule');
SELECT pg_temp.record('none');
SELECT is((SELECT string_agg(what, ',') FROM noted), 'rule', 'a rule is applied');
ROLLBACK;

-- ---------------------------------------------------------------------------
-- Constraints, columns, indexes
-- ---------------------------------------------------------------------------
BEGIN;
ALTER TABLE osmtalk.outbox ADD CHECK (endpoint_hash = 0);
SELECT throws_ok('SELECT pg_temp.record()', '23514', NULL, 'a constraint is enforced');
ROLLBACK;
BEGIN;
ALTER TABLE osmtalk.events ADD COLUMN region text DEFAULT 'eu';
SELECT pg_temp.record();
SELECT is((SELECT string_agg(region, ',') FROM osmtalk.events), 'eu', 'a column has its default');
ROLLBACK;
BEGIN;
CREATE INDEX skipped ON osmtalk.events ((lower(id))) WHERE skipped_reason IS NOT NULL;
SELECT pg_temp.record('none'), pg_temp.record();
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT is((SELECT count(*) FROM osmtalk.events WHERE skipped_reason IS NOT NULL AND lower(id) > ''), 1::bigint, 'an index of some rows has those');
ROLLBACK;
BEGIN;
ALTER SEQUENCE osmtalk.outbox_id_seq RENAME TO ids;
SELECT pg_temp.record();
SELECT is((SELECT count(*) FROM osmtalk.outbox), 1::bigint, 'the sequence may have another name');
ROLLBACK;
-- ---------------------------------------------------------------------------
-- What a statement would refuse
-- ---------------------------------------------------------------------------
BEGIN READ ONLY;
SELECT throws_ok($$SELECT osmtalk.record_event('webhook.test', 'none', NULL, NULL, NULL, '{}')$$, '25006', NULL, 'nothing is written in a read-only transaction');
ROLLBACK;
BEGIN;
SELECT throws_ok($$SELECT osmtalk.record_event('webhook.test', NULL, NULL, NULL, NULL, '{}')$$, '23502', NULL, 'nor without an organisation');
ROLLBACK;
SELECT osmtalk.record_event('webhook.test', 'none', NULL, NULL, NULL, repeat(md5('x'), 300000));
SELECT is((SELECT octet_length(body) FROM osmtalk.events), 9600000, 'a large body is stored');

SELECT * FROM finish();
