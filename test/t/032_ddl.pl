# Five hundred requests hang, and the database's tables are vacuumed, rewritten,
# emptied and dropped under them: nobody waits, and nothing is lost.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $hung = 500;
my $other = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => <<'END');
osmtalk.request_timeout = 5min
osmtalk.max_in_flight = 1200
max_files_per_process = 5000
osmtalk.max_in_flight_per_endpoint = 500
END
my $db = 'app';
my $where;    # the receiver at which requests hang

sub sql { return $node->safe_psql($db, join '', @_); }

# Ends what hangs: the connections break.
sub let_go
{
	$where->stop if $where;
	undef $where;
	return $node->poll_query_until($db, 'SELECT count(*) = 0 FROM osmtalk.outbox');
}

# Has five hundred requests in flight that hang.
sub hang
{
	let_go() or die;
	$where = Osmtalk::Receiver->new;
	sql("INSERT INTO osmtalk.org_settings VALUES ('hung', '" . $where->url . "') ON CONFLICT (org_id) DO UPDATE SET default_webhook_url = excluded.default_webhook_url");
	# an endpoint is trusted with more requests at once as it answers
	sql("SELECT count(osmtalk.send_test_event('hung')) FROM generate_series(1, $hung)");
	is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'the endpoint answers');
	sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $where->url('/hang') . "' WHERE org_id = 'hung'");
	sql("SELECT count(osmtalk.send_test_event('hung')) FROM generate_series(1, $hung)");
	$where->wait_for_count(2 * $hung) or die;
	return is(sql("SELECT in_flight FROM osmtalk.worker_status"), $hung, "$hung requests hang");
}

sub new_database
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	set_up($node, $db, url => $other->url);
	return hang();
}

sub others_are_served
{
	my ($name, $seconds) = @_;
	my $event = sql("SELECT osmtalk.send_test_event('acme')");

	ok(request_of($other, $event, $seconds // 5)->{seq}, "$name: others are served");
	return is(state_of($node, $db, $event), 'delivered|1|204|', '... and it is recorded');
}

sub within
{
	my ($seconds, $database, @commands) = @_;
	my ($status, $err);
	my $took = measure(sub { ($status, undef, $err) = $node->psql($database, join('; ', @commands), on_error_die => 0) });

	is($status, 0, $commands[-1]) or diag $err;
	cmp_ok($took, '<', $seconds, sprintf '... in %.3f s', $took);
	return;
}

# ---- maintenance ----

new_database();
my $pid = worker_pid($node, $db);
my $from = -s $node->logfile;
for my $table (split /\n/, sql("SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'osmtalk'::regnamespace AND relkind IN ('r', 'p') AND relname !~ '_\\d\\d\$' ORDER BY 1"))
{
	my $key = sql("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$table'::regclass AND indisprimary");

	within(2, $db, $_) for "VACUUM (FULL, ANALYZE) $table", "REINDEX TABLE $table", "CLUSTER $table USING " . ($key =~ s/^osmtalk\.//r);
	within(2, $db, "ALTER TABLE $table ADD COLUMN added int DEFAULT random()", "ALTER TABLE $table DROP COLUMN added")
	  if $table =~ /outbox|claims|events$|attempts$|org_settings|slots/;
	within(2, $db, "BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE; COMMIT");
}
within(2, $db, 'REINDEX TABLE CONCURRENTLY osmtalk.outbox');
within(2, $db, 'REINDEX SCHEMA osmtalk');
others_are_served('after maintenance');
is(sql('SELECT in_flight, pid FROM osmtalk.worker_status'), "$hung|$pid", 'all still hang, in the same worker');
is(sql('SELECT count(*) FROM osmtalk.in_flight'), $hung, 'and are noted');
ok(let_go(), 'their connections break: all have a result');
is(sql("SELECT count(*), max(attempts) FROM osmtalk.deliveries WHERE org_id = 'hung' AND state = 'failed'"), "$hung|1", 'which is recorded');
ok($node->poll_query_until($db, 'SELECT count(*) = 0 FROM osmtalk.claims'), 'no claim is left');

# ---- TRUNCATE ----

for my $tables ('outbox', 'claims', 'events', 'delivery_attempts', 'events, delivery_attempts', 'outbox, claims', 'outbox, claims, events, delivery_attempts',
	'org_settings, agents, campaigns, leads, calls, dnc_entries, outbox, claims, events, delivery_attempts')
{
	hang();
	$from = -s $node->logfile;
	# some that wait behind them, and some that do not
	sql("SELECT count(osmtalk.send_test_event('hung')) FROM generate_series(1, 100)");
	my $highest = "SELECT last_value FROM osmtalk.outbox_id_seq";
	my $before = sql($highest);
	within(2, $db, 'TRUNCATE ' . join(', ', map { "osmtalk.$_" } split /, /, $tables) . ' RESTART IDENTITY');
	cmp_ok(sql($highest), '>=', $before, 'no id is used again, whoever may still mean a row by it');
	sql("INSERT INTO osmtalk.org_settings VALUES ('acme', '" . $other->url . "') ON CONFLICT DO NOTHING");
	others_are_served("TRUNCATE $tables");
	is(sql('SELECT in_flight, pid FROM osmtalk.worker_status'), "$hung|$pid", 'all still hang, in the same worker');
	ok(let_go(), 'their connections break: nothing is left in the outbox');
	ok($node->poll_query_until($db, 'SELECT in_flight = 0 FROM osmtalk.worker_status'), 'nor in flight');
	ok($node->poll_query_until($db, 'SELECT count(*) = 0 FROM osmtalk.claims'), 'nor in the claims');
	others_are_served('after that');
	unlike(log_since($node, $from), qr/nothing is sent until|ERROR/, 'without an error');
	is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state IN ('pending', 'in_flight')"), 0, 'each event that is there has a result');
	is(sql("SELECT count(*) > 0 FROM osmtalk.delivery_attempts WHERE error IS NOT NULL"), 't', 'and attempts that were made are recorded');
}

# ---- the extension, and the database ----

hang();
$pid = worker_pid($node, $db);
within(2, $db, 'DROP EXTENSION osmtalk', 'CREATE EXTENSION osmtalk');
ok($node->poll_query_until($db, "SELECT state = 'running' AND pid <> $pid FROM osmtalk.worker_status"), 'dropped and created: another worker');
sql("INSERT INTO osmtalk.org_settings VALUES ('acme', '" . $other->url . "')");
others_are_served('DROP and CREATE EXTENSION');

for my $force ('', ' WITH (FORCE)')
{
	hang();
	my $session = session($node, $db) if $force;
	within(2, 'postgres', "DROP DATABASE $db$force");
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker' AND datname IS NOT NULL"), 0, 'its worker is gone');
	eval { $session->quit } if $force;
	undef $where;
	new_database();
}
hang();
$pid = worker_pid($node, $db);
$node->safe_psql('postgres', 'CREATE DATABASE foreign1');
$node->safe_psql('postgres', 'CREATE DATABASE foreign2');
set_up($node, 'foreign2', url => $other->url);
within(2, 'postgres', "DROP DATABASE foreign$_") for 1 .. 2;
is(sql('SELECT in_flight, pid FROM osmtalk.worker_status'), "$hung|$pid", 'databases of others go, all still hang');
within(2, 'postgres', "CREATE DATABASE copy TEMPLATE $db");
others_are_served('CREATE DATABASE … TEMPLATE', 10);
hang();
within(2, 'postgres', "ALTER DATABASE $db RENAME TO renamed");
$db = 'renamed';
others_are_served('RENAME', 10);
is($node->safe_psql('copy', "SELECT state FROM osmtalk.worker_status"), 'waiting for adopt()', 'the copy waits');

# ---- many times ----

$node->safe_psql('postgres', 'CREATE DATABASE often');
my $worst = 0;
for my $i (1 .. 30)
{
	$node->safe_psql('often', set_up_sql(url => $other->url));
	my $event = $node->safe_psql('often', "SELECT osmtalk.send_test_event('acme')") if $i % 2;
	request_of($other, $event) if $i % 4 == 1;
	my $took = measure(sub { $node->safe_psql('often', 'DROP EXTENSION osmtalk; DROP SCHEMA test CASCADE') });
	$worst = $took if $took > $worst;
}
cmp_ok($worst, '<', 2, sprintf 'DROP EXTENSION under load, thirty times, took at most %.2f s', $worst);
within(2, 'postgres', 'DROP DATABASE often');

# ---- the server stops ----

hang();
my $took = measure(sub { $node->stop('fast'); $node->start });
cmp_ok($took, '<', 5, sprintf 'restart -m fast took %.2f s', $took);
ok(let_go(), 'what hung has a result');
others_are_served('after the restart', 10);
unlike(log_since($node), qr/terminated by signal|PANIC|deadlock/, 'no process crashed, no deadlock');

done_testing();
