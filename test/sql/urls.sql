--
-- Which webhook URLs are accepted.
--
-- This is about their form alone; which addresses may be called is decided
-- when the worker connects, because names may resolve to anything later.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;

CREATE SCHEMA urls;
CREATE TABLE urls.cases (good boolean, url text, what text);
-- the table that the reader of the worker has to agree with, too (test/unit/url_test.c)
\getenv inputdir PG_ABS_SRCDIR
\set table :inputdir '/urls.txt'
COPY urls.cases FROM :'table';
INSERT INTO urls.cases VALUES
	(false, 'https://' || repeat('a.', 600000) || 'a/', 'the length'),
	(false, 'https://crm.example.com:' || repeat('0', 1000000) || '1/', 'the length');
CREATE FUNCTION urls.is_taken(url text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM osmtalk.check_webhook_url(url);
	RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN false;
END
$$;
SELECT left(url, 60) AS url, good, osmtalk.is_webhook_url(url), what FROM urls.cases WHERE osmtalk.is_webhook_url(url) IS DISTINCT FROM good;
SELECT good, count(*) > 50 AS many FROM urls.cases GROUP BY 1 ORDER BY 1;
-- and by the trigger
SELECT count(*) AS disagree FROM urls.cases WHERE urls.is_taken(url) <> (good OR url = '');
SELECT osmtalk.is_webhook_url(NULL) AS "null";
-- in any collation
SELECT count(*) AS disagree FROM urls.cases WHERE osmtalk.is_webhook_url(url COLLATE "ucs_basic") <> good;

-- ---------------------------------------------------------------------------
-- Writing them
-- ---------------------------------------------------------------------------
-- Nobody is refused an event for a bad URL: it is the write of the URL that fails.
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('urls', 'https://crm.example.com/hook');
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_urls', 'urls', 'URLs', 'https://crm.example.com/hook');
-- a URL may hold a token, which has no place in a log
CREATE FUNCTION urls.complaint(command text, OUT code text, OUT message text, OUT hints boolean, OUT repeats_the_url boolean) LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE command;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	hints := hint <> '';
	repeats_the_url := concat(message, detail, hint) LIKE '%secret-token%';
END
$$;
SELECT * FROM urls.complaint($$ INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('urls2', 'ftp://secret-token.example/') $$);
SELECT * FROM urls.complaint($$ UPDATE osmtalk.org_settings SET default_webhook_url = 'https://user:secret-token@crm.example.com/' WHERE org_id = 'urls' $$);
SELECT * FROM urls.complaint($$ INSERT INTO osmtalk.campaigns (org_id, name, webhook_url) VALUES ('urls', 'x', 'secret-token') $$);
SELECT * FROM urls.complaint($$ UPDATE osmtalk.campaigns SET webhook_url = 'https://crm.example.com/ secret-token' WHERE id = 'cmp_urls' $$);
\set VERBOSITY sqlstate
UPDATE osmtalk.campaigns SET webhook_url = 'https://crm.example.com:0/' WHERE id = 'cmp_urls';
UPDATE osmtalk.org_settings SET default_webhook_url = ' ' WHERE org_id = 'urls';
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('urls', 'x') ON CONFLICT (org_id) DO UPDATE SET default_webhook_url = EXCLUDED.default_webhook_url;
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('urls', 'https://a') ON CONFLICT (org_id) DO UPDATE SET default_webhook_url = 'x';
\set VERBOSITY default
SELECT default_webhook_url FROM osmtalk.org_settings WHERE org_id = 'urls';
SELECT webhook_url FROM osmtalk.campaigns WHERE id = 'cmp_urls';
-- none, in either way of saying it
UPDATE osmtalk.org_settings SET default_webhook_url = '' WHERE org_id = 'urls' RETURNING default_webhook_url;
UPDATE osmtalk.campaigns SET webhook_url = '' WHERE id = 'cmp_urls' RETURNING webhook_url;
UPDATE osmtalk.org_settings SET default_webhook_url = NULL WHERE org_id = 'urls' RETURNING default_webhook_url;
UPDATE osmtalk.campaigns SET webhook_url = NULL WHERE id = 'cmp_urls' RETURNING webhook_url;

-- ---------------------------------------------------------------------------
-- Which of them an event goes to, and which secret signs it
-- ---------------------------------------------------------------------------
-- these would be too short, for anything but a test
SET client_min_messages = error;
SELECT type, c.url AS campaign_url, o.url AS org_url, c.secret AS campaign_secret, o.secret AS org_secret
  INTO TEMPORARY combinations
  FROM (VALUES ('campaign.lead_completed'), ('call.analysis_completed'), ('webhook.test')) e (type),
	   (VALUES ('https://campaign.example', 'C'), ('https://campaign.example', ''), ('https://campaign.example', NULL), ('', 'C'), (NULL, 'C'), (NULL, NULL), ('', '')) c (url, secret),
	   (VALUES ('https://org.example', 'O'), ('https://org.example', NULL), (NULL, 'O'), ('', ''), (NULL, NULL)) o (url, secret);
CREATE FUNCTION urls.target(type text, campaign_url text, org_url text, campaign_secret text, org_secret text, OUT url text, OUT secret text)
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE osmtalk.org_settings SET default_webhook_url = org_url, webhook_secret = org_secret WHERE org_id = 'urls';
	UPDATE osmtalk.campaigns SET webhook_url = campaign_url, webhook_secret = campaign_secret WHERE id = 'cmp_urls';
	SELECT t.url, t.secret INTO url, secret FROM osmtalk.delivery_target(type, 'urls', 'cmp_urls') t;
END
$$;
SELECT campaign_url, org_url, campaign_secret, org_secret, t.url, t.secret
  FROM combinations c, urls.target(c.type, campaign_url, org_url, campaign_secret, org_secret) t
 WHERE c.type = 'campaign.lead_completed'
 ORDER BY campaign_url COLLATE "C" NULLS FIRST, campaign_secret COLLATE "C" NULLS FIRST, org_url COLLATE "C" NULLS FIRST, org_secret COLLATE "C" NULLS FIRST;
-- a test goes where the campaign's events go; the analysis always where the organisation's go
SELECT c.type, count(*) AS cases,
	   count(*) FILTER (WHERE t.url IS DISTINCT FROM nullif(org_url, '') OR t.secret IS DISTINCT FROM nullif(org_secret, '')) AS not_the_organisations,
	   count(*) FILTER (WHERE t.url IS DISTINCT FROM coalesce(nullif(campaign_url, ''), nullif(org_url, ''))
						OR t.secret IS DISTINCT FROM coalesce(nullif(campaign_secret, ''), nullif(org_secret, ''))) AS not_the_campaigns
  FROM combinations c, urls.target(c.type, campaign_url, org_url, campaign_secret, org_secret) t
 GROUP BY c.type ORDER BY c.type COLLATE "C";
-- what is deleted meanwhile
SELECT * FROM urls.target('campaign.lead_completed', 'https://campaign.example', 'https://org.example', 'C', 'O');
SELECT url, secret FROM osmtalk.delivery_target('campaign.lead_completed', 'urls', 'cmp_deleted');
SELECT url, secret FROM osmtalk.delivery_target('campaign.lead_completed', 'urls', NULL);
SELECT url, secret FROM osmtalk.delivery_target('campaign.lead_completed', 'deleted', 'cmp_deleted');

UPDATE osmtalk.org_settings SET default_webhook_url = NULL WHERE org_id = 'urls';
UPDATE osmtalk.campaigns SET webhook_url = NULL WHERE id = 'cmp_urls';
SET client_min_messages = warning;
DROP SCHEMA urls CASCADE;
