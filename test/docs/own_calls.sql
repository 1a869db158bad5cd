-- setup own_calls: leads for doc/recipes/own-calls.md, called before it
INSERT INTO osmtalk.org_settings (org_id) VALUES ('acme');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_1', 'acme', 'Renewals');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_' || n, 'cmp_1', '+4930123456' || n FROM generate_series(1, 3) AS n;
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('acme', '+49301234563');
