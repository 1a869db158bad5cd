# Retries, the health of endpoints, and what waits: the rules are tested as
# functions in test/pgtap/retries.sql, here what the worker does by them.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new(secret => 'whsec_retries_0123456789');
my $node = new_cluster('main');
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url, secret => 'whsec_retries_0123456789');

sub sql { return $node->safe_psql($db, join '', @_); }
sub goes_to { return sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url($_[0]) . "'"); }
sub schedule { return sql('UPDATE osmtalk.org_settings SET webhook_retry_schedule = ', defined $_[0] ? "'$_[0]'" : 'NULL'); }
sub event { return sql("SELECT test.event('cmp_plain')"); }
sub requests { my @all = $receiver->requests(eventId => $_[0]); return @all; }
sub endpoint { return sql("SELECT id FROM osmtalk.endpoints WHERE url = '" . $receiver->url($_[0]) . "'"); }
sub state_is { my ($path, $state) = @_; return wait_for(sub { sql("SELECT state FROM osmtalk.endpoints WHERE url = '" . $receiver->url($path) . "'") eq $state }, "$path to be $state"); }

# What an event waits for, once it does.
sub waits
{
	my ($event) = @_;
	my $for;

	wait_for(sub { ($for = sql("SELECT waits_for FROM osmtalk.deliveries WHERE event_id = '$event' AND state = 'pending'")) ne '' }, "$event to wait");
	return $for;
}

my $listener = session($node, $db);
$listener->query_safe('LISTEN osmtalk');

# ---- retries ----

goes_to('/fail/500/2');
my $event = event();
is(state_of($node, $db, $event), 'failed|1|500|HTTP 500', 'without a schedule an event has one attempt');

schedule('{200 ms,300 ms,400 ms}');
$event = event();
is(state_of($node, $db, $event), 'delivered|3|204|', 'with one it is tried again, until it is delivered');
my @requests = requests($event);
is(scalar(@requests), 3, 'in three requests');
is(scalar(keys %{ { map { $_->{sha256} => 1 } @requests } }), 1, 'of the same bytes');
is(scalar(grep { $_->{verified} } @requests), 3, 'each signed');
is_query($node, $db, "SELECT string_agg(concat_ws(' ', attempt, http_status), ', ' ORDER BY attempt) FROM osmtalk.delivery_attempts WHERE event_id = '$event'",
	'1 500, 2 500, 3 204', 'with an attempt row each');
my @pauses = map { ($requests[$_]->{arrivedAt} - $requests[ $_ - 1 ]->{arrivedAt}) / 1000 } 1, 2;
note sprintf 'pauses: %.3f, %.3f s', @pauses;
ok($pauses[0] >= 0.16 && $pauses[1] >= 0.24, 'none before its time');

goes_to('/status/500');
$event = event();
is(state_of($node, $db, $event), 'failed|4|500|HTTP 500', 'a schedule has an end');
sql("SELECT osmtalk.enable_endpoint('" . endpoint('/status/500') . "'), osmtalk.redeliver('$event')");
wait_for(sub { requests($event) == 8 }, 'eight requests');
is(state_of($node, $db, $event), 'failed|8|500|HTTP 500', 'a redelivery begins it anew, and numbers on');

goes_to('/status/404');
is(state_of($node, $db, event()), 'failed|1|404|HTTP 404', 'what is permanent is not tried again');
goes_to('/redirect');
is(state_of($node, $db, event()), 'failed|1|302|HTTP 302: redirects are not followed', 'a redirect is that');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = 'http://192.0.2.1/'");
like(state_of($node, $db, event()), qr/^failed\|1\|\|not sent: this target is not allowed/, 'so is a target that is refused');
goes_to('/fail/404/1');
sql("UPDATE osmtalk.endpoints SET permanent_statuses = '{400}' WHERE id = '" . endpoint('/fail/404/1') . "'");
is(state_of($node, $db, event()), 'delivered|2|204|', 'an endpoint can have its own list of what is');
goes_to('/reset');
is((split /\|/, state_of($node, $db, event()))[1], 4, 'no answer is tried again');

# which are, and which are not, by the worker
schedule('{1 h}');
for my $status (408, 425, 429, 502)
{
	goes_to("/status/$status");
	like(waits(event()), qr/^retry 1 at/, "$status is");
}
goes_to('/status/401');
is(state_of($node, $db, event()), 'failed|1|401|HTTP 401', '401 is not');
my %unreachable = (
	'a name that does not resolve' => 'https://no-such-host.invalid/',
	'no TLS' => $receiver->url('/') =~ s/^http:/https:/r,
	'nobody there' => 'http://127.0.0.1:1/');
for my $what (sort keys %unreachable)
{
	sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$unreachable{$what}'");
	like(waits(event()), qr/^retry 1 at/, "$what is");
}
sql('DELETE FROM osmtalk.outbox');

sub due_in
{
	my ($event) = @_;
	waits($event);
	return sql("SELECT extract(epoch FROM o.due_at - a.started_at) FROM osmtalk.outbox o JOIN osmtalk.delivery_attempts a USING (event_id) WHERE event_id = '$event'");
}

schedule('{10 min}');
goes_to('/after/500/900');
my $due = due_in($event = event());
ok($due >= 900 && $due < 905, "Retry-After in seconds ($due)");
goes_to('/after/500/7200');
$due = due_in(event());
ok($due >= 2 * 480 && $due < 2 * 720 + 5, "no more than twice the pause ($due)");
for my $seconds ('10000000000000', '9223372036854775807', '-5')
{
	goes_to("/after/500/$seconds");
	$due = due_in(event());
	ok($due >= 480 && $due < 2 * 720 + 5, "whatever a receiver says ($seconds: $due)");
}
my $date = sql(q{SELECT to_char(now() AT TIME ZONE 'GMT' + interval '15 min', 'Dy, DD Mon YYYY HH24:MI:SS "GMT"')}) =~ s/ /%20/gr;
goes_to("/after/500/$date");
$due = due_in(event());
ok($due >= 895 && $due <= 905, "Retry-After as a date ($due)");
schedule('{1 s}');
goes_to('/status/503');
$due = due_in(event());
ok($due >= 60 && $due < 65, "503: a minute at least ($due)");

# ---- what waits ----

like(waits($event), qr/^retry 1 at \d/, 'deliveries says what for');
is_query($node, $db, 'SELECT osmtalk.wait_until_drained()', 't', 'it is not due');
my $notices = $listener->query('SELECT 1');
my $before = $receiver->count;
my @waiting = split /\n/, sql('SELECT event_id FROM osmtalk.outbox ORDER BY id');
is(scalar(@waiting), 7, 'seven wait');
goes_to('/');
$node->restart;
$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;
is(state_of($node, $db, event()), 'delivered|1|204|', 'after a restart events are sent');
is($receiver->count, $before + 1, 'and those that wait are not');
sql("UPDATE osmtalk.outbox SET due_at = now() WHERE event_id = '$event'");
is(state_of($node, $db, $event), 'delivered|2|204|', 'one whose time is brought forward is');
sql('TRUNCATE osmtalk.waiting; UPDATE osmtalk.outbox SET due_at = now()');
$node->restart;
ok(wait_for(sub { sql('SELECT count(*) FROM osmtalk.outbox') eq '0' }, 'the rest'), 'rows that nothing is known of any more are found at the start');
is(scalar(grep { requests($_) != 2 } @waiting), 0, 'each was sent once more');
is_query($node, $db, 'SELECT count(*) FROM osmtalk.waiting', 0, 'nothing waits');

# ---- the breaker ----

schedule('{1 h,1 h}');
goes_to('/broken');
my @first = map { event() } 1 .. 5;
waits($_) for @first;
ok(state_is('/broken', 'probing'), 'five failures in succession: the endpoint is left alone');
is_query($node, $db, "SELECT consecutive_failures, next_probe_at - last_failure_at BETWEEN '55 s' AND '65 s' FROM osmtalk.endpoints WHERE state = 'probing'", '5|t', 'for a minute');
my @held = map { event() } 1 .. 50;
like(waits($_), qr/^the endpoint, which fails: HTTP 500; an event is sent there at \d/, 'what comes meanwhile waits') for $held[0], $held[-1];
is_query($node, $db, "SELECT count(*), sum(attempts) FROM osmtalk.outbox WHERE event_id = ANY ('{" . join(',', @held) . "}')", '50|0', 'and uses up no attempt');
is(scalar(grep { requests($_) } @held), 0, 'nothing is sent');
$node->restart;
$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;
$listener = session($node, $db);
$listener->query_safe('LISTEN osmtalk');
my $path = $receiver->url('/broken');
sql("UPDATE osmtalk.endpoints SET next_probe_at = now() WHERE url = '$path'");
ok(wait_for(sub { sql("SELECT consecutive_failures FROM osmtalk.endpoints WHERE url = '$path'") == 6 }, 'a probe'), 'when its time has come, one is sent');
is(scalar(grep { requests($_) } @held), 1, 'one, after a restart, too');
is_query($node, $db, "SELECT state, next_probe_at - last_failure_at BETWEEN '115 s' AND '125 s' FROM osmtalk.endpoints WHERE url = '$path'", 'probing|t', 'the next after two minutes');
$receiver->mend;
sql("UPDATE osmtalk.endpoints SET next_probe_at = now() WHERE url = '$path'");
ok(state_is('/broken', 'healthy'), 'one that succeeds ends it');
my ($probe) = grep { requests($_) == 1 && (requests($_))[0]->{seq} } @held;
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.deliveries WHERE state = 'delivered' AND event_id = ANY ('{" . join(',', @held) . "}')") == 49 }, 'the others'), 'and the others go');
is(scalar(grep { requests($_) != 1 } @held), 0, 'each once');

# ---- disabled ----

goes_to('/status/410');
$event = event();
is(state_of($node, $db, $event), 'failed|1|410|HTTP 410', 'an answer of 410');
ok(state_is('/status/410', 'disabled'), '... disables the endpoint');
@held = map { event() } 1 .. 3;
like(waits($held[0]), qr/^enable_endpoint\(\): the endpoint is disabled, it answered 410 Gone$/, 'its events wait');
sql("SELECT osmtalk.enable_endpoint('" . endpoint('/status/410') . "')");
ok(wait_for(sub { (grep { requests($_) } @held) >= 1 }, 'a request'), 'until somebody enables it');
goes_to('/other');
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.outbox WHERE event_id = ANY ('{" . join(',', @held) . "}')") == 0 }, 'the others'), 'or the URL is another');
schedule(undef);
goes_to('/status/410');
is(state_of($node, $db, event()), 'failed|1|410|HTTP 410', 'without a schedule');
is(state_of($node, $db, event()), 'failed|1|410|HTTP 410', '... each event has its one attempt');
goes_to('/mine');
my $mine = endpoint('/mine');
sql("SELECT osmtalk.disable_endpoint('$mine', 'in repair')");
$event = event();
like(($node->psql($db, "SELECT osmtalk.redeliver('$event')"))[2], qr/NOTICE:  the event is in the outbox already/, 'redeliver() says that it is there');
is(waits($event), 'enable_endpoint(): the endpoint is disabled, in repair', 'what is disabled by hand is, schedule or not');
is_query($node, $db, "SELECT state, consecutive_failures FROM osmtalk.stat_endpoint WHERE endpoint_id = '$mine' AND waiting = 1", 'disabled|0', 'stat_endpoint says so');
my $dead = sql("SELECT event_id FROM osmtalk.dead_letters ORDER BY created_at DESC LIMIT 1");
like(($node->psql($db, "SELECT osmtalk.redeliver('$dead')"))[2], qr/NOTICE:  the event waits: its endpoint is disabled\nHINT:  SELECT osmtalk\.enable_endpoint\('$mine'\);/, '... and what keeps one that is sent again');
sql("DELETE FROM osmtalk.outbox WHERE event_id = '$dead'");
sql("SELECT osmtalk.enable_endpoint('$mine')");
is(state_of($node, $db, $event), 'delivered|1|204|', 'and goes out when it is enabled');
like(($node->psql($db, "SELECT osmtalk.enable_endpoint('ep_none')"))[2], qr/there is no endpoint "ep_none"/, 'an unknown one');

# ---- notices, statistics ----

$notices .= $listener->query('SELECT 1');
note $notices;
for my $type (qw(endpoint.recovered endpoint.disabled event.failed))
{
	like($notices, qr/"osmtalk" with payload "\{"type" : "$type", "endpoint_id" : "ep_\w+", "org_id" : "acme"/, "NOTIFY $type");
}
unlike($notices, qr/http|whsec|\+49/, 'with ids alone');
is_query($node, $db, 'SELECT attempts - delivered - retried - failed FROM osmtalk.stat_delivery', 0, 'statistics add up');
ok(wait_for(sub {
			sql("SELECT (SELECT attempts FROM osmtalk.stat_delivery) = (SELECT count(*) FROM osmtalk.delivery_attempts WHERE url IS NOT NULL)") eq 't' }, 'the statistics', 10), 'and count each attempt');
is_query($node, $db, "SELECT delivered, failed, (SELECT sum(n) FROM unnest(latencies) n) FROM osmtalk.stat_endpoint WHERE endpoint_id = '$mine'", '1|0|1', 'by endpoint, too');

# ---- five days ----

schedule('{1 h}');
goes_to('/fail/500/99');
waits(event());
ok(wait_for(sub { sql("SELECT consecutive_failures FROM osmtalk.endpoints WHERE id = '" . endpoint('/fail/500/99') . "'") == 1 }, 'the failure'), 'an endpoint fails');
sql("UPDATE osmtalk.endpoints SET first_failure_at = first_failure_at - interval '5 days' WHERE id = '" . endpoint('/fail/500/99') . "'");
$node->restart;
$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;
waits(event());
ok(state_is('/fail/500/99', 'disabled'), 'after five days of nothing else, a restart in the middle, it is disabled');
like(sql("SELECT disabled_reason FROM osmtalk.endpoints WHERE id = '" . endpoint('/fail/500/99') . "'"), qr/^nothing but failures since /, 'it says why');

# ---- the configuration changes while events wait ----

my $shared = $receiver->url('/shared');
goes_to('/shared');
sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) SELECT id, 'acme', 'x', '$shared' FROM unnest('{cmp_moves,cmp_stays}'::text[]) id");
sql("SELECT osmtalk.disable_endpoint('" . endpoint('/shared') . "')");
my ($moves, $stays, $default) = map { sql("SELECT osmtalk.send_test_event('acme', $_)") } qw('cmp_moves' 'cmp_stays' NULL);
like(waits($_), qr/^enable_endpoint/, 'it waits') for $moves, $stays, $default;
sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/moved') . "' WHERE id = 'cmp_moves'");
is(state_of($node, $db, $moves), 'delivered|1|204|', 'an event goes to the new URL, though others have the old one, which is disabled');
like(waits($_), qr/^enable_endpoint/, 'those of others wait') for $stays, $default;
goes_to('/elsewhere');
is(state_of($node, $db, $default), 'delivered|1|204|', 'likewise that of the organisation');
like(waits($stays), qr/^enable_endpoint/, 'the other waits');
sql("DELETE FROM osmtalk.campaigns WHERE id = 'cmp_stays'");
is(state_of($node, $db, $stays), 'delivered|1|204|', 'until its campaign is gone, and it is the organisation\'s');

goes_to('/gone');
sql("UPDATE osmtalk.endpoints SET state = 'disabled', disabled_reason = 'it answered 410 Gone' WHERE id = '" . endpoint('/gone') . "'");
$event = event();
like(waits($event), qr/^enable_endpoint/, 'an event waits for an endpoint that the rules have disabled');
sql("UPDATE osmtalk.campaigns SET webhook_retry_schedule = '{5 min}' WHERE id = 'cmp_moves'");
my $marker = sql("SELECT osmtalk.send_test_event('acme', 'cmp_moves')");
is(state_of($node, $db, $marker), 'delivered|1|204|', 'another campaign gets another schedule');
$node->poll_query_until($db, 'SELECT NOT osmtalk.has_releasable()') or die;
like(waits($event), qr/^enable_endpoint/, '... and it waits on');
is(scalar(requests($event)), 0, '... unsent');
sql("SELECT osmtalk.enable_endpoint('" . endpoint('/gone') . "')");
is(state_of($node, $db, $event), 'delivered|1|204|', 'until the endpoint is enabled');
sql("UPDATE osmtalk.endpoints SET state = 'disabled', disabled_reason = 'it answered 410 Gone' WHERE id = '" . endpoint('/gone') . "'");
$event = event();
waits($event);
schedule(undef);
is(state_of($node, $db, $event), 'delivered|1|204|', 'or there is no schedule, and it has its one attempt');

# two sessions at once: one takes the last use of a URL away, the other begins to use it
my $last = session($node, $db);
sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/raced') . "' WHERE id = 'cmp_moves'");
for my $first (qw(UPDATE INSERT))
{
	my %statement = (
		UPDATE => "UPDATE osmtalk.campaigns SET webhook_url = NULL WHERE id = 'cmp_moves'",
		INSERT => "INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_raced', 'acme', 'x', '" . $receiver->url('/raced') . "')");
	my ($second) = grep { $_ ne $first } keys %statement;

	$last->query_safe("BEGIN; $statement{$first}");
	my $other = session($node, $db);
	$other->{stdin} .= "$statement{$second};\n";
	$other->{run}->pump_nb;
	wait_for(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") > 0 }, 'the second to wait', 10);
	$last->query_safe('COMMIT');
	$other->query_safe('SELECT 1');
	$other->quit;
	isnt(endpoint('/raced'), '', "$first first: the endpoint is known");
	sql("DELETE FROM osmtalk.campaigns WHERE id = 'cmp_raced'; UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/raced') . "' WHERE id = 'cmp_moves'");
}
$last->quit;

is(log_since($node) =~ /terminated by signal/, '', 'no process died');
$node->stop;
done_testing();
