# What nobody ends: a lead whose analysis never comes, a call that never ends.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.analysis_timeout = 1s\nosmtalk.call_timeout = 0\n");
set_up($node, $db, url => $receiver->url);

sub sql { return $node->safe_psql($db, join '', @_); }

# Polls until a query returns true, and passes if it does within ten seconds.
sub becomes
{
	my ($query, $name) = @_;

	return ok(wait_for(sub { sql($query) eq 't' }, $name, 10), $name);
}

# A call whose lead waits for the analysis since the given time: its id.
sub awaiting
{
	my ($ended_at) = @_;
	my $call = sql("SELECT test.place('cmp_analyst')");

	sql("UPDATE osmtalk.calls SET answered_at = $ended_at - interval '1 min', ended_at = $ended_at WHERE id = '$call'");
	return $call;
}

# ---- the analysis never comes ----

my $begun = now();
my $call = awaiting('now()');
is_query($node, $db, "SELECT c.status, l.status, c.decided_at IS NULL FROM osmtalk.calls c JOIN osmtalk.leads l ON l.id = c.lead_id WHERE c.id = '$call'",
	'completed|calling|t', 'the lead waits for the analysis');
becomes("SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$call'", 'after the time-out it is decided without');
my $took = now() - $begun;
note sprintf('after %.2f s', $took);
cmp_ok($took, '>', 0.9, 'not before');
cmp_ok($took, '<', 4, 'nor much later');
is_query($node, $db, "SELECT status, disposition, outcome IS NULL, completed_at IS NOT NULL FROM osmtalk.leads WHERE call_id = '$call'",
	'completed|completed|t|t', 'the lead is completed');
my $event = sql("SELECT id FROM osmtalk.events WHERE call_id = '$call'");
is(request_of($receiver, $event)->{disposition}, 'completed', 'its event is sent');
sql("UPDATE osmtalk.calls SET analysis = '{\"success\": true}' WHERE id = '$call'");
is_query($node, $db, "SELECT disposition, outcome FROM osmtalk.leads WHERE call_id = '$call'", 'qualified|{"success": true}', 'the late analysis corrects the lead');
is_query($node, $db, "SELECT string_agg(type, ' ' ORDER BY id) FROM osmtalk.events WHERE call_id = '$call'",
	'campaign.lead_completed call.analysis_completed', 'and sends no second lead event');

$call = awaiting("now() - interval '1 year'");
is_query($node, $db, "SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$call'", 't', 'ended longer ago than the time-out: decided at once');
$call = awaiting("now() + interval '1 year'");
becomes("SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$call'", 'an end in the future does not wait for it');

# ---- one that is locked keeps nobody waiting ----

my @calls = map { awaiting('now()') } 1 .. 3;
my $session = session($node, $db);
$session->query_safe("BEGIN; SELECT FROM osmtalk.leads WHERE call_id = '$calls[0]' FOR UPDATE; SELECT FROM osmtalk.calls WHERE id = '$calls[1]' FOR UPDATE");
becomes("SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$calls[2]'", 'others are decided while a lead and a call are locked');
$event = sql("SELECT osmtalk.send_test_event('acme')");
ok(request_of($receiver, $event, 5)->{seq}, 'and events are sent');
is_query($node, $db, "SELECT count(*) FROM osmtalk.calls WHERE decided_at IS NULL", 2, 'the locked ones wait');
is_query($node, $db, "SELECT last_error IS NULL FROM osmtalk.worker_status", 't', 'which is no error');
$session->query_safe('COMMIT');
becomes("SELECT count(*) = 0 FROM osmtalk.calls WHERE decided_at IS NULL", 'until they are let go');
# by whatever lock, and whoever else is in the queue for it
@calls = map { awaiting('now()') } 1 .. 2;
$session->query_safe("BEGIN; UPDATE osmtalk.leads SET variables = '{\"by\": \"hand\"}' WHERE call_id = '$calls[0]'");
becomes("SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$calls[1]'", 'the same while a lead is being updated');
$session->query_safe('COMMIT');
becomes("SELECT count(*) = 0 FROM osmtalk.calls WHERE decided_at IS NULL", 'and then that one');

# ---- one that cannot be decided keeps nobody waiting ----

sql(<<'END');
CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'P0815'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OF status ON osmtalk.leads FOR EACH ROW WHEN (NEW.variables ? 'refuse') EXECUTE FUNCTION test.refuse();
END
@calls = map { awaiting('now()') } 1 .. 2;
sql("UPDATE osmtalk.leads SET variables = '{\"refuse\": 1}' WHERE call_id = '$calls[0]'");
becomes("SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$calls[1]'", 'others are decided while a user\'s trigger refuses one');
$event = sql("SELECT osmtalk.send_test_event('acme')");
ok(request_of($receiver, $event, 5)->{seq}, 'and events are sent');
ok(wait_for(sub { log_since($node) =~ /could not be decided: not this one/ }, 'the log'), 'the log says so');
sql("DROP TRIGGER refuse ON osmtalk.leads");
becomes("SELECT decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$calls[0]'", 'that one, once the trigger is gone');

# ---- a call never ends ----

my ($open) = sql("SELECT test.place('cmp_plain')");
my ($inbound) = sql("INSERT INTO osmtalk.calls (org_id, direction) VALUES ('acme', 'inbound') RETURNING id");
my ($erring) = sql("INSERT INTO osmtalk.calls (org_id, direction, error) VALUES ('acme', 'web', 'crash') RETURNING id");
$node->poll_query_until($db, "SELECT now() - placed_at > interval '2500 ms' FROM osmtalk.calls WHERE id = '$erring'");
is_query($node, $db, "SELECT string_agg(DISTINCT status::text, ' ') FROM osmtalk.calls WHERE ended_at IS NULL", 'in_progress queued', 'call_timeout = 0 ends none');
my $finished = sql("SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM osmtalk.calls c WHERE ended_at IS NOT NULL");

setting($node, 'osmtalk.call_timeout' => '2s');
becomes("SELECT count(*) = 0 FROM osmtalk.calls WHERE ended_at IS NULL", 'with a time-out, set by a reload, they end');
is_query($node, $db, "SELECT status, error, ended_at >= placed_at + interval '2 s', decided_at IS NOT NULL FROM osmtalk.calls WHERE id = '$open'",
	'failed|call timed out|t|t', 'the call has failed');
is_query($node, $db, "SELECT status, disposition IS NULL FROM osmtalk.leads WHERE call_id = '$open'", 'failed|t', 'so has its lead');
is(request_of($receiver, sql("SELECT id FROM osmtalk.events WHERE call_id = '$open'"))->{status}, 'failed', 'its event is sent');
is_query($node, $db, "SELECT status, error FROM osmtalk.calls WHERE id = '$inbound'", 'failed|call timed out', 'so has a call without a lead');
is_query($node, $db, "SELECT status, error FROM osmtalk.calls WHERE id = '$erring'", 'failed|crash', 'an error that is known is kept');
is_query($node, $db, "SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM osmtalk.calls c WHERE id NOT IN ('$open', '$inbound', '$erring')",
	$finished, 'finished calls are not touched');

$begun = now();
$open = sql("SELECT test.place('cmp_plain')");
becomes("SELECT ended_at IS NOT NULL FROM osmtalk.calls WHERE id = '$open'", 'the next one');
cmp_ok(now() - $begun, '>', 1.9, 'not before its time');
# retried as any that failed
sql("UPDATE osmtalk.campaigns SET max_attempts = 2");
$open = sql("SELECT test.place('cmp_plain')");
becomes("SELECT status = 'pending' AND next_attempt_at > now() FROM osmtalk.leads WHERE call_id = '$open'", 'one that is to be retried');

# ---- more than a batch ----

sql("SELECT count(*) FROM test.place('cmp_analyst', 1300);
	UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE status = 'in_progress'");
$begun = now();
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.calls WHERE awaiting_since IS NOT NULL") eq '0' }, '1300 calls'), '1300 calls are decided');
note sprintf('1300 calls decided %.2f s after they ended', now() - $begun);
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'their events are sent');
is_query($node, $db, "SELECT count(*), count(DISTINCT call_id) FROM osmtalk.events WHERE type = 'campaign.lead_completed' AND call_id IN
	(SELECT id FROM osmtalk.calls WHERE agent_id = 'analyst')", join('|', (sql("SELECT count(*) FROM osmtalk.calls WHERE agent_id = 'analyst'")) x 2), 'one for each');
$session->quit;

done_testing();
