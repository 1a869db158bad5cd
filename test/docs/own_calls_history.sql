-- setup own_calls_history: a call from before, in the application's own table
INSERT INTO calls (lead_id, dialled_at, answered_at, hung_up_at)
VALUES ('ld_2', now() - interval '1 day 1 min', now() - interval '1 day 50 s', now() - interval '1 day');
