# A session that has locked the row of an endpoint, or of its counters, and
# stays in its transaction: nobody waits for it, neither events nor what is to
# be noted of other endpoints; and nothing of that endpoint's own is lost.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url('/status/500'));

sub sql { return $node->safe_psql($db, join '', @_); }
sub url_of { my ($path) = @_; return $receiver->url($path); }
# Events, to endpoints that are told by their paths.
sub events { my ($org, $n) = @_; return sql("SELECT osmtalk.send_test_event('$org') FROM generate_series(1, $n)"); }

sub health { my ($path) = @_; return sql("SELECT state, consecutive_failures FROM osmtalk.endpoints WHERE url = '" . url_of($path) . "'"); }
sub counted { my ($path) = @_; return sql("SELECT attempts FROM osmtalk.stat_endpoint WHERE url = '" . url_of($path) . "'"); }

# the statistics have each attempt, of all and by endpoint
sub is_complete
{
	my ($name) = @_;
	my $differences;

	wait_for(sub {
			$differences = sql(<<'END');
SELECT (SELECT count(*) FROM osmtalk.delivery_attempts WHERE url IS NOT NULL) || ' ' || (SELECT attempts FROM osmtalk.stat_delivery)
 WHERE (SELECT count(*) FROM osmtalk.delivery_attempts WHERE url IS NOT NULL) <> (SELECT attempts FROM osmtalk.stat_delivery)
UNION ALL
SELECT a.url || ': ' || a.n || ' ' || s.attempts
  FROM (SELECT url, count(*) AS n FROM osmtalk.delivery_attempts GROUP BY url) a
  JOIN osmtalk.endpoints e ON e.url = a.url
  JOIN osmtalk.stat_endpoint s ON s.endpoint_id = e.id
 WHERE s.attempts <> a.n
END
			return $differences eq '';
		}, 'the statistics', 20);
	return is($differences, '', $name);
}

# How long events of an organisation have waited until they were sent, the longest, in milliseconds.
sub slowest
{
	my ($org) = @_;

	return sql(<<"END");
SELECT round(1000 * extract(epoch FROM max(a.started_at - e.created_at)))
  FROM osmtalk.events e JOIN osmtalk.delivery_attempts a ON a.event_id = e.id WHERE e.org_id = '$org'
END
}

sql("UPDATE osmtalk.org_settings SET webhook_retry_schedule = '{1 h}'");
my %path = (well => '/', ill => '/status/501', gone => '/status/502', quick => '/status/504');
for my $org (sort keys %path)
{
	sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_retry_schedule) VALUES ('$org', '" . url_of($path{$org}) . "', '{1 h}')");
}
my $session = session($node, $db);

# ---- a row of an endpoint ----

$session->query_safe("BEGIN; UPDATE osmtalk.endpoints SET permanent_statuses = '{404}' WHERE org_id = 'acme'");
events('acme', 1);
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.delivery_attempts") eq '1' }, 'the first failure'), 'the endpoint fails whose row is locked');
my $took = measure(sub {
	events('ill', 5);
	ok(wait_for(sub { health('/status/501') eq 'probing|5' }, 'the breaker'), '... and one that fails beside it is left alone');
});
note sprintf 'after %.2f s', $took;
cmp_ok($took, '<', 1.5, '... soon');
for (1 .. 30)
{
	events('acme', 1) if $_ <= 8;
	my $event = sql("SELECT osmtalk.send_test_event('well')");
	request_of($receiver, $event)->{seq} or die;
}
note 'the slowest: ' . slowest('well') . ' ms';
cmp_ok(slowest('well'), '<', 300, "others' events do not wait");
ok(wait_for(sub { counted('/') eq '30' }, 'the statistics', 5), '... and are counted');
# its counters are another row, but are not begun while the endpoint may be about to go
ok(wait_for(sub { sql('SELECT attempts FROM osmtalk.stat_delivery') eq '44' }, 'the statistics', 5), '... as all are together');
is(health('/status/500'), 'healthy|0', 'nothing is known yet of the endpoint itself');
$session->query_safe('COMMIT');
$took = measure(sub { ok(wait_for(sub { health('/status/500') eq 'probing|9' }, 'the other breaker'), 'once its row is free, it is noted'); });
cmp_ok($took, '<', 5, '... within seconds');
is_complete('... and counted');

# ---- counters ----

$session->query_safe("BEGIN; SELECT osmtalk.reset_statistics()");
$took = measure(sub {
	events('quick', 5);
	ok(wait_for(sub { health('/status/504') eq 'probing|5' }, 'the breaker'), 'while all counters are locked, endpoints are looked after');
});
cmp_ok($took, '<', 1.5, '... soon');
is(counted('/status/504'), 5, '... and counters that nobody has locked are written');
for (1 .. 10)
{
	request_of($receiver, sql("SELECT osmtalk.send_test_event('well')"))->{seq} or die;
}
cmp_ok(slowest('well'), '<', 300, "... events do not wait");
is(counted('/'), 30, '... those that are locked are not');
$session->query_safe('ROLLBACK');
is_complete('... but then');

# ---- a row that goes ----

$session->query_safe("BEGIN; UPDATE osmtalk.org_settings SET default_webhook_url = '" . url_of('/new') . "' WHERE org_id = 'gone'");
events('gone', 3);
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE url = '" . url_of('/status/502') . "'") eq '3' }, 'three failures'), 'an endpoint fails that is about to go');
ok(wait_for(sub { sql('SELECT attempts FROM osmtalk.stat_delivery') eq sql('SELECT count(*) FROM osmtalk.delivery_attempts') }, 'the statistics', 5), '... and is counted with the others');
$session->query_safe('COMMIT');
request_of($receiver, sql("SELECT osmtalk.send_test_event('gone')"))->{seq} or die;
ok(wait_for(sub { counted('/new') eq '1' }, 'the statistics', 5), 'its successor is');
is(sql('SELECT count(*) FROM osmtalk.endpoint_counters c WHERE endpoint_id <> \'\' AND NOT EXISTS (SELECT FROM osmtalk.endpoints e WHERE e.id = c.endpoint_id)'), 0, '... and nothing of it is left');

# ---- several workers, which write one row for all ----

setting($node, 'osmtalk.workers' => 4);
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.worker_status WHERE state = 'running'") eq '4' }, 'four workers'), 'four workers');
my @others = map { Osmtalk::Receiver->new } 1 .. 6;
for my $i (0 .. $#others)
{
	sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_retry_schedule) VALUES ('w$i', '" . $others[$i]->url('/status/500') . "', '{50 ms}')");
}
sql("SELECT osmtalk.send_test_event('w' || n % 6) FROM generate_series(1, 600) n");
is(sql('SELECT osmtalk.wait_until_drained()'), 't', '... have tried all');
is_complete('... and count all of them');

unlike(log_since($node), qr/could not note|deadlock|terminated by signal|lock timeout/, 'the log knows of no trouble');
$node->stop;
done_testing();
