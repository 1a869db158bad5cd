# Every way to copy a database, adopted and discarded: what it inherits is
# neither sent nor timed out before, whoever restored it; and a database that
# is merely renamed is no copy.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "max_worker_processes = 24\nosmtalk.enabled = off\n");
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($pending, $open, $waiting) = (5, 3, 2);

sub command
{
	my (@command) = @_;

	return $node->command_ok(\@command, join ' ', map { s{.*/}{}r } @command);
}

# ---- the original ----

$node->safe_psql('postgres', 'CREATE ROLE restorer LOGIN; CREATE DATABASE app');
set_up($node, 'app', url => $receiver->url('/app'));
$node->safe_psql('app', "SELECT test.finalise('cmp_plain', $pending); SELECT test.place('cmp_plain', $open); SELECT test.finalise('cmp_analyst', $waiting)");
my $undecided = "FROM osmtalk.calls WHERE (status IN ('queued', 'in_progress') OR awaiting_since IS NOT NULL) AND origin IS DISTINCT FROM osmtalk.current_origin()";
my @inherited = split /\n/, $node->safe_psql('app', 'SELECT event_id FROM osmtalk.outbox ORDER BY event_id');
is(scalar(@inherited), $pending, 'events are pending');

command('pg_dump', '-d', $node->connstr('app'), '-f', "$dir/plain");
command('pg_dump', '-d', $node->connstr('app'), '-Fd', '-j4', '-f', "$dir/directory");
command('pg_dump', '-d', $node->connstr('app'), '--data-only', '--exclude-schema=test', '-f', "$dir/data");

# ---- its copies ----

my %copy = (
	template => sub {
		my ($database) = @_;

		$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE app");
	},
	dump => sub {
		my ($database, @target) = @_;

		$node->safe_psql('postgres', "CREATE DATABASE $database");
		command('psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', @target, '-f', "$dir/plain");
	},
	parallel => sub {
		my ($database, @target) = @_;

		$node->safe_psql('postgres', "CREATE DATABASE $database");
		command('pg_restore', '-e', @$_, @target, "$dir/directory")
		  for ['--section=pre-data'], [ '--data-only', '--disable-triggers', '-j4' ], ['--section=post-data'];
	},
	# rows alone, into an installation that is there
	data => sub {
		my ($database, @target) = @_;

		$node->safe_psql('postgres', "CREATE DATABASE $database");
		$node->safe_psql($database, 'CREATE EXTENSION osmtalk');
		command('psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', @target, '-f', "$dir/data");
	},
	# by a role without any privilege of its own: the README's way
	role => sub {
		my ($database, @target) = @_;

		$node->safe_psql('postgres', "CREATE DATABASE $database OWNER restorer");
		$node->safe_psql($database, <<'END');
CREATE EXTENSION osmtalk;
GRANT USAGE ON SCHEMA osmtalk TO restorer;
GRANT INSERT ON ALL TABLES IN SCHEMA osmtalk TO restorer;
GRANT UPDATE ON SEQUENCE osmtalk.outbox_id_seq TO restorer;
END
		command('pg_restore', '-e', '-U', 'restorer', '--no-owner', '--no-comments', @target, "$dir/directory");
		$node->safe_psql($database, <<'END');
REVOKE ALL ON ALL TABLES IN SCHEMA osmtalk FROM restorer;
REVOKE ALL ON SEQUENCE osmtalk.outbox_id_seq FROM restorer;
END
	});
my @copies;

for my $kind (sort keys %copy)
{
	for my $discard ('false', 'true')
	{
		my $database = $discard eq 'true' ? "${kind}_discarded" : "${kind}_adopted";

		$copy{$kind}->($database, '-d', $node->connstr($database));
		is_query($node, $database, "SELECT (SELECT count(*) FROM osmtalk.outbox), (SELECT count(*) FROM osmtalk.leads), (SELECT count(*) $undecided)",
			join('|', $pending, $pending + $open + $waiting, $open + $waiting), "$database: all is there");
		$node->safe_psql($database, "UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url("/$database") . "'");
		push @copies, [ $database, $discard ];
	}
}

# ---- from now on all may be sent, and everything is overdue ----

setting($node, 'osmtalk.enabled' => 'on', 'osmtalk.analysis_timeout' => '100ms', 'osmtalk.call_timeout' => '100ms');
for my $copy (@copies)
{
	my ($database, $discard) = @$copy;
	my $at = sub { scalar(my @requests = $receiver->requests(path => "/$database")) };

	# it has looked, and timed out, meanwhile
	my $own = $node->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");
	my $call = $node->safe_psql($database, "INSERT INTO osmtalk.calls (org_id, direction) VALUES ('acme', 'inbound') RETURNING id");
	ok($node->poll_query_until($database, "SELECT error = 'call timed out' FROM osmtalk.calls WHERE id = '$call'"), "$database: a call of its own is timed out");
	like(state_of($node, $database, $own), qr/^delivered/, 'an event of its own is sent');
	is($at->(), 1, 'and none that it inherited');
	is_query($node, $database, 'SELECT state, events_not_adopted, calls_not_adopted FROM osmtalk.worker_status',
		"waiting for adopt()|$pending|" . ($open + $waiting), 'worker_status says so');

	is_query($node, $database, "SELECT osmtalk.adopt($discard)", $pending + $open + $waiting, "adopt($discard) returns how many");
	ok($node->poll_query_until($database, "SELECT state = 'running' FROM osmtalk.worker_status"), 'nothing waits any more');
	if ($discard eq 'true')
	{
		$own = $node->safe_psql($database, "SELECT osmtalk.send_test_event('acme')");
		like(state_of($node, $database, $own), qr/^delivered/, 'events of its own are sent');
		is_query($node, $database, "SELECT osmtalk.wait_until_drained()", 't', 'and nothing is left to be');
		is($at->(), 2, 'nothing else is');
		is_query($node, $database, "SELECT count(*) FROM osmtalk.calls WHERE error = 'call timed out'", 1, 'nor timed out');
		next;
	}
	ok($node->poll_query_until($database, "SELECT count(*) = 0 FROM osmtalk.leads WHERE status = 'calling'"), 'what was overdue is decided');
	is_query($node, $database, "SELECT osmtalk.wait_until_drained()", 't', 'all is sent');
	my %times;
	$times{ $_->{eventId} }++ for $receiver->requests(path => "/$database");
	is_deeply([ grep { ($times{$_} // 0) != 1 } @inherited ], [], 'what it inherited once each');
	is(scalar(keys %times), 1 + $pending + $open + $waiting, 'and what came of the calls');
	is_query($node, $database, "SELECT count(*) FROM osmtalk.calls WHERE error = 'call timed out'", 1 + $open, 'open calls have timed out');
}

# ---- the original, under another name ----

is_query($node, 'app', 'SELECT osmtalk.wait_until_drained()', 't', 'the original has sent its own');
setting($node, 'osmtalk.enabled' => 'off', 'osmtalk.call_timeout' => undef);
my $event = $node->safe_psql('app', "SELECT test.event('cmp_plain')");
my $call = $node->safe_psql('app', "SELECT test.place('cmp_plain')");
$node->safe_psql('postgres', 'ALTER DATABASE app RENAME TO renamed');
setting($node, 'osmtalk.enabled' => 'on', 'osmtalk.call_timeout' => '100ms');
is(request_of($receiver, $event, 20)->{path}, '/app', 'renamed: it sends what was pending');
ok($node->poll_query_until('renamed', "SELECT error = 'call timed out' FROM osmtalk.calls WHERE id = '$call'"), 'and times out what was open');
is_query($node, 'renamed', 'SELECT state, events_not_adopted, calls_not_adopted FROM osmtalk.worker_status', 'running|0|0', 'there is nothing to adopt');

done_testing();
