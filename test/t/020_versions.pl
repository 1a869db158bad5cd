# The library in memory, the libraries on disk and the objects in the database
# are of different versions for a while in each upgrade: nothing crashes, is
# lost or sent by one that does not know the objects, and who looks is told.

use strict;
use warnings;
use Osmtalk::Installation;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;

my $present = Osmtalk::Installation::present_version();
my $next = Osmtalk::Installation::next_version();
my $installation = Osmtalk::Installation->new('installation');
my $receiver = Osmtalk::Receiver->new;
my %oid;

# A next version whose worker needs what its step makes.
my $build = $installation->build($next, oldest => $next, edit => sub {
		my ($dir) = @_;

		append_to_file("$dir/sql/osmtalk--$present--$next.sql", "ALTER TABLE osmtalk.outbox ADD COLUMN made_up int NOT NULL DEFAULT 0;\n");
		append_to_file("$dir/sql/retention.sql", "ALTER TABLE osmtalk.outbox ADD COLUMN made_up int NOT NULL DEFAULT 0;\n");
	});
# debug1: the end of each worker is in the log
my $node = new_cluster('main', installation => $installation, conf => "log_min_messages = debug1\nosmtalk.request_timeout = 5min\n");

sub enqueue { return $node->safe_psql($_[0], "SELECT test.event('cmp_plain')"); }

sub arrives
{
	my ($event, $name) = @_;

	return ok(request_of($receiver, $event, 20)->{seq}, $name);
}

# The reason for which a database has no worker.
sub stops
{
	my ($database, $reason, $name) = @_;
	my $row = '';

	wait_for(sub { $row = $node->safe_psql($database, 'SELECT pid, state FROM osmtalk.worker_status'); $row =~ /^\|stopped: the / }, 'the reason', 10);
	return is($row, "|stopped: $reason", $name);
}

# Once the launcher has tried so many times, the log has said so once.
sub said_once
{
	my ($database, $log_from, $tries, $message, $name) = @_;
	my $tried = sub {
		my @starts = log_since($node, $log_from) =~ /starting background worker process "osmtalk worker for database $oid{$database}"/g;
		return scalar @starts;
	};

	ok(wait_for(sub { $tried->() >= $tries }, 'more tries', 20), "$name: it is tried again");
	my @said = log_since($node, $log_from) =~ /$message/g;
	return is(scalar(@said), 1, "$name: the log says so once");
}

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(app other);
set_up($node, $_, url => $receiver->url("/$_")) for qw(app other);
$oid{$_} = $node->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = '$_'") for qw(app other);
my @all = map { enqueue($_) } qw(app other);
arrives($_, 'delivered before anything changes') for @all;

# ---- other files on disk than in memory ----

my $session = session($node, 'app');
$session->query_safe("SELECT test.finalise('cmp_plain')");
$installation->install($build);
push @all, map { enqueue($_) } qw(app other);
arrives($_, 'files of another version are installed: the worker goes on') for @all[ -2, -1 ];

my $log = -s $node->logfile;
$node->safe_psql('app', 'SELECT pg_terminate_backend(pid) FROM osmtalk.worker_status');
stops('app', "the server was not restarted after osmtalk $next was installed over $present", 'the next worker would not fit the server');
said_once('app', $log, 3, qr/osmtalk: no worker for database $oid{app}, its events queue: the server was not restarted after osmtalk \Q$next\E was installed over \Q$present\E\n.*HINT:  Restart the server/, 'another version on disk');
my $queued = $session->query_safe("SELECT test.event('cmp_plain')");
push @all, $queued, enqueue('other');
arrives($all[-1], 'a database whose worker is of before goes on');

# what was installed over it cannot even be loaded
append_to_file("$installation->{root}/x.c", "extern void osmtalk_that_is_not(void);\nvoid osmtalk_worker_main(void) { osmtalk_that_is_not(); }\n");
PostgreSQL::Test::Utils::system_or_bail('gcc', '-shared', '-fPIC', '-o', "$installation->{root}/x.so", "$installation->{root}/x.c");
$log = -s $node->logfile;
PostgreSQL::Test::Utils::system_or_bail('install', "$installation->{root}/x.so", "$installation->{lib}/osmtalk_worker.so");
$node->safe_psql('other', 'SELECT pg_terminate_backend(pid) FROM osmtalk.worker_status');
ok($node->poll_query_until('other', "SELECT state ~ '^stopped: the worker''s library cannot be used: could not load library ' FROM osmtalk.worker_status"), 'a library that cannot be loaded');
said_once('other', $log, 3, qr/osmtalk: no worker for database $oid{other}, its events queue: the worker's library cannot be used/, 'a library that cannot be loaded');
push @all, enqueue('other');

# another build of the same version, which lays out memory in another way
$installation->install($installation->build($present, edit => sub {
			my ($dir) = @_;
			my $header = PostgreSQL::Test::Utils::slurp_file("$dir/src/wakeup.h") =~ s/(#define OSMTALK_ERROR_LEN) \d+/$1 512/r;

			Osmtalk::Installation::replace_file("$dir/src/wakeup.h", $header);
		}));
$node->safe_psql('postgres', 'CREATE DATABASE another');
set_up($node, 'another', url => $receiver->url, wait => 0);
stops('another', "the server was not restarted after another build of osmtalk $present was installed", 'another build of the same version on disk');
$node->safe_psql('postgres', 'DROP DATABASE another');

# ---- a library that is newer than the objects ----

$installation->install($build);
$log = -s $node->logfile;
$session->quit;
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
set_up($node, 'fresh', url => $receiver->url('/fresh'));
stops($_, "the extension is of version $present in this database, the library of $next: ALTER EXTENSION osmtalk UPDATE", "$_: objects that are too old") for qw(app other);
push @all, enqueue('app'), enqueue('fresh');
arrives($all[-1], 'a database with objects of the library\'s version is served');
is_query($node, 'app', "SELECT state, attempts FROM osmtalk.deliveries WHERE event_id IN ('$queued', '$all[-2]')", "pending|0\npending|0", 'events queue, and are not touched');
# tried so often that it is not tried again for four seconds
said_once('app', $log, 6, qr/osmtalk: the extension is of version \Q$present\E in database "app", which the library of version \Q$next\E cannot serve.*\n.*HINT:  Run ALTER EXTENSION osmtalk UPDATE/, 'objects that are too old');
$node->safe_psql('app', 'ALTER EXTENSION osmtalk UPDATE');
my $updated_at = now();
my $soon = request_of($receiver, $queued, 20);
cmp_ok(($soon->{arrivedAt} // 1e15) / 1000 - $updated_at, '<', 2, 'ALTER EXTENSION UPDATE: it goes on at once');
arrives($all[-2], 'and delivers all of it');
$node->poll_query_until('app', "SELECT pid IS NOT NULL AND state = 'running' FROM osmtalk.worker_status") or fail('running');

# the launcher does not hear of it
$node->safe_psql('other', "BEGIN; ALTER EXTENSION osmtalk UPDATE; PREPARE TRANSACTION 'update'");
$node->safe_psql('other', "COMMIT PREPARED 'update'");
arrives($_, 'committed elsewhere: it goes on soon') for grep { $node->safe_psql('other', "SELECT count(*) FROM osmtalk.events WHERE id = '$_'") } @all;

# ---- a library that is older than the objects ----

# of the server's start
$installation->install($ENV{SRC});
$node->restart;
stops('app', "the extension is of version $next in this database, the library of $present: restart the server", 'objects that are too new');
push @all, enqueue('app');
is_query($node, 'app', "SELECT state, attempts FROM osmtalk.deliveries WHERE event_id = '$all[-1]'", 'pending|0', 'events queue');

# and while it is at work: objects that become too new under it
$node->safe_psql('postgres', 'DROP DATABASE other');
$node->safe_psql('postgres', 'CREATE DATABASE other');
set_up($node, 'other', url => $receiver->url('/other'));
is_query($node, 'other', 'SELECT extversion FROM pg_extension WHERE extname = \'osmtalk\'', $present, 'a database of the present version');
$node->safe_psql('other', "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/hold') . "'");
my $held = enqueue('other');
arrives($held, 'in flight');
$installation->install($build);
$log = -s $node->logfile;
$node->safe_psql('other', 'ALTER EXTENSION osmtalk UPDATE');
ok(wait_for(sub { log_since($node, $log) =~ /osmtalk: the extension is of version \Q$next\E in database "other", which the library of version \Q$present\E cannot serve.*\n.*HINT:  Restart the server/ }, 'the log', 20),
	'updated before the restart: the worker at work sees it');
ok($node->poll_query_until('other', "SELECT pid IS NULL AND state LIKE 'stopped: %' FROM osmtalk.worker_status"), 'and ends');
push @all, my $late = enqueue('other');
$receiver->let_go;
is_query($node, 'other', 'SELECT string_agg(outbox_id::text, $$ $$) IS NOT NULL FROM osmtalk.in_flight', 't', 'what was in flight stays claimed');
is_query($node, 'other', "SELECT count(*) FROM osmtalk.delivery_attempts", 0, 'nothing is recorded by one that does not know the tables');
$node->safe_psql('other', "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/other') . "'");
$node->restart;
arrives($_, 'after the restart it is sent') for $late, $all[-2];
ok(wait_for(sub { $receiver->requests(eventId => $held) == 2 }, 'the second request'), 'what was in flight is made again');
like(state_of($node, 'other', $held), qr/^delivered\|2\|204\|$/, 'and recorded');

# ---- functions of another version ----

my ($status, undef, $stderr) = $node->psql('app', "CREATE FUNCTION test.slots() RETURNS TABLE (number int, pid int) LANGUAGE c AS '\$libdir/osmtalk', 'osmtalk_worker_slots';
	SELECT * FROM test.slots()");
like($stderr, qr/ERROR:  function osmtalk\.worker_slots\(\) is not of the version of the library, \Q$next\E/, 'a function with other columns: an error');
($status, undef, $stderr) = $node->psql('app', "CREATE FUNCTION test.future() RETURNS int LANGUAGE c AS '\$libdir/osmtalk', 'osmtalk_future'");
like($stderr, qr/ERROR:  could not find function "osmtalk_future" in file/, 'a function that the library does not have: an error');

# ---- all in all ----

my %times;
$times{$_}++ for $receiver->event_ids;
delete $times{$held};
is_deeply([ grep { ($times{$_} // 0) != 1 } @all ], [], 'every event came once');
unlike(log_since($node), qr/terminated by signal/, 'nothing crashed');

done_testing();
