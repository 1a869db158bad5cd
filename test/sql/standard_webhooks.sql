--
-- Standard Webhooks: which secrets have its form, and everything that a
-- receiver must refuse.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
CREATE SCHEMA standard_webhooks;
SET search_path = standard_webhooks;

-- ---------------------------------------------------------------------------
-- Secrets
-- ---------------------------------------------------------------------------
SELECT what, osmtalk.is_standard_secret(secret) FROM (VALUES
	(1, 'what rotate_webhook_secret() makes', osmtalk.new_webhook_secret()),
	(2, 'the standard''s example', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
	(3, 'one byte', 'whsec_AA=='), (4, 'two', 'whsec_AAA='), (5, 'three', 'whsec_AAAA'), (6, 'plus and slash', 'whsec_+/+/'),
	(7, 'the longest', 'whsec_' || repeat('A', 8184)), (8, 'longer', 'whsec_' || repeat('A', 8188)), (9, 'much longer', 'whsec_' || repeat('A', 1000000)),
	(10, 'no key', 'whsec_'), (11, 'no prefix', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'), (12, 'another prefix', 'whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'), (13, 'in capitals', 'WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'),
	(14, 'no base64', 'whsec_only_an_example'), (15, 'not padded', 'whsec_AA'), (16, 'half padded', 'whsec_AA='), (17, 'too much padding', 'whsec_A==='), (18, 'padding alone', 'whsec_===='), (19, 'padding in the middle', 'whsec_AA==AAAA'),
	(20, 'a character after padding', 'whsec_AA=A'), (21, 'URL-safe', 'whsec_-_-_'), (22, 'a space', 'whsec_AAA '), (23, 'a leading space', ' whsec_AAAA'), (24, 'a line break', E'whsec_AAAA\n'), (25, 'not ASCII', 'whsec_AAé='),
	(26, 'empty', ''), (27, 'null', NULL)) s (n, what, secret) ORDER BY n;

INSERT INTO osmtalk.org_settings (org_id, webhook_secret) VALUES ('standard', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'), ('standard_other', 'a secret of another form'), ('standard_none', NULL), ('standard_empty', '');
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES ('cmp_standard', 'standard', 'S', NULL), ('cmp_standard_other', 'standard', 'S', 'whsec_only_an_example'), ('cmp_other_standard', 'standard_other', 'S', 'whsec_AAAAAAAAAAAAAAAAAAAAAAAA');

-- ---------------------------------------------------------------------------
-- Signatures
-- ---------------------------------------------------------------------------
-- the standard's example, long ago
SELECT osmtalk.verify_standard_webhook('{"test": 2432232314}',
	'{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}',
	'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', '100 years');

-- RFC 2104 over the server's own sha256(), for keys up to a block
CREATE FUNCTION standard_webhooks.sign(id text, at text, body text, secret text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	key bytea := decode(substr(secret, 7), 'base64');
	inner_pad bytea := decode(repeat('36', 64), 'hex');
	outer_pad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
	FOR i IN 0..length(key) - 1 LOOP
		inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # get_byte(key, i));
		outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # get_byte(key, i));
	END LOOP;
	RETURN 'v1,' || encode(sha256(outer_pad || sha256(inner_pad || convert_to(id || '.' || at || '.' || body, 'UTF8'))), 'base64');
END
$$;
-- every length of a key up to a block, and bodies in one, two, three and four-byte characters
SELECT count(*), count(*) FILTER (WHERE osmtalk.verify_standard_webhook(b.body, jsonb_build_object('webhook-id', 'evt_1', 'webhook-timestamp', '1614265330', 'webhook-signature', sign('evt_1', '1614265330', b.body, k.secret)), k.secret, '100 years')) AS verified
  FROM (SELECT 'whsec_' || encode(decode(repeat('5a', n), 'hex'), 'base64') AS secret FROM generate_series(1, 56) n) k,
	   (SELECT repeat(c, n) AS body FROM unnest('{m,ü,य,🔥}'::text[]) c, unnest('{0,1,50,64,1000}'::int[]) n) b;

-- ---------------------------------------------------------------------------
-- What arrives
-- ---------------------------------------------------------------------------
CREATE TABLE standard_webhooks.cases (n int GENERATED ALWAYS AS IDENTITY, what text, body text, headers jsonb, secret text, tolerance interval, expected boolean);
INSERT INTO cases (what, body, headers, secret, tolerance, expected)
SELECT c.* FROM (SELECT 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' AS k, 'whsec_' || repeat('A', 32) AS k2, 'evt_1' AS i, '{"a":1}' AS b, interval '5 minutes' AS five,
						extract(epoch FROM date_trunc('second', now()))::bigint AS t) v,
	LATERAL (SELECT sign(i, t::text, b, k) AS s) s,
	LATERAL (SELECT jsonb_build_object('webhook-id', i, 'webhook-timestamp', t::text, 'webhook-signature', s) AS h) h,
	LATERAL (VALUES
	('as sent', b, h, k, five, true),
	('among other headers', b, h || '{"host": "x", "x-osmtalk-event-id": "evt_1", "n": 1, "a": [], "o": {}}', k, five, true),
	('names in capitals', b, jsonb_build_object('Webhook-Id', i, 'WEBHOOK-TIMESTAMP', t::text, 'webhook-Signature', s), k, five, true),
	('another secret before it', b, h || jsonb_build_object('webhook-signature', sign(i, t::text, b, k2) || ' ' || s), k, five, true),
	('after it', b, h || jsonb_build_object('webhook-signature', s || ' ' || sign(i, t::text, b, k2)), k, five, true),
	('by the other''s secret', b, h || jsonb_build_object('webhook-signature', s || ' ' || sign(i, t::text, b, k2)), k2, five, true),
	('one of another scheme', b, h || jsonb_build_object('webhook-signature', 'v1a,AAAA ' || s || ' v2,x'), k, five, true),
	('spaces between', b, h || jsonb_build_object('webhook-signature', '   ' || s || '  '), k, five, true),
	('many', b, h || jsonb_build_object('webhook-signature', repeat('v1,' || repeat('A', 44) || ' ', 10000) || s), k, five, true),
	('an empty body', '', h || jsonb_build_object('webhook-signature', sign(i, t::text, '', k)), k, five, true),
	('an id with full stops', b, h || jsonb_build_object('webhook-id', 'a.b', 'webhook-signature', sign('a.b', t::text, b, k)), k, five, false),
	('four minutes old', b, h || jsonb_build_object('webhook-timestamp', (t - 240)::text, 'webhook-signature', sign(i, (t - 240)::text, b, k)), k, five, true),
	('four minutes ahead', b, h || jsonb_build_object('webhook-timestamp', (t + 240)::text, 'webhook-signature', sign(i, (t + 240)::text, b, k)), k, five, true),
	('six minutes old', b, h || jsonb_build_object('webhook-timestamp', (t - 360)::text, 'webhook-signature', sign(i, (t - 360)::text, b, k)), k, five, false),
	('six minutes ahead', b, h || jsonb_build_object('webhook-timestamp', (t + 420)::text, 'webhook-signature', sign(i, (t + 420)::text, b, k)), k, five, false),
	('six minutes old, ten allowed', b, h || jsonb_build_object('webhook-timestamp', (t - 360)::text, 'webhook-signature', sign(i, (t - 360)::text, b, k)), k, '10 minutes', true),
	('negative tolerance', b, h, k, '-1 s', false),
	('huge tolerance', b, h, k, '178000000 years', true),
	('the longest tolerance', b, h, k, '178000000 years 2147483647 days 2000000000 hours', true),
	('another timestamp', b, h || jsonb_build_object('webhook-timestamp', (t + 1)::text), k, five, false),
	('a number', b, h || jsonb_build_object('webhook-timestamp', t), k, five, false),
	('a leading zero', b, h || jsonb_build_object('webhook-timestamp', '0' || t), k, five, false),
	('a sign', b, h || jsonb_build_object('webhook-timestamp', '+' || t), k, five, false),
	('negative', b, h || jsonb_build_object('webhook-timestamp', '-' || t), k, five, false),
	('a fraction', b, h || jsonb_build_object('webhook-timestamp', t || '.0', 'webhook-signature', sign(i, t || '.0', b, k)), k, five, false),
	('a space', b, h || jsonb_build_object('webhook-timestamp', ' ' || t, 'webhook-signature', sign(i, ' ' || t, b, k)), k, five, false),
	('letters after', b, h || jsonb_build_object('webhook-timestamp', t || 'x', 'webhook-signature', sign(i, t || 'x', b, k)), k, five, false),
	('hex', b, h || jsonb_build_object('webhook-timestamp', '0x' || to_hex(t), 'webhook-signature', sign(i, '0x' || to_hex(t), b, k)), k, five, false),
	('milliseconds', b, h || jsonb_build_object('webhook-timestamp', t || '000', 'webhook-signature', sign(i, t || '000', b, k)), k, five, false),
	('too many digits', b, h || jsonb_build_object('webhook-timestamp', repeat('9', 30)), k, '178000000 years', false),
	('no timestamp', b, h - 'webhook-timestamp', k, five, false),
	('an empty one', b, h || '{"webhook-timestamp": ""}', k, five, false),
	('another id', b, h || '{"webhook-id": "evt_2"}', k, five, false),
	('no id', b, h - 'webhook-id', k, five, false),
	('an empty id', b, h || jsonb_build_object('webhook-id', '', 'webhook-signature', sign('', t::text, b, k)), k, five, false),
	('the id twice', b, h || '{"Webhook-Id": "evt_1"}', k, five, false),
	('another body', b || ' ', h, k, five, false),
	('no signature', b, h - 'webhook-signature', k, five, false),
	('an empty one', b, h || '{"webhook-signature": ""}', k, five, false),
	('a list of signatures', b, h || jsonb_build_object('webhook-signature', jsonb_build_array(s)), k, five, false),
	('without its scheme', b, h || jsonb_build_object('webhook-signature', substr(s, 4)), k, five, false),
	('another scheme', b, h || jsonb_build_object('webhook-signature', 'v2,' || substr(s, 4)), k, five, false),
	('in capitals', b, h || jsonb_build_object('webhook-signature', 'V1,' || substr(s, 4)), k, five, false),
	('cut off', b, h || jsonb_build_object('webhook-signature', left(s, -1)), k, five, false),
	('longer', b, h || jsonb_build_object('webhook-signature', s || '='), k, five, false),
	('separated by a comma', b, h || jsonb_build_object('webhook-signature', s || ',' || s), k, five, false),
	('in hex', b, h || jsonb_build_object('webhook-signature', 'v1,' || encode(decode(substr(s, 4), 'base64'), 'hex')), k, five, false),
	('the body''s alone', b, h || jsonb_build_object('webhook-signature', osmtalk.signature(b, k)), k, five, false),
	('another secret', b, h, k2, five, false),
	('the secret without its prefix', b, h, substr(k, 7), five, false),
	('a secret of another form', b, h, 'whsec_only_an_example', five, false),
	('an empty secret', b, h, '', five, false),
	('an empty key', b, h || jsonb_build_object('webhook-signature', sign(i, t::text, b, 'whsec_')), 'whsec_', five, false),
	('a secret that is too long', b, h, 'whsec_' || repeat('A', 100000), five, false),
	('headers that are a list', b, '["webhook-id"]', k, five, false),
	('a string', b, '"webhook-id"', k, five, false),
	('null in JSON', b, 'null', k, five, false),
	('empty', b, '{}', k, five, false),
	('null values', b, '{"webhook-id": null, "webhook-timestamp": null, "webhook-signature": null}', k, five, false),
	('nested', b, jsonb_build_object('headers', h), k, five, false),
	('no body', NULL, h, k, five, false),
	('no headers', b, NULL, k, five, false),
	('no secret', b, h, NULL, five, false),
	('no tolerance', b, h, k, NULL, false)) c;
SELECT n, what FROM cases WHERE osmtalk.verify_standard_webhook(body, headers, secret, tolerance) IS DISTINCT FROM expected ORDER BY n;
SELECT expected, count(*) FROM cases GROUP BY 1 ORDER BY 1;
-- any character of the signature, of each kind
SELECT count(*) > 200 AS changed, count(*) FILTER (WHERE osmtalk.verify_standard_webhook(body, headers || jsonb_build_object('webhook-signature', overlay(s PLACING x FROM i FOR 1)), secret)) AS verified
  FROM (SELECT *, headers ->> 'webhook-signature' AS s FROM cases WHERE what = 'as sent') c, generate_series(1, 47) i, unnest(string_to_array('A B / = é', ' ')) x
 WHERE substr(s, i, 1) <> x;
-- the default tolerance
SELECT what, osmtalk.verify_standard_webhook(body, headers, secret) FROM cases WHERE what IN ('as sent', 'four minutes old', 'six minutes old, ten allowed') ORDER BY n;
