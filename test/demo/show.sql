-- What the database says about it afterwards.

\pset footer off
\echo
\echo '=# SELECT variables->>''first_name'' AS lead, phone_number, status, disposition, attempts FROM osmtalk.leads ORDER BY id;'
SELECT variables->>'first_name' AS lead, phone_number, status, disposition, attempts FROM osmtalk.leads ORDER BY id;

\echo '=# SELECT name, leads, by_status, by_disposition FROM osmtalk.campaign_report;'
SELECT name, leads, by_status, by_disposition FROM osmtalk.campaign_report;

\echo '=# SELECT type, url, state, attempts, http_status, error, delivered_at FROM osmtalk.deliveries ORDER BY created_at;'
SELECT type, url, state, attempts, http_status, error, delivered_at FROM osmtalk.deliveries ORDER BY created_at;
