-- setup own_calls_dnc: the application's role needs rights to its own table
-- alone; a listed number is not to be dialled; what was before is not decided
CREATE ROLE application;
GRANT SELECT, INSERT, UPDATE ON calls TO application;
SET ROLE application;
INSERT INTO calls (lead_id) VALUES ('ld_3');
UPDATE calls SET machine = true WHERE lead_id = 'ld_2';
RESET ROLE;
DO $$ BEGIN
	ASSERT (SELECT status = 'dnc_blocked' FROM osmtalk.calls WHERE lead_id = 'ld_3');
	ASSERT (SELECT voicemail_detected AND status = 'completed' FROM osmtalk.calls WHERE lead_id = 'ld_2');
	ASSERT (SELECT status = 'pending' FROM osmtalk.leads WHERE id = 'ld_2');
	ASSERT (SELECT count(*) = 1 FROM osmtalk.events);
END $$;
