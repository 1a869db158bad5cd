-- The demonstration's organisation, agent, campaign and leads.
-- psql variables: default_url, default_secret, campaign_url, campaign_secret.

CREATE EXTENSION osmtalk;

INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret)
VALUES ('acme', :'default_url', :'default_secret');

INSERT INTO osmtalk.agents (org_id, name, enable_sentiment, enable_success_evaluation, post_call_analysis)
VALUES ('acme', 'Renewals agent', true, true, '{
	"enabled": true,
	"schema": [
		{"name": "lead_qualified", "type": "boolean", "required": true},
		{"name": "next_action", "type": "enum",
		 "enumValues": ["book_demo", "callback_later", "not_interested", "send_brochure"]},
		{"name": "budget_inr", "type": "number"}
	]}')
RETURNING id AS agent \gset

-- A lead that does not pick up gets a second call, at once: nobody wants to
-- watch a demonstration wait for an hour.
INSERT INTO osmtalk.campaigns
	(org_id, agent_id, name, webhook_url, webhook_secret, max_attempts, retry_backoff, retry_on)
VALUES
	('acme', :'agent', 'Q2 Renewals — Mumbai', :'campaign_url', :'campaign_secret', 2, '0 s', '{no_answer}')
RETURNING id AS campaign \gset

-- The CRM's export, phone numbers spelled as people spell them.
CREATE TEMPORARY TABLE imported (phone_number text, first_name text, company text, policy_type text);
\copy imported FROM 'leads.csv' WITH (FORMAT csv, HEADER)
INSERT INTO osmtalk.leads (campaign_id, phone_number, variables)
SELECT :'campaign', phone_number, to_jsonb(imported) - 'phone_number' FROM imported;

INSERT INTO osmtalk.dnc_entries (org_id, phone_number, reason, source)
VALUES ('acme', '+91 98925-80123', 'asked not to be called', 'opt_out');
