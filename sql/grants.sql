/*
 * grants.sql
 *		Who may do what: the one place where privileges are declared.
 *
 * Nobody but the owner and superusers has any right on tables, views and the
 * schema until it is granted.  A role that finalises calls needs USAGE on the
 * schema and UPDATE on the fact columns of calls: triggers run with the
 * owner's rights.  Do not grant INSERT (placed_at) to applications: a row
 * that arrives with it is taken for history.
 *
 * Functions that only compute, or tell of the server and not of its users,
 * stay executable by everybody with USAGE on the schema.  Those that read or
 * change data run with the owner's rights: EXECUTE on one is all that a role
 * needs to use it, and the owner's to grant.
 */
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA osmtalk FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	osmtalk.new_id(text),
	osmtalk.current_origin(),
	osmtalk.current_slot(),
	osmtalk.slot_is_over(smallint),
	osmtalk.worker_slots(),
	osmtalk.signature(text, text),
	osmtalk.verify_signature(text, text, text),
	osmtalk.endpoint_hash(text),
	osmtalk.iso_time(timestamptz),
	osmtalk.microseconds_between(timestamptz, timestamptz),
	osmtalk.is_terminal(osmtalk.lead_status),
	osmtalk.call_outcome(timestamptz, timestamptz, int, boolean, text),
	osmtalk.call_status(timestamptz, timestamptz, timestamptz, int, boolean, text),
	osmtalk.is_open(osmtalk.call_status),
	osmtalk.has_analysis(jsonb),
	osmtalk.disposition(jsonb),
	osmtalk.disposition_by(osmtalk.call_status, boolean, jsonb),
	osmtalk.lead_outcome(osmtalk.call_status),
	osmtalk.lead_disposition(osmtalk.lead_status, text),
	osmtalk.is_retried(osmtalk.lead_status, int, osmtalk.lead_status[], int),
	osmtalk.first_set(text, text),
	osmtalk.try_normalize_phone(text),
	osmtalk.normalize_phone(text),
	osmtalk.is_webhook_url(text),
	osmtalk.check_webhook_url(text),
	osmtalk.check_same_org(text, text, text),
	osmtalk.analysis_configured(osmtalk.agents)
	TO PUBLIC;

-- the last act of the install: a worker for this database, once this commits
SELECT osmtalk.start_worker();
