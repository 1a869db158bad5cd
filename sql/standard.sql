/*
 * standard.sql
 *		Standard Webhooks: who can be sent its headers, and how a receiver
 *		checks them.
 *
 * https://www.standardwebhooks.com, version 1.0.0, with symmetric secrets.
 */

CREATE FUNCTION osmtalk.verify_standard_webhook(
	body text, headers jsonb, secret text, tolerance interval DEFAULT '5 minutes') RETURNS boolean
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_verify_standard_webhook';
COMMENT ON FUNCTION osmtalk.verify_standard_webhook(text, jsonb, text, interval) IS
'Whether headers, an object of names in any case and values, has a webhook-id, a webhook-timestamp no further than tolerance from now, and a webhook-signature of which one is that of body; compared in constant time. False, never an error, for anything malformed or null and for a secret that is not whsec_ and base64';

CREATE FUNCTION osmtalk.is_standard_secret(secret text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_is_standard_secret_sql';
COMMENT ON FUNCTION osmtalk.is_standard_secret(text) IS
'Internal: whether the secret has the form of Standard Webhooks, whsec_ and base64, so that its headers can be sent';
