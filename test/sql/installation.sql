--
-- Creating and dropping the extension.
--
-- In databases of its own, which it drops.
--
\set SHOW_CONTEXT never
SELECT current_database() AS home \gset
\set VERBOSITY sqlstate
-- bodies are UTF-8: no database of another encoding, SQL_ASCII included
CREATE DATABASE osmtalk_sql_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE osmtalk_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE osmtalk_euc_jp TEMPLATE template0 ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C';
\c osmtalk_sql_ascii
CREATE EXTENSION osmtalk;
SELECT to_regnamespace('osmtalk') IS NULL AS nothing_left;
\c osmtalk_latin1
CREATE EXTENSION osmtalk;
\c osmtalk_euc_jp
CREATE EXTENSION osmtalk;
\set VERBOSITY default
\c :home
DROP DATABASE osmtalk_sql_ascii;
DROP DATABASE osmtalk_latin1;
DROP DATABASE osmtalk_euc_jp;

CREATE DATABASE osmtalk_installation TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c osmtalk_installation
-- in its own schema, whatever the path, and nowhere else
CREATE SCHEMA elsewhere;
SET search_path = elsewhere;
CREATE EXTENSION osmtalk SCHEMA elsewhere;
CREATE EXTENSION osmtalk;
CREATE EXTENSION osmtalk;
CREATE EXTENSION IF NOT EXISTS osmtalk;
RESET search_path;
SELECT count(*) AS elsewhere FROM pg_class WHERE relnamespace IN ('elsewhere'::regnamespace, 'public'::regnamespace);
-- it works in the transaction that creates it, and is gone with it
DROP EXTENSION osmtalk;
SELECT to_regnamespace('osmtalk') IS NULL AS nothing_left;
BEGIN;
CREATE EXTENSION osmtalk;
INSERT INTO osmtalk.org_settings (org_id) VALUES ('org');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp', 'org', 'x');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld', 'cmp', '+919876543210');
INSERT INTO osmtalk.calls (lead_id, ended_at) VALUES ('ld', now());
SELECT l.status, e.type, e.skipped_reason FROM osmtalk.leads l, osmtalk.events e;
ROLLBACK;
SELECT to_regnamespace('osmtalk') IS NULL AS nothing_left;
-- a schema of that name is somebody's own: not taken over
CREATE SCHEMA osmtalk;
CREATE EXTENSION osmtalk;
DROP SCHEMA osmtalk;
-- what an application has built on it is not dropped without a word
CREATE EXTENSION osmtalk;
CREATE VIEW report AS SELECT * FROM osmtalk.campaign_report;
DROP EXTENSION osmtalk;
SET client_min_messages = warning;
DROP EXTENSION osmtalk CASCADE;
RESET client_min_messages;
SELECT to_regnamespace('osmtalk') IS NULL AS nothing_left, to_regclass('report') IS NULL AS nor_of_the_application;
\c :home
DROP DATABASE osmtalk_installation;
