/*
 * payloads.sql
 *		The bytes of each event.
 *
 * JSON without whitespace outside strings, keys in the documented order,
 * absent values as null.  render() puts its arguments where the marks are, and
 * no setting of the session's can change what it makes of them; "*" marks what
 * gives way first when a body would exceed osmtalk.max_payload, the operator's.
 * Stable, because of that, because an enum's label can be renamed, and because
 * only so these functions are inlined.
 */

CREATE FUNCTION osmtalk.lead_completed_body(at timestamptz, campaign osmtalk.campaigns, lead osmtalk.leads) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN osmtalk.render(
	'{"event":"campaign.lead_completed","timestamp":?,"campaign":{"id":?,"name":?},'
	'"lead":{"id":?,"phoneNumber":?,"variables":*,"status":?,"disposition":?,"attempts":?,"callId":?,"outcome":*}}',
	at, campaign.id, campaign.name,
	lead.id, lead.phone_number, lead.variables, lead.status::text, lead.disposition, lead.attempts, lead.call_id, lead.outcome);
COMMENT ON FUNCTION osmtalk.lead_completed_body(timestamptz, osmtalk.campaigns, osmtalk.leads) IS
'The body of campaign.lead_completed';

CREATE FUNCTION osmtalk.duration_seconds(answered_at timestamptz, ended_at timestamptz) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN osmtalk.microseconds_between(answered_at, ended_at) < 0 THEN 0::numeric
	ELSE pg_catalog.trim_scale(pg_catalog.trunc(osmtalk.microseconds_between(answered_at, ended_at)::numeric * 0.000001, 3))
END;
COMMENT ON FUNCTION osmtalk.duration_seconds(timestamptz, timestamptz) IS
'Seconds from answered_at to ended_at, not below 0, truncated to milliseconds; null if either is null or infinite';

CREATE FUNCTION osmtalk.analysis_completed_body(at timestamptz, call osmtalk.calls, campaign_id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN osmtalk.render(
	'{"event":"call.analysis_completed","timestamp":?,'
	'"call":{"id":?,"orgId":?,"agentId":?,"campaignId":?,"leadId":?,"direction":?,"phoneNumber":?,"status":?,'
	'"startedAt":?,"answeredAt":?,"endedAt":?,"durationSeconds":?,"transcript":*,"dynamicVariables":*,"metadata":*},"analysis":*}',
	at,
	call.id, call.org_id, call.agent_id, campaign_id, call.lead_id, call.direction, call.phone_number, call.status::text,
	call.started_at, call.answered_at, call.ended_at, osmtalk.duration_seconds(call.answered_at, call.ended_at),
	call.transcript, call.dynamic_variables, call.metadata, call.analysis);
COMMENT ON FUNCTION osmtalk.analysis_completed_body(timestamptz, osmtalk.calls, text) IS
'The body of call.analysis_completed; campaign_id is that of the call''s lead, if any';

CREATE FUNCTION osmtalk.call_event_body(at timestamptz, event text, call osmtalk.calls, campaign_id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN osmtalk.render(
	'{"event":?,"timestamp":?,'
	'"call":{"id":?,"orgId":?,"agentId":?,"campaignId":?,"leadId":?,"direction":?,"phoneNumber":?,"status":?,'
	'"startedAt":?,"answeredAt":?,"endedAt":?,"durationSeconds":?,"transcript":*,"dynamicVariables":*,"metadata":*,'
	'"sipStatusCode":?,"error":?}}',
	event, at,
	call.id, call.org_id, call.agent_id, campaign_id, call.lead_id, call.direction, call.phone_number, call.status::text,
	call.started_at, call.answered_at, call.ended_at, osmtalk.duration_seconds(call.answered_at, call.ended_at),
	call.transcript, call.dynamic_variables, call.metadata,
	call.sip_status_code, call.error);
COMMENT ON FUNCTION osmtalk.call_event_body(timestamptz, text, osmtalk.calls, text) IS
'The body of call.started, call.completed and call.failed; campaign_id is that of the call''s lead, if any';

CREATE FUNCTION osmtalk.test_body(at timestamptz, org_id text, campaign osmtalk.campaigns) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN campaign.id IS NULL THEN osmtalk.render(
	'{"event":"webhook.test","timestamp":?,"organization":{"id":?},"campaign":null,'
	'"message":"This is a test event from osmTalk. If its signature verifies, your receiver is ready."}',
	at, org_id)
ELSE osmtalk.render(
	'{"event":"webhook.test","timestamp":?,"organization":{"id":?},"campaign":{"id":?,"name":?},'
	'"message":"This is a test event from osmTalk. If its signature verifies, your receiver is ready."}',
	at, org_id, campaign.id, campaign.name)
END;
COMMENT ON FUNCTION osmtalk.test_body(timestamptz, text, osmtalk.campaigns) IS
'The body of webhook.test; a null campaign for the organisation''s own URL';
