# Memory runs out in the worker, at random: in the server's own code, in
# libcurl, in OpenSSL, in the resolver.  It never dies of it, sends nothing
# without its signature, loses nothing and sends nothing twice.

use strict;
use warnings;
use Osmtalk::Endpoints;
use Osmtalk::FailingMalloc;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $secret = 'whsec_of_acme';
my $seed = $ENV{SEED} // time;
my $repeat = $ENV{REPEAT} // 2;
my $malloc = Osmtalk::FailingMalloc->new(seed => $seed);
my $endpoints = Osmtalk::Endpoints->new(secret => $secret);
my $node = new_cluster('main', start => 0, conf => "osmtalk.request_timeout = 1s\nosmtalk.ca_file = '" . $endpoints->ca_file . "'\n");

note "the seed is $seed";
{
	local %ENV = (%ENV, $malloc->environment);
	$node->start;
}
set_up($node, $db, secret => $secret);

sub sql { return $node->safe_psql($db, join '', @_); }

sql($endpoints->campaigns_sql);
# libcurl 8 goes on with the SSL object that it did not get (SSL_set0_rbio; seen in 8.14 and 8.22)
my ($major) = `curl-config --version` =~ /(\d+)\./;
my @sound = $major >= 8 ? $endpoints->plain : $endpoints->all;
my %is_slow = map { $_ => 1 } $endpoints->slow;
my @slow = grep { $is_slow{$_} } @sound;
my @quick = grep { !$is_slow{$_} } @sound;

my $events = 0;
sub finalise
{
	my ($n, @campaigns) = @_;

	$events += $n * @campaigns;
	sql(map { "SELECT test.finalise('$_', $n);" } @campaigns);
	return;
}

# One after the other, and the odds that they are worth to a round: allocations of
# the server are few and each is the end of a transaction, those of OpenSSL are
# thousands for each handshake.
my @rounds = (
	[ 'libraries, seldom', libraries => 100 ],
	[ 'libraries', libraries => 1000 ],
	[ 'libraries, often', libraries => 20_000 ],
	[ 'the server, seldom', server => 2000 ],
	[ 'the server', server => 20_000 ],
	[ 'both', server => 10_000, libraries => 1000 ],
);
my $postmaster = sql('SELECT pg_postmaster_start_time()');

for my $round (@rounds)
{
	my ($what, %odds) = @$round;
	my $before = $malloc->counts;

	$malloc->set_odds(%odds);
	for my $i (1 .. $repeat)
	{
		finalise(10, @quick);
		finalise(2, @slow);
		# authorities are read again, handles made anew
		setting($node, 'osmtalk.max_in_flight' => 50 + $i);
		sql("SELECT osmtalk.wait_until_drained('2 s')");
		# ends and begins with no memory, too
		sql("SELECT pg_terminate_backend(pid) FROM osmtalk.worker_status WHERE pid IS NOT NULL") if $i % 2;
	}
	$malloc->set_odds;
	my $after = $malloc->counts;
	note "$what: ", join ', ', map { "$_ " . ($after->{$_} - $before->{$_}) } qw(server_calls server_failures libraries_calls libraries_failures);
	is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', "$what: nothing is left once there is memory");
	is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state NOT IN ('delivered', 'failed')"), 0, "$what: each event has a result");
}

# ---- what must hold after all that ----

my $counts = $malloc->counts;
cmp_ok($counts->{"${_}_failures"}, '>=', 10, "allocations of $_ have failed") for qw(server libraries);

is(sql('SELECT pg_postmaster_start_time()'), $postmaster, 'the server is the one that was started');
unlike(log_since($node), qr/terminated by signal|PANIC|reinitializing/, 'and none of its processes died by a signal');
is(sql('SELECT count(*) FROM osmtalk.events'), $events, 'no event is missing');

my %received;
my @requests = $endpoints->requests;
is(scalar(grep { !$_->{verified} } @requests), 0, 'each of ' . @requests . ' requests had its signature');
$received{ $_->{eventId} }++ for @requests;
my %known = map { $_ => 1 } split /\n/, sql('SELECT id FROM osmtalk.events');
is_deeply([ grep { !$known{$_} } keys %received ], [], 'and was for an event that there is');
my %attempts = map { split /\|/ } split /\n/, sql("SELECT event_id, count(*) FROM osmtalk.delivery_attempts GROUP BY 1");
is_deeply([ grep { $received{$_} > $attempts{$_} } keys %received ], [], 'no request without its attempt');
my @delivered = split /\n/, sql("SELECT event_id FROM osmtalk.deliveries WHERE state = 'delivered'");
cmp_ok(scalar(@delivered), '>', 100, scalar(@delivered) . ' events were delivered');
is_deeply([ grep { !$received{$_} } @delivered ], [], 'what is recorded as delivered has arrived');
is(sql("SELECT count(*) FROM (SELECT FROM osmtalk.delivery_attempts WHERE http_status IS NOT NULL GROUP BY event_id HAVING count(*) > 1) x"), 0,
	'nothing that was answered was sent again');
ok(wait_for(sub { sql('SELECT count(*) FROM osmtalk.claims') == 0 }, 'the claims to go'), 'no claim is left');
note sql("SELECT string_agg(format('%s x %s', n, error), E'\\n') FROM (
	SELECT count(*) AS n, coalesce(error, 'delivered') AS error FROM osmtalk.delivery_attempts GROUP BY 2 ORDER BY 1 DESC) e");

# and with memory, all is as it was
my @good = $endpoints->good;
my $last = sql("SELECT clock_timestamp()");
finalise(20, @good);
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'afterwards:');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE created_at >= '$last' AND state = 'delivered'"), 20 * @good, 'events are delivered as ever');

done_testing();
