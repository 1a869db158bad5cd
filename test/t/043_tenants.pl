# Tenants that are isolated: an application works for one of them at a time,
# the worker for all, and a copy is as isolated as its original.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, 'app', url => $receiver->url('/acme'));
$node->safe_psql('app', "INSERT INTO osmtalk.org_settings VALUES ('other', '" . $receiver->url('/other') . "');
	INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_other', 'other', 'Of the other');
	CREATE ROLE application LOGIN IN ROLE osmtalk_app;
	CREATE ROLE monitoring LOGIN BYPASSRLS IN ROLE osmtalk_monitor;
	SELECT osmtalk.enable_tenant_isolation()");

# What the application's session gets, for that organisation.
sub as_application
{
	my ($database, $org, @commands) = @_;

	return $node->safe_psql($database, join(";\n", "SET osmtalk.org_id = '$org'", @commands), extra_params => [ '-U', 'application' ]);
}

# ---- an application's work ----

my $number = 0;
sub calls_one
{
	my ($database, $org, $campaign) = @_;
	my $lead = as_application($database, $org, "INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('$campaign', '+4930111222" . ++$number . "') RETURNING id");
	my $call = as_application($database, $org, "SELECT id FROM osmtalk.place_next_call('$campaign')");

	is(as_application($database, $org, "UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$call' RETURNING lead_id"), $lead,
		"$org: a lead is called");
	is(as_application($database, $org, "SELECT status, attempts FROM osmtalk.leads WHERE id = '$lead'"), 'completed|1', '... and decided');
	return $node->safe_psql($database, "SELECT id FROM osmtalk.events WHERE call_id = '$call'");
}

for my $org ('acme', 'other')
{
	my $event = calls_one('app', $org, $org eq 'acme' ? 'cmp_plain' : 'cmp_other');

	is(request_of($receiver, $event, 20)->{path}, "/$org", '... and its event is sent');
	is(state_of($node, 'app', $event), 'delivered|1|204|', '... and recorded');
}
is(as_application('app', 'other', "UPDATE osmtalk.calls SET error = 'x' RETURNING org_id"), 'other', 'a statement without a condition reaches the rows of one');
is(as_application('app', '', 'SELECT (SELECT count(*) FROM osmtalk.leads) + (SELECT count(*) FROM osmtalk.calls)'), 0, 'or of none');
is($node->safe_psql('app', "SELECT osmtalk.wait_until_drained(), (SELECT count(*) FROM osmtalk.deliveries), (SELECT delivered FROM osmtalk.worker_status)",
		extra_params => [ '-U', 'monitoring' ]), 't|2|2', 'monitoring sees all');

# ---- copies ----

my $switched = "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1";

for my $format ('plain', 'directory')
{
	my $copy = "copy_$format";
	my $file = "$dir/$copy";

	$node->command_ok([ 'pg_dump', '-F', $format, '-f', $file, 'app' ], "pg_dump -F $format");
	$node->safe_psql('postgres', "CREATE DATABASE $copy");
	$node->command_ok($format eq 'plain'
		? [ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-d', $copy, '-f', $file ]
		: [ 'pg_restore', '-1', '-e', '-d', $copy, $file ], '... restored in one transaction');
	is($node->safe_psql($copy, $switched), $node->safe_psql('app', $switched), '... it is isolated, too');
	is(as_application($copy, 'acme', 'SELECT DISTINCT org_id FROM osmtalk.calls'), 'acme', '... an application sees the rows of one');
	$node->poll_query_until($copy, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;
	my $event = calls_one($copy, 'acme', 'cmp_plain');
	is(request_of($receiver, $event, 20)->{path}, '/acme', '... and works in it');
}

# parallel, in three steps, the second of which puts triggers off
$node->safe_psql('postgres', 'CREATE DATABASE copy_steps');
$node->command_ok([ 'pg_restore', '-e', '-d', 'copy_steps', @$_, "$dir/copy_directory" ], "pg_restore @$_")
  for [ '--section=pre-data' ], [ '--data-only', '--disable-triggers', '-j2' ], [ '--section=post-data' ];
$node->safe_psql('copy_steps', 'SELECT osmtalk.adopt()');
is($node->safe_psql('copy_steps', $switched), $node->safe_psql('app', $switched), 'a restore without triggers is isolated by adopt()');

# ---- on and off ----

$node->safe_psql('app', 'SELECT osmtalk.enable_tenant_isolation()');
is($node->safe_psql('app', $switched), $node->safe_psql('copy_plain', $switched), 'switched on twice: the same');
$node->safe_psql('app', 'SELECT osmtalk.disable_tenant_isolation()');
unlike($node->safe_psql('app', $switched), qr/\|t/, 'switched off: no table has it');
is(as_application('app', 'acme', 'SELECT count(DISTINCT org_id) FROM osmtalk.calls'), 2, '... and all rows are seen');
$node->safe_psql('app', 'SELECT osmtalk.enable_tenant_isolation(); DROP EXTENSION osmtalk');
is($node->safe_psql('app', "SELECT count(*) FROM pg_policies"), 0, 'DROP EXTENSION takes policies along');

unlike(log_since($node), qr/terminated by signal|PANIC/, 'no process crashed');
done_testing();
