/*
 * tables.sql
 *		What is stored, with the rules that a row must meet by itself.
 *
 * Columns and defaults only; what happens when rows change is in
 * configuration.sql, leads.sql and calls.sql.  Every table holds user data
 * and is dumped with the database.
 */

/* ---- configuration ---- */

CREATE TABLE osmtalk.org_settings (
	org_id text PRIMARY KEY,
	default_webhook_url text,
	webhook_secret text,
	webhook_events text[],
	webhook_headers jsonb
);
COMMENT ON TABLE osmtalk.org_settings IS 'One row per organisation, the tenant';
COMMENT ON COLUMN osmtalk.org_settings.default_webhook_url IS 'Where events go that have no URL of a campaign; null or empty: nowhere';
COMMENT ON COLUMN osmtalk.org_settings.webhook_secret IS 'Signs events where the campaign has no secret; null or empty: they are sent unsigned';
COMMENT ON COLUMN osmtalk.org_settings.webhook_events IS 'The types of events that are wanted, of event_types(); null: default_event_types()';
COMMENT ON COLUMN osmtalk.org_settings.webhook_headers IS 'Sent with each request to default_webhook_url, and nowhere else: an object of names and values, which may hold tokens';

CREATE TABLE osmtalk.agents (
	id text PRIMARY KEY DEFAULT osmtalk.new_id('agent'),
	org_id text NOT NULL REFERENCES osmtalk.org_settings,
	name text,
	enable_sentiment boolean NOT NULL DEFAULT false,
	enable_success_evaluation boolean NOT NULL DEFAULT false,
	post_call_analysis jsonb
);
CREATE INDEX agents_org_id_idx ON osmtalk.agents (org_id);
COMMENT ON TABLE osmtalk.agents IS 'Voice agents; only what decides whether a call''s analysis is awaited';
COMMENT ON COLUMN osmtalk.agents.post_call_analysis IS '{"enabled": boolean, "schema": [...], ...}: configured when schema is a non-empty array or object and enabled is not false';

CREATE TABLE osmtalk.campaigns (
	id text PRIMARY KEY DEFAULT osmtalk.new_id('cmp'),
	org_id text NOT NULL REFERENCES osmtalk.org_settings,
	agent_id text REFERENCES osmtalk.agents,
	name text NOT NULL,
	webhook_url text,
	webhook_secret text,
	max_attempts int NOT NULL DEFAULT 1 CHECK (max_attempts >= 1),
	retry_backoff interval NOT NULL DEFAULT '1 hour'
		-- an unbounded one could overflow the time of the next attempt and fail the caller's update
		CHECK (retry_backoff >= interval '0' AND retry_backoff <= interval '10 years'
			   AND extract(year FROM retry_backoff) BETWEEN -10 AND 10),
	retry_on osmtalk.lead_status[] NOT NULL DEFAULT '{failed}'
		CHECK (retry_on <@ '{failed,no_answer,busy,voicemail}'::osmtalk.lead_status[]),
	webhook_events text[],
	webhook_headers jsonb
);
CREATE INDEX campaigns_org_id_idx ON osmtalk.campaigns (org_id);
CREATE INDEX campaigns_agent_id_idx ON osmtalk.campaigns (agent_id);
COMMENT ON TABLE osmtalk.campaigns IS 'Campaigns: who is called by which agent, where the events go, what is tried again';
COMMENT ON COLUMN osmtalk.campaigns.webhook_url IS 'Where the campaign''s events go; null or empty: to the organisation''s default_webhook_url';
COMMENT ON COLUMN osmtalk.campaigns.webhook_secret IS 'Signs the campaign''s events; null or empty: the organisation''s webhook_secret does';
COMMENT ON COLUMN osmtalk.campaigns.max_attempts IS 'How many calls a lead gets in all while its outcome is one of retry_on';
COMMENT ON COLUMN osmtalk.campaigns.retry_backoff IS 'How long after the decision a lead is due again';
COMMENT ON COLUMN osmtalk.campaigns.retry_on IS 'The outcomes that put a lead back to pending: any of failed, no_answer, busy, voicemail';
COMMENT ON COLUMN osmtalk.campaigns.webhook_events IS 'The types of events that are wanted of the campaign, its leads and their calls, wherever they go; null: as the organisation''s';
COMMENT ON COLUMN osmtalk.campaigns.webhook_headers IS 'Sent with each request to webhook_url, and nowhere else; those of the organisation are not sent there';

-- who wants events of calls as such: mostly nobody, which sessions know without
-- a look; see subscriptions.sql
CREATE INDEX org_settings_call_events_idx ON osmtalk.org_settings (org_id)
	WHERE webhook_events && '{call.started,call.completed,call.failed}';
CREATE INDEX campaigns_call_events_idx ON osmtalk.campaigns (id)
	WHERE webhook_events && '{call.started,call.completed,call.failed}';

/*
 * What rotate_webhook_secret() has replaced.  Apart from the current ones, so
 * that nobody who may read or write those has a right here, and that several
 * can be valid at once.
 */
CREATE TABLE osmtalk.previous_secrets (
	id text PRIMARY KEY DEFAULT osmtalk.new_id('old'),
	-- not foreign keys: a TRUNCATE of the others need not name this table; see secrets.sql
	org_id text NOT NULL,
	campaign_id text,
	secret text NOT NULL,
	valid_until timestamptz NOT NULL
);
CREATE INDEX previous_secrets_org_id_idx ON osmtalk.previous_secrets (org_id);
COMMENT ON TABLE osmtalk.previous_secrets IS 'Internal: secrets that were replaced and are valid a while longer; see rotate_webhook_secret()';
COMMENT ON COLUMN osmtalk.previous_secrets.campaign_id IS 'Whose events it signed; null: those of the organisation';
COMMENT ON COLUMN osmtalk.previous_secrets.valid_until IS 'It signs nothing from here on, and is removed';

-- no copies of secrets in pg_statistic, where samples of a column's values are kept
ALTER TABLE osmtalk.org_settings ALTER COLUMN webhook_secret SET STATISTICS 0, ALTER COLUMN webhook_headers SET STATISTICS 0;
ALTER TABLE osmtalk.campaigns ALTER COLUMN webhook_secret SET STATISTICS 0, ALTER COLUMN webhook_headers SET STATISTICS 0;
ALTER TABLE osmtalk.previous_secrets ALTER COLUMN secret SET STATISTICS 0;

CREATE TABLE osmtalk.dnc_entries (
	org_id text NOT NULL REFERENCES osmtalk.org_settings ON DELETE CASCADE,
	phone_number text NOT NULL,
	reason text,
	source text NOT NULL DEFAULT 'manual' CHECK (source IN ('manual', 'opt_out', 'imported', 'api')),
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (org_id, phone_number)
);
COMMENT ON TABLE osmtalk.dnc_entries IS 'Numbers that an organisation does not call; normalised on write';

/* ---- leads and calls ---- */

CREATE TABLE osmtalk.leads (
	id text PRIMARY KEY DEFAULT osmtalk.new_id('ld'),
	campaign_id text NOT NULL REFERENCES osmtalk.campaigns,
	phone_number text NOT NULL,
	variables jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(variables) = 'object'),
	status osmtalk.lead_status NOT NULL DEFAULT 'pending',
	disposition text,
	attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
	next_attempt_at timestamptz,
	call_id text,
	outcome jsonb,
	completed_at timestamptz
);
CREATE INDEX leads_campaign_id_idx ON osmtalk.leads (campaign_id);
-- place_next_call() takes the first of it
CREATE INDEX leads_due_idx ON osmtalk.leads (campaign_id, next_attempt_at NULLS FIRST, id) WHERE status = 'pending';
COMMENT ON TABLE osmtalk.leads IS 'People to call, and what came of it';
COMMENT ON COLUMN osmtalk.leads.phone_number IS 'E.164, normalised on write';
COMMENT ON COLUMN osmtalk.leads.disposition IS 'The business outcome of a completed lead: qualified, not_interested, callback, completed; null for every other status';
COMMENT ON COLUMN osmtalk.leads.attempts IS 'Calls placed; one that the DNC list blocked is none';
COMMENT ON COLUMN osmtalk.leads.next_attempt_at IS 'A pending lead is due from here on; null: at once';
COMMENT ON COLUMN osmtalk.leads.call_id IS 'The latest call';
COMMENT ON COLUMN osmtalk.leads.outcome IS 'The analysis of the latest call';
COMMENT ON COLUMN osmtalk.leads.completed_at IS 'now() of the transaction that made the lead terminal';

CREATE TABLE osmtalk.calls (
	id text PRIMARY KEY DEFAULT osmtalk.new_id('call'),
	org_id text NOT NULL REFERENCES osmtalk.org_settings,
	agent_id text REFERENCES osmtalk.agents,
	lead_id text REFERENCES osmtalk.leads ON DELETE SET NULL,
	direction text NOT NULL DEFAULT 'outbound' CHECK (direction IN ('outbound', 'inbound', 'web')),
	phone_number text,
	dynamic_variables jsonb DEFAULT '{}',
	metadata jsonb DEFAULT '{}',
	transcript text,
	-- facts
	started_at timestamptz,
	answered_at timestamptz,
	ended_at timestamptz,
	sip_status_code int,
	voicemail_detected boolean DEFAULT false,
	error text,
	analysis jsonb,
	analysis_error text,
	-- set by the extension
	status osmtalk.call_status NOT NULL DEFAULT 'queued',
	placed_at timestamptz,
	decided_at timestamptz,
	analyzed_at timestamptz,
	-- the extension's own notes
	awaiting_since timestamptz,
	origin text,
	placed_by xid8
);
CREATE INDEX calls_lead_id_idx ON osmtalk.calls (lead_id);
-- what the worker times out; finished calls are in neither
CREATE INDEX calls_open_idx ON osmtalk.calls (origin, placed_at) WHERE status IN ('queued', 'in_progress');
CREATE INDEX calls_awaiting_idx ON osmtalk.calls (origin, awaiting_since) WHERE awaiting_since IS NOT NULL;
COMMENT ON TABLE osmtalk.calls IS 'One row per call; the application records facts, the extension decides';
COMMENT ON COLUMN osmtalk.calls.org_id IS 'Defaults to the campaign''s of the lead, or the agent''s';
COMMENT ON COLUMN osmtalk.calls.agent_id IS 'Defaults to the campaign''s of the lead';
COMMENT ON COLUMN osmtalk.calls.lead_id IS 'Null outside campaigns and once the lead is deleted';
COMMENT ON COLUMN osmtalk.calls.phone_number IS 'Any text, never refused; defaults to the lead''s';
COMMENT ON COLUMN osmtalk.calls.error IS 'Fact: the bot crashed or the network failed';
COMMENT ON COLUMN osmtalk.calls.analysis IS 'Fact: the post-call analysis; JSON null is none';
COMMENT ON COLUMN osmtalk.calls.analysis_error IS 'Fact: the analysis ran and failed';
COMMENT ON COLUMN osmtalk.calls.status IS 'Set by the extension: queued, in_progress, then the outcome, frozen by the statement that sets ended_at';
COMMENT ON COLUMN osmtalk.calls.placed_at IS 'Set by the extension at insert; a row that arrives with it is history: no rule applies to that insert';
COMMENT ON COLUMN osmtalk.calls.decided_at IS 'Set by the extension: when the lead''s outcome was decided from this call';
COMMENT ON COLUMN osmtalk.calls.analyzed_at IS 'Set by the extension: when an analysis was first seen';
COMMENT ON COLUMN osmtalk.calls.awaiting_since IS 'Internal: ended then and waits for its analysis to decide the lead';
COMMENT ON COLUMN osmtalk.calls.origin IS 'Internal: current_origin() of the database that placed it; the worker of another does not time it out';
COMMENT ON COLUMN osmtalk.calls.placed_by IS 'Internal: the transaction that placed it, for the trigger that runs after the insert';

/* ---- events and their delivery ---- */

/*
 * Events and their attempts lie in a ring of slots by the time they were
 * written, so that what is old goes with a TRUNCATE; see retention.sql.
 */
CREATE TABLE osmtalk.events (
	id text NOT NULL DEFAULT osmtalk.new_id('evt'),
	type text NOT NULL,
	org_id text NOT NULL,
	campaign_id text,
	lead_id text,
	call_id text,
	body text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	skipped_reason text,
	slot smallint NOT NULL DEFAULT osmtalk.current_slot(),
	PRIMARY KEY (id, slot)
)
PARTITION BY LIST (slot);
-- what became of a call
CREATE INDEX events_call_id_idx ON osmtalk.events (call_id);
COMMENT ON TABLE osmtalk.events IS 'Every event, whether or not it could be sent; append-only';
COMMENT ON COLUMN osmtalk.events.body IS 'The exact bytes that are signed and sent, UTF-8';
COMMENT ON COLUMN osmtalk.events.skipped_reason IS 'Why nothing was enqueued; null when it was';
COMMENT ON COLUMN osmtalk.events.slot IS 'The partition: 0 to 15 by turns, -1 for what is kept longer';

-- Not an identity: TRUNCATE ... RESTART IDENTITY must not have ids used again
-- that a worker still knows rows by.
CREATE SEQUENCE osmtalk.outbox_id_seq;
COMMENT ON SEQUENCE osmtalk.outbox_id_seq IS 'Ids of outbox rows';

CREATE TABLE osmtalk.outbox (
	id bigint NOT NULL DEFAULT nextval('osmtalk.outbox_id_seq'),
	event_id text NOT NULL UNIQUE,
	due_at timestamptz NOT NULL DEFAULT now(),
	attempts int NOT NULL DEFAULT 0,
	origin text NOT NULL DEFAULT osmtalk.current_origin(),
	endpoint_hash bigint NOT NULL DEFAULT 0,
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	worker_deaths smallint NOT NULL DEFAULT 0,
	slot smallint NOT NULL DEFAULT osmtalk.current_slot(),
	-- a queue for each endpoint, read on from where the worker was
	PRIMARY KEY (endpoint_hash, id)
)
-- a queue's dead rows are worth vacuuming long before a fifth of it is dead;
-- rows are inserted and deleted, not updated, so pages are filled
WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
-- The worker finds what came since its last look by transaction, never by id:
-- ids commit out of order.  Of a transaction's rows for one endpoint it needs
-- the first.
CREATE INDEX outbox_xid_idx ON osmtalk.outbox (xid, endpoint_hash, id);
COMMENT ON TABLE osmtalk.outbox IS 'One row per event still to be delivered, gone once it has a final result';
COMMENT ON COLUMN osmtalk.outbox.due_at IS 'Not sent before';
COMMENT ON COLUMN osmtalk.outbox.attempts IS 'Attempts that have ended, those of an earlier delivery included';
COMMENT ON COLUMN osmtalk.outbox.origin IS 'current_origin() of the database that enqueued it; rows of another are never sent, see adopt()';
COMMENT ON COLUMN osmtalk.outbox.endpoint_hash IS 'endpoint_hash() of the URL when it was enqueued: which queue it waits in; 0: not known. It is sent to the URL in force then';
COMMENT ON COLUMN osmtalk.outbox.xid IS 'The transaction that enqueued it';
COMMENT ON COLUMN osmtalk.outbox.worker_deaths IS 'In how many worker deaths in succession it was in flight';
COMMENT ON COLUMN osmtalk.outbox.slot IS 'The event''s; if it is another, the worker sets it right';

/*
 * What the worker has taken to send, a row per batch: so a claim is durable
 * and costs the outbox no new row version.  A row of the outbox is in flight
 * if it is listed here with an attempt beyond its own.
 *
 * Not dumped: in a copy nothing is in flight.
 */
CREATE TABLE osmtalk.claims (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	worker int NOT NULL,
	endpoint_hashes bigint[] NOT NULL,
	outbox_ids bigint[] NOT NULL,
	attempts int[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
-- a batch fits in a page: no time is spent on compressing it, or moving it out of line
ALTER TABLE osmtalk.claims ALTER COLUMN endpoint_hashes SET STORAGE PLAIN,
	ALTER COLUMN outbox_ids SET STORAGE PLAIN, ALTER COLUMN attempts SET STORAGE PLAIN;
COMMENT ON TABLE osmtalk.claims IS 'Internal: batches of outbox rows that a worker has taken to send; see the view in_flight';
COMMENT ON COLUMN osmtalk.claims.worker IS 'The number of the worker, from 0';
COMMENT ON COLUMN osmtalk.claims.endpoint_hashes IS 'With outbox_ids the keys of the outbox rows';
COMMENT ON COLUMN osmtalk.claims.attempts IS 'The number of the attempt that each was taken for';

CREATE TABLE osmtalk.delivery_attempts (
	event_id text NOT NULL,
	attempt int NOT NULL,
	url text,
	started_at timestamptz NOT NULL,
	duration_ms double precision,
	http_status int,
	error text,
	response_body text,
	slot smallint NOT NULL DEFAULT osmtalk.current_slot(),
	-- an event and its attempts have one slot: unique within it is unique
	PRIMARY KEY (event_id, attempt, slot)
)
PARTITION BY LIST (slot);
COMMENT ON TABLE osmtalk.delivery_attempts IS 'One row per POST made or refused; append-only';
COMMENT ON COLUMN osmtalk.delivery_attempts.attempt IS 'From 1';
COMMENT ON COLUMN osmtalk.delivery_attempts.url IS 'Where it went, query string included: who may read this column sees it in the view deliveries, too, others see redacted_url() of it';
COMMENT ON COLUMN osmtalk.delivery_attempts.duration_ms IS 'Milliseconds from the start of the request to its result';
COMMENT ON COLUMN osmtalk.delivery_attempts.http_status IS 'Null when no answer came';
COMMENT ON COLUMN osmtalk.delivery_attempts.error IS 'What went wrong; null when the answer was 2xx';
COMMENT ON COLUMN osmtalk.delivery_attempts.response_body IS 'The first kilobyte of the answer';
COMMENT ON COLUMN osmtalk.delivery_attempts.slot IS 'The event''s';

/*
 * Has a row while sending is paused.  Dumped: a copy of a paused database is
 * paused until somebody resumes it there.
 */
CREATE TABLE osmtalk.paused (
	only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
	since timestamptz NOT NULL DEFAULT now(),
	by_role text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE osmtalk.paused IS 'Has a row while this database''s events are not to be sent; see pause() and resume()';
COMMENT ON COLUMN osmtalk.paused.by_role IS 'Who paused it';

/*
 * All partitions are made here: none at run time, which a dump would restore
 * against this script, and for whose want an insert could fail.
 */
DO $$
DECLARE
	slot int;
	name text;
BEGIN
	FOR slot IN -1 .. 15 LOOP
		name := CASE slot WHEN -1 THEN 'kept' ELSE to_char(slot, 'FM00') END;
		EXECUTE format('CREATE TABLE osmtalk.events_%s PARTITION OF osmtalk.events FOR VALUES IN (%s)', name, slot);
		EXECUTE format('CREATE TABLE osmtalk.delivery_attempts_%s PARTITION OF osmtalk.delivery_attempts FOR VALUES IN (%s)', name, slot);
		EXECUTE format('COMMENT ON TABLE osmtalk.events_%s IS %L', name,
					   CASE slot WHEN -1 THEN 'Events kept longer than their slot of the ring' ELSE 'A slot of the ring of events' END);
		EXECUTE format('COMMENT ON TABLE osmtalk.delivery_attempts_%s IS %L', name, 'The attempts of the events in events_' || name);
		-- a dump has the rows of each by itself
		PERFORM pg_extension_config_dump(format('osmtalk.events_%s', name)::regclass, '');
		PERFORM pg_extension_config_dump(format('osmtalk.delivery_attempts_%s', name)::regclass, '');
	END LOOP;
END
$$;

/*
 * How far each slot is on its way to being emptied.  Not dumped: in a copy
 * all slots are filled from the moment of its installation, so that nothing
 * is too old before all of it is there.
 */
CREATE TABLE osmtalk.slots (
	slot smallint PRIMARY KEY,
	filled_since timestamptz NOT NULL DEFAULT now(),
	newest timestamptz,
	next_block bigint,
	seen pg_snapshot,
	seen_size bigint,
	seen_id text
);
INSERT INTO osmtalk.slots (slot) SELECT generate_series(-1, 15);
COMMENT ON TABLE osmtalk.slots IS 'Internal: how far apply_retention() is with each slot of the ring, -1 for what is kept longer';
COMMENT ON COLUMN osmtalk.slots.filled_since IS 'When it was last emptied, or the extension created; of -1, when it was last gone through';
COMMENT ON COLUMN osmtalk.slots.newest IS 'An event of that time is in it, too young to go; null if none was seen';
COMMENT ON COLUMN osmtalk.slots.next_block IS 'Its events before this block have been gone through; null if none';
COMMENT ON COLUMN osmtalk.slots.seen IS 'What was committed when that began';
COMMENT ON COLUMN osmtalk.slots.seen_size IS 'Its bytes then';
COMMENT ON COLUMN osmtalk.slots.seen_id IS 'The greatest event id in it then';

SELECT pg_extension_config_dump('osmtalk.org_settings', '');
SELECT pg_extension_config_dump('osmtalk.agents', '');
SELECT pg_extension_config_dump('osmtalk.campaigns', '');
SELECT pg_extension_config_dump('osmtalk.previous_secrets', '');
SELECT pg_extension_config_dump('osmtalk.dnc_entries', '');
SELECT pg_extension_config_dump('osmtalk.leads', '');
SELECT pg_extension_config_dump('osmtalk.calls', '');
SELECT pg_extension_config_dump('osmtalk.events', '');
SELECT pg_extension_config_dump('osmtalk.outbox', '');
-- without the sequence a restored outbox would hand out used ids
SELECT pg_extension_config_dump('osmtalk.outbox_id_seq', '');
SELECT pg_extension_config_dump('osmtalk.delivery_attempts', '');
SELECT pg_extension_config_dump('osmtalk.paused', '');
