# pause() and resume(): nothing is sent in between, nothing is lost or sent
# twice, and no process is in the way, whatever happens to the server.

use strict;
use warnings;
use List::Util qw(max);
use Osmtalk::Process;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.request_timeout = 60s\nosmtalk.max_in_flight = 1200\nmax_files_per_process = 5000\nosmtalk.max_in_flight_per_endpoint = 500\n");
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url);

sub sql { return $node->safe_psql($db, join '', @_); }

sub goes_to { return sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url($_[0]) . "'"); }

# The database has no worker, and no process of osmtalk's is connected to it.
sub is_left
{
	my ($database, $seconds, $name) = @_;
	my $query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND datname = '$database'";
	my $took = measure(sub { wait_for(sub { $node->safe_psql('postgres', $query) eq '0' }, 'the worker to leave', 20) });

	note sprintf '%s: %.2f s', $name, $took;
	cmp_ok($took, '<', $seconds, $name);
	return is_query($node, $database, 'SELECT count(*), count(pid), min(state) FROM osmtalk.worker_status', '1|0|paused', '... and worker_status says why');
}

# An event that is committed now waits, for longer than a poll takes.
sub nothing_is_sent
{
	my ($name) = @_;
	my $event = sql("SELECT test.event('cmp_plain')");

	$node->poll_query_until($db, "SELECT now() - created_at > interval '1500 ms' FROM osmtalk.events WHERE id = '$event'");
	is(scalar(my @requests = $receiver->requests(eventId => $event)), 0, "$name: nothing is sent");
	is_query($node, $db, "SELECT state, attempts FROM osmtalk.deliveries WHERE event_id = '$event'", 'pending|0', "$name: its events are pending");
	return $event;
}

sub is_delivered
{
	my ($event, $name, $seconds) = @_;

	ok(request_of($receiver, $event, $seconds // 5)->{seq}, $name);
	return is(state_of($node, $db, $event) =~ s/20[04]/ok/r, 'delivered|1|ok|', '... and recorded');
}

is_delivered(sql("SELECT test.event('cmp_plain')"), 'an event is sent');

# ---- in the middle of many ----

goes_to('/slow/20');
sql("SELECT test.finalise('cmp_plain', 3000)");
$receiver->wait_for_count(300) or die;
my $paused_at = measure(sub { sql('SELECT osmtalk.pause()') }) && now();
is_left($db, 2, 'in the middle of many the worker leaves');
my $event = nothing_is_sent('paused');
my $last = (max map { $_->{arrivedAt} } $receiver->requests) / 1000 - $paused_at;
note sprintf 'the last request arrived %.3f s after pause() returned', $last;
# the poll would find it too, a second later
cmp_ok($last, '<', 0.6, 'no request begins after that');
cmp_ok($receiver->count, '<', 2900, '(there were more to send)');
my $arrived = $receiver->count;
is_query($node, $db, 'SELECT count(*) FROM osmtalk.in_flight', 0, 'nothing is left in flight');
is_query($node, $db, 'SELECT pending = (SELECT count(*) FROM osmtalk.outbox) FROM osmtalk.worker_status', 't', 'worker_status counts what waits');
like(sql('SELECT detail FROM osmtalk.worker_status'), qr/^Paused since \d.* by \w+; osmtalk\.resume\(\) goes on\.$/, 'and says who paused it');
like(log_since($node), qr/sending is paused, osmtalk worker .* ends/, 'the log says so, too');
my ($drained, $took);
$took = measure(sub { $drained = sql("SELECT osmtalk.wait_until_drained('500 ms')") });
is($drained, 'f', 'wait_until_drained() returns false');
ok($took >= 0.5 && $took < 2, 'at its time-out');

# ---- idempotent, and transactional ----

my $since = sql('SELECT since FROM osmtalk.paused');
my $starts = () = log_since($node) =~ /sending is paused, osmtalk worker/g;
sql('SELECT osmtalk.pause()');
is_query($node, $db, 'SELECT since FROM osmtalk.paused', $since, 'pause() of what is paused changes nothing');
sql('BEGIN; SELECT osmtalk.resume(); ROLLBACK');
nothing_is_sent('resume() rolled back');
is($receiver->count, $arrived, 'nothing has arrived all the while');
is(() = log_since($node) =~ /sending is paused, osmtalk worker/g, $starts, 'no worker was started, only to look');

sql('SELECT osmtalk.resume()');
ok(request_of($receiver, $event, 10)->{seq}, 'resume(): what has waited is sent');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'all of it');
is_query($node, $db, 'SELECT state, detail IS NULL FROM osmtalk.worker_status', 'running|t', 'worker_status is as before');
is_query($node, $db, "SELECT count(*), max(attempts), count(*) FILTER (WHERE state <> 'delivered') FROM osmtalk.deliveries", '3003|1|0', 'each in one attempt');
my $pid = worker_pid($node, $db);
sql('BEGIN; SELECT osmtalk.pause(); ROLLBACK');
sql('BEGIN; SAVEPOINT a; SELECT osmtalk.pause(); ROLLBACK TO a; COMMIT');
sql('SELECT osmtalk.resume()');
goes_to('/');
is_delivered(sql("SELECT test.event('cmp_plain')"), 'pause() rolled back, resume() of what is not paused: it goes on');
is(worker_pid($node, $db), $pid, 'in the same worker');

# ---- what is in flight ----

goes_to('/slow/1000');
my @slow = map { sql("SELECT test.event('cmp_plain')") } 1 .. 2;
request_of($receiver, $_) for @slow;
sql('SELECT osmtalk.pause()');
is_left($db, 2, 'once what is in flight has finished the worker leaves');
is(state_of($node, $db, $_), 'delivered|1|200|', 'which is recorded') for @slow;

goes_to('/');
sql("SELECT test.finalise('cmp_plain', 500)");
sql('SELECT osmtalk.resume()');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'the endpoint is proven');
goes_to('/hang');
$arrived = $receiver->count;
sql("SELECT test.finalise('cmp_plain', 500)");
$receiver->wait_for_count($arrived + 500) or die;
sql('SELECT osmtalk.pause()');
is_left($db, 2, 'five hundred hang, and do not keep it');
is_query($node, $db, "SELECT DISTINCT state, attempts, error FROM osmtalk.deliveries WHERE state <> 'delivered'",
	'pending|1|no result: the worker ended before there was one; the request may have been made, it is made again', 'they are pending, with the attempt that was cut off');
$took = measure(sub { is($node->psql('postgres', 'ALTER DATABASE app RENAME TO renamed'), 0, 'a paused database can be renamed') });
cmp_ok($took, '<', 2, 'at once');
$node->safe_psql('postgres', 'ALTER DATABASE renamed RENAME TO app');
is_query($node, $db, 'SELECT count(pid) FROM osmtalk.worker_status', 0, 'and is still paused');
goes_to('/');
sql('SELECT osmtalk.resume()');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'resume(): they are made again');
is_query($node, $db, "SELECT count(*) FROM osmtalk.deliveries WHERE attempts = 2 AND state = 'delivered'", 500, 'with the next number');

# results that cannot be recorded are not thrown away
goes_to('/slow/1000');
my $session = session($node, $db);
$event = sql("SELECT test.event('cmp_plain')");
request_of($receiver, $event);
my $told = $session->query_safe('SELECT osmtalk.pause(); SELECT clock_timestamp()');
$told = (split /\n/, $told)[-1];
# the worker knows of the pause, and has no answer yet
$node->poll_query_until('postgres', "SELECT state_change > '$told' FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND datname = 'app'");
$session->query_safe('BEGIN; LOCK osmtalk.delivery_attempts IN ACCESS EXCLUSIVE MODE');
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND datname = 'app' AND wait_event_type = 'Lock'");
$session->query_safe('SELECT pg_sleep(2)'); # the time it would have had otherwise
is_query($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND datname = 'app'", 1, 'while results cannot be recorded the worker stays');
$session->query_safe('COMMIT');
is_left($db, 8, 'then it leaves');
is_query($node, $db, "SELECT state, attempts FROM osmtalk.deliveries WHERE event_id = '$event'", 'delivered|1', 'and nothing is sent twice');
$session->quit;

# ---- calls are not timed out ----

setting($node, 'osmtalk.analysis_timeout' => '100ms');
my $call = sql("SELECT test.place('cmp_analyst')");
sql("UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id = '$call'");
goes_to('/');
nothing_is_sent('still paused');
is_query($node, $db, "SELECT decided_at IS NULL FROM osmtalk.calls WHERE id = '$call'", 't', 'a call whose time is up waits');
sql('SELECT osmtalk.resume()');
ok($node->poll_query_until($db, "SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$call'"), 'until resume()');
setting($node, 'osmtalk.analysis_timeout' => undef);

# ---- a restart, a crash ----

sql('SELECT osmtalk.pause()');
is_left($db, 2, 'paused');
$node->restart;
is_query($node, $db, 'SELECT count(*), count(pid), min(state) FROM osmtalk.worker_status', '1|0|paused', 'at server start, at once');
nothing_is_sent('after a restart');
is_left($db, 2, 'a worker has looked in and left');
sql('SELECT osmtalk.resume()');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'resume() after a restart');

# before the worker knows, or has let go of what it has
goes_to('/hang');
$event = sql("SELECT test.event('cmp_plain')");
request_of($receiver, $event);
sql('SET synchronous_commit = on; SELECT osmtalk.pause()');
$node->stop('immediate');
$node->start;
$event = nothing_is_sent('after a crash');
is_left($db, 2, 'a worker has looked in and left');
is_query($node, $db, "SELECT state, count(*) FROM osmtalk.deliveries WHERE state IN ('pending', 'in_flight') GROUP BY 1", 'pending|2', 'what was in flight is pending');
goes_to('/');
sql('SELECT osmtalk.resume()');
is_delivered($event, 'resume() after a crash');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'all is sent');

# ---- several workers ----

setting($node, 'osmtalk.workers' => 3);
$node->poll_query_until($db, "SELECT count(*) = 3 AND bool_and(state = 'running') FROM osmtalk.worker_status");
sql('SELECT osmtalk.pause()');
is_left($db, 2, 'three workers leave');
nothing_is_sent('three workers');
sql('SELECT osmtalk.resume()');
ok($node->poll_query_until($db, "SELECT count(*) = 3 AND bool_and(state = 'running') FROM osmtalk.worker_status"), 'and three come back');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'all is sent');
setting($node, 'osmtalk.workers' => undef);
$node->poll_query_until($db, "SELECT count(*) = 1 FROM osmtalk.worker_status");

# ---- while events keep coming ----

sql("CREATE PROCEDURE test.write() LANGUAGE plpgsql AS 'BEGIN
	FOR i IN 1 .. 1500 LOOP PERFORM test.event(''cmp_plain''); COMMIT; PERFORM pg_sleep(0.001); END LOOP; END'");
my $from = -s $node->logfile;
my $writer = Osmtalk::Process->start([ 'psql', '-X', '-q', '-d', $node->connstr($db), '-c', 'CALL test.write()' ], output => "$PostgreSQL::Test::Utils::log_path/writer");
$arrived = $receiver->count;
$receiver->wait_for_count($arrived + 100) or die;
sql('SELECT osmtalk.pause()');
is_left($db, 2, 'while events keep coming the worker leaves');
ok($writer->is_alive, '(they do)');
ok(wait_for(sub { !$writer->is_alive }, 'the writer', 30), 'and its application goes on');
is(() = log_since($node, $from) =~ /sending is paused, osmtalk worker/g, 1, 'no worker comes back for them');
sql('SELECT osmtalk.resume()');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'all is sent');

# ---- in quick succession ----

$session = session($node, $db);
for my $i (1 .. 40)
{
	$session->query_safe('SELECT osmtalk.pause()');
	$session->query_safe("SELECT test.event('cmp_plain')") if $i % 3 == 0;
	$session->query_safe('SELECT pg_sleep(0.02 * random())') if $i % 2;
	$session->query_safe('SELECT osmtalk.resume()');
	$session->query_safe('SELECT pg_sleep(0.02 * random())') if $i % 4 > 1;
}
is_delivered($session->query_safe("SELECT test.event('cmp_plain')"), 'paused and resumed forty times: it goes on', 10);
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'all is sent');

# ---- by other ways ----

$session->query_safe("BEGIN; SELECT osmtalk.pause(); PREPARE TRANSACTION 'pause'");
is_delivered(sql("SELECT test.event('cmp_plain')"), 'a pause that is prepared only stops nothing');
sql("COMMIT PREPARED 'pause'");
is_left($db, 2, 'until it is committed');
my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\nBEGIN; SELECT osmtalk.resume(); PREPARE TRANSACTION 'resume'");
like($err, qr/ERROR:  0A000: cannot PREPARE a transaction that asks for an osmtalk worker/, 'resume() cannot be prepared');
sql('TRUNCATE osmtalk.paused');
is_delivered(sql("SELECT test.event('cmp_plain')"), 'a TRUNCATE of the table resumes, too');
# as a restore does that disables triggers
sql('SET session_replication_role = replica; INSERT INTO osmtalk.paused DEFAULT VALUES');
is_left($db, 4, 'a pause that nobody tells of is found');

# ---- copies ----

$session->quit;
$event = nothing_is_sent('the original');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE app');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('app') ], 'a dump');
$node->command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ], 'restored');
for my $copy (qw(copy restored))
{
	is_left($copy, 4, "$copy of a paused database is paused");
	is_query($node, $copy, "SELECT state FROM osmtalk.deliveries WHERE event_id = '$event'", 'pending', '... with its events');
	$node->safe_psql($copy, 'SELECT osmtalk.adopt(true); SELECT osmtalk.resume()');
	$node->safe_psql($copy, "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url("/$copy") . "'");
	is(request_of($receiver, $node->safe_psql($copy, "SELECT test.event('cmp_plain')"), 10)->{path}, "/$copy", '... until it is resumed itself');
}
is_query($node, $db, 'SELECT count(pid), min(state) FROM osmtalk.worker_status', '0|paused', 'which leaves the original paused');
sql('SELECT osmtalk.resume()');
is_delivered($event, 'it is resumed');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'all is sent');

# ---- all in all ----

my %times;
$times{$_}++ for $receiver->event_ids;
my $again = sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE 'no result:%'");
is(scalar(grep { $_ > 1 } values %times), $again, 'twice came only what was cut off');
is_query($node, $db, "SELECT count(*) FROM osmtalk.deliveries WHERE state <> 'delivered'", 0, 'and everything came');
unlike(log_since($node), qr/terminated by signal|PANIC/, 'no process crashed');
sql('SELECT osmtalk.pause()');
is($node->psql('postgres', 'DROP DATABASE app'), 0, 'a database that is being paused can be dropped');

done_testing();
