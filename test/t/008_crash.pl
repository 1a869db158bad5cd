# Crashes in the middle of a delivery: nothing is lost, and what is sent twice
# is what was in flight, with the same bytes.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;
use Time::Local qw(timegm);

my $db = 'postgres';
my $events = 5000;
my $receiver = Osmtalk::Receiver->new;
# synchronous_commit: what is sent must not be lost, whatever sessions risk
my $node = new_cluster('main', conf => "log_timezone = 'UTC'\nosmtalk.request_timeout = 60s\nsynchronous_commit = off\n");
expect_signals();

sub sql { return $node->safe_psql($db, join '', @_); }

# The worker's process id, once there is one; the server may be down meanwhile.
sub worker
{
	my $pid;

	wait_for(sub {
			my ($status, $stdout) = $node->psql($db, 'SELECT pid FROM osmtalk.worker_status');
			return $status == 0 && ($pid = $stdout);
		}, 'a worker') or die;
	return $pid;
}

# Kills the worker as the kernel would, and waits for the server to be back.
sub kill_worker
{
	my ($signal) = @_;
	my $pid = worker();
	my $ready = () = log_since($node) =~ /ready to accept connections/g;

	kill $signal, $pid or die "no worker $pid\n";
	wait_for(sub { $ready < (() = log_since($node) =~ /ready to accept connections/g) }, 'the restart') or die;
	return;
}

# event id => [ digests of what was received ]
sub received
{
	my %received;

	for (@{ $receiver->lines })
	{
		my ($id, $digest) = /"eventId":"([^"]+)".*"sha256":"([^"]+)"/;
		push @{ $received{$id} }, $digest;
	}
	return \%received;
}

# What holds whatever has happened: each event was delivered, and for each time
# that one came again there is an attempt without a result.
sub check_deliveries
{
	my ($expected, $what) = @_;
	my $received = received();

	is(scalar(keys %$received), $expected, "$what: every event has arrived");
	is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state = 'delivered'"), $expected, "$what: every event is recorded as delivered");
	is_deeply([ grep { my %d = map { $_ => 1 } @{ $received->{$_} }; keys %d != 1 } keys %$received ], [], "$what: the bytes are the same each time");
	my %no_result = map { split /\|/ } split /\n/, sql("SELECT event_id, count(*) FROM osmtalk.delivery_attempts
		WHERE http_status IS NULL AND error LIKE 'no result:%' GROUP BY event_id");
	my @unexplained = grep { @{ $received->{$_} } - 1 > ($no_result{$_} // 0) } keys %$received;
	is_deeply(\@unexplained, [], "$what: what came twice has an attempt without a result");
	is(sql("SELECT count(*) FROM (SELECT FROM osmtalk.delivery_attempts WHERE http_status IS NOT NULL GROUP BY event_id HAVING count(*) > 1) x"), 0,
		"$what: nothing that was answered was sent again");
	is(sql("SELECT count(*) FROM (SELECT FROM osmtalk.delivery_attempts GROUP BY event_id HAVING min(attempt) <> 1 OR max(attempt) <> count(*)) x"), 0,
		"$what: attempts are numbered without gaps");
	is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error NOT LIKE 'no result:%'"), 0, "$what: nothing has failed or was set aside");
	note sprintf '%s: %d events, %d arrivals, %d attempts without a result', $what, $expected, $receiver->count, sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE http_status IS NULL");
	return;
}

# ---- three kills and three immediate stops while 5000 events are sent ----

set_up($node, $db, url => $receiver->url('/slow/20'));
sql("SELECT test.finalise('cmp_plain', $events)");
for my $i (1 .. 6)
{
	$receiver->wait_for_count(600 * $i) or die;
	if ($i % 2)
	{
		kill_worker('KILL');
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
}
cmp_ok(scalar(keys %{ received() }), '<', $events, 'all six came before the end');
worker();
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'all is sent in the end');
check_deliveries($events, 'crashes');
my @arrivals = map { /"arrivedAt":([\d.]+)/ ? $1 / 1000 : () } @{ $receiver->lines };
my @resumed;
my $log = log_since($node);
while ($log =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+\.\d+) UTC .*ready to accept connections/gm)
{
	my $ready = timegm(0, $5, $4, $3, $2 - 1, $1) + $6;
	my ($next) = grep { $_ >= $ready } @arrivals;
	push @resumed, ($next // 1e10) - $ready;
}
shift @resumed;    # the first start
is(scalar(@resumed), 6, 'the server has started again six times');
is_deeply([ grep { $_ > 2 } @resumed ], [], 'delivery goes on within two seconds of that');
note 'after ' . join(', ', map { sprintf '%.2f s', $_ } @resumed);

# ---- the worker alone is ended ----

my $before = keys %{ received() };
sql("SELECT test.finalise('cmp_plain', 12000)");
my @back;
for my $i (1 .. 10)
{
	$receiver->wait_for_count(scalar(@arrivals) + 200 * $i) or die;
	my $pid = worker();
	push @back, measure(sub {
			sql("SELECT pg_terminate_backend($pid, 5000)");
			wait_for(sub { sql("SELECT pid <> $pid AND state = 'running' FROM osmtalk.worker_status") eq 't' }, 'the next worker') or die;
		});
}
cmp_ok(scalar(keys %{ received() }), '<', $before + 12000, 'all ten came before the end');
is_deeply([ grep { $_ > 2 } @back ], [], 'a worker that is terminated is back within two seconds');
note 'after ' . join(', ', map { sprintf '%.2f s', $_ } @back);
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'all is sent in the end');
check_deliveries($before + 12000, 'terminated');

# when nothing is in flight, nothing is sent again
my $arrived = $receiver->count;
kill_worker('KILL');
worker();
my $new = sql("SELECT osmtalk.send_test_event('acme')");
is(state_of($node, $db, $new), 'delivered|1|200|', 'a kill while idle: the next event is delivered');
is($receiver->count, $arrived + 1, 'and nothing else is sent');

# ---- whatever is in flight, a kill from outside condemns nothing ----

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/hang') . "'");
my $hangs = sql("SELECT osmtalk.send_test_event('acme')");
for my $i (1 .. 6)
{
	ok(wait_for(sub { $receiver->requests(eventId => $hangs) == $i }, 'the event to hang'), "it is sent, $i");
	# by whatever signal; see 031_poison.pl for deaths of its own
	kill_worker($i % 2 ? 'KILL' : 'SEGV') if $i < 6;
}
is(sql("SELECT worker_deaths FROM osmtalk.outbox"), 0, 'no death is put down to it');
my $other = Osmtalk::Receiver->new;
sql("INSERT INTO osmtalk.org_settings VALUES ('other', '" . $other->url . "')");
ok(request_of($other, sql("SELECT osmtalk.send_test_event('other')"), 5)->{seq}, 'others are sent meanwhile');

# ---- a cancel, and the death of the postmaster ----

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/slow/300') . "'");
for my $i (1 .. 3)
{
	my $event = sql("SELECT osmtalk.send_test_event('acme')");
	request_of($receiver, $event);
	sql("SELECT pg_cancel_backend(pid) FROM osmtalk.worker_status");
	like(state_of($node, $db, $event), qr/^delivered/, "pg_cancel_backend() of the worker does no harm, $i");
}
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/hang') . "'");
request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
my $last = worker();
$node->kill9;
ok(wait_for(sub { !kill 0, $last }, 'its end', 5), 'the postmaster is killed: so ends the worker');

done_testing();
