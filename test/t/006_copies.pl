# A dump of a busy database, restored: the same rows, and nothing is decided,
# placed or sent twice.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.request_timeout = 5min\n");
# What it takes over it finds overdue at once.
my $impatient = "osmtalk.analysis_timeout = 100ms\nosmtalk.call_timeout = 100ms\n";
my $elsewhere = new_cluster('elsewhere', conf => $impatient);
my $dir = PostgreSQL::Test::Utils::tempdir();

# Every row of the extension's tables, and where its sequences stand.
# All that a copy has; in a copy nothing is claimed.
sub contents
{
	my ($server, $database) = @_;
	my %contents;

	# but how far retention is, which begins anew in a copy; this one is neither paused nor isolated
	for my $table (split /\n/, $server->safe_psql($database, "SELECT relname FROM pg_class
		WHERE relnamespace = 'osmtalk'::regnamespace AND relkind IN ('r', 'p') AND relname NOT IN ('claims', 'slots', 'waiting', 'endpoint_counters', 'paused', 'tenant_isolation') ORDER BY 1"))
	{
		# a note that means nothing later, and goes if it happens to name the restoring transaction
		my $columns = $server->safe_psql($database, "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
			WHERE attrelid = 'osmtalk.$table'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'placed_by'");
		$contents{$table} = [ split /\n/, $server->safe_psql($database,
				"COPY (SELECT $columns FROM osmtalk.$table t ORDER BY t::text COLLATE \"C\") TO STDOUT") ];
	}
	for my $sequence (split /\n/, $server->safe_psql($database, "SELECT relname FROM pg_class
		WHERE relnamespace = 'osmtalk'::regnamespace AND relkind = 'S' AND relname <> 'claims_id_seq' ORDER BY 1"))
	{
		$contents{$sequence} = $server->safe_psql($database, "SELECT last_value, is_called FROM osmtalk.$sequence");
	}
	return \%contents;
}

sub command
{
	my ($server, @command) = @_;

	return $server->command_ok(\@command, "$command[0] works");
}

# ---- a busy database ----

$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, 'app', url => $receiver->url('/app'), secret => 'whsec_äöü');
my $done = $node->safe_psql('app', "SELECT test.event('cmp_plain')");
state_of($node, 'app', $done);
$node->safe_psql('app', "UPDATE osmtalk.org_settings SET default_webhook_url = NULL; SELECT test.event('cmp_plain');
	UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/status/500') . "'");
state_of($node, 'app', $node->safe_psql('app', "SELECT test.event('cmp_plain')"));
# in flight while it is dumped
$node->safe_psql('app', "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/hang') . "';
	SELECT test.event('cmp_plain')");
$node->poll_query_until('app', "SELECT in_flight = 1 FROM osmtalk.worker_status");
setting($node, 'osmtalk.enabled' => 'off');
$node->safe_psql('app', <<'END');
-- old events in all slots
INSERT INTO osmtalk.events (type, org_id, body, created_at, slot)
	SELECT 'webhook.test', 'acme', '{}', now() - interval '100 days', slot FROM generate_series(-1, 15) slot;
INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, http_status, slot)
	SELECT id, 1, created_at, 204, slot FROM osmtalk.events WHERE created_at < now() - interval '99 days';
-- pending
SELECT test.finalise('cmp_plain', 20);
-- a secret that was replaced, and is valid still
INSERT INTO osmtalk.org_settings VALUES ('rotated', NULL, 'the first of its secrets');
SELECT osmtalk.rotate_webhook_secret('rotated');
-- not ended, in all states; a call without a lead too
SELECT test.place('cmp_plain', 3);
INSERT INTO osmtalk.calls (org_id, agent_id, direction) VALUES ('acme', 'plain', 'inbound');
INSERT INTO osmtalk.leads (campaign_id, phone_number) SELECT 'cmp_analyst', '+49301234567' || i FROM generate_series(1, 2) i;
SELECT osmtalk.place_next_call('cmp_analyst');
-- ended, and their leads wait for the analysis
SELECT test.finalise('cmp_analyst', 4);
-- retried later; blocked; analysed; called twice
UPDATE osmtalk.campaigns SET max_attempts = 3 WHERE id = 'cmp_plain';
SELECT test.place('cmp_plain') AS call \gset
UPDATE osmtalk.calls SET error = 'crash', ended_at = now() WHERE id = :'call';
INSERT INTO osmtalk.dnc_entries VALUES ('acme', '+4930555', E'a "reason"\twith \\ everything', 'opt_out');
INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('cmp_plain', '+4930555');
SELECT osmtalk.place_call(id) FROM osmtalk.leads WHERE phone_number = '+4930555';
SELECT test.place('cmp_analyst') AS call \gset
UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min', analysis = '{"success": true, "näme": "1.50"}', transcript = E'line\nline', metadata = NULL
	WHERE id = :'call';
INSERT INTO osmtalk.calls (lead_id) SELECT id FROM osmtalk.leads WHERE status = 'completed' LIMIT 1;
DELETE FROM osmtalk.leads WHERE id = (SELECT max(id) FROM osmtalk.leads WHERE status = 'completed');
-- a redelivery that is over
WITH redelivery AS (INSERT INTO osmtalk.redeliveries (condition, rate) VALUES ('true', 1) RETURNING id),
	counters AS (INSERT INTO osmtalk.redelivery_counters (redelivery_id) SELECT id FROM redelivery)
INSERT INTO osmtalk.redelivery_events (redelivery_id, event_id, slot) SELECT id, 'an event', 0 FROM redelivery;
END
my $pending = $node->safe_psql('app', "SELECT count(*) FROM osmtalk.outbox");
my $open = $node->safe_psql('app', "SELECT count(*) FROM osmtalk.calls WHERE status IN ('queued', 'in_progress')");
my $waiting = $node->safe_psql('app', "SELECT count(*) FROM osmtalk.calls WHERE awaiting_since IS NOT NULL");
is("$pending $open $waiting", '24 6 4', 'the database is busy');
my $original = contents($node, 'app');
is(scalar(grep { ref && @$_ == 0 } values %$original), 0, 'no table is empty');

command($node, 'pg_dump', '-d', $node->connstr('app'), '-f', "$dir/plain.sql");
command($node, 'pg_dump', '-d', $node->connstr('app'), '-Fd', '-j2', '-f', "$dir/directory");
is_deeply(contents($node, 'app'), $original, 'nothing has changed meanwhile');

# ---- restored ----

my @copies = (
	[ $node, 'same_server', 'psql' ],
	[ $elsewhere, 'other_server', 'psql' ],
	[ $elsewhere, 'archive', 'pg_restore' ],
	[ $elsewhere, 'parallel', 'in three steps' ]);
for my $copy (@copies)
{
	my ($server, $database, $tool) = @$copy;
	my @target = ('-d', $server->connstr($database));

	$server->safe_psql('postgres', "CREATE DATABASE $database");
	if ($tool eq 'psql')
	{
		command($server, 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', @target, '-f', "$dir/plain.sql");
	}
	elsif ($tool eq 'pg_restore')
	{
		command($server, 'pg_restore', '-e', @target, "$dir/directory");
	}
	else
	{
		# parallel jobs keep no order, and the foreign keys are there before the data: the README's three steps
		command($server, 'pg_restore', '-e', @$_, @target, "$dir/directory")
		  for ['--section=pre-data'], [ '--data-only', '--disable-triggers', '-j4' ], ['--section=post-data'];
	}
	is_deeply(contents($server, $database), $original, "$database: the same rows");
	is_query($server, $database, 'SELECT osmtalk.apply_retention()', 0, 'none of which is too old yet: they have only come');
}

# Now everything may be sent, and is overdue, here too: so the original sends,
# and times out, what is its own.
my $received = $receiver->count;
$node->append_conf('postgresql.conf', $impatient);
$node->safe_psql($_->[1], "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url("/$_->[1]") . "'") for $copies[0];
$elsewhere->safe_psql($_->[1], "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url("/$_->[1]") . "'") for @copies[ 1 .. 3 ];
$node->safe_psql('app', "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/app') . "'");
setting($node, 'osmtalk.enabled' => undef);
$node->poll_query_until('app', "SELECT count(*) = 0 FROM osmtalk.calls WHERE decided_at IS NULL AND awaiting_since IS NOT NULL OR status IN ('queued', 'in_progress')");
ok(wait_for(sub { $node->safe_psql('app', "SELECT count(*) FROM osmtalk.outbox WHERE id NOT IN (SELECT outbox_id FROM osmtalk.in_flight)") eq '0' }, 'the original'), 'the original has sent its own');

for my $copy (@copies)
{
	my ($server, $database) = @$copy;
	my $now = contents($server, $database);

	# several looks later
	my $new = $server->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");
	is(request_of($receiver, $new)->{path}, "/$database", "$database sends a new event of its own");
	is(state_of($server, $database, $new), 'delivered|1|204|', 'it is recorded');
	my $call = $server->safe_psql($database, "INSERT INTO osmtalk.calls (org_id, direction) VALUES ('acme', 'inbound') RETURNING id");
	ok($server->poll_query_until($database, "SELECT ended_at IS NOT NULL FROM osmtalk.calls WHERE id = '$call'"), 'and times out a call of its own');
	$server->poll_query_until($database, "SELECT now() - created_at > interval '2200 ms' FROM osmtalk.events WHERE id = '$new'");
	$server->safe_psql($database, "DELETE FROM osmtalk.events WHERE id = '$new'; DELETE FROM osmtalk.delivery_attempts WHERE event_id = '$new';
		DELETE FROM osmtalk.calls WHERE id = '$call'");
	$now = contents($server, $database);
	delete $_->{outbox_id_seq} for $now, my $same = {%$original};
	# whose URLs are others now
	delete @$_{qw(org_settings endpoints)} for $now, $same;
	is_deeply($now, $same, 'and decides, places and sends nothing that it inherited');
	is(scalar(grep { $_->{eventId} ne $new } $receiver->requests(path => "/$database")), 0, 'nothing else has come from it');
	is_query($server, $database, 'SELECT pid IS NOT NULL, state, events_not_adopted, calls_not_adopted FROM osmtalk.worker_status',
		"t|waiting for adopt()|$pending|" . ($open + $waiting), 'worker_status says so');
	ok(wait_for(sub { log_since($server) =~ /database "$database" holds $pending events and @{[ $open + $waiting ]} undecided calls of another database/ }, 'the log'), 'so does the log');
}

# ---- adopted, or not ----

sub adopt
{
	my ($server, $database, $discard) = @_;
	my $events = $server->safe_psql($database, "SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM osmtalk.outbox");

	is_query($server, $database, "SELECT osmtalk.adopt($discard)", $pending + $open + $waiting, "$database: adopt($discard) returns how many");
	is_query($server, $database, 'SELECT state, events_not_adopted, calls_not_adopted, detail IS NULL FROM osmtalk.worker_status', 'running|0|0|t', 'nothing waits any more');
	is_query($server, $database, "SELECT osmtalk.adopt($discard)", 0, 'a second time: nothing');
	return split / /, $events;
}

for my $copy (@copies[ 0, 1, 3 ])
{
	my ($server, $database) = @$copy;
	my @events = adopt($server, $database, 'false');

	ok(wait_for(sub { $server->safe_psql($database, "SELECT count(*) FROM osmtalk.calls WHERE status IN ('queued', 'in_progress') OR awaiting_since IS NOT NULL") eq '0' }, 'calls'),
		'calls that were overdue are decided');
	is_query($server, $database, "SELECT osmtalk.wait_until_drained()", 't', 'events are sent');
	my @got = sort grep { my $id = $_; grep { $_ eq $id } @events } map { $_->{eventId} } $receiver->requests(path => "/$database");
	is_deeply(\@got, \@events, 'each once');
	is_query($server, $database, "SELECT count(*) FROM osmtalk.calls WHERE error = 'call timed out'", $open, 'open calls have timed out');
	is_query($server, $database, "SELECT count(*) FROM osmtalk.leads WHERE status = 'calling'", 0, 'no lead is left calling');
	is_query($server, $database, "SELECT count(*) FROM osmtalk.deliveries WHERE state NOT IN ('delivered', 'skipped') AND http_status IS DISTINCT FROM 500", 0, 'all is delivered');
}

my ($server, $database) = @{ $copies[2] };
my @events = adopt($server, $database, 'true');
my $before = $receiver->count;
my $new = $server->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");
is(request_of($receiver, $new)->{path}, "/$database", 'a new event is sent');
$server->poll_query_until($database, "SELECT now() - created_at > interval '1200 ms' FROM osmtalk.events WHERE id = '$new'");
is($receiver->count, $before + 1, 'none of the discarded');
is_query($server, $database, "SELECT DISTINCT state, error FROM osmtalk.deliveries WHERE event_id IN ('" . join("', '", @events) . "')",
	'failed|not sent: enqueued in another database and discarded by adopt()', 'deliveries says what became of them');
is_query($server, $database, "SELECT count(*) FROM osmtalk.calls WHERE status IN ('queued', 'in_progress') OR awaiting_since IS NOT NULL", $open + $waiting, 'calls stay undecided');
# the application may still end them
$server->safe_psql($database, "UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE status IN ('queued', 'in_progress');
	UPDATE osmtalk.calls SET analysis = '{}' WHERE awaiting_since IS NOT NULL");
is_query($server, $database, "SELECT count(*) FROM osmtalk.calls WHERE status IN ('queued', 'in_progress')", 0, 'until the application ends them');
is_query($server, $database, "SELECT count(*) FROM osmtalk.calls WHERE awaiting_since IS NOT NULL AND analysis IS NOT NULL", 0, 'or their analysis comes');
$server->safe_psql($database, "SELECT osmtalk.redeliver('$events[0]')");
like(state_of($server, $database, $events[0]), qr/^delivered\|\d+\|204\|$/, 'a discarded event can be redelivered');

done_testing();
