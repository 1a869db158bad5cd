/*
 * subscriptions.sql
 *		Which types of events an organisation, or a campaign, wants.
 *
 * It is decided when something happens: what is not wanted then leaves no
 * event.  Outcomes are decided all the same.
 */

CREATE FUNCTION osmtalk.event_types() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '{campaign.lead_completed,call.analysis_completed,call.started,call.completed,call.failed,webhook.test}'::text[];
COMMENT ON FUNCTION osmtalk.event_types() IS
'The types of events that there are, and that webhook_events may have';

CREATE FUNCTION osmtalk.default_event_types() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '{campaign.lead_completed,call.analysis_completed,webhook.test}'::text[];
COMMENT ON FUNCTION osmtalk.default_event_types() IS
'The types of events that are wanted where webhook_events says nothing';

CREATE FUNCTION osmtalk.is_subscribed(type text, campaign text[], organisation text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN type = ANY (COALESCE(campaign, organisation, osmtalk.default_event_types()));
COMMENT ON FUNCTION osmtalk.is_subscribed(text, text[], text[]) IS
'Whether an event of this type is wanted: by the webhook_events of its campaign, of its organisation where that is null or there is no campaign, by default_event_types() where that is null, too';

/* ---- what may be wanted ---- */

CREATE FUNCTION osmtalk.check_event_types(types text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type text;
BEGIN
	FOREACH type IN ARRAY coalesce(types, '{}') LOOP
		IF (type = ANY (osmtalk.event_types())) IS NOT TRUE THEN
			RAISE EXCEPTION '%', coalesce('unknown event type: "' || left(type, 100) || '"', 'an event type cannot be null')
				USING ERRCODE = 'invalid_parameter_value',
					  HINT = format('Known are %s.', array_to_string(osmtalk.event_types(), ', '));
		END IF;
	END LOOP;
	RETURN types;
END
$$;
COMMENT ON FUNCTION osmtalk.check_event_types(text[]) IS
'The array, if it is null or all in it are event_types(); raises 22023 otherwise';

CREATE FUNCTION osmtalk.check_row_events() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID NOT IN ('osmtalk.org_settings'::regclass, 'osmtalk.campaigns'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	NEW.webhook_events := osmtalk.check_event_types(NEW.webhook_events);
	RETURN NEW;
END
$$;
CREATE TRIGGER check_events BEFORE INSERT OR UPDATE OF webhook_events ON osmtalk.org_settings
	FOR EACH ROW EXECUTE FUNCTION osmtalk.check_row_events();
CREATE TRIGGER check_events BEFORE INSERT OR UPDATE OF webhook_events ON osmtalk.campaigns
	FOR EACH ROW EXECUTE FUNCTION osmtalk.check_row_events();

/*
 * Sessions remember whether anybody wants events of calls, so that where
 * nobody does a call costs nothing more.  Fired for replicated rows, too, that
 * they do not miss a change.
 */
CREATE FUNCTION osmtalk.subscriptions_changed() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_subscriptions_changed';
COMMENT ON FUNCTION osmtalk.subscriptions_changed() IS
'Trigger: when the transaction commits, all sessions look anew whether anybody wants events of calls';
CREATE TRIGGER subscriptions_changed AFTER INSERT OR UPDATE OR DELETE ON osmtalk.org_settings
	FOR EACH ROW EXECUTE FUNCTION osmtalk.subscriptions_changed();
CREATE TRIGGER subscriptions_changed AFTER INSERT OR UPDATE OR DELETE ON osmtalk.campaigns
	FOR EACH ROW EXECUTE FUNCTION osmtalk.subscriptions_changed();
ALTER TABLE osmtalk.org_settings ENABLE ALWAYS TRIGGER subscriptions_changed;
ALTER TABLE osmtalk.campaigns ENABLE ALWAYS TRIGGER subscriptions_changed;

/* ---- the events of calls ---- */

CREATE FUNCTION osmtalk.call_events(
	before osmtalk.call_status, status osmtalk.call_status, started_at timestamptz, answered_at timestamptz) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
	-- it was never placed
	WHEN status = 'dnc_blocked'::osmtalk.call_status THEN '{}'::text[]
	ELSE CASE
			WHEN COALESCE(before, 'queued'::osmtalk.call_status) = 'queued'::osmtalk.call_status
				AND osmtalk.has_started(started_at, answered_at) THEN '{call.started}'::text[]
			ELSE '{}'::text[]
		END || CASE
			WHEN NOT COALESCE(osmtalk.is_open(before), true) OR osmtalk.is_open(status) THEN '{}'::text[]
			WHEN status = 'failed'::osmtalk.call_status THEN '{call.failed}'::text[]
			ELSE '{call.completed}'::text[]
		END
END;
COMMENT ON FUNCTION osmtalk.call_events(osmtalk.call_status, osmtalk.call_status, timestamptz, timestamptz) IS
'What a statement has made of a call that changed its status, null before it was inserted: call.started when it has started and was queued; at its end call.failed if it failed, call.completed for all else that a call can come to. Both if one statement says both; none for what the DNC list blocked';

-- by name the first: these come before the lead's event
CREATE FUNCTION osmtalk.calls_announce() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_calls_announce';
COMMENT ON FUNCTION osmtalk.calls_announce() IS
'Trigger: writes the call.* events of a call that arrives started, or ended, where they are wanted';
CREATE TRIGGER a_announce AFTER INSERT ON osmtalk.calls
	FOR EACH ROW EXECUTE FUNCTION osmtalk.calls_announce();
