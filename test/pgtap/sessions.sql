--
-- What a session keeps of the triggers' plans and rules: it must follow the
-- extension, outlive errors, and mean the same under any search path.
--
\set ON_ERROR_STOP on
SELECT plan(18);
SET client_min_messages = error;

CREATE FUNCTION pg_temp.fill(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('org', 'https://example.invalid/');
	INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent', 'org', true);
	INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp', 'org', 'Campaign');
	INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld' || i, 'cmp', '+919876543210' FROM generate_series(1, n) i;
	INSERT INTO osmtalk.calls (id, lead_id, answered_at, agent_id)
	SELECT 'call' || i, 'ld' || i, now() - interval '1 min', CASE WHEN i % 2 = 0 THEN 'agent' END FROM generate_series(1, n) i;
END
$$;
CREATE FUNCTION pg_temp.finish(VARIADIC which int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"success": true}' WHERE id IN (SELECT 'call' || i FROM unnest(which) i);
END
$$;
-- the status and disposition of each lead, and the events of its call
CREATE FUNCTION pg_temp.state(VARIADIC leads int[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', l.status, l.disposition,
			(SELECT count(*) FROM osmtalk.events e JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.call_id = l.call_id)), ', ' ORDER BY i)
	  FROM unnest(leads) i JOIN osmtalk.leads l ON l.id = 'ld' || i
$$;

BEGIN;
SELECT pg_temp.fill(20);
COMMIT;

BEGIN;
SELECT pg_temp.finish(1, 2);
SELECT is(pg_temp.state(1, 2), 'completed completed 1, completed qualified 2', 'a call, and one of an agent with analysis');

-- ---------------------------------------------------------------------------
-- Errors and savepoints
-- ---------------------------------------------------------------------------
SAVEPOINT s;
SELECT pg_temp.finish(3);
ROLLBACK TO s;
SELECT is(pg_temp.state(3), 'calling 0', 'a savepoint takes everything back');
SELECT pg_temp.finish(3);
SELECT is(pg_temp.state(3), 'completed completed 1', 'and the call can be finished after it');

CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
SET LOCAL search_path = public, osmtalk;
DO $$
DECLARE
	place text;
BEGIN
	FOREACH place IN ARRAY '{leads,events,outbox}'::text[] LOOP
		BEGIN
			EXECUTE format('CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON osmtalk.%I FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()', place);
			PERFORM pg_temp.finish(4);
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT is(current_setting('search_path'), 'public, osmtalk', 'an error in the middle restores the search path');
SELECT is(pg_temp.state(4), 'calling 0', 'and leaves nothing');
SELECT pg_temp.finish(4, 5, 6);
SELECT is(pg_temp.state(4, 5, 6), 'completed qualified 2, completed completed 1, completed qualified 2', 'the same session goes on, several leads at once');
SELECT is(current_setting('search_path'), 'public, osmtalk', 'the search path is the session''s afterwards');

-- ---------------------------------------------------------------------------
-- A hostile search path
-- ---------------------------------------------------------------------------
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.never);
CREATE FUNCTION hostile.later(timestamptz, interval) RETURNS timestamptz LANGUAGE sql AS $$ SELECT NULL::timestamptz $$;
CREATE OPERATOR hostile.+ (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = hostile.later);
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$;
CREATE TABLE hostile.leads (LIKE osmtalk.leads);
UPDATE osmtalk.campaigns SET max_attempts = 2;

-- the search path that a trigger of the user's sees, below osmtalk's
CREATE FUNCTION pg_temp.note_path() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('test.path', current_setting('search_path'), true);
	RETURN NULL;
END
$$;
CREATE TRIGGER note_path AFTER UPDATE ON osmtalk.leads FOR EACH ROW EXECUTE FUNCTION pg_temp.note_path();
SET LOCAL search_path = hostile, pg_catalog;
UPDATE osmtalk.calls SET ended_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) 'call7';
UPDATE osmtalk.calls SET ended_at = pg_catalog.now(), error = 'crashed' WHERE id OPERATOR(pg_catalog.=) 'call9';
SET LOCAL search_path = public;
SELECT is(pg_temp.state(7), 'completed completed 1', 'planted operators, functions and tables are not used');
SELECT ok((SELECT status = 'pending' AND next_attempt_at = now() + interval '1 hour' FROM osmtalk.leads WHERE id = 'ld9'), 'nor to retry');
SELECT is(current_setting('test.path'), 'pg_catalog, pg_temp', 'and a trigger of the user''s sees the owner''s search path');

-- ---------------------------------------------------------------------------
-- Changes of the schema
-- ---------------------------------------------------------------------------
ALTER TABLE osmtalk.org_settings ADD COLUMN note text DEFAULT 'x';
ALTER TABLE osmtalk.events ADD COLUMN note text DEFAULT 'x';
CREATE INDEX ON osmtalk.leads (phone_number);
SELECT pg_temp.finish(10);
SELECT is(pg_temp.state(10), 'completed qualified 2', 'new columns and indexes');
SAVEPOINT s;
CREATE OR REPLACE FUNCTION osmtalk.disposition(analysis jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 'another rule';
SELECT pg_temp.finish(12);
SELECT is(pg_temp.state(12), 'completed another rule 2', 'a rule that was replaced holds at once');
ROLLBACK TO s;
SELECT pg_temp.finish(12);
SELECT is(pg_temp.state(12), 'completed qualified 2', 'and no longer once that is rolled back');

-- ---------------------------------------------------------------------------
-- The extension dropped and created
-- ---------------------------------------------------------------------------
SAVEPOINT s;
DROP EXTENSION osmtalk CASCADE;
CREATE EXTENSION osmtalk;
SELECT pg_temp.fill(4);
SELECT pg_temp.finish(1, 2);
SELECT is(pg_temp.state(1, 2), 'completed completed 1, completed qualified 2', 'created anew in the same session');
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld3';
SELECT is(pg_temp.state(3), 'failed 1', 'a lead that the application decides, too');
ROLLBACK TO s;
SELECT pg_temp.finish(13, 14);
SELECT is(pg_temp.state(13, 14), 'completed completed 1, completed qualified 2', 'and the old one again once that is rolled back');
COMMIT;
DROP EXTENSION osmtalk CASCADE;
CREATE EXTENSION osmtalk;
BEGIN;
SELECT pg_temp.fill(4);
SELECT pg_temp.finish(1, 2);
SELECT is(pg_temp.state(1, 2), 'completed completed 1, completed qualified 2', 'created anew in another transaction');
SELECT is((SELECT count(*) FROM osmtalk.events), 3::bigint, 'with its own events alone');
COMMIT;

SELECT * FROM finish();
