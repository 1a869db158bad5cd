# Who is slow, dead or drowning in events takes nothing from the others; and
# the limits hold.

use strict;
use warnings;
use IO::Socket::INET;
use List::Util qw(max);
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $healthy = Osmtalk::Receiver->new;
my $drowning = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.request_timeout = 5s\n");
set_up($node, $db, url => $healthy->url);

sub sql { return $node->safe_psql($db, join '', @_); }

# The most requests that were open at once, given how long each took.
sub most_at_once
{
	my ($ms, @requests) = @_;
	my @changes = sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } map { ([ $_->{arrivedAt}, 1 ], [ $_->{arrivedAt} + $ms, -1 ]) } @requests;
	my ($open, $most) = (0, 0);

	for (@changes)
	{
		$open += $_->[1];
		$most = max($most, $open);
	}
	return $most;
}

# ---- limits ----

setting($node, 'osmtalk.max_in_flight' => 12, 'osmtalk.max_in_flight_per_endpoint' => 5);
sql("INSERT INTO osmtalk.org_settings VALUES ('drowning', '" . $drowning->url('/slow/50') . "');
	UPDATE osmtalk.org_settings SET default_webhook_url = '" . $healthy->url('/slow/50') . "' WHERE org_id = 'acme'");
sql("SELECT osmtalk.send_test_event('drowning'), osmtalk.send_test_event('acme') FROM generate_series(1, 100)");
is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'two hundred are sent');
# a little less than they took at least
is(most_at_once(45, $_->requests(path => '/slow/50')), 5, 'at most 5 at once to one endpoint, and no fewer') for $healthy, $drowning;
setting($node, 'osmtalk.max_in_flight' => 3);
sql("SELECT osmtalk.send_test_event('drowning'), osmtalk.send_test_event('acme') FROM generate_series(1, 20)");
is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'forty more');
is(most_at_once(45, map { my @r = $_->requests(path => '/slow/50'); @r[ 100 .. $#r ] } $healthy, $drowning), 3, 'at most 3 at once in all, after a reload');
setting($node, 'osmtalk.max_in_flight' => undef, 'osmtalk.max_in_flight_per_endpoint' => undef);

# ---- one that drowns in events and answers slowly ----

my $session = session($node, $db);
my @latencies;

# Sends N events to the healthy receiver, one after the other, and says how
# long the slowest took to arrive.
sub slowest_of
{
	my ($n) = @_;
	my $slowest = 0;

	for (1 .. $n)
	{
		my $begun = now();
		my $event = $session->query_safe("SELECT osmtalk.send_test_event('acme')");
		$slowest = max($slowest, (request_of($healthy, $event, 20)->{arrivedAt} // 1e15) / 1000 - $begun);
	}
	return $slowest;
}

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $healthy->url . "' WHERE org_id = 'acme';
	UPDATE osmtalk.org_settings SET default_webhook_url = '" . $drowning->url('/slow/100') . "' WHERE org_id = 'drowning'");
sql("SELECT count(osmtalk.send_test_event('drowning')) FROM generate_series(1, 3000)");
my $slowest = slowest_of(20);
note sprintf 'beside a backlog of 3000: the slowest of 20 took %.0f ms', 1000 * $slowest;
cmp_ok($slowest, '<', 1, 'a backlog elsewhere delays nobody');
cmp_ok(sql("SELECT count(*) FROM osmtalk.outbox"), '>', 1000, '(it was there all the while)');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $drowning->url . "' WHERE org_id = 'drowning'");
is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'it goes quickly once it answers quickly');

# ---- three hundred endpoints that never answer ----

# the kernel accepts the connections, and nobody reads them
my @hung = map {
	IO::Socket::INET->new(LocalAddr => '127.1.' . int($_ / 100) . '.' . ($_ % 100 + 1), Listen => 64) or die "could not listen: $@"
} 1 .. 300;
sql(join "\n", map {
		sprintf "INSERT INTO osmtalk.org_settings VALUES ('hung%d', 'http://%s:%d/');", $_, $hung[$_]->sockhost, $hung[$_]->sockport
	} 0 .. $#hung);
sql("SELECT count(osmtalk.send_test_event(org_id)) FROM osmtalk.org_settings, generate_series(1, 3) WHERE org_id LIKE 'hung%'");
$node->poll_query_until($db, "SELECT in_flight >= 90 FROM osmtalk.worker_status") or die "too few requests hang";
$slowest = slowest_of(50);
note sprintf 'beside 300 hung endpoints: the slowest of 50 took %.0f ms', 1000 * $slowest;
cmp_ok($slowest, '<', 1, 'hung endpoints, however many, delay nobody');
cmp_ok(sql("SELECT in_flight FROM osmtalk.worker_status"), '<=', 97, 'five eighths of the requests are for the others');
# one that is new has still to prove itself
my $new = Osmtalk::Receiver->new;
sql("INSERT INTO osmtalk.org_settings VALUES ('new', '" . $new->url . "')");
my $begun = now();
my $event = sql("SELECT osmtalk.send_test_event('new')");
my $took = (request_of($new, $event, 30)->{arrivedAt} // 1e15) / 1000 - $begun;
note sprintf 'a new endpoint among them waited %.1f s', $took;
cmp_ok($took, '<', 16, 'a new endpoint among them gets its turn');

# once they have shown that they do not answer, they stand behind
$node->poll_query_until($db, "SELECT count(DISTINCT org_id) = 300 FROM osmtalk.deliveries WHERE org_id LIKE 'hung%' AND attempts > 0");
sql("SELECT count(osmtalk.send_test_event(org_id)) FROM osmtalk.org_settings, generate_series(1, 3) WHERE org_id LIKE 'hung%'");
$node->poll_query_until($db, "SELECT in_flight >= 30 FROM osmtalk.worker_status") or die "too few requests hang";
my $newer = Osmtalk::Receiver->new;
sql("INSERT INTO osmtalk.org_settings VALUES ('newer', '" . $newer->url . "')");
$begun = now();
$took = (request_of($newer, sql("SELECT osmtalk.send_test_event('newer')"), 30)->{arrivedAt} // 1e15) / 1000 - $begun;
note sprintf 'a new endpoint among those that have failed waited %.2f s', $took;
cmp_ok($took, '<', 1, 'a new endpoint does not wait for those that have failed');

# ---- a URL that is changed from the dead to the living ----

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $new->url('/moved') . "' WHERE org_id LIKE 'hung%'");
is(sql("SELECT osmtalk.wait_until_drained('40 s')"), 't', 'what waits for the hung goes to the new URL');
cmp_ok(scalar(my @moved = $new->requests(path => '/moved')), '>', 300, 'most of it');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE org_id LIKE 'hung%' AND state NOT IN ('delivered', 'failed')"), 0, 'all has a result');
$session->quit;

done_testing();
