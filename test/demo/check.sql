-- Compares what the receiver logged with what must have arrived, event by
-- event, and fails if anything is missing, repeated, unsigned or wrong.

CREATE TEMPORARY TABLE expected (event text, phone_number text, status text, disposition text, attempts int);
INSERT INTO expected VALUES
	('campaign.lead_completed', '+919876543210', 'completed', 'qualified', 1),
	('campaign.lead_completed', '+919820112345', 'completed', 'qualified', 1),
	('campaign.lead_completed', '+919833045678', 'completed', 'not_interested', 1),
	('campaign.lead_completed', '+919930055512', 'completed', 'callback', 1),
	('campaign.lead_completed', '+919819077001', 'completed', 'completed', 1),
	('campaign.lead_completed', '+919867031415', 'voicemail', NULL, 1),
	('campaign.lead_completed', '+919769022334', 'completed', 'qualified', 2),
	('campaign.lead_completed', '+919821190909', 'no_answer', NULL, 2),
	('campaign.lead_completed', '+912245678901', 'busy', NULL, 1),
	('campaign.lead_completed', '+919004060606', 'failed', NULL, 1),
	('campaign.lead_completed', '+919892580123', 'dnc_blocked', NULL, 0),
	('campaign.lead_completed', '+919702048484', 'completed', 'completed', 1),
	('call.analysis_completed', '+919876543210', 'completed', NULL, NULL),
	('call.analysis_completed', '+919820112345', 'completed', NULL, NULL),
	('call.analysis_completed', '+919833045678', 'completed', NULL, NULL),
	('call.analysis_completed', '+919930055512', 'completed', NULL, NULL),
	('call.analysis_completed', '+919819077001', 'completed', NULL, NULL),
	('call.analysis_completed', '+919769022334', 'completed', NULL, NULL),
	('call.analysis_completed', '+919812300099', 'completed', NULL, NULL);

-- One JSON object per line; JSON contains neither of these control characters.
CREATE TEMPORARY TABLE log (line jsonb);
\copy log FROM 'received.log' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')

CREATE TEMPORARY VIEW received AS
	SELECT r.* FROM log, jsonb_to_record(line) AS r
		("eventId" text, path text, event text, "phoneNumber" text, status text, disposition text,
		 attempts int, verified boolean, sha256 text);
CREATE TEMPORARY VIEW received_facts AS
	SELECT event, "phoneNumber", status, disposition, attempts FROM received;

CREATE TEMPORARY TABLE checks AS
	SELECT *
	  FROM (VALUES
		('every expected event arrived', NOT EXISTS (TABLE expected EXCEPT ALL TABLE received_facts)),
		('nothing else arrived', NOT EXISTS (TABLE received_facts EXCEPT ALL TABLE expected)),
		('each event arrived once', NOT EXISTS (SELECT FROM received GROUP BY "eventId" HAVING count(*) > 1)),
		('every signature verified', (SELECT bool_and(verified IS TRUE) FROM received)),
		('the bytes are those of osmtalk.events', NOT EXISTS (
			SELECT FROM received r LEFT JOIN osmtalk.events e ON e.id = r."eventId"
			 WHERE encode(sha256(convert_to(e.body, 'UTF8')), 'hex') IS DISTINCT FROM r.sha256)),
		('the database says: all delivered', NOT EXISTS (SELECT FROM osmtalk.deliveries WHERE state <> 'delivered')),
		('all six statuses occurred', 6 = (
			SELECT count(DISTINCT status) FROM received WHERE event = 'campaign.lead_completed')),
		('all four dispositions occurred', 4 = (SELECT count(DISTINCT disposition) FROM received))
	  ) AS v (what, holds);

\pset footer off
\pset tuples_only on
\pset border 0
SELECT CASE WHEN holds IS TRUE THEN 'ok    ' ELSE 'FAILED' END, what FROM checks;

DO $$
BEGIN
	IF EXISTS (SELECT FROM checks WHERE holds IS NOT TRUE) THEN
		RAISE 'the demonstration did not go as it should';
	END IF;
END
$$;
