--
-- HMAC-SHA256 signatures: the published vectors, an implementation of RFC 2104
-- in SQL as a second opinion, the document's example, and everything that a
-- receiver must refuse.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET client_min_messages;
CREATE SCHEMA signing;

-- RFC 2104 over the server's own sha256()
CREATE FUNCTION signing.hmac(key bytea, message bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	k bytea := CASE WHEN length(key) > 64 THEN sha256(key) ELSE key END;
	inner_pad bytea := decode(repeat('36', 64), 'hex');
	outer_pad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
	FOR i IN 0..length(k) - 1 LOOP
		inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # get_byte(k, i));
		outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # get_byte(k, i));
	END LOOP;
	RETURN encode(sha256(outer_pad || sha256(inner_pad || message)), 'hex');
END
$$;

-- ---------------------------------------------------------------------------
-- RFC 4231
-- ---------------------------------------------------------------------------
-- All seven for the second opinion.  Keys and messages of cases 3, 4, 6 and 7
-- are no UTF-8 text (bytes aa and cd), so that signature() cannot be given them.
CREATE TABLE signing.vectors (test_case int, key bytea, message bytea, digest text, bits int);
INSERT INTO signing.vectors VALUES
	(1, decode(repeat('0b', 20), 'hex'), 'Hi There', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7', 256),
	(2, 'Jefe', 'what do ya want for nothing?', '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843', 256),
	(3, decode(repeat('aa', 20), 'hex'), decode(repeat('dd', 50), 'hex'), '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe', 256),
	(4, decode('0102030405060708090a0b0c0d0e0f10111213141516171819', 'hex'), decode(repeat('cd', 50), 'hex'), '82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b', 256),
	(5, decode(repeat('0c', 20), 'hex'), 'Test With Truncation', 'a3b6167473100ee06e0c796c2955552b', 128),
	(6, decode(repeat('aa', 131), 'hex'), 'Test Using Larger Than Block-Size Key - Hash Key First', '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54', 256),
	(7, decode(repeat('aa', 131), 'hex'), 'This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.', '9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2', 256);
SELECT test_case, left(signing.hmac(key, message), bits / 4) = digest AS second_opinion FROM signing.vectors ORDER BY test_case;
SELECT test_case, left(osmtalk.signature(convert_from(message, 'UTF8'), convert_from(key, 'UTF8')), 7 + bits / 4) = 'sha256=' || digest AS signature
  FROM signing.vectors WHERE test_case IN (1, 2, 5) ORDER BY test_case;

-- Every length of key and message around the block's 64 bytes, in one, two,
-- three and four-byte characters.
SELECT count(*) AS cases,
	   count(*) FILTER (WHERE osmtalk.signature(m.t, k.t) = 'sha256=' || signing.hmac(convert_to(k.t, 'UTF8'), convert_to(m.t, 'UTF8'))) AS agree
  FROM (SELECT repeat(c, i) AS t FROM unnest('{k,é,€,😀}'::text[]) c, generate_series(0, 140, 4) i) k,
	   (SELECT repeat(c, i) AS t FROM unnest('{m,ü,य,🔥}'::text[]) c, unnest('{0,1,2,13,16,55,56,63,64,65,127,128,129,1000}'::int[]) i) m;
SELECT osmtalk.signature(repeat('नमस्ते', 1000000), 's') = 'sha256=' || signing.hmac('s', convert_to(repeat('नमस्ते', 1000000), 'UTF8')) AS large_body,
	   osmtalk.signature('b', repeat('secret', 1000000)) = 'sha256=' || signing.hmac(convert_to(repeat('secret', 1000000), 'UTF8'), 'b') AS large_secret;

-- ---------------------------------------------------------------------------
-- The document's example
-- ---------------------------------------------------------------------------
-- Its body as osmtalk writes it; the digests are OpenSSL's (openssl dgst -sha256 -hmac).
\set body '{"event":"campaign.lead_completed","timestamp":"2026-05-06T11:23:45.123Z","campaign":{"id":"cmp_xxx","name":"Q2 Renewals — Mumbai"},"lead":{"id":"ld_xxx","phoneNumber":"+919876543210","variables":{"company":"Acme","first_name":"Arjun","policy_type":"Health"},"status":"completed","disposition":"qualified","attempts":1,"callId":"call_xxx","outcome":{"success":true,"summary":"Caller interested in Pro tier. Confirmed demo Friday 3pm.","sentiment":"positive","budget_inr":250000,"next_action":"book_demo","lead_qualified":true}}}'
SELECT osmtalk.signature(:'body', 'whsec_test');
-- a prefix whsec_ is part of the key, and nothing is trimmed or decoded
SELECT osmtalk.signature(:'body', 'test');
SELECT count(DISTINCT osmtalk.signature('b', s)) AS keys
  FROM unnest(ARRAY['whsec_dGVzdA==', 'dGVzdA==', 'test', 'test ', ' test', E'test\n', 'TEST', 'tést', E'te\u0301st', '74657374', '0x74657374', '']) s;
SELECT osmtalk.signature(NULL, 's') IS NULL AS no_body, osmtalk.signature('b', NULL) IS NULL AS no_secret;
-- the server's encoding, not the client's, is what is signed
SET client_encoding = 'LATIN1';
SELECT osmtalk.signature(U&'\00e9', U&'\00fc') = 'sha256=' || signing.hmac('\xc3bc', '\xc3a9') AS as_utf8;
RESET client_encoding;

-- ---------------------------------------------------------------------------
-- verify_signature()
-- ---------------------------------------------------------------------------
CREATE TABLE signing.headers (what text, header text, expected boolean);
INSERT INTO signing.headers
SELECT h.* FROM osmtalk.signature('body', 'secret') s, LATERAL (VALUES
	('as sent', s, true),
	-- as the document's verifier reads hex
	('upper-case digits', 'sha256=' || upper(substr(s, 8)), true),
	('mixed digits', 'sha256=' || upper(substr(s, 8, 32)) || substr(s, 40), true),
	('null', NULL, false),
	('empty', '', false),
	('only the algorithm', 'sha256', false),
	('no digest', 'sha256=', false),
	('no algorithm', substr(s, 8), false),
	('only =', '=', false),
	('empty algorithm', '=' || substr(s, 8), false),
	('upper-case algorithm', 'SHA256=' || substr(s, 8), false),
	('other algorithm', 'sha1=' || substr(s, 8), false),
	('other algorithm of the same length', 'sha512=' || substr(s, 8), false),
	('its digest', 'sha512=' || encode(sha512('body'), 'hex'), false),
	('colon', 'sha256:' || substr(s, 8), false),
	('digest of another kind', 'sha256=' || encode(sha256('body'), 'hex'), false),
	('truncated by one', left(s, -1), false),
	('truncated to half', left(s, 7 + 32), false),
	('one more digit', s || '0', false),
	('one more byte', s || '00', false),
	('twice', s || s, false),
	('a list', s || ',' || s, false),
	('leading space', ' ' || s, false),
	('trailing space', s || ' ', false),
	('space for the last digit', left(s, -1) || ' ', false),
	('space after =', 'sha256= ' || substr(s, 8), false),
	('trailing newline', s || E'\n', false),
	('quoted', '"' || s || '"', false),
	('not hex, right length', 'sha256=' || repeat('g', 64), false),
	('spaces, right length', repeat(' ', 71), false),
	('other characters of the right length', repeat('é', 71), false),
	('right number of bytes', repeat('é', 35) || 'x', false),
	('full-width digits', translate(s, '0123456789', '０１２３４５６７８９'), false),
	('base64', 'sha256=' || encode(decode(substr(s, 8), 'hex'), 'base64'), false),
	('all zero', 'sha256=' || repeat('0', 64), false),
	('another body''s', osmtalk.signature('body ', 'secret'), false),
	('another secret''s', osmtalk.signature('body', 'secret '), false),
	('the empty secret''s', osmtalk.signature('body', ''), false),
	('1 MB', s || repeat('0', 1048576), false)) h;
SELECT what FROM signing.headers WHERE osmtalk.verify_signature('body', 'secret', header) IS DISTINCT FROM expected;
SELECT expected, count(*) FROM signing.headers GROUP BY 1 ORDER BY 1;
-- any digit that differs
SELECT count(*) AS digits, count(*) FILTER (WHERE osmtalk.verify_signature('body', 'secret', overlay(s PLACING x FROM i FOR 1))) AS verified
  FROM osmtalk.signature('body', 'secret') s, generate_series(1, 71) i, LATERAL (SELECT CASE substr(s, i, 1) WHEN '0' THEN '1' ELSE '0' END) d (x);
-- nothing verifies without a body, a secret, a header
SELECT osmtalk.verify_signature(NULL, 'secret', osmtalk.signature('', 'secret')) AS no_body,
	   osmtalk.verify_signature('body', NULL, osmtalk.signature('body', 'secret')) AS no_secret,
	   osmtalk.verify_signature('body', '', osmtalk.signature('body', '')) AS empty_secret,
	   osmtalk.verify_signature(NULL, NULL, NULL) AS nothing,
	   osmtalk.verify_signature('', 'secret', osmtalk.signature('', 'secret')) AS empty_body;
-- what signature() signs, verify_signature() verifies
SELECT count(*) AS cases, bool_and(osmtalk.verify_signature(b, s, osmtalk.signature(b, s))) AS verified,
	   bool_or(osmtalk.verify_signature(b || ' ', s, osmtalk.signature(b, s))) AS forged
  FROM unnest(ARRAY['', 'x', :'body', repeat('é', 5000), E'\n', '{"a":"\u0000"}']) b, unnest(ARRAY['s', 'whsec_x', repeat('k', 64), repeat('k', 65), '鍵', ' ']) s;

SET client_min_messages = warning;
DROP SCHEMA signing CASCADE;
