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
is(state_as('bot', "SELECT osmtalk.normalize_phone('+49 30 1234567'), osmtalk.verify_signature('a', 'b', 'c'), osmtalk.disposition('{}')"), '', 'what only computes may be used');

# as text in a URL, a secret or an id, nothing of a tenant's gets into an error
my ($status, $stdout, $stderr) = $node->psql($db, "SET ROLE bot; UPDATE osmtalk.org_settings SET webhook_secret = 'x'");
unlike($stderr, qr/whsec/, 'an error does not repeat a secret');

# ---- rights that are enough by themselves ----

sql(<<'END');
CREATE ROLE dialer;
GRANT USAGE ON SCHEMA osmtalk TO dialer;
GRANT EXECUTE ON FUNCTION osmtalk.place_call(text), osmtalk.place_next_call(text), osmtalk.requeue_lead(text, timestamptz),
	osmtalk.send_test_event(text, text), osmtalk.redeliver(text), osmtalk.wait_until_drained(interval) TO dialer;
CREATE ROLE monitor;
GRANT USAGE ON SCHEMA osmtalk TO monitor;
GRANT SELECT ON osmtalk.deliveries, osmtalk.worker_status, osmtalk.campaign_report, osmtalk.due_leads, osmtalk.stale_calls TO monitor;
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_' || i, 'cmp_plain', '+49301234567' FROM generate_series(1, 2) i;
END
is(state_as('dialer', $_), '', "EXECUTE is enough: $_")
  for "SELECT osmtalk.place_call('ld_1')", "SELECT osmtalk.place_next_call('cmp_plain')", "SELECT osmtalk.send_test_event('acme', 'cmp_plain')",
  "SELECT osmtalk.redeliver('$event')", "SELECT osmtalk.wait_until_drained()";
sql("UPDATE osmtalk.calls SET ended_at = now() WHERE lead_id = 'ld_1'");
is(state_as('dialer', "SELECT osmtalk.requeue_lead('ld_1')"), '', 'EXECUTE is enough: requeue_lead()');
is(state_as('dialer', "SELECT FROM osmtalk.leads"), '42501', 'and gives nothing else');
is(state_as('monitor', "SELECT * FROM osmtalk.$_"), '', "SELECT is enough: $_") for qw(deliveries worker_status campaign_report due_leads stale_calls);
is(state_as('monitor', "SELECT FROM osmtalk.events"), '42501', 'and gives nothing else');
ok(wait_for(sub { $receiver->requests(eventId => $event) == 2 }, 'the redelivery'), 'the redelivery has arrived');

done_testing();
