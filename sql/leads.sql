/*
 * leads.sql
 *		What happens when a lead's status changes, and how a call decides it.
 */

/*
 * Keeps the columns that follow from the status in step with it, whoever
 * changes it.  These triggers have no WHEN condition: each statement would
 * parse it anew.
 */
CREATE FUNCTION osmtalk.leads_before_status() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_leads_before_status';
COMMENT ON FUNCTION osmtalk.leads_before_status() IS
'Trigger: keeps the columns that follow from a lead''s status in step with it';
CREATE TRIGGER before_status BEFORE UPDATE ON osmtalk.leads
	FOR EACH ROW EXECUTE FUNCTION osmtalk.leads_before_status();

/*
 * Each transition from a non-terminal into a terminal status is an event.
 */
CREATE FUNCTION osmtalk.leads_after_transition() RETURNS trigger
LANGUAGE c SECURITY DEFINER AS 'MODULE_PATHNAME', 'osmtalk_leads_after_transition';
COMMENT ON FUNCTION osmtalk.leads_after_transition() IS
'Trigger: writes the event of a lead that has become terminal';
CREATE TRIGGER after_transition AFTER UPDATE ON osmtalk.leads
	FOR EACH ROW EXECUTE FUNCTION osmtalk.leads_after_transition();

/*
 * A lead moves only between campaigns of one organisation: its calls carry
 * that organisation.
 */
CREATE FUNCTION osmtalk.leads_before_move() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID <> 'osmtalk.leads'::regclass THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	PERFORM osmtalk.check_same_org(n.org_id, o.org_id, 'lead')
	   FROM osmtalk.campaigns n, osmtalk.campaigns o
	  WHERE n.id = NEW.campaign_id AND o.id = OLD.campaign_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER before_move BEFORE UPDATE OF campaign_id ON osmtalk.leads
	FOR EACH ROW WHEN (NEW.campaign_id <> OLD.campaign_id)
	EXECUTE FUNCTION osmtalk.leads_before_move();

/*
 * Decides a call's lead.  The caller has found, under the lead's lock, that
 * this is the lead's latest call, and that it was not decided before.
 */
CREATE FUNCTION osmtalk.decide_lead(call osmtalk.calls) RETURNS void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'osmtalk_decide_lead_sql';
COMMENT ON FUNCTION osmtalk.decide_lead(osmtalk.calls) IS
'Internal: sets the lead''s outcome from its latest call, by the campaign''s retry policy';
