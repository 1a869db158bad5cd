/*
 * grants.sql
 *		Who owns what, and who may do what: the one place where both are said.
 *
 * Everything is owned by the owner of the schema, and nobody else has any
 * right that is not granted here: none is PUBLIC's, but that to name the type of
 * a table's rows, of which pg_dump complains if it is taken away.
 * doc/privileges.md has this as a table, which a test compares with what is
 * installed.
 *
 * Columns are named, so that one that is added later is nobody's until this
 * file says whose.  Triggers run with the owner's rights, and so do functions
 * that change data, report_html() and health(): EXECUTE on one is all that a
 * role needs.  Views, but for deliveries and stat_endpoint, run with the rights of
 * whoever reads them.
 */

/* ---- owner ---- */

/*
 * What this script has made belongs to whoever ran it, and his default
 * privileges apply to it.  Upgrade steps end with a copy of this block; it
 * leaves alone what is the owner's already.
 */
DO LANGUAGE plpgsql $$
DECLARE
	rightful constant oid := (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'osmtalk');
	command text;
BEGIN
	FOR command IN
		WITH member AS (
			SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
			 WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'osmtalk'),
		object (kind, name, owner, acl, alone) AS (
			SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner,
				   coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)),
				   -- a column's sequence goes with the table
				   NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
								WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S'
								  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i'))
			  FROM member m JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
			UNION ALL
			SELECT 'FUNCTION', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)), true
			  FROM member m JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
			UNION ALL
			SELECT 'TYPE', t.oid::regtype::text, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner)), true
			  FROM member m JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
			 -- arrays and rows are members, too, from PostgreSQL 17 on
			 WHERE t.typelem = 0 AND t.typrelid = 0)
		SELECT step.command FROM (
			SELECT 1 AS number, format('ALTER %s %s OWNER TO %s', o.kind, o.name, rightful::regrole) AS command
			  FROM object o WHERE o.owner <> rightful AND o.alone
			UNION ALL
			-- of each, and after that: it is what a dump compares privileges with
			SELECT 2, format('REVOKE ALL ON %s %s FROM %s', o.kind, o.name,
							 (SELECT string_agg(CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END, ', ')
								FROM (SELECT a.grantee FROM aclexplode(o.acl) a WHERE a.grantee NOT IN (o.owner, rightful)
									  UNION SELECT 0) g))
			  FROM object o WHERE o.owner <> rightful) step
		 ORDER BY step.number, step.command
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;

/* ---- everybody ---- */

GRANT USAGE ON SCHEMA osmtalk TO osmtalk_app, osmtalk_admin, osmtalk_monitor;
GRANT USAGE ON TYPE osmtalk.lead_status, osmtalk.call_status, osmtalk.endpoint_state TO osmtalk_app, osmtalk_admin, osmtalk_monitor;

-- what only computes, with what it calls
GRANT EXECUTE ON FUNCTION
	osmtalk.new_id(text),
	osmtalk.normalize_phone(text), osmtalk.try_normalize_phone(text),
	osmtalk.call_outcome(timestamptz, timestamptz, int, boolean, text), osmtalk.microseconds_between(timestamptz, timestamptz),
	osmtalk.disposition(jsonb),
	osmtalk.is_terminal(osmtalk.lead_status),
	osmtalk.analysis_configured(osmtalk.agents),
	osmtalk.signature(text, text),
	osmtalk.verify_signature(text, text, text), osmtalk.verify_standard_webhook(text, jsonb, text, interval),
	osmtalk.event_types(), osmtalk.default_event_types(),
	osmtalk.is_webhook_url(text), osmtalk.is_refused_url(text), osmtalk.redacted_url(text),
	osmtalk.default_retry_schedule(), osmtalk.is_retryable(int, int[]),
	osmtalk.retry_delay(interval[], int, int, interval, double precision), osmtalk.endpoint_id(text, text),
	osmtalk.endpoint_standing(osmtalk.endpoint_state, text, timestamptz, boolean), osmtalk.probe_pause(int),
	osmtalk.latency_bounds(), osmtalk.latency_quantile(bigint[], double precision), osmtalk.latency_buckets(bigint[]),
	-- what policies and views call
	osmtalk.current_org_id(), osmtalk.sees_org(text), osmtalk.sees_every_org()
	TO osmtalk_app, osmtalk_admin, osmtalk_monitor;
GRANT EXECUTE ON FUNCTION osmtalk.wait_until_drained(interval) TO osmtalk_app, osmtalk_admin, osmtalk_monitor;

/* ---- the application: it records facts ---- */

GRANT SELECT (id, org_id, agent_id, name, max_attempts, retry_backoff, retry_on) ON osmtalk.campaigns TO osmtalk_app;
GRANT SELECT ON osmtalk.agents, osmtalk.leads, osmtalk.calls, osmtalk.dnc_entries, osmtalk.due_leads, osmtalk.stale_calls, osmtalk.campaign_report TO osmtalk_app;
GRANT SELECT (org_id) ON osmtalk.org_settings TO osmtalk_app;

-- not the outcome: status, disposition, attempts, call_id, outcome, completed_at
GRANT INSERT (id, campaign_id, phone_number, variables, next_attempt_at),
	  UPDATE (phone_number, variables, next_attempt_at)
   ON osmtalk.leads TO osmtalk_app;
-- not placed_at: a row that arrives with it is history, to which no rule applies
GRANT INSERT (id, org_id, agent_id, lead_id, direction, phone_number, dynamic_variables, metadata, transcript,
			  started_at, answered_at, ended_at, sip_status_code, voicemail_detected, error, analysis, analysis_error),
	  UPDATE (dynamic_variables, metadata, transcript,
			  started_at, answered_at, ended_at, sip_status_code, voicemail_detected, error, analysis, analysis_error)
   ON osmtalk.calls TO osmtalk_app;
GRANT INSERT (org_id, phone_number, reason, source), UPDATE (reason, source) ON osmtalk.dnc_entries TO osmtalk_app;
GRANT EXECUTE ON FUNCTION osmtalk.place_call(text), osmtalk.place_next_call(text), osmtalk.requeue_lead(text, timestamptz)
   TO osmtalk_app;
GRANT EXECUTE ON FUNCTION osmtalk.explain_outcome(text) TO osmtalk_app, osmtalk_admin;

/* ---- the administrator: configuration and operation ---- */

-- secrets, and headers, which may be secrets, can be written and not read
GRANT SELECT (org_id, default_webhook_url, webhook_events, webhook_retry_schedule),
	  INSERT (org_id, default_webhook_url, webhook_secret, webhook_events, webhook_headers, webhook_retry_schedule),
	  UPDATE (default_webhook_url, webhook_secret, webhook_events, webhook_headers, webhook_retry_schedule), DELETE
   ON osmtalk.org_settings TO osmtalk_admin;
GRANT SELECT, DELETE,
	  INSERT (id, org_id, name, enable_sentiment, enable_success_evaluation, post_call_analysis),
	  UPDATE (name, enable_sentiment, enable_success_evaluation, post_call_analysis)
   ON osmtalk.agents TO osmtalk_admin;
GRANT SELECT (id, org_id, agent_id, name, webhook_url, max_attempts, retry_backoff, retry_on, webhook_events, webhook_retry_schedule), DELETE,
	  INSERT (id, org_id, agent_id, name, webhook_url, webhook_secret, max_attempts, retry_backoff, retry_on, webhook_events, webhook_headers, webhook_retry_schedule),
	  UPDATE (agent_id, name, webhook_url, webhook_secret, max_attempts, retry_backoff, retry_on, webhook_events, webhook_headers, webhook_retry_schedule)
   ON osmtalk.campaigns TO osmtalk_admin;
GRANT SELECT, DELETE, INSERT (org_id, phone_number, reason, source), UPDATE (reason, source)
   ON osmtalk.dnc_entries TO osmtalk_admin;
-- a lead that is closed by hand: its event is sent
GRANT SELECT, DELETE, INSERT (id, campaign_id, phone_number, variables, next_attempt_at),
	  UPDATE (campaign_id, phone_number, variables, next_attempt_at, status)
   ON osmtalk.leads TO osmtalk_admin;
GRANT SELECT, DELETE ON osmtalk.calls TO osmtalk_admin;
GRANT SELECT ON osmtalk.events, osmtalk.outbox, osmtalk.delivery_attempts, osmtalk.claims, osmtalk.paused, osmtalk.slots, osmtalk.tenant_isolation TO osmtalk_admin;
GRANT SELECT, UPDATE (permanent_statuses) ON osmtalk.endpoints TO osmtalk_admin;
GRANT SELECT ON osmtalk.waiting, osmtalk.endpoint_counters, osmtalk.stat_delivery, osmtalk.stat_endpoint TO osmtalk_admin;
GRANT SELECT ON osmtalk.due_leads, osmtalk.stale_calls, osmtalk.campaign_report, osmtalk.deliveries,
	  osmtalk.in_flight, osmtalk.not_adopted, osmtalk.worker_status, osmtalk.retained TO osmtalk_admin;
GRANT SELECT ON osmtalk.redeliveries, osmtalk.redelivery_events, osmtalk.redelivery_counters, osmtalk.outcomes_without_event,
	  osmtalk.redelivery_progress, osmtalk.dead_letters, osmtalk.unsent_events TO osmtalk_admin;
GRANT EXECUTE ON FUNCTION osmtalk.requeue_lead(text, timestamptz), osmtalk.send_test_event(text, text), osmtalk.redeliver(text),
	  osmtalk.redeliver_matching(text, boolean, int, timestamptz, timestamptz, text, text, text),
	  -- what that calls with the caller's rights
	  osmtalk.check_predicate(text), osmtalk.start_redelivery(text, int), osmtalk.add_to_redelivery(bigint, text[]),
	  osmtalk.cancel_redelivery(bigint), osmtalk.resume_redelivery(bigint),
	  osmtalk.rotate_webhook_secret(text, text, interval), osmtalk.secret_problems(),
	  osmtalk.enable_endpoint(text), osmtalk.disable_endpoint(text, text), osmtalk.reset_statistics(),
	  osmtalk.pause(), osmtalk.resume(), osmtalk.adopt(boolean), osmtalk.apply_retention(),
	  -- with URLs as they are
	  osmtalk.preview_event(text), osmtalk.preview_lead_event(text) TO osmtalk_admin;

/* ---- monitoring: no phone numbers, no bodies, no secrets, no URLs but in deliveries ---- */

GRANT SELECT ON osmtalk.endpoint_counters, osmtalk.stat_delivery, osmtalk.stat_endpoint, osmtalk.campaign_report, osmtalk.deliveries, osmtalk.in_flight, osmtalk.not_adopted,
	  osmtalk.worker_status, osmtalk.retained, osmtalk.redelivery_progress, osmtalk.dead_letters, osmtalk.unsent_events
   TO osmtalk_monitor;
GRANT SELECT (org_id, webhook_retry_schedule) ON osmtalk.org_settings TO osmtalk_monitor;
GRANT SELECT (id, org_id, agent_id, name, max_attempts, retry_backoff, retry_on, webhook_retry_schedule) ON osmtalk.campaigns TO osmtalk_monitor;
GRANT SELECT (id, campaign_id, status, disposition, attempts, next_attempt_at, call_id, completed_at) ON osmtalk.leads TO osmtalk_monitor;
GRANT SELECT (id, org_id, agent_id, lead_id, direction, started_at, answered_at, ended_at, sip_status_code, voicemail_detected,
			  status, placed_at, decided_at, analyzed_at, awaiting_since, origin) ON osmtalk.calls TO osmtalk_monitor;
GRANT SELECT (id, type, org_id, campaign_id, lead_id, call_id, created_at, skipped_reason, slot) ON osmtalk.events TO osmtalk_monitor;
GRANT SELECT (event_id, attempt, started_at, duration_ms, http_status, error, slot) ON osmtalk.delivery_attempts TO osmtalk_monitor;
GRANT SELECT ON osmtalk.outbox, osmtalk.claims, osmtalk.waiting, osmtalk.paused, osmtalk.slots, osmtalk.tenant_isolation TO osmtalk_monitor;

-- the page: with the owner's rights, so that this is all it takes
GRANT EXECUTE ON FUNCTION osmtalk.report_html(interval, text) TO osmtalk_admin, osmtalk_monitor;

GRANT SELECT (id, org_id, rate, total, started_at, by_role, cancelled_at, origin, xid) ON osmtalk.redeliveries TO osmtalk_monitor;
GRANT SELECT ON osmtalk.redelivery_counters, osmtalk.outcomes_without_event TO osmtalk_monitor;

-- what the views of the status and the slots call
GRANT EXECUTE ON FUNCTION osmtalk.worker_slots(), osmtalk.current_origin(), osmtalk.current_slot(), osmtalk.slot_is_over(smallint)
   TO osmtalk_admin, osmtalk_monitor;
GRANT USAGE ON TYPE osmtalk.health_status TO osmtalk_admin, osmtalk_monitor;
GRANT EXECUTE ON FUNCTION osmtalk.health(), osmtalk.oldest_due(), osmtalk.queues(), osmtalk.waiting_queue() TO osmtalk_admin, osmtalk_monitor;

/* ---- the server's own monitoring: how the worker and endpoints do, not who was called and what came of it ---- */

GRANT USAGE ON SCHEMA osmtalk TO pg_monitor;
GRANT USAGE ON TYPE osmtalk.health_status, osmtalk.endpoint_state TO pg_monitor;
GRANT SELECT ON osmtalk.worker_status, osmtalk.not_adopted, osmtalk.in_flight, osmtalk.retained, osmtalk.stat_delivery, osmtalk.stat_endpoint TO pg_monitor;
GRANT EXECUTE ON FUNCTION osmtalk.health(), osmtalk.oldest_due(),
	osmtalk.latency_bounds(), osmtalk.latency_quantile(bigint[], double precision), osmtalk.latency_buckets(bigint[]) TO pg_monitor;
-- and what these read and call with the rights of whoever asks
GRANT SELECT (id, event_id, due_at, attempts, origin, endpoint_hash) ON osmtalk.outbox TO pg_monitor;
GRANT SELECT (status, awaiting_since, origin) ON osmtalk.calls TO pg_monitor;
GRANT SELECT ON osmtalk.claims, osmtalk.waiting, osmtalk.paused, osmtalk.slots, osmtalk.endpoint_counters TO pg_monitor;
GRANT EXECUTE ON FUNCTION osmtalk.worker_slots(), osmtalk.current_origin(), osmtalk.current_slot(), osmtalk.slot_is_over(smallint),
	osmtalk.queues(), osmtalk.waiting_queue(), osmtalk.redacted_url(text), osmtalk.current_org_id(), osmtalk.sees_every_org() TO pg_monitor;

-- the last act of the install: a worker for this database, once this commits
SELECT osmtalk.start_worker();
