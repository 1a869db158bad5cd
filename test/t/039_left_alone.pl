# An endpoint that is disabled, or whose breaker has opened, is left alone at
# once: what a worker has claimed for it and not begun is given back.  And a
# probe that was not made is not counted.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $other = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.max_in_flight_per_endpoint = 8\n");
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url, campaign_url => '');

sub sql { return $node->safe_psql($db, join '', @_); }
sub goes_to { return sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url($_[0]) . "' WHERE org_id = 'acme'"); }
sub drained { return is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', $_[0]); }

my $in_succession = 200;
sql("INSERT INTO osmtalk.org_settings VALUES ('other', '" . $other->url('/slow/50') . "');
	INSERT INTO osmtalk.agents (id, org_id) VALUES ('others', 'other');
	INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name) VALUES ('cmp_other', 'other', 'others', 'Another''s')");

# Two hundred events for an endpoint that takes 0.3 s for each, eight at once,
# so that some are claimed ahead; and as many for another.
sub begin
{
	my ($path) = @_;

	goes_to('/');
	sql("SELECT test.finalise('cmp_plain', 50)");
	drained("$path: the endpoint is proven");
	my $before = $receiver->count;
	goes_to($path);
	sql("SELECT test.finalise('cmp_plain', $in_succession), test.finalise('cmp_other', $in_succession)");
	$receiver->wait_for_count($before + 8) or die;
	return $before;
}

# Those that were not begun wait, and no other was begun after that time.
sub is_left_alone
{
	my ($path, $since, $before, $most) = @_;
	my $url = $receiver->url($path);

	ok(wait_for(sub {
				sql("SELECT (SELECT count(*) FROM osmtalk.waiting WHERE endpoint_id IS NOT NULL) + (SELECT count(*) FROM osmtalk.delivery_attempts WHERE url = '$url')") == $in_succession },
			'all to wait', 20), "$path: what is left waits");
	is_query($node, $db, "SELECT count(*), max(started_at - ($since)) FROM osmtalk.delivery_attempts WHERE url = '$url' AND started_at > ($since)", '0|', '... and no request began afterwards');
	cmp_ok($receiver->count - $before, '<=', $most, '... but those that were in flight, and the next');
	is_query($node, $db, 'SELECT count(*), sum(o.attempts) FROM osmtalk.waiting w JOIN osmtalk.outbox o ON o.id = w.outbox_id WHERE w.endpoint_id IS NOT NULL',
		sql("SELECT $in_succession - count(*) FROM osmtalk.delivery_attempts WHERE url = '$url'") . '|0', '... which has used up no attempt');
	return;
}

# ---- by hand ----

for my $workers (1, 3)
{
	my $path = "/slow/300/20$workers";

	setting($node, 'osmtalk.workers' => $workers);
	$node->poll_query_until($db, "SELECT count(*) = $workers AND bool_and(state = 'running') FROM osmtalk.worker_status") or die;
	my $before = begin($path);
	my $endpoint = sql("SELECT id FROM osmtalk.endpoints WHERE url = '" . $receiver->url($path) . "'");
	my $disabled = (split /\n/, sql("SELECT osmtalk.disable_endpoint('$endpoint')", '; SELECT clock_timestamp()'))[-1];
	# what the worker was just about to begin is not what is meant
	is_left_alone($path, "timestamptz '$disabled' + interval '200 ms'", $before, 40);
	sql("SELECT osmtalk.enable_endpoint('$endpoint')");
	drained("$path: enabled, all is sent");
}
setting($node, 'osmtalk.workers' => undef);
$node->poll_query_until($db, "SELECT count(*) = 1 AND bool_and(state = 'running') FROM osmtalk.worker_status") or die;
is_query($node, $db, "SELECT count(*), max(attempts), count(*) FILTER (WHERE state <> 'delivered') FROM osmtalk.deliveries WHERE org_id = 'acme'", '500|1|0', 'each in one attempt');
is_query($node, $db, "SELECT count(*), max(attempts), count(*) FILTER (WHERE state <> 'delivered') FROM osmtalk.deliveries WHERE org_id = 'other'", '400|1|0', 'so are the other endpoint\'s');
my %times;
$times{$_}++ for $receiver->event_ids, $other->event_ids;
is(scalar(grep { $_ != 1 } values %times), 0, 'and came once');

# ---- by the rules ----

sql("UPDATE osmtalk.org_settings SET webhook_retry_schedule = '{1 h}' WHERE org_id = 'acme'");
for ([ 410, 'disabled', 'disabled_at' ], [ 500, 'probing', "next_probe_at - interval '1 min'" ])
{
	my ($status, $state, $since) = @$_;
	my $path = "/slow/300/$status";
	my $before = begin($path);
	my $of_it = "FROM osmtalk.endpoints WHERE url = '" . $receiver->url($path) . "'";

	ok(wait_for(sub { sql("SELECT state $of_it") eq $state }, "the endpoint to be $state"), "answers of $status: the endpoint is $state");
	is_left_alone($path, "SELECT $since $of_it", $before, 24);
	goes_to('/');
	sql("UPDATE osmtalk.outbox SET due_at = now() WHERE endpoint_hash = osmtalk.waiting_queue()");
	ok(wait_for(sub { sql('SELECT count(*) FROM osmtalk.outbox') eq '0' }, 'the outbox to be empty'), "$path: with another URL, all is sent");
}

# ---- probes that are not made ----

# Of one origin, with one slot that is taken: the probe is claimed, and cannot begin.
setting($node, 'osmtalk.max_in_flight_per_endpoint' => 1);
sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_retry_schedule) VALUES ('probed', '" . $receiver->url('/status/500') . "', '{1 h}')");
goes_to('/hold');

sub claim_probe
{
	my ($name) = @_;

	sql("SELECT osmtalk.send_test_event('acme')") for 1 .. 2;
	# the first proves the endpoint, which then has some claimed ahead
	wait_for(sub { $receiver->let_go; sql("SELECT count(*) FROM osmtalk.outbox WHERE endpoint_hash <> 1") eq '0' }, 'the origin to be free', 20) or die;
	sql("UPDATE osmtalk.endpoints SET state = 'probing', consecutive_failures = 5, probes = 3, next_probe_at = now() WHERE org_id = 'probed'");
	my @events = split /\|/, sql("SELECT osmtalk.send_test_event('acme'), osmtalk.send_test_event('probed')");
	request_of($receiver, $events[0], 10)->{seq} or die;
	ok(wait_for(sub { sql("SELECT probes FROM osmtalk.endpoints WHERE org_id = 'probed'") == 4 }, 'the claim', 10), "$name: a probe is claimed");
	return @events;
}

sub is_not_counted
{
	my ($event, $name) = @_;

	ok(wait_for(sub { sql("SELECT probes = 3 AND next_probe_at <= now() FROM osmtalk.endpoints WHERE org_id = 'probed'") eq 't' }, 'the probe to be given back', 10), $name);
	is(scalar(my @requests = $receiver->requests(eventId => $event)), 0, '(it was not made)');
	return;
}

sub is_made
{
	my ($event) = @_;
	my $arrived = 0;

	wait_for(sub { $receiver->let_go; $arrived = () = $receiver->requests(eventId => $event) }, 'the probe', 10);
	is($arrived, 1, '... it is made as soon as there is a slot');
	ok(wait_for(sub { sql("SELECT concat_ws('|', probes, next_probe_at - last_failure_at BETWEEN '955 s' AND '965 s') FROM osmtalk.endpoints WHERE org_id = 'probed'") eq '4|t' }, 'the next', 10), '... and counted then');
	sql("UPDATE osmtalk.org_settings SET webhook_retry_schedule = '{}' WHERE org_id = 'probed'; UPDATE osmtalk.org_settings SET webhook_retry_schedule = '{1 h}' WHERE org_id = 'probed'");
	return;
}

my ($held, $probe) = claim_probe('slots are taken');
is_not_counted($probe, 'one that found none for a second is given back');
is_made($probe);

($held, $probe) = claim_probe('a pause');
sql('SELECT osmtalk.pause()');
$node->poll_query_until($db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND datname = '$db'") or die;
is_not_counted($probe, 'a pause gives it back');
sql('SELECT osmtalk.resume()');
is_made($probe);

($held, $probe) = claim_probe('the end of the worker');
sql("SELECT pg_terminate_backend(pid, 10000) FROM osmtalk.worker_status");
is_not_counted($probe, 'a worker that ends gives it back');
is_made($probe);

# its row is locked: that keeps nobody
($held, $probe) = claim_probe('a lock');
my $session = session($node, $db);
$session->query_safe("BEGIN; SELECT FROM osmtalk.endpoints WHERE org_id = 'probed' FOR UPDATE");
my $event = sql("SELECT osmtalk.send_test_event('other')");
ok(request_of($other, $event, 5)->{seq}, 'while the endpoint is locked others are served');
$node->poll_query_until($db, "SELECT now() - created_at > interval '2 s' FROM osmtalk.events WHERE id = '$event'");
is_query($node, $db, "SELECT probes FROM osmtalk.endpoints WHERE org_id = 'probed'", 4, 'and the probe is not given back');
$session->query_safe('COMMIT');
$session->quit;
is_not_counted($probe, 'it is afterwards');
is_made($probe);

unlike(log_since($node), qr/terminated by signal|PANIC|ERROR:/, 'no error, no crash');
$node->stop;
done_testing();
