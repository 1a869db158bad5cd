-- What the extension's triggers are compared with: the least that somebody
-- would write by hand to get the same rows (the lead decided, the event with
-- its body rendered, the outbox row) from the same update.  Tables of its own,
-- with the contract's columns and the indexes that their use needs.  No retry
-- policy, no analysis, no organisations to tell apart, no skipped events.

SET client_min_messages = warning;
CREATE SCHEMA minimal;

CREATE TABLE minimal.campaigns (
	id text PRIMARY KEY,
	org_id text NOT NULL,
	name text NOT NULL,
	webhook_url text
);
CREATE TABLE minimal.leads (
	id text PRIMARY KEY,
	campaign_id text NOT NULL REFERENCES minimal.campaigns,
	phone_number text NOT NULL,
	variables jsonb NOT NULL DEFAULT '{}',
	status text NOT NULL DEFAULT 'pending',
	disposition text,
	attempts int NOT NULL DEFAULT 0,
	next_attempt_at timestamptz,
	call_id text,
	outcome jsonb,
	completed_at timestamptz
);
CREATE INDEX ON minimal.leads (campaign_id);
CREATE INDEX ON minimal.leads (campaign_id, next_attempt_at, id) WHERE status = 'pending';
CREATE TABLE minimal.calls (
	id text PRIMARY KEY,
	org_id text NOT NULL,
	agent_id text,
	lead_id text REFERENCES minimal.leads ON DELETE SET NULL,
	direction text NOT NULL DEFAULT 'outbound',
	phone_number text,
	dynamic_variables jsonb DEFAULT '{}',
	metadata jsonb DEFAULT '{}',
	transcript text,
	started_at timestamptz,
	answered_at timestamptz,
	ended_at timestamptz,
	sip_status_code int,
	voicemail_detected boolean DEFAULT false,
	error text,
	analysis jsonb,
	analysis_error text,
	status text NOT NULL DEFAULT 'queued',
	placed_at timestamptz,
	decided_at timestamptz,
	analyzed_at timestamptz
);
CREATE INDEX ON minimal.calls (lead_id);
CREATE TABLE minimal.events (
	id text PRIMARY KEY,
	type text NOT NULL,
	org_id text NOT NULL,
	campaign_id text,
	lead_id text,
	call_id text,
	body text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	skipped_reason text
);
CREATE SEQUENCE minimal.event_ids;
CREATE TABLE minimal.outbox (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_id text NOT NULL UNIQUE,
	due_at timestamptz NOT NULL DEFAULT now(),
	attempts int NOT NULL DEFAULT 0,
	origin text NOT NULL DEFAULT '7000000000000000000/16384'
);

CREATE FUNCTION minimal.call_ended() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
	lead minimal.leads;
	campaign minimal.campaigns;
	event_id constant text := 'evt_' || lpad(nextval('minimal.event_ids')::text, 27, '0');
	decided constant text := CASE
		WHEN NEW.sip_status_code IN (486, 600) THEN 'busy'
		WHEN NEW.error IS NOT NULL OR NEW.sip_status_code >= 400 THEN 'failed'
		WHEN NEW.voicemail_detected THEN 'voicemail'
		WHEN NEW.answered_at IS NULL OR NEW.ended_at - NEW.answered_at < '3 s' THEN 'no_answer'
		ELSE 'completed' END;
BEGIN
	UPDATE minimal.leads
	   SET status = decided, disposition = CASE WHEN decided = 'completed' THEN 'completed' END,
		   outcome = NEW.analysis, completed_at = now()
	 WHERE id = NEW.lead_id AND call_id = NEW.id
	RETURNING * INTO lead;
	SELECT * INTO campaign FROM minimal.campaigns WHERE id = lead.campaign_id;
	INSERT INTO minimal.events (id, type, org_id, campaign_id, lead_id, call_id, body)
	VALUES (event_id, 'campaign.lead_completed', NEW.org_id, campaign.id, lead.id, NEW.id,
			json_build_object(
				'event', 'campaign.lead_completed',
				'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
				'campaign', json_build_object('id', campaign.id, 'name', campaign.name),
				'lead', json_build_object(
					'id', lead.id, 'phoneNumber', lead.phone_number, 'variables', lead.variables,
					'status', lead.status, 'disposition', lead.disposition, 'attempts', lead.attempts,
					'callId', lead.call_id, 'outcome', lead.outcome))::text);
	INSERT INTO minimal.outbox (event_id) VALUES (event_id);
	RETURN NULL;
END
$$;
CREATE TRIGGER call_ended AFTER UPDATE OF ended_at ON minimal.calls
	FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)
	EXECUTE FUNCTION minimal.call_ended();

INSERT INTO minimal.campaigns VALUES ('cmp_0', 'acme', 'Q2 Renewals — Mumbai', 'http://127.0.0.1:9/');

CREATE FUNCTION minimal.place_calls(first bigint, n bigint) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO minimal.leads (id, campaign_id, phone_number, variables, status, attempts, call_id)
	SELECT 'ld_' || i, 'cmp_0', '+9198' || lpad(i::text, 8, '0'),
		   '{"company": "Acme", "first_name": "Arjun", "policy_type": "Health"}', 'calling', 1, 'call_' || i
	  FROM generate_series(first, first + n - 1) i;
	INSERT INTO minimal.calls (id, org_id, lead_id, phone_number, started_at, status, placed_at)
	SELECT 'call_' || i, 'acme', 'ld_' || i, '+9198' || lpad(i::text, 8, '0'), now(), 'in_progress', now()
	  FROM generate_series(first, first + n - 1) i;
END;
