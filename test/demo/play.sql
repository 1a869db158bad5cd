-- The application's part: it dials what osmtalk.place_next_call() hands out and
-- writes down the facts of each call.  Outcomes, retries and events are the
-- extension's doing.

-- What happens on the line, by number and attempt.
CREATE TEMPORARY TABLE script (
	phone_number text, attempt int,
	talked interval, sip_status_code int, voicemail boolean, error text,
	analysis jsonb, analysis_error text,
	PRIMARY KEY (phone_number, attempt)
);
INSERT INTO script VALUES
	('+919876543210', 1, '3 min', 200, false, NULL,
	 '{"lead_qualified": true, "next_action": "book_demo", "budget_inr": 250000, "sentiment": "positive",
	   "success": true, "summary": "Caller interested in Pro tier. Confirmed demo Friday 3pm."}', NULL),
	('+919820112345', 1, '95 s', 200, false, NULL,
	 '{"lead_qualified": false, "success": true, "sentiment": "positive", "summary": "Renews – wants the papers by e-mail."}', NULL),
	('+919833045678', 1, '20 s', 200, false, NULL,
	 '{"next_action": "not_interested", "success": false, "sentiment": "negative", "summary": "Went elsewhere."}', NULL),
	('+919930055512', 1, '31 s', 200, false, NULL,
	 '{"next_action": "callback_later", "success": false, "sentiment": "neutral", "summary": "In a meeting, call after 6 pm."}', NULL),
	('+919819077001', 1, '64 s', 200, false, NULL,
	 '{"next_action": "send_brochure", "success": false, "sentiment": "neutral", "summary": "Wants to read first."}', NULL),
	('+919867031415', 1, '12 s', 200, true, NULL, NULL, NULL),
	('+919769022334', 1, NULL, 480, false, NULL, NULL, NULL),
	('+919769022334', 2, '2 min', 200, false, NULL,
	 '{"lead_qualified": true, "next_action": "book_demo", "success": true, "sentiment": "positive", "summary": "Picked up this time."}', NULL),
	('+919821190909', 1, NULL, NULL, false, NULL, NULL, NULL),
	('+919821190909', 2, '2 s', 200, false, NULL, NULL, NULL),
	('+912245678901', 1, NULL, 486, false, NULL, NULL, NULL),
	('+919004060606', 1, '9 s', NULL, false, 'bot crashed', NULL, NULL),
	('+919702048484', 1, '48 s', 200, false, NULL, NULL, 'analyzer timed out');

DO $$
DECLARE
	campaign constant text := (SELECT id FROM osmtalk.campaigns);
	call osmtalk.calls;
	line script;
BEGIN
	LOOP
		call := osmtalk.place_next_call(campaign);
		COMMIT;
		EXIT WHEN call.id IS NULL;
		CONTINUE WHEN call.status = 'dnc_blocked';

		SELECT s.* INTO STRICT line
		  FROM script s JOIN osmtalk.leads l ON (l.phone_number, l.attempts) = (s.phone_number, s.attempt)
		 WHERE l.id = call.lead_id;

		UPDATE osmtalk.calls
		   SET started_at = now() - coalesce(line.talked, '0 s') - interval '8 s',
			   answered_at = now() - line.talked,
			   ended_at = now(),
			   sip_status_code = line.sip_status_code,
			   voicemail_detected = line.voicemail,
			   error = line.error
		 WHERE id = call.id;
		COMMIT;

		-- the analyzer is another process, and reports later
		IF line.analysis IS NOT NULL OR line.analysis_error IS NOT NULL THEN
			UPDATE osmtalk.calls
			   SET analysis = line.analysis, analysis_error = line.analysis_error
			 WHERE id = call.id;
			COMMIT;
		END IF;
	END LOOP;

	-- somebody calls in: no campaign, no lead, but an analysis
	INSERT INTO osmtalk.calls (org_id, agent_id, direction, phone_number, started_at, answered_at, ended_at, analysis)
	SELECT 'acme', a.id, 'inbound', '+919812300099', now() - interval '80 s', now() - interval '78 s', now(),
		   '{"success": true, "sentiment": "positive", "summary": "Asked for the claim form."}'
	  FROM osmtalk.agents a;
	COMMIT;
END
$$;
