# Workers that are ended while they start, that cannot start, and that do not
# run at all: they come back, and neither others nor the application notice.

use strict;
use warnings;
use Osmtalk::Process;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
my @databases = map { "db$_" } 1 .. 8;
my $each = 25;

sub delivers
{
	my ($database, $name, $seconds) = @_;
	my $event = $node->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");
	my $took = measure(sub { request_of($receiver, $event, 20) });

	note sprintf '%s: %.2f s', $name, $took;
	cmp_ok($took, '<', $seconds // 3, $name);
	return is(state_of($node, $database, $event), 'delivered|1|204|', '... and it is recorded');
}

# ---- ended at every step of their start ----

$node->safe_psql('postgres', "CREATE DATABASE $_") for @databases;
set_up($node, $_, url => $receiver->url) for @databases;
# a worker is in shared memory before it is connected
my @killers = map {
	Osmtalk::Process->start([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($_), '-c', <<"END" ], output => "$PostgreSQL::Test::Utils::log_path/killer_$_")
DO \$\$
DECLARE
	found int;
	last int := 0;
	n int := 0;
BEGIN
	PERFORM set_config('statement_timeout', '120s', true), set_config('client_min_messages', 'error', true);
	WHILE n < $each LOOP
		SELECT w.pid INTO found FROM osmtalk.worker_slots() w WHERE w.pid <> last;
		IF found IS NULL THEN
			PERFORM pg_sleep(0.0003);
			CONTINUE;
		END IF;
		n := n + 1;
		last := found;
		-- some milliseconds into its start, or, in every other database, always at once: it never gets to work
		IF @{[ /[1357]$/ ? 1 : 0 ]} = 1 THEN
			PERFORM pg_sleep(0.03 * random());
		END IF;
		-- it can be found before it can be terminated
		WHILE NOT pg_terminate_backend(found) LOOP
			EXIT WHEN NOT EXISTS (SELECT FROM osmtalk.worker_slots() w WHERE w.pid = found);
			PERFORM pg_sleep(0.0003);
		END LOOP;
	END LOOP;
END \$\$
END
} @databases;
my $begun = now();
ok(wait_for(sub { !grep { $_->is_alive } @killers }, 'the killers', 120), 'workers were terminated as they started, ' . $each * @databases . ' times');
note sprintf 'in %.1f s', now() - $begun;
cmp_ok(now() - $begun, '<', 1.5 * $each, 'each soon after the one before');
delivers($_, "$_: the next one delivers") for @databases;
is_query($node, $_, 'SELECT count(*), count(pid) FROM osmtalk.worker_status', '1|1', "$_ has one worker") for @databases;
my @ended = log_since($node) =~ /terminating background worker "osmtalk worker"/g;
cmp_ok(scalar(@ended), '>=', $each * @databases, '(so many were ended)');
unlike(log_since($node), qr/terminated by signal|PANIC|could not be recorded|cannot start to work/, 'none by a signal, none with an error');

# ---- a database that takes no connections ----

my ($closed, $limited, $open) = @databases;
my $from = -s $node->logfile;
my $pid = worker_pid($node, $closed);
$node->safe_psql('postgres', "ALTER DATABASE $closed ALLOW_CONNECTIONS false");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
delivers($open, 'others deliver while one takes no connections');
$node->poll_query_until($open, "SELECT now() - max(created_at) > interval '3 s' FROM osmtalk.events");
my @tries = log_since($node, $from) =~ /database "$closed" is not currently accepting connections/g;
cmp_ok(scalar(@tries), '<=', 4, 'it is not tried over and over');
$node->safe_psql('postgres', "ALTER DATABASE $closed ALLOW_CONNECTIONS true");
delivers($closed, 'it takes connections again, and delivers', 5);

$node->safe_psql('postgres', "ALTER DATABASE $limited CONNECTION LIMIT 0");
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '$limited' AND backend_type = 'osmtalk worker'");
delivers($limited, 'a limit on connections does not keep the worker out');

# as an interrupted DROP DATABASE leaves it
$from = -s $node->logfile;
$node->safe_psql('postgres', "UPDATE pg_database SET datconnlimit = -2 WHERE datname = '$closed'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '$closed' AND backend_type = 'osmtalk worker'");
delivers($open, 'others deliver while one is invalid');
$node->poll_query_until($open, "SELECT now() - max(created_at) > interval '3 s' FROM osmtalk.events");
my @refused = log_since($node, $from) =~ /cannot connect to invalid database/g;
cmp_ok(scalar(@refused), '<=', 5, 'it is not tried over and over');
$node->safe_psql('postgres', "DROP DATABASE $closed");

# ---- databases that are dropped before their worker is there ----

$from = -s $node->logfile;
for my $i (1 .. 20)
{
	$node->safe_psql('postgres', "CREATE DATABASE brief TEMPLATE $databases[3]");
	$node->safe_psql('postgres', 'SELECT pg_sleep(0.03 * random())') if $i % 3;
	is($node->psql('postgres', $i % 2 ? 'DROP DATABASE brief' : 'DROP DATABASE brief WITH (FORCE)'), 0, "a database is made and dropped, $i");
}
delivers($open, 'others deliver', 2);
delivers($databases[3], 'so does the template', 3);
my @fatal = grep { !/does not exist|terminating background worker|administrator command/ } log_since($node, $from) =~ /^.*(?:FATAL|PANIC).*$/mg;
is_deeply(\@fatal, [], 'the log has nothing but that they do not exist');

# ---- no worker, or one that does not move: the application does not notice ----

my $db = $databases[4];
my $session = session($node, $db);

sub latency
{
	my @took = sort { $a <=> $b } map { measure(sub { $session->query_safe("SELECT test.event('cmp_plain')") }) } 1 .. 60;

	return 1000 * $took[30];
}

latency();
my $usual = latency();
$pid = worker_pid($node, $db);
kill 'STOP', $pid or die;
my $stopped = latency();
kill 'CONT', $pid or die;
$session->query_safe('SELECT osmtalk.pause()');
$node->poll_query_until($db, "SELECT state = 'paused' FROM osmtalk.worker_status");
my $paused = latency();
note sprintf 'median of ending a call: %.2f ms with the worker, %.2f ms while it stands still, %.2f ms without', $usual, $stopped, $paused;
cmp_ok($stopped, '<', 2 * $usual + 2, 'a worker that stands still costs the application nothing');
cmp_ok($paused, '<', 2 * $usual + 2, 'nor does one that is not there');
is_query($node, $db, 'SELECT pending >= 60 AND pending = (SELECT count(*) FROM osmtalk.outbox) FROM osmtalk.worker_status', 't', 'worker_status counts what waits');
$session->query_safe('SELECT osmtalk.resume()');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('30 s')", 't', 'all is sent');
$session->quit;

my %times;
$times{$_}++ for $receiver->event_ids;
is_deeply([ grep { $times{$_} > 1 } keys %times ], [], 'nothing came twice');
unlike(log_since($node), qr/terminated by signal|PANIC/, 'no process crashed');

done_testing();
