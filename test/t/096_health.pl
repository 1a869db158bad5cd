# health() where a server or its workers are not as they should be; what can be
# caused within a transaction is in test/pgtap/health.sql.

use strict;
use warnings;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
# the launcher, that of logical replication, and one worker
my $node = new_cluster('main', stream => 1, conf => "max_worker_processes = 3\nmax_parallel_workers = 0\nmax_files_per_process = 900\n");
set_up($node, $db);
$node->safe_psql($db, 'CREATE ROLE looker LOGIN IN ROLE osmtalk_monitor; CREATE ROLE server_monitor LOGIN IN ROLE pg_monitor');

sub check
{
	my ($name, %options) = @_;

	return ($options{node} // $node)->safe_psql($options{db} // $db, "SELECT concat_ws(' | ', status, message, fix) FROM osmtalk.health() WHERE check_name = '$name'",
		extra_params => [ '-U', 'looker' ]);
}

sub not_well
{
	my (%options) = @_;

	return ($options{node} // $node)->safe_psql($options{db} // $db, "SELECT concat_ws(' | ', check_name, status, message) FROM osmtalk.health() WHERE status <> 'ok'",
		extra_params => [ '-U', $options{user} // 'server_monitor' ]);
}

sub becomes { my ($name, $what, %options) = @_; my $got; wait_for(sub { ($got = check($name, %options)) =~ $what }, "$name to be $what"); return like($got, $what, $options{name}); }

wait_for(sub { not_well() eq '' }, 'all to be well');
is(not_well(), '', 'all is well');

# ---- settings ----

setting($node, 'osmtalk.enabled' => 'off');
like(check('enabled'), qr/^warn \| osmtalk\.enabled is off: in no database of this server is anything sent.* \| ALTER SYSTEM SET osmtalk\.enabled = on;/, 'sending is off');
like(not_well(), qr/^enabled [^\n]*$/, 'nothing else');
setting($node, 'osmtalk.enabled' => undef);

setting($node, 'osmtalk.max_in_flight' => 2000);
like(check('limits'), qr/^warn \| osmtalk\.max_in_flight is 2000, and a worker has file descriptors for (\d+) requests at once/, 'more requests than descriptors');
my ($most) = check('limits') =~ /descriptors for (\d+)/;
cmp_ok($most, '<', 900 / 3, "a third of the process's: $most");
setting($node, 'osmtalk.max_in_flight' => $most);
like(check('limits'), qr/^ok /, 'as many');
setting($node, 'osmtalk.max_in_flight' => undef, 'osmtalk.workers' => 4);
like(check('limits'), qr/^warn \| osmtalk\.workers = 4 and the launcher are 5 processes, and max_worker_processes is 3\. \| ALTER SYSTEM SET max_worker_processes = 8;/, 'more workers than processes');
becomes('worker', qr/^warn \| 1 of 4 workers are running; those do the work of all\./, name => 'one does the work of four');
setting($node, 'osmtalk.workers' => undef);
becomes('worker', qr/^ok \| The worker is running, since /, name => 'which is all right when one is wanted');

# ---- no worker ----

$node->safe_psql($db, 'CREATE DATABASE second');
$node->safe_psql('second', 'SET client_min_messages = error; CREATE EXTENSION osmtalk');
becomes('worker', qr/^error \| There is no worker, and nothing is sent: no background worker process is free, .* \| ALTER SYSTEM SET max_worker_processes = 11;/,
	db => 'second', name => 'no process is free');
$node->safe_psql($db, 'DROP DATABASE second');

$node->safe_psql($db, 'SELECT osmtalk.pause()');
becomes('worker', qr/^ok \| There is no worker while sending is paused\./, name => 'none while sending is paused');
like(not_well(), qr/^paused \| warn [^\n]*$/, 'which is said once');
$node->safe_psql($db, 'SELECT osmtalk.resume()');
becomes('worker', qr/^ok \| The worker is running/, name => 'and one again');

# ---- what is locked is not waited for ----

my $session = session($node, $db);
$session->query_safe('BEGIN; LOCK TABLE osmtalk.org_settings IN ACCESS EXCLUSIVE MODE');
my $took = measure(sub {
	is(check('secrets'), 'warn | It could not be checked: "canceling statement due to lock timeout". | Ask again; if it stays so, remove the cause.', 'a table that is locked');
});
cmp_ok($took, '<', 10, "is not waited for ($took s)");
like(not_well(), qr/^secrets [^\n]*$/, 'the other checks are made');
$session->query_safe('ROLLBACK');

# ---- a standby ----

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is(check('worker', node => $standby), 'ok | This server is a standby: a worker starts when it is promoted.', 'a standby');
is(not_well(node => $standby), '', 'all is well there');
$standby->stop;

# ---- not preloaded ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
like(check('preloaded'), qr/^error \| The library is not preloaded: there is no worker, and nothing is sent\. \| Add osmtalk to shared_preload_libraries/, 'not preloaded');
like(check('worker'), qr/^error \| There is no worker, and nothing is sent: not preloaded.* \| See preloaded\.$/, 'so there is no worker');
is(scalar(split /\n/, not_well()), 2, 'nothing else');

$session->quit;
$node->stop;
done_testing();
