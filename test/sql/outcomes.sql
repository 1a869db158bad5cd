--
-- What came of a call: the rules as pure functions of their arguments.
--
-- Each table of cases carries the answer that the contract gives, written by
-- hand; what is printed below it are the cases that disagree (none) and how
-- many there were.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';

CREATE SCHEMA outcomes;

-- ---------------------------------------------------------------------------
-- call_outcome(): each row of the rule table by itself
-- ---------------------------------------------------------------------------
CREATE TABLE outcomes.rules AS SELECT * FROM (VALUES
	(1, true,  486,  false, NULL),
	(1, false, 486,  false, NULL),
	(1, true,  600,  false, NULL),
	(1, false, 600,  false, NULL),
	(2, false, 408,  false, NULL),
	(2, false, 480,  false, NULL),
	(2, false, 487,  false, NULL),
	(3, true,  NULL, false, 'bot crashed'),
	(3, true,  200,  false, ''),
	(4, true,  400,  false, NULL),
	(4, false, 404,  false, NULL),
	(4, false, 407,  false, NULL),
	(4, true,  408,  false, NULL),
	(4, true,  480,  false, NULL),
	(4, true,  487,  false, NULL),
	(4, false, 503,  false, NULL),
	(4, true,  603,  false, NULL),
	(4, false, 603,  false, NULL),
	(4, true,  2147483647, false, NULL),
	(5, true,  NULL, true,  NULL),
	(5, false, 200,  true,  NULL),
	(6, false, NULL, false, NULL),
	(6, false, 200,  NULL,  NULL),
	(7, true,  NULL, false, NULL),
	(7, true,  NULL, NULL,  NULL),
	(7, true,  0,    false, NULL),
	(7, true,  200,  false, NULL),
	(7, true,  302,  false, NULL),
	(7, true,  399,  false, NULL),
	(7, true,  -486, false, NULL)
  ) t (rule, answered, sip, voicemail, error);
SELECT rule, answered, sip, voicemail, error,
	   osmtalk.call_outcome(CASE WHEN answered THEN timestamptz '2026-05-06 11:00:00Z' END,
							'2026-05-06 11:01:00Z', sip, voicemail, error) AS outcome
  FROM outcomes.rules;

-- Where two rules match, the earlier wins: every pair that can meet.
CREATE TABLE outcomes.pairs AS SELECT * FROM (VALUES
	('1 before 3', timestamptz '2026-05-06 11:00:00Z', 486,  false, 'x'),
	('1 before 5', '2026-05-06 11:00:00Z', 600,  true,  NULL),
	('1 before 6', NULL,                   486,  false, NULL),
	('1 before 7', '2026-05-06 11:00:00Z', 600,  false, NULL),
	('1 before 3, 5, 6', NULL,             600,  true,  'x'),
	('2 before 3', NULL,                   408,  false, 'x'),
	('2 before 5', NULL,                   480,  true,  NULL),
	('2 before 6', NULL,                   487,  false, NULL),
	('2 before 3, 5', NULL,                487,  true,  'x'),
	('3 before 4', '2026-05-06 11:00:00Z', 503,  false, 'x'),
	('3 before 5', '2026-05-06 11:00:00Z', NULL, true,  'x'),
	('3 before 6', NULL,                   NULL, false, 'x'),
	('3 before 7', '2026-05-06 11:00:00Z', NULL, false, 'x'),
	('4 before 5', '2026-05-06 11:00:00Z', 503,  true,  NULL),
	('4 before 6', NULL,                   503,  false, NULL),
	('4 before 7', '2026-05-06 11:00:00Z', 503,  false, NULL),
	('5 before 6', NULL,                   NULL, true,  NULL),
	('5 before 6, short', '2026-05-06 11:00:59Z', NULL, true,  NULL),
	('5 before 7', '2026-05-06 11:00:00Z', NULL, true,  NULL),
	('6 before 7', '2026-05-06 11:00:58Z', NULL, false, NULL)
  ) t (pair, answered_at, sip, voicemail, error);
SELECT pair, osmtalk.call_outcome(answered_at, '2026-05-06 11:01:00Z', sip, voicemail, error) AS outcome FROM outcomes.pairs;

-- Times: the boundary of three seconds, odd orders, odd years, infinity.
CREATE TABLE outcomes.times AS SELECT * FROM (VALUES
	(timestamptz '2026-05-06 11:00:00Z', timestamptz '2026-05-06 11:00:02.999999Z'),
	('2026-05-06 11:00:00Z', '2026-05-06 11:00:03Z'),
	('2026-05-06 11:00:00Z', '2026-05-06 11:00:03.000001Z'),
	('2026-05-06 11:00:00Z', '2026-05-06 11:00:00Z'),
	('2026-05-06 11:00:00Z', '2026-05-06 10:59:00Z'),
	('294276-12-31 23:59:59.999999Z', '4714-11-24 00:00:00Z BC'),
	('4714-11-24 00:00:00Z BC', '294276-12-31 23:59:59.999999Z'),
	('0044-03-15 12:00:00Z BC', '0044-03-15 12:00:03Z BC'),
	('0001-12-31 23:59:58Z BC', '0001-01-01 00:00:00.999999Z'),
	('294276-12-31 23:59:56.999999Z', '294276-12-31 23:59:59.999999Z'),
	('294276-12-31 23:59:57.999999Z', '294276-12-31 23:59:59.999999Z'),
	-- infinite counts as null
	('infinity', '2026-05-06 11:00:00Z'),
	('-infinity', '2026-05-06 11:00:00Z'),
	('2026-05-06 11:00:00Z', 'infinity'),
	('2026-05-06 11:00:00Z', '-infinity'),
	('-infinity', 'infinity'),
	('infinity', 'infinity'),
	(NULL, '2026-05-06 11:00:00Z'),
	('2026-05-06 11:00:00Z', NULL),
	(NULL, NULL)
  ) t (answered_at, ended_at);
SELECT answered_at, ended_at, osmtalk.call_outcome(answered_at, ended_at, NULL, NULL, NULL) AS outcome FROM outcomes.times;

-- Not answered because never, or because infinitely late: rule 2 sees no difference.
SELECT answered_at, osmtalk.call_outcome(answered_at, '2026-05-06 11:00:00Z', 487, false, NULL) AS outcome
  FROM (VALUES (timestamptz 'infinity'), ('-infinity'), (NULL), ('2026-05-06 10:00:00Z')) t (answered_at);

-- No end, no outcome, whatever else is known.
SELECT count(*) AS cases, count(osmtalk.call_outcome('2026-05-06 11:00:00Z', ended_at, sip, true, 'x')) AS outcomes
  FROM (VALUES (timestamptz 'infinity'), ('-infinity'), (NULL)) e (ended_at),
	   (VALUES (NULL::int), (200), (408), (486), (503)) s (sip);

-- The whole space against the rules written once more, as plainly as can be.
CREATE FUNCTION outcomes.by_the_book(answered timestamptz, ended timestamptz, sip int, voicemail boolean, err text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	unanswered boolean := answered IS NULL OR answered IN ('infinity', '-infinity');
BEGIN
	IF ended IS NULL OR ended IN ('infinity', '-infinity') THEN RETURN NULL; END IF;
	IF sip = 486 OR sip = 600 THEN RETURN 'busy'; END IF;
	IF (sip = 408 OR sip = 480 OR sip = 487) AND unanswered THEN RETURN 'no_answer'; END IF;
	IF err IS NOT NULL THEN RETURN 'failed'; END IF;
	IF sip >= 400 THEN RETURN 'failed'; END IF;
	IF voicemail THEN RETURN 'voicemail'; END IF;
	IF unanswered OR ended < answered + interval '3 seconds' THEN RETURN 'no_answer'; END IF;
	RETURN 'completed';
END
$$;
CREATE TABLE outcomes.space AS
SELECT *, osmtalk.call_outcome(answered, ended, sip, voicemail, err)::text AS outcome,
	   outcomes.by_the_book(answered, ended, sip, voicemail, err) AS expected
  FROM (VALUES (timestamptz '2026-05-06 11:00:00Z'), ('2026-05-06 11:00:57Z'), ('2026-05-06 11:00:57.000001Z'),
			   ('2026-05-06 11:01:00Z'), ('2026-05-06 12:00:00Z'), ('infinity'), ('-infinity'), (NULL)) a (answered),
	   (VALUES (timestamptz '2026-05-06 11:01:00Z'), ('infinity'), ('-infinity'), (NULL)) e (ended),
	   (SELECT generate_series(-1, 700) UNION ALL SELECT NULL UNION ALL SELECT -2147483648 UNION ALL SELECT 2147483647) s (sip),
	   (VALUES (true), (false), (NULL)) v (voicemail),
	   (VALUES (NULL), (''), ('network failure')) r (err);
SELECT * FROM outcomes.space WHERE outcome IS DISTINCT FROM expected LIMIT 5;
SELECT outcome, count(*) FROM outcomes.space GROUP BY outcome ORDER BY outcome COLLATE "C";

-- ---------------------------------------------------------------------------
-- call_status(): before the end
-- ---------------------------------------------------------------------------
SELECT started_at, answered_at, ended_at, osmtalk.call_status(started_at, answered_at, ended_at, NULL, NULL, NULL) AS status
  FROM (VALUES
	(NULL::timestamptz, NULL::timestamptz, NULL::timestamptz),
	('2026-05-06 11:00:00Z', NULL, NULL),
	(NULL, '2026-05-06 11:00:00Z', NULL),
	('infinity', '-infinity', 'infinity'),
	(NULL, '2026-05-06 11:00:00Z', '2026-05-06 11:00:10Z')
  ) t (started_at, answered_at, ended_at);

-- ---------------------------------------------------------------------------
-- disposition()
-- ---------------------------------------------------------------------------
CREATE TABLE outcomes.analyses (analysis jsonb, expected text);
INSERT INTO outcomes.analyses VALUES
	-- the document's rows
	('{"lead_qualified": true}', 'qualified'),
	('{"success": true}', 'qualified'),
	('{"next_action": "not_interested"}', 'not_interested'),
	('{"next_action": "callback_later"}', 'callback'),
	('{"next_action": "book_demo"}', 'completed'),
	('{}', 'completed'),
	-- first match wins
	('{"lead_qualified": true, "next_action": "not_interested"}', 'qualified'),
	('{"success": true, "next_action": "callback_later"}', 'qualified'),
	('{"lead_qualified": false, "success": true}', 'qualified'),
	('{"lead_qualified": true, "success": false}', 'qualified'),
	('{"lead_qualified": "no", "success": true}', 'qualified'),
	('{"lead_qualified": false, "success": false, "next_action": "callback_later"}', 'callback'),
	('{"lead_qualified": null, "success": null, "next_action": "not_interested"}', 'not_interested'),
	-- only the JSON boolean is true
	('{"lead_qualified": "true"}', 'completed'),
	('{"lead_qualified": "TRUE", "next_action": "callback_later"}', 'callback'),
	('{"success": "true"}', 'completed'),
	('{"success": "yes"}', 'completed'),
	('{"success": 1}', 'completed'),
	('{"success": 1.0}', 'completed'),
	('{"lead_qualified": 1}', 'completed'),
	('{"lead_qualified": [true]}', 'completed'),
	('{"lead_qualified": {"value": true}}', 'completed'),
	('{"success": {"true": true}}', 'completed'),
	('{"success": []}', 'completed'),
	('{"success": {}}', 'completed'),
	('{"success": ""}', 'completed'),
	('{"success": false}', 'completed'),
	('{"success": null}', 'completed'),
	-- only these keys, at the top
	('{"Lead_Qualified": true}', 'completed'),
	('{"LEAD_QUALIFIED": true}', 'completed'),
	('{"leadQualified": true}', 'completed'),
	('{" success": true}', 'completed'),
	('{"succ\u0065ss": true}', 'qualified'),
	('{"analysis": {"success": true, "lead_qualified": true}}', 'completed'),
	('{"outcome": {"next_action": "callback_later"}}', 'completed'),
	('{"": true}', 'completed'),
	-- only these two words, as strings
	('{"next_action": "NOT_INTERESTED"}', 'completed'),
	('{"next_action": "not interested"}', 'completed'),
	('{"next_action": "not_interested "}', 'completed'),
	('{"next_action": " callback_later"}', 'completed'),
	('{"next_action": "callback"}', 'completed'),
	('{"next_action": "qualified"}', 'completed'),
	('{"next_action": "call\u0062ack_later"}', 'callback'),
	('{"next_action": ["not_interested"]}', 'completed'),
	('{"next_action": {"not_interested": true}}', 'completed'),
	('{"next_action": {"value": "callback_later"}}', 'completed'),
	('{"next_action": true}', 'completed'),
	('{"next_action": 1}', 'completed'),
	('{"next_action": null}', 'completed'),
	('{"next_action": ""}', 'completed'),
	-- what is no object says nothing
	(NULL, 'completed'),
	('null', 'completed'),
	('true', 'completed'),
	('false', 'completed'),
	('0', 'completed'),
	('1', 'completed'),
	('1e131071', 'completed'),
	('"qualified"', 'completed'),
	('"lead_qualified"', 'completed'),
	('"success"', 'completed'),
	('"not_interested"', 'completed'),
	('""', 'completed'),
	('[]', 'completed'),
	('["success"]', 'completed'),
	('["lead_qualified", true]', 'completed'),
	('[true]', 'completed'),
	('[{"success": true}]', 'completed'),
	('[{"next_action": "callback_later"}]', 'completed'),
	-- duplicate keys: the last one, as jsonb keeps it
	('{"success": false, "success": true}', 'qualified'),
	('{"success": true, "success": false}', 'completed'),
	('{"next_action": "callback_later", "next_action": "not_interested"}', 'not_interested'),
	-- the document's example
	('{"lead_qualified": true, "next_action": "book_demo", "budget_inr": 250000, "summary": "Caller interested in Pro tier. Confirmed demo Friday 3pm.", "sentiment": "positive", "success": true}', 'qualified');
SELECT analysis, expected, osmtalk.disposition(analysis) AS disposition
  FROM outcomes.analyses WHERE osmtalk.disposition(analysis) IS DISTINCT FROM expected;
SELECT expected, count(*) FROM outcomes.analyses GROUP BY expected ORDER BY expected COLLATE "C";

-- Deep, wide and large ones are answered like any other.
SELECT osmtalk.disposition((repeat('[', 6000) || repeat(']', 6000))::jsonb) AS deep_array,
	   osmtalk.disposition(('{"success": ' || repeat('{"a":', 6000) || '1' || repeat('}', 6000) || '}')::jsonb) AS deep_object,
	   osmtalk.disposition((SELECT jsonb_object_agg('key' || i, i) FROM generate_series(1, 50000) i) || '{"success": true}') AS wide,
	   osmtalk.disposition(jsonb_build_object('transcript', repeat('नमस्ते ', 1000000), 'next_action', 'callback_later')) AS large;

-- ---------------------------------------------------------------------------
-- is_terminal()
-- ---------------------------------------------------------------------------
SELECT status, osmtalk.is_terminal(status)
  FROM unnest(enum_range(NULL::osmtalk.lead_status)) AS status ORDER BY status;
SELECT osmtalk.is_terminal(NULL) AS "null";

-- ---------------------------------------------------------------------------
-- analysis_configured()
-- ---------------------------------------------------------------------------
CREATE TABLE outcomes.agents (sentiment boolean, success boolean, post_call_analysis jsonb, expected boolean);
INSERT INTO outcomes.agents VALUES
	(false, false, NULL, false),
	(true, false, NULL, true),
	(false, true, NULL, true),
	(true, true, '{"enabled": false, "schema": []}', true),
	(true, false, '{"enabled": false}', true),
	-- a schema that declares something
	(false, false, '{"schema": [{"name": "budget_inr", "type": "number"}]}', true),
	(false, false, '{"schema": {"budget_inr": "number"}}', true),
	(false, false, '{"schema": [null]}', true),
	(false, false, '{"enabled": true, "schema": [1]}', true),
	(false, false, '{"enabled": null, "schema": [1]}', true),
	(false, false, '{"enabled": "false", "schema": [1]}', true),
	(false, false, '{"enabled": 0, "schema": [1]}', true),
	(false, false, '{"enabled": [false], "schema": [1]}', true),
	(false, false, '{"enabled": false, "schema": [1]}', false),
	(false, false, '{"enabled": false, "schema": {"a": 1}}', false),
	-- and ones that declare nothing
	(false, false, '{}', false),
	(false, false, '{"enabled": true}', false),
	(false, false, '{"enabled": true, "schema": []}', false),
	(false, false, '{"enabled": true, "schema": {}}', false),
	(false, false, '{"enabled": true, "schema": null}', false),
	(false, false, '{"enabled": true, "schema": "name"}', false),
	(false, false, '{"enabled": true, "schema": true}', false),
	(false, false, '{"enabled": true, "schema": 1}', false),
	(false, false, '{"Schema": [1]}', false),
	(false, false, '{"post_call_analysis": {"schema": [1]}}', false),
	-- what is no object
	(false, false, 'null', false),
	(false, false, 'true', false),
	(false, false, '"schema"', false),
	(false, false, '["schema"]', false),
	(false, false, '[{"schema": [1]}]', false),
	(false, false, '7', false);
SELECT * FROM (
	SELECT *, osmtalk.analysis_configured(ROW('agent_x', 'org_x', NULL, sentiment, success, post_call_analysis)::osmtalk.agents) AS configured
	  FROM outcomes.agents) a
 WHERE configured IS DISTINCT FROM expected;
SELECT expected, count(*) FROM outcomes.agents GROUP BY expected ORDER BY expected;
SELECT osmtalk.analysis_configured(NULL) AS "null";

-- ---------------------------------------------------------------------------
-- normalize_phone()
-- ---------------------------------------------------------------------------
CREATE TABLE outcomes.phones (given text, expected text);
INSERT INTO outcomes.phones VALUES
	('+919876543210', '+919876543210'),
	('+91 98765 43210', '+919876543210'),
	('+91-98765-43210', '+919876543210'),
	('+91.98765.43210', '+919876543210'),
	('(+91) 98765-43210', '+919876543210'),
	('+1 (415) 555-2671', '+14155552671'),
	('  +14155552671  ', '+14155552671'),
	('-.()+1(.4)-155552671', '+14155552671'),
	('00919876543210', '+919876543210'),
	('0091 98765 43210', '+919876543210'),
	('(0)0-91 9876543210', '+919876543210'),
	('0 0 1 4155552671', '+14155552671'),
	-- the number of digits
	('+1234567', '+1234567'),
	('+123456789012345', '+123456789012345'),
	('001234567', '+1234567'),
	('00123456789012345', '+123456789012345'),
	('+123456', NULL),
	('+1234567890123456', NULL),
	('00123456', NULL),
	('001234567890123456', NULL),
	('+', NULL),
	('', NULL),
	('   ', NULL),
	('00', NULL),
	-- the first digit
	('+0123456789', NULL),
	('+0', NULL),
	('000123456789', NULL),
	('+00919876543210', NULL),
	('0000919876543210', NULL),
	-- no international prefix
	('9876543210', NULL),
	('09876543210', NULL),
	('919876543210', NULL),
	('011919876543210', NULL),
	-- what is not stripped
	('++919876543210', NULL),
	('00+919876543210', NULL),
	('+91+9876543210', NULL),
	('+91/9876543210', NULL),
	('+91,9876543210', NULL),
	('+91_9876543210', NULL),
	('+91[9876]543210', NULL),
	('+919876543210x12', NULL),
	('tel:+919876543210', NULL),
	('sip:+919876543210@example.com', NULL),
	('+1-800-FLOWERS', NULL),
	('*21#', NULL),
	(E'+91\t9876543210', NULL),
	(E'+919876543210\n', NULL),
	(E'\n+919876543210', NULL),
	(E'+919876543210\r\n', NULL),
	(E'+9198765\u00a043210', NULL),
	(E'\ufeff+919876543210', NULL),
	(E'\u202a+919876543210\u202c', NULL),
	(E'+91\u201398765\u201343210', NULL),
	-- digits and signs of other scripts
	(E'\uff0b919876543210', NULL),
	(E'+\uff19\uff11\uff19\uff18\uff17\uff16\uff15\uff14\uff13', NULL),
	(E'+\u0669\u0661\u0669\u0668\u0667\u0666\u0665\u0664\u0663\u0662', NULL),
	(E'+\u096f\u0967\u096f\u096e\u096d\u096c\u096b\u096a\u0969\u0968', NULL),
	(E'+9198765432\u00b9\u00b2', NULL),
	-- long ones
	(repeat(' ', 1048576) || '+919876543210', '+919876543210'),
	(repeat('+919876543210', 80000), NULL),
	('+' || repeat('1', 1048576), NULL),
	(repeat('0', 1048576), NULL);

CREATE FUNCTION outcomes.normalize(given text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN osmtalk.normalize_phone(given);
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN NULL;
END
$$;
SELECT left(given, 40) AS given, expected, outcomes.normalize(given) AS normalized, osmtalk.try_normalize_phone(given) AS tried
  FROM outcomes.phones
 WHERE outcomes.normalize(given) IS DISTINCT FROM expected
	OR osmtalk.try_normalize_phone(given) IS DISTINCT FROM expected;
SELECT expected IS NOT NULL AS valid, count(*) FROM outcomes.phones GROUP BY 1 ORDER BY 1;
-- what is normalised stays so
SELECT count(*) FROM outcomes.phones WHERE osmtalk.normalize_phone(expected) <> expected;
SELECT osmtalk.normalize_phone(NULL) AS "null";

SELECT osmtalk.normalize_phone('98765 43210');
SELECT length(osmtalk.normalize_phone(repeat('9', 1048576)));
\set VERBOSITY sqlstate
SELECT osmtalk.normalize_phone('');
SELECT osmtalk.normalize_phone('+0');
\set VERBOSITY default

-- ---------------------------------------------------------------------------
-- new_id()
-- ---------------------------------------------------------------------------
SELECT prefix, substr(osmtalk.new_id(prefix), length(prefix) + 1) ~ '^_[0-9a-v]{27}$' AS shape,
	   starts_with(osmtalk.new_id(prefix), prefix || '_') AS prefixed
  FROM (VALUES ('call'), ('ld'), ('cmp'), ('agent'), ('evt'), ('')) p (prefix);
SELECT osmtalk.new_id('ü€😀') ~ '^ü€😀_[0-9a-v]{27}$' AS "non-ASCII prefix";
SELECT osmtalk.new_id(NULL) AS "null";
SELECT length(osmtalk.new_id(repeat('x', 100000)));

CREATE TABLE outcomes.ids AS
SELECT i, osmtalk.new_id('t') AS id FROM generate_series(1, 100000) i;
SELECT count(DISTINCT id) FROM outcomes.ids;
-- in order of time, in every collation: at most those of one microsecond may swap
SELECT count(*) AS out_of_order
  FROM (SELECT left(id, 13) AS this, lag(left(id, 13)) OVER (ORDER BY i) AS previous FROM outcomes.ids) t
 WHERE this COLLATE "C" < previous COLLATE "C";
-- the time part is the time: microseconds since 1970 in base 32
SELECT bool_and(microseconds BETWEEN 1e6 * extract(epoch FROM now()) AND 1e6 * extract(epoch FROM clock_timestamp())) AS is_now
  FROM (SELECT (SELECT sum((strpos('0123456789abcdefghijklmnopqrstuv', substr(id, 2 + k, 1)) - 1) * 32::numeric ^ (11 - k))
				  FROM generate_series(1, 11) k) AS microseconds
		  FROM (SELECT osmtalk.new_id('') AS id FROM generate_series(1, 10)) n (id_)
			   CROSS JOIN LATERAL (SELECT 'x' || id_) p (id)) t;

-- ---------------------------------------------------------------------------
-- What the planner may assume of the rules
-- ---------------------------------------------------------------------------
SELECT p.proname, p.provolatile AS volatility, p.proparallel AS parallel
  FROM pg_proc p
 WHERE p.pronamespace = 'osmtalk'::regnamespace
   AND p.proname IN ('call_outcome', 'disposition', 'is_terminal', 'analysis_configured', 'normalize_phone',
					 'signature', 'verify_signature', 'new_id', 'is_webhook_url')
 ORDER BY p.proname COLLATE "C";

-- Immutable in deed: usable in an index, which a search path cannot bend.
CREATE TABLE outcomes.indexed AS SELECT analysis FROM outcomes.analyses;
CREATE INDEX ON outcomes.indexed (osmtalk.disposition(analysis));
CREATE FUNCTION outcomes.never(jsonb, jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;
CREATE FUNCTION outcomes.never(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;
CREATE FUNCTION outcomes.never(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;
CREATE OPERATOR outcomes.= (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = outcomes.never);
CREATE OPERATOR outcomes.= (LEFTARG = int, RIGHTARG = int, FUNCTION = outcomes.never);
CREATE OPERATOR outcomes.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = outcomes.never);
CREATE FUNCTION outcomes.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'null';
CREATE FUNCTION outcomes.isfinite(timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;
CREATE FUNCTION outcomes.translate(text, text, text) RETURNS text LANGUAGE sql IMMUTABLE RETURN '';
SET search_path = outcomes, pg_catalog;
SELECT osmtalk.disposition('{"success": true}'),
	   osmtalk.call_outcome('2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z', 486, false, NULL),
	   osmtalk.call_outcome('2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z', NULL, false, NULL),
	   osmtalk.normalize_phone('+91 98765 43210'),
	   osmtalk.is_webhook_url('https://crm.example/hook'),
	   osmtalk.analysis_configured(ROW('a', 'o', NULL, false, false, '{"schema": [1]}')::osmtalk.agents);
RESET search_path;

-- ---------------------------------------------------------------------------
-- explain_outcome(): agrees with the decision, in every case above
-- ---------------------------------------------------------------------------
-- The rules by themselves, over the whole space: the first that matches gives
-- the outcome, and has the number of the rule that does by the book.
CREATE FUNCTION outcomes.rule_by_the_book(answered timestamptz, ended timestamptz, sip int, voicemail boolean, err text)
RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
	unanswered boolean := answered IS NULL OR answered IN ('infinity', '-infinity');
	is_busy boolean := coalesce(sip IN (486, 600), false);
	is_unanswered boolean := coalesce(sip IN (408, 480, 487) AND unanswered, false);
	matching int[] := '{}';
BEGIN
	IF ended IS NULL OR ended IN ('infinity', '-infinity') THEN RETURN NULL; END IF;
	IF is_busy THEN matching := matching || 1; END IF;
	IF is_unanswered THEN matching := matching || 2; END IF;
	IF err IS NOT NULL THEN matching := matching || 3; END IF;
	IF sip >= 400 AND NOT is_busy AND NOT is_unanswered THEN matching := matching || 4; END IF;
	IF voicemail THEN matching := matching || 5; END IF;
	IF unanswered OR ended < answered + interval '3 seconds' THEN matching := matching || 6; END IF;
	RETURN CASE WHEN matching = '{}' THEN '{7}' ELSE matching END;
END
$$;
CREATE TABLE outcomes.facts AS
SELECT s.*, jsonb_populate_record(NULL::osmtalk.calls, jsonb_build_object('answered_at', s.answered, 'ended_at', s.ended,
			'sip_status_code', s.sip, 'voicemail_detected', s.voicemail, 'error', s.err)) AS call
  FROM outcomes.space s;
SELECT s.answered, s.ended, s.sip, s.voicemail, s.err, s.outcome, r.*
  FROM outcomes.facts s,
	   LATERAL (SELECT array_agg(o.number ORDER BY o.number) FILTER (WHERE o.matched) AS matching, count(o.matched) AS known,
					   (array_agg(o.result ORDER BY o.number) FILTER (WHERE o.matched))[1] AS result
				  FROM osmtalk.outcome_rules(s.call) o) r
 WHERE r.result IS DISTINCT FROM s.outcome OR r.known <> CASE WHEN s.outcome IS NULL THEN 0 ELSE 7 END
	OR r.matching IS DISTINCT FROM outcomes.rule_by_the_book(s.answered, s.ended, s.sip, s.voicemail, s.err)
 LIMIT 5;

-- And calls that the triggers have decided: of the rules, the pairs, the times,
-- and the space with one SIP code of each kind; of every analysis, with an
-- agent that has it configured and one that has not; of every agent.
INSERT INTO osmtalk.org_settings (org_id) VALUES ('outcomes');
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('outcomes_analyst', 'outcomes', true), ('outcomes_plain', 'outcomes', false);
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment, enable_success_evaluation, post_call_analysis)
SELECT 'outcomes_agent_' || row_number() OVER (), 'outcomes', sentiment, success, post_call_analysis FROM outcomes.agents;
INSERT INTO osmtalk.campaigns (id, org_id, name, retry_on, max_attempts) VALUES
	('cmp_outcomes', 'outcomes', 'once', '{failed}', 1), ('cmp_outcomes_again', 'outcomes', 'again', '{failed,busy}', 2);
CREATE TABLE outcomes.calls AS
SELECT row_number() OVER () AS number, c.*
  FROM (SELECT CASE WHEN answered THEN timestamptz '2026-05-06 11:00:00Z' END AS answered_at, timestamptz '2026-05-06 11:01:00Z' AS ended_at,
			   sip, voicemail, error, NULL::jsonb AS analysis, 'outcomes_plain' AS agent_id FROM outcomes.rules
		UNION ALL
		SELECT answered_at, '2026-05-06 11:01:00Z', sip, voicemail, error, NULL, NULL FROM outcomes.pairs
		UNION ALL
		SELECT answered_at, ended_at, NULL, NULL, NULL, NULL, 'outcomes_analyst' FROM outcomes.times
		UNION ALL
		SELECT answered, ended, sip, voicemail, err, NULL, 'outcomes_analyst' FROM outcomes.space
		 WHERE sip IS NULL OR sip IN (-2147483648, -1, 0, 200, 399, 400, 404, 408, 480, 486, 487, 503, 600, 603, 2147483647)
		UNION ALL
		SELECT '2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z', NULL, false, NULL, analysis, a FROM outcomes.analyses, unnest('{outcomes_analyst,outcomes_plain}'::text[]) a
		UNION ALL
		SELECT '2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z', NULL, false, NULL, '{"success": true}', a.id FROM osmtalk.agents a WHERE a.id LIKE 'outcomes\_agent%') c;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT 'ld_outcomes_' || number, CASE number % 2 WHEN 0 THEN 'cmp_outcomes' ELSE 'cmp_outcomes_again' END, '+4930123456' FROM outcomes.calls;
INSERT INTO osmtalk.calls (id, lead_id, agent_id, answered_at, ended_at, sip_status_code, voicemail_detected, error, analysis)
SELECT 'call_outcomes_' || number, 'ld_outcomes_' || number, agent_id, answered_at, ended_at, sip, voicemail, error, analysis FROM outcomes.calls;
CREATE TABLE outcomes.explained AS
SELECT c.id, c.status::text AS call, l.status::text AS lead, l.disposition, e.*
  FROM osmtalk.calls c JOIN osmtalk.leads l ON l.id = c.lead_id,
	   LATERAL (SELECT max(x.result) FILTER (WHERE x.decision = 'call' AND x.winner) AS call_said, max(x.result) FILTER (WHERE x.decision = 'lead' AND x.winner) AS lead_said,
					   max(x.result) FILTER (WHERE x.decision = 'disposition' AND x.winner) AS disposition_said,
					   count(*) FILTER (WHERE x.winner AND x.matched IS NOT TRUE) AS winners_that_do_not_match,
					   count(*) FILTER (WHERE x.winner) AS winners, count(*) AS steps, max(x.explanation) FILTER (WHERE x.decision = 'summary') AS summary
				  FROM osmtalk.explain_outcome(c.id) x) e
 WHERE c.org_id = 'outcomes';
-- a rule of each decision has won, and none of what is shown when rows and rules differ
SELECT * FROM outcomes.explained
 WHERE call_said IS DISTINCT FROM call OR winners_that_do_not_match > 0 OR steps <> 23
	OR CASE WHEN call IN ('queued', 'in_progress') THEN winners <> 1 OR lead <> 'calling' OR lead_said IS NOT NULL
			ELSE lead_said IS DISTINCT FROM lead OR disposition_said IS DISTINCT FROM disposition END
 LIMIT 5;
SELECT call, lead, disposition, count(*) FROM outcomes.explained GROUP BY 1, 2, 3 ORDER BY call COLLATE "C", lead COLLATE "C", disposition COLLATE "C";
SELECT x.step, x.decision, x.matched, x.winner, x.result, x.rule, regexp_replace(regexp_replace(x.explanation, '2\d{3}-\d\d-\d\dT[\d:.]+Z', '<time>'), 'outcomes_\d+', 'outcomes_<n>', 'g') AS explanation
  FROM osmtalk.explain_outcome((SELECT 'call_outcomes_' || number FROM outcomes.calls WHERE analysis = '{"lead_qualified": true, "next_action": "not_interested"}' AND agent_id = 'outcomes_analyst')) x;

SET client_min_messages = warning;
DELETE FROM osmtalk.calls WHERE org_id = 'outcomes';
DELETE FROM osmtalk.leads WHERE campaign_id LIKE 'cmp\_outcomes%';
DROP SCHEMA outcomes CASCADE;
