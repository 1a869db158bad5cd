--
-- The objects that applications, dashboards and acceptance checks use: names,
-- types, defaults, order.  More may exist; none of these may go or change.
--
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = public;
SELECT plan(53);

-- ---------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------
CREATE TEMPORARY TABLE contract (tbl name, col name, type text, not_null boolean, default_value text);
INSERT INTO contract VALUES
	('org_settings', 'org_id', 'text', true, NULL),
	('org_settings', 'default_webhook_url', 'text', false, NULL),
	('org_settings', 'webhook_secret', 'text', false, NULL),

	('agents', 'id', 'text', true, 'osmtalk.new_id(''agent''::text)'),
	('agents', 'org_id', 'text', true, NULL),
	('agents', 'name', 'text', false, NULL),
	('agents', 'enable_sentiment', 'boolean', true, 'false'),
	('agents', 'enable_success_evaluation', 'boolean', true, 'false'),
	('agents', 'post_call_analysis', 'jsonb', false, NULL),

	('campaigns', 'id', 'text', true, 'osmtalk.new_id(''cmp''::text)'),
	('campaigns', 'org_id', 'text', true, NULL),
	('campaigns', 'agent_id', 'text', false, NULL),
	('campaigns', 'name', 'text', true, NULL),
	('campaigns', 'webhook_url', 'text', false, NULL),
	('campaigns', 'webhook_secret', 'text', false, NULL),
	('campaigns', 'max_attempts', 'integer', true, '1'),
	('campaigns', 'retry_backoff', 'interval', true, '''01:00:00''::interval'),
	('campaigns', 'retry_on', 'osmtalk.lead_status[]', true, '''{failed}''::osmtalk.lead_status[]'),

	('leads', 'id', 'text', true, 'osmtalk.new_id(''ld''::text)'),
	('leads', 'campaign_id', 'text', true, NULL),
	('leads', 'phone_number', 'text', true, NULL),
	('leads', 'variables', 'jsonb', true, '''{}''::jsonb'),
	('leads', 'status', 'osmtalk.lead_status', true, '''pending''::osmtalk.lead_status'),
	('leads', 'disposition', 'text', false, NULL),
	('leads', 'attempts', 'integer', true, '0'),
	('leads', 'next_attempt_at', 'timestamp with time zone', false, NULL),
	('leads', 'call_id', 'text', false, NULL),
	('leads', 'outcome', 'jsonb', false, NULL),
	('leads', 'completed_at', 'timestamp with time zone', false, NULL),

	('calls', 'id', 'text', true, 'osmtalk.new_id(''call''::text)'),
	('calls', 'org_id', 'text', true, NULL),
	('calls', 'agent_id', 'text', false, NULL),
	('calls', 'lead_id', 'text', false, NULL),
	('calls', 'direction', 'text', true, '''outbound''::text'),
	('calls', 'phone_number', 'text', false, NULL),
	('calls', 'dynamic_variables', 'jsonb', false, '''{}''::jsonb'),
	('calls', 'metadata', 'jsonb', false, '''{}''::jsonb'),
	('calls', 'transcript', 'text', false, NULL),
	('calls', 'started_at', 'timestamp with time zone', false, NULL),
	('calls', 'answered_at', 'timestamp with time zone', false, NULL),
	('calls', 'ended_at', 'timestamp with time zone', false, NULL),
	('calls', 'sip_status_code', 'integer', false, NULL),
	('calls', 'voicemail_detected', 'boolean', false, 'false'),
	('calls', 'error', 'text', false, NULL),
	('calls', 'analysis', 'jsonb', false, NULL),
	('calls', 'analysis_error', 'text', false, NULL),
	('calls', 'status', 'osmtalk.call_status', true, '''queued''::osmtalk.call_status'),
	('calls', 'placed_at', 'timestamp with time zone', false, NULL),
	('calls', 'decided_at', 'timestamp with time zone', false, NULL),
	('calls', 'analyzed_at', 'timestamp with time zone', false, NULL),

	('dnc_entries', 'org_id', 'text', true, NULL),
	('dnc_entries', 'phone_number', 'text', true, NULL),
	('dnc_entries', 'reason', 'text', false, NULL),
	('dnc_entries', 'source', 'text', true, '''manual''::text'),
	('dnc_entries', 'created_at', 'timestamp with time zone', true, 'now()'),

	('events', 'id', 'text', true, 'osmtalk.new_id(''evt''::text)'),
	('events', 'type', 'text', true, NULL),
	('events', 'org_id', 'text', true, NULL),
	('events', 'campaign_id', 'text', false, NULL),
	('events', 'lead_id', 'text', false, NULL),
	('events', 'call_id', 'text', false, NULL),
	('events', 'body', 'text', true, NULL),
	('events', 'created_at', 'timestamp with time zone', true, 'now()'),
	('events', 'skipped_reason', 'text', false, NULL),

	('outbox', 'id', 'bigint', true, 'nextval(''osmtalk.outbox_id_seq''::regclass)'),
	('outbox', 'event_id', 'text', true, NULL),
	('outbox', 'due_at', 'timestamp with time zone', true, 'now()'),
	('outbox', 'attempts', 'integer', true, '0'),
	('outbox', 'origin', 'text', true, 'osmtalk.current_origin()'),

	('delivery_attempts', 'event_id', 'text', true, NULL),
	('delivery_attempts', 'attempt', 'integer', true, NULL),
	('delivery_attempts', 'url', 'text', false, NULL),
	('delivery_attempts', 'started_at', 'timestamp with time zone', true, NULL),
	('delivery_attempts', 'duration_ms', 'double precision', false, NULL),
	('delivery_attempts', 'http_status', 'integer', false, NULL),
	('delivery_attempts', 'error', 'text', false, NULL),
	('delivery_attempts', 'response_body', 'text', false, NULL);

SELECT is_empty($$
	SELECT c.*, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
	  FROM contract c
	  LEFT JOIN pg_attribute a ON a.attrelid = to_regclass('osmtalk.' || c.tbl) AND a.attname = c.col
	  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	 WHERE a.attname IS NULL OR a.attisdropped OR format_type(a.atttypid, a.atttypmod) <> c.type OR a.attnotnull <> c.not_null
		OR pg_get_expr(d.adbin, d.adrelid) IS DISTINCT FROM c.default_value $$,
	'every column of the contract, with its type, nullability and default');
SELECT is_empty($$
	SELECT * FROM (
		SELECT a.attrelid, string_agg(a.attname, ',' ORDER BY a.attnum) FILTER (WHERE EXISTS (SELECT FROM contract c WHERE ('osmtalk.' || c.tbl)::regclass = a.attrelid AND c.col = a.attname)) AS known,
			   max(a.attnum) FILTER (WHERE EXISTS (SELECT FROM contract c WHERE ('osmtalk.' || c.tbl)::regclass = a.attrelid AND c.col = a.attname)) AS last_known,
			   min(a.attnum) FILTER (WHERE NOT EXISTS (SELECT FROM contract c WHERE ('osmtalk.' || c.tbl)::regclass = a.attrelid AND c.col = a.attname)) AS first_more
		  FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
		 WHERE r.relnamespace = 'osmtalk'::regnamespace AND r.relkind IN ('r', 'p') AND a.attnum > 0 GROUP BY a.attrelid) t
	 WHERE first_more < last_known $$,
	'columns beyond the contract come after its own');

SELECT col_is_pk('osmtalk', 'org_settings', 'org_id', 'org_settings: primary key');
SELECT col_is_pk('osmtalk', t, 'id', t || ': primary key') FROM unnest('{agents,campaigns,leads,calls}'::name[]) t;
-- the partition key must be part of it; an event and its attempts have one slot
SELECT col_is_pk('osmtalk', 'outbox', '{endpoint_hash,id}'::name[], 'outbox: primary key');
SELECT col_is_pk('osmtalk', 'events', '{id,slot}'::name[], 'events: primary key');
SELECT col_is_pk('osmtalk', 'dnc_entries', '{org_id,phone_number}'::name[], 'dnc_entries: primary key');
SELECT col_is_unique('osmtalk', 'outbox', 'event_id', 'an event is in the outbox once');
SELECT col_is_pk('osmtalk', 'delivery_attempts', '{event_id,attempt,slot}'::name[], 'delivery_attempts: primary key');
SELECT results_eq($$
	SELECT c.relname::text COLLATE "default" FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	 WHERE i.inhparent IN ('osmtalk.events'::regclass, 'osmtalk.delivery_attempts'::regclass) ORDER BY 1 $$,
	$$ SELECT t || '_' || s FROM unnest('{events,delivery_attempts}'::text[]) t, (SELECT to_char(n, 'FM00') FROM generate_series(0, 15) n UNION ALL SELECT 'kept') s (s) ORDER BY 1 $$,
	'a partition for every slot that current_slot() gives, and one for what is kept longer');
SELECT fk_ok('osmtalk', t, c, 'osmtalk', o, k, t || '.' || c) FROM (VALUES
	('agents'::name, 'org_id'::name, 'org_settings'::name, 'org_id'::name), ('campaigns', 'org_id', 'org_settings', 'org_id'), ('campaigns', 'agent_id', 'agents', 'id'),
	('leads', 'campaign_id', 'campaigns', 'id'), ('calls', 'org_id', 'org_settings', 'org_id'), ('calls', 'agent_id', 'agents', 'id'),
	('calls', 'lead_id', 'leads', 'id'), ('dnc_entries', 'org_id', 'org_settings', 'org_id')) f (t, c, o, k);
SELECT results_eq($$
	SELECT conrelid::regclass::text || ' ' || confrelid::regclass::text || ' ' || confdeltype::text FROM pg_constraint
	 WHERE contype = 'f' AND connamespace = 'osmtalk'::regnamespace AND confdeltype <> 'a' ORDER BY 1 $$,
	ARRAY['osmtalk.calls osmtalk.leads n', 'osmtalk.dnc_entries osmtalk.org_settings c'],
	'deletes are refused, but a lead''s leaves its calls and an organisation''s takes its DNC list');
SELECT is_empty($$ SELECT conname FROM pg_constraint WHERE contype = 'f' AND 'osmtalk.events'::regclass IN (conrelid, confrelid) $$,
	'no delete reaches an event');
SELECT is_empty($$ SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('osmtalk.outbox'::regclass, 'osmtalk.delivery_attempts'::regclass) $$,
	'nor its delivery record');
SELECT is_empty($$
	SELECT con.conname FROM pg_constraint con
	 WHERE con.contype = 'f' AND con.connamespace = 'osmtalk'::regnamespace
	   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = con.conrelid AND i.indkey[0] = con.conkey[1])
	   AND (con.conrelid, con.confrelid) NOT IN (('osmtalk.calls'::regclass, 'osmtalk.org_settings'::regclass), ('osmtalk.calls'::regclass, 'osmtalk.agents'::regclass)) $$,
	'referencing columns are indexed, except where deleting the referenced row is an administrator''s rare act');

-- ---------------------------------------------------------------------------
-- Types
-- ---------------------------------------------------------------------------
SELECT enum_has_labels('osmtalk', 'lead_status', '{pending,calling,completed,voicemail,no_answer,busy,failed,dnc_blocked}'::name[]);
SELECT enum_has_labels('osmtalk', 'call_status', '{queued,in_progress,completed,voicemail,no_answer,busy,failed,dnc_blocked}'::name[]);

-- ---------------------------------------------------------------------------
-- Functions
-- ---------------------------------------------------------------------------
CREATE TEMPORARY TABLE functions (signature text, result text, volatility "char", parallel "char");
INSERT INTO functions VALUES
	('new_id(prefix text)', 'text', 'v', 's'),
	('normalize_phone(phone_number text)', 'text', 'i', 's'),
	('call_outcome(answered_at timestamp with time zone, ended_at timestamp with time zone, sip_status_code integer, voicemail_detected boolean, error text)', 'osmtalk.call_status', 'i', 's'),
	('disposition(analysis jsonb)', 'text', 'i', 's'),
	('is_terminal(status osmtalk.lead_status)', 'boolean', 'i', 's'),
	('analysis_configured(agent osmtalk.agents)', 'boolean', 'i', 's'),
	('place_call(lead_id text)', 'osmtalk.calls', 'v', 'u'),
	('place_next_call(campaign_id text)', 'osmtalk.calls', 'v', 'u'),
	('requeue_lead(lead_id text, at timestamp with time zone DEFAULT now())', 'void', 'v', 'u'),
	('signature(body text, secret text)', 'text', 'i', 's'),
	('verify_signature(body text, secret text, header text)', 'boolean', 'i', 's'),
	('verify_standard_webhook(body text, headers jsonb, secret text, tolerance interval DEFAULT ''00:05:00''::interval)', 'boolean', 'v', 's'),
	('event_types()', 'text[]', 'i', 's'),
	('default_event_types()', 'text[]', 'i', 's'),
	('is_subscribed(type text, campaign text[], organisation text[])', 'boolean', 'i', 's'),
	('send_test_event(org_id text, campaign_id text DEFAULT NULL::text)', 'text', 'v', 'u'),
	('redeliver(event_id text)', 'void', 'v', 'u'),
	('wait_until_drained(timeout interval DEFAULT ''00:00:30''::interval)', 'boolean', 'v', 'u'),
	('adopt(discard boolean DEFAULT false)', 'bigint', 'v', 'u'),
	('pause()', 'void', 'v', 'u'),
	('resume()', 'void', 'v', 'u'),
	('rotate_webhook_secret(org_id text, campaign_id text DEFAULT NULL::text, overlap interval DEFAULT ''24:00:00''::interval)', 'text', 'v', 'u'),
	('redacted_url(url text)', 'text', 'i', 's'),
	('is_webhook_url(url text)', 'boolean', 'i', 's'),
	('expire_calls(max_calls integer DEFAULT 500)', 'bigint', 'v', 'u');
SELECT is_empty($$
	SELECT f.* FROM functions f
	 WHERE NOT EXISTS (
		SELECT FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace
		   AND p.proname || '(' || pg_get_function_arguments(p.oid) || ')' = f.signature
		   AND pg_get_function_result(p.oid) = f.result AND p.provolatile = f.volatility AND p.proparallel = f.parallel) $$,
	'every function of the contract: argument names, types, defaults, result, volatility, parallel safety');
SELECT is_empty($$ SELECT proname FROM pg_proc WHERE pronamespace = 'osmtalk'::regnamespace GROUP BY proname HAVING count(*) > 1 $$,
	'no function is overloaded: unknown literals always find one');

-- ---------------------------------------------------------------------------
-- Views
-- ---------------------------------------------------------------------------
SELECT has_view('osmtalk', v, 'view ' || v) FROM unnest('{due_leads,stale_calls,campaign_report,deliveries,worker_status}'::name[]) v;
CREATE FUNCTION pg_temp.columns(rel regclass, at_most int DEFAULT 1000) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
	  FROM pg_attribute WHERE attrelid = rel AND attnum BETWEEN 1 AND at_most AND NOT attisdropped
$$;
SELECT is(pg_temp.columns('osmtalk.due_leads'), pg_temp.columns('osmtalk.leads'), 'due_leads has all columns of leads');
SELECT is(pg_temp.columns('osmtalk.stale_calls'), pg_temp.columns('osmtalk.calls'), 'stale_calls has all columns of calls');
SELECT is(pg_temp.columns('osmtalk.campaign_report', 5),
	'campaign_id text, name text, leads bigint, by_status jsonb, by_disposition jsonb', 'campaign_report');
SELECT is(pg_temp.columns('osmtalk.deliveries', 14),
	'event_id text, type text, org_id text, campaign_id text, lead_id text, call_id text, url text, state text, attempts bigint, http_status integer, '
	'error text, created_at timestamp with time zone, last_attempt_at timestamp with time zone, delivered_at timestamp with time zone', 'deliveries');
SELECT is(pg_temp.columns('osmtalk.worker_status', 9),
	'pid integer, state text, started_at timestamp with time zone, in_flight integer, pending bigint, delivered bigint, failed bigint, '
	'last_error text, last_error_at timestamp with time zone', 'worker_status');

-- ---------------------------------------------------------------------------
-- Settings
-- ---------------------------------------------------------------------------
SELECT results_eq($$ SELECT name, boot_val, coalesce(unit, ''), context FROM pg_settings WHERE name LIKE 'osmtalk.%' ORDER BY name COLLATE "C" $$,
	$$ VALUES ('osmtalk.analysis_timeout', '300000', 'ms', 'sighup'),
			  ('osmtalk.ca_file', '', '', 'sighup'),
			  ('osmtalk.call_timeout', '14400000', 'ms', 'sighup'),
			  ('osmtalk.enabled', 'on', '', 'sighup'),
			  ('osmtalk.failed_retention', '7776000', 's', 'sighup'),
			  ('osmtalk.max_in_flight', '256', '', 'sighup'),
			  ('osmtalk.max_in_flight_per_endpoint', '32', '', 'sighup'),
			  ('osmtalk.max_payload', '262144', 'B', 'sighup'),
			  ('osmtalk.org_id', '', '', 'user'),
			  ('osmtalk.poll_interval', '1000', 'ms', 'sighup'),
			  ('osmtalk.proxy', '', '', 'sighup'),
			  ('osmtalk.request_timeout', '15000', 'ms', 'sighup'),
			  ('osmtalk.require_https', 'on', '', 'sighup'),
			  ('osmtalk.retention', '2592000', 's', 'sighup'),
			  ('osmtalk.standard_webhooks_headers', 'off', '', 'sighup'),
			  ('osmtalk.trusted_networks', '', '', 'sighup'),
			  ('osmtalk.workers', '1', '', 'sighup') $$,
	'every setting, with its default, and none but its tenant that a session may change');
SELECT throws_ok('SET osmtalk.enabled = off', '55P02', NULL, 'a session cannot switch sending off');
SELECT throws_ok('SET osmtalk.trusted_networks = ''0.0.0.0/0''', '55P02', NULL, 'nor widen what may be called');
SELECT throws_ok('SET osmtalk.no_such_setting = 1', '42602', NULL, 'a mistyped setting is an error');

-- ---------------------------------------------------------------------------
-- Documentation and dump
-- ---------------------------------------------------------------------------
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'v')
	   AND obj_description(c.oid, 'pg_class') IS NULL $$, 'every table and view has a comment');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'osmtalk'::regnamespace
	   AND (p.prorettype <> 'trigger'::regtype OR p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'c'))
	   AND obj_description(p.oid, 'pg_proc') IS NULL $$, 'every function has one, the bodies of triggers apart');
SELECT is_empty($$
	SELECT t.typname FROM pg_type t WHERE t.typnamespace = 'osmtalk'::regnamespace AND t.typtype = 'e'
	   AND obj_description(t.oid, 'pg_type') IS NULL $$, 'every type has one');
SELECT isnt(obj_description('osmtalk'::regnamespace, 'pg_namespace'), NULL, 'the schema has one');
SELECT is_empty($$
	SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	  JOIN contract k ON ('osmtalk.' || k.tbl)::regclass = a.attrelid AND k.col = a.attname
	 WHERE a.attname IN ('status', 'placed_at', 'decided_at', 'analyzed_at', 'disposition', 'attempts', 'next_attempt_at', 'call_id', 'outcome', 'completed_at',
						 'skipped_reason', 'due_at', 'origin', 'default_webhook_url', 'webhook_url', 'webhook_secret', 'webhook_events', 'webhook_headers', 'max_attempts', 'retry_backoff', 'retry_on')
	   AND (k.tbl, k.col) NOT IN (('leads', 'status'), ('events', 'call_id'))
	   AND col_description(a.attrelid, a.attnum) IS NULL $$, 'columns whose meaning the name does not say have one');
SELECT results_eq($$
	SELECT c.oid FROM pg_extension e, unnest(e.extconfig) c (oid) WHERE e.extname = 'osmtalk' ORDER BY 1 $$,
	$$ SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND c.relname NOT IN ('slots', 'claims', 'claims_id_seq') ORDER BY 1 $$,
	'pg_dump writes the rows of every table and the state of the sequence; how far retention is, and what is claimed, means nothing in a copy');
SELECT ok(coalesce(e.extcondition, '{""}') = array_fill(''::text, ARRAY[cardinality(e.extconfig)]), 'all rows of each')
  FROM pg_extension e WHERE e.extname = 'osmtalk';
SELECT is_empty($$
	SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relpersistence <> 'p' AND c.relkind IN ('r', 'S', 'i') $$,
	'nothing is unlogged');
SELECT is_empty($$
	SELECT d.classid::regclass, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	  JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
	 WHERE e.extname = 'osmtalk' AND d.deptype = 'e' AND p.pronamespace <> 'osmtalk'::regnamespace $$,
	'everything lives in the schema osmtalk');
SELECT is(extrelocatable, false, 'which cannot be moved') FROM pg_extension WHERE extname = 'osmtalk';

SELECT * FROM finish();
ROLLBACK;
