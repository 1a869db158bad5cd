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
CREATE TABLE urls.cases (url text, good boolean);
INSERT INTO urls.cases VALUES
	('https://crm.example.com', true),
	('https://crm.example.com/', true),
	('https://crm.example.com/hooks/osmtalk', true),
	('http://crm.example.com/hook', true),
	('HTTPS://CRM.Example.COM/Hook', true),
	('hTTp://crm.example.com', true),
	('https://webhook.site/0b6c6f2e-6f1c-4f1e-9d1b-0c8f2d7c9a11', true),
	('https://abcd-1234.ngrok-free.app', true),
	('https://crm.example.com?token=abc', true),
	('https://crm.example.com/hook?a=1&b=2;c=%20d', true),
	('https://crm.example.com/hook#part', true),
	('https://crm.example.com#part', true),
	('https://crm.example.com//double//slash', true),
	('https://crm.example.com/@user', true),
	('https://crm.example.com/?q=user@host', true),
	('https://crm.example.com/a:b', true),
	('https://crm.example.com/%F0%9F%94%A5', true),
	('https://crm.example.com/~a!$&''()*+,;=[]{}|^`"<>', true),
	('https://xn--e1afmkfd.xn--p1ai/', true),
	('https://crm.example.com.', true),
	('https://crm.example.com./hook', true),
	('https://localhost/', true),
	('https://a', true),
	('https://my_host.internal/', true),
	('https://1.2.3.4/', true),
	('https://127.0.0.1:8443/', true),
	('https://[2001:db8::1]/', true),
	('https://[::1]:8443/', true),
	('https://[::ffff:192.0.2.1]/', true),
	('https://crm.example.com:443/', true),
	('https://crm.example.com:1/', true),
	('https://crm.example.com:65535/', true),
	('https://crm.example.com:8443', true),
	('https://crm.example.com:8443?a', true),
	('https://crm.example.com/' || repeat('a', 2048 - 24), true),

	-- no URL of a web server
	('', false),
	(' ', false),
	('crm.example.com', false),
	('//crm.example.com/', false),
	('/hook', false),
	('https', false),
	('https:', false),
	('https:/', false),
	('https:/crm.example.com', false),
	('https:crm.example.com', false),
	('https://', false),
	('https:///hook', false),
	('https://?a', false),
	('https://#a', false),
	('https://:443/', false),
	('httpss://crm.example.com/', false),
	('https ://crm.example.com/', false),
	('ftp://crm.example.com/', false),
	('file:///etc/passwd', false),
	('file://localhost/etc/passwd', false),
	('gopher://crm.example.com/', false),
	('ldap://crm.example.com/', false),
	('dict://crm.example.com:11211/', false),
	('ws://crm.example.com/', false),
	('unix:///var/run/docker.sock', false),
	('javascript:alert(1)', false),
	('data:text/plain,x', false),
	-- user and password
	('https://user@crm.example.com/', false),
	('https://user:password@crm.example.com/', false),
	('https://:@crm.example.com/', false),
	('https://@crm.example.com/', false),
	('https://crm.example.com@evil.example/', false),
	('https://crm.example.com:443@evil.example/', false),
	('https://crm.example.com%40evil.example/', false),
	-- the port
	('https://crm.example.com:/', false),
	('https://crm.example.com:0/', false),
	('https://crm.example.com:00000/', false),
	('https://crm.example.com:65536/', false),
	('https://crm.example.com:99999/', false),
	('https://crm.example.com:4294967739/', false),
	('https://crm.example.com:18446744073709551617/', false),
	('https://crm.example.com:-1/', false),
	('https://crm.example.com:+443/', false),
	('https://crm.example.com:https/', false),
	('https://crm.example.com:443:443/', false),
	('https://crm.example.com:4 43/', false),
	('https://[::1]:65536/', false),
	-- the host
	('https://crm..example.com/' || chr(9), false),
	('https://.crm.example.com/', false),
	('https://-crm.example.com/', false),
	('https://crm.example.com-/', false),
	('https://crm example.com/', false),
	('https://crm%2eexample.com/', false),
	('https://crm.ex*mple.com/', false),
	('https://crm,example.com/', false),
	('https://[::1/', false),
	('https://::1/', false),
	('https://[::1]x/', false),
	('https://[]/', false),
	('https://[fe80::1%25eth0]/', false),
	('https://[crm.example.com]/', false),
	('https://2001:db8::1/', false),
	-- what two readers could read differently
	('https://crm.example.com\@evil.example/', false),
	('https:\\crm.example.com\', false),
	('https://crm.example.com\hook', false),
	('https://crm.example.com/a\b', false),
	-- spaces and control characters anywhere
	(' https://crm.example.com/', false),
	('https://crm.example.com/ ', false),
	('https://crm.example.com/a b', false),
	(E'https://crm.example.com/\n', false),
	(E'\nhttps://crm.example.com/', false),
	(E'https://crm.example.com/\r\nX-Injected: 1', false),
	(E'https://crm.example.com/\t', false),
	(E'https://crm.example.com\n.evil.example/', false),
	(E'ftp://x\nhttps://crm.example.com/', false),
	('https://crm.example.com/' || chr(1), false),
	('https://crm.example.com/' || chr(127), false),
	(E'https://crm.example.com/\u00a0', false),
	-- characters that are not ASCII: punycode and percent-encoding are for these
	('https://пример.рф/', false),
	('https://crm.exämple.com/', false),
	(E'https://crm\u3002example.com/', false),
	(E'https://\uff43rm.example.com/', false),
	(E'https://\u2460\u2461\u2466.0.0.1/', false),
	('https://crm.example.com/ä', false),
	('https://crm.example.com/?q=😀', false),
	(E'https://crm.example.com/\u202e', false),
	(E'\ufeffhttps://crm.example.com/', false),
	-- the length
	('https://crm.example.com/' || repeat('a', 2049 - 24), false),
	('https://' || repeat('a.', 600000) || 'a/', false),
	('https://crm.example.com:' || repeat('0', 1000000) || '1/', false);
SELECT left(url, 60) AS url, good, osmtalk.is_webhook_url(url) FROM urls.cases WHERE osmtalk.is_webhook_url(url) IS DISTINCT FROM good;
SELECT good, count(*) FROM urls.cases GROUP BY 1 ORDER BY 1;
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
