--
-- The life of calls and leads: from the insert of a call to the outcome of its
-- lead, in every order in which the facts may come.
--
-- Organisations have no URL here, so each event is recorded and none is sent.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';

CREATE SCHEMA lifecycle;

-- A lead as the contract describes it, and its events in the order they were written.
CREATE FUNCTION lifecycle.lead(lead_id text)
RETURNS TABLE (status osmtalk.lead_status, disposition text, attempts int, call text, outcome jsonb,
			   due text, completed boolean, events text)
LANGUAGE sql AS $$
	SELECT l.status, l.disposition, l.attempts, l.call_id, l.outcome,
		   CASE WHEN l.next_attempt_at <= clock_timestamp() THEN 'due' WHEN l.next_attempt_at IS NOT NULL THEN 'later' END,
		   l.completed_at IS NOT NULL,
		   (SELECT string_agg(CASE e.type WHEN 'campaign.lead_completed' THEN e.body::jsonb #>> '{lead,status}' ELSE 'analysis' END
							  || coalesce(' ' || e.call_id, ''), ', ' ORDER BY e.id COLLATE "C")
			  FROM osmtalk.events e WHERE e.lead_id = l.id)
	  FROM osmtalk.leads l WHERE l.id = lead.lead_id
$$;
CREATE FUNCTION lifecycle.call(call_id text)
RETURNS TABLE (status osmtalk.call_status, placed boolean, ended boolean, decided boolean, analyzed boolean)
LANGUAGE sql AS $$
	SELECT c.status, c.placed_at IS NOT NULL, c.ended_at IS NOT NULL, c.decided_at IS NOT NULL, c.analyzed_at IS NOT NULL
	  FROM osmtalk.calls c WHERE c.id = call.call_id
$$;

INSERT INTO osmtalk.org_settings (org_id) VALUES ('lifecycle'), ('lifecycle2');
INSERT INTO osmtalk.agents (id, org_id, name, enable_sentiment, post_call_analysis) VALUES
	('agent_plain', 'lifecycle', 'analyses nothing', false, NULL),
	('agent_analyst', 'lifecycle', 'analyses', false, '{"schema": [{"name": "budget_inr", "type": "number"}]}'),
	('agent_other_org', 'lifecycle2', 'of another organisation', true, NULL);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, max_attempts, retry_backoff, retry_on) VALUES
	('cmp_plain', 'lifecycle', 'agent_plain', 'no analysis', 1, '1 hour', '{failed}'),
	('cmp_analyst', 'lifecycle', 'agent_analyst', 'analysis', 1, '1 hour', '{failed}'),
	('cmp_agentless', 'lifecycle', NULL, 'no agent', 1, '1 hour', '{failed}'),
	('cmp_retry', 'lifecycle', 'agent_plain', 'retries', 3, '90 minutes', '{no_answer,busy}'),
	('cmp_other_org', 'lifecycle2', NULL, 'of another organisation', 1, '1 hour', '{failed}');

-- ---------------------------------------------------------------------------
-- queued → in_progress → final
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_1', 'cmp_plain', '+91 98765-43210')
RETURNING id, phone_number, variables, status, disposition, attempts, next_attempt_at, call_id, outcome, completed_at;
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_1', 'ld_1')
RETURNING org_id, agent_id, lead_id, direction, phone_number, dynamic_variables, metadata, voicemail_detected,
		  status, placed_at = now() AS placed_now, decided_at, analyzed_at;
SELECT * FROM lifecycle.lead('ld_1');
UPDATE osmtalk.calls SET started_at = '2026-05-06 11:00:00Z' WHERE id = 'call_1';
SELECT * FROM lifecycle.call('call_1');
UPDATE osmtalk.calls SET answered_at = '2026-05-06 11:00:05Z' WHERE id = 'call_1';
SELECT * FROM lifecycle.call('call_1');
-- back to queued while it runs: status follows the facts until the end
UPDATE osmtalk.calls SET answered_at = NULL, started_at = NULL WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET answered_at = '2026-05-06 11:00:05Z' WHERE id = 'call_1' RETURNING status;
-- an infinite end is none
UPDATE osmtalk.calls SET ended_at = 'infinity' WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET ended_at = '-infinity' WHERE id = 'call_1' RETURNING status;
SELECT * FROM lifecycle.lead('ld_1');
BEGIN;
UPDATE osmtalk.calls SET ended_at = '2026-05-06 11:01:00Z' WHERE id = 'call_1'
RETURNING status, decided_at = now() AS decided_now;
SELECT * FROM lifecycle.lead('ld_1');
SELECT completed_at = now() AS "now() of the deciding transaction" FROM osmtalk.leads WHERE id = 'ld_1';
COMMIT;

-- Frozen: nothing that comes later changes the status, or the lead, or sends again.
UPDATE osmtalk.calls SET ended_at = NULL WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET ended_at = '2026-05-06 11:00:06Z' WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET sip_status_code = 486 WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET error = 'bot crashed' WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET voicemail_detected = true WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET answered_at = NULL, started_at = NULL, ended_at = 'infinity' WHERE id = 'call_1' RETURNING status;
UPDATE osmtalk.calls SET ended_at = ended_at, error = error WHERE id = 'call_1' RETURNING status;
SELECT * FROM lifecycle.lead('ld_1');

-- Each way to end, each from the statement that sets ended_at.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT 'ld_end_' || i, 'cmp_plain', '+9198765000' || i FROM generate_series(10, 15) i;
INSERT INTO osmtalk.calls (id, lead_id, answered_at)
SELECT 'call_end_' || i, 'ld_end_' || i, '2026-05-06 11:00:00Z' FROM generate_series(10, 15) i;
UPDATE osmtalk.calls c
   SET ended_at = '2026-05-06 11:01:00Z', sip_status_code = t.sip, voicemail_detected = t.voicemail, error = t.error,
	   answered_at = t.answered_at
  FROM (VALUES
	(10, NULL::int, false, NULL, timestamptz '2026-05-06 11:00:00Z'),
	(11, NULL, true, NULL, '2026-05-06 11:00:00Z'),
	(12, NULL, NULL, NULL, '2026-05-06 11:00:58Z'),
	(13, 486, false, NULL, NULL),
	(14, NULL, false, 'bot crashed', '2026-05-06 11:00:00Z'),
	(15, 603, false, NULL, NULL)) t (i, sip, voicemail, error, answered_at)
 WHERE c.id = 'call_end_' || t.i;
SELECT c.id, c.status, l.status AS lead_status, l.disposition, l.attempts, l.completed_at IS NOT NULL AS completed,
	   (SELECT count(*) FROM osmtalk.events e WHERE e.call_id = c.id) AS events
  FROM osmtalk.calls c JOIN osmtalk.leads l ON l.call_id = c.id
 WHERE c.id LIKE 'call_end_%' ORDER BY c.id;

-- What the extension sets, the application cannot.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_2', 'cmp_plain', '+919876543211');
INSERT INTO osmtalk.calls (id, lead_id, status, decided_at, analyzed_at)
VALUES ('call_2', 'ld_2', 'completed', '2020-01-01', '2020-01-01');
SELECT * FROM lifecycle.call('call_2');
UPDATE osmtalk.calls SET status = 'completed', placed_at = NULL, decided_at = '2020-01-01', analyzed_at = '2020-01-01'
 WHERE id = 'call_2';
SELECT * FROM lifecycle.call('call_2');
UPDATE osmtalk.calls SET placed_at = '2020-01-01' WHERE id = 'call_2' RETURNING placed_at > '2020-01-01' AS kept;
SELECT * FROM lifecycle.lead('ld_2');
UPDATE osmtalk.calls SET status = 'voicemail', ended_at = '2026-05-06 11:00:00Z', decided_at = NULL WHERE id = 'call_2';
SELECT * FROM lifecycle.call('call_2');
UPDATE osmtalk.calls SET status = 'queued', placed_at = NULL, decided_at = NULL WHERE id = 'call_2';
SELECT * FROM lifecycle.call('call_2');
SELECT * FROM lifecycle.lead('ld_2');

-- ---------------------------------------------------------------------------
-- Placing
-- ---------------------------------------------------------------------------
-- The campaign's organisation and agent and the lead's number are defaults; others may be given.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_3', 'cmp_plain', '+919876543212');
INSERT INTO osmtalk.calls (id, lead_id, agent_id, phone_number, direction)
VALUES ('call_3a', 'ld_3', 'agent_analyst', 'ask for Arjun, ext. ४२', 'web') RETURNING org_id, agent_id, phone_number, direction;
INSERT INTO osmtalk.calls (id, agent_id) VALUES ('call_agent', 'agent_plain') RETURNING org_id, lead_id, phone_number;
INSERT INTO osmtalk.calls (id, org_id) VALUES ('call_org', 'lifecycle') RETURNING org_id, agent_id, status;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_4', 'cmp_agentless', '+919876543213');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_4', 'ld_4') RETURNING org_id, agent_id;

-- Each further call of a lead is another attempt, from whatever status, and clears the last one's outcome.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, status, disposition, attempts, next_attempt_at, call_id, outcome, completed_at)
SELECT 'ld_from_' || s, 'cmp_plain', '+919876543214', s, 'x', 7, '2100-01-01', 'call_past', '{"a": 1}', '2020-01-01'
  FROM unnest(enum_range(NULL::osmtalk.lead_status)) s;
INSERT INTO osmtalk.calls (id, lead_id)
SELECT replace(id, 'ld_', 'call_'), id FROM osmtalk.leads WHERE id LIKE 'ld_from_%';
SELECT id, status, disposition, attempts, next_attempt_at, call_id, outcome, completed_at
  FROM osmtalk.leads WHERE id LIKE 'ld_from_%' ORDER BY id;

-- Called again after a terminal status: its next terminal transition is a new event.
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at)
VALUES ('call_again', 'ld_1', '2026-05-07 11:00:00Z', '2026-05-07 11:05:00Z') RETURNING status;
SELECT * FROM lifecycle.lead('ld_1');

-- Placed and decided by one statement.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_5', 'cmp_plain', '+919876543215');
BEGIN;
INSERT INTO osmtalk.calls (id, lead_id, ended_at, sip_status_code)
VALUES ('call_5', 'ld_5', '2026-05-06 11:00:00Z', 486) RETURNING status, placed_at = now() AS placed, decided_at = now() AS decided;
SELECT * FROM lifecycle.lead('ld_5');
COMMIT;

-- Several calls of one lead in one statement: the last row is the latest call.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_6', 'cmp_plain', '+919876543216');
INSERT INTO osmtalk.calls (id, lead_id, ended_at, sip_status_code) VALUES
	('call_6a', 'ld_6', NULL, NULL), ('call_6b', 'ld_6', '2026-05-06 11:00:00Z', 486), ('call_6c', 'ld_6', NULL, NULL);
SELECT * FROM lifecycle.lead('ld_6');
UPDATE osmtalk.calls SET ended_at = '2026-05-06 11:00:00Z', error = 'network failure' WHERE lead_id = 'ld_6';
SELECT id, status, decided_at IS NOT NULL AS decided FROM osmtalk.calls WHERE lead_id = 'ld_6' ORDER BY id;
SELECT * FROM lifecycle.lead('ld_6');

-- ON CONFLICT: a row that is not written leaves nothing behind.
SELECT count(*) AS events FROM osmtalk.events WHERE org_id = 'lifecycle' \gset before_
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_7', 'cmp_plain', '+919876543217');
INSERT INTO osmtalk.calls (id, lead_id, ended_at, analysis) VALUES ('call_1', 'ld_7', now(), '{"success": true}') ON CONFLICT DO NOTHING;
SELECT * FROM lifecycle.lead('ld_7');
SELECT count(*) - :before_events AS new_events FROM osmtalk.events WHERE org_id = 'lifecycle';
-- an application that writes each report of its provider with an upsert
\set upsert 'INSERT INTO osmtalk.calls AS c (id, lead_id, started_at, answered_at, ended_at) VALUES (:v) ON CONFLICT (id) DO UPDATE SET started_at = EXCLUDED.started_at, answered_at = EXCLUDED.answered_at, ended_at = EXCLUDED.ended_at RETURNING status, started_at, answered_at, ended_at;'
\set v '''call_7'', ''ld_7'', NULL, NULL, NULL'
:upsert
\set v '''call_7'', ''ld_7'', ''2026-05-06 11:00:00Z'', NULL, NULL'
:upsert
SELECT * FROM lifecycle.lead('ld_7');
-- meanwhile the number is listed: this call was placed before, its report is no new one
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('lifecycle', '+919876543217');
\set v '''call_7'', ''ld_7'', ''2026-05-06 11:00:00Z'', ''2026-05-06 11:00:05Z'', NULL'
:upsert
\set v '''call_7'', ''ld_7'', ''2026-05-06 11:00:00Z'', ''2026-05-06 11:00:05Z'', ''2026-05-06 11:03:00Z'''
:upsert
:upsert
SELECT * FROM lifecycle.lead('ld_7');
DELETE FROM osmtalk.dnc_entries WHERE org_id = 'lifecycle';

-- The facts may come in any order and from any trigger: the statement that sets ended_at decides.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_8', 'cmp_plain', '+919876543218');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_8', 'ld_8');
CREATE FUNCTION lifecycle.hang_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.ended_at := NEW.metadata ->> 'hangup';
	RETURN NEW;
END
$$;
CREATE TRIGGER a_hang_up BEFORE UPDATE OF metadata ON osmtalk.calls
	FOR EACH ROW WHEN (NEW.metadata ? 'hangup') EXECUTE FUNCTION lifecycle.hang_up();
UPDATE osmtalk.calls SET metadata = '{"hangup": "2026-05-06 11:00:00Z"}' WHERE id = 'call_8';
SELECT * FROM lifecycle.call('call_8');
SELECT * FROM lifecycle.lead('ld_8');
DROP TRIGGER a_hang_up ON osmtalk.calls;

-- ---------------------------------------------------------------------------
-- History: a row that arrives with placed_at
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_h', 'cmp_plain', '+919876543220');
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('lifecycle', '+919876543220');
INSERT INTO osmtalk.calls (id, org_id, lead_id, phone_number, placed_at, status, ended_at, analysis, decided_at, analyzed_at)
VALUES ('call_h1', 'lifecycle', 'ld_h', '+919876543220', '2020-01-01', 'busy', '2020-01-01', '{"success": true}', '2020-01-02', '2020-01-03')
RETURNING agent_id, status, placed_at, ended_at, decided_at, analyzed_at;
INSERT INTO osmtalk.calls (id, org_id, agent_id, placed_at, status, analysis)
VALUES ('call_h2', 'lifecycle', 'agent_analyst', '2020-01-01', 'queued', '{"success": true}') RETURNING status, placed_at, analyzed_at;
INSERT INTO osmtalk.calls (id, org_id, lead_id, placed_at, status, answered_at)
VALUES ('call_h3', 'lifecycle', 'ld_h', '2020-01-01', 'in_progress', '2020-01-01') RETURNING status, phone_number;
SELECT * FROM lifecycle.lead('ld_h');
SELECT count(*) AS events FROM osmtalk.events WHERE call_id LIKE 'call_h%';
-- inserted in the transaction that placed another: still history
BEGIN;
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_h4', 'ld_1');
INSERT INTO osmtalk.calls SELECT (jsonb_populate_record(c, '{"id": "call_h5"}')).* FROM osmtalk.calls c WHERE id = 'call_h4';
SELECT * FROM lifecycle.lead('ld_1');
ROLLBACK;
-- later updates count as usual
UPDATE osmtalk.leads SET status = 'calling', call_id = 'call_h3' WHERE id = 'ld_h';
UPDATE osmtalk.calls SET ended_at = '2020-01-01 00:00:10' WHERE id = 'call_h3' RETURNING status, decided_at IS NOT NULL AS decided;
SELECT * FROM lifecycle.lead('ld_h');
-- but the analysis that the row came with is not set by them
UPDATE osmtalk.calls SET sip_status_code = 200 WHERE id = 'call_h2' RETURNING status, analyzed_at;
SELECT count(*) AS events FROM osmtalk.events WHERE call_id = 'call_h2';
DELETE FROM osmtalk.dnc_entries WHERE org_id = 'lifecycle';

-- ---------------------------------------------------------------------------
-- DNC
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.dnc_entries (org_id, phone_number, source) VALUES
	('lifecycle', '00 91 (98765) 43.230', 'opt_out'),
	('lifecycle2', '+919876543231', 'api');
SELECT org_id, phone_number, source FROM osmtalk.dnc_entries WHERE org_id LIKE 'lifecycle%' ORDER BY 1;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES
	('ld_d1', 'cmp_plain', '+919876543230'),
	('ld_d2', 'cmp_retry', '+919876543230'),
	('ld_d3', 'cmp_plain', '+919876543230'),
	('ld_d4', 'cmp_plain', '+919876543230'),
	('ld_d5', 'cmp_plain', '+919876543231'),
	('ld_d6', 'cmp_plain', '+919876543232');
-- place_call()
BEGIN;
SELECT status, started_at, ended_at = now() AS ended, decided_at = now() AS decided, phone_number FROM osmtalk.place_call('ld_d1');
SELECT status, disposition, attempts, completed_at = now() AS completed,
	   call_id = (SELECT c.id FROM osmtalk.calls c WHERE c.lead_id = l.id) AS its_call
  FROM osmtalk.leads l WHERE id = 'ld_d1';
SELECT type, body::jsonb #>> '{lead,status}' AS status, body::jsonb #> '{lead,attempts}' AS attempts,
	   call_id = (SELECT call_id FROM osmtalk.leads WHERE id = 'ld_d1') AS its_call
  FROM osmtalk.events WHERE lead_id = 'ld_d1';
COMMIT;
-- place_next_call()
UPDATE osmtalk.leads SET attempts = 2 WHERE id = 'ld_d2';
SELECT status FROM osmtalk.place_next_call('cmp_retry');
SELECT status, attempts FROM osmtalk.leads WHERE id = 'ld_d2';
-- a direct insert, of whatever facts; the number of the call counts, in any writing
INSERT INTO osmtalk.calls (id, lead_id, started_at, answered_at, ended_at, sip_status_code)
VALUES ('call_d3', 'ld_d3', '2020-01-01', '2020-01-01', '2020-01-02', 200) RETURNING status, ended_at = now() AS ended, decided_at = now() AS decided;
SELECT * FROM lifecycle.lead('ld_d3');
INSERT INTO osmtalk.calls (id, lead_id, phone_number) VALUES ('call_d6', 'ld_d6', '(+91) 98765 43230') RETURNING status, phone_number;
SELECT * FROM lifecycle.lead('ld_d6');
-- blocked for ever: facts that come later change nothing
UPDATE osmtalk.calls SET answered_at = '2026-05-06 11:00:00Z', ended_at = '2026-05-06 11:01:00Z' WHERE id = 'call_d6' RETURNING status;
SELECT * FROM lifecycle.lead('ld_d6');
-- inbound and web calls are not checked, and count
INSERT INTO osmtalk.calls (id, lead_id, direction) VALUES ('call_d4', 'ld_d4', 'inbound') RETURNING status;
INSERT INTO osmtalk.calls (id, lead_id, direction) VALUES ('call_d4w', 'ld_d4', 'web') RETURNING status;
SELECT * FROM lifecycle.lead('ld_d4');
-- a lead that is being called becomes dnc_blocked, once
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_d4b', 'ld_d4') RETURNING status;
SELECT * FROM lifecycle.lead('ld_d4');
UPDATE osmtalk.calls SET answered_at = '2026-05-06 11:00:00Z', ended_at = '2026-05-06 11:01:00Z' WHERE id = 'call_d4w' RETURNING status;
SELECT * FROM lifecycle.lead('ld_d4');
-- one that is terminal stays as it is
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_d4c', 'ld_d4') RETURNING status, decided_at = now() AS decided;
SELECT * FROM lifecycle.lead('ld_d4');
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('lifecycle', '+919876543210');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_d1', 'ld_1') RETURNING status;
SELECT * FROM lifecycle.lead('ld_1');
-- another organisation's list does not count
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_d5', 'ld_d5') RETURNING status;
-- without a lead
INSERT INTO osmtalk.calls (id, org_id, phone_number) VALUES ('call_dx', 'lifecycle', '0091 98765 43230')
RETURNING status, ended_at = now() AS ended, decided_at = now() AS decided;
INSERT INTO osmtalk.calls (id, org_id, phone_number, direction) VALUES ('call_dy', 'lifecycle', '0091 98765 43230', 'inbound') RETURNING status;
-- what cannot be normalised is on no list, and is never refused
INSERT INTO osmtalk.calls (org_id, phone_number)
VALUES ('lifecycle', NULL), ('lifecycle', ''), ('lifecycle', '98765 43230'), ('lifecycle', '+91 98765 4323O'),
	   ('lifecycle', 'sip:919876543230@example.com'), ('lifecycle', E'+\u0669\u0661\u0669\u0668\u0667\u0666\u0665\u0664\u0663\u0662'),
	   ('lifecycle', repeat('9', 1048576)), ('lifecycle', E'+919876543230\n')
RETURNING status, length(phone_number);
\set VERBOSITY sqlstate
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('lifecycle', '98765');
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('lifecycle', '+91-98765-43230');
INSERT INTO osmtalk.dnc_entries (org_id, phone_number, source) VALUES ('lifecycle', '+919876500000', 'rumour');
INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('cmp_plain', '98765 43230');
INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('cmp_plain', NULL);
UPDATE osmtalk.leads SET phone_number = 'unknown' WHERE id = 'ld_1';
\set VERBOSITY default
UPDATE osmtalk.leads SET phone_number = '0091 98765 43210' WHERE id = 'ld_1' RETURNING phone_number;
DELETE FROM osmtalk.dnc_entries WHERE org_id LIKE 'lifecycle%';

-- ---------------------------------------------------------------------------
-- The retry policy
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_r', 'cmp_retry', '+919876543240');
BEGIN;
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_r1', 'ld_r');
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486, analysis = '{"why": "busy"}' WHERE id = 'call_r1'
RETURNING status, decided_at = now() AS decided;
SELECT * FROM lifecycle.lead('ld_r');
SELECT next_attempt_at - now() AS backoff FROM osmtalk.leads WHERE id = 'ld_r';
COMMIT;
SELECT count(*) AS due FROM osmtalk.due_leads WHERE id = 'ld_r';
UPDATE osmtalk.leads SET next_attempt_at = now() - interval '1 s' WHERE id = 'ld_r';
SELECT count(*) AS due FROM osmtalk.due_leads WHERE id = 'ld_r';
-- the second attempt
SELECT status FROM osmtalk.place_next_call('cmp_retry');
SELECT status, attempts, next_attempt_at, outcome, call_id <> 'call_r1' AS new_call FROM osmtalk.leads WHERE id = 'ld_r';
UPDATE osmtalk.calls SET ended_at = now() WHERE lead_id = 'ld_r' AND status = 'queued' RETURNING status;
SELECT status, disposition, attempts, next_attempt_at > now() AS later, completed_at FROM osmtalk.leads WHERE id = 'ld_r';
-- the third is the last
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_r3', 'ld_r');
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 480 WHERE id = 'call_r3';
SELECT * FROM lifecycle.lead('ld_r');
-- max_attempts raised: tried again after a further call
UPDATE osmtalk.campaigns SET max_attempts = 5 WHERE id = 'cmp_retry';
INSERT INTO osmtalk.calls (id, lead_id, ended_at, sip_status_code) VALUES ('call_r4', 'ld_r', now(), 600);
SELECT * FROM lifecycle.lead('ld_r');
-- a status that is not listed is final at the first attempt
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT 'ld_r_' || s, 'cmp_retry', '+919876543241' FROM unnest('{completed,voicemail,no_answer,busy,failed}'::text[]) s;
INSERT INTO osmtalk.calls (id, lead_id, ended_at, answered_at, sip_status_code, voicemail_detected, error)
SELECT 'call_r_' || s, 'ld_r_' || s, '2026-05-06 11:00:00Z', CASE WHEN s = 'completed' THEN timestamptz '2026-05-06 10:00:00Z' END,
	   CASE s WHEN 'busy' THEN 486 END, s = 'voicemail', CASE s WHEN 'failed' THEN 'x' END
  FROM unnest('{completed,voicemail,no_answer,busy,failed}'::text[]) s;
SELECT l.id, l.status, l.attempts, l.next_attempt_at IS NOT NULL AS retry,
	   (SELECT count(*) FROM osmtalk.events e WHERE e.lead_id = l.id) AS events
  FROM osmtalk.leads l WHERE l.id LIKE 'ld_r\_%' ORDER BY l.id;
-- the default policy: once
SELECT max_attempts, retry_backoff, retry_on FROM osmtalk.campaigns WHERE id = 'cmp_plain';
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_default', 'lifecycle', 'defaults') RETURNING max_attempts, retry_backoff, retry_on;
-- no retries at all; each that may be retried
UPDATE osmtalk.campaigns SET retry_on = '{}', max_attempts = 9 WHERE id = 'cmp_default' RETURNING retry_on;
UPDATE osmtalk.campaigns SET retry_on = '{failed,no_answer,busy,voicemail}', retry_backoff = '0' WHERE id = 'cmp_default' RETURNING retry_on;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_rv', 'cmp_default', '+919876543242');
INSERT INTO osmtalk.calls (id, lead_id, ended_at, voicemail_detected) VALUES ('call_rv', 'ld_rv', now(), true);
SELECT * FROM lifecycle.lead('ld_rv');
SELECT count(*) AS due_at_once FROM osmtalk.due_leads WHERE id = 'ld_rv';
\set VERBOSITY sqlstate
UPDATE osmtalk.campaigns SET retry_on = '{completed}' WHERE id = 'cmp_default';
UPDATE osmtalk.campaigns SET retry_on = '{dnc_blocked}' WHERE id = 'cmp_default';
UPDATE osmtalk.campaigns SET retry_on = '{failed,pending}' WHERE id = 'cmp_default';
UPDATE osmtalk.campaigns SET retry_on = '{NULL}' WHERE id = 'cmp_default';
UPDATE osmtalk.campaigns SET retry_on = NULL WHERE id = 'cmp_default';
UPDATE osmtalk.campaigns SET name = NULL WHERE id = 'cmp_default';
\set VERBOSITY default

-- ---------------------------------------------------------------------------
-- Analysis
-- ---------------------------------------------------------------------------
-- Not configured: the outcome is kept, the disposition is completed, no event of its own.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_a0', 'cmp_plain', '+919876543250');
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at, analysis)
VALUES ('call_a0', 'ld_a0', '2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z', '{"lead_qualified": true}')
RETURNING status, analyzed_at = now() AS analyzed;
SELECT * FROM lifecycle.lead('ld_a0');
UPDATE osmtalk.calls SET analysis = '{"next_action": "callback_later"}' WHERE id = 'call_a0';
SELECT * FROM lifecycle.lead('ld_a0');
-- without an agent there is none configured
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at) VALUES ('call_a0b', 'ld_4', '2026-05-06 11:00:00Z', '2026-05-06 11:01:00Z');
SELECT * FROM lifecycle.lead('ld_4');

-- Configured: a completed call waits for it. (Ended just now, or the wait would be over.)
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT 'ld_a' || i, 'cmp_analyst', '+919876543251' FROM generate_series(1, 9) i;
INSERT INTO osmtalk.calls (id, lead_id, answered_at)
SELECT 'call_a' || i, 'ld_a' || i, now() - interval '1 min' FROM generate_series(1, 9) i;
UPDATE osmtalk.calls SET ended_at = now() WHERE id BETWEEN 'call_a1' AND 'call_a5' AND status = 'in_progress';
SELECT * FROM lifecycle.call('call_a1');
SELECT * FROM lifecycle.lead('ld_a1');
-- nothing else ends the wait
UPDATE osmtalk.calls SET analysis = 'null' WHERE id = 'call_a1';
UPDATE osmtalk.calls SET transcript = 'Hello', metadata = '{"a": 1}', sip_status_code = 200 WHERE id = 'call_a1';
UPDATE osmtalk.calls SET ended_at = NULL WHERE id = 'call_a1';
SELECT * FROM lifecycle.lead('ld_a1');
BEGIN;
UPDATE osmtalk.calls SET analysis = '{"lead_qualified": true}' WHERE id = 'call_a1'
RETURNING status, decided_at = now() AS decided, analyzed_at = now() AS analyzed;
SELECT * FROM lifecycle.lead('ld_a1');
SELECT completed_at = now() AS completed FROM osmtalk.leads WHERE id = 'ld_a1';
COMMIT;
-- later analysis corrects the lead and sends nothing
UPDATE osmtalk.calls SET analysis = '{"next_action": "not_interested"}' WHERE id = 'call_a1';
SELECT * FROM lifecycle.lead('ld_a1');
UPDATE osmtalk.calls SET analysis = analysis WHERE id = 'call_a1';
UPDATE osmtalk.calls SET analysis = '{"success": "true"}' WHERE id = 'call_a1';
SELECT * FROM lifecycle.lead('ld_a1');
UPDATE osmtalk.calls SET analysis = 'null' WHERE id = 'call_a1';
SELECT * FROM lifecycle.lead('ld_a1');
UPDATE osmtalk.calls SET analysis = NULL WHERE id = 'call_a1';
SELECT * FROM lifecycle.lead('ld_a1');
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_a1';
SELECT * FROM lifecycle.lead('ld_a1');
-- the analysis failed: decided without
UPDATE osmtalk.calls SET analysis_error = 'the model is overloaded' WHERE id = 'call_a2';
SELECT * FROM lifecycle.call('call_a2');
SELECT * FROM lifecycle.lead('ld_a2');
-- and came after all
UPDATE osmtalk.calls SET analysis_error = NULL, analysis = '{"next_action": "callback_later"}' WHERE id = 'call_a2';
SELECT * FROM lifecycle.lead('ld_a2');
-- of any shape
UPDATE osmtalk.calls SET analysis = '"no object"' WHERE id = 'call_a3';
SELECT * FROM lifecycle.lead('ld_a3');
UPDATE osmtalk.calls SET analysis = '[]' WHERE id = 'call_a4';
SELECT * FROM lifecycle.lead('ld_a4');
UPDATE osmtalk.calls SET analysis = 'false' WHERE id = 'call_a5';
SELECT * FROM lifecycle.lead('ld_a5');
-- before the end: its event at once, the lead's when the call ends
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_a6' RETURNING status, analyzed_at = now() AS analyzed;
SELECT * FROM lifecycle.lead('ld_a6');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_a6' RETURNING status;
SELECT * FROM lifecycle.lead('ld_a6');
-- analysis_error before the end
UPDATE osmtalk.calls SET analysis_error = 'x' WHERE id = 'call_a7';
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_a7' RETURNING status;
SELECT * FROM lifecycle.lead('ld_a7');
-- with the end, in one statement: the outcome first
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"success": true}' WHERE id = 'call_a8';
SELECT * FROM lifecycle.lead('ld_a8');
-- any other status does not wait, and has no disposition; its analysis is the outcome all the same
UPDATE osmtalk.calls SET ended_at = now(), voicemail_detected = true WHERE id = 'call_a9';
SELECT * FROM lifecycle.lead('ld_a9');
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_a9';
SELECT * FROM lifecycle.lead('ld_a9');
-- ended longer ago than analysis_timeout: decided at once
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_b1', 'cmp_analyst', '+919876543252');
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at)
VALUES ('call_b1', 'ld_b1', now() - interval '1 hour', now() - osmtalk.analysis_timeout()) RETURNING status, decided_at = now() AS decided;
SELECT * FROM lifecycle.lead('ld_b1');
-- arrives ended and waiting; the wait is from now if the end is said to be in the future
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_b2', 'cmp_analyst', '+919876543253'), ('ld_b3', 'cmp_analyst', '+919876543254');
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at) VALUES ('call_b2', 'ld_b2', now() - interval '1 hour', now()) RETURNING status, decided_at;
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at)
VALUES ('call_b3', 'ld_b3', now(), '2100-01-01') RETURNING status, decided_at, awaiting_since = now() AS waits_from_now;
-- arrives ended and analysed
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_b4', 'cmp_analyst', '+919876543255');
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at, analysis) VALUES ('call_b4', 'ld_b4', now() - interval '1 hour', now(), '{"success": true}');
SELECT * FROM lifecycle.lead('ld_b4');
-- the configuration that counts is that of the call's agent, when it is decided
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_b5', 'cmp_plain', '+919876543256'), ('ld_b6', 'cmp_analyst', '+919876543256');
INSERT INTO osmtalk.calls (id, lead_id, agent_id, answered_at, ended_at, analysis) VALUES
	('call_b5', 'ld_b5', 'agent_analyst', now() - interval '1 hour', now(), '{"success": true}'),
	('call_b6', 'ld_b6', 'agent_plain', now() - interval '1 hour', now(), '{"success": true}');
SELECT * FROM lifecycle.lead('ld_b5');
SELECT * FROM lifecycle.lead('ld_b6');
-- retried or not, late analysis of the latest call is the lead's outcome
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_b7', 'cmp_retry', '+919876543257');
INSERT INTO osmtalk.calls (id, lead_id, agent_id, ended_at) VALUES ('call_b7', 'ld_b7', 'agent_analyst', now());
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_b7';
SELECT * FROM lifecycle.lead('ld_b7');
-- calls outside campaigns: the event of the analysis, once, and no other
INSERT INTO osmtalk.calls (id, agent_id, direction, phone_number, answered_at) VALUES ('call_b8', 'agent_analyst', 'web', NULL, now() - interval '1 min');
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_b8' RETURNING status, decided_at, awaiting_since;
UPDATE osmtalk.calls SET analysis = '{"sentiment": "positive"}' WHERE id = 'call_b8';
UPDATE osmtalk.calls SET analysis = '{"sentiment": "negative"}' WHERE id = 'call_b8';
UPDATE osmtalk.calls SET analysis = NULL WHERE id = 'call_b8';
UPDATE osmtalk.calls SET analysis = '{"sentiment": "neutral"}' WHERE id = 'call_b8';
SELECT type, org_id, campaign_id, lead_id, call_id, skipped_reason, body::jsonb -> 'analysis' AS analysis FROM osmtalk.events WHERE call_id = 'call_b8';
INSERT INTO osmtalk.calls (id, agent_id, analysis) VALUES ('call_b9', 'agent_plain', '{"sentiment": "positive"}') RETURNING analyzed_at = now() AS analyzed;
SELECT count(*) AS events FROM osmtalk.events WHERE call_id = 'call_b9';

-- ---------------------------------------------------------------------------
-- Only the latest call decides
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_o', 'cmp_analyst', '+919876543260');
INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_o1', 'ld_o', now() - interval '1 min');
INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_o2', 'ld_o', now() - interval '1 min');
SELECT * FROM lifecycle.lead('ld_o');
UPDATE osmtalk.calls SET ended_at = now(), error = 'bot crashed' WHERE id = 'call_o1' RETURNING status, decided_at;
SELECT * FROM lifecycle.lead('ld_o');
-- its analysis is its own too; the event of the analysis is not the lead's
UPDATE osmtalk.calls SET analysis = '{"lead_qualified": true}' WHERE id = 'call_o1';
SELECT * FROM lifecycle.lead('ld_o');
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"next_action": "not_interested"}' WHERE id = 'call_o2' RETURNING status, decided_at IS NOT NULL AS decided;
SELECT * FROM lifecycle.lead('ld_o');
-- after the newer one
UPDATE osmtalk.calls SET analysis = '{"success": true}', error = NULL WHERE id = 'call_o1';
SELECT * FROM lifecycle.lead('ld_o');
-- one that waited for its analysis when the next was placed
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_p', 'cmp_analyst', '+919876543261');
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at) VALUES ('call_p1', 'ld_p', now() - interval '1 min', now());
INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_p2', 'ld_p', now() - interval '1 min');
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_p1' RETURNING status, decided_at;
SELECT * FROM lifecycle.lead('ld_p');
-- one that was decided: its late analysis is no longer the lead's
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_q', 'cmp_plain', '+919876543262');
INSERT INTO osmtalk.calls (id, lead_id, ended_at, sip_status_code) VALUES ('call_q1', 'ld_q', now(), 503);
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_q2', 'ld_q');
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_q1';
SELECT * FROM lifecycle.lead('ld_q');
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = 'call_q2';
SELECT * FROM lifecycle.lead('ld_q');

-- ---------------------------------------------------------------------------
-- The application sets a lead's status itself
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_s' || i, 'cmp_analyst', '+919876543270' FROM generate_series(1, 9) i;
BEGIN;
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_s1' RETURNING completed_at = now() AS completed;
SELECT * FROM lifecycle.lead('ld_s1');
COMMIT;
-- from one terminal status into another is no transition
SELECT completed_at FROM osmtalk.leads WHERE id = 'ld_s1' \gset
UPDATE osmtalk.leads SET status = 'busy' WHERE id = 'ld_s1';
UPDATE osmtalk.leads SET status = 'completed' WHERE id = 'ld_s1' RETURNING completed_at = :'completed_at' AS completed_then;
SELECT * FROM lifecycle.lead('ld_s1');
-- back, and again
UPDATE osmtalk.leads SET status = 'pending' WHERE id = 'ld_s1';
SELECT * FROM lifecycle.lead('ld_s1');
UPDATE osmtalk.leads SET status = 'completed', disposition = 'qualified', outcome = '{"by": "hand"}' WHERE id = 'ld_s1';
SELECT * FROM lifecycle.lead('ld_s1');
SELECT body::jsonb #>> '{lead,disposition}' AS disposition, body::jsonb #> '{lead,outcome}' AS outcome, body::jsonb #> '{lead,callId}' AS call
  FROM osmtalk.events WHERE lead_id = 'ld_s1' ORDER BY id COLLATE "C" DESC LIMIT 1;
-- the same status once more, and any other column, say nothing
UPDATE osmtalk.leads SET status = status, variables = '{"a": 1}', attempts = 5, outcome = NULL WHERE id = 'ld_s1';
SELECT * FROM lifecycle.lead('ld_s1');
-- pending to calling and back is none either
UPDATE osmtalk.leads SET status = 'calling' WHERE id = 'ld_s2';
UPDATE osmtalk.leads SET status = 'pending' WHERE id = 'ld_s2';
SELECT * FROM lifecycle.lead('ld_s2');
-- while its call runs: the event has said so, and the call does not say otherwise
INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_s3', 'ld_s3', now() - interval '1 min');
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_s3';
UPDATE osmtalk.calls SET ended_at = now(), analysis = '{"success": true}' WHERE id = 'call_s3';
SELECT * FROM lifecycle.lead('ld_s3');
-- while its call waits for the analysis
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at) VALUES ('call_s4', 'ld_s4', now() - interval '1 min', now());
UPDATE osmtalk.leads SET status = 'completed', disposition = 'not_interested' WHERE id = 'ld_s4';
SELECT * FROM lifecycle.lead('ld_s4');
UPDATE osmtalk.calls SET analysis = '{"lead_qualified": false}' WHERE id = 'call_s4';
SELECT count(*) AS lead_events FROM osmtalk.events WHERE lead_id = 'ld_s4' AND type = 'campaign.lead_completed';
-- by a trigger of its own
CREATE FUNCTION lifecycle.give_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.status := 'failed';
	RETURN NEW;
END
$$;
CREATE TRIGGER a_give_up BEFORE UPDATE OF attempts ON osmtalk.leads
	FOR EACH ROW WHEN (NEW.attempts > 99) EXECUTE FUNCTION lifecycle.give_up();
UPDATE osmtalk.leads SET attempts = 100 WHERE id = 'ld_s5';
SELECT * FROM lifecycle.lead('ld_s5');
DROP TRIGGER a_give_up ON osmtalk.leads;
-- one that waited for its next attempt waits no longer
UPDATE osmtalk.leads SET next_attempt_at = now() + interval '1 day' WHERE id = 'ld_s8';
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'ld_s8';
SELECT * FROM lifecycle.lead('ld_s8');
-- inserting a lead that is already terminal sends nothing
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, status, disposition, attempts, call_id, outcome, completed_at)
VALUES ('ld_s6t', 'cmp_plain', '+919876543271', 'completed', 'qualified', 2, 'call_of_old', '{"a": 1}', '2020-01-01');
SELECT * FROM lifecycle.lead('ld_s6t');
-- disposition and completed_at follow from the status, whoever sets it
UPDATE osmtalk.leads SET status = 'failed', disposition = 'qualified' WHERE id = 'ld_s7';
SELECT * FROM lifecycle.lead('ld_s7');
UPDATE osmtalk.leads SET status = 'pending', disposition = 'qualified', completed_at = now() WHERE id = 'ld_s7';
SELECT * FROM lifecycle.lead('ld_s7');

-- ---------------------------------------------------------------------------
-- Deleting
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_x1', 'cmp_plain', '+919876543280'), ('ld_x2', 'cmp_analyst', '+919876543280');
INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_x1', 'ld_x1', now() - interval '1 min'), ('call_x2', 'ld_x2', now() - interval '1 min');
UPDATE osmtalk.calls SET ended_at = now() WHERE id IN ('call_x1', 'call_x2');
\set VERBOSITY sqlstate
DELETE FROM osmtalk.org_settings WHERE org_id = 'lifecycle';
DELETE FROM osmtalk.agents WHERE id = 'agent_plain';
DELETE FROM osmtalk.campaigns WHERE id = 'cmp_plain';
\set VERBOSITY default
DELETE FROM osmtalk.leads WHERE id IN ('ld_x1', 'ld_x2');
SELECT id, lead_id, status, decided_at IS NOT NULL AS decided FROM osmtalk.calls WHERE id IN ('call_x1', 'call_x2') ORDER BY id;
SELECT type, lead_id, call_id, body::jsonb #>> '{lead,id}' AS in_body FROM osmtalk.events WHERE lead_id IN ('ld_x1', 'ld_x2') ORDER BY id COLLATE "C";
-- the call lives on
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_x2' RETURNING status, decided_at;
SELECT type, campaign_id, lead_id FROM osmtalk.events WHERE call_id = 'call_x2';
DELETE FROM osmtalk.calls WHERE id IN ('call_x1', 'call_x2');
SELECT count(*) AS events FROM osmtalk.events WHERE call_id IN ('call_x1', 'call_x2');
-- a lead whose latest call is gone
DELETE FROM osmtalk.calls WHERE id = 'call_q2';
UPDATE osmtalk.calls SET analysis = '{"success": false}' WHERE id = 'call_q1';
SELECT * FROM lifecycle.lead('ld_q');
-- everything of an organisation, by the user's own deletes: the record of what was sent stays
BEGIN;
INSERT INTO osmtalk.org_settings (org_id) VALUES ('lifecycle3');
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('lifecycle3', '+919876543281');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_3', 'lifecycle3', 'short-lived');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_x3', 'cmp_3', '+919876543282');
INSERT INTO osmtalk.calls (id, lead_id, ended_at) VALUES ('call_x3', 'ld_x3', now());
DELETE FROM osmtalk.leads WHERE campaign_id = 'cmp_3';
DELETE FROM osmtalk.campaigns WHERE org_id = 'lifecycle3';
DELETE FROM osmtalk.calls WHERE org_id = 'lifecycle3';
DELETE FROM osmtalk.org_settings WHERE org_id = 'lifecycle3';
SELECT type, org_id, campaign_id, lead_id, call_id FROM osmtalk.events WHERE org_id = 'lifecycle3';
SELECT count(*) AS dnc_entries FROM osmtalk.dnc_entries WHERE org_id = 'lifecycle3';
COMMIT;

-- ---------------------------------------------------------------------------
-- The tenant boundary
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_t', 'cmp_plain', '+919876543290');
INSERT INTO osmtalk.calls (lead_id, org_id) VALUES ('ld_t', 'lifecycle2');
INSERT INTO osmtalk.calls (lead_id, agent_id) VALUES ('ld_t', 'agent_other_org');
\set VERBOSITY sqlstate
INSERT INTO osmtalk.calls (org_id, agent_id) VALUES ('lifecycle', 'agent_other_org');
INSERT INTO osmtalk.calls (lead_id, org_id, placed_at) VALUES ('ld_t', 'lifecycle2', now());
INSERT INTO osmtalk.campaigns (org_id, agent_id, name) VALUES ('lifecycle', 'agent_other_org', 'x');
UPDATE osmtalk.campaigns SET agent_id = 'agent_other_org' WHERE id = 'cmp_plain';
UPDATE osmtalk.campaigns SET org_id = 'lifecycle2' WHERE id = 'cmp_plain';
UPDATE osmtalk.agents SET org_id = 'lifecycle2' WHERE id = 'agent_plain';
UPDATE osmtalk.calls SET org_id = 'lifecycle2' WHERE id = 'call_1';
UPDATE osmtalk.calls SET agent_id = 'agent_other_org' WHERE id = 'call_1';
UPDATE osmtalk.leads SET campaign_id = 'cmp_other_org' WHERE id = 'ld_t';
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_t2', 'cmp_other_org', '+919876543291');
UPDATE osmtalk.calls SET lead_id = 'ld_t2' WHERE id = 'call_org';
UPDATE osmtalk.calls SET org_id = NULL WHERE id = 'call_org';
-- what does not exist
INSERT INTO osmtalk.calls (org_id) VALUES ('no such organisation');
INSERT INTO osmtalk.calls (phone_number) VALUES ('+919876543210');
INSERT INTO osmtalk.calls (lead_id) VALUES ('no such lead');
INSERT INTO osmtalk.calls (org_id, agent_id) VALUES ('lifecycle', 'no such agent');
INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('no such campaign', '+919876543210');
INSERT INTO osmtalk.calls (org_id, direction) VALUES ('lifecycle', 'sideways');
INSERT INTO osmtalk.leads (campaign_id, phone_number, variables) VALUES ('cmp_plain', '+919876543210', '[]');
\set VERBOSITY default
SELECT * FROM lifecycle.lead('ld_t');
UPDATE osmtalk.leads SET campaign_id = 'cmp_analyst' WHERE id = 'ld_t' RETURNING campaign_id;

-- ---------------------------------------------------------------------------
-- place_call(), place_next_call(), requeue_lead()
-- ---------------------------------------------------------------------------
\set VERBOSITY sqlstate
SELECT osmtalk.place_call('no such lead');
SELECT osmtalk.place_call(NULL);
SELECT osmtalk.place_call('ld_2');
SELECT osmtalk.place_call('ld_7');
SELECT osmtalk.place_call('ld_3');
SELECT osmtalk.requeue_lead('no such lead');
SELECT osmtalk.requeue_lead(NULL);
SELECT osmtalk.requeue_lead('ld_t');
SELECT osmtalk.requeue_lead('ld_3');
\set VERBOSITY default
SELECT osmtalk.place_call('ld_2');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_next', 'lifecycle', 'next');
SELECT c IS NULL AS none FROM osmtalk.place_next_call('cmp_next') c;
SELECT c IS NULL AS none FROM osmtalk.place_next_call('no such campaign') c;
SELECT c IS NULL AS none FROM osmtalk.place_next_call(NULL) c;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, status, next_attempt_at) VALUES
	('ld_n1', 'cmp_next', '+919876543301', 'pending', now() - interval '1 min'),
	('ld_n2', 'cmp_next', '+919876543302', 'pending', now() - interval '1 hour'),
	('ld_n3', 'cmp_next', '+919876543303', 'pending', now() + interval '1 hour'),
	('ld_n4', 'cmp_next', '+919876543304', 'pending', NULL),
	('ld_n5', 'cmp_next', '+919876543305', 'completed', NULL),
	('ld_n6', 'cmp_next', '+919876543306', 'calling', NULL),
	('ld_n7', 'cmp_next', '+919876543307', 'pending', NULL),
	('ld_n8', 'cmp_next', '+919876543308', 'pending', 'infinity'),
	('ld_n9', 'cmp_next', '+919876543309', 'pending', '-infinity');
SELECT id FROM osmtalk.due_leads WHERE campaign_id = 'cmp_next' ORDER BY id;
SELECT lead_id, status, phone_number FROM osmtalk.place_next_call('cmp_next');
SELECT lead_id FROM osmtalk.place_next_call('cmp_next');
SELECT lead_id FROM osmtalk.place_next_call('cmp_next');
SELECT lead_id FROM osmtalk.place_next_call('cmp_next');
SELECT lead_id FROM osmtalk.place_next_call('cmp_next');
SELECT c IS NULL AS none FROM osmtalk.place_next_call('cmp_next') c;
SELECT id, status, attempts, next_attempt_at FROM osmtalk.leads WHERE campaign_id = 'cmp_next' AND id NOT IN ('ld_n3') ORDER BY id;
-- not due yet: no dialer gets it, but it may be called
SELECT lead_id, status FROM osmtalk.place_call('ld_n3');
-- a terminal lead becomes pending again, due at once or later
BEGIN;
SELECT osmtalk.requeue_lead('ld_7');
SELECT * FROM lifecycle.lead('ld_7');
SELECT next_attempt_at = now() AS due_now FROM osmtalk.leads WHERE id = 'ld_7';
SELECT lead_id, status FROM osmtalk.place_next_call('cmp_plain');
UPDATE osmtalk.calls SET ended_at = now() WHERE lead_id = 'ld_7' AND status = 'queued';
SELECT status, attempts FROM osmtalk.leads WHERE id = 'ld_7';
SELECT count(*) AS lead_events FROM osmtalk.events WHERE lead_id = 'ld_7' AND type = 'campaign.lead_completed';
SELECT osmtalk.requeue_lead('ld_7', now() + interval '1 day');
SELECT status, next_attempt_at - now() AS due FROM osmtalk.leads WHERE id = 'ld_7';
SELECT osmtalk.requeue_lead(lead_id => 'ld_a1', at => NULL);
SELECT status, disposition, next_attempt_at, outcome, completed_at FROM osmtalk.leads WHERE id = 'ld_a1';
ROLLBACK;

-- a call that is deleted before it has decided its lead
BEGIN;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_gone', 'cmp_plain', '+919876543299');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_gone', 'ld_gone');
SAVEPOINT calling;
SELECT osmtalk.requeue_lead('ld_gone');
ROLLBACK TO calling;
DELETE FROM osmtalk.calls WHERE id = 'call_gone';
SELECT osmtalk.requeue_lead('ld_gone');
SELECT status, attempts, next_attempt_at = now() AS due FROM osmtalk.leads WHERE id = 'ld_gone';
-- and an application that decides while the call runs: its status stands, the analysis is the call's
INSERT INTO osmtalk.calls (id, lead_id, agent_id) VALUES ('call_word', 'ld_gone', 'agent_analyst');
UPDATE osmtalk.leads SET status = 'completed' WHERE id = 'ld_gone';
UPDATE osmtalk.calls SET answered_at = now() - interval '1 minute', ended_at = now(), analysis = '{"success": true}' WHERE id = 'call_word';
SELECT status, disposition, outcome FROM osmtalk.leads WHERE id = 'ld_gone';
SELECT count(*) AS events FROM osmtalk.events WHERE lead_id = 'ld_gone' AND type = 'campaign.lead_completed';
ROLLBACK;

-- ---------------------------------------------------------------------------
-- Calls that never end, analysis that never comes
-- ---------------------------------------------------------------------------
-- In one transaction each, so that the worker does not do it first.
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
SELECT 'ld_e' || i, CASE WHEN i = 4 THEN 'cmp_analyst' ELSE 'cmp_plain' END, '+919876543310' FROM generate_series(1, 8) i;
CREATE FUNCTION lifecycle.age(call_id text, by interval) RETURNS void LANGUAGE plpgsql
SET session_replication_role = replica AS $$
BEGIN
	UPDATE osmtalk.calls c SET placed_at = placed_at - by, awaiting_since = awaiting_since - by, ended_at = ended_at - by
	 WHERE c.id = age.call_id;
END
$$;
BEGIN;
INSERT INTO osmtalk.calls (id, lead_id) SELECT 'call_e' || i, 'ld_e' || i FROM generate_series(1, 3) i;
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at) VALUES ('call_e4', 'ld_e4', now() - interval '1 h', now());
INSERT INTO osmtalk.calls (id, org_id, started_at) VALUES ('call_e5', 'lifecycle', now());
INSERT INTO osmtalk.calls (id, lead_id, ended_at) VALUES ('call_e6', 'ld_e6', now());
INSERT INTO osmtalk.calls (id, lead_id, answered_at, error) VALUES ('call_e7', 'ld_e7', now(), 'the bot stutters');
INSERT INTO osmtalk.calls (id, lead_id, sip_status_code) VALUES ('call_e8', 'ld_e8', 486);
SELECT osmtalk.expire_calls();
SELECT lifecycle.age('call_e1', '59 min'), lifecycle.age('call_e2', '61 min'), lifecycle.age('call_e3', '4 h'),
	   lifecycle.age('call_e4', '5 min'), lifecycle.age('call_e5', '10 years'), lifecycle.age('call_e6', '10 years'),
	   lifecycle.age('call_e7', '5 h'), lifecycle.age('call_e8', '5 h');
SELECT id FROM osmtalk.stale_calls WHERE id LIKE 'call_e_' ORDER BY id;
SELECT osmtalk.expire_calls();
SELECT id, status, error, ended_at = now() AS ended_now, decided_at = now() AS decided_now FROM osmtalk.calls WHERE id LIKE 'call_e_' ORDER BY id;
SELECT id, status, disposition FROM osmtalk.leads WHERE id LIKE 'ld_e_' ORDER BY id;
SELECT lead_id, count(*) AS events FROM osmtalk.events WHERE lead_id LIKE 'ld_e_' GROUP BY lead_id ORDER BY lead_id;
SELECT osmtalk.expire_calls();
-- what is said to be timed out is frozen as well
UPDATE osmtalk.calls SET ended_at = now(), error = NULL, answered_at = now() - interval '1 h' WHERE id = 'call_e3' RETURNING status;
-- the analysis comes after the wait
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id = 'call_e4';
SELECT * FROM lifecycle.lead('ld_e4');
ROLLBACK;
-- at most so many of each
BEGIN;
INSERT INTO osmtalk.calls (id, org_id) SELECT 'call_f' || i, 'lifecycle' FROM generate_series(1, 5) i;
SELECT lifecycle.age('call_f' || i, i * interval '1 day') FROM generate_series(1, 5) i \g /dev/null
SELECT osmtalk.expire_calls(2);
SELECT id, status FROM osmtalk.calls WHERE id LIKE 'call_f_' ORDER BY id;
-- a call of another origin is not ours to time out, nor is history
UPDATE osmtalk.calls SET origin = '0/0' WHERE id = 'call_f1';
INSERT INTO osmtalk.calls (id, org_id, placed_at, status) VALUES ('call_f6', 'lifecycle', '2020-01-01', 'in_progress');
SELECT osmtalk.expire_calls();
SELECT id, status FROM osmtalk.calls WHERE id LIKE 'call_f_' ORDER BY id;
-- with a time-out, the retry policy applies as to any failure
UPDATE osmtalk.campaigns SET max_attempts = 2 WHERE id = 'cmp_plain';
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_g1', 'ld_e1');
SELECT lifecycle.age('call_g1', '5 h') \g /dev/null
SELECT osmtalk.expire_calls();
SELECT * FROM lifecycle.lead('ld_e1');
-- one that a trigger of the user's refuses does not hold up the others
INSERT INTO osmtalk.calls (id, org_id) VALUES ('call_i1', 'lifecycle'), ('call_i2', 'lifecycle'), ('call_i3', 'lifecycle');
SELECT lifecycle.age('call_i1', '3 days'), lifecycle.age('call_i2', '2 days'), lifecycle.age('call_i3', '1 day') \g /dev/null
CREATE FUNCTION lifecycle.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	ASSERT NEW.id <> 'call_i2', 'refused by an assertion';
	RAISE 'refused';
END
$$;
CREATE TRIGGER refuse AFTER UPDATE ON osmtalk.calls FOR EACH ROW WHEN (NEW.id <> 'call_i3') EXECUTE FUNCTION lifecycle.refuse();
SELECT osmtalk.expire_calls();
SELECT id, status FROM osmtalk.calls WHERE id LIKE 'call_i_' ORDER BY id;
ROLLBACK;

-- ---------------------------------------------------------------------------
-- campaign_report
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_report0', 'lifecycle', 'empty'), ('cmp_report1', 'lifecycle', 'full');
INSERT INTO osmtalk.leads (campaign_id, phone_number, status, disposition)
SELECT 'cmp_report1', '+919876543320', s::osmtalk.lead_status, d
  FROM (VALUES ('completed', 'qualified', 3), ('completed', 'callback', 2), ('completed', 'not_interested', 1), ('completed', 'completed', 4),
			   ('pending', NULL, 2), ('dnc_blocked', NULL, 1), ('voicemail', NULL, 1)) t (s, d, n), generate_series(1, n);
SELECT * FROM osmtalk.campaign_report WHERE campaign_id LIKE 'cmp_report%' ORDER BY campaign_id;

-- ---------------------------------------------------------------------------
-- explain_outcome(): of all of these
-- ---------------------------------------------------------------------------
CREATE TABLE lifecycle.explained AS
SELECT c.id, c.status::text AS call, l.status::text AS lead, l.disposition, l.call_id = c.id AS latest, e.*
  FROM osmtalk.calls c LEFT JOIN osmtalk.leads l ON l.id = c.lead_id,
	   LATERAL (SELECT count(*) FILTER (WHERE x.decision = 'call' AND x.winner) AS winners, max(x.result) FILTER (WHERE x.decision = 'call' AND x.winner) AS call_said,
					   max(x.result) FILTER (WHERE x.decision = 'lead' AND x.winner) AS lead_said,
					   max(x.result) FILTER (WHERE x.decision = 'disposition' AND x.winner) AS disposition_said,
					   max(x.explanation) FILTER (WHERE x.decision = 'summary') AS summary
				  FROM osmtalk.explain_outcome(c.id) x) e
 WHERE c.org_id LIKE 'lifecycle%';
-- it never says otherwise than the rows
SELECT * FROM lifecycle.explained
 WHERE winners <> 1 OR call_said IS DISTINCT FROM call
	OR (latest AND summary !~ 'made \w+ again since' AND call NOT IN ('queued', 'in_progress')
		AND (lead_said IS DISTINCT FROM lead OR (lead = 'completed' AND disposition_said IS DISTINCT FROM disposition)));
SELECT count(*) > 80 AS many FROM lifecycle.explained;
SELECT id, regexp_replace(regexp_replace(summary, '\d{4}-\d\d-\d\dT[\d:.]+Z', '<time>', 'g'), 'ended [\d.]+ s', 'ended <n> s') AS summary
  FROM lifecycle.explained WHERE id !~ '^call_[0-9a-v]{27}$' ORDER BY id COLLATE "C";

-- ---------------------------------------------------------------------------
-- Updates that finalise nothing write nothing
-- ---------------------------------------------------------------------------
SELECT count(*) AS events FROM osmtalk.events WHERE org_id LIKE 'lifecycle%' \gset before_
UPDATE osmtalk.calls SET transcript = 'x', metadata = '{"x": 1}', dynamic_variables = '{"y": 2}', phone_number = 'z', direction = 'web'
 WHERE org_id LIKE 'lifecycle%';
UPDATE osmtalk.calls SET ended_at = ended_at, started_at = started_at, status = status, analysis = analysis WHERE org_id LIKE 'lifecycle%';
UPDATE osmtalk.leads SET variables = '{"x": 1}', status = status WHERE campaign_id IN (SELECT id FROM osmtalk.campaigns WHERE org_id LIKE 'lifecycle%');
UPDATE osmtalk.agents SET enable_sentiment = true WHERE id = 'agent_plain';
UPDATE osmtalk.campaigns SET name = 'renamed', retry_backoff = '1 day', max_attempts = 9 WHERE org_id LIKE 'lifecycle%';
SELECT count(*) - :before_events AS new_events FROM osmtalk.events WHERE org_id LIKE 'lifecycle%';

-- Every lead's transitions and events balance: never two events for one call and lead status.
SELECT lead_id, call_id, count(*) FROM osmtalk.events
 WHERE org_id LIKE 'lifecycle%' AND type = 'campaign.lead_completed' AND call_id IS NOT NULL
 GROUP BY lead_id, call_id HAVING count(*) > 1;
SELECT call_id, count(*) FROM osmtalk.events
 WHERE org_id LIKE 'lifecycle%' AND type = 'call.analysis_completed' GROUP BY call_id HAVING count(*) > 1;
SELECT count(*) AS enqueued FROM osmtalk.outbox o JOIN osmtalk.events e ON e.id = o.event_id WHERE e.org_id LIKE 'lifecycle%';
SELECT DISTINCT skipped_reason FROM osmtalk.events WHERE org_id LIKE 'lifecycle%';

SET client_min_messages = warning;
DROP SCHEMA lifecycle CASCADE;
