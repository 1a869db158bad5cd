# Names that lie: they resolve to something else each time, to several things at
# once, to what they should not, or not at all.  Nothing but a public address is
# connected to, and nobody waits for a name but those who have asked for it.

use strict;
use warnings;
use Osmtalk::Accepts;
use Osmtalk::Network;
use Osmtalk::Nginx;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $db = 'postgres';
my $seed = $ENV{SEED} // time;
my $nnames = $ENV{NAMES} // 3000;
my $rounds = $ENV{ROUNDS} // 3;
my $network = Osmtalk::Network->new(seed => $seed);
my $port = Osmtalk::Nginx::free_port();
# the same port, so that only the address makes the difference
my $public = Osmtalk::Receiver->new(listen => [ '127.0.0.2', $port ]);
my $accepts = Osmtalk::Accepts->new($port, '127.0.0.1', '127.0.0.53', '::1');
my $refused = q(not sent: this target is not allowed; the server's log says why);

my $node = new_cluster('main', start => 0, conf => <<'END');
osmtalk.trusted_networks = ''
osmtalk.require_https = off
osmtalk.request_timeout = 15s
END
note "the seed is $seed";
{
	local %ENV = (%ENV, $network->environment);
	$node->start;
}
set_up($node, $db);

sub sql { return $node->safe_psql($db, join '', @_); }

# A campaign for each of N names.
sub make_campaigns
{
	my ($name, $n, $path) = @_;

	sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url)
		SELECT '$name' || i, 'acme', 'x', 'http://$name' || i || '.test:$port/' || $path FROM generate_series(1, $n) i");
	return;
}

sub send_to
{
	my ($pattern, $times) = @_;

	return sql("SELECT count(osmtalk.send_test_event('acme', id)) FROM osmtalk.campaigns, generate_series(1, ${ \($times // 1) }) WHERE id LIKE '$pattern'");
}

sub drain { return is(sql("SELECT osmtalk.wait_until_drained('120 s')"), 't', $_[0]); }

# What became of the last event to a campaign, with all that a tenant sees of it.
sub last_of
{
	my ($campaign) = @_;

	send_to($campaign);
	sql('SELECT osmtalk.wait_until_drained()');
	return sql("SELECT a.http_status, a.error, a.response_body, a.duration_ms FROM osmtalk.events e JOIN osmtalk.delivery_attempts a ON a.event_id = e.id
		WHERE e.campaign_id = '$campaign' ORDER BY e.id DESC, a.attempt DESC LIMIT 1");
}

# ---- what is refused, and what is said of it ----

make_campaigns($_, 2, q('')) for qw(public local own turn);
like(last_of('public1'), qr/^204\|\|\|[\d.]+$/, 'a public address');
is(last_of('local1'), "|$refused||0", 'a name for this machine');
is(last_of('own1'), "|$refused||0", 'a name for the public address that this machine has');
is($network->get('forbidden'), 0, 'neither was connected to');
like(log_since($node), qr/could not be delivered to http:\/\/local1\.test:$port: \Q$refused\E.*\n.*DETAIL:  The address 127\.0\.0\.1 is neither public nor in osmtalk\.trusted_networks\./, 'the log says why');
like(log_since($node), qr/DETAIL:  The address 9\.9\.9\.9 is one of this machine's own/, 'and why');
is(sql("SELECT last_error FROM osmtalk.worker_status"), $refused, 'worker_status says no more than the tenant sees');
setting($node, 'osmtalk.trusted_networks' => '9.9.9.9/32', 'osmtalk.require_https' => 'on');
unlike(last_of('own1'), qr/\Q$refused\E/, 'one may trust this machine');
is($network->get('forbidden'), 1, 'and then it is connected to');
like(last_of('own2'), qr/^\|Could(n't| not) connect/i, 'an endpoint that has failed for another reason');
is(last_of('public1'), "|$refused||0", 'plain http to a public address: the same words');
like(log_since($node), qr/DETAIL:  The address 8\.8\.8\.8 may be called with https alone/, 'but not in the log');
setting($node, 'osmtalk.trusted_networks' => undef, 'osmtalk.require_https' => 'off');
my $from = -s $node->logfile;
is(last_of('own2'), "|$refused||0", 'and is refused now');
like(log_since($node, $from), qr/own2\.test.*\n.*DETAIL:  The address 9\.9\.9\.9 is one of/, 'is in the log again');
$network->set(forbidden => 0);

# ---- a connection that is open, to where nothing may go any more ----

{
	# both on one port: here nobody counts
	my $there = Osmtalk::Nginx::free_port();
	my $new = Osmtalk::Receiver->new(listen => [ '127.0.0.2', $there ]);
	my $before = Osmtalk::Receiver->new(listen => [ '127.0.0.1', $there ]);

	sql("UPDATE osmtalk.campaigns SET webhook_url = 'http://turn1.test:$there/' WHERE id = 'turn1'");
	setting($node, 'osmtalk.trusted_networks' => '127.0.0.1');
	like(last_of('turn1'), qr/^204/, 'a name for an address that is trusted');
	sql("ALTER SYSTEM SET osmtalk.trusted_networks = ''");
	my $session = session($node, $db);
	# long enough for the answer of the resolver to be forgotten, the connection never idle for long
	my $send = q(SELECT FROM osmtalk.send_test_event('acme', 'turn1'); SELECT FROM osmtalk.wait_until_drained(););
	$session->query_safe(join '', map { "$send SELECT FROM pg_sleep(0.05);" } 1 .. 25);
	my %ports = map { $_->{port} => 1 } $before->requests;
	cmp_ok(scalar(keys %ports), '<=', 3, 'which is called, on a connection that is used again');
	my $count = $before->count;
	$network->set(turned => 1);
	my $second = $session->query_safe("$send SELECT FROM pg_reload_conf(); SELECT FROM pg_sleep(0.05);
		SELECT osmtalk.send_test_event('acme', 'turn1'); SELECT FROM osmtalk.wait_until_drained();") =~ s/\s//gr;
	$session->quit;
	is($before->count, $count + 1, 'an open connection is used again, although the name leads elsewhere');
	is(state_of($node, $db, $second), 'delivered|1|204|', 'the address is not trusted any more: the event goes to where the name leads now');
	is(scalar(my @there = $new->requests(eventId => $second)), 1, 'on a connection of its own');
	setting($node, 'osmtalk.trusted_networks' => undef);
	$_->stop for $new, $before;
}
$network->set(forbidden => 0);
$network->set(allowed => 0);

# ---- names that flip between and within answers ----

# half of them close their connections, so that each event asks for the name again
make_campaigns('flip', $nnames, q(CASE WHEN i % 2 = 0 THEN 'close' ELSE 'kept' END));
my $begun = now();
for my $round (1 .. $rounds)
{
	if ($round == 1)
	{
		send_to('flip%');
	}
	else
	{
		sql("SELECT count(osmtalk.redeliver(event_id)) FROM osmtalk.deliveries WHERE campaign_id LIKE 'flip%'");
	}
	drain("round $round");
}
# and many at once for each name
send_to('flip%0', 5);
drain('many for each name');
my %counts;
for (split /\n/, sql("SELECT coalesce(a.error, a.http_status::text), count(*) FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id WHERE e.campaign_id LIKE 'flip%' GROUP BY 1"))
{
	my ($what, $n) = /^(.*)\|(\d+)$/;
	$counts{$what} = $n;
}
my $attempts = 0;
$attempts += $_ for values %counts;
note sprintf('%d attempts, %d lookups, %d connections to public addresses in %.0f s', $attempts, $network->get('lookups'), $network->get('allowed'), now() - $begun);
note "$counts{$_} × $_" for sort keys %counts;
cmp_ok($attempts, '>=', ($nnames * ($rounds + 0.4)), "$attempts attempts");
cmp_ok($network->get('lookups'), '>=', $attempts / 2, 'mostly with a lookup of their own');
is($accepts->count, 0, 'no connection was accepted where none should be');
is($network->get('forbidden'), 0, 'none was tried to any address that is not public');
cmp_ok($counts{204} + $counts{200}, '>', $attempts / 10, 'many found a public address');
cmp_ok($counts{$refused}, '>', $attempts / 10, 'many were refused');
is_deeply([ grep { !/^20[04]$|^\Q$refused\E$|^Could(n't| not) connect to server$/ } keys %counts ], [], 'what was refused is refused in one sentence');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE 'not sent:%' AND (response_body IS NOT NULL OR http_status IS NOT NULL OR duration_ms <> 0)"), '0', 'with nothing else');

# ---- many names for the first time ----

make_campaigns('slow', 500, q('kept'));
$begun = now();
send_to('slow%');
drain('500 names that nobody knows yet');
note sprintf '500 new names in %.1f s', now() - $begun;
cmp_ok(now() - $begun, '<', 10, 'threads that have looked a name up and wait for the next hold no other up');

# ---- names that are never resolved ----

my $pid = worker_pid($node, $db);
sub status { return slurp_file("/proc/$pid/status") =~ /^\Q$_[0]\E:\s*(\d+)/m ? $1 : die "no $_[0]"; }

wait_for(sub { status('Threads') == 1 }, 'threads of names that were found to end');
my $memory = status('RssAnon');
make_campaigns('hang', 300, q('kept'));
setting($node, 'osmtalk.request_timeout' => '2s');
sql("SELECT osmtalk.send_test_event('acme', 'public1')");
send_to('hang%', 4);
wait_for(sub { $network->get('hanging') >= 50 }, 'lookups that hang');
my ($threads, $slowest, $n, $grown) = (0, 0, 0, 0);
$begun = now();
while (now() - $begun < 12)
{
	my $sent_at = now();
	my $event = sql(q(SELECT osmtalk.send_test_event('acme', 'public1')));
	my $took = (request_of($public, $event, 10)->{arrivedAt} // 9e15) / 1000 - $sent_at;

	$n++;
	$slowest = $took if $took > $slowest;
	$threads = status('Threads') - 1 if status('Threads') - 1 > $threads;
	$grown = status('RssAnon') - $memory if status('RssAnon') - $memory > $grown;
	setting($node, 'osmtalk.poll_interval' => '999ms') if $n == 20;
}
note sprintf '%d events meanwhile, the slowest after %.3f s; at most %d threads, %d kB more memory', $n, $slowest, $threads, $grown;
cmp_ok($slowest, '<', 1, 'others are served meanwhile, a reload included');
cmp_ok($threads, '>=', 100, 'threads that look names up outlive their requests');
cmp_ok($threads, '<=', 128 + 4, 'but they are not more than allowed');
cmp_ok($grown, '<=', 10 * 1024, 'and cost little');
is(worker_pid($node, $db), $pid, 'it is still the same worker');
my $hung = sql("SELECT count(*), count(*) FILTER (WHERE error = 'timed out after 2000 ms'), max(duration_ms) < 3000 FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id WHERE e.campaign_id LIKE 'hang%'");
like($hung, qr/^(\d+)\|\1\|t$/, "each of their requests times out in time: $hung");
# a newcomer whose name is good waits for a thread, and is not refused
make_campaigns('public_', 1, q('late'));
my $late = sql(q(SELECT osmtalk.send_test_event('acme', 'public_1')));
$network->set(let_go => 1);
is(state_of($node, $db, $late), 'delivered|1|204|', 'once the threads are gone, all is as it was');
drain('the rest fails at once');
wait_for(sub { status('Threads') == 1 }, 'the last thread to end') or fail('threads end');

# ---- the worker does not wait for them when it is to end ----

$network->set(let_go => 0);
send_to('hang%');
wait_for(sub { $network->get('hanging') >= 50 }, 'lookups that hang');
my $took = measure(sub {
		sql("SELECT pg_terminate_backend($pid)");
		wait_for(sub { !kill 0, $pid }, 'the worker to end', 20);
	});
note sprintf 'the worker ended after %.3f s', $took;
cmp_ok($took, '<', 2, 'the worker ends at once');
wait_for(sub { $network->get('hanging') >= 100 }, 'lookups of the next worker');
$took = measure(sub { $node->stop('fast') });
note sprintf 'stop -m fast: %.3f s', $took;
cmp_ok($took, '<', 5, 'so does the server');
unlike(log_since($node), qr/terminated by signal/, 'no process crashed');

done_testing();
