# Results that cannot be recorded: they wait, nothing new is sent, and nothing
# is sent twice.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url('/slow/500'));

sub sql { return $node->safe_psql($db, join '', @_); }

# Breaks the recording while twenty requests are in flight, looks at what that
# does, and repairs it.
sub cannot_record
{
	my ($what, $break, $repair, $error) = @_;
	my $before = $receiver->count;

	sql("SELECT test.finalise('cmp_plain', 20)");
	$receiver->wait_for_count($before + 2) or die;
	$break->();
	# what was claimed by then has arrived, or soon will have
	ok(wait_for(sub { sql("SELECT state FROM osmtalk.worker_status") eq 'waiting: results cannot be recorded' }, 'the state'), "$what: worker_status says so");
	my $sent = $receiver->count;
	my $new = sql("SELECT test.event('cmp_plain')");
	$node->poll_query_until($db, "SELECT now() - created_at > interval '1500 ms' FROM osmtalk.events WHERE id = '$new'");
	cmp_ok($receiver->count, '<=', $sent, "$what: nothing new is sent");
	is(sql("SELECT NOT EXISTS (SELECT FROM osmtalk.in_flight f WHERE f.event_id = o.event_id), attempts FROM osmtalk.outbox o WHERE event_id = '$new'"), 't|0', "$what: it queues");
	like(sql("SELECT last_error FROM osmtalk.worker_status"), $error, "$what: worker_status has the error");
	$repair->();
	my $took = measure(sub { request_of($receiver, $new, 20) });
	note sprintf '%s: %.1f s after the repair the next event has arrived', $what, $took;
	cmp_ok($took, '<', 8, "$what: after the repair it goes on");
	is(sql("SELECT osmtalk.wait_until_drained()"), 't', "$what: all is sent");
	is(sql("SELECT state FROM osmtalk.worker_status"), 'running', "$what: worker_status is well again");
	is(sql("SELECT count(*) FROM osmtalk.events e WHERE NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id AND http_status = 200)"), 0, "$what: every result is recorded");
	my %times;
	$times{$_}++ for $receiver->event_ids;
	is(scalar(grep { $_ > 1 } values %times), 0, "$what: nothing was sent twice");
	is(sql("SELECT count(*) FROM osmtalk.delivery_attempts"), $receiver->count, "$what: each request has its attempt");
	return;
}

my $pid = worker_pid($node, $db);
sql(<<'END');
CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
END
cannot_record('an error',
	sub { sql("CREATE TRIGGER refuse BEFORE INSERT ON osmtalk.delivery_attempts FOR EACH ROW EXECUTE FUNCTION test.refuse()") },
	sub { sql("DROP TRIGGER refuse ON osmtalk.delivery_attempts") },
	qr/the disk is full/);

my $session = session($node, $db);
cannot_record('a lock',
	sub { $session->query_safe("BEGIN; LOCK osmtalk.delivery_attempts IN ACCESS EXCLUSIVE MODE") },
	sub { $session->query_safe('COMMIT') },
	qr/lock timeout/);
# the test's own sessions may write
$ENV{PGOPTIONS} = '-c default_transaction_read_only=off';
cannot_record('a server set to read-only',
	sub { setting($node, 'default_transaction_read_only' => 'on') },
	sub { setting($node, 'default_transaction_read_only' => undef) },
	qr/read-only transaction/);
delete $ENV{PGOPTIONS};
like(log_since($node), qr/nothing is sent until the outbox works again: .*the disk is full/, 'the log says so');
my $complaints = () = log_since($node) =~ /nothing is sent until the outbox works again/g;
cmp_ok($complaints, '<', 20, 'and not all the time');
is(worker_pid($node, $db), $pid, 'by one and the same worker');

# ---- one row that somebody has locked ----

setting($node, 'osmtalk.enabled' => 'off');
my ($locked, $free) = map { sql("SELECT test.event('cmp_plain')") } 1 .. 2;
$session->query_safe("BEGIN; SELECT FROM osmtalk.outbox WHERE event_id = '$locked' FOR UPDATE");
setting($node, 'osmtalk.enabled' => undef);
ok(request_of($receiver, $free, 5)->{seq}, 'an event is sent while another\'s row is locked');
is(scalar(my @not_yet = $receiver->requests(eventId => $locked)), 0, 'which is not');
$session->query_safe('COMMIT');
ok(request_of($receiver, $locked, 5)->{seq}, 'until it is let go');

# ---- one that somebody changes just then ----

my $changed = sql("SELECT test.event('cmp_plain')");
ok(request_of($receiver, $changed, 5)->{seq}, 'an event is sent');
$session->query_safe("BEGIN; UPDATE osmtalk.outbox SET due_at = due_at WHERE event_id = '$changed'");
ok(wait_for(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'") == 1 }, 'the worker'), 'its row is changed when it is to be removed');
$session->query_safe('COMMIT');
is(state_of($node, $db, $changed), 'delivered|1|200|', 'it is delivered');
is(sql("SELECT count(*) FROM osmtalk.outbox"), 0, 'and not in the outbox any more');

# ---- the worker must leave while it cannot record ----

$session->query_safe("BEGIN; LOCK osmtalk.outbox, osmtalk.delivery_attempts IN ACCESS EXCLUSIVE MODE");
my $took = measure(sub { sql("SELECT pg_terminate_backend($pid, 10000)") });
cmp_ok($took, '<', 2, 'a worker that is terminated does not wait for a lock');
$session->query_safe('COMMIT');

# ---- a database that is read-only from the start ----

$session->quit;
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "'");
sql("ALTER DATABASE app SET default_transaction_read_only = on");
$node->restart;
# the test's own sessions: what is set for the database is not meant for them
$ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c role=none -c search_path=public'
  . ' -c session_replication_role=origin -c default_transaction_isolation=read\ committed -c client_encoding=utf8';
my $event = sql("SELECT test.event('cmp_plain')");
ok(wait_for(sub { sql("SELECT last_error FROM osmtalk.worker_status") =~ /read-only transaction/ }, 'the error', 5), 'read-only: worker_status has the error');
isnt(sql("SELECT state FROM osmtalk.worker_status"), 'running', 'and another state than running');
is(scalar(my @nothing = $receiver->requests(eventId => $event)), 0, 'nothing is sent');
# long enough for pauses to have grown
$node->poll_query_until($db, "SELECT now() - created_at > interval '6 s' FROM osmtalk.events WHERE id = '$event'");
sql("ALTER DATABASE app RESET default_transaction_read_only");
my $begun = now();
ok(request_of($receiver, $event, 30)->{seq}, 'read-only no more: the event is sent');
cmp_ok(now() - $begun, '<', 6, 'within seconds');

# ---- what is set for the database is meant for sessions ----

sql("CREATE ROLE somebody");
my @settings = ('statement_timeout = 1', 'lock_timeout = 1', 'idle_in_transaction_session_timeout = 1', 'search_path = test',
	"default_transaction_isolation = 'serializable'", 'synchronous_commit = off', 'row_security = off',
	'role = somebody', 'client_encoding = latin1', "TimeZone = 'Asia/Kolkata'", "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", 'bytea_output = escape',
	'enable_indexscan = off', 'transform_null_equals = on', 'standard_conforming_strings = off', 'work_mem = 64', 'default_toast_compression = pglz',
	"temp_tablespaces = ''", 'extra_float_digits = -10', 'check_function_bodies = off', 'force_parallel_mode = on', 'quote_all_identifiers = on', 'array_nulls = off');
for my $group ([ grep { !/role/ } @settings ], ['role = somebody'], ['session_replication_role = replica'])
{
	my ($status, $out, $err) = $node->psql($db, join '', map { "ALTER DATABASE app SET $_;\n" } @$group);
	sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'");
	my $event = sql("SELECT test.event('cmp_plain')");
	ok(request_of($receiver, $event, 10)->{seq}, 'a database with ' . join ', ', @$group);
	is(state_of($node, $db, $event), 'delivered|1|204|', 'recorded');
	sql("ALTER DATABASE app RESET ALL");
}

# the same for the role that the worker runs as
my $user = sql('SELECT session_user');
sql(join '', map { "ALTER ROLE \"$user\" SET $_;\n" } 'statement_timeout = 1', 'search_path = test', 'default_transaction_read_only = off');
sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'");
ok(request_of($receiver, sql("SELECT test.event('cmp_plain')"), 10)->{seq}, 'settings of a role');
sql("ALTER ROLE \"$user\" RESET ALL");

done_testing();
