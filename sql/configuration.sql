/*
 * configuration.sql
 *		What organisations, agents, campaigns and DNC entries may say.
 */

/*
 * Trigger functions run with the owner's rights: for the tables that they are
 * made for, and no other.
 */
CREATE FUNCTION osmtalk.refuse_trigger(relation regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION 'this function can only be called as osmtalk''s own trigger'
		USING ERRCODE = 'trigger_protocol_violated',
			  DETAIL = format('The table is %s.', relation);
END
$$;
COMMENT ON FUNCTION osmtalk.refuse_trigger(regclass) IS
'Internal: raises 39P01, for a trigger function of osmtalk''s that was put on another table';

CREATE FUNCTION osmtalk.check_webhook_url(url text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- null and empty mean none
	IF url <> '' AND NOT osmtalk.is_webhook_url(url) THEN
		-- the URL may hold a token: it is not repeated here
		RAISE EXCEPTION 'invalid webhook URL'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'A webhook URL is http or https with an ASCII host name or address, no user or password, a port from 1 to 65535, no spaces or control characters, and at most 2048 bytes.',
				  HINT = 'Write a host name with other characters in punycode (xn--...), and percent-encode such characters in the path.';
	END IF;
	RETURN url;
END
$$;
COMMENT ON FUNCTION osmtalk.check_webhook_url(text) IS
'The URL, if it is null, empty or is_webhook_url(); raises 22023 otherwise';

CREATE FUNCTION osmtalk.org_settings_before_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.org_settings'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	-- assigned, not PERFORMed: that would be a statement of its own, with the URL in its plan for the log to show
	NEW.default_webhook_url := osmtalk.check_webhook_url(NEW.default_webhook_url);
	RETURN NEW;
END
$$;
CREATE TRIGGER before_write BEFORE INSERT OR UPDATE OF default_webhook_url ON osmtalk.org_settings
	FOR EACH ROW EXECUTE FUNCTION osmtalk.org_settings_before_write();

/*
 * A tenant boundary is not crossed by references.  The organisation of an
 * agent, a campaign or a call is fixed once written, so that checking each
 * reference when it is made is enough.
 */
CREATE FUNCTION osmtalk.refuse_other_org() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID NOT IN ('osmtalk.agents'::regclass, 'osmtalk.campaigns'::regclass, 'osmtalk.calls'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	RAISE EXCEPTION 'the organisation of a row in % cannot change', TG_TABLE_NAME
		USING ERRCODE = 'check_violation', SCHEMA = 'osmtalk', TABLE = TG_TABLE_NAME, COLUMN = 'org_id';
END
$$;
CREATE TRIGGER same_org BEFORE UPDATE OF org_id ON osmtalk.agents
	FOR EACH ROW WHEN (NEW.org_id IS DISTINCT FROM OLD.org_id) EXECUTE FUNCTION osmtalk.refuse_other_org();
CREATE TRIGGER same_org BEFORE UPDATE OF org_id ON osmtalk.campaigns
	FOR EACH ROW WHEN (NEW.org_id IS DISTINCT FROM OLD.org_id) EXECUTE FUNCTION osmtalk.refuse_other_org();
CREATE TRIGGER same_org BEFORE UPDATE OF org_id ON osmtalk.calls
	FOR EACH ROW WHEN (NEW.org_id IS DISTINCT FROM OLD.org_id) EXECUTE FUNCTION osmtalk.refuse_other_org();

CREATE FUNCTION osmtalk.check_same_org(org_id text, other_org_id text, what text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF org_id <> other_org_id THEN
		-- a tenant is not told of others
		IF NOT osmtalk.sees_every_org() THEN
			RAISE EXCEPTION 'the organisation is not that of the %', what
				USING ERRCODE = 'check_violation', SCHEMA = 'osmtalk', COLUMN = 'org_id';
		END IF;
		RAISE EXCEPTION 'the organisation "%" is not that of the %', org_id, what
			USING ERRCODE = 'check_violation',
				  DETAIL = format('The %s belongs to the organisation "%s".', what, other_org_id),
				  SCHEMA = 'osmtalk', COLUMN = 'org_id';
	END IF;
END
$$;
COMMENT ON FUNCTION osmtalk.check_same_org(text, text, text) IS
'Raises 23514 if the two organisations differ; what names the row that the second belongs to';

CREATE FUNCTION osmtalk.campaigns_before_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.campaigns'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	NEW.webhook_url := osmtalk.check_webhook_url(NEW.webhook_url);	-- assigned, as above
	PERFORM osmtalk.check_same_org(NEW.org_id, a.org_id, 'campaign''s agent')
	   FROM osmtalk.agents a WHERE a.id = NEW.agent_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER before_write BEFORE INSERT OR UPDATE OF org_id, agent_id, webhook_url ON osmtalk.campaigns
	FOR EACH ROW EXECUTE FUNCTION osmtalk.campaigns_before_write();

/*
 * These rows hold secrets: what the server says of one that it refuses does
 * not show it, and a secret that is easily guessed is remarked upon.  By name
 * the first of the triggers, so that nothing is said during the others either.
 */
CREATE FUNCTION osmtalk.guard_secret_row() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'osmtalk_guard_secret_row';
COMMENT ON FUNCTION osmtalk.guard_secret_row() IS
'Trigger: refuses a row that breaks a constraint without showing it, as the table itself would; warns of a webhook_secret that is too short, blank, or too long';
CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON osmtalk.org_settings
	FOR EACH ROW EXECUTE FUNCTION osmtalk.guard_secret_row();
CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON osmtalk.campaigns
	FOR EACH ROW EXECUTE FUNCTION osmtalk.guard_secret_row();
CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON osmtalk.previous_secrets
	FOR EACH ROW EXECUTE FUNCTION osmtalk.guard_secret_row();

CREATE FUNCTION osmtalk.normalize_row_phone() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID NOT IN ('osmtalk.dnc_entries'::regclass, 'osmtalk.leads'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	NEW.phone_number := osmtalk.normalize_phone(NEW.phone_number);
	RETURN NEW;
END
$$;
CREATE TRIGGER normalize_phone BEFORE INSERT OR UPDATE OF phone_number ON osmtalk.dnc_entries
	FOR EACH ROW EXECUTE FUNCTION osmtalk.normalize_row_phone();
CREATE TRIGGER normalize_phone BEFORE INSERT OR UPDATE OF phone_number ON osmtalk.leads
	FOR EACH ROW EXECUTE FUNCTION osmtalk.normalize_row_phone();

CREATE FUNCTION osmtalk.is_dnc_listed(org_id text, phone_number text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM osmtalk.dnc_entries d
	  WHERE d.org_id = is_dnc_listed.org_id
		AND d.phone_number = osmtalk.try_normalize_phone(is_dnc_listed.phone_number);
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION osmtalk.is_dnc_listed(text, text) IS
'Whether the organisation''s DNC list has the number; one that cannot be normalised is on no list';

CREATE FUNCTION osmtalk.analysis_configured(agent osmtalk.agents) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN COALESCE(
	agent.enable_sentiment OR agent.enable_success_evaluation
	OR ((agent.post_call_analysis OPERATOR(pg_catalog.->) 'enabled') IS DISTINCT FROM 'false'::jsonb
		AND CASE pg_catalog.jsonb_typeof(agent.post_call_analysis OPERATOR(pg_catalog.->) 'schema')
				WHEN 'array' THEN pg_catalog.jsonb_array_length(agent.post_call_analysis OPERATOR(pg_catalog.->) 'schema') > 0
				WHEN 'object' THEN (agent.post_call_analysis OPERATOR(pg_catalog.->) 'schema') <> '{}'::jsonb
				ELSE false
			END),
	false);
COMMENT ON FUNCTION osmtalk.analysis_configured(osmtalk.agents) IS
'Whether calls of this agent are analysed: sentiment or success evaluation is on, or post_call_analysis has a non-empty schema and is not disabled; false for null';
