/*
 * payloads.sql
 *		The bytes of each event.
 *
 * JSON without whitespace outside strings, keys in the documented order,
 * absent values as null.  Only functions whose result no setting can change
 * take part (iso_time, quote_json, compact_json).  Stable, because an enum's
 * label can be renamed, and because only so they are inlined.
 */

CREATE FUNCTION osmtalk.lead_completed_body(at timestamptz, campaign osmtalk.campaigns, lead osmtalk.leads) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"event":"campaign.lead_completed","timestamp":' || osmtalk.quote_json(osmtalk.iso_time(at))
	|| ',"campaign":{"id":' || osmtalk.quote_json(campaign.id)
	|| ',"name":' || osmtalk.quote_json(campaign.name)
	|| '},"lead":{"id":' || osmtalk.quote_json(lead.id)
	|| ',"phoneNumber":' || osmtalk.quote_json(lead.phone_number)
	|| ',"variables":' || osmtalk.compact_json(lead.variables)
	|| ',"status":' || osmtalk.quote_json(lead.status::text)
	|| ',"disposition":' || osmtalk.quote_json(lead.disposition)
	|| ',"attempts":' || lead.attempts::text
	|| ',"callId":' || osmtalk.quote_json(lead.call_id)
	|| ',"outcome":' || osmtalk.compact_json(lead.outcome)
	|| '}}';
COMMENT ON FUNCTION osmtalk.lead_completed_body(timestamptz, osmtalk.campaigns, osmtalk.leads) IS
'The body of campaign.lead_completed';

CREATE FUNCTION osmtalk.duration_seconds(answered_at timestamptz, ended_at timestamptz) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN osmtalk.microseconds_between(answered_at, ended_at) < 0 THEN 0::numeric
	ELSE pg_catalog.trim_scale(pg_catalog.trunc(osmtalk.microseconds_between(answered_at, ended_at)::numeric / 1000000, 3))
END;
COMMENT ON FUNCTION osmtalk.duration_seconds(timestamptz, timestamptz) IS
'Seconds from answered_at to ended_at, not below 0, truncated to milliseconds; null if either is null or infinite';

CREATE FUNCTION osmtalk.analysis_completed_body(at timestamptz, call osmtalk.calls, campaign_id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"event":"call.analysis_completed","timestamp":' || osmtalk.quote_json(osmtalk.iso_time(at))
	|| ',"call":{"id":' || osmtalk.quote_json(call.id)
	|| ',"orgId":' || osmtalk.quote_json(call.org_id)
	|| ',"agentId":' || osmtalk.quote_json(call.agent_id)
	|| ',"campaignId":' || osmtalk.quote_json(campaign_id)
	|| ',"leadId":' || osmtalk.quote_json(call.lead_id)
	|| ',"direction":' || osmtalk.quote_json(call.direction)
	|| ',"phoneNumber":' || osmtalk.quote_json(call.phone_number)
	|| ',"status":' || osmtalk.quote_json(call.status::text)
	|| ',"startedAt":' || osmtalk.quote_json(osmtalk.iso_time(call.started_at))
	|| ',"answeredAt":' || osmtalk.quote_json(osmtalk.iso_time(call.answered_at))
	|| ',"endedAt":' || osmtalk.quote_json(osmtalk.iso_time(call.ended_at))
	|| ',"durationSeconds":' || COALESCE(osmtalk.duration_seconds(call.answered_at, call.ended_at)::text, 'null')
	|| ',"transcript":' || osmtalk.quote_json(call.transcript)
	|| ',"dynamicVariables":' || osmtalk.compact_json(call.dynamic_variables)
	|| ',"metadata":' || osmtalk.compact_json(call.metadata)
	|| '},"analysis":' || osmtalk.compact_json(call.analysis)
	|| '}';
COMMENT ON FUNCTION osmtalk.analysis_completed_body(timestamptz, osmtalk.calls, text) IS
'The body of call.analysis_completed; campaign_id is that of the call''s lead, if any';

CREATE FUNCTION osmtalk.test_body(at timestamptz, org_id text, campaign osmtalk.campaigns) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '{"event":"webhook.test","timestamp":' || osmtalk.quote_json(osmtalk.iso_time(at))
	|| ',"organization":{"id":' || osmtalk.quote_json(org_id)
	|| '},"campaign":' || CASE WHEN campaign.id IS NULL THEN 'null'
		ELSE '{"id":' || osmtalk.quote_json(campaign.id) || ',"name":' || osmtalk.quote_json(campaign.name) || '}' END
	|| ',"message":"This is a test event from osmTalk. If its signature verifies, your receiver is ready."}';
COMMENT ON FUNCTION osmtalk.test_body(timestamptz, text, osmtalk.campaigns) IS
'The body of webhook.test; a null campaign for the organisation''s own URL';
