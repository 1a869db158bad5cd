/*
 * tenants.sql
 *		Rows of one organisation kept from sessions of another, on request.
 *
 * Policies are made by the function that switches them on, and not by this
 * script: pg_dump has those of an extension's tables in its archive, and a
 * restore would make them twice.  So a copy is isolated if its original was.
 *
 * Policies bind whoever is not the owner, a superuser, or a role with
 * BYPASSRLS; triggers and workers are the owner.  Functions that run with the
 * owner's rights ask sees_org() and sees_every_org().
 */
CREATE FUNCTION osmtalk.tenant_tables() RETURNS TABLE (name regclass, visible text)
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT t.name::regclass, t.visible FROM (VALUES
		('osmtalk.org_settings', 'org_id = (SELECT osmtalk.current_org_id())'),
		('osmtalk.agents', 'org_id = (SELECT osmtalk.current_org_id())'),
		('osmtalk.campaigns', 'org_id = (SELECT osmtalk.current_org_id())'),
		('osmtalk.calls', 'org_id = (SELECT osmtalk.current_org_id())'),
		('osmtalk.dnc_entries', 'org_id = (SELECT osmtalk.current_org_id())'),
		('osmtalk.events', 'org_id = (SELECT osmtalk.current_org_id())'),
		('osmtalk.leads', 'EXISTS (SELECT FROM osmtalk.campaigns c WHERE c.id = campaign_id AND c.org_id = (SELECT osmtalk.current_org_id()))'),
		('osmtalk.outbox', 'EXISTS (SELECT FROM osmtalk.events e WHERE e.id = event_id AND e.org_id = (SELECT osmtalk.current_org_id()))'),
		('osmtalk.delivery_attempts', 'EXISTS (SELECT FROM osmtalk.events e WHERE e.id = event_id AND e.org_id = (SELECT osmtalk.current_org_id()))'),
		-- a batch is of many organisations' events
		('osmtalk.claims', 'false')) t (name, visible);
END;
COMMENT ON FUNCTION osmtalk.tenant_tables() IS
'Internal: the tables that hold organisations'' rows, and which of these a session sees when tenants are isolated';

CREATE FUNCTION osmtalk.enable_tenant_isolation() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = warning
AS $$
DECLARE
	tenant record;
BEGIN
	FOR tenant IN SELECT * FROM osmtalk.tenant_tables() LOOP
		EXECUTE format('DROP POLICY IF EXISTS osmtalk_tenant ON %s', tenant.name);
		EXECUTE format('CREATE POLICY osmtalk_tenant ON %s USING (%s)', tenant.name, tenant.visible);
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant.name);
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.enable_tenant_isolation() IS
'From its commit on, sessions see and change the rows of the organisation alone that osmtalk.org_id names, and none where it is not set; but for the owner''s, superusers'' and those of roles with BYPASSRLS. A protection against mistakes of an application, not against somebody who can run SQL: he can set it, too. To be called again after an upgrade that adds tables';

CREATE FUNCTION osmtalk.disable_tenant_isolation() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tenant record;
BEGIN
	FOR tenant IN SELECT * FROM osmtalk.tenant_tables() LOOP
		EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', tenant.name);
		EXECUTE format('DROP POLICY IF EXISTS osmtalk_tenant ON %s', tenant.name);
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.disable_tenant_isolation() IS
'Ends what enable_tenant_isolation() began, once this commits';
