-- setup explained: for doc/explain.md, a call whose lead is tried again, and one that
-- is over; nobody is called
INSERT INTO osmtalk.org_settings VALUES ('acme', 'https://crm.example.com/webhooks', 'whsec_only_an_example');
INSERT INTO osmtalk.campaigns (id, org_id, name, max_attempts, retry_on)
VALUES ('cmp_renewals', 'acme', 'Q2 Renewals — Mumbai', 3, '{busy}');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number)
VALUES ('ld_arjun', 'cmp_renewals', '+919876543210'), ('ld_mira', 'cmp_renewals', '+919876543211');
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call_1', 'ld_arjun'), ('call_2', 'ld_mira');
UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = 'call_1';
UPDATE osmtalk.calls SET answered_at = now() - interval '42 s', ended_at = now(), sip_status_code = 200 WHERE id = 'call_2';
