/*
 * headers.sql
 *		Headers of an organisation's, or a campaign's, own.
 *
 * They may hold tokens, and go where the URL in the same row leads.  So the
 * one does not change without the other: whoever may write a URL, and not
 * read the headers, cannot have them sent to a place of his own.
 */

CREATE FUNCTION osmtalk.webhook_headers_complaint(headers jsonb) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'osmtalk_webhook_headers_complaint';
COMMENT ON FUNCTION osmtalk.webhook_headers_complaint(jsonb) IS
'Internal: why these headers cannot be sent, without showing any of them; null if they can';

CREATE FUNCTION osmtalk.check_webhook_headers(headers jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	complaint constant text := osmtalk.webhook_headers_complaint(headers);
BEGIN
	IF complaint IS NOT NULL THEN
		-- they may hold a token: nothing of them is repeated
		RAISE EXCEPTION 'invalid webhook headers'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = complaint,
				  HINT = 'Webhook headers are a JSON object of at most 16 names and values, 4096 bytes in all: names as HTTP has them, but for those that the request itself has (Host, User-Agent, Content-*, X-OsmTalk-*, Webhook-*, and those of the connection); values of printable ASCII.';
	END IF;
	RETURN headers;
END
$$;
COMMENT ON FUNCTION osmtalk.check_webhook_headers(jsonb) IS
'The headers, if they are null or can be sent; raises 22023 otherwise';

CREATE FUNCTION osmtalk.check_row_headers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	url text;
	old_url text;
BEGIN
	IF TG_RELID = 'osmtalk.org_settings'::regclass THEN
		url := NEW.default_webhook_url;
		IF TG_OP = 'UPDATE' THEN
			old_url := OLD.default_webhook_url;
		END IF;
	ELSIF TG_RELID = 'osmtalk.campaigns'::regclass THEN
		url := NEW.webhook_url;
		IF TG_OP = 'UPDATE' THEN
			old_url := OLD.webhook_url;
		END IF;
	ELSE
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	-- assigned and compared, and in no statement, whose plan the log could show
	IF TG_OP = 'INSERT' THEN
		NEW.webhook_headers := osmtalk.check_webhook_headers(NEW.webhook_headers);
	ELSE
		IF NEW.webhook_headers IS DISTINCT FROM OLD.webhook_headers THEN
			NEW.webhook_headers := osmtalk.check_webhook_headers(NEW.webhook_headers);
		END IF;
		IF url <> '' AND url IS DISTINCT FROM old_url
			AND NEW.webhook_headers <> '{}' AND NEW.webhook_headers = OLD.webhook_headers
		THEN
			RAISE EXCEPTION 'the webhook URL cannot change while its headers stay'
				USING ERRCODE = 'object_not_in_prerequisite_state',
					  DETAIL = 'They may hold a token that is for the receiver at that URL alone.',
					  HINT = 'Set webhook_headers in the same statement: to those for the new URL, or to null. If they are to be the same, set them to null first.';
		END IF;
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER check_headers BEFORE INSERT OR UPDATE ON osmtalk.org_settings
	FOR EACH ROW EXECUTE FUNCTION osmtalk.check_row_headers();
CREATE TRIGGER check_headers BEFORE INSERT OR UPDATE ON osmtalk.campaigns
	FOR EACH ROW EXECUTE FUNCTION osmtalk.check_row_headers();
