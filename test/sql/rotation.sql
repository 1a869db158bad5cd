--
-- Secrets: how one is replaced, what is said of weak ones, and that messages
-- about rows that hold them do not show them.
--
\set SHOW_CONTEXT always
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;

CREATE SCHEMA rotation;
INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('rotation', 'the first of the organisation'), ('rotation_none', NULL), ('rotation_other', '');
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES
	('cmp_rotation', 'rotation', 'Its own', 'the first of the campaign'), ('cmp_rotation_org', 'rotation', 'The organisation''s', ''),
	('cmp_rotation_other', 'rotation_other', 'Other', NULL);
-- secrets have names here: each is random, and new at each run
CREATE TABLE rotation.known (secret text PRIMARY KEY, name text);
INSERT INTO rotation.known SELECT webhook_secret, webhook_secret FROM osmtalk.org_settings WHERE org_id = 'rotation'
 UNION ALL SELECT webhook_secret, webhook_secret FROM osmtalk.campaigns WHERE id = 'cmp_rotation';
CREATE FUNCTION rotation.rotate(name text, org_id text, campaign_id text DEFAULT NULL, overlap interval DEFAULT '24 hours') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	made constant text := osmtalk.rotate_webhook_secret(org_id, campaign_id, overlap);
BEGIN
	INSERT INTO rotation.known VALUES (made, name);
	RETURN regexp_replace(made, '[A-Za-z0-9+/]{43}=$', '(base64 of 32 bytes)');
END
$$;
CREATE FUNCTION rotation.signs(org_id text, campaign_id text DEFAULT NULL, OUT current text, OUT previous text, type text DEFAULT 'campaign.lead_completed') LANGUAGE sql AS $$
	SELECT k.name, (SELECT string_agg(o.name, ', ' ORDER BY p.n) FROM unnest(t.previous_secrets) WITH ORDINALITY p (secret, n) LEFT JOIN rotation.known o USING (secret))
	  FROM osmtalk.delivery_target(type, org_id, campaign_id) t LEFT JOIN rotation.known k ON k.secret = t.secret
$$;
-- as if that had been so long ago
CREATE FUNCTION rotation.wait(so_long interval) RETURNS void LANGUAGE sql AS $$
	UPDATE osmtalk.previous_secrets SET valid_until = valid_until - so_long WHERE org_id LIKE 'rotation%'
$$;

-- ---------------------------------------------------------------------------
-- The organisation's
-- ---------------------------------------------------------------------------
SELECT * FROM rotation.signs('rotation');
SELECT rotation.rotate('second', 'rotation');
SELECT * FROM rotation.signs('rotation');
SELECT name, length(webhook_secret) FROM osmtalk.org_settings JOIN rotation.known ON secret = webhook_secret WHERE org_id = 'rotation';
BEGIN;
SELECT rotation.rotate('never', 'rotation', overlap => '90 min');
SELECT name, valid_until - now() AS valid_for FROM osmtalk.previous_secrets JOIN rotation.known USING (secret) WHERE org_id = 'rotation' ORDER BY id;
ROLLBACK;
SELECT * FROM rotation.signs('rotation');
-- again within the overlap: both are valid, each until its own end
SELECT rotation.wait('12 hours');
SELECT rotation.rotate('third', 'rotation');
SELECT * FROM rotation.signs('rotation');
SELECT rotation.wait('12 hours');
SELECT * FROM rotation.signs('rotation');
SELECT rotation.wait('12 hours');
SELECT * FROM rotation.signs('rotation');
-- what is over goes with the next rotation
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id = 'rotation';
SELECT rotation.rotate('fourth', 'rotation');
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id = 'rotation';
-- three stay at the most, the latest
SELECT rotation.rotate(name, 'rotation') IS NOT NULL AS rotated FROM unnest('{fifth,sixth,seventh}'::text[]) name;
SELECT * FROM rotation.signs('rotation');
-- a shorter overlap is one for all that were replaced, none is for an emergency
SELECT rotation.rotate('eighth', 'rotation', overlap => '1 hour');
SELECT rotation.wait('1 hour');
SELECT * FROM rotation.signs('rotation');
SELECT rotation.rotate('ninth', 'rotation');
SELECT rotation.rotate('tenth', 'rotation', overlap => '0');
SELECT * FROM rotation.signs('rotation');
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id = 'rotation';
-- there was none before
SELECT * FROM rotation.signs('rotation_none');
SELECT rotation.rotate('its first', 'rotation_none');
SELECT * FROM rotation.signs('rotation_none');
SELECT rotation.rotate('the other''s first', 'rotation_other');
SELECT * FROM rotation.signs('rotation_other');

-- ---------------------------------------------------------------------------
-- The campaign's
-- ---------------------------------------------------------------------------
SELECT rotation.rotate('campaign''s second', 'rotation', 'cmp_rotation');
SELECT * FROM rotation.signs('rotation', 'cmp_rotation');
SELECT * FROM rotation.signs('rotation');
SELECT * FROM rotation.signs('rotation', 'cmp_rotation', type => 'call.analysis_completed');
-- one that had none was signed with the organisation's
SELECT * FROM rotation.signs('rotation', 'cmp_rotation_org');
SELECT rotation.rotate('campaign''s own', 'rotation', 'cmp_rotation_org');
SELECT * FROM rotation.signs('rotation', 'cmp_rotation_org');
SELECT * FROM rotation.signs('rotation');
-- of which nothing is left there either, once it is replaced for good
SELECT rotation.rotate('eleventh', 'rotation');
SELECT * FROM rotation.signs('rotation', 'cmp_rotation_org');
SELECT rotation.rotate('twelfth', 'rotation', overlap => '0');
SELECT * FROM rotation.signs('rotation', 'cmp_rotation_org');
SELECT * FROM rotation.signs('rotation', 'cmp_rotation');

-- ---------------------------------------------------------------------------
-- By hand in between
-- ---------------------------------------------------------------------------
SELECT rotation.rotate('thirteenth', 'rotation');
INSERT INTO rotation.known VALUES ('one set by hand in between', 'by hand');
UPDATE osmtalk.org_settings SET webhook_secret = 'one set by hand in between' WHERE org_id = 'rotation';
SELECT * FROM rotation.signs('rotation');
-- back to what was replaced: not valid twice
UPDATE osmtalk.org_settings SET webhook_secret = (SELECT secret FROM rotation.known WHERE name = 'twelfth') WHERE org_id = 'rotation';
SELECT * FROM rotation.signs('rotation');
SELECT rotation.rotate('fourteenth', 'rotation');
SELECT * FROM rotation.signs('rotation');
-- none now: nothing is signed, with an old one neither
UPDATE osmtalk.org_settings SET webhook_secret = '' WHERE org_id = 'rotation';
SELECT * FROM rotation.signs('rotation');
UPDATE osmtalk.org_settings SET webhook_secret = (SELECT secret FROM rotation.known WHERE name = 'fourteenth') WHERE org_id = 'rotation';
-- the campaign has none of its own any more: the organisation's, with what is valid there
UPDATE osmtalk.campaigns SET webhook_secret = NULL WHERE id = 'cmp_rotation';
SELECT * FROM rotation.signs('rotation', 'cmp_rotation');
-- a campaign that goes takes its secrets along, an organisation too
DELETE FROM osmtalk.campaigns WHERE id IN ('cmp_rotation', 'cmp_rotation_org');
SELECT count(*) FILTER (WHERE campaign_id IS NOT NULL) AS of_campaigns, count(*) FILTER (WHERE campaign_id IS NULL) > 0 AS of_it FROM osmtalk.previous_secrets WHERE org_id = 'rotation';
DELETE FROM osmtalk.org_settings WHERE org_id = 'rotation';
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id = 'rotation';
-- or one that takes another id, or goes with all of them
BEGIN;
INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('rotation_moves', 'the secret of one that moves');
SELECT rotation.rotate('its second', 'rotation_moves');
UPDATE osmtalk.org_settings SET org_id = 'rotation_moved' WHERE org_id = 'rotation_moves';
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id LIKE 'rotation_move%';
SELECT rotation.rotate('its third', 'rotation_moved');
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id = 'rotation_moved';
SET LOCAL client_min_messages = warning;
TRUNCATE osmtalk.org_settings CASCADE;
SELECT count(*) FROM osmtalk.previous_secrets WHERE org_id = 'rotation_moved';
ROLLBACK;
-- what is over is removed by the worker, too
INSERT INTO osmtalk.previous_secrets (org_id, secret, valid_until) VALUES ('rotation_other', 'over', now() - interval '1 s'), ('rotation_other', 'not over', 'infinity');
SELECT osmtalk.apply_retention() >= 0 AS applied;
SELECT secret FROM osmtalk.previous_secrets WHERE org_id = 'rotation_other' ORDER BY secret;

-- ---------------------------------------------------------------------------
-- What cannot be
-- ---------------------------------------------------------------------------
\set VERBOSITY sqlstate
SELECT osmtalk.rotate_webhook_secret('rotation_unknown');
SELECT osmtalk.rotate_webhook_secret(NULL);
SELECT osmtalk.rotate_webhook_secret('rotation_other', 'cmp_unknown');
SELECT osmtalk.rotate_webhook_secret('rotation_none', 'cmp_rotation_other');
SELECT osmtalk.rotate_webhook_secret('rotation_unknown', 'cmp_rotation_other');
SELECT osmtalk.rotate_webhook_secret(NULL, 'cmp_rotation_other');
SELECT osmtalk.rotate_webhook_secret('rotation_other', overlap => NULL);
SELECT osmtalk.rotate_webhook_secret('rotation_other', overlap => '-1 s');
SELECT osmtalk.rotate_webhook_secret('rotation_other', overlap => '1 year 1 us');
SELECT osmtalk.rotate_webhook_secret('rotation_other', overlap => '-290000 years 104400000 days');
\set VERBOSITY default
SELECT osmtalk.rotate_webhook_secret('rotation_other', overlap => '-1 s');
SELECT rotation.rotate('in a year', 'rotation_other', overlap => '1 year');

-- ---------------------------------------------------------------------------
-- Weak ones are remarked upon, none is refused
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('rotation_weak', 'fifteen bytes..');
UPDATE osmtalk.org_settings SET webhook_secret = 'sixteen bytes...' WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = 'ééééééé' WHERE org_id = 'rotation_weak';
-- not again if it is the same
UPDATE osmtalk.org_settings SET webhook_secret = 'ééééééé', default_webhook_url = 'https://weak.example' WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = 'éééééééé' WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = repeat(E' \t\n\r', 5) WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = repeat('x', 8192) WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = repeat('x', 8193) WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = '' WHERE org_id = 'rotation_weak';
UPDATE osmtalk.org_settings SET webhook_secret = NULL WHERE org_id = 'rotation_weak';
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES ('cmp_rotation_weak', 'rotation_weak', 'Weak', 'weak');
UPDATE osmtalk.campaigns SET name = 'Weak still' WHERE id = 'cmp_rotation_weak';
UPDATE osmtalk.campaigns SET webhook_secret = 'week' WHERE id = 'cmp_rotation_weak';
COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;
rotation_copy1	\N	copied
\.
-- an upsert
INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('rotation_weak', 'a strong enough one')
	ON CONFLICT (org_id) DO UPDATE SET webhook_secret = EXCLUDED.webhook_secret;

-- ---------------------------------------------------------------------------
-- What a message does not show
-- ---------------------------------------------------------------------------
UPDATE osmtalk.org_settings SET webhook_secret = 'canary of the organisation' WHERE org_id = 'rotation_weak';
UPDATE osmtalk.campaigns SET webhook_secret = 'canary of the campaign' WHERE id = 'cmp_rotation_weak';
-- constraints
UPDATE osmtalk.org_settings SET org_id = NULL WHERE org_id = 'rotation_weak';
UPDATE osmtalk.campaigns SET name = NULL WHERE id = 'cmp_rotation_weak';
UPDATE osmtalk.campaigns SET org_id = NULL WHERE id = 'cmp_rotation_weak';
UPDATE osmtalk.campaigns SET max_attempts = 0 WHERE id = 'cmp_rotation_weak';
UPDATE osmtalk.campaigns SET retry_backoff = '-1 s' WHERE id = 'cmp_rotation_weak';
UPDATE osmtalk.campaigns SET retry_on = '{completed}' WHERE id = 'cmp_rotation_weak';
UPDATE osmtalk.previous_secrets SET valid_until = NULL WHERE org_id = 'rotation_other';
INSERT INTO osmtalk.campaigns SELECT (c).* FROM (SELECT c FROM osmtalk.campaigns c WHERE id = 'cmp_rotation_weak') c;
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) SELECT 'cmp_rotation_3', 'rotation_unknown', name, webhook_secret FROM osmtalk.campaigns WHERE id = 'cmp_rotation_weak';
-- of the user's own
ALTER TABLE osmtalk.campaigns ADD CONSTRAINT rotation_users CHECK (name <> 'forbidden');
UPDATE osmtalk.campaigns SET name = 'forbidden' WHERE id = 'cmp_rotation_weak';
ALTER TABLE osmtalk.campaigns DROP CONSTRAINT rotation_users;
-- invalid URLs, with the secret beside
UPDATE osmtalk.campaigns SET webhook_url = 'gopher://canary' WHERE id = 'cmp_rotation_weak';
-- COPY shows its lines
COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;
rotation_copy2	\N	canary in a line
rotation_weak	\N	canary in a line
\.
COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;
canary in too short a line
\.
COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;
rotation_copy2	\N	canary in a line	and more
\.
COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;
rotation_copy2	gopher://canary	canary in a line
\.
COPY osmtalk.org_settings (default_webhook_url, webhook_secret) FROM stdin;
\N	canary in a line
\.
COPY osmtalk.campaigns (id, org_id, name, webhook_secret, max_attempts) FROM stdin;
cmp_rotation_2	rotation_weak	Good	canary in a line	1
cmp_rotation_3	rotation_weak	Bad	canary in a line	many
\.
COPY osmtalk.campaigns (id, org_id, name, webhook_secret, max_attempts) FROM stdin;
cmp_rotation_3	rotation_weak	Bad	canary in a line	many
\.
COPY osmtalk.campaigns (id, org_id, name, webhook_secret, max_attempts) FROM stdin;
cmp_rotation_3	rotation_weak	Bad	canary in a line	0
\.
COPY osmtalk.campaigns (id, org_id, name, webhook_secret) FROM stdin (FORMAT csv);
cmp_rotation_3,rotation_weak,Bad,"canary
in a line"x"
\.
COPY osmtalk.previous_secrets FROM stdin;
canary in too short a line
\.
-- where the triggers do not fire, as in a restore of data alone
SET session_replication_role = replica;
COPY osmtalk.campaigns (id, org_id, name, webhook_secret, max_attempts) FROM stdin;
cmp_rotation_3	rotation_weak	Bad	canary in a line	0
\.
RESET session_replication_role;
-- other tables as ever
CREATE TABLE rotation.org_settings (org_id text, webhook_secret text NOT NULL);
COPY rotation.org_settings FROM stdin;
this line is shown
\.

-- ---------------------------------------------------------------------------
-- URLs, as most may see them
-- ---------------------------------------------------------------------------
SELECT url, osmtalk.redacted_url(url) FROM (VALUES
	('https://crm.example.com'), ('https://crm.example.com/hook/a@b:c'), ('https://crm.example.com/hook?token=abc'), ('https://crm.example.com?'), ('HTTP://[::1]:8080?a=?b#c'),
	('https://crm.example.com/hook#fragment'), ('https://crm.example.com#a?b'), ('https://user:password@crm.example.com/hook'), ('https://user@crm.example.com?x=//y@z'), ('//u@h'),
	(E'https://crm.example.com/?a\nb'), ('not a URL'), (''), (NULL)) u (url);

SET client_min_messages = warning;
DROP SCHEMA rotation CASCADE;
