# Which events are wanted: that those of calls arrive where they are asked for,
# that sessions hear of a change at once, and that where nobody asks a call costs
# nothing more.

use strict;
use warnings;
use Encode ();
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new(bodies => 1, secret => 'whsec_of_the_organisation');
my $node = new_cluster('main');

set_up($node, $db, url => $receiver->url('/org'), secret => 'whsec_of_the_organisation', campaign_url => $receiver->url('/campaign'));

sub sql { return $node->safe_psql($db, join '', @_); }

# The types of a call's events, in order.
sub events_of { return sql("SELECT coalesce(string_agg(type, ' ' ORDER BY id COLLATE \"C\"), 'none') FROM osmtalk.events WHERE call_id = '$_[0]'"); }

# ---- a call's events on their way ----

sql("UPDATE osmtalk.org_settings SET webhook_events = '{campaign.lead_completed,call.started,call.completed,call.failed}'");
my $call = sql("SELECT test.place('cmp_plain')");
is(events_of($call), 'call.started', 'a call that begins');
my $started = request_of($receiver, sql("SELECT id FROM osmtalk.events WHERE call_id = '$call'"));
ok($started->{verified}, '... is announced, signed with the organisation\'s secret');
is_deeply([ @$started{qw(path event callId status)} ], [ '/org', 'call.started', $call, 'in_progress' ], '... to its URL, not the campaign\'s');
sql("UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '10 s' WHERE id = '$call'");
is(events_of($call), 'call.started call.completed campaign.lead_completed', '... that ends');
my %requests = map { my $request = request_of($receiver, $_); ($request->{event} => $request) } split /\n/, sql("SELECT id FROM osmtalk.events WHERE call_id = '$call'");
is_deeply([ map { $requests{$_}{path} } qw(call.completed campaign.lead_completed) ], [qw(/org /campaign)], '... to the one and to the other');
is_deeply([ grep { !$_->{verified} } values %requests ], [], '... signed');
is($requests{'call.completed'}{body}, Encode::decode('UTF-8', sql("SELECT body FROM osmtalk.events WHERE call_id = '$call' AND type = 'call.completed'")), '... body as stored');
is(sql("SELECT string_agg(DISTINCT url, ' ') FROM osmtalk.deliveries WHERE call_id = '$call' AND type LIKE 'call.%'"), $receiver->url('/org'), '... which deliveries says, too');

my $failed = sql("INSERT INTO osmtalk.calls (org_id, direction, started_at, ended_at, error) VALUES ('acme', 'inbound', now(), now(), 'the bot crashed') RETURNING id");
my $request = request_of($receiver, sql("SELECT id FROM osmtalk.events WHERE call_id = '$failed' AND type = 'call.failed'"));
is_deeply([ @$request{qw(event status)} ], [qw(call.failed failed)], 'an inbound call that fails');
like($request->{body}, qr/"error":"the bot crashed"\}\}$/, '... says why');

# the worker ends a call, and redelivers what is asked for
setting($node, 'osmtalk.call_timeout' => '1s');
my $overdue = sql("INSERT INTO osmtalk.calls (org_id, started_at) VALUES ('acme', now()) RETURNING id");
ok($node->poll_query_until($db, "SELECT status = 'failed' FROM osmtalk.calls WHERE id = '$overdue'"), 'a call that never ends is ended');
setting($node, 'osmtalk.call_timeout' => undef);
$request = request_of($receiver, sql("SELECT id FROM osmtalk.events WHERE call_id = '$overdue' AND type = 'call.failed'"));
like($request->{body}, qr/"error":"call timed out"/, '... which is an event');
sql("UPDATE osmtalk.org_settings SET webhook_events = '{}'");
sql("SELECT osmtalk.redeliver('$request->{eventId}')");
ok(wait_for(sub { my @r = $receiver->requests(eventId => $request->{eventId}); return @r == 2 }, 'the redelivery'), 'what is asked for by hand is sent, wanted or not');

# ---- rolled back, replicated, prepared ----

sql("UPDATE osmtalk.org_settings SET webhook_events = '{call.started}'");
my $count = sql('SELECT count(*) FROM osmtalk.events');
sql("BEGIN; INSERT INTO osmtalk.calls (org_id, started_at) VALUES ('acme', now()); ROLLBACK");
is(sql('SELECT count(*) FROM osmtalk.events'), $count, 'an event exists if its transaction commits');

# ---- sessions hear of it ----

sql('UPDATE osmtalk.org_settings SET webhook_events = NULL');
my @sessions = map { session($node, $db) } 1 .. 3;
my ($one, $other, $repeatable) = @sessions;
sub calls_in { my ($session) = @_; my ($id) = $session->query_safe("INSERT INTO osmtalk.calls (org_id, started_at) VALUES ('acme', now()) RETURNING id") =~ /(call_\w+)/; return $id; }
is(events_of(calls_in($_)), 'none', 'a session in which nobody asks') for $one, $other;
$other->query_safe(q(BEGIN; UPDATE osmtalk.org_settings SET webhook_events = '{call.started}'));
is(events_of(calls_in($one)), 'none', 'a change that is not committed is nobody\'s');
my $mine = calls_in($other);
$other->query_safe('COMMIT');
is(events_of($mine), 'call.started', '... but the session\'s own');
is(events_of(calls_in($one)), 'call.started', '... once it is, the next call of every session is announced');
# one that goes on with an old snapshot must not remember for later what that shows
$repeatable->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM osmtalk.org_settings');
$one->query_safe('UPDATE osmtalk.org_settings SET webhook_events = NULL');
$one->query_safe(q(UPDATE osmtalk.org_settings SET webhook_events = '{call.completed}'));
my $old = calls_in($repeatable);
$repeatable->query_safe('COMMIT');
is(events_of($old), 'call.started', 'a transaction with an older snapshot has what that shows');
is(events_of(calls_in($repeatable)), 'none', '... and the next one what is there then');
$one->query_safe('UPDATE osmtalk.org_settings SET webhook_events = NULL');
$repeatable->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM osmtalk.org_settings');
$one->query_safe(q(BEGIN; UPDATE osmtalk.campaigns SET webhook_events = '{call.started,webhook.test}' WHERE id = 'cmp_plain'; COMMIT));
my $unasked = calls_in($repeatable);
$repeatable->query_safe('COMMIT');
is(events_of($unasked), 'none', 'a transaction that sees nobody ask');
$mine = ($repeatable->query_safe("SELECT test.place('cmp_plain')") =~ /(call_\w+)/)[0];
is(events_of($mine), 'call.started', '... does not remember that for the next, which sees who does');
is(events_of(($one->query_safe("SELECT test.place('cmp_analyst')") =~ /(call_\w+)/)[0]), 'none', '... for that campaign alone');
# a change by a session whose ordinary triggers are off
$one->query_safe(q(SET session_replication_role = replica; UPDATE osmtalk.campaigns SET webhook_events = NULL; UPDATE osmtalk.org_settings SET webhook_events = '{call.started}'; RESET session_replication_role));
is(events_of(calls_in($_)), 'call.started', 'a change that is replicated is heard of, too') for $other, $repeatable;
$one->query_safe('TRUNCATE osmtalk.calls; DELETE FROM osmtalk.leads; DELETE FROM osmtalk.campaigns; DELETE FROM osmtalk.agents; DELETE FROM osmtalk.org_settings');
$one->query_safe("INSERT INTO osmtalk.org_settings (org_id) VALUES ('acme')");
is(events_of(calls_in($_)), 'none', 'nor is a deletion missed') for $other, $repeatable;
# another installation in the same sessions
$one->query_safe('DROP EXTENSION osmtalk CASCADE; CREATE EXTENSION osmtalk');
$one->query_safe(q(INSERT INTO osmtalk.org_settings (org_id, webhook_events) VALUES ('acme', '{call.started}')));
is(events_of(calls_in($_)), 'call.started', 'nor that the extension is another') for @sessions;
$_->quit for @sessions;

# ---- what it costs where nobody asks ----

sql('DELETE FROM osmtalk.calls; UPDATE osmtalk.org_settings SET webhook_events = NULL');
my $scans = "SELECT sum(pg_stat_get_xact_numscans(c)) FROM unnest('{osmtalk.org_settings_call_events_idx,osmtalk.campaigns_call_events_idx}'::regclass[]) c";
is(sql(<<"END"), "2\n2", 'of a thousand calls the first looks who asks, in each of two indexes, and no other');
BEGIN;
DO \$\$ BEGIN INSERT INTO osmtalk.calls (org_id, started_at) VALUES ('acme', now()); END \$\$;
$scans;
DO \$\$ BEGIN
	INSERT INTO osmtalk.calls (org_id, started_at) SELECT 'acme', now() FROM generate_series(1, 999);
	UPDATE osmtalk.calls SET ended_at = now();
END \$\$;
$scans;
END

done_testing();
