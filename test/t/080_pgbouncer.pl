# An application behind pgbouncer: its calls are decided and their events sent
# as ever; and what a session has of its own, in which pooling it keeps it.

use strict;
use warnings;
use Osmtalk::Pgbouncer;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');

$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, 'app', url => $receiver->url('/acme'));
$node->safe_psql('app', "INSERT INTO osmtalk.org_settings VALUES ('other', '" . $receiver->url('/other') . "');
	INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_other', 'other', 'Of the other');
	CREATE ROLE application LOGIN IN ROLE osmtalk_app;
	CREATE ROLE acme LOGIN IN ROLE osmtalk_app;
	CREATE ROLE other LOGIN IN ROLE osmtalk_app;
	ALTER ROLE acme SET osmtalk.org_id = 'acme';
	ALTER ROLE other SET osmtalk.org_id = 'other'");

my $bouncer = Osmtalk::Pgbouncer->new($node, ['app'], [ 'application', 'acme', 'other' ])->node;

sub client
{
	my ($pooling, $role) = @_;

	return $bouncer->background_psql("app_$pooling", on_error_stop => 0, extra_params => [ '-U', $role // 'application' ]);
}

# ---- calls and events ----

for my $pooling ('session', 'transaction')
{
	my $client = client($pooling);
	my $lead = $client->query_safe("INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('cmp_plain', '+49301234567') RETURNING id");
	my $call = $client->query_safe("SELECT id FROM osmtalk.place_call('$lead')");

	$client->query_safe('BEGIN');
	$client->query_safe("UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$call'");
	$client->query_safe('COMMIT');
	my $event = $node->safe_psql('app', "SELECT id FROM osmtalk.events WHERE call_id = '$call'");
	is(request_of($receiver, $event, 20)->{path}, '/acme', "$pooling pooling: a call ends, and its event is sent");
	is($client->query_safe('SELECT osmtalk.wait_until_drained()'), 't', '... which can be waited for');
	is($client->query_safe("SELECT status FROM osmtalk.leads WHERE id = '$lead'"), 'completed', '... and seen');
	$client->quit;
}

# ---- tenants ----

my $whose = 'SELECT DISTINCT org_id FROM osmtalk.calls';
$node->safe_psql('app', "SELECT test.finalise('cmp_plain'); SELECT test.finalise('cmp_other'); SELECT osmtalk.enable_tenant_isolation()");

for my $pooling ('session', 'transaction')
{
	my $acme = client($pooling, 'acme');
	my $other = client($pooling, 'other');

	is($acme->query_safe($whose) . '|' . $other->query_safe($whose), 'acme|other', "$pooling pooling: roles of tenants see what is theirs");
	$_->quit for $acme, $other;
}

my ($first, $second) = (client('transaction'), client('transaction'));
is($first->query_safe("BEGIN; SET LOCAL osmtalk.org_id = 'acme'; $whose; COMMIT"), 'acme', 'transaction pooling: SET LOCAL names the tenant');
is($second->query_safe("BEGIN; SELECT set_config('osmtalk.org_id', 'other', true) \\gset\n $whose; COMMIT"), 'other', '... and so does set_config()');
is($first->query_safe($whose) . $second->query_safe($whose), '', '... and nothing of it is left for whoever comes next');
$first->query_safe("SET osmtalk.org_id = 'acme'");
is($second->query_safe($whose), 'acme', 'SET does leave it to the next');
$first->query_safe('RESET osmtalk.org_id');
$_->quit for $first, $second;

$first = client('session');
$first->query_safe("SET osmtalk.org_id = 'acme'");
is($first->query_safe($whose), 'acme', 'session pooling: SET names the tenant');
$first->quit;
$second = client('session');
is($second->query_safe($whose), '', '... until the session ends');
$second->quit;

# ---- notifications ----

# psql says it after the first statement of its own at which it has come
sub hears
{
	my ($client, $statement) = @_;

	return $client->query_safe($statement // 'SELECT 1') =~ /Asynchronous notification "ch" with payload "news"/ ? 1 : 0;
}

my $listener = client('session');
my ($pooled, $bystander) = (client('transaction'), client('transaction'));
$_->query_safe('LISTEN ch') for $listener, $pooled;
$node->safe_psql('app', "NOTIFY ch, 'news'");
ok(wait_for(sub { hears($listener) }, 'the notification'), 'session pooling: LISTEN is told');
is(join('', map { hears($_) } $pooled, $bystander), '00', 'transaction pooling: nobody is, while nobody has the connection');
$bystander->query_safe('BEGIN');
$node->safe_psql('app', "NOTIFY ch, 'news'");
ok(wait_for(sub { hears($listener) }, 'the notification'), '... and the next time');
is(hears($bystander, 'COMMIT') . hears($pooled), '10', '... whoever has it');
$_->quit for $listener, $pooled, $bystander;

unlike(log_since($node), qr/terminated by signal|PANIC/, 'no process crashed');
done_testing();
