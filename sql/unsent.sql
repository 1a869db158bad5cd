/*
 * unsent.sql
 *		What was not delivered, and why.
 */

CREATE VIEW osmtalk.dead_letters WITH (security_invoker = true) AS
	SELECT d.event_id, d.type, d.org_id, d.campaign_id, d.lead_id, d.call_id, d.url, d.attempts,
		   d.http_status, d.error AS reason, d.created_at, coalesce(d.last_attempt_at, d.created_at) AS failed_at,
		   format('SELECT osmtalk.redeliver(%L);', d.event_id) AS command
	  FROM osmtalk.deliveries d WHERE d.state = 'failed';
COMMENT ON VIEW osmtalk.dead_letters IS
'Events that failed for good, with the reason and the command that sends each again; redeliver_matching() for many';
COMMENT ON COLUMN osmtalk.dead_letters.url IS 'As in deliveries: redacted_url() of it for whoever may not read the url of delivery_attempts';
COMMENT ON COLUMN osmtalk.dead_letters.command IS 'Sends it again: same id, same bytes';

/*
 * What else was decided, so that nothing is left out: calls that decided their
 * lead, by the rules, without anything to send, and what nobody wants to hear.  Why is known when it happens,
 * and could not be told later from a lead that has moved on.
 */
CREATE TABLE osmtalk.outcomes_without_event (
	id text NOT NULL DEFAULT osmtalk.new_id('out'),
	type text NOT NULL,
	org_id text NOT NULL,
	campaign_id text,
	lead_id text,
	call_id text,
	reason text NOT NULL,
	decided_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (decided_at, id)
);
COMMENT ON TABLE osmtalk.outcomes_without_event IS 'Calls that were decided without an event, and why; kept for osmtalk.retention. See the view unsent_events';
COMMENT ON COLUMN osmtalk.outcomes_without_event.type IS 'Of the event that was not written';
SELECT pg_extension_config_dump('osmtalk.outcomes_without_event', '');
CREATE POLICY tenant ON osmtalk.outcomes_without_event USING (org_id = (SELECT osmtalk.current_org_id()));

CREATE FUNCTION osmtalk.forget_outcomes() RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	forgotten bigint;
BEGIN
	DELETE FROM osmtalk.outcomes_without_event o
	 WHERE o.ctid = ANY (ARRAY(
		SELECT p.ctid FROM osmtalk.outcomes_without_event p WHERE p.decided_at < now() - osmtalk.retention()
		 ORDER BY p.decided_at LIMIT 500 FOR UPDATE SKIP LOCKED));
	GET DIAGNOSTICS forgotten = ROW_COUNT;
	RETURN forgotten;
END
$$;
COMMENT ON FUNCTION osmtalk.forget_outcomes() IS
'Internal: one step of removing old rows of outcomes_without_event; returns how many';

/*
 * Events of a time are found without reading all: they are appended in its
 * order, so this sort of index is a few pages, and costs an insert next to
 * nothing.
 */
CREATE INDEX events_created_at_idx ON osmtalk.events USING brin (created_at) WITH (pages_per_range = 32);

CREATE VIEW osmtalk.unsent_events WITH (security_invoker = true) AS
	SELECT d.created_at AS decided_at, d.type, d.org_id, d.campaign_id, d.lead_id, d.call_id, d.event_id,
		   CASE d.state
			WHEN 'skipped' THEN CASE d.error WHEN 'no webhook URL' THEN 'no URL' ELSE d.error END
			WHEN 'pending' THEN
			 CASE
			  WHEN d.waits_for LIKE 'adopt()%' THEN 'not adopted'
			  WHEN d.waits_for LIKE 'resume()%' THEN 'paused'
			  WHEN d.waits_for LIKE 'osmtalk.enabled:%' THEN 'sending is disabled'
			  WHEN d.waits_for LIKE 'enable_endpoint()%' THEN 'disabled endpoint'
			  WHEN d.waits_for LIKE 'the endpoint,%' THEN 'failing endpoint'
			  WHEN d.waits_for LIKE 'retry %' THEN 'waiting for a retry'
			  ELSE 'pending'
			 END
			WHEN 'in_flight' THEN 'in flight'
			ELSE 'failed'
		   END AS reason,
		   d.error AS last_error, d.attempts, d.last_attempt_at
	  FROM osmtalk.deliveries d
	 WHERE d.state <> 'delivered' AND d.type <> 'webhook.test'
	UNION ALL
	SELECT w.decided_at, w.type, w.org_id, w.campaign_id, w.lead_id, w.call_id, NULL, w.reason, NULL, 0, NULL
	  FROM osmtalk.outcomes_without_event w;
COMMENT ON VIEW osmtalk.unsent_events IS
'Outcomes of which the receiver has not been told, and why: events that are not delivered, and decided calls without one. A condition on decided_at reads that time alone';
COMMENT ON COLUMN osmtalk.unsent_events.decided_at IS 'When the event was written, or would have been';
COMMENT ON COLUMN osmtalk.unsent_events.type IS 'Of the event, or of that which was not written';
COMMENT ON COLUMN osmtalk.unsent_events.event_id IS 'Null if there is none';
COMMENT ON COLUMN osmtalk.unsent_events.reason IS
'Of an event: no URL, pending, waiting for a retry, failing endpoint, disabled endpoint, paused, sending is disabled, not adopted, in flight, failed. Of an outcome without one: filtered: ..., not final: ..., not sent again: ...';
COMMENT ON COLUMN osmtalk.unsent_events.last_error IS 'Of the last attempt; of a skipped event why it was';
