# A worker for each database that has the extension, and none elsewhere:
# however it came to be there, and when the server has no room for one.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');

# Databases with a worker, those without the extension not yet looked into left out.
sub workers
{
	return $node->safe_psql('postgres', "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity
		WHERE backend_type = 'osmtalk worker' AND state IS NOT NULL AND datname IS NOT NULL");
}

sub workers_become
{
	my ($expected, $name) = @_;
	my $workers = '';

	wait_for(sub { $workers = workers(); $workers eq $expected }, "workers in $expected", 10);
	return is($workers, $expected, $name);
}

# An event of this database arrives.
sub delivers
{
	my ($database, $name) = @_;
	my $event = $node->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");

	return ok(request_of($receiver, $event, 10)->{seq}, $name);
}

# ---- CREATE and DROP EXTENSION ----

workers_become('', 'no extension, no worker');
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
my $session = session($node, 'one');
my $took = measure(sub {
		$session->query_safe(set_up_sql(url => $receiver->url));
		my $event = $session->query_safe("SELECT osmtalk.send_test_event('acme')");
		request_of($receiver, $event);
	});
note sprintf('from CREATE EXTENSION to the first arrival: %.2f s', $took);
cmp_ok($took, '<', 3, 'CREATE EXTENSION starts a worker at once');
$session->quit;
set_up($node, 'two', url => $receiver->url);
workers_become('one two', 'two databases, two workers');
delivers($_, "$_ delivers") for qw(one two);

$node->safe_psql('one', 'DROP EXTENSION osmtalk; DROP SCHEMA test CASCADE');
workers_become('two', 'DROP EXTENSION ends the one');
delivers('two', 'and leaves the other');

$node->psql('one', 'BEGIN; CREATE EXTENSION osmtalk; ROLLBACK');
workers_become('two', 'CREATE EXTENSION rolled back: no worker');
set_up($node, 'one', url => $receiver->url);
workers_become('one two', 'CREATE EXTENSION again');
delivers($_, "$_ delivers") for qw(one two);
$node->psql('one', 'BEGIN; DROP EXTENSION osmtalk; ROLLBACK');
delivers('one', 'DROP EXTENSION rolled back: it goes on');

for my $i (1 .. 3)
{
	$node->safe_psql('one', 'DROP EXTENSION osmtalk; DROP SCHEMA test CASCADE; ' . set_up_sql(url => $receiver->url));
	delivers('one', "dropped and created in one go, $i");
}
$node->safe_psql('one', 'BEGIN; DROP EXTENSION osmtalk; DROP SCHEMA test CASCADE; ' . set_up_sql(url => $receiver->url) . 'COMMIT');
delivers('one', 'dropped and created in one transaction');
workers_become('one two', 'one worker each');

# ---- server start ----

$node->restart;
workers_become('one two', 'present at server start');
delivers($_, "$_ delivers") for qw(one two);
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'osmtalk launcher'"), '1', 'one launcher');

# ---- copies with CREATE DATABASE … TEMPLATE ----

setting($node, 'osmtalk.enabled' => 'off');
my $pending = $node->safe_psql('one', "SELECT osmtalk.send_test_event('acme')");
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one');
workers_become('copy one two', 'a copy has a worker');
is_query($node, 'copy', "SELECT state FROM osmtalk.deliveries WHERE event_id = '$pending'", 'pending', 'and the pending event');
setting($node, 'osmtalk.enabled' => undef);
ok(request_of($receiver, $pending)->{seq}, 'the original sends it');
delivers('copy', 'the copy sends its own');
$node->poll_query_until('copy', "SELECT now() - created_at > interval '2 s' FROM osmtalk.events WHERE id = '$pending'");
is(scalar(my @n = $receiver->requests(eventId => $pending)), 1, 'but not what it inherited');
is_query($node, 'copy', 'SELECT state, events_not_adopted, calls_not_adopted FROM osmtalk.worker_status', 'waiting for adopt()|1|0', 'worker_status says so');
like(log_since($node), qr/database "copy" holds 1 events .*of another database/, 'so does the log');
is_query($node, 'copy', "SELECT osmtalk.adopt(true)", '1', 'adopt(discard)');
is_query($node, 'copy', 'SELECT state, events_not_adopted FROM osmtalk.worker_status', 'running|0', 'nothing waits any more');
$node->safe_psql('postgres', 'DROP DATABASE copy');
workers_become('one two', 'dropped with its worker');

# a template is there to be copied: nobody may be connected to it
$node->safe_psql('postgres', "ALTER DATABASE two IS_TEMPLATE true");
$node->restart;
workers_become('one', 'no worker in a template');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE two');
workers_become('copy one', 'but in its copy');
$node->safe_psql('postgres', "ALTER DATABASE two IS_TEMPLATE false; DROP DATABASE copy; ALTER DATABASE two ALLOW_CONNECTIONS false");
$node->restart;
workers_become('one', 'no worker where connections are not allowed');
$node->safe_psql('postgres', "ALTER DATABASE two ALLOW_CONNECTIONS true");

# ---- an encoding that could not hold the bodies ----

$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
my ($status, $stdout, $stderr) = $node->psql('latin', '\set VERBOSITY verbose
CREATE EXTENSION osmtalk');
like($stderr, qr/ERROR:  0A000: .*UTF8/, 'an encoding other than UTF8 is refused');

# ---- too few background workers ----

# one goes to the launcher of logical replication, one to osmtalk's
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
$node->restart;
my $full = wait_for(sub { my $w = workers(); $w =~ /^(one|two)$/ && $w }, 'one of the two to have a worker', 10);
my $starved = ($full // '') eq 'one' ? 'two' : 'one';
ok($full, 'the one that found a process has a worker');
ok(wait_for(sub { $node->safe_psql($starved, "SELECT pid IS NULL AND state LIKE 'no worker: no background worker process is free%' FROM osmtalk.worker_status") eq 't' },
		'the reason', 10), 'worker_status of the other has the reason');
like(log_since($node), qr/no free background worker for database \d+.*\n.*HINT.*max_worker_processes/, 'so has the log');
delivers($full, 'the one delivers');
my $waits = $node->safe_psql($starved, "SELECT osmtalk.send_test_event('acme')");
is_query($node, $starved, "SELECT state FROM osmtalk.deliveries WHERE event_id = '$waits'", 'pending', 'the other queues');
$node->safe_psql('postgres', "DROP DATABASE $full");
ok(request_of($receiver, $waits, 20)->{seq}, 'a process becomes free: it is taken');
my $complaints = () = log_since($node) =~ /no free background worker/g;
cmp_ok($complaints, '<=', 4, 'the log is not flooded');
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');

# ---- not preloaded ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE late');
($status, $stdout, $stderr) = $node->psql('late', 'CREATE EXTENSION osmtalk');
is($status, 0, 'not preloaded: CREATE EXTENSION works');
like($stderr, qr/WARNING:  osmtalk is not preloaded.*\n.*HINT: .*shared_preload_libraries/, 'and warns with a hint');
$node->safe_psql('late', "INSERT INTO osmtalk.org_settings VALUES ('acme', '" . $receiver->url . "')");
my $queued = $node->safe_psql('late', "SELECT osmtalk.send_test_event('acme')");
is_query($node, 'late', "SELECT state FROM osmtalk.deliveries WHERE event_id = '$queued'", 'pending', 'events queue');
is_query($node, 'late', "SELECT pid IS NULL, state FROM osmtalk.worker_status", 't|not preloaded: add osmtalk to shared_preload_libraries and restart the server', 'worker_status says why');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'osmtalk'");
$node->restart;
ok(request_of($receiver, $queued, 10)->{seq}, 'once it is, they are sent');

my %times;
$times{$_}++ for $receiver->event_ids;
is_deeply([ grep { $times{$_} > 1 } keys %times ], [], 'nothing came twice');

done_testing();
