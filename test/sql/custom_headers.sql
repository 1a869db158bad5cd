--
-- Headers of a receiver's own: which may be, and that they go with the URL
-- that they were set beside.
--
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS osmtalk;
CREATE SCHEMA custom_headers;
SET search_path = custom_headers;

-- ---------------------------------------------------------------------------
-- What may be
-- ---------------------------------------------------------------------------
CREATE TABLE custom_headers.cases (n int, what text, headers jsonb);
INSERT INTO cases VALUES
	(1, 'null', NULL), (2, 'none', '{}'), (3, 'a token', '{"Authorization": "Bearer abc"}'), (4, 'sixteen', (SELECT jsonb_object_agg('X-' || i, 'v') FROM generate_series(1, 16) i)),
	(5, 'as long as may be', jsonb_build_object('X', repeat('v', 4095))), (6, 'in all', jsonb_build_object('X-A', repeat('v', 2000), 'X-B', repeat('v', 2090))),
	(10, 'seventeen', (SELECT jsonb_object_agg('X-' || i, 'v') FROM generate_series(1, 17) i)), (11, 'too long', jsonb_build_object('X', repeat('v', 4096))),
	(12, 'in all', jsonb_build_object('X-A', repeat('v', 2000), 'X-B', repeat('v', 2091))), (13, 'a long name', jsonb_build_object(repeat('X', 5000), 'v')),
	(20, 'null in JSON', 'null'), (21, 'a list', '["X: v"]'), (22, 'a string', '"X: v"'), (23, 'a number', '{"X": 1}'), (24, 'a boolean', '{"X": true}'), (25, 'a null', '{"X": null}'), (26, 'a list of values', '{"X": ["v"]}'), (27, 'an object', '{"X": {}}'),
	(30, 'an empty name', '{"": "v"}'), (31, 'a space', '{"X A": "v"}'), (32, 'a colon', '{"X:A": "v"}'), (33, 'a line break', '{"X\r\nY": "v"}'), (34, 'not ASCII', '{"X\u00e4": "v"}'),
	(40, 'the empty value', '{"X": ""}'), (41, 'injection', '{"X": "v\r\nX-Osmtalk-Signature: sha256=0"}'), (42, 'LF', '{"X": "v\nY: w"}'), (43, 'CR', '{"X": "v\rY: w"}'), (44, 'a tab', '{"X": "v\tw"}'), (45, 'DEL', '{"X": "v\u007f"}'), (46, 'ESC', '{"X": "\u001b[0m"}'),
	(47, 'not ASCII', '{"X": "Jörg"}'), (48, 'spaces', '{"X": " v"}'), (49, 'spaces', '{"X": "v "}'), (50, 'a space', '{"X": " "}'),
	(60, 'twice', '{"X-A": "v", "x-a": "w"}'),
	(70, 'reserved', '{"host": "v"}'), (71, 'reserved', '{"Content-Type": "text/plain"}'), (72, 'reserved', '{"CONTENT-LENGTH": "0"}'), (73, 'reserved', '{"Transfer-Encoding": "chunked"}'), (74, 'reserved', '{"connection": "close"}'), (75, 'reserved', '{"User-Agent": "v"}'),
	(76, 'reserved', '{"X-OsmTalk-Event-Id": "v"}'), (77, 'reserved', '{"x-osmtalk-new": "v"}'), (78, 'reserved', '{"webhook-id": "v"}'), (79, 'reserved', '{"Webhook-Signature": "v"}'), (80, 'reserved', '{"Expect": "v"}'), (81, 'reserved', '{"Proxy-Authorization": "v"}');
SELECT n, what, osmtalk.webhook_headers_complaint(headers) AS complaint FROM cases ORDER BY n;

-- nothing of them is shown
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_headers) VALUES ('headers', 'https://headers.invalid/', '{"Authorization: Bearer a-token": "another token"}');
\set VERBOSITY sqlstate
INSERT INTO osmtalk.org_settings (org_id, webhook_headers) VALUES ('headers', '[]');
\set VERBOSITY default
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_headers) VALUES ('headers', 'https://headers.invalid/', '{"Authorization": "Bearer of the organisation"}'), ('headers_none', NULL, NULL);
UPDATE osmtalk.org_settings SET webhook_headers = '{"Host": "x"}' WHERE org_id = 'headers';
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_headers) VALUES ('cmp_headers', 'headers', 'H', '{"Host": "x"}');

-- ---------------------------------------------------------------------------
-- With which URL they go
-- ---------------------------------------------------------------------------
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url, webhook_headers) VALUES
	('cmp_headers', 'headers', 'neither', NULL, NULL), ('cmp_headers_empty', 'headers', 'an empty URL', '', '{"X-Of": "campaign"}'), ('cmp_headers_url', 'headers', 'a URL', 'https://elsewhere.invalid/', NULL),
	('cmp_headers_both', 'headers', 'both', 'https://elsewhere.invalid/', '{"X-Of": "campaign"}'), ('cmp_headers_alone', 'headers', 'headers alone', NULL, '{"X-Of": "campaign"}');
SELECT c.name, t.url, t.headers FROM osmtalk.campaigns c, osmtalk.delivery_target('campaign.lead_completed', c.org_id, c.id) t WHERE c.org_id = 'headers' ORDER BY c.name;
SELECT c.name, type, t.url, t.headers FROM osmtalk.campaigns c, unnest('{call.analysis_completed,call.started,call.completed,call.failed}'::text[]) type, osmtalk.delivery_target(type, c.org_id, c.id) t WHERE c.id = 'cmp_headers_both' ORDER BY type;
SELECT t.url, t.headers FROM osmtalk.delivery_target('campaign.lead_completed', 'headers', 'deleted') t;
SELECT t.url, t.headers FROM osmtalk.delivery_target('campaign.lead_completed', 'deleted', 'deleted') t;

-- ---------------------------------------------------------------------------
-- Nobody takes them elsewhere
-- ---------------------------------------------------------------------------
UPDATE osmtalk.org_settings SET default_webhook_url = 'https://elsewhere.invalid/' WHERE org_id = 'headers';
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/path' WHERE id = 'cmp_headers_both';
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/path' WHERE id = 'cmp_headers_alone';
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('headers', 'https://elsewhere.invalid/') ON CONFLICT (org_id) DO UPDATE SET default_webhook_url = EXCLUDED.default_webhook_url;
\set VERBOSITY sqlstate
UPDATE osmtalk.org_settings SET default_webhook_url = 'https://elsewhere.invalid/' WHERE org_id = 'headers';
\set VERBOSITY default
-- away and back is as far
UPDATE osmtalk.campaigns SET webhook_url = NULL WHERE id = 'cmp_headers_both';
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/' WHERE id = 'cmp_headers_both';
-- with others, or none
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/', webhook_headers = '{"X-Of": "another"}' WHERE id = 'cmp_headers_both';
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/path', webhook_headers = NULL WHERE id = 'cmp_headers_both';
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/', webhook_headers = '{}' WHERE id = 'cmp_headers_both';
UPDATE osmtalk.campaigns SET webhook_url = 'https://elsewhere.invalid/path' WHERE id = 'cmp_headers_both';
-- what stays, and what is not about them
UPDATE osmtalk.org_settings SET default_webhook_url = default_webhook_url, webhook_secret = 'a secret of sixteen', webhook_headers = '{"Authorization": "Bearer another"}' WHERE org_id = 'headers';
UPDATE osmtalk.org_settings SET webhook_events = '{}' WHERE org_id = 'headers';
SELECT length(osmtalk.rotate_webhook_secret('headers'));
SELECT default_webhook_url, webhook_headers FROM osmtalk.org_settings WHERE org_id = 'headers';
