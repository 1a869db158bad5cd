-- What the scenarios share: an organisation, a body of the usual size, and
-- leads with a call in progress.  Run in a database with the extension.
-- psql variable: secret.

SET client_min_messages = warning;
CREATE SCHEMA bench;

-- About 540 bytes, as a campaign.lead_completed with an analysis is.
CREATE FUNCTION bench.body(i bigint) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN '{"event":"campaign.lead_completed","timestamp":"2026-05-06T11:23:45.123Z","campaign":{"id":"cmp_0m1qd0ed8jq5k3v7h2t9r4b6","name":"Q2 Renewals — Mumbai"},"lead":{"id":"ld_'
	|| lpad(i::text, 27, '0')
	|| '","phoneNumber":"+919876543210","variables":{"company":"Acme","first_name":"Arjun","policy_type":"Health"},"status":"completed","disposition":"qualified","attempts":1,"callId":"call_'
	|| lpad(i::text, 27, '0')
	|| '","outcome":{"success":true,"summary":"Caller interested in Pro tier. Confirmed demo Friday 3pm.","sentiment":"positive","budget_inr":250000,"next_action":"book_demo","lead_qualified":true}}}';

INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('acme', :'secret');

-- Leads of these campaigns in turn that are being called, ids ld_<n> and call_<n>.
CREATE FUNCTION bench.place_calls(campaigns text[], first bigint, n bigint) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO osmtalk.leads (id, campaign_id, phone_number, variables)
	SELECT 'ld_' || i, campaigns[1 + i % cardinality(campaigns)], '+9198' || lpad(i::text, 8, '0'),
		   '{"company": "Acme", "first_name": "Arjun", "policy_type": "Health"}'
	  FROM generate_series(first, first + n - 1) i;
	INSERT INTO osmtalk.calls (id, lead_id, started_at)
	SELECT 'call_' || i, 'ld_' || i, now()
	  FROM generate_series(first, first + n - 1) i;
END;
