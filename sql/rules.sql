/*
 * rules.sql
 *		The rules of an outcome, as pure functions of what they decide from.
 *
 * Written once: triggers, the worker and users call the same functions.
 * Bodies in the SQL standard's form are parsed here and now, so no search
 * path can change what they mean.  Knows no table.
 */

CREATE FUNCTION osmtalk.is_terminal(status osmtalk.lead_status) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status NOT IN ('pending'::osmtalk.lead_status, 'calling'::osmtalk.lead_status);
COMMENT ON FUNCTION osmtalk.is_terminal(osmtalk.lead_status) IS
'Whether a lead of this status is done with: all but pending and calling';

CREATE FUNCTION osmtalk.call_outcome(
	answered_at timestamptz, ended_at timestamptz, sip_status_code int,
	voicemail_detected boolean, error text) RETURNS osmtalk.call_status
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN ended_at IS NULL OR NOT pg_catalog.isfinite(ended_at) THEN NULL
	WHEN sip_status_code IN (486, 600) THEN 'busy'::osmtalk.call_status
	WHEN sip_status_code IN (408, 480, 487)
		AND (answered_at IS NULL OR NOT pg_catalog.isfinite(answered_at)) THEN 'no_answer'::osmtalk.call_status
	WHEN error IS NOT NULL THEN 'failed'::osmtalk.call_status
	WHEN sip_status_code >= 400 THEN 'failed'::osmtalk.call_status
	WHEN voicemail_detected THEN 'voicemail'::osmtalk.call_status
	WHEN answered_at IS NULL OR NOT pg_catalog.isfinite(answered_at)
		OR osmtalk.microseconds_between(answered_at, ended_at) < 3000000 THEN 'no_answer'::osmtalk.call_status
	ELSE 'completed'::osmtalk.call_status
END;
COMMENT ON FUNCTION osmtalk.call_outcome(timestamptz, timestamptz, int, boolean, text) IS
'What came of a call, first match wins: SIP 486/600 busy; 408/480/487 unanswered no_answer; an error failed; other SIP >= 400 failed; voicemail; unanswered or under 3 s no_answer; else completed. Null while the call has not ended; infinite times count as null';

CREATE FUNCTION osmtalk.has_started(started_at timestamptz, answered_at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE(pg_catalog.isfinite(started_at), false) OR COALESCE(pg_catalog.isfinite(answered_at), false);
COMMENT ON FUNCTION osmtalk.has_started(timestamptz, timestamptz) IS
'Whether a call with these facts has started: either is set; infinite times count as null';

CREATE FUNCTION osmtalk.call_status(
	started_at timestamptz, answered_at timestamptz, ended_at timestamptz, sip_status_code int,
	voicemail_detected boolean, error text) RETURNS osmtalk.call_status
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE(
	osmtalk.call_outcome(answered_at, ended_at, sip_status_code, voicemail_detected, error),
	CASE WHEN osmtalk.has_started(started_at, answered_at)
		THEN 'in_progress'::osmtalk.call_status
		ELSE 'queued'::osmtalk.call_status
	END);
COMMENT ON FUNCTION osmtalk.call_status(timestamptz, timestamptz, timestamptz, int, boolean, text) IS
'The status of a call with these facts: its call_outcome() once it has ended, before that in_progress once it has started or was answered, else queued';

CREATE FUNCTION osmtalk.is_open(status osmtalk.call_status) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('queued'::osmtalk.call_status, 'in_progress'::osmtalk.call_status);
COMMENT ON FUNCTION osmtalk.is_open(osmtalk.call_status) IS
'Whether a call of this status has not ended: queued or in_progress';

CREATE FUNCTION osmtalk.has_analysis(analysis jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN analysis IS NOT NULL AND pg_catalog.jsonb_typeof(analysis) <> 'null';
COMMENT ON FUNCTION osmtalk.has_analysis(jsonb) IS
'Whether there is an analysis: JSON null is none';

CREATE FUNCTION osmtalk.disposition(analysis jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN pg_catalog.jsonb_typeof(analysis) IS DISTINCT FROM 'object' THEN 'completed'
	WHEN analysis OPERATOR(pg_catalog.->) 'lead_qualified' = 'true'::jsonb
		OR analysis OPERATOR(pg_catalog.->) 'success' = 'true'::jsonb THEN 'qualified'
	WHEN analysis OPERATOR(pg_catalog.->) 'next_action' = '"not_interested"'::jsonb THEN 'not_interested'
	WHEN analysis OPERATOR(pg_catalog.->) 'next_action' = '"callback_later"'::jsonb THEN 'callback'
	ELSE 'completed'
END;
COMMENT ON FUNCTION osmtalk.disposition(jsonb) IS
'The business outcome of a completed call, never null: qualified if lead_qualified or success is the JSON boolean true; not_interested or callback by the JSON string next_action; else completed';

CREATE FUNCTION osmtalk.disposition_by(status osmtalk.call_status, analysis_configured boolean, analysis jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN status <> 'completed'::osmtalk.call_status THEN NULL
	WHEN analysis_configured THEN osmtalk.disposition(analysis)
	ELSE 'completed'
END;
COMMENT ON FUNCTION osmtalk.disposition_by(osmtalk.call_status, boolean, jsonb) IS
'The disposition that a call of this status gives its lead: disposition() of its analysis if its agent has analysis configured, else completed; null unless the call completed';

CREATE FUNCTION osmtalk.lead_outcome(status osmtalk.call_status) RETURNS osmtalk.lead_status
LANGUAGE sql STABLE PARALLEL SAFE
RETURN status::text::osmtalk.lead_status;
COMMENT ON FUNCTION osmtalk.lead_outcome(osmtalk.call_status) IS
'The status that a call of this final status gives its lead, unless it is called again';

CREATE FUNCTION osmtalk.lead_disposition(status osmtalk.lead_status, disposition text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN status = 'completed'::osmtalk.lead_status THEN COALESCE(disposition, 'completed') END;
COMMENT ON FUNCTION osmtalk.lead_disposition(osmtalk.lead_status, text) IS
'The disposition that a lead of this status may have: never null for a completed one, null for every other';

CREATE FUNCTION osmtalk.is_retried(
	outcome osmtalk.lead_status, attempts int, retry_on osmtalk.lead_status[], max_attempts int) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN outcome = ANY (retry_on) AND attempts < max_attempts;
COMMENT ON FUNCTION osmtalk.is_retried(osmtalk.lead_status, int, osmtalk.lead_status[], int) IS
'The retry policy: whether a lead with this outcome after this many attempts is called again';

CREATE FUNCTION osmtalk.try_normalize_phone(phone_number text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- hundreds of megabytes would be an error of translate(), and work without end for the patterns
RETURN CASE WHEN pg_catalog.octet_length(phone_number) <= 100000000
		AND pg_catalog.octet_length(pg_catalog.translate(phone_number, ' .-()', '')) <= 64 THEN
	pg_catalog.substring(
		pg_catalog.regexp_replace(
			pg_catalog.translate(phone_number, ' .-()', '') COLLATE "C", '^00', '+'),
		'^[+][1-9][0-9]{6,14}$')
END;
COMMENT ON FUNCTION osmtalk.try_normalize_phone(text) IS
'normalize_phone() that gives null where that raises an error';

CREATE FUNCTION osmtalk.normalize_phone(phone_number text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	normalized constant text := osmtalk.try_normalize_phone(phone_number);
BEGIN
	IF normalized IS NULL THEN
		RAISE EXCEPTION 'invalid phone number: "%"', pg_catalog.left(phone_number, 40)
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'Without spaces, dots, dashes and parentheses it is not "+" (or "00") and 7 to 15 ASCII digits, the first not 0.',
				  HINT = 'Write the number in international form, for example +919876543210.';
	END IF;
	RETURN normalized;
END
$$;
COMMENT ON FUNCTION osmtalk.normalize_phone(text) IS
'The number in E.164: spaces, dots, dashes, parentheses stripped, then a leading 00 becomes +; error 22023 unless the result is + and 7 to 15 ASCII digits, the first not 0; null for null';

CREATE FUNCTION osmtalk.is_webhook_url(url text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_is_webhook_url';
COMMENT ON FUNCTION osmtalk.is_webhook_url(text) IS
'Whether events can be posted to this URL: http or https, an ASCII host without user and password, a port from 1 to 65535, no spaces, control characters or backslashes, at most 2048 bytes';

CREATE FUNCTION osmtalk.is_refused_url(url text) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_is_refused_url';
COMMENT ON FUNCTION osmtalk.is_refused_url(text) IS
'Whether no worker posts to this URL, as far as that can be told without looking up a name: it is not valid, it is plain http and osmtalk.require_https is on, or its address is neither public nor in osmtalk.trusted_networks';

CREATE FUNCTION osmtalk.redacted_url(url text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.regexp_replace(
	pg_catalog.regexp_replace(url COLLATE "C", '^([^/?#]*//)[^/?#]*@', '\1...@'),
	'([?#]).*$', '\1...');
COMMENT ON FUNCTION osmtalk.redacted_url(text) IS
'The URL as those may see it who need not know what it holds: "..." for the query string, a fragment, and a user and password';
