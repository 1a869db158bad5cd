# Results that cannot be recorded: they wait, nothing new is sent, and nothing
# is sent twice.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, url => $receiver->url('/slow/500'));

sub sql { return $node->safe_psql($db, join '', @_); }

# Breaks the recording while twenty requests are in flight, looks at what that
# does, and repairs it.
sub cannot_record
{
	my ($what, $break, $repair, $error) = @_;
	my $before = $receiver->count;

	sql("SELECT test.finalise('cmp_plain', 20)");
	$receiver->wait_for_count($before + 2) or die;
	$break->();
	# what was claimed by then has arrived, or soon will have
	ok(wait_for(sub { sql("SELECT state FROM osmtalk.worker_status") eq 'waiting: results cannot be recorded' }, 'the state'), "$what: worker_status says so");
	my $sent = $receiver->count;
	my $claimed = sql("SELECT count(*) FROM osmtalk.outbox");
	my $new = sql("SELECT test.event('cmp_plain')");
	$node->poll_query_until($db, "SELECT now() - created_at > interval '1500 ms' FROM osmtalk.events WHERE id = '$new'");
	cmp_ok($receiver->count, '<=', $sent, "$what: nothing new is sent");
	is(sql("SELECT state FROM osmtalk.deliveries WHERE event_id = '$new'"), 'pending', "$what: it queues");
	like(sql("SELECT last_error FROM osmtalk.worker_status"), $error, "$what: worker_status has the error");
	$repair->();
	my $took = measure(sub { request_of($receiver, $new, 20) });
	note sprintf '%s: %.1f s after the repair the next event has arrived', $what, $took;
	cmp_ok($took, '<', 8, "$what: after the repair it goes on");
	is(sql("SELECT osmtalk.wait_until_drained()"), 't', "$what: all is sent");
	is(sql("SELECT state FROM osmtalk.worker_status"), 'running', "$what: worker_status is well again");
	is(sql("SELECT count(*) FROM osmtalk.events e WHERE NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id AND http_status = 200)"), 0, "$what: every result is recorded");
	my %times;
	$times{$_}++ for $receiver->event_ids;
	is(scalar(grep { $_ > 1 } values %times), 0, "$what: nothing was sent twice");
	is(sql("SELECT count(*) FROM osmtalk.delivery_attempts"), $receiver->count, "$what: each request has its attempt");
	return;
}

my $pid = worker_pid($node, $db);
sql(<<'END');
CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
END
cannot_record('an error',
	sub { sql("CREATE TRIGGER refuse BEFORE INSERT ON osmtalk.delivery_attempts FOR EACH ROW EXECUTE FUNCTION test.refuse()") },
	sub { sql("DROP TRIGGER refuse ON osmtalk.delivery_attempts") },
	qr/the disk is full/);

my $session = session($node, $db);
cannot_record('a lock',
	sub { $session->query_safe("BEGIN; LOCK osmtalk.delivery_attempts IN ACCESS EXCLUSIVE MODE") },
	sub { $session->query_safe('COMMIT') },
	qr/lock timeout/);
like(log_since($node), qr/nothing is sent until the outbox works again: .*the disk is full/, 'the log says so');
my $complaints = () = log_since($node) =~ /nothing is sent until the outbox works again/g;
cmp_ok($complaints, '<', 20, 'and not all the time');
is(worker_pid($node, $db), $pid, 'by one and the same worker');

# ---- the worker must leave while it cannot record ----

$session->query_safe("BEGIN; LOCK osmtalk.outbox, osmtalk.delivery_attempts IN ACCESS EXCLUSIVE MODE");
my $took = measure(sub { sql("SELECT pg_terminate_backend($pid, 10000)") });
cmp_ok($took, '<', 2, 'a worker that is terminated does not wait for a lock');
$session->query_safe('COMMIT');

# ---- a database that is read-only from the start ----

$session->quit;
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "'");
sql("ALTER DATABASE app SET default_transaction_read_only = on");
$node->restart;
my $event = sql("SET default_transaction_read_only = off; SELECT test.event('cmp_plain')");
my $state = state_of($node, $db, $event);
note "default_transaction_read_only: $state";
# a default for sessions: the worker is not one (pin_settings() in worker.c)
is($state, 'delivered|1|204|', 'default_transaction_read_only of the database does not stop the worker');
sql("SET default_transaction_read_only = off; ALTER DATABASE app RESET ALL");

for my $setting ("statement_timeout = 1", "lock_timeout = 1", "search_path = test", "default_transaction_isolation = 'serializable'",
	"session_replication_role = replica", "synchronous_commit = off", "row_security = off", "role = somebody", "client_encoding = latin1", "TimeZone = 'Asia/Kolkata'", "DateStyle = 'German'", "bytea_output = escape",
	"enable_indexscan = off", "transform_null_equals = on", "standard_conforming_strings = off", "work_mem = 64")
{
	sql("CREATE ROLE somebody") if $setting =~ /role = somebody/;
	sql("ALTER DATABASE app SET $setting");
	my $pid = worker_pid($node, 'app');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
	my $event = $node->safe_psql('postgres', 'SELECT 1') && sql("RESET ALL; SET statement_timeout = 0; SET lock_timeout = 0; SET ROLE NONE; SET session_replication_role = origin; SET search_path = public; SELECT test.event('cmp_plain')");
	my @requests;
	ok(wait_for(sub { @requests = $receiver->requests(eventId => $event) }, 'the event', 10), "a database with $setting");
	sql("SET statement_timeout = 0; SET ROLE NONE; ALTER DATABASE app RESET ALL");
}

done_testing();
