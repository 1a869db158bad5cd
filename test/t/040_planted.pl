# Somebody who may use the database makes things that look like the server's
# and the extension's own, wherever that is possible: functions, operators,
# casts, types and tables of the names that osmtalk's scripts, triggers and
# worker use.  None is ever stepped into: whatever is planted trips a wire.
#
# At the end the wire is tripped, to see that it can be.

use strict;
use warnings;
use Osmtalk::Installation;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $installation = Osmtalk::Installation->new('installation');
my ($present, $next) = (Osmtalk::Installation::present_version(), Osmtalk::Installation::next_version());
my $node = new_cluster('main', installation => $installation, conf => <<'END');
osmtalk.analysis_timeout = '200ms'
osmtalk.retention = '1s'
osmtalk.failed_retention = '1s'
END
my $db = 'app';
my $hostile = 'SET search_path = pg_temp, mallory, public, osmtalk, pg_catalog;';

# What the test itself asks must not be led astray.
$ENV{PGOPTIONS} = '-c search_path=pg_catalog';

sub sql { return $node->safe_psql($db, join '', @_); }

# The SQLSTATE with which the last command of a script fails; '' if none does.
sub state_of_sql
{
	my ($sql, $database) = @_;
	my ($status, $stdout, $stderr) = $node->psql($database // $db, "\\set VERBOSITY verbose\n$sql");

	return $stderr =~ /ERROR:  (\w{5}):/ ? $1 : '';
}

sub is_not_tripped
{
	my ($when) = @_;

	is(sql('SELECT string_agg(DISTINCT what || \' as \' || who, \', \') FROM public.tripwire'), '', "$when: nothing was stepped into");
	# also where the transaction was rolled back
	is(join("\n", log_since($node) =~ /tripped: (.*)/g), '', "$when: nor where it left no trace");
	return;
}

# ---- the scene ----

# The traps for one schema, by whoever may create there: names from the install
# script, with the arguments that the server's own have, so that they are as
# good a match.
my $script = slurp_file("$installation->{share}/osmtalk--$present.sql");
my $names = join ',', sort { $a cmp $b } keys %{ { map { $_ => 1 } $script =~ /\b([a-z_0-9]+)\(/g } };

$node->safe_psql('postgres', "CREATE ROLE mallory LOGIN; CREATE ROLE alice LOGIN; CREATE ROLE plotter LOGIN CREATEROLE; CREATE DATABASE $db");
sql(<<'END' =~ s/NAMES/$names/r);
GRANT CREATE ON DATABASE app TO mallory;
GRANT CREATE ON SCHEMA public TO PUBLIC;
CREATE TABLE public.tripwire (who text, what text);
GRANT INSERT ON public.tripwire TO PUBLIC;
CREATE FUNCTION public.trip(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE LOG 'tripped: % as %', what, current_user;
	INSERT INTO public.tripwire VALUES (current_user, what);
END $$;
CREATE SCHEMA mallory AUTHORIZATION mallory;
CREATE FUNCTION public.plant_function(place text, name text, args text, result text) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.trip(%L); RETURN%s; END $f$',
				   place, name, args, result, place || '.' || name || '()', CASE WHEN result LIKE 'SETOF %' OR result = 'void' THEN '' ELSE ' NULL' END);
	RETURN 1;
EXCEPTION WHEN duplicate_function OR invalid_function_definition OR undefined_object OR feature_not_supported THEN
	RETURN 0;
END $$;
CREATE FUNCTION public.plant_operator(place text, name text, l text, r text, result text) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f text := 'op_' || md5(concat_ws(' ', name, l, r));
BEGIN
	EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.trip(%L); RETURN NULL; END $f$',
				   place, f, concat_ws(', ', l, r), result, 'operator ' || place || '.' || concat_ws(' ', l, name, r));
	EXECUTE format('CREATE OPERATOR %s.%s (FUNCTION = %s.%I, RIGHTARG = %s%s)', place, name, place, f, r, ', LEFTARG = ' || l);
	RETURN 1;
EXCEPTION WHEN duplicate_function THEN
	RETURN 0;
END $$;
-- returns how many
CREATE FUNCTION public.plant(place text) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	types constant oid[] := '{text,name,"char",bool,int2,int4,int8,oid,regclass,numeric,float8,timestamptz,timestamp,interval,jsonb,xid,xid8,text[],int8[],int4[],pg_snapshot}'::regtype[];
	planted bigint := 0;
	t record;
BEGIN
	FOR t IN
		SELECT DISTINCT p.proname, oidvectortypes(p.proargtypes) AS args, CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END || format_type(p.prorettype, NULL) AS result
		  FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (string_to_array('NAMES', ','))
		   AND NOT EXISTS (SELECT FROM unnest(p.proargtypes || p.prorettype) a JOIN pg_type y ON y.oid = a WHERE y.typtype = 'p' AND y.typname <> 'void')
		UNION VALUES
		('format', 'text', 'text'), ('format', 'text, VARIADIC text[]', 'text'), ('concat_ws', 'text, VARIADIC text[]', 'text'), ('count', '', 'bigint'), ('count', 'text', 'bigint'),
		('max', 'int', 'int'), ('max', 'text', 'text'), ('max', 'timestamptz', 'timestamptz'), ('min', 'timestamptz', 'timestamptz'), ('sum', 'bigint', 'numeric'),
		('unnest', 'text[]', 'SETOF text'), ('unnest', 'bigint[]', 'SETOF bigint'), ('unnest', 'int[]', 'SETOF int'), ('array_agg', 'text', 'text[]'), ('cardinality', 'text[]', 'int'),
		('jsonb_object_agg', 'text, bigint', 'jsonb'), ('coalesce', 'text, text', 'text'), ('nullif', 'text, text', 'text'), ('greatest', 'int, int', 'int'), ('least', 'timestamptz, timestamptz', 'timestamptz'),
		('nextval', 'text', 'bigint'), ('nextval', 'regclass', 'bigint'), ('text', 'text', 'text'), ('timestamptz', 'timestamptz', 'timestamptz'), ('int8', 'int4', 'int8'),
		-- osmtalk's own
		('new_id', 'text', 'text'), ('normalize_phone', 'text', 'text'), ('try_normalize_phone', 'text', 'text'), ('disposition', 'jsonb', 'text'), ('has_analysis', 'jsonb', 'boolean'),
		('first_set', 'text, text', 'text'), ('signature', 'text, text', 'text'), ('current_origin', '', 'text'), ('current_slot', '', 'smallint'), ('wake_worker', '', 'trigger'),
		('pg_extension_config_dump', 'regclass, text', 'void'), ('record_event', 'text, text, text, text, text, text', 'text'), ('apply_retention', '', 'bigint'), ('expire_calls', 'int', 'bigint')
	LOOP
		planted := planted + public.plant_function(place, t.proname, t.args, t.result);
	END LOOP;
	FOR t IN
		SELECT o.oprname, o.oprleft::regtype::text AS l, o.oprright::regtype::text AS r, o.oprresult::regtype::text AS result
		  FROM pg_operator o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft = ANY (types) AND o.oprright = ANY (types) AND o.oprresult <> 0
		UNION ALL
		SELECT name, y, y, CASE name WHEN '||' THEN y ELSE 'boolean' END FROM unnest('{=,<>,<,>,<=,>=,<@,@>,&&,||}'::text[]) name, unnest('{text[],int8[],int4[]}'::text[]) y
	LOOP
		planted := planted + public.plant_operator(place, t.oprname, t.l, t.r, t.result);
	END LOOP;
	-- types: a table's row is one, too
	FOR t IN SELECT unnest('{org_settings,agents,campaigns,leads,calls,dnc_entries,events,outbox,claims,delivery_attempts,paused,slots,deliveries,in_flight,not_adopted,pg_class,pg_namespace,pg_extension,pg_proc,pg_type,pg_depend,pg_roles,pg_auth_members}'::text[]) AS name
	LOOP
		EXECUTE format('CREATE %s TABLE %s.%I (id text, org_id text, event_id text, campaign_id text, lead_id text, status text, slot smallint, oid oid, relname name, nspname name, rolname name)',
					   CASE place WHEN 'pg_temp' THEN 'TEMPORARY' ELSE '' END, place, t.name);
		EXECUTE format('INSERT INTO %s.%I (id, org_id) VALUES (''mallory'', ''mallory'')', place, t.name);
		EXECUTE format('GRANT ALL ON %s.%I TO PUBLIC', place, t.name);
		EXECUTE format('CREATE FUNCTION %s.%I() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.trip(%L); RETURN NULL; END $f$', place, 'on_' || t.name, 'table ' || place || '.' || t.name);
		EXECUTE format('CREATE TRIGGER planted BEFORE INSERT OR UPDATE OR DELETE ON %s.%I FOR EACH ROW EXECUTE FUNCTION %s.%I()', place, t.name, place, 'on_' || t.name);
		planted := planted + 1;
	END LOOP;
	FOR t IN SELECT unnest('{text,jsonb,timestamptz,int,int4,bigint,boolean,interval,regclass,regtype,record,lead_status,call_status}'::text[]) AS name
	LOOP
		EXECUTE format('CREATE FUNCTION %s.%I(text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.trip(%L); RETURN true; END $f$', place, 'check_' || t.name, 'type ' || place || '.' || t.name);
		EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.text CHECK (%s.%I(VALUE))', place, t.name, place, 'check_' || t.name);
		planted := planted + 1;
	END LOOP;
	-- casts that would be taken by themselves
	EXECUTE format('CREATE TYPE %s.evil AS (x text)', place);
	FOR t IN SELECT unnest('{text,jsonb,timestamptz,int4,int8,bool,interval}'::text[]) AS name
	LOOP
		EXECUTE format('CREATE FUNCTION %s.%I(%s.evil) RETURNS pg_catalog.%I LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.trip(%L); RETURN NULL; END $f$', place, 'cast_' || t.name, place, t.name, 'a cast to ' || t.name);
		EXECUTE format('CREATE FUNCTION %s.%I(pg_catalog.%I) RETURNS %s.evil LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.trip(%L); RETURN NULL; END $f$', place, 'from_' || t.name, t.name, place, 'a cast from ' || t.name);
		EXECUTE format('CREATE CAST (%s.evil AS pg_catalog.%I) WITH FUNCTION %s.%I(%s.evil) AS IMPLICIT', place, t.name, place, 'cast_' || t.name, place);
		EXECUTE format('CREATE CAST (pg_catalog.%I AS %s.evil) WITH FUNCTION %s.%I(pg_catalog.%I) AS IMPLICIT', t.name, place, place, 'from_' || t.name, t.name);
		planted := planted + 2;
	END LOOP;
	RETURN planted;
END $$;
-- what needs the extension's types: matches that are better than the server's for any enum
CREATE FUNCTION public.plant_for_enums(place text) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	planted bigint := 0;
	y text;
	name text;
BEGIN
	FOREACH y IN ARRAY ARRAY['osmtalk.lead_status', 'osmtalk.call_status', 'osmtalk.lead_status[]'] LOOP
		FOREACH name IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '<@', '@>'] LOOP
			planted := planted + public.plant_operator(place, name, y, y, 'boolean');
		END LOOP;
		planted := planted + public.plant_function(place, 'is_terminal', y, 'boolean') + public.plant_function(place, 'is_open', y, 'boolean')
			+ public.plant_function(place, 'lead_outcome', y, 'osmtalk.lead_status') + public.plant_function(place, 'text', y, 'text');
	END LOOP;
	RETURN planted;
END $$;
END

# ---- before CREATE EXTENSION: the schema, the roles ----

is(state_of_sql('SET ROLE mallory; CREATE SCHEMA osmtalk; CREATE FUNCTION osmtalk.new_id(text) RETURNS text LANGUAGE sql AS $$ SELECT public.trip(1::text)::text $$;'), '', 'somebody makes the schema first');
is(state_of_sql('CREATE EXTENSION osmtalk'), '42P06', 'it is not taken over');
sql('DROP SCHEMA osmtalk CASCADE');

for my $attribute (qw(LOGIN SUPERUSER CREATEROLE CREATEDB REPLICATION BYPASSRLS))
{
	sql("CREATE ROLE osmtalk_owner $attribute");
	my ($status, $stdout, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\nCREATE EXTENSION osmtalk");
	like($stderr, qr/ERROR:  55000: the role "osmtalk_owner" is not fit.*DETAIL:  It is $attribute\..*HINT:  ALTER ROLE osmtalk_owner NOSUPERUSER NOLOGIN/s, "a role osmtalk_owner with $attribute owns nothing");
	sql('DROP ROLE osmtalk_owner');
}
sub roles_of_ours { return sql("SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'osmtalk%'"); }
is(roles_of_ours(), '', 'what failed leaves no roles behind');

is(state_of_sql('SET SESSION AUTHORIZATION plotter; CREATE ROLE osmtalk_owner; GRANT osmtalk_owner TO plotter'), '', 'somebody makes the owner, and himself a member');
{
	my ($status, $stdout, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\nCREATE EXTENSION osmtalk");
	like($stderr, qr/ERROR:  55000: the role "osmtalk_owner" is in the hands of others.*DETAIL:  .*: plotter\./s, 'such a membership is refused');
}
sql('REVOKE osmtalk_owner FROM plotter CASCADE; GRANT osmtalk_owner TO alice WITH ADMIN OPTION');
is(state_of_sql('CREATE EXTENSION osmtalk'), '55000', 'one that may be passed on, too');
sql('REVOKE osmtalk_owner FROM alice; GRANT osmtalk_owner TO alice; CREATE ROLE osmtalk_admin; GRANT osmtalk_admin TO mallory');
{
	my ($status, $stdout, $stderr) = $node->psql($db, 'BEGIN; CREATE EXTENSION osmtalk; ROLLBACK');
	like($stderr, qr/WARNING:  the role "osmtalk_owner" has members: alice/, 'one that a superuser has made is said');
	like($stderr, qr/WARNING:  the role "osmtalk_admin" has members: mallory/, 'and those of the other roles');
	unlike($stderr, qr/ERROR/, 'no more');
}
sql('DROP ROLE osmtalk_owner, osmtalk_admin');

# ---- CREATE EXTENSION among traps ----

my $planted = sql("SELECT public.plant('public')") + $node->safe_psql($db, "SET ROLE mallory; SELECT public.plant('mallory')");
cmp_ok($planted, '>', 1000, "$planted traps are set");
# what whoever installs gives away of all that he makes
sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON $_ TO mallory, PUBLIC;") for qw(TABLES SEQUENCES FUNCTIONS TYPES SCHEMAS);
sql("ALTER DATABASE $db SET search_path = mallory, public, osmtalk, pg_catalog");
sql("SET client_min_messages = error; $hostile CREATE EXTENSION osmtalk");
sql("ALTER DEFAULT PRIVILEGES REVOKE ALL ON $_ FROM mallory, PUBLIC;") for qw(TABLES SEQUENCES TYPES SCHEMAS);
is_not_tripped('CREATE EXTENSION');
is(sql(<<'END'), '', 'and the default privileges of whoever installs give nobody anything');
SELECT string_agg(DISTINCT o.name, ', ') FROM (
	SELECT oid::regclass::text, relacl FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace
	UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace = 'osmtalk'::regnamespace
	UNION ALL SELECT oid::regtype::text, coalesce(typacl, acldefault('T', typowner)) FROM pg_type WHERE typnamespace = 'osmtalk'::regnamespace AND typelem = 0 AND typrelid = 0
	UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'osmtalk') o (name, acl), aclexplode(o.acl) g
 WHERE g.grantee IN (0, 'mallory'::regrole)
END
# ---- at trigger time: his own sessions, and others' with his schema in their path ----

# with every right that there is to be granted
sql('GRANT osmtalk_app, osmtalk_admin, osmtalk_monitor TO mallory, alice');
sql('GRANT USAGE, CREATE ON SCHEMA mallory TO alice');
is(state_of_sql("SET ROLE mallory; $_"), '42501', "there is nothing to be planted in the schema: $_")
  for 'CREATE FUNCTION osmtalk.is_terminal(text) RETURNS boolean LANGUAGE sql RETURN true', 'CREATE TABLE osmtalk.mine ()', 'CREATE OPERATOR osmtalk.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)',
  'CREATE TRIGGER t AFTER UPDATE ON osmtalk.leads FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()', 'CREATE RULE r AS ON INSERT TO osmtalk.events DO ALSO SELECT 1',
  'CREATE POLICY p ON osmtalk.calls', 'ALTER TABLE osmtalk.calls ADD CHECK (true)', 'CREATE INDEX ON osmtalk.calls ((pg_catalog.lower(id)))';
cmp_ok($node->safe_psql($db, "SET ROLE mallory; SELECT public.plant_for_enums('mallory') + public.plant_for_enums('public')"), '>', 60, 'traps for the extension\'s own types, too');

my $lives = 0;

# All that can be done with osmtalk; statements that are beyond reproach themselves.
sub life
{
	my ($prelude) = @_;
	my $n = ++$lives;
	my $url = $receiver->url("/life$n");

	return <<"END";
$prelude
$hostile
INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) VALUES ('org$n', '$url', 'secret');
UPDATE osmtalk.org_settings SET default_webhook_url = '$url/new', webhook_secret = 'other' WHERE org_id OPERATOR(pg_catalog.=) 'org$n';
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent$n', 'org$n', true), ('plain$n', 'org$n', false);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, max_attempts, retry_on, webhook_secret) VALUES ('cmp$n', 'org$n', 'agent$n', 'A', 2, '{busy}', 's'), ('two$n', 'org$n', 'plain$n', 'B', 1, '{failed}', NULL);
UPDATE osmtalk.campaigns SET name = 'C', agent_id = 'agent$n', webhook_url = '$url/campaign', retry_backoff = '1 min' WHERE id OPERATOR(pg_catalog.=) 'cmp$n';
INSERT INTO osmtalk.dnc_entries (org_id, phone_number, source) VALUES ('org$n', '0049 30 999-9999', 'opt_out');
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld1_$n', 'cmp$n', '+49 30 1234561'), ('ld2_$n', 'cmp$n', '+49 30 1234562'), ('ld3_$n', 'two$n', '+49 30 1234563'), ('ld4_$n', 'two$n', '+49 30 9999999'), ('ld5_$n', 'two$n', '+49 30 1234565');
UPDATE osmtalk.leads SET phone_number = '0049 30 1234566', variables = '{"a": 1}', next_attempt_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) 'ld5_$n';
UPDATE osmtalk.leads SET campaign_id = 'cmp$n' WHERE id OPERATOR(pg_catalog.=) 'ld5_$n';
SELECT c.id AS call FROM osmtalk.place_call('ld1_$n') c \\gset
UPDATE osmtalk.calls SET started_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) :'call';
UPDATE osmtalk.calls SET answered_at = pg_catalog.now(), ended_at = '2100-01-01', transcript = 't' WHERE id OPERATOR(pg_catalog.=) :'call';
UPDATE osmtalk.calls SET analysis = '{"success": true}' WHERE id OPERATOR(pg_catalog.=) :'call';
UPDATE osmtalk.calls SET analysis = '{"next_action": "callback_later"}' WHERE id OPERATOR(pg_catalog.=) :'call';
SELECT c.id AS call FROM osmtalk.place_next_call('cmp$n') c \\gset
UPDATE osmtalk.calls SET sip_status_code = 486, ended_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) :'call';
INSERT INTO osmtalk.calls (id, lead_id) VALUES ('call3_$n', 'ld3_$n'), ('call4_$n', 'ld4_$n');
INSERT INTO osmtalk.calls (id, lead_id, ended_at, error) VALUES ('call3_$n', 'ld3_$n', pg_catalog.now(), 'e') ON CONFLICT (id) DO UPDATE SET ended_at = EXCLUDED.ended_at, error = EXCLUDED.error;
INSERT INTO osmtalk.calls (id, org_id, agent_id, direction, analysis) VALUES ('call5_$n', 'org$n', 'agent$n', 'inbound', '{"a": 1}');
SELECT osmtalk.requeue_lead('ld3_$n');
UPDATE osmtalk.leads SET status = 'failed' WHERE id OPERATOR(pg_catalog.=) 'ld3_$n';
-- for the worker: one that waits for its analysis, in vain
INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at) VALUES ('late_$n', 'ld5_$n', pg_catalog.now() OPERATOR(pg_catalog.-) '1 min'::pg_catalog.interval, pg_catalog.now());
SELECT osmtalk.send_test_event('org$n') AS event \\gset
SELECT osmtalk.send_test_event('org$n', 'cmp$n');
SELECT osmtalk.redeliver(:'event');
SELECT osmtalk.adopt(), osmtalk.adopt(true), osmtalk.apply_retention(), osmtalk.wait_until_drained('5 s');
SELECT osmtalk.redeliver(:'event');
SELECT osmtalk.pause();
SELECT * FROM osmtalk.worker_status;
SELECT osmtalk.resume();
TABLE osmtalk.campaign_report; TABLE osmtalk.due_leads; TABLE osmtalk.stale_calls; TABLE osmtalk.deliveries; TABLE osmtalk.worker_status; TABLE osmtalk.retained; TABLE osmtalk.in_flight; TABLE osmtalk.not_adopted; SELECT osmtalk.report_html(), osmtalk.report_html('2 years', 'cmp$n'); TABLE osmtalk.stat_delivery; TABLE osmtalk.stat_endpoint; SELECT * FROM osmtalk.health();
SELECT osmtalk.new_id('x'), osmtalk.normalize_phone('+49 30 1'::pg_catalog.text OPERATOR(pg_catalog.||) '234567'), osmtalk.call_outcome(pg_catalog.now(), pg_catalog.now(), 200, false, NULL), osmtalk.disposition('{}'), osmtalk.is_terminal('busy'),
	osmtalk.signature('b', 's'), osmtalk.verify_signature('b', 's', 'x'), osmtalk.is_webhook_url('https://a.example:8/'), osmtalk.analysis_configured(a) FROM osmtalk.agents a;
SELECT osmtalk.explain_outcome(id) FROM pg_catalog.unnest('{call3_$n,call4_$n,call5_$n,late_$n}'::pg_catalog.text[]) id;
SELECT osmtalk.preview_event(id) FROM pg_catalog.unnest('{call3_$n,call4_$n,call5_$n,late_$n}'::pg_catalog.text[]) id;
SELECT osmtalk.preview_lead_event('ld1_$n'), osmtalk.preview_lead_event('ld5_$n');
DELETE FROM osmtalk.calls WHERE id OPERATOR(pg_catalog.=) 'call5_$n';
DELETE FROM osmtalk.leads WHERE id OPERATOR(pg_catalog.=) 'ld4_$n';
DELETE FROM osmtalk.dnc_entries WHERE org_id OPERATOR(pg_catalog.=) 'org$n';
END
}

# In pg_temp as well, where names are found that have no schema.
my $temporary = "SELECT public.plant('pg_temp') + public.plant_for_enums('pg_temp');";
my %life = (
	'his own session' => 'SET SESSION AUTHORIZATION mallory;',
	'his own session, and temporary objects' => "SET SESSION AUTHORIZATION mallory; $temporary",
	'another\'s session' => 'SET SESSION AUTHORIZATION alice;',
	'a superuser\'s session' => '',
	'a superuser\'s session, and temporary objects' => $temporary);
for my $who (sort keys %life)
{
	my ($status, $stdout, $stderr) = $node->psql($db, life($life{$who}), on_error_stop => 1);
	is($status, 0, "$who: everything works") or diag $stderr;
	is_not_tripped($who);
	is(sql("SELECT string_agg(status::text, ' ' ORDER BY id) FROM osmtalk.leads WHERE id LIKE 'ld_\\_$lives'"), 'completed pending failed calling', "$who: as the rules have it")
	  if sql("SELECT decided_at IS NULL FROM osmtalk.calls WHERE id = 'late_$lives'") eq 't';
}

# ---- at worker time ----

ok($node->poll_query_until($db, "SELECT count(*) = $lives FROM osmtalk.calls WHERE id LIKE 'late%' AND decided_at IS NOT NULL"), 'the worker decides what waits in vain');
is(sql('SELECT osmtalk.wait_until_drained()'), 't', 'and sends all');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state <> 'delivered' AND error NOT LIKE 'not sent: enqueued in another database%'"), 0, 'with success');
sql("INSERT INTO osmtalk.calls (id, org_id, placed_at, origin, direction) VALUES ('old', 'org1', pg_catalog.now() - '1 day'::interval, osmtalk.current_origin(), 'inbound')");
ok($node->poll_query_until($db, "SELECT error = 'call timed out' FROM osmtalk.calls WHERE id = 'old'"), 'it ends what never ends');
sql("INSERT INTO osmtalk.outbox (event_id, origin) VALUES ('x', 'elsewhere')");
ok($node->poll_query_until($db, "SELECT state = 'waiting for adopt()' FROM osmtalk.worker_status"), 'looks at what is not its own');
ok($node->poll_query_until($db, 'SELECT count(*) = 0 FROM osmtalk.events WHERE created_at < now() - \'1 s\'::interval'), 'and removes what is old');
sql('SELECT pg_terminate_backend(pid) FROM osmtalk.worker_status; SELECT osmtalk.adopt(true)');
ok($node->poll_query_until($db, "SELECT state = 'running' FROM osmtalk.worker_status"), 'one that comes after it');
like(state_of($node, $db, sql("SELECT osmtalk.send_test_event('org1')")), qr/^delivered/, 'works as well');
is_not_tripped('the worker');
unlike(log_since($node), qr/osmtalk: (nothing is sent|could not|old events could not)/, 'nothing failed in it');

# ---- at ALTER EXTENSION UPDATE ----

my ($ownership) = slurp_file("$ENV{SRC}/sql/grants.sql") =~ /^(DO LANGUAGE plpgsql \$\$\n.*?^\$\$);$/ms or die;
$installation->script("osmtalk--$present--$next.sql", <<"END");
ALTER TABLE osmtalk.dnc_entries ADD COLUMN note text DEFAULT 'a' || format('%s', now()) CHECK (note <> '');
UPDATE osmtalk.dnc_entries SET note = coalesce(note, '') || 'b' WHERE source = 'opt_out' AND created_at > now() - interval '1 day';
UPDATE osmtalk.leads SET attempts = attempts + 1 WHERE status <> 'failed' AND attempts > 0;
CREATE TABLE osmtalk.notes (id text PRIMARY KEY DEFAULT osmtalk.new_id('nt'), lead_id text NOT NULL REFERENCES osmtalk.leads, made_at timestamptz NOT NULL DEFAULT now());
INSERT INTO osmtalk.notes (lead_id) SELECT id FROM osmtalk.leads WHERE osmtalk.is_terminal(status);
SELECT pg_extension_config_dump('osmtalk.notes', '');
CREATE VIEW osmtalk.noted AS SELECT count(*), max(made_at) FROM osmtalk.notes WHERE lead_id = ANY (ARRAY['a', 'b']);
CREATE OR REPLACE FUNCTION osmtalk.has_analysis(analysis jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN analysis IS NOT NULL AND jsonb_typeof(analysis) <> 'null';
$ownership;
END
sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO mallory; $temporary $hostile ALTER EXTENSION osmtalk UPDATE TO '$next'; ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM mallory");
is_not_tripped('ALTER EXTENSION UPDATE');
is(sql("SELECT DISTINCT c.relowner::regrole, g.grantee::regrole FROM pg_class c, aclexplode(c.relacl) g WHERE c.oid IN ('osmtalk.notes'::regclass, 'osmtalk.noted'::regclass)"), 'osmtalk_owner|osmtalk_owner', 'what it makes is the owner\'s alone');
is(state_of_sql("SET ROLE mallory; CREATE EXTENSION osmtalk"), '42710', 'and nobody else installs anything');
is(state_of_sql("SET ROLE mallory; ALTER EXTENSION osmtalk UPDATE TO '$present'"), '42501', 'nor updates');

# ---- the wire can be tripped ----

sql("SET ROLE alice; $hostile SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text; SELECT now(); SELECT 'busy'::osmtalk.lead_status <> 'busy'::osmtalk.lead_status; INSERT INTO calls (id) VALUES ('x'); SELECT ROW('x')::evil::pg_catalog.text; SELECT 'x'::lead_status");
is(sql("SELECT count(DISTINCT what) FROM public.tripwire WHERE who = 'alice'"), 6, 'whoever is careless steps into each of them');

done_testing();
