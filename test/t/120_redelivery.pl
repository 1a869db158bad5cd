# Many dead events sent again: counted first, at a rate, watched, cancelled and
# resumed, through restarts and pauses; each once, with the id and the bytes
# that it had.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $n = 300;
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "max_worker_processes = 24\n");
my $dir = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql($db, join '', @_); }
sub goes_to { sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url($_[0]) . "'"); return; }

# Events that failed.
sub dead
{
	my ($count) = @_;

	goes_to('/status/500');
	sql("SELECT test.finalise('cmp_plain', $count)");
	sql('SELECT osmtalk.wait_until_drained()') eq 't' or die 'not drained';
	return;
}

# Begins a redelivery; returns its id and how many there are.
sub redeliver { return split /\|/, sql("SELECT redelivery_id, total FROM osmtalk.redeliver_matching($_[0], dry_run => false)"); }

sub progress
{
	my ($id, $columns, $database) = @_;

	return $node->safe_psql($database // $db, "SELECT $columns FROM osmtalk.redelivery_progress WHERE id = $id");
}

sub finishes
{
	my ($id, $database) = @_;

	return wait_for(sub { progress($id, 'state', $database) eq 'finished' }, "redelivery $id");
}

$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url);
dead($n);
is(sql('SELECT count(*), count(DISTINCT command) FROM osmtalk.dead_letters'), "$n|$n", 'events are dead');

# ---- counted ----

is(sql("SELECT redelivery_id, total, by_state, oldest <= newest FROM osmtalk.redeliver_matching('http_status = 500')"), "|$n|{\"failed\": $n}|t", 'they are counted first');
is(sql("SELECT total FROM osmtalk.redeliver_matching(since => now() - interval '1 hour', campaign_id => 'cmp_plain', state => 'failed')"), $n, 'in other words, too');
is($receiver->count, $n, 'and nothing is sent');

# ---- replayed, cancelled, resumed ----

goes_to('/');
my ($id, $total) = redeliver("state => 'failed', rate => 200");
is($total, $n, 'a redelivery is begun');
ok(wait_for(sub { progress($id, 'done') > 20 }, 'the first of them'), 'it runs');
is(progress($id, 'state, total, failed, rate, by_role'), "running|$n|0|200|postgres", 'and can be watched');
is(progress($id, "waiting > 0 AND eta BETWEEN now() AND now() + interval '3 s'"), 't', '... and it says when it will be done');

sql("SELECT osmtalk.cancel_redelivery($id)");
ok(wait_for(sub { progress($id, "waiting = not_enqueued AND state = 'cancelled'") eq 't' }, 'what was in the outbox'), 'cancelled: what was in the outbox is sent');
my $done = progress($id, 'done');
# so much that there would have been time
for (1 .. 10)
{
	like(state_of($node, $db, sql("SELECT osmtalk.send_test_event('acme')")), qr/^delivered/, 'other events are sent');
}
is(progress($id, 'done, total - done - waiting'), "$done|0", '... but no more of it');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state = 'failed'"), $n - $done, 'the others are dead still');

sql("SELECT osmtalk.resume_redelivery($id)");
ok(wait_for(sub { progress($id, 'done') > $done }, 'more of them'), 'resumed, it goes on');
my $begun = sql('SELECT clock_timestamp()');
$node->stop('immediate');
$node->start;
ok(finishes($id), 'through a crash of the server');
is(progress($id, 'done + failed, waiting, already_waiting, removed, without_url, not_enqueued'), "$n|0|0|0|0|0", 'all of them are accounted for');
is(sql("SELECT count(*), min(attempts) FROM osmtalk.deliveries WHERE state = 'delivered' AND type <> 'webhook.test'"), "$n|2", 'each is delivered');
cmp_ok(progress($id, 'measured_rate'), '<=', 220, 'at no more than the rate');

my %requests;
for my $request ($receiver->requests)
{
	push @{ $requests{ $request->{eventId} } }, $request if $request->{event} ne 'webhook.test';
}
is(scalar(keys %requests), $n, 'with the ids that they had');
is(scalar(grep { my %bytes = map { $_->{sha256} => 1 } @$_; keys %bytes != 1 } values %requests), 0, '... and the bytes');
my @more = grep { @$_ > 2 } values %requests;
cmp_ok(scalar(@more), '<=', 32, 'none is sent twice, but those that were in flight when the server crashed')
  or diag join ' ', map { scalar @$_ } @more;
# in any second after the crash
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts a WHERE a.started_at > '$begun' AND a.attempt > 1 AND a.http_status = 204
	AND (SELECT count(*) FROM osmtalk.delivery_attempts b WHERE b.attempt > 1 AND b.started_at BETWEEN a.started_at AND a.started_at + interval '1 s') > 320"),
	0, 'what was not sent while the server was down is not made up for');

# ---- a pause, and a failure ----

dead(60);
($id, $total) = redeliver("'state = ''failed''', rate => 100");
is($total, 60, 'another');
ok(wait_for(sub { progress($id, 'failed') > 3 }, 'the first of them'), 'it fails again');
sql('SELECT osmtalk.pause()');
ok(wait_for(sub { sql('SELECT state FROM osmtalk.worker_status') eq 'paused' }, 'the pause'), 'paused');
is(progress($id, 'state, failed < total, eta IS NULL'), 'held: nothing is sent|t|t', '... it is not finished');
is(sql("SELECT count(DISTINCT reason) FROM osmtalk.unsent_events WHERE reason NOT IN ('paused', 'failed')"), 0, '... its events are either dead still or paused');
sql('SELECT osmtalk.resume()');
ok(finishes($id), '... and goes on');
is(progress($id, 'done, failed'), '0|60', 'those that failed are counted as such');

# ---- two at once, and what cannot be sent ----

goes_to('/');
my ($first, $of_first) = redeliver("'state = ''failed'' AND event_id < (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY event_id) FROM osmtalk.deliveries WHERE state = ''failed'')', rate => 50");
my $taken = sql("SELECT event_id FROM osmtalk.redelivery_events WHERE redelivery_id = $first ORDER BY event_id DESC LIMIT 1");
my ($second, $of_second) = redeliver("'state = ''failed''', rate => 500");
sql("SELECT osmtalk.redeliver('$taken'); DELETE FROM osmtalk.events WHERE id = (SELECT max(event_id) FROM osmtalk.redelivery_events WHERE redelivery_id = $second)");
ok(finishes($_), 'two at once') for $first, $second;
is(progress($second, 'removed'), 1, 'an event that was removed is counted');
is(sql("SELECT sum(total - done - failed - already_waiting - removed) FROM osmtalk.redelivery_progress"), 0, 'nothing is lost');
is(sql("SELECT count(*) FROM osmtalk.dead_letters"), 0, 'and nothing is dead any more');

# one that waits by itself, and one without a URL
sql("INSERT INTO osmtalk.org_settings (org_id) VALUES ('mute'); SELECT osmtalk.send_test_event('mute')");
my $waits = sql("INSERT INTO osmtalk.events (type, org_id, body) VALUES ('webhook.test', 'acme', '{}') RETURNING id");
sql("INSERT INTO osmtalk.outbox (event_id, due_at) VALUES ('$waits', now() + interval '1 h')");
($id, $total) = redeliver("'event_id = ''$waits'' OR state = ''skipped'''");
ok(finishes($id), 'what cannot be sent is not waited for');
is(progress($id, 'total, already_waiting, without_url, done'), '2|1|1|0', '... and said');
sql("DELETE FROM osmtalk.outbox WHERE event_id = '$waits'; DELETE FROM osmtalk.events WHERE id = '$waits'");

# ---- a session that cancels and stays in its transaction holds up nothing ----

dead(40);
goes_to('/');
($id) = redeliver("state => 'failed', rate => 200");
my $session = session($node, $db);
$session->query_safe("BEGIN; SELECT osmtalk.cancel_redelivery($id)");
ok(finishes($id), 'a cancellation that is not committed is none');
$session->query_safe('ROLLBACK');
$session->quit;

# ---- events that a session has locked, which stays in its transaction, hold up themselves alone ----

sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ('other', '" . $receiver->url('/status/500') . "')");
dead(40);
sql("SELECT osmtalk.send_test_event('other') FROM generate_series(1, 20)");
sql('SELECT osmtalk.wait_until_drained()') eq 't' or die 'not drained';
goes_to('/');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "' WHERE org_id = 'other'");
my @locked = split /\n/, sql("SELECT event_id FROM osmtalk.deliveries WHERE state = 'failed' AND org_id = 'acme' ORDER BY event_id LIMIT 3 OFFSET 10");
$session = session($node, $db);
$session->query_safe("BEGIN; SELECT osmtalk.redeliver(id) FROM unnest('{" . join(',', @locked) . "}'::text[]) id");
my ($of_acme) = redeliver("state => 'failed', org_id => 'acme', rate => 100");
my ($of_other) = redeliver("state => 'failed', org_id => 'other', rate => 50");
ok(finishes($of_other), 'a redelivery that has nothing to do with them');
ok(wait_for(sub { progress($of_acme, 'done') == 37 }, 'the others', 20), 'the other events of theirs');
is(progress($of_acme, 'state, waiting, not_enqueued, already_waiting + removed + without_url + failed'), 'running|3|3|0', '... they themselves wait');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE event_id IN ('" . join("', '", @locked) . "') AND state = 'failed'"), 3, '... and are what they were');
my $since = sql("SELECT clock_timestamp()");
for (1 .. 20)
{
	request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"))->{seq} or die;
}
my $slowest = sql("SELECT max(extract(epoch FROM a.started_at - e.created_at)) FROM osmtalk.events e JOIN osmtalk.delivery_attempts a ON a.event_id = e.id WHERE e.created_at > '$since'");
cmp_ok($slowest, '<', 0.3, '... new events do not');
$session->query_safe("ROLLBACK; BEGIN; SELECT osmtalk.redeliver('$locked[2]')");
ok(wait_for(sub { progress($of_acme, 'done') == 39 }, 'two of them'), 'those that are free again go');
$session->query_safe('COMMIT');
ok(finishes($of_acme), 'and then the last');
is(progress($of_acme, 'total - done - already_waiting, failed + removed + without_url'), '0|0', 'all of them are accounted for');
is(sql("SELECT count(*) FROM osmtalk.dead_letters"), 0, 'nothing is dead any more');
is(sql('SELECT count(*) FROM osmtalk.redelivery_events'), 0, 'nothing is left in any list');

# ---- copies ----

dead(50);
goes_to('/');
($id) = redeliver("state => 'failed', rate => 10");
sql("SELECT osmtalk.cancel_redelivery($id)");
ok(wait_for(sub { progress($id, 'waiting = not_enqueued') eq 't' }, 'the outbox'), 'one is left in the middle');
my $left = progress($id, 'waiting');
sql("SELECT osmtalk.resume_redelivery($id); SELECT osmtalk.pause()");
$node->command_ok([ 'pg_dump', '-d', $node->connstr($db), '-f', "$dir/dump" ], 'the database is dumped');
for my $discard ('false', 'true')
{
	my $copy = "copy_$discard";

	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	$node->command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($copy), '-f', "$dir/dump" ], '... and restored');
	$node->safe_psql($copy, "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url("/$copy") . "'; SELECT osmtalk.resume()");
	my $own = $node->safe_psql($copy, "SELECT osmtalk.send_test_event('acme')");
	like(state_of($node, $copy, $own), qr/^delivered/, 'the copy works');
	is(progress($id, 'state, waiting <= ' . $left . ', not_enqueued = waiting', $copy), 'waiting for adopt()|t|t', '... and what its original had begun does not go on there');
	$node->safe_psql($copy, "UPDATE osmtalk.redeliveries SET rate = 1000; SELECT osmtalk.adopt($discard)");
	ok(finishes($id, $copy), "until adopt($discard)");
	my @sent = grep { $_->{event} ne 'webhook.test' } $receiver->requests(path => "/$copy");
	if ($discard eq 'true')
	{
		is(scalar(@sent), 0, 'which drops it');
		cmp_ok(progress($id, 'removed', $copy), '>', 0, '... and says so');
	}
	else
	{
		cmp_ok(scalar(@sent), '>', 0, 'which takes it over');
		is(progress($id, 'total - done', $copy), 0, '... and delivers all');
	}
}
sql('SELECT osmtalk.resume()');
ok(finishes($id), 'the original goes on by itself');

unlike(log_since($node), qr/terminated by signal|PANIC|redeliveries cannot go on/, 'nothing else happened');

# ---- a row of counters that a session has locked: the log says it once ----

dead(40);
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/status/500') . "' WHERE org_id = 'other'");
sql("SELECT osmtalk.send_test_event('other') FROM generate_series(1, 60)");
sql('SELECT osmtalk.wait_until_drained()') eq 't' or die 'not drained';
goes_to('/');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "' WHERE org_id = 'other'");
$session->query_safe("BEGIN; SELECT * FROM osmtalk.redeliver_matching(state => 'failed', org_id => 'acme', rate => 1000, dry_run => false); COMMIT;
	BEGIN; SELECT FROM osmtalk.redelivery_counters WHERE redelivery_id = (SELECT max(id) FROM osmtalk.redeliveries) FOR UPDATE");
$of_acme = sql('SELECT max(id) FROM osmtalk.redeliveries');
my $before = progress($of_acme, 'not_enqueued');
($of_other) = redeliver("state => 'failed', org_id => 'other', rate => 20");
ok(finishes($of_other), 'a redelivery beside one whose counters are locked');
is(progress($of_acme, 'not_enqueued'), $before, '... which stays where it is');
my @said = log_since($node) =~ /redeliveries (cannot go on|go on)/g;
is("@said", 'cannot go on', '... the log says so once');
$session->query_safe('ROLLBACK');
ok(finishes($of_acme), 'it goes on when they are free');
ok(wait_for(sub { @said = log_since($node) =~ /redeliveries (cannot go on|go on)/g; @said == 2 }, 'the log', 10), '... and the log says that');
is("@said", 'cannot go on go on', '... once');
$session->quit;
done_testing();
