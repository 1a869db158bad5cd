# As whom things are done: triggers and the worker as the owner of the schema,
# who is no superuser, in every database; whatever becomes of that role.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.call_timeout = '100ms'\nosmtalk.poll_interval = '50ms'\n");
my $db = 'app';

$node->safe_psql('postgres', "CREATE DATABASE $_") for ($db, 'other');
$node->safe_psql('postgres', 'CREATE ROLE heir; CREATE ROLE chief SUPERUSER');
set_up($node, $_, url => $receiver->url("/$_")) for ($db, 'other');

sub sql { return $node->safe_psql($db, join '', @_); }

# Sends an event, and times out a call: both by the worker.
sub works_in
{
	my ($database, $when) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $event = $node->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");
	my $call = $node->safe_psql($database, "SELECT test.place('cmp_plain')");

	like(state_of($node, $database, $event), qr/^delivered/, "$when: an event is sent");
	ok($node->poll_query_until($database, "SELECT error = 'call timed out' FROM osmtalk.calls WHERE id = '$call'"), "$when: a call is timed out");
	return;
}

# ---- what a trigger sees that the worker, or a session, fires ----

sql(<<'END');
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE TABLE test.seen (op text, who name, code text);
GRANT INSERT ON test.seen TO PUBLIC;
-- tries to be more than it is
CREATE FUNCTION test.look() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	command text;
	code text;
BEGIN
	FOREACH command IN ARRAY ARRAY['SET ROLE postgres', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION', 'SELECT pg_read_file(''PG_VERSION'')',
			'COPY test.seen TO PROGRAM ''true''', 'CREATE TEMPORARY TABLE mine ()', 'LISTEN x', 'CREATE ROLE mine SUPERUSER', 'ALTER ROLE osmtalk_owner SUPERUSER', 'CREATE TABLE public.mine ()', 'SELECT rolpassword FROM pg_authid'] LOOP
		BEGIN
			EXECUTE command;
			code := 'works';
		EXCEPTION WHEN OTHERS THEN
			code := SQLSTATE;
		END;
		INSERT INTO test.seen VALUES (command, current_user, code);
	END LOOP;
	RETURN NULL;
END $$;
CREATE TRIGGER look AFTER UPDATE ON osmtalk.leads FOR EACH ROW WHEN (NEW.status = 'failed') EXECUTE FUNCTION test.look();
-- this one by a statement of the worker's own, that one by a trigger's
CREATE TRIGGER look AFTER INSERT ON osmtalk.delivery_attempts FOR EACH ROW EXECUTE FUNCTION test.look();
END
works_in($db, 'as installed');
is_query($node, $db, "SELECT DISTINCT who FROM test.seen", 'osmtalk_owner', 'what the worker brings about is done as the owner');
is_query($node, $db, "SELECT op, code FROM test.seen WHERE code <> '42501' ORDER BY 1", '', 'who can become nobody else, and do nothing else');
is_query($node, $db, 'SELECT count(*) >= 24 AND count(*) % 12 = 0 FROM test.seen', 't', 'all that was tried');
sql('DROP TRIGGER look ON osmtalk.delivery_attempts');
sql("TRUNCATE test.seen; SELECT test.place('cmp_plain') AS call \\gset\nUPDATE osmtalk.calls SET ended_at = now(), error = 'x' WHERE id = :'call'");
is_query($node, $db, 'SELECT DISTINCT who FROM test.seen', 'osmtalk_owner', 'and so is what a superuser\'s update of a call brings about');
is_query($node, $db, "SELECT op FROM test.seen WHERE code = 'works' ORDER BY 1", 'CREATE TEMPORARY TABLE mine ()' . "\n" . 'LISTEN x', 'with the owner\'s rights');
sql('DROP TRIGGER look ON osmtalk.leads');

# what is put off until the commit, where nobody says as whom it is to be done
sql(<<'END');
CREATE FUNCTION test.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO test.seen VALUES ('deferred', current_user); RETURN NULL; END $$;
TRUNCATE test.seen;
CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON osmtalk.calls DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.error = 'call timed out') EXECUTE FUNCTION test.note();
END
my $late = sql("SELECT test.place('cmp_plain')");
ok(wait_for(sub { log_since($node) =~ /call "$late" is overdue and could not be decided: cannot fire deferred trigger within security-restricted operation/ }, 'the warning'), 'a deferred trigger of the user\'s is not run by the worker');
is_query($node, $db, 'SELECT count(*) FROM test.seen', 0, 'at all');
sql('DROP TRIGGER deferred ON osmtalk.calls');
ok($node->poll_query_until($db, "SELECT error = 'call timed out' FROM osmtalk.calls WHERE id = '$late'"), 'without it, the worker goes on');

# ---- the role ----

sql('ALTER ROLE osmtalk_owner RENAME TO renamed');
works_in($db, 'renamed');
sql('ALTER ROLE renamed RENAME TO osmtalk_owner');

# that of a superuser, or one itself: nothing is done
for my $change (
	[ 'REASSIGN OWNED BY osmtalk_owner TO chief', 'REASSIGN OWNED BY chief TO osmtalk_owner', 'chief' ],
	[ 'ALTER ROLE osmtalk_owner SUPERUSER', 'ALTER ROLE osmtalk_owner NOSUPERUSER', 'osmtalk_owner' ])
{
	my ($there, $back, $owner) = @$change;
	my $state = "stopped: the schema osmtalk belongs to a superuser, $owner: ALTER SCHEMA osmtalk OWNER TO osmtalk_owner";
	my $at = -s $node->logfile;

	sql($there);
	ok($node->poll_query_until($db, "SELECT pid IS NULL AND state = '$state' FROM osmtalk.worker_status"), "$there: the worker stops, and says why");
	my $event = sql("SELECT osmtalk.send_test_event('acme')");
	my $call = sql("SELECT test.place('cmp_plain')");
	# it has tried again meanwhile
	$node->poll_query_until($db, "SELECT last_error_at > (SELECT created_at + interval '1 s' FROM osmtalk.events WHERE id = '$event') FROM osmtalk.worker_status") or die;
	is(() = log_since($node, $at) =~ /osmtalk: the schema osmtalk belongs to "$owner" in database "$db", a superuser, as whom no worker works/g, 1, 'the log says so once');
	like(log_since($node, $at), qr/HINT:  Give it, and what is in it, to a role that is none: ALTER SCHEMA osmtalk OWNER TO osmtalk_owner/, 'with a hint');
	is_query($node, $db, "SELECT state, attempts FROM osmtalk.deliveries WHERE event_id = '$event'", 'pending|0', 'events queue');
	is_query($node, $db, "SELECT ended_at IS NULL FROM osmtalk.calls WHERE id = '$call'", 't', 'and nothing is timed out');
	sql($back);
	like(state_of($node, $db, $event), qr/^delivered\|1\|/, "$back: it is sent");
	works_in($db, 'afterwards');
}

# given to another role that is none: as that one
is($node->psql($db, 'DROP OWNED BY osmtalk_owner'), 3, 'what is the owner\'s cannot be dropped');
sql('REASSIGN OWNED BY osmtalk_owner TO heir');
is_query($node, $db, "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'osmtalk'", 'heir', 'but given to another role');
works_in($db, 'given away');
sql('REASSIGN OWNED BY heir TO osmtalk_owner');
works_in($db, 'and given back');

# ---- functions and tables of different owners ----

sql('ALTER TABLE osmtalk.agents OWNER TO heir');
my ($status, $stdout, $stderr) = $node->psql($db, "SELECT test.place('cmp_analyst') AS call \\gset\nUPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = :'call'");
like($stderr, qr/permission denied for table agents/, 'what goes past the executor asks for rights as well');
sql('ALTER TABLE osmtalk.agents OWNER TO osmtalk_owner');

# ---- several databases ----

works_in('other', 'another database');
$node->safe_psql('other', 'DROP EXTENSION osmtalk');
works_in($db, 'dropped in another');
($status, $stdout, $stderr) = $node->psql('other', 'DROP ROLE osmtalk_owner');
like($stderr, qr/role "osmtalk_owner" cannot be dropped because some objects depend on it.*objects in database $db/s, 'the roles are needed as long as one has it');
$node->safe_psql('other', 'SET client_min_messages = error; CREATE EXTENSION osmtalk; CREATE ROLE member IN ROLE osmtalk_app');
sql('SET client_min_messages = error; DROP EXTENSION osmtalk CASCADE');
is_query($node, 'other', "SELECT osmtalk.wait_until_drained(), state FROM osmtalk.worker_status", 't|running', 'the other has it again')
  if $node->poll_query_until('other', "SELECT state = 'running' FROM osmtalk.worker_status");
$node->safe_psql('other', 'DROP EXTENSION osmtalk');
is_query($node, 'postgres', "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'osmtalk%'", 'osmtalk_admin osmtalk_app osmtalk_monitor osmtalk_owner', 'they outlive the extension');
is($node->psql('postgres', 'DROP ROLE osmtalk_app, osmtalk_admin, osmtalk_monitor, osmtalk_owner'), 0, 'and can be dropped then, though they have members');

# ---- two installations at once, which both find no roles ----

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
my $session = session($node, 'one');
$session->query_safe('BEGIN; CREATE EXTENSION osmtalk');
my $second = session($node, 'two');
$second->query_until(qr/begun/, "\\echo begun\nCREATE EXTENSION osmtalk;\n\\echo done\n");
$node->poll_query_until('two', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'two' AND wait_event_type = 'Lock'") or die;
$session->query_safe('COMMIT');
$second->query_until(qr/done/, "SELECT 1;\n");
is_query($node, $_, "SELECT count(DISTINCT relowner::regrole::text), min(relowner::regrole::text) FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace", '1|osmtalk_owner', "$_: installed, with the roles of both") for qw(one two);

done_testing();
