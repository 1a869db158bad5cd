# A role that may record facts and nothing else: its updates have their full
# effect, and it can reach nothing more.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new(secret => 'whsec_org');
my $node = new_cluster('main');
set_up($node, $db, url => $receiver->url, secret => 'whsec_org');

sub sql { return $node->safe_psql($db, join '', @_); }

# The SQLSTATE with which a command fails as the role; '' if it works.
sub state_as
{
	my ($role, $command) = @_;
	my ($status, $stdout, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\nSET ROLE $role;\n$command;\n");

	return $stderr =~ /ERROR:  (\w{5}):/ ? $1 : '';
}

sql(<<'END');
CREATE ROLE bot;
GRANT USAGE ON SCHEMA osmtalk TO bot;
GRANT SELECT (id), UPDATE (started_at, answered_at, ended_at, sip_status_code, voicemail_detected, error, analysis, analysis_error, transcript)
	ON osmtalk.calls TO bot;
CREATE ROLE nobody_special;
END

# ---- what it may ----

my $call = sql("SELECT test.place('cmp_plain')");
is(state_as('bot', "UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min', transcript = 'hello' WHERE id = '$call'"), '', 'it finalises a call');
my $event = sql("SELECT id FROM osmtalk.events WHERE call_id = '$call'");
ok(request_of($receiver, $event)->{verified}, 'the event is sent, signed with a secret it cannot read');
is_query($node, $db, "SELECT l.status FROM osmtalk.leads l WHERE call_id = '$call'", 'completed', 'its lead is decided');

$call = sql("SELECT test.place('cmp_analyst')");
is(state_as('bot', "UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$call'"), '', 'it ends a call whose analysis follows');
is(state_as('bot', "UPDATE osmtalk.calls SET analysis = '{\"next_action\": \"callback_later\"}' WHERE id = '$call'"), '', 'and writes the analysis');
ok(wait_for(sub { $receiver->requests(callId => $call) == 2 }, 'both events'), 'both events are sent');
is_query($node, $db, "SELECT disposition FROM osmtalk.leads WHERE call_id = '$call'", 'callback', 'with the disposition');

# whatever its search path offers
sql("CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO bot");
$call = sql("SELECT test.place('cmp_plain')");
is(state_as('bot', <<"END"), '', 'with a search path full of traps');
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trapped''; END';
CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trapped''; END';
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
CREATE FUNCTION trap.coalesce(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''trapped''; END';
SET search_path = trap, pg_catalog;
UPDATE osmtalk.calls SET sip_status_code = 486, ended_at = pg_catalog.now() WHERE id OPERATOR(pg_catalog.=) '$call'
END
is_query($node, $db, "SELECT status FROM osmtalk.leads WHERE call_id = '$call'", 'busy', 'none is stepped into');

# ---- what it may not ----

for my $command (
	"SELECT default_webhook_url FROM osmtalk.org_settings",
	"SELECT webhook_secret FROM osmtalk.campaigns",
	"SELECT phone_number FROM osmtalk.calls",
	"SELECT FROM osmtalk.leads",
	"SELECT body FROM osmtalk.events",
	"SELECT FROM osmtalk.outbox",
	"SELECT FROM osmtalk.delivery_attempts",
	"SELECT FROM osmtalk.deliveries",
	"SELECT FROM osmtalk.worker_status",
	"UPDATE osmtalk.calls SET status = 'failed'",
	"UPDATE osmtalk.calls SET placed_at = now()",
	"UPDATE osmtalk.calls SET decided_at = NULL",
	"UPDATE osmtalk.calls SET org_id = 'other'",
	"UPDATE osmtalk.leads SET status = 'failed'",
	"INSERT INTO osmtalk.calls (org_id) VALUES ('acme')",
	"INSERT INTO osmtalk.outbox (event_id) VALUES ('$event')",
	"INSERT INTO osmtalk.events (type, org_id, body) VALUES ('x', 'acme', '{}')",
	"DELETE FROM osmtalk.calls",
	"TRUNCATE osmtalk.events",
	"SELECT osmtalk.record_event('x', 'acme', NULL, NULL, NULL, '{}')",
	"SELECT osmtalk.send_test_event('acme')",
	"SELECT osmtalk.redeliver('$event')",
	"SELECT osmtalk.adopt()",
	"SELECT osmtalk.expire_calls()",
	"SELECT osmtalk.place_call('x')",
	"SELECT osmtalk.place_next_call('cmp_plain')",
	"SELECT osmtalk.requeue_lead('x')",
	"SELECT * FROM osmtalk.delivery_target('x', 'acme', NULL)",
	"SELECT osmtalk.start_worker()",
	"SELECT FROM osmtalk.worker_status",
	"SET osmtalk.trusted_networks = '0.0.0.0/0'",
	"ALTER SYSTEM SET osmtalk.trusted_networks = '0.0.0.0/0'")
{
	my $expected = $command =~ /^SET/ ? '55P02' : '42501';
	is(state_as('bot', $command), $expected, $command);
}
is(state_as('nobody_special', "SELECT osmtalk.new_id('x')"), '42501', 'without USAGE on the schema: nothing');
my $computes = "SELECT osmtalk.normalize_phone('+49 30 1234567'), osmtalk.verify_signature('a', 'b', 'c'), osmtalk.disposition('{}')";
is(state_as('bot', $computes), '42501', 'not even what only computes is everybody\'s');
is(state_as($_, $computes), '', "but $_\'s") for qw(osmtalk_app osmtalk_admin osmtalk_monitor);

# as text in a URL, a secret or an id, nothing of a tenant's gets into an error
my ($status, $stdout, $stderr) = $node->psql($db, "SET ROLE bot; UPDATE osmtalk.org_settings SET webhook_secret = 'x'");
unlike($stderr, qr/whsec/, 'an error does not repeat a secret');

# ---- rights that are enough by themselves ----

sql(<<'END');
CREATE ROLE dialer;
GRANT USAGE ON SCHEMA osmtalk TO dialer;
GRANT EXECUTE ON FUNCTION osmtalk.place_call(text), osmtalk.place_next_call(text), osmtalk.requeue_lead(text, timestamptz),
	osmtalk.send_test_event(text, text), osmtalk.redeliver(text), osmtalk.wait_until_drained(interval) TO dialer;
CREATE ROLE monitor IN ROLE osmtalk_monitor;
CREATE ROLE app IN ROLE osmtalk_app;
CREATE ROLE clerk IN ROLE osmtalk_admin;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_' || i, 'cmp_plain', '+49301234567' FROM generate_series(1, 2) i;
END
is(state_as('dialer', $_), '', "EXECUTE is enough: $_")
  for "SELECT osmtalk.place_call('ld_1')", "SELECT osmtalk.place_next_call('cmp_plain')", "SELECT osmtalk.send_test_event('acme', 'cmp_plain')",
  "SELECT osmtalk.redeliver('$event')", "SELECT osmtalk.wait_until_drained()";
ok(wait_for(sub { $receiver->requests(eventId => $event) == 2 }, 'the redelivery'), 'the redelivery has arrived');
sql("UPDATE osmtalk.calls SET ended_at = now() WHERE lead_id = 'ld_1'");
is(state_as('dialer', "SELECT osmtalk.requeue_lead('ld_1')"), '', 'EXECUTE is enough: requeue_lead()');
is(state_as('dialer', "SELECT FROM osmtalk.leads"), '42501', 'and gives nothing else');
is(state_as('monitor', "SELECT * FROM osmtalk.$_"), '', "monitoring sees $_") for qw(deliveries worker_status campaign_report retained in_flight not_adopted);
is(state_as('monitor', "SELECT * FROM osmtalk.$_"), '42501', "and not $_") for qw(due_leads stale_calls events calls leads delivery_attempts org_settings campaigns);
is(state_as($_, 'SELECT osmtalk.report_html()'), '', "$_ sees the report") for qw(monitor clerk);
is(state_as($_, 'SELECT osmtalk.report_html()'), '42501', "$_ does not see the report") for qw(app bot dialer);
is(state_as('app', "SELECT * FROM osmtalk.$_"), '', "an application sees $_") for qw(due_leads stale_calls leads calls agents dnc_entries campaign_report);

# ---- what the group roles are for ----

is(state_as('clerk', $_), '', "the administrator: $_")
  for "INSERT INTO osmtalk.org_settings VALUES ('new', '" . $receiver->url('/new') . "', 'whsec_org')",
  "INSERT INTO osmtalk.agents (org_id, name) VALUES ('new', 'An agent')",
  "INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES ('cmp_new', 'new', 'Campaign', 'whsec_org')",
  "UPDATE osmtalk.campaigns SET webhook_secret = 'whsec_org', webhook_url = NULL WHERE id = 'cmp_new'";
is(state_as('app', "INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_new', 'cmp_new', '+49 30 765 4321')"), '', 'the application: a lead');
$call = sql("SET ROLE app; SELECT id FROM osmtalk.place_next_call('cmp_new')");
is(state_as('app', "UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$call'"), '', 'the application: its call');
ok(wait_for(sub { $receiver->requests(callId => $call) == 1 }, 'the event'), 'its event is sent');
ok(($receiver->requests(callId => $call))[0]->{verified}, 'signed with the secret that its writer cannot read');
my $test_event = sql("SET ROLE clerk; SELECT osmtalk.send_test_event('new')");
is_query($node, $db, 'SET ROLE clerk; SELECT osmtalk.wait_until_drained()', 't', 'the administrator: a test event');
is_query($node, $db, "SET ROLE clerk; SELECT d.state, e.body LIKE '%webhook.test%' FROM osmtalk.deliveries d JOIN osmtalk.events e ON e.id = d.event_id WHERE e.id = '$test_event'", 'delivered|t', 'which it sees');
sql("SET ROLE clerk; SELECT osmtalk.pause()");
ok(wait_for(sub { sql("SET ROLE monitor; SELECT state = 'paused' AND pid IS NULL FROM osmtalk.worker_status") eq 't' }, 'the pause'), 'the administrator pauses, and monitoring sees it');
sql("SET ROLE clerk; SELECT osmtalk.resume()");
ok(wait_for(sub { sql("SET ROLE monitor; SELECT state = 'running' FROM osmtalk.worker_status") eq 't' }, 'the worker'), 'and that it goes on');

done_testing();
