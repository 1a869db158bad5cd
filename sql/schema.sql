/*
 * schema.sql
 *		The schema, the types and the functions written in C.
 *
 * Knows no table.
 */

-- never one that is there already: whoever made it may have put things in it
CREATE SCHEMA osmtalk AUTHORIZATION osmtalk_owner;
COMMENT ON SCHEMA osmtalk IS
'Call outcomes and signed webhooks: decides what came of each call and delivers the event';

CREATE TYPE osmtalk.lead_status AS ENUM
	('pending', 'calling', 'completed', 'voicemail', 'no_answer', 'busy', 'failed', 'dnc_blocked');
COMMENT ON TYPE osmtalk.lead_status IS
'Where a lead stands; all but pending and calling are terminal, see is_terminal()';

CREATE TYPE osmtalk.call_status AS ENUM
	('queued', 'in_progress', 'completed', 'voicemail', 'no_answer', 'busy', 'failed', 'dnc_blocked');
COMMENT ON TYPE osmtalk.call_status IS
'Where a call stands: queued, in_progress, or one of the six outcomes that call_outcome() and the DNC check give';

/* ---- ids ---- */

CREATE FUNCTION osmtalk.new_id(prefix text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_new_id';
COMMENT ON FUNCTION osmtalk.new_id(text) IS
'A fresh id: the prefix, "_", 11 characters of time and 16 of randomness; later ids sort after earlier ones';

CREATE FUNCTION osmtalk.current_origin() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_current_origin';
COMMENT ON FUNCTION osmtalk.current_origin() IS
'This database''s identity, <system identifier>/<database oid>: what outbox rows and undecided calls carry, so that a copy of the database never sends by accident';

/* ---- tenants ---- */

CREATE FUNCTION osmtalk.current_org_id() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_current_org_id';
COMMENT ON FUNCTION osmtalk.current_org_id() IS
'The session''s tenant, as osmtalk.org_id has it; null if that is not set or empty';

CREATE FUNCTION osmtalk.sees_every_org() RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_sees_every_org';
COMMENT ON FUNCTION osmtalk.sees_every_org() IS
'Whether no tenant binds the session: see enable_tenant_isolation(). By the role that it is or was SET to, whoever''s rights the function runs with in which this is asked';

CREATE FUNCTION osmtalk.sees_org(org_id text) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_sees_org';
COMMENT ON FUNCTION osmtalk.sees_org(text) IS
'sees_every_org(), or the organisation is the session''s tenant';

/* ---- signatures ---- */

CREATE FUNCTION osmtalk.signature(body text, secret text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_signature';
COMMENT ON FUNCTION osmtalk.signature(text, text) IS
'The value of X-OsmTalk-Signature: "sha256=" and the lower-case hex HMAC-SHA256 of the body, keyed with the secret''s bytes';

CREATE FUNCTION osmtalk.verify_signature(body text, secret text, header text) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_verify_signature';
COMMENT ON FUNCTION osmtalk.verify_signature(text, text, text) IS
'Whether header is the signature of body, compared in constant time; false, never an error, for anything malformed or null and for an empty secret';

CREATE FUNCTION osmtalk.new_webhook_secret() RETURNS text
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'osmtalk_new_webhook_secret';
COMMENT ON FUNCTION osmtalk.new_webhook_secret() IS
'Internal: "whsec_" and 32 random bytes in base64; stored by rotate_webhook_secret()';

/* ---- endpoints ---- */

CREATE FUNCTION osmtalk.endpoint_hash(url text) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_endpoint_hash';
COMMENT ON FUNCTION osmtalk.endpoint_hash(text) IS
'A hash of the URL''s scheme, host and port, whatever their case and whether or not a default port is written: events with the same wait in one queue';

/* ---- rendering, the same bytes under any session settings ---- */

CREATE FUNCTION osmtalk.iso_time(at timestamptz) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_iso_time';
COMMENT ON FUNCTION osmtalk.iso_time(timestamptz) IS
'ISO 8601 in UTC with truncated milliseconds and Z; years outside 0-9999 in ECMAScript''s six-digit form (+012026, -000043); null for infinite times';

CREATE FUNCTION osmtalk.render(pattern text, VARIADIC "values" "any") RETURNS text
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_render';
COMMENT ON FUNCTION osmtalk.render(text, "any") IS
'Internal: the pattern, a JSON object, with each ? and * replaced by the next value as JSON; if that is longer than osmtalk.max_payload, values are set to null, those of * first, and "truncated":true is appended';

CREATE FUNCTION osmtalk.microseconds_between("from" timestamptz, until timestamptz) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_microseconds_between';
COMMENT ON FUNCTION osmtalk.microseconds_between(timestamptz, timestamptz) IS
'until minus from in microseconds, at the ends of bigint where it would overflow; null if either is infinite. Unlike the operator - it never raises an error';

/* ---- settings, as SQL values ---- */

CREATE FUNCTION osmtalk.analysis_timeout() RETURNS interval
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_analysis_timeout_interval';
COMMENT ON FUNCTION osmtalk.analysis_timeout() IS
'The setting osmtalk.analysis_timeout';

CREATE FUNCTION osmtalk.call_timeout() RETURNS interval
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_call_timeout_interval';
COMMENT ON FUNCTION osmtalk.call_timeout() IS
'The setting osmtalk.call_timeout; null when it is off';

CREATE FUNCTION osmtalk.retention() RETURNS interval
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_retention_interval';
COMMENT ON FUNCTION osmtalk.retention() IS
'The setting osmtalk.retention; null when events are kept for ever';

CREATE FUNCTION osmtalk.failed_retention() RETURNS interval
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_failed_retention_interval';
COMMENT ON FUNCTION osmtalk.failed_retention() IS
'The setting osmtalk.failed_retention, or osmtalk.retention if that is longer; null when failed events are kept for ever';

/* ---- the ring of slots that events are kept in ---- */

CREATE FUNCTION osmtalk.current_slot() RETURNS smallint
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_current_slot';
COMMENT ON FUNCTION osmtalk.current_slot() IS
'The slot, 0 to 15, of events that this transaction writes: it follows from the time at which the transaction began';

CREATE FUNCTION osmtalk.slot_is_over(slot smallint) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_slot_is_over';
COMMENT ON FUNCTION osmtalk.slot_is_over(smallint) IS
'Whether it is longer than the retention that events were last written to this slot, going by the clock; false when they are kept for ever';

/* ---- the worker, as backends see it ---- */

CREATE FUNCTION osmtalk.wake_worker() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_wake_worker';
COMMENT ON FUNCTION osmtalk.wake_worker() IS
'Trigger: wakes this database''s worker when the transaction commits; if the row brings another transaction''s id, the worker reads the whole outbox again';

CREATE FUNCTION osmtalk.start_worker() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'osmtalk_start_worker';
COMMENT ON FUNCTION osmtalk.start_worker() IS
'Asks for a worker in this database when the transaction commits; warns if the library is not preloaded. The install script calls it';

CREATE FUNCTION osmtalk.wake_for_waiting() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'osmtalk_wake_for_waiting';
COMMENT ON FUNCTION osmtalk.wake_for_waiting() IS
'Internal: has the worker see which waiting events can go, once this commits';

CREATE FUNCTION osmtalk.pause_changed() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_pause_changed';
COMMENT ON FUNCTION osmtalk.pause_changed() IS
'Trigger: tells this database''s worker, when the transaction commits, that sending was paused, or is no more';

CREATE FUNCTION osmtalk.endpoint_left_alone() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_endpoint_left_alone';
COMMENT ON FUNCTION osmtalk.endpoint_left_alone() IS
'Trigger: has this database''s workers, when the transaction commits, give back what they have claimed for the endpoint and not begun';

CREATE FUNCTION osmtalk.worker_slots()
RETURNS TABLE (number int, workers int, pid int, state text, started_at timestamptz, in_flight int,
			   delivered bigint, failed bigint, last_error text, last_error_at timestamptz)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'osmtalk_worker_slots';
COMMENT ON FUNCTION osmtalk.worker_slots() IS
'What shared memory knows of this database''s workers, and osmtalk.workers; one row with a null pid when there is none; see the view worker_status';
