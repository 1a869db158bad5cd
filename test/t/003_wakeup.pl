# When the worker looks: at once after a commit, never before, in time when the
# wake-up is lost, and hardly ever when there is nothing to do.

use strict;
use warnings;
use List::Util qw(max min);
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
# Nobody connects to the database 'idle', and no autovacuum either: whatever
# happens there is its worker's doing.
my $share = `pg_config --sharedir`;
chomp $share;
my $statements = -e "$share/extension/pg_stat_statements.control";
my $node = new_cluster('main', conf => "autovacuum = off\n"
	  . ($statements ? "shared_preload_libraries = 'osmtalk, pg_stat_statements'\n" : ''));
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('postgres', 'CREATE DATABASE idle');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements') if $statements;

sub sql { return $node->safe_psql($db, join '', @_); }

# Transactions and statements in the idle database so far, and the time.
sub idle_figures
{
	return split /\|/, $node->safe_psql('postgres', "SELECT xact_commit + xact_rollback, extract(epoch FROM clock_timestamp()), "
		  . ($statements ? "(SELECT sum(calls) FROM pg_stat_statements s WHERE s.dbid = d.datid)" : 'NULL')
		  . " FROM pg_stat_database d WHERE datname = 'idle'");
}

sub received { my ($event) = @_; return scalar(my @r = $receiver->requests(eventId => $event)); }

set_up($node, 'idle', url => $receiver->url);
set_up($node, $db, url => $receiver->url);

# ---- only the wake-up can deliver ----

setting($node, 'osmtalk.poll_interval' => '1h');
my $session = session($node, $db);
my $other = session($node, $db);
my @latencies;

for my $i (1 .. 50)
{
	my $begun = now();
	my $event = $session->query_safe("SELECT test.event('cmp_plain')");
	push @latencies, 1000 * (request_of($receiver, $event, 5)->{arrivedAt} / 1000 - $begun);
}
@latencies = sort { $a <=> $b } @latencies;
note sprintf('from before the statement to the arrival: median %.1f ms, 90%% %.1f ms, longest %.1f ms', @latencies[ 25, 45, 49 ]);
ok(max(@latencies) < 2000 && min(@latencies) > 0, 'a commit delivers without the poll');
ok($latencies[25] < 100, 'within milliseconds');

my @sent_before = ($receiver->count);
$session->query_safe("BEGIN; SELECT test.event('cmp_plain')");
$session->query_safe("ROLLBACK");
my $kept = $session->query_safe("BEGIN; SAVEPOINT a; SELECT test.event('cmp_plain'); ROLLBACK TO a; SELECT test.event('cmp_plain'); COMMIT");
$kept = (split /\n/, $kept)[-1];
ok(request_of($receiver, $kept)->{seq}, 'what follows a rolled back savepoint is sent');
is($receiver->count, $sent_before[0] + 1, 'a rollback and a rolled back savepoint send nothing');
is_query($node, $db, "SELECT count(*) = $sent_before[0] + 1 FROM osmtalk.events", 't', 'and leave no event');

my $inner = $session->query_safe("BEGIN; SAVEPOINT a; SELECT test.event('cmp_plain'); RELEASE a; COMMIT");
ok(request_of($receiver, $inner)->{seq}, 'an event of a released savepoint');
$session->query_safe("CREATE PROCEDURE test.in_turn() LANGUAGE plpgsql AS 'BEGIN PERFORM test.event(''cmp_plain''); COMMIT; PERFORM test.event(''cmp_plain''); ROLLBACK; END'");
my $count = $receiver->count;
$session->query_safe("CALL test.in_turn()");
ok($receiver->wait_for_count($count + 1), 'an event of a procedure that commits');

# ---- prepared transactions ----

$session->query_safe("BEGIN; SELECT test.event('cmp_plain'); PREPARE TRANSACTION 'never'");
my $prepared = $session->query_safe("BEGIN; SELECT test.event('cmp_plain'); PREPARE TRANSACTION 'later'");
my $next = $other->query_safe("SELECT test.event('cmp_plain')");
ok(request_of($receiver, $next)->{seq}, 'a later event overtakes a prepared one');
is(received($prepared), 0, 'which is not sent');
$other->query_safe("ROLLBACK PREPARED 'never'");
$other->query_safe("COMMIT PREPARED 'later'");
ok(request_of($receiver, $prepared, 5)->{seq}, 'COMMIT PREPARED in another session delivers');

my $old = $session->query_safe("BEGIN; SELECT test.event('cmp_plain'); PREPARE TRANSACTION 'over a restart'");
$_->quit for $session, $other;
$node->restart;
($session, $other) = map { session($node, $db) } 1 .. 2;
$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status');
$next = $other->query_safe("SELECT test.event('cmp_plain')");
ok(request_of($receiver, $next)->{seq}, 'an event after a restart');
is(received($old), 0, 'what was prepared before it is not sent');
$other->query_safe("COMMIT PREPARED 'over a restart'");
ok(request_of($receiver, $old, 5)->{seq}, 'until it is committed');

# ---- ids commit out of order ----

my $first = $session->query_safe("BEGIN; SELECT test.event('cmp_plain')");
my $second = $other->query_safe("SELECT test.event('cmp_plain')");
ok(request_of($receiver, $second)->{seq}, 'the event with the greater id commits first, and is sent');
for my $i (1 .. 3)
{
	# the looks in between must not lose what is still in progress
	ok(request_of($receiver, $other->query_safe("SELECT test.event('cmp_plain')"))->{seq}, 'others follow');
}
is(received($first), 0, 'the one with the smaller id is not committed');
$session->query_safe('COMMIT');
ok(request_of($receiver, $first, 5)->{seq}, 'once it is, it is sent');

# a transaction that holds a snapshot and an id all the while
$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()");
ok(request_of($receiver, $other->query_safe("SELECT test.event('cmp_plain')"), 5)->{seq}, 'an old transaction elsewhere delays nobody');
$first = $session->query_safe("SELECT test.event('cmp_plain')");
$session->query_safe('COMMIT');
ok(request_of($receiver, $first, 5)->{seq}, 'its own event, after the others');

# ---- the wake-up is lost ----

setting($node, 'osmtalk.poll_interval' => undef);
my $begun = now();
my $lost = sql("SET session_replication_role = replica;
	WITH e AS (INSERT INTO osmtalk.events (type, org_id, body) VALUES ('webhook.test', 'acme', '{}') RETURNING id)
	INSERT INTO osmtalk.outbox (event_id) SELECT id FROM e RETURNING event_id");
my $late = request_of($receiver, $lost, 10)->{arrivedAt};
ok($late && $late / 1000 - $begun < 3, 'a lost wake-up: the poll finds the event');
note sprintf('after %.2f s', $late / 1000 - $begun);

# ---- a worker with nothing to do ----

my @idle_before = idle_figures();
my $samples = 0;
my $open = 0;
my @idle_after;
wait_for(sub {
		$open += $session->query_safe("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'
			AND datname = 'idle' AND (xact_start < clock_timestamp() - interval '500 ms' OR state LIKE 'idle in%')");
		$samples++;
		@idle_after = idle_figures();
		return $idle_after[1] - $idle_before[1] >= 6;
	}, 'six seconds');
my $seconds = $idle_after[1] - $idle_before[1];
# figures are reported once a second at most, so two may be in the air
cmp_ok($idle_after[0] - $idle_before[0], '<=', $seconds + 2, 'an idle worker begins one transaction a second');
cmp_ok($idle_after[0] - $idle_before[0], '>=', $seconds / 2, '(it was counted)');
SKIP:
{
	skip 'no pg_stat_statements', 2 if !$statements;
	cmp_ok($idle_after[2] - $idle_before[2], '<=', $seconds + 1, 'and runs one statement in it');
	cmp_ok($idle_after[2] - $idle_before[2], '>=', $seconds / 2, '(they were counted)');
}
is($open, 0, "and has no transaction open ($samples looks)");

my %times;
$times{$_}++ for $receiver->event_ids;
is_deeply([ grep { $times{$_} > 1 } keys %times ], [], 'nothing came twice');
$_->quit for $session, $other;

done_testing();
