-- setup offline: for pages that name receivers which are somebody's
ALTER SYSTEM SET osmtalk.enabled = off;
SELECT pg_reload_conf();
DO $$ BEGIN
	WHILE (SELECT state <> 'disabled' FROM osmtalk.worker_status) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
