-- setup demo: an organisation, its agents and a campaign as in the README, with
-- calls of every outcome; nothing can be delivered, for nobody listens.
SET client_min_messages = error;
ALTER SYSTEM SET osmtalk.trusted_networks = '127.0.0.0/8';
SELECT pg_reload_conf();
INSERT INTO osmtalk.org_settings VALUES ('acme', 'http://127.0.0.1:9/webhooks', 'whsec_only_an_example')
ON CONFLICT DO NOTHING;
INSERT INTO osmtalk.agents (id, org_id, name, enable_success_evaluation)
VALUES ('agent_renewals', 'acme', 'Renewals agent', true);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name)
VALUES ('cmp_renewals', 'acme', 'agent_renewals', 'Q2 Renewals — Mumbai');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
SELECT 'ld_' || n, 'cmp_renewals', '+91987654321' || n, '{"first_name": "Arjun", "company": "Acme"}'
  FROM generate_series(0, 9) AS n;
INSERT INTO osmtalk.calls (id, lead_id, started_at) SELECT 'call_' || n, 'ld_' || n, now() FROM generate_series(0, 7) AS n;
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = 'call_0';
UPDATE osmtalk.calls SET ended_at = now() WHERE id = 'call_1';
UPDATE osmtalk.calls SET ended_at = now(), error = 'the bot crashed' WHERE id = 'call_2';
UPDATE osmtalk.calls SET answered_at = now() - interval '20 s', ended_at = now(), voicemail_detected = true WHERE id = 'call_3';
UPDATE osmtalk.calls SET answered_at = now() - interval '42 s', ended_at = now(), sip_status_code = 200,
       transcript = 'Hello', analysis = '{"success": true, "summary": "wants a demo", "next_action": "book_demo"}'
 WHERE id = 'call_4';
UPDATE osmtalk.calls SET answered_at = now() - interval '42 s', ended_at = now(), sip_status_code = 200,
       analysis = '{"next_action": "not_interested"}'
 WHERE id = 'call_5';
SELECT osmtalk.wait_until_drained();
