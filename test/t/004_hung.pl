# Two hundred requests that nobody answers: the database does not notice.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $hung = 200;
my $other = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => <<'END');
osmtalk.request_timeout = 2min
osmtalk.max_in_flight = 512
osmtalk.max_in_flight_per_endpoint = 200
END
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, 'app', url => $other->url);
my $db = 'app';

sub sql { return $node->safe_psql($db, join '', @_); }

# Has 200 requests in flight that hang.  An endpoint is trusted with more
# requests at once as it answers, so first it answers; and a new one each
# time, because requests that hung before are made again, and hang.
sub hang
{
	my $receiver = Osmtalk::Receiver->new;

	$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status');
	sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/') . "';
		SELECT test.finalise('cmp_plain', $hung)");
	$receiver->wait_for_count($hung) or die;
	$node->poll_query_until($db, "SELECT count(*) >= $hung FROM osmtalk.delivery_attempts WHERE url = '" . $receiver->url('/') . "'");
	sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/hang') . "';
		SELECT test.finalise('cmp_plain', $hung)");
	$receiver->wait_for_count(2 * $hung) or die;
	is(sql("SELECT in_flight >= $hung FROM osmtalk.worker_status"), 't', "$hung requests hang");
	return;
}

# An event to the other receiver arrives within SECONDS.
sub others_are_served
{
	my ($seconds, $name) = @_;
	my $event = sql("SELECT osmtalk.send_test_event('acme')");
	my $sent_at = now();
	my $request = request_of($other, $event, 10);
	my $took = ($request->{arrivedAt} // 0) / 1000 - $sent_at;

	return ok($request->{arrivedAt} && $took < $seconds, sprintf '%s: others are served', $name);
}

# Runs a command in another database and says how long it took.
sub within
{
	my ($seconds, $command) = @_;
	my $failed;
	my $took = measure(sub { $failed = $node->psql('postgres', $command, on_error_die => 0) });

	note sprintf('%s: %.3f s', $command, $took);
	is($failed, 0, $command);
	return cmp_ok($took, '<', $seconds, '... in time');
}

# ---- what the worker holds while it waits: nothing ----

hang();
others_are_served(2, "$hung hang");

# so that no look of the worker's own comes in between
setting($node, 'osmtalk.poll_interval' => '1h');
sql("SELECT test.event('cmp_plain')");    # it has begun to wait that long
$node->poll_query_until($db, "SELECT pending = 1 FROM osmtalk.worker_status");
my $session = session($node, $db);
my $pid = worker_pid($node, $db);
my %held;
for my $look (1 .. 1000)
{
	# what it did when it was last woken may not be over yet
	last if $look > 200 && ($look - 1) % 200 == 0 && !%held;
	%held = () if ($look - 1) % 200 == 0;
	my $sample = $session->query_safe("SELECT backend_xid, backend_xmin, xact_start, state FROM pg_stat_activity WHERE pid = $pid");
	$held{"transaction: $sample"}++ if $sample ne '|||idle';
	$held{"lock: $_"}++ for split /\n/, $session->query_safe("SELECT locktype, relation::regclass, mode FROM pg_locks
		WHERE pid = $pid AND locktype <> 'advisory'");
}
is_deeply(\%held, {}, 'no transaction, snapshot, id or lock in 200 looks, one after the other');
is($session->query_safe("SELECT count(*), min(mode) FROM pg_locks WHERE pid = $pid"), '1|ExclusiveLock', 'but one advisory lock');
is($session->query_safe("SELECT in_flight FROM osmtalk.worker_status"), $hung, 'all still hang');
my $dead = $session->query_safe("CREATE TABLE test.dead AS SELECT generate_series(1, 1000); DELETE FROM test.dead");
$session->query_safe("VACUUM test.dead");
is($session->query_safe("SELECT pg_relation_size('test.dead')"), 0, 'VACUUM removes what has died meanwhile');
$session->quit;
setting($node, 'osmtalk.poll_interval' => undef);

# ---- a reload ----

setting($node, 'osmtalk.enabled' => 'off');
my $event = sql("SELECT osmtalk.send_test_event('acme')");
$node->poll_query_until($db, "SELECT now() - created_at > interval '1200 ms' FROM osmtalk.events WHERE id = '$event'");
is(scalar(my @none = $other->requests(eventId => $event)), 0, 'enabled = off is honoured');
my $begun = now();
$node->safe_psql('postgres', 'ALTER SYSTEM RESET osmtalk.enabled');
$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
cmp_ok((request_of($other, $event, 10)->{arrivedAt} // 1e15) / 1000 - $begun, '<', 1.5, 'enabled = on is honoured within a second');

# ---- DDL in other databases ----

$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->safe_psql('postgres', 'CREATE DATABASE extended');
set_up($node, 'extended', url => $other->url);
within(2, 'DROP DATABASE plain');
within(2, 'DROP DATABASE extended');
is(sql("SELECT in_flight, pid = $pid FROM osmtalk.worker_status"), "$hung|t", 'all still hang, in the same worker');

# ---- DDL that wants this database for itself ----

within(2, 'CREATE DATABASE copy TEMPLATE app');
others_are_served(3, 'after CREATE DATABASE … TEMPLATE');
within(2, 'DROP DATABASE copy');

hang();
within(2, 'ALTER DATABASE app RENAME TO renamed');
$db = 'renamed';
others_are_served(3, 'after RENAME');

hang();
my $away = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE away LOCATION '$away'");
within(2, 'ALTER DATABASE renamed SET TABLESPACE away');
others_are_served(3, 'after SET TABLESPACE');

# what fails must not leave the database without its worker
hang();
my $user = session($node, $db);
isnt($node->psql('postgres', 'CREATE DATABASE copy TEMPLATE renamed'), 0, 'CREATE DATABASE … TEMPLATE fails while a session is connected');
$user->quit;
others_are_served(3, 'after a command that failed');

$node->safe_psql('postgres', 'CREATE ROLE somebody LOGIN CREATEDB');
$pid = worker_pid($node, $db);
isnt($node->psql('postgres', 'SET ROLE somebody; DROP DATABASE renamed'), 0, 'somebody may not drop it');
isnt($node->psql('postgres', 'SET ROLE somebody; ALTER DATABASE renamed RENAME TO mine'), 0, 'nor rename it');
isnt($node->psql('postgres', 'SET ROLE somebody; CREATE DATABASE mine TEMPLATE renamed'), 0, 'nor copy it');
isnt($node->psql('postgres', 'BEGIN; DROP DATABASE renamed; COMMIT'), 0, 'DROP DATABASE in a transaction block fails');
is(worker_pid($node, $db), $pid, 'and the worker is not made to leave');

# ---- DROP EXTENSION, shutdown ----

hang();
$pid = worker_pid($node, $db);
my $took = measure(sub { sql('DROP EXTENSION osmtalk') });
note sprintf('DROP EXTENSION: %.3f s', $took);
cmp_ok($took, '<', 2, 'DROP EXTENSION in time');
$took = measure(sub {
		wait_for(sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' }, 'the worker to end', 10);
	});
cmp_ok($took, '<', 2, 'and the worker ends');
note sprintf('the worker ended after %.3f s', $took);
within(2, 'DROP DATABASE renamed');

$db = 'again';
$node->safe_psql('postgres', 'CREATE DATABASE again');
set_up($node, $db, url => $other->url);
hang();
$took = measure(sub { $node->stop('fast') });
note sprintf('stop -m fast: %.3f s', $took);
cmp_ok($took, '<', 5, 'stop -m fast in time');
unlike(log_since($node), qr/terminated by signal|FATAL:(?!.*terminating|.*permission)/, 'no process crashed');

done_testing();
