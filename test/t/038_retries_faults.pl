# What waits for a retry survives what else happens to a server: kills of the
# worker, crashes, another number of workers, a dump.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
expect_signals();
my $node = new_cluster('main', conf => "restart_after_crash = on\n");
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url('/fail/500/2'));

sub sql { return $node->safe_psql($db, join '', @_); }

# As soon as the server answers again.
sub later
{
	my ($query) = @_;
	my $result;
	wait_for(sub { defined($result = eval { sql($query) }) }, 'the server') or die;
	return $result;
}

# ---- in the middle of everything ----

# the breaker would open: it is not what is tested here
sql("CREATE FUNCTION test.closed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.state := ''healthy''; RETURN NEW; END';
CREATE TRIGGER zz_closed BEFORE UPDATE ON osmtalk.endpoints FOR EACH ROW EXECUTE FUNCTION test.closed();
UPDATE osmtalk.org_settings SET webhook_retry_schedule = array_fill(interval '500 ms', ARRAY[5])");
my $n = 3000;
sql("SELECT test.finalise('cmp_plain', 1000)") for 1 .. 3;
for my $round (1 .. 4)
{
	my $count = $receiver->count;

	wait_for(sub { $receiver->count > $count + 100 }, 'some requests');
	if ($round == 2)
	{
		setting($node, 'osmtalk.workers' => 3);
	}
	elsif ($round == 4)
	{
		setting($node, 'osmtalk.workers' => 1);
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		kill 'KILL', later('SELECT pid FROM osmtalk.worker_status WHERE pid IS NOT NULL LIMIT 1');
	}
}
ok(wait_for(sub { later('SELECT count(*) FROM osmtalk.outbox') eq '0' }, 'the outbox to be empty'), 'whatever happens, all that waits goes');
is_query($node, $db, 'SELECT state, count(*) FROM osmtalk.deliveries GROUP BY 1', "delivered|$n", 'and is delivered');
is_query($node, $db, 'SELECT count(*) FROM osmtalk.waiting', 0, 'nothing is left behind');

my (%requests, %bytes);
for ($receiver->requests)
{
	$requests{ $_->{eventId} }++;
	$bytes{ $_->{eventId} }{ $_->{sha256} } = 1;
}
my %attempts = map { split /\|/ } split /\n/, sql('SELECT event_id, count(*) FROM osmtalk.delivery_attempts GROUP BY 1');
my %ended = map { split /\|/ } split /\n/, sql("SELECT event_id, count(*) FROM osmtalk.delivery_attempts WHERE error IS DISTINCT FROM (SELECT min(error) FROM osmtalk.delivery_attempts WHERE error LIKE 'no result%') GROUP BY 1");
note sprintf '%d requests, %d attempts, %d of them without a result', scalar(my @all = $receiver->requests),
  sql('SELECT count(*) FROM osmtalk.delivery_attempts'), sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE 'no result%'");
is(scalar(grep { $requests{$_} > $attempts{$_} } keys %requests), 0, 'no request without an attempt');
is(scalar(grep { ($requests{$_} // 0) < $ended{$_} } keys %attempts), 0, 'no attempt with a result without a request');
is(scalar(grep { $ended{$_} > 3 } keys %ended), 0, 'no event was tried again after it was delivered');
is(scalar(grep { keys %{ $bytes{$_} } != 1 } keys %bytes), 0, 'each had the same bytes');
is_query($node, $db, 'SELECT max(a.n) FROM (SELECT count(*) AS n FROM osmtalk.delivery_attempts GROUP BY event_id, attempt) a', 1, 'and each attempt its own number');

# ---- a copy ----

sql("UPDATE osmtalk.org_settings SET webhook_retry_schedule = '{1 h}', default_webhook_url = '" . $receiver->url('/status/500') . "'");
my @events = map { sql("SELECT test.event('cmp_plain')") } 1 .. 3;
sql("DROP TRIGGER zz_closed ON osmtalk.endpoints");
wait_for(sub { sql('SELECT count(*) FROM osmtalk.waiting') eq '3' }, 'three to wait') or die;
my $disabled = $receiver->url('/disabled');
sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_disabled', 'acme', 'Disabled', '$disabled');
	UPDATE osmtalk.endpoints SET permanent_statuses = '{418}' WHERE url = '$disabled';
	SELECT osmtalk.disable_endpoint(osmtalk.endpoint_id('acme', '$disabled'), 'for good')");
push @events, sql("SELECT osmtalk.send_test_event('acme', 'cmp_disabled')");
wait_for(sub { sql('SELECT count(*) FROM osmtalk.waiting') eq '4' }, 'four to wait') or die;
$node->command_ok([ 'pg_dump', '-d', $node->connstr($db), '-f', "$PostgreSQL::Test::Utils::tmp_check/dump.sql" ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'psql', '-X', '-1', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', "$PostgreSQL::Test::Utils::tmp_check/dump.sql" ], 'and its restoration');
$node->poll_query_until('copy', 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;
is_query($node, 'copy', "SELECT state, disabled_reason, permanent_statuses FROM osmtalk.endpoints WHERE url = '$disabled'", 'disabled|for good|{418}', 'the health of endpoints is in it');
is_query($node, 'copy', 'SELECT count(*) FROM osmtalk.endpoints', sql('SELECT count(*) FROM osmtalk.endpoints'), 'with a row for each');
is_query($node, 'copy', 'SELECT (SELECT count(*) FROM osmtalk.waiting), (SELECT events FROM osmtalk.not_adopted)', '0|4', 'what waits is another\'s');
my $before = $receiver->count;
$node->safe_psql('copy', "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/copied') . "'; SELECT osmtalk.adopt()");
ok(wait_for(sub { $node->safe_psql('copy', 'SELECT count(*) FROM osmtalk.waiting') eq '4' }, 'the adopted'), 'once adopted, it waits here, too');
is($receiver->count, $before, 'and is not sent');
$node->safe_psql('copy', 'UPDATE osmtalk.outbox SET due_at = now()');
ok(wait_for(sub { $node->safe_psql('copy', "SELECT string_agg(DISTINCT state || attempts, ',') FROM osmtalk.deliveries WHERE event_id = ANY ('{$events[0],$events[1],$events[2]}')") eq 'delivered2' }, 'the retries', 20), 'until it is due');
like($node->safe_psql('copy', "SELECT state || attempts || waits_for FROM osmtalk.deliveries WHERE event_id = '$events[3]'"), qr/^pending0enable_endpoint/, 'or its endpoint is enabled');

$node->stop;
done_testing();
