/*
 * tenants.sql
 *		Rows of one organisation kept from sessions of another, on request.
 *
 * Policies are here from the beginning, and bind nobody until row-level
 * security is switched on; then all but the owner, superusers and roles with
 * BYPASSRLS.  Triggers and workers are the owner.  Functions that run with the
 * owner's rights ask sees_org() and sees_every_org().
 *
 * pg_dump does not tell whether it is switched on for an extension's tables;
 * so that is a row, which it has, and by which a restored copy is switched as
 * its original was.
 */
CREATE POLICY tenant ON osmtalk.org_settings USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.agents USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.campaigns USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.previous_secrets USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.calls USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.dnc_entries USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.events USING (org_id = (SELECT osmtalk.current_org_id()));
CREATE POLICY tenant ON osmtalk.leads USING (EXISTS (
	SELECT FROM osmtalk.campaigns c WHERE c.id = campaign_id AND c.org_id = (SELECT osmtalk.current_org_id())));
CREATE POLICY tenant ON osmtalk.outbox USING (EXISTS (
	SELECT FROM osmtalk.events e WHERE e.id = event_id AND e.org_id = (SELECT osmtalk.current_org_id())));
CREATE POLICY tenant ON osmtalk.delivery_attempts USING (EXISTS (
	SELECT FROM osmtalk.events e WHERE e.id = event_id AND e.org_id = (SELECT osmtalk.current_org_id())));
CREATE POLICY tenant ON osmtalk.endpoints USING (org_id = (SELECT osmtalk.current_org_id()));
-- a batch is of many organisations' events; what waits, and counters, are seen through views
CREATE POLICY tenant ON osmtalk.claims USING (false);
CREATE POLICY tenant ON osmtalk.waiting USING (false);
CREATE POLICY tenant ON osmtalk.endpoint_counters USING (false);

CREATE TABLE osmtalk.tenant_isolation (
	only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
	since timestamptz NOT NULL DEFAULT now(),
	by_role text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE osmtalk.tenant_isolation IS 'Has a row while tenants are isolated; see enable_tenant_isolation()';
COMMENT ON COLUMN osmtalk.tenant_isolation.by_role IS 'Who isolated them';
SELECT pg_extension_config_dump('osmtalk.tenant_isolation', '');

CREATE FUNCTION osmtalk.apply_tenant_isolation() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	isolated constant boolean := EXISTS (SELECT FROM osmtalk.tenant_isolation);
	name regclass;
BEGIN
	FOR name IN
		SELECT c.oid FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
		 WHERE c.relnamespace = 'osmtalk'::regnamespace AND p.polname = 'tenant' AND c.relrowsecurity <> isolated
		 ORDER BY c.relname
	LOOP
		EXECUTE format('ALTER TABLE %s %s ROW LEVEL SECURITY', name, CASE WHEN isolated THEN 'ENABLE' ELSE 'DISABLE' END);
	END LOOP;
END
$$;
COMMENT ON FUNCTION osmtalk.apply_tenant_isolation() IS
'Internal: switches the tables'' row-level security as tenant_isolation says';

CREATE FUNCTION osmtalk.tenant_isolation_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.tenant_isolation'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	PERFORM osmtalk.apply_tenant_isolation();
	RETURN NULL;
END
$$;
CREATE TRIGGER changed AFTER INSERT OR DELETE OR TRUNCATE ON osmtalk.tenant_isolation
	FOR EACH STATEMENT EXECUTE FUNCTION osmtalk.tenant_isolation_changed();

CREATE FUNCTION osmtalk.enable_tenant_isolation() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO osmtalk.tenant_isolation DEFAULT VALUES ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION osmtalk.enable_tenant_isolation() IS
'Once this commits, sessions see and change the rows of the organisation alone that osmtalk.org_id names, and none where it is not set; but for the owner''s, superusers'' and those of roles with BYPASSRLS. A protection against mistakes of an application, not against somebody who can run SQL: he can set it, too. Nothing if they are isolated already';

CREATE FUNCTION osmtalk.disable_tenant_isolation() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM osmtalk.tenant_isolation;
END
$$;
COMMENT ON FUNCTION osmtalk.disable_tenant_isolation() IS
'Ends what enable_tenant_isolation() began, once this commits. Nothing if they are not isolated';
