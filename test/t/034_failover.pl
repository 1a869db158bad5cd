# Failovers.  With a synchronous standby nothing is sent that it does not have;
# with an asynchronous one an event may have been sent that the new primary does
# not know, and what it does know it sends, once more if need be.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new(bodies => 1);

# A primary with a standby that follows it.
sub pair
{
	my ($name) = @_;
	my $primary = new_cluster("${name}_primary", stream => 1);

	set_up($primary, $db, url => $receiver->url);
	$primary->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new("${name}_standby");
	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->append_conf('postgresql.conf', "wal_retrieve_retry_interval = 200ms\nwal_receiver_status_interval = 1s\n");
	$standby->start;
	$primary->wait_for_catchup($standby);
	return ($primary, $standby);
}

sub digests { my ($event) = @_; my %d = map { $_->{sha256} => 1 } $receiver->requests(eventId => $event); return scalar(keys %d); }

# ---- asynchronous ----

my ($primary, $standby) = pair('asynchronous');
my $known = $primary->safe_psql($db, "SELECT test.event('cmp_plain')");
state_of($primary, $db, $known);
setting($primary, 'osmtalk.enabled' => 'off');
my @pending = map { $primary->safe_psql($db, "SELECT test.event('cmp_plain')") } 1 .. 5;
$primary->wait_for_catchup($standby);

# the standby hears no more of it, as when the network between them fails
my $conninfo = $standby->safe_psql('postgres', 'SHOW primary_conninfo');
setting($standby, primary_conninfo => '');
ok($standby->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver'), 'the standby is cut off');
setting($primary, 'osmtalk.enabled' => undef);
my $lost = $primary->safe_psql($db, "SELECT test.event('cmp_plain')");
is(state_of($primary, $db, $_), 'delivered|1|204|', 'the primary goes on sending') for @pending, $lost;
my $arrived = $receiver->count;
$primary->stop('immediate');

my $begun = now();
$standby->promote;
ok($receiver->wait_for_count($arrived + 5, 20), 'the new primary sends what it knows as pending');
my $took = now() - $begun;
cmp_ok($took, '<', 5, sprintf 'the first, and all, within %.2f s of its promotion', $took);
is(state_of($standby, $db, $_), 'delivered|1|204|', 'and records it') for @pending;
is_query($standby, $db, "SELECT count(*) FROM osmtalk.events WHERE id = '$lost'", 0, 'what was sent last it does not know');
is(scalar(my @once = $receiver->requests(eventId => $lost)), 1, 'and does not send');
is(scalar(my @twice = $receiver->requests(eventId => $_)), 2, 'the others have come twice') for @pending;
is(digests($_), 1, 'with the same bytes') for @pending;
my @own = map { $standby->safe_psql($db, "SELECT test.event('cmp_plain')") } 1 .. 20;
is(state_of($standby, $db, $_), 'delivered|1|204|', 'its own it sends') for @own;
my %ids = map { $_ => 1 } $lost, @pending, $known, @own;
is(scalar(keys %ids), 27, 'none has the id of one that was lost');

# ---- both at once: the old primary comes back and nobody has told it ----

my $shared = $pending[0];
$standby->safe_psql($db, "SELECT osmtalk.redeliver('$shared')");
state_of($standby, $db, $shared);
$primary->start;
$primary->poll_query_until($db, "SELECT state = 'running' FROM osmtalk.worker_status");
$primary->safe_psql($db, "SELECT osmtalk.redeliver('$shared')");
my $apart = $primary->safe_psql($db, "SELECT test.event('cmp_plain')");
my $meanwhile = $standby->safe_psql($db, "SELECT test.event('cmp_plain')");
is(state_of($primary, $db, $apart), 'delivered|1|204|', 'two primaries: each sends its own');
is(state_of($standby, $db, $meanwhile), 'delivered|1|204|', 'each sends its own');
state_of($primary, $db, $shared);
is(digests($shared), 1, 'what both have is the same event, with the same bytes');
isnt($apart, $meanwhile, 'what only one has, is another');
$_->stop('immediate') for $primary, $standby;

# ---- synchronous ----

($primary, $standby) = pair('synchronous');
# whatever the application risks
setting($primary, 'synchronous_standby_names' => '*', 'synchronous_commit' => 'local');
$primary->poll_query_until($db, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'");
my @sent = map { $primary->safe_psql($db, "SELECT test.event('cmp_plain')") } 1 .. 3;
is(state_of($primary, $db, $_), 'delivered|1|204|', 'with a synchronous standby events are sent') for @sent;

# it stops in the middle of many, which the application does not wait for
$arrived = $receiver->count;
$primary->safe_psql($db, "SET synchronous_commit = local; SELECT test.finalise('cmp_plain', 2000)");
$receiver->wait_for_count($arrived + 200) or die;
$standby->stop('immediate');
my @late = map { $primary->safe_psql($db, "SET synchronous_commit = local; SELECT test.event('cmp_plain')") } 1 .. 3;
ok($primary->poll_query_until($db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND wait_event = 'SyncRep'"), 'the standby is gone: the worker waits for it');
$primary->poll_query_until($db, "SELECT now() - max(created_at) > interval '1 s' FROM osmtalk.events");
$primary->stop('immediate');
my %before;
$before{$_}++ for $receiver->event_ids;
is(scalar(grep { $before{$_} } @late), 0, 'and sends nothing that it does not have');

$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$standby->start;
$standby->promote;
$standby->poll_query_until($db, 'SELECT NOT pg_is_in_recovery()');
my %has = map { $_ => 1 } split /\n/, $standby->safe_psql($db, 'SELECT id FROM osmtalk.events');
my @first = grep { my $id = $_; !grep { $_ eq $id } $known, $lost, $apart, $meanwhile, @pending, @own } keys %before;
cmp_ok(scalar(@first), '>', 200, '(many had been sent)');
is_deeply([ grep { !$has{$_} } @first ], [], 'every event that was sent is on the new primary');
is_query($standby, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'which sends the rest');
my %after;
$after{$_}++ for $receiver->event_ids;
is_deeply([ grep { !$after{$_} } keys %has ], [], 'all of it');
is_query($standby, $db, "SELECT count(*) FROM osmtalk.deliveries WHERE state <> 'delivered'", 0, 'and records it');
my $more = grep { $after{$_} > 1 && $before{$_} } @first;
note "$more events came twice, which were in flight or not yet recorded on the standby";
cmp_ok($more, '<=', 256, 'twice came no more than may be in flight');

done_testing();
