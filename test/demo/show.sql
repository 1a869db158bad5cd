-- What the database says about it afterwards.

\pset footer off
\echo
\echo '=# SELECT variables->>''first_name'' AS lead, phone_number, status, disposition, attempts FROM osmtalk.leads ORDER BY id;'
SELECT variables->>'first_name' AS lead, phone_number, status, disposition, attempts FROM osmtalk.leads ORDER BY id;

\echo '=# SELECT * FROM osmtalk.campaign_report \\gx'
SELECT * FROM osmtalk.campaign_report \gx

\echo '=# SELECT type, url, state, attempts, http_status, error, delivered_at FROM osmtalk.deliveries ORDER BY created_at, event_id;'
SELECT type, url, state, attempts, http_status, error, delivered_at FROM osmtalk.deliveries ORDER BY created_at, event_id;
