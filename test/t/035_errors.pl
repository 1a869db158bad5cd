# Every statement of the worker fails in turn, by a fault that is compiled in
# for this test alone, and for as long as that lasts: the application does not
# notice, nothing is sent that could not be recorded, the worker goes on when it
# can, and nothing is lost or sent twice.

use strict;
use warnings;
use Osmtalk::Clock;
use Osmtalk::Installation;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $installation = Osmtalk::Installation->new('installation');
$installation->install($installation->build(Osmtalk::Installation::present_version(), flags => '-DOSMTALK_FAULTS'));

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $holding = Osmtalk::Receiver->new;    # answers when it is told to
my $clock = Osmtalk::Clock->new;
my $node = new_cluster('main', installation => $installation, start => 0, conf => <<'END_OF_CONF');
osmtalk.request_timeout = 60s
osmtalk.poll_interval = 200ms
END_OF_CONF
{
	local %ENV = (%ENV, $clock->environment);
	$node->start;
}
expect_signals();
$node->safe_psql('postgres', "CREATE DATABASE $db");
set_up($node, $db, url => $receiver->url);

# The server may be down, for a moment; psql may then be gone before it is given the query.
sub sql
{
	my ($query) = join '', @_;
	my $result;

	wait_for(sub {
			my ($status, $stdout) = eval { $node->psql($db, $query, on_error_stop => 1) };
			return defined $status && $status == 0 && defined($result = $stdout);
		}, $query) or die;
	return $result;
}

my %again;    # how often an event may come again: once for each end of a worker while it was in flight

sub event { return sql("SELECT test.event('cmp_plain')"); }

sub in_flight
{
	my $event = sql("SELECT osmtalk.send_test_event('held')");

	request_of($holding, $event)->{seq} or die;
	return $event;
}

sub terminate { return sql('SELECT pg_terminate_backend(pid, 5000) FROM osmtalk.worker_status WHERE pid IS NOT NULL'); }

# With this in flight the worker ends: it is made again.
sub ended_in_flight
{
	my ($signal) = @_;
	my $event = in_flight();

	$again{$event}++;
	return $event if !$signal && terminate();
	my $pid = sql('SELECT pid FROM osmtalk.worker_status') or die;
	kill $signal, $pid;
	return $event;
}

sub enqueue_by_hand
{
	my ($slot_of_event, $outbox) = @_;
	my $id = sql("INSERT INTO osmtalk.events (type, org_id, body, slot) VALUES ('webhook.test', 'acme', '{}', $slot_of_event) RETURNING id");

	sql("INSERT INTO osmtalk.outbox (event_id, $outbox->[0]) VALUES ('$id', $outbox->[1])");
	return $id;
}

# It fails, and is sent a second time.
sub retried
{
	my $event = sql("SELECT osmtalk.send_test_event('retried')");

	$again{$event}++;
	return $event;
}

# One that had arrived is sent once more.
my $earlier = event();
sub redelivered
{
	my ($event) = @_;

	$again{$event}++;
	sql("SELECT FROM osmtalk.redeliver_matching('event_id = ''$event''', dry_run => false)");
	return $event;
}

# Somebody locks a row of the outbox whose event is in flight, and its result comes.
my $locker;
sub locked_result
{
	my $event = in_flight();

	$locker = session($node, $db);
	$locker->query_safe("BEGIN; SELECT FROM osmtalk.outbox WHERE event_id = '$event' FOR UPDATE");
	$holding->let_go;
	return $event;
}
sub unlock { $locker->query_safe('COMMIT'); return $locker->quit; }

# For each statement: a part of its text that no other has (or that those have,
# too, which are tried elsewhere), and what makes the worker execute it, if a new
# event does not: that may return one.
my $slot = sql('SELECT osmtalk.current_slot()');
my $other_slot = ($slot + 5) % 16;
my @cases = (
	[ 'statements', 'SELECT w.number, o.id, o.event_id' ],
	[ 'look_new', 'WHERE ROW(o.xid, o.endpoint_hash, o.id)' ],
	[ 'look_and_check', 'has_overdue_calls()' ],
	[ 'note_claims', 'INSERT INTO osmtalk.claims' ],
	[ 'remove_rows', 'DELETE FROM osmtalk.outbox r WHERE' ],
	[ 'remove_claims', 'DELETE FROM osmtalk.claims c WHERE c.id' ],
	[ 'look_all', 'SELECT e.endpoint_hash, e.id FROM e', \&terminate ],
	[ 'find_claims', 'SELECT t.endpoint_hash, t.id, t.attempt', \&terminate ],
	[ 'remove_idle_claims', 'DELETE FROM osmtalk.claims c WHERE NOT EXISTS', \&terminate ],
	[ 'remove_own_claims', 'DELETE FROM osmtalk.claims c WHERE c.worker', \&ended_in_flight ],
	[ 'abandon', 'WITH lost AS MATERIALIZED', \&ended_in_flight ],
	[ 'set_aside', 'WITH condemned AS', sub { ended_in_flight('KILL') } ],
	[ 'read_others', 'SELECT k.number, o.slot, e.body', sub { enqueue_by_hand($other_slot, [ 'slot', $other_slot ]) } ],
	[ 'find_events', 'UPDATE osmtalk.outbox o SET slot', sub { enqueue_by_hand($other_slot, [ 'slot', ($other_slot + 1) % 16 ]) } ],
	[ 'find_due_at_once', 'e.created_at OPERATOR(pg_catalog.>=) $2', sub { enqueue_by_hand($slot, [ 'due_at', "now() + interval '1 s'" ]) } ],
	[ 'find_rows', 'SELECT k.number FROM', \&locked_result, \&unlock ],
	[ 'lock_rows', 'SKIP LOCKED) f', \&locked_result, \&unlock ],
	[ 'record_new_attempts', 'SELECT n.* FROM', \&locked_result, \&unlock ],
	[ 'renumber_attempts', 'SELECT pg_catalog.max(a.attempt)', sub {
			my $event = in_flight();

			sql("INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, slot) SELECT id, 1, now(), slot FROM osmtalk.events WHERE id = '$event'");
			$holding->let_go;
			return $event;
		} ],
	[ 'record_attempts', 'SELECT n.* FROM', sub {
			sql("CREATE FUNCTION test.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
				CREATE TRIGGER nothing BEFORE INSERT ON osmtalk.delivery_attempts FOR EACH ROW EXECUTE FUNCTION test.nothing()");
			return event();
		}, sub { sql('DROP TRIGGER nothing ON osmtalk.delivery_attempts') } ],
	[ 'expire_calls', 'osmtalk.expire_calls(', sub {
			setting($node, 'osmtalk.call_timeout' => '1s');
			sql("INSERT INTO osmtalk.calls (org_id, direction) VALUES ('acme', 'inbound')");
			return;
		}, sub { setting($node, 'osmtalk.call_timeout' => undef) } ],
	[ 'apply_retention', 'osmtalk.apply_retention()', sub { setting($node, 'osmtalk.retention' => '1min'); return; }, sub { setting($node, 'osmtalk.retention' => undef) } ],
	[ 'not_adopted', 'SELECT n.events, n.calls FROM', sub {
			sql("INSERT INTO osmtalk.outbox (event_id, origin) VALUES ('evt_elsewhere', 'elsewhere')");
			terminate();
			return;
		}, sub {
			ok(wait_for(sub { log_since($node) =~ /holds 1 events/ }, 'the log', 20), '... and when it does not any more, the log has what it found');
			sql("DELETE FROM osmtalk.outbox WHERE event_id = 'evt_elsewhere'");
		} ],
	[ 'find_pause', 'SELECT FROM osmtalk.paused', \&terminate ],
	[ 'wait_for_retries', 'osmtalk.wait_for_retry(', \&retried ],
	[ 'release_waiting', 'SELECT osmtalk.release_waiting(', \&retried ],
	[ 'note_results', 'FROM osmtalk.note_results(', \&retried ],
	[ 'add_to_counters', 'FROM osmtalk.add_to_counters(' ],
	[ 'find_waiting', 'SELECT osmtalk.find_waiting(', sub { enqueue_by_hand($slot, [ 'endpoint_hash', 1 ]) } ],
	[ 'follow_clock', 'SELECT osmtalk.follow_clock(', sub {
			my $from = -s $node->logfile;

			$clock->set(-3600);
			wait_for(sub { log_since($node, $from) =~ /fault at "SELECT osmtalk.follow_clock/ }, 'the fault');
			$clock->set(0);
			return;
		} ],
	[ 'put_waiting', 'SELECT osmtalk.put_waiting(', sub {
			sql("SELECT osmtalk.disable_endpoint(id) FROM osmtalk.endpoints WHERE org_id = 'disabled'");
			return sql("SELECT osmtalk.send_test_event('disabled')");
		}, sub { sql("SELECT osmtalk.enable_endpoint(id) FROM osmtalk.endpoints WHERE org_id = 'disabled'") } ],
	[ 'begin_probe', 'SELECT osmtalk.begin_probe(', sub {
			sql("UPDATE osmtalk.endpoints SET state = 'probing', consecutive_failures = 5, next_probe_at = now() WHERE org_id = 'disabled'");
			return sql("SELECT osmtalk.send_test_event('disabled')");
		} ],
	# the origin's only slot is taken: the probe is claimed, and cannot begin
	[ 'return_probe', 'SELECT osmtalk.return_probe(', sub {
			setting($node, 'osmtalk.max_in_flight_per_endpoint' => 1);
			in_flight();
			wait_for(sub { $holding->let_go; sql('SELECT NOT EXISTS (SELECT FROM osmtalk.outbox)') eq 't' }, 'the origin to have answered', 20) or die;
			sql("UPDATE osmtalk.endpoints SET state = 'probing', consecutive_failures = 5, next_probe_at = now() WHERE org_id = 'probed'");
			in_flight();
			return sql("SELECT osmtalk.send_test_event('probed')");
		}, sub { setting($node, 'osmtalk.max_in_flight_per_endpoint' => undef) } ],
	[ 'select_previous', 'SELECT k.number, p.secret', sub {
			setting($node, 'osmtalk.standard_webhooks_headers' => 'on');
			sql("SELECT length(osmtalk.rotate_webhook_secret('signed'))") for 1 .. 2;
			return sql("SELECT osmtalk.send_test_event('signed')");
		}, sub { setting($node, 'osmtalk.standard_webhooks_headers' => undef) } ],
	[ 'count_redelivered', 'UPDATE osmtalk.redelivery_counters c', sub { redelivered($earlier) } ],
	[ 'feed_redeliveries', 'FROM osmtalk.feed_redeliveries(', sub { redelivered($earlier) } ]);

# ---- none is forgotten ----

my %tried = map { $_->[0] => 1 } @cases;
my @forgotten;
for my $file (glob "$ENV{SRC}/src/*.c")
{
	push @forgotten, grep { !$tried{$_} } slurp_file($file) =~ /^\s*static OsmtalkStatement (\w+)\b/mg;
}
is_deeply(\@forgotten, [], 'every statement of the worker is tried');

# ---- one after the other ----

# what is not in the way of sending
my %aside = map { $_ => 1 } qw(expire_calls apply_retention not_adopted release_waiting find_waiting follow_clock note_results add_to_counters feed_redeliveries);

sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_retry_schedule) VALUES ('retried', '" . $receiver->url('/fail/500/1') . "', '{300 ms}'),
	('disabled', '" . $receiver->url('/disabled') . "', '{1 h}'), ('signed', '" . $receiver->url('/signed') . "', NULL)");
sql("INSERT INTO osmtalk.org_settings VALUES ('held', '" . $holding->url('/hold') . "')");
sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url, webhook_retry_schedule) VALUES ('probed', '" . $holding->url('/hold/probed') . "', '{1 h}')");
event();
for my $case (@cases)
{
	my ($name, $text, $trigger, $afterwards) = @$case;
	my $from = -s $node->logfile;

	setting($node, 'osmtalk.fault_statement' => $text);
	my $made = $trigger ? $trigger->() : undef;
	my $event = event();
	if ($aside{$name})
	{
		ok(request_of($receiver, $event, 5)->{seq}, "$name fails, and events are sent meanwhile");
	}
	if ($name eq 'not_adopted')
	{
		unlike(log_since($node), qr/holds 1 events/, "$name fails, and the log does not say that");
	}
	else
	{
		ok(wait_for(sub { log_since($node, $from) =~ /(?:LOG|FATAL): .*fault at "\Q$text\E"/ }, 'the fault', 10), "$name fails, and the log says so")
		  or diag log_since($node, $from);
	}
	setting($node, 'osmtalk.fault_statement' => undef);
	$afterwards->() if $afterwards;
	my $since = now();
	ok(request_of($receiver, $event, 10)->{seq}, sprintf '... and when it does not any more, what came meanwhile is sent, %.1f s later', now() - $since);
	# what was held, and comes again
	wait_for(sub { $holding->let_go; sql("SELECT NOT EXISTS (SELECT FROM osmtalk.outbox) AND NOT EXISTS (SELECT FROM osmtalk.redelivery_progress WHERE state = 'running')") eq 't' }, 'all to be sent', 20) or die;
	is(sql("SELECT DISTINCT state FROM osmtalk.deliveries WHERE event_id IN ('$event', '" . ($made && $made =~ /^evt_/ ? $made : $event) . "')"), 'delivered', '... recorded');
	is(sql("SELECT state, pending FROM osmtalk.worker_status"), 'running|0', '... and all is well');
}

# ---- the same in one process: nothing is left behind ----

SKIP:
{
	my $pid = sql('SELECT pid FROM osmtalk.worker_status');
	skip 'no /proc here', 2 if !-d "/proc/$pid/fd";
	my $descriptors = sub { my @fd = glob "/proc/$pid/fd/*"; return scalar @fd; };

	event();
	sql("SELECT osmtalk.wait_until_drained()");
	my $before = $descriptors->();
	for my $i (1 .. 3)
	{
		for my $case (grep { !$_->[2] } @cases)
		{
			my $from = -s $node->logfile;

			setting($node, 'osmtalk.fault_statement' => $case->[1]);
			event() for 1 .. 3;
			wait_for(sub { log_since($node, $from) =~ /fault at/ }, 'the fault', 10) or die;
			setting($node, 'osmtalk.fault_statement' => undef);
			sql("SELECT osmtalk.wait_until_drained()");
		}
	}
	is(sql('SELECT pid FROM osmtalk.worker_status'), $pid, 'many errors, one process');
	cmp_ok($descriptors->(), '<=', $before + 3, 'which has no more files open than before');
}

# ---- all in all ----

is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'nothing waits');
my %times;
$times{$_}++ for $receiver->event_ids, $holding->event_ids;
is(sql("SELECT string_agg(event_id || ' ' || state, ', ') FROM osmtalk.deliveries WHERE state <> 'delivered'"), '', 'every event is recorded as delivered');
is_deeply([ grep { !$times{$_} } split /\n/, sql('SELECT id FROM osmtalk.events') ], [], 'every event has arrived');
is_deeply([ grep { $times{$_} > 1 + ($again{$_} // 0) } sort keys %times ], [], 'none twice, but for those in flight when a worker ended');
ok($node->poll_query_until($db, 'SELECT count(*) = 0 FROM osmtalk.claims'), 'no claim is left');
my @signals = log_since($node) =~ /terminated by signal (\d+)/g;
is("@signals", '9', 'the one process that died by a signal was killed by this test');

done_testing();
