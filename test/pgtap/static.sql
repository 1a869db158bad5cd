--
-- What can be seen of the objects' safety without running anything: that names
-- mean the same whoever runs them, whose they are, and as whom they run.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(38);

CREATE TEMP VIEW member AS
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	 WHERE e.extname = 'osmtalk' AND d.deptype = 'e';
-- code: the body of a function in PL/pgSQL without comments and strings
CREATE TEMP VIEW function AS
	SELECT p.*, l.lanname, regexp_replace(regexp_replace(p.prosrc, '--[^\n]*', '', 'g'), '''[^'']*''', '''''', 'g') AS code FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'osmtalk'::regnamespace;

-- ---------------------------------------------------------------------------
-- The control file
-- ---------------------------------------------------------------------------
SELECT results_eq($$ SELECT superuser, trusted, relocatable, schema::text COLLATE "default", requires FROM pg_available_extension_versions WHERE name = 'osmtalk' AND installed $$,
	$$ VALUES (true, false, false, 'pg_catalog', NULL::name[]) $$,
	'only a superuser installs it, no ordinary user may be let to; the script''s search path is pg_catalog');

-- ---------------------------------------------------------------------------
-- The scripts
-- ---------------------------------------------------------------------------
-- without comments
CREATE TEMP TABLE script AS
	SELECT f.name, f.name !~ '--.*--' AS installs, regexp_replace(regexp_replace(pg_read_file(d.dir || '/' || f.name), '/\*.*?\*/', '', 'g'), '(^|\s)--[^\n]*', '', 'gn') AS text
	  FROM (SELECT setting || '/extension' AS dir FROM pg_config WHERE name = 'SHAREDIR') d, pg_ls_dir(d.dir) f (name) WHERE f.name ~ '^osmtalk--.*\.sql$';
SELECT is((SELECT count(*) FROM script WHERE installs), 1::bigint, 'the install script can be read');
SELECT is_empty($$ SELECT name, m FROM script, regexp_matches(text, '(OR\s+REPLACE|IF\s+NOT\s+EXISTS|IF\s+EXISTS)', 'gi') m WHERE installs $$,
	'it adopts nothing that is there already');
SELECT is_empty($$ SELECT name, m FROM script, regexp_matches(text, 'IF\s+NOT\s+EXISTS', 'gi') m WHERE NOT installs $$, 'nor do steps');
SELECT is_empty($$ SELECT name, m FROM script, regexp_matches(text, '(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|FUNCTION|TYPE|SEQUENCE|DOMAIN|AGGREGATE)\s+(?!osmtalk\.|%s)\S+', 'gi') m $$,
	'what they make has its schema in its name');
SELECT is_empty($$ SELECT name, m FROM script, regexp_matches(text, '\sON\s+(?!osmtalk\.|ALL\s|SCHEMA\s|FUNCTION\s|TYPE\s|SEQUENCE\s|TABLE\s|DELETE\s|UPDATE\s|CONFLICT\s|COMMIT\s|true\M|[a-z]+\.|%s)[a-z]\S*', 'g') m $$,
	'so has what they put triggers, indexes, comments and grants on');
SELECT is_empty($$ SELECT name, m FROM script, regexp_matches(text, '[^\n]*search_path[^\n]*', 'gi') m WHERE m[1] <> 'SET search_path = pg_catalog, pg_temp' $$,
	'they set no other search path than that of functions');
SELECT is_empty($$ SELECT name, m FROM script, regexp_matches(text, 'CREATE\s+(?:OPERATOR|CAST|COLLATION|CONVERSION|LANGUAGE|EVENT\s+TRIGGER|ACCESS|TRANSFORM|PUBLICATION|RULE|DOMAIN)', 'gi') m $$,
	'no operator, cast, language or event trigger: nothing that acts beyond its schema');

-- ---------------------------------------------------------------------------
-- Whose it is
-- ---------------------------------------------------------------------------
SELECT results_eq($$ SELECT rolsuper, rolcanlogin, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname LIKE 'osmtalk\_%' ORDER BY rolname $$,
	$$ SELECT false, false, false, false, false, false FROM generate_series(1, 4) $$, 'the four roles can neither log in nor do anything else');
SELECT is_empty($$ SELECT r.rolname, a.member::regrole FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid OR r.oid = a.member WHERE r.rolname LIKE 'osmtalk\_%' $$,
	'and have no members, nor are they any');
SELECT is_empty($$
	SELECT 'pg_class', oid, relname, relowner FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace AND relowner <> 'osmtalk_owner'::regrole
	UNION ALL SELECT 'pg_proc', oid, proname, proowner FROM pg_proc WHERE pronamespace = 'osmtalk'::regnamespace AND proowner <> 'osmtalk_owner'::regrole
	UNION ALL SELECT 'pg_type', oid, typname, typowner FROM pg_type WHERE typnamespace = 'osmtalk'::regnamespace AND typowner <> 'osmtalk_owner'::regrole
	UNION ALL SELECT 'pg_namespace', oid, nspname, nspowner FROM pg_namespace WHERE nspname = 'osmtalk' AND nspowner <> 'osmtalk_owner'::regrole $$,
	'everything is osmtalk_owner''s: tables, partitions, indexes, sequences, views, functions, types, the schema');
SELECT is_empty($$
	SELECT d.classid::regclass, d.objid FROM pg_shdepend d
	 WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND d.refobjid = 'osmtalk_owner'::regrole AND d.deptype = 'o'
	   AND (d.classid, d.objid) NOT IN (SELECT classid, objid FROM member)
	   AND NOT EXISTS (SELECT FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relnamespace = 'osmtalk'::regnamespace) $$,
	'and nothing else is');
SELECT is_empty($$
	SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace AND relkind NOT IN ('i', 'I') AND ('pg_class'::regclass, oid) NOT IN (TABLE member)
	UNION ALL SELECT 'pg_proc'::regclass, oid FROM function WHERE ('pg_proc'::regclass, oid) NOT IN (TABLE member) $$,
	'all that is in the schema is the extension''s');
SELECT is_empty($$ SELECT classid::regclass, objid FROM member WHERE classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass) $$,
	'and all of the extension is of these kinds');

-- ---------------------------------------------------------------------------
-- Functions: what they mean, and as whom they run
-- ---------------------------------------------------------------------------
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	 WHERE p.pronamespace = 'osmtalk'::regnamespace AND l.lanname = 'plpgsql'
	   AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false) $$,
	'every PL/pgSQL function pins its search path');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	 WHERE p.pronamespace = 'osmtalk'::regnamespace AND l.lanname = 'sql' AND p.prosqlbody IS NULL $$,
	'every SQL function is parsed at creation');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	 WHERE p.pronamespace = 'osmtalk'::regnamespace AND l.lanname NOT IN ('c', 'sql', 'plpgsql') $$,
	'no other language takes part');
-- run with the owner's rights: triggers that read or write what the caller may
-- not, and the functions whose EXECUTE is all that a role needs to use them
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND NOT p.prosecdef
	   AND p.prorettype = 'trigger'::regtype AND p.proname <> 'guard_secret_row' $$,
	'SECURITY DEFINER: all trigger functions, but for one that does what the table itself does after it');
SELECT results_eq($$
	SELECT p.proname::text COLLATE "default" FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND p.prosecdef
	   AND p.prorettype <> 'trigger'::regtype ORDER BY p.proname $$,
	ARRAY['add_to_redelivery', 'adopt', 'apply_retention', 'cancel_redelivery', 'disable_endpoint', 'disable_tenant_isolation', 'enable_endpoint', 'enable_tenant_isolation', 'explain_outcome', 'health', 'pause',
		  'place_call', 'place_next_call', 'preview_event', 'preview_lead_event', 'redeliver', 'report_html', 'requeue_lead', 'reset_statistics', 'resume',
		  'resume_redelivery', 'rotate_webhook_secret', 'secret_problems', 'send_test_event', 'start_redelivery', 'wait_until_drained'],
	'and these functions for users');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace AND p.prosecdef
	   AND has_function_privilege('public', p.oid, 'EXECUTE') $$,
	'none of which everybody may call, or make a trigger of a table of his own');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace
	   AND p.prorettype = 'trigger'::regtype AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid) $$,
	'each trigger function is the function of a trigger');
SELECT is_empty($$ SELECT p.oid::regprocedure, p.proconfig FROM function p, unnest(p.proconfig) c WHERE c ~ '^search_path' AND c <> 'search_path=pg_catalog, pg_temp' $$,
	'there is one pinned search path: what a session has of its own comes last in it');
SELECT is_empty($$ SELECT p.oid::regprocedure FROM function p WHERE p.lanname = 'c' AND (p.prosrc !~ '^osmtalk_' OR p.probin <> '$libdir/osmtalk') $$,
	'functions in C are the library''s');
SELECT results_eq($$ SELECT p.proname::text COLLATE "default" FROM function p WHERE p.lanname = 'c' AND p.prosecdef ORDER BY p.proname $$,
	ARRAY['calls_after_update', 'calls_announce', 'calls_before_update', 'endpoint_left_alone', 'leads_after_transition', 'leads_before_status', 'pause_changed', 'subscriptions_changed', 'wake_worker'],
	'of those in C these run with the owner''s rights: each pins the search path before it runs a statement');
SELECT results_eq($$ SELECT p.proname::text COLLATE "default" FROM function p WHERE p.lanname = 'c' AND NOT p.proisstrict AND p.pronargs > 0 ORDER BY p.proname $$,
	ARRAY['decide_lead', 'record_analysis', 'record_event', 'render', 'request_headers', 'sees_org', 'verify_signature', 'verify_standard_webhook'], 'and these are called with nulls, which they look for');
-- In the pinned search path a name without its schema could be found in pg_temp.
SELECT is_empty($$
	SELECT p.oid::regprocedure, m FROM function p, pg_class c, regexp_matches(p.code, '(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY|TRUNCATE|,)\s+' || c.relname || '\s+(?:[a-z]\s|SET|WHERE|\()', 'gi') m
	 WHERE p.lanname = 'plpgsql' AND c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'v') $$,
	'no table without its schema in PL/pgSQL');
SELECT is_empty($$
	SELECT p.oid::regprocedure, m FROM function p, pg_type t, regexp_matches(p.code, '^\s*\w+\s+(?:constant\s+)?' || t.typname || '(?:\[\])?\s*(?:;|:=)', 'gin') m
	 WHERE p.lanname = 'plpgsql' AND t.typnamespace = 'osmtalk'::regnamespace $$,
	'no type, either');
SELECT is_empty($$
	SELECT p.oid::regprocedure, m FROM function p, function f, regexp_matches(p.code, '(?:^|[^.\w])' || f.proname || '\(', 'g') m
	 WHERE p.lanname = 'plpgsql' $$,
	'no function of ours');
-- dynamic statements are made with format() and names of our own, in these functions alone; and with a predicate of the caller's, who runs it
SELECT results_eq($$ SELECT p.proname::text COLLATE "default" FROM function p WHERE p.lanname = 'plpgsql' AND p.prosrc ~ '\mEXECUTE\M' ORDER BY p.proname $$,
	ARRAY['apply_tenant_isolation', 'empty_slot', 'enqueued_since', 'health', 'keep_events', 'look_at_slot', 'redeliver_matching'], 'statements that are put together: in the retention, where tenants are isolated, of health()''s checks, and for a predicate');
SELECT is_empty($$ SELECT p.oid::regprocedure FROM function p JOIN pg_proc q ON q.oid = p.oid, aclexplode(p.proacl) g
	WHERE p.proname IN ('apply_tenant_isolation', 'empty_slot', 'enqueued_since', 'keep_events', 'look_at_slot') AND g.grantee <> p.proowner $$, 'which nobody else may call, but for the last');
SELECT ok(NOT prosecdef, 'whose statement runs with the caller''s rights') FROM function WHERE proname = 'redeliver_matching';

-- What is parsed at creation depends on what it means: on nothing that somebody else could make.
CREATE TEMP VIEW dependency AS
	SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object, d.refclassid::regclass AS class, d.refobjid,
		   pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS on_what, (pg_identify_object(d.refclassid, d.refobjid, 0)).schema
	  FROM pg_depend d
	 WHERE (d.classid = 'pg_proc'::regclass AND d.objid IN (SELECT oid FROM function))
		OR (d.classid = 'pg_rewrite'::regclass AND d.objid IN (SELECT r.oid FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = 'osmtalk'::regnamespace))
		OR (d.classid = 'pg_attrdef'::regclass AND d.objid IN (SELECT a.oid FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid WHERE c.relnamespace = 'osmtalk'::regnamespace))
		OR (d.classid = 'pg_constraint'::regclass AND d.objid IN (SELECT oid FROM pg_constraint WHERE connamespace = 'osmtalk'::regnamespace))
		OR (d.classid = 'pg_trigger'::regclass AND d.objid IN (SELECT t.oid FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'osmtalk'::regnamespace))
		OR (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT oid FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace));
SELECT cmp_ok((SELECT count(*) FROM dependency WHERE class = 'pg_proc'::regclass), '>', 40::bigint, 'dependencies are seen');
SELECT is_empty($$ SELECT object, on_what FROM dependency WHERE class NOT IN ('pg_extension'::regclass, 'pg_namespace'::regclass, 'pg_rewrite'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_language'::regclass)
	AND schema IS DISTINCT FROM 'osmtalk' AND schema IS DISTINCT FROM 'pg_catalog' AND schema IS DISTINCT FROM 'pg_toast' $$,
	'functions, views, defaults, constraints, triggers, indexes use nothing but the server''s and the extension''s own');

SELECT results_eq($$
	SELECT DISTINCT (p.proname || ' ' || c.relname) COLLATE "default" FROM pg_depend d JOIN function p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
	 WHERE p.proname ~ '^report_' AND c.relnamespace = 'osmtalk'::regnamespace ORDER BY 1 $$,
	ARRAY['report_attempts delivery_attempts', 'report_attempts events', 'report_calls calls', 'report_calls leads', 'report_campaigns campaigns', 'report_events deliveries', 'report_leads leads'],
	'the page, which is made with the owner''s rights, reads tables through these alone, each of which keeps tenants apart');

-- ---------------------------------------------------------------------------
-- Tables and views
-- ---------------------------------------------------------------------------
SELECT is_empty($$ SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'osmtalk'::regnamespace AND NOT t.tgisinternal AND t.tgfoid NOT IN (SELECT oid FROM function) $$, 'triggers run functions of ours');
SELECT is_empty($$ SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'osmtalk'::regnamespace AND t.tgdeferrable $$, 'none is put off until the commit, where a worker could not run it');
SELECT is_empty($$ SELECT r.ev_class::regclass, r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
	WHERE c.relnamespace = 'osmtalk'::regnamespace AND r.rulename <> '_RETURN' $$, 'there are no rules');
SELECT results_eq($$ SELECT c.relname::text COLLATE "default" FROM pg_class c WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind = 'v'
	AND NOT coalesce(c.reloptions @> ARRAY['security_invoker=true'], false) ORDER BY c.relname $$, ARRAY['deliveries', 'stat_endpoint'], 'views run as whoever reads them, but for those that show URLs');

SELECT * FROM finish();
ROLLBACK;
