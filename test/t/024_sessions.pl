# Sessions of all sorts may end calls: pooled ones, which are wiped between two
# transactions of one client; parallel ones; those that apply another
# server's changes; and a server without any other process.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', stream => 'logical');
my $db = 'postgres';
my $end_call = 'UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval \'42 s\' WHERE id';

sub sql { return $node->safe_psql($db, join '', @_); }

sub all_delivered
{
	my ($name, @events) = @_;

	is_query($node, $db, 'SELECT osmtalk.wait_until_drained()', 't', "$name: all is sent");
	my %times;
	$times{$_}++ for $receiver->event_ids;
	return is_deeply([ grep { ($times{$_} // 0) != 1 } @events ], [], "$name: once each");
}

set_up($node, $db, url => $receiver->url);

# ---- a pooler in transaction mode ----

# One server session for all clients, wiped after each transaction.
my $session = session($node, $db);
my $settings = $session->query_safe("SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE source = 'session' AND name <> 'client_min_messages'");
my @events;
for my $i (1 .. 8)
{
	my $call = $session->query_safe("SELECT test.place('cmp_plain')");

	$session->query_safe('DISCARD ALL');
	$session->query_safe("BEGIN; $end_call = '$call'; COMMIT");
	is($session->query_safe("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"), 0, 'no session lock is left') if $i == 8;
	is($session->query_safe("SELECT count(*) FROM pg_prepared_statements"), 0, 'no prepared statement') if $i == 8;
	is($session->query_safe("SELECT count(*) FROM pg_class WHERE relpersistence = 't'"), 0, 'no temporary table') if $i == 8;
	is($session->query_safe("SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE source = 'session' AND name <> 'client_min_messages'"),
		$settings, 'and no setting') if $i == 8;
	$session->query_safe('DISCARD ALL');
	push @events, $session->query_safe("SELECT id FROM osmtalk.events WHERE call_id = '$call'");
	$session->query_safe('DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP; RESET ALL');
}
is(scalar(grep { /^evt_/ } @events), 8, 'DISCARD ALL after each transaction: an event for each call');
all_delivered('DISCARD ALL', @events);

# prepared statements, from the custom plans to the generic one, and anew
@events = ();
for my $i (1 .. 9)
{
	$session->query_safe("PREPARE finish (text) AS $end_call = \$1; PREPARE place AS SELECT test.place('cmp_plain')") if $i % 8 == 1;
	my $call = $session->query_safe('EXECUTE place');
	$session->query_safe("EXECUTE finish ('$call')");
	push @events, $session->query_safe("SELECT id FROM osmtalk.events WHERE call_id = '$call'");
	$session->query_safe('DEALLOCATE ALL') if $i % 8 == 0;
}
is(scalar(grep { /^evt_/ } @events), 9, 'prepared statements: an event for each call');
all_delivered('prepared', @events);

# ---- parallel queries ----

is_query($node, $db, "SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc
	WHERE pronamespace = 'osmtalk'::regnamespace AND provolatile = 'v' AND proparallel <> 'u'", 'new_id verify_standard_webhook', 'what may write is PARALLEL UNSAFE, but not what asks for randomness or the time');
my $parallel = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
$session->query_safe("SET $parallel = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0");
like($session->query_safe("EXPLAIN SELECT osmtalk.disposition('{}') FROM osmtalk.calls"), qr/Gather/, 'whatever can be parallel is');
my $test = $session->query_safe("SELECT osmtalk.send_test_event('acme')");
like($test, qr/^evt_/, 'send_test_event()');
like($session->query_safe("SELECT osmtalk.record_event('made.up', 'acme', NULL, NULL, NULL, '{}')"), qr/^evt_/, 'record_event()');
$session->query_safe("SELECT osmtalk.redeliver('$events[0]')");
my $lead = $session->query_safe("INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('cmp_plain', '+491234567') RETURNING id");
my $call = $session->query_safe("SELECT id FROM osmtalk.place_call('$lead')");
like($call, qr/^call_/, 'place_call()');
$session->query_safe("$end_call = '$call'");
$session->query_safe("SELECT osmtalk.requeue_lead('$lead')");
like($session->query_safe("SELECT id FROM osmtalk.place_next_call('cmp_plain')"), qr/^call_/, 'place_next_call()');
is($session->query_safe('SELECT osmtalk.adopt()'), 0, 'adopt()');
$session->query_safe('SELECT osmtalk.apply_retention(), osmtalk.expire_calls(10)');
is($session->query_safe('SELECT osmtalk.wait_until_drained()'), 't', 'wait_until_drained()');
for my $view (qw(deliveries campaign_report due_leads stale_calls not_adopted in_flight))
{
	my $query = "SELECT count(*), coalesce(md5(string_agg(v::text, ' ' ORDER BY v::text)), '') FROM osmtalk.$view v";
	my $rows = $session->query_safe($query);

	$session->query_safe("SET $parallel = off");
	is($rows, $session->query_safe($query), "$view: the same rows");
	$session->query_safe("SET $parallel = on");
}
is($session->query_safe('SELECT state FROM osmtalk.worker_status'), 'running', 'worker_status');
$session->quit;

# ---- changes that come from elsewhere ----

$call = sql("SELECT test.place('cmp_plain')");
my $before = sql('SELECT count(*) FROM osmtalk.events');
sql("SET session_replication_role = replica; $end_call = '$call'");
is_query($node, $db, 'SELECT count(*) FROM osmtalk.events', $before, 'session_replication_role = replica: no event');
is_query($node, $db, "SELECT status FROM osmtalk.leads WHERE call_id = '$call'", 'calling', 'and nothing decided');

my $elsewhere = new_cluster('subscriber', conf => "osmtalk.call_timeout = 100ms\nosmtalk.analysis_timeout = 100ms\n");
my $tables = join ', ', map { "osmtalk.$_" } qw(org_settings agents campaigns leads calls events outbox delivery_attempts);
$elsewhere->safe_psql($db, 'CREATE EXTENSION osmtalk');
sql("CREATE PUBLICATION everything FOR TABLE $tables WITH (publish = 'insert, update, delete', publish_via_partition_root = true)");
$elsewhere->safe_psql($db, "CREATE SUBSCRIPTION everything CONNECTION '" . $node->connstr . " dbname=$db' PUBLICATION everything");
$elsewhere->wait_for_subscription_sync($node, 'everything');
setting($node, 'osmtalk.enabled' => 'off');
@events = map { sql("SELECT test.event('cmp_plain')") } 1 .. 5;
my $open = sql("SELECT test.place('cmp_plain')");
$node->wait_for_catchup('everything');
is_query($elsewhere, $db, "SELECT count(*) FROM osmtalk.outbox WHERE event_id IN ('" . join("', '", @events) . "')", 5, 'a subscriber has the outbox rows');
is_query($elsewhere, $db, 'SELECT count(*) FROM osmtalk.events', sql('SELECT count(*) FROM osmtalk.events'), 'and no events but the publisher\'s');
# its worker looks, and times out, what is its own
my $own = $elsewhere->safe_psql($db, "SELECT osmtalk.send_test_event('acme')");
my $own_call = $elsewhere->safe_psql($db, "INSERT INTO osmtalk.calls (org_id, direction) VALUES ('acme', 'inbound') RETURNING id");
ok(request_of($receiver, $own, 20)->{seq}, 'it sends an event of its own');
ok($elsewhere->poll_query_until($db, "SELECT ended_at IS NOT NULL FROM osmtalk.calls WHERE id = '$own_call'"), 'and times out a call of its own');
$elsewhere->poll_query_until($db, "SELECT now() - created_at > interval '1500 ms' FROM osmtalk.events WHERE id = '$own'");
is_query($elsewhere, $db, "SELECT ended_at IS NULL FROM osmtalk.calls WHERE id = '$open'", 't', 'but not the publisher\'s');
my %times;
$times{$_}++ for $receiver->event_ids;
is(scalar(grep { $times{$_} } @events), 0, 'nor sends its events');
is_query($elsewhere, $db, 'SELECT state, events_not_adopted FROM osmtalk.worker_status', 'waiting for adopt()|5', 'worker_status says so');
setting($node, 'osmtalk.enabled' => undef);
all_delivered('the publisher', @events);
$node->wait_for_catchup('everything');
is_query($elsewhere, $db, 'SELECT count(*) FROM osmtalk.outbox', 0, 'what the publisher has sent is gone at the subscriber, too');
$elsewhere->safe_psql($db, 'DROP SUBSCRIPTION everything');
$elsewhere->stop;

# ---- no other process at all ----

sub single_user
{
	my ($name, @statements) = @_;
	my ($out, $err);

	IPC::Run::run([ $node->installed_command('postgres'), '--single', '-D', $node->data_dir, $db ], '<', \join('', map { "$_\n" } @statements), '>', \$out, '2>', \$err);
	is($?, 0, "$name: no crash") or diag $err;
	unlike($err, qr/ERROR|FATAL|PANIC/, "$name: no error");
	return $out;
}

for my $preloaded (1, 0)
{
	my $name = $preloaded ? 'single-user mode' : 'single-user mode, not preloaded';

	$node->stop;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . ($preloaded ? 'osmtalk' : '') . "'");
	my $out = single_user($name,
		"SELECT 'event=' || test.event('cmp_plain') AS made",
		"SELECT 'state=' || state AS seen FROM osmtalk.worker_status",
		'CREATE SCHEMA single', 'DROP SCHEMA single',
		'DROP EXTENSION osmtalk CASCADE', 'CREATE EXTENSION osmtalk',
		"INSERT INTO osmtalk.org_settings VALUES ('acme', '" . $receiver->url . "')",
		"SELECT 'event=' || osmtalk.send_test_event('acme') AS made");
	my ($lost, $event) = $out =~ /"event=(evt_\w+)"/g;
	like($out, $preloaded ? qr/"state=no worker:/ : qr/"state=not preloaded:/, "$name: worker_status says why nothing is sent");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'osmtalk'");
	$node->start;
	ok(request_of($receiver, $event, 20)->{seq}, "$name: the next start of the server sends it");
	sql('DROP EXTENSION osmtalk; DROP SCHEMA test CASCADE; ', set_up_sql(url => $receiver->url));
}

done_testing();
