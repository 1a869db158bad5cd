/*
 * secrets.sql
 *		How a webhook secret is replaced by another, and which should be.
 *
 * No statement here has a secret among its parameters: what a plan is made
 * with can get into the log (auto_explain, debug_print_plan).  It is a
 * function and no procedure, so that pg_stat_statements keeps its calls
 * without their arguments.
 */
CREATE FUNCTION osmtalk.rotate_webhook_secret(
	org_id text, campaign_id text DEFAULT NULL, overlap interval DEFAULT '24 hours') RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- how many that were replaced stay valid at most, so that a request's headers stay short
	most constant int := 3;
	until timestamptz;
	secret text;
BEGIN
	IF overlap IS NULL OR overlap < interval '0' OR overlap > interval '1 year'
		OR extract(year FROM overlap) NOT BETWEEN -1 AND 1
	THEN
		RAISE EXCEPTION 'invalid overlap'
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = 'For the overlap the secret that is replaced stays valid.',
				  HINT = 'Give an interval from 0 to 1 year.';
	END IF;
	until := now() + overlap;

	-- rotations come one after the other; one of the organisation's does not
	-- miss that a campaign's keeps what it is about to replace
	IF campaign_id IS NULL THEN
		PERFORM FROM osmtalk.org_settings s
		  WHERE s.org_id = rotate_webhook_secret.org_id AND osmtalk.sees_org(s.org_id) FOR NO KEY UPDATE;
	ELSE
		PERFORM FROM osmtalk.org_settings s
		  WHERE s.org_id = rotate_webhook_secret.org_id AND osmtalk.sees_org(s.org_id) FOR SHARE;
	END IF;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no organisation "%"', org_id
			USING ERRCODE = 'invalid_parameter_value',
				  HINT = 'An organisation is a row in osmtalk.org_settings.';
	END IF;
	IF campaign_id IS NOT NULL THEN
		PERFORM FROM osmtalk.campaigns c
		  WHERE c.id = rotate_webhook_secret.campaign_id AND c.org_id = rotate_webhook_secret.org_id FOR NO KEY UPDATE;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'the organisation "%" has no campaign "%"', org_id, campaign_id
				USING ERRCODE = 'invalid_parameter_value';
		END IF;
	END IF;

	-- nothing but the new one is valid for longer than this overlap, nor what
	-- campaigns have kept of the organisation's
	UPDATE osmtalk.previous_secrets p
	   SET valid_until = least(p.valid_until, until)
	 WHERE p.org_id = rotate_webhook_secret.org_id
	   AND (p.campaign_id IS NOT DISTINCT FROM rotate_webhook_secret.campaign_id
			OR (rotate_webhook_secret.campaign_id IS NULL
				AND p.secret IN (SELECT s.webhook_secret FROM osmtalk.org_settings s WHERE s.org_id = rotate_webhook_secret.org_id
								 UNION ALL
								 SELECT o.secret FROM osmtalk.previous_secrets o
								  WHERE o.org_id = rotate_webhook_secret.org_id AND o.campaign_id IS NULL)));
	-- what signs its events so far: the organisation's, where a campaign has none
	INSERT INTO osmtalk.previous_secrets (org_id, campaign_id, secret, valid_until)
	SELECT s.org_id, rotate_webhook_secret.campaign_id, t.secret, until
	  FROM osmtalk.org_settings s
	  LEFT JOIN osmtalk.campaigns c ON c.id = rotate_webhook_secret.campaign_id,
		   LATERAL (SELECT osmtalk.first_set(c.webhook_secret, s.webhook_secret) AS secret) t
	 WHERE s.org_id = rotate_webhook_secret.org_id AND t.secret IS NOT NULL;
	-- those that are over, those that came back by hand and were replaced again, and those that are too many
	DELETE FROM osmtalk.previous_secrets p
	 WHERE p.org_id = rotate_webhook_secret.org_id
	   AND (p.valid_until <= now()
			OR (p.campaign_id IS NOT DISTINCT FROM rotate_webhook_secret.campaign_id
				AND (SELECT count(DISTINCT o.secret) FROM osmtalk.previous_secrets o
					  WHERE o.org_id = p.org_id AND o.campaign_id IS NOT DISTINCT FROM p.campaign_id
						AND o.id COLLATE "C" > p.id COLLATE "C") >= most)
			OR EXISTS (SELECT FROM osmtalk.previous_secrets o
						WHERE o.org_id = p.org_id AND o.campaign_id IS NOT DISTINCT FROM p.campaign_id
						  AND o.secret = p.secret AND o.id COLLATE "C" > p.id COLLATE "C"));

	IF campaign_id IS NULL THEN
		UPDATE osmtalk.org_settings s SET webhook_secret = osmtalk.new_webhook_secret()
		 WHERE s.org_id = rotate_webhook_secret.org_id
		RETURNING s.webhook_secret INTO STRICT secret;
	ELSE
		UPDATE osmtalk.campaigns c SET webhook_secret = osmtalk.new_webhook_secret()
		 WHERE c.id = rotate_webhook_secret.campaign_id
		RETURNING c.webhook_secret INTO STRICT secret;
	END IF;
	RETURN secret;
END
$$;
COMMENT ON FUNCTION osmtalk.rotate_webhook_secret(text, text, interval) IS
'Makes a new webhook secret for the organisation, or the campaign, and returns it, this once; the one that signed so far stays valid for the overlap, and no other for longer. Unknown organisation or campaign, overlap not from 0 to 1 year: 22023';

/*
 * What signed for an organisation, or a campaign, goes with it, so that
 * another of the same id has none of its secrets.
 */
CREATE FUNCTION osmtalk.forget_secrets() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_RELID NOT IN ('osmtalk.org_settings'::regclass, 'osmtalk.campaigns'::regclass) THEN
		PERFORM osmtalk.refuse_trigger(TG_RELID);
	END IF;
	DELETE FROM osmtalk.previous_secrets p
	 WHERE NOT EXISTS (SELECT FROM osmtalk.org_settings s WHERE s.org_id = p.org_id)
		OR (p.campaign_id IS NOT NULL AND NOT EXISTS (SELECT FROM osmtalk.campaigns c WHERE c.id = p.campaign_id));
	RETURN NULL;
END
$$;
CREATE TRIGGER forget_secrets AFTER DELETE OR TRUNCATE OR UPDATE OF org_id ON osmtalk.org_settings
	FOR EACH STATEMENT EXECUTE FUNCTION osmtalk.forget_secrets();
CREATE TRIGGER forget_secrets AFTER DELETE OR TRUNCATE OR UPDATE OF id ON osmtalk.campaigns
	FOR EACH STATEMENT EXECUTE FUNCTION osmtalk.forget_secrets();

/*
 * A campaign counts where it has a URL or a secret of its own.  The bounds are
 * guard_secret_row()'s.
 */
CREATE FUNCTION osmtalk.secret_problems() RETURNS TABLE (org_id text, campaign_id text, problem text)
LANGUAGE sql STABLE SECURITY DEFINER
BEGIN ATOMIC
	SELECT t.org_id, t.campaign_id, t.problem
	  FROM (SELECT s.org_id, s.campaign_id,
				   CASE
					WHEN octet_length(s.secret) > 8192 THEN 'too long'
					WHEN s.secret IS NULL THEN 'missing'
					WHEN octet_length(s.secret) < 16 OR s.secret !~ '\S' THEN 'short'
					WHEN current_setting('osmtalk.standard_webhooks_headers', true) = 'on' AND NOT osmtalk.is_standard_secret(s.secret) THEN 'not standard'
				   END AS problem
			  FROM (SELECT o.org_id, NULL::text AS campaign_id, nullif(o.webhook_secret, '') AS secret
					  FROM osmtalk.org_settings o WHERE o.default_webhook_url <> ''
					UNION ALL
					SELECT c.org_id, c.id, osmtalk.first_set(c.webhook_secret, o.webhook_secret)
					  FROM osmtalk.campaigns c JOIN osmtalk.org_settings o ON o.org_id = c.org_id
					 WHERE c.webhook_url <> '' OR (c.webhook_secret <> '' AND o.default_webhook_url <> '')) s) t
	 WHERE t.problem IS NOT NULL AND osmtalk.sees_org(t.org_id);
END;
COMMENT ON FUNCTION osmtalk.secret_problems() IS
'Whose webhook secret, an organisation''s (a null campaign_id) or a campaign''s, is too long (above 8192 bytes: nothing is sent), missing (nothing is signed), short (below 16 bytes, or blank), or not standard (while osmtalk.standard_webhooks_headers is on: not whsec_ and base64, so that those headers are not sent); shows no secret';
