# Standbys: none sends until it is promoted; and a synchronous one that does not
# answer stops the sending, not the worker.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $primary = new_cluster('primary', stream => 1);
set_up($primary, $db, url => $receiver->url);
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\n");
$standby->start;

sub sql { return $primary->safe_psql($db, join '', @_); }

# ---- a standby ----

my $delivered = sql("SELECT test.event('cmp_plain')");
state_of($primary, $db, $delivered);
setting($primary, 'osmtalk.enabled' => 'off');
my @pending = map { sql("SELECT test.event('cmp_plain')") } 1 .. 3;
$primary->wait_for_catchup($standby);
is_query($standby, $db, "SELECT count(*) FROM osmtalk.outbox", 3, 'events wait on the standby, too');
is_query($standby, $db, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'osmtalk%'", 0, 'a standby starts no worker');
is_query($standby, $db, "SELECT pid IS NULL, state FROM osmtalk.worker_status", 't|standby: starts after promotion', 'worker_status says so');
is_query($standby, $db, "SELECT state FROM osmtalk.deliveries WHERE event_id = '$delivered'", 'delivered', 'deliveries can be read there');

# ---- a synchronous standby that does not answer ----

setting($primary, 'osmtalk.enabled' => undef, 'synchronous_standby_names' => '*', 'synchronous_commit' => 'local');
ok(wait_for(sub { sql("SELECT osmtalk.wait_until_drained('100 ms')") eq 't' }, 'the three', 20), 'with a synchronous standby events are sent');
$standby->stop;
my $count = $receiver->count;
my $waits = sql("SET synchronous_commit = local; SELECT test.event('cmp_plain')");
$primary->poll_query_until($db, "SELECT now() - created_at > interval '1500 ms' FROM osmtalk.events WHERE id = '$waits'");
is($receiver->count, $count, 'without the standby none is: its claim could be lost');
is_query($primary, $db, "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'", 'SyncRep', 'the worker waits for it');
my $pid = worker_pid($primary, $db);
my $took = measure(sub {
		sql("SELECT pg_terminate_backend($pid)");
		wait_for(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' }, 'its end', 10);
	});
cmp_ok($took, '<', 3, 'and can be ended meanwhile');
$standby->start;
ok(request_of($receiver, $waits, 10)->{seq}, 'the standby is back: the event is sent');
is(state_of($primary, $db, $waits) =~ s/\d+\|/n|/r, 'delivered|n|204|', 'and recorded');

# ---- promotion ----

setting($primary, 'osmtalk.enabled' => 'off', 'synchronous_standby_names' => undef, 'synchronous_commit' => undef);
@pending = map { sql("SELECT test.event('cmp_plain')") } 1 .. 3;
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$count = $receiver->count;
my $begun = now();
$standby->promote;
$receiver->wait_for_count($count + 3, 10);
$took = now() - $begun;
note sprintf 'all sent %.2f s after promotion began', $took;
cmp_ok($took, '<', 5, 'promoted: it delivers');
is_deeply([ sort +($receiver->event_ids)[ $count .. $count + 2 ] ], [ sort @pending ], 'what was pending');
my $own = $standby->safe_psql($db, "SELECT test.event('cmp_plain')");
is(state_of($standby, $db, $own), 'delivered|1|204|', 'and its own');
is_query($standby, $db, "SELECT state, events_not_adopted FROM osmtalk.worker_status", 'running|0', 'which needs no adopt()');

my %times;
$times{$_}++ for $receiver->event_ids;
is_deeply([ grep { $times{$_} > 1 } keys %times ], [], 'nothing came twice');

done_testing();
