-- inbox.sql - the database's part of a receiver of osmTalk's webhooks: it
-- verifies, stores each event once, and does with it what is to be done, once
--
-- The database needs nothing of osmtalk's. Run it as its owner, who can make
-- extensions.

CREATE SCHEMA inbox;
CREATE EXTENSION IF NOT EXISTS pgcrypto;

-- The secret, and while it is being replaced the new one too.
CREATE TABLE inbox.secrets (secret text PRIMARY KEY CHECK (secret <> ''));

CREATE TABLE inbox.events (
	event_id    text PRIMARY KEY,
	body        bytea NOT NULL,
	received_at timestamptz NOT NULL DEFAULT now(),
	try_at      timestamptz DEFAULT now(),  -- null: it is done
	error       text
);
-- The id comes in a header, which nobody has signed; the body is signed. So
-- who repeats a request that he has seen, with another id, is not heard either.
CREATE UNIQUE INDEX ON inbox.events (sha256(body));
CREATE INDEX ON inbox.events (try_at) WHERE try_at IS NOT NULL;

-- The two are compared by their HMACs with a key of the moment, so that the time
-- it takes tells nothing.
CREATE FUNCTION inbox.is_signature(given text, body bytea, secret text) RETURNS boolean
RETURN (
	SELECT hmac(convert_to(given, 'UTF8'), key, 'sha256') =
	       hmac(convert_to('sha256=' || encode(hmac(body, convert_to(secret, 'UTF8'), 'sha256'), 'hex'), 'UTF8'), key, 'sha256')
	  FROM gen_random_bytes(32) AS key);

-- False: the signature is wrong. True: the event is here.
CREATE FUNCTION inbox.receive(event_id text, signature text, body bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM inbox.secrets WHERE inbox.is_signature(signature, body, secret)) THEN
		RETURN false;
	END IF;
	INSERT INTO inbox.events (event_id, body) VALUES (event_id, body) ON CONFLICT DO NOTHING;
	RETURN true;
END $$;

-- What is to be done with an event: yours to write. Here, the CRM's table of
-- outcomes has one row for each call.
CREATE TABLE outcomes (
	call_id     text PRIMARY KEY,
	phone       text NOT NULL,
	status      text NOT NULL,
	disposition text,
	summary     text
);
CREATE FUNCTION inbox.handle(event jsonb) RETURNS void
BEGIN ATOMIC
	INSERT INTO outcomes
	SELECT coalesce(lead->>'callId', lead->>'id'), lead->>'phoneNumber', lead->>'status', lead->>'disposition',
	       lead->'outcome'->>'summary'
	  FROM (SELECT event->'lead' AS lead) AS this
	 WHERE event->>'event' = 'campaign.lead_completed'
	ON CONFLICT DO NOTHING;
END;

-- Handles one event, and says whether there was one. That it is done, and what
-- was done, are one transaction; a failure leaves the event for another try.
CREATE FUNCTION inbox.work() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	event inbox.events;
BEGIN
	SELECT * INTO event FROM inbox.events WHERE try_at <= now() ORDER BY try_at LIMIT 1 FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	BEGIN
		PERFORM inbox.handle(convert_from(event.body, 'UTF8')::jsonb);
		UPDATE inbox.events SET try_at = NULL, error = NULL WHERE event_id = event.event_id;
	EXCEPTION WHEN OTHERS THEN
		UPDATE inbox.events SET try_at = now() + interval '1 minute', error = SQLERRM WHERE event_id = event.event_id;
	END;
	RETURN true;
END $$;

-- The HTTP part may do these two things, and knows no secret.
CREATE ROLE inbox_http LOGIN;
REVOKE ALL ON FUNCTION inbox.receive(text, text, bytea), inbox.work(), inbox.handle(jsonb),
	inbox.is_signature(text, bytea, text) FROM PUBLIC;
GRANT USAGE ON SCHEMA inbox TO inbox_http;
GRANT EXECUTE ON FUNCTION inbox.receive(text, text, bytea), inbox.work() TO inbox_http;
