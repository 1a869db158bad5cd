# Old events go, and only those: not what is still to be delivered, nor what
# failed lately, nor what commits late; and nobody waits for it.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.request_timeout = 3s\n");
set_up($node, $db, url => $receiver->url);

sub sql { return $node->safe_psql($db, join '', @_); }

# Until there is nothing to do, or it has to wait.
sub apply_retention
{
	my $steps = 0;

	$steps++ while sql('SELECT osmtalk.apply_retention() > 0') eq 't' && $steps < 100;
	return $steps;
}

# Events in a slot, all of the same age; returns one's id.
sub old_event
{
	my (%event) = @_;
	my $id = sql("INSERT INTO osmtalk.events (type, org_id, body, created_at, slot, skipped_reason)
		VALUES ('webhook.test', 'acme', '{}', now() - interval '$event{created}', $event{slot}, " . ($event{skipped} ? "'no webhook URL'" : 'NULL') . ") RETURNING id");

	sql("INSERT INTO osmtalk.delivery_attempts (event_id, attempt, started_at, http_status, error, slot)
		VALUES ('$id', 1, now() - interval '" . ($event{tried} // $event{created}) . "', $event{status}, " . ($event{status} == 204 ? 'NULL' : "'HTTP $event{status}'") . ", $event{slot})")
	  if $event{status};
	sql("INSERT INTO osmtalk.outbox (event_id, due_at, slot, origin) VALUES ('$id', now() + interval '$event{due}', $event{slot}, " . ($event{origin} // 'DEFAULT') . ")") if defined $event{due};
	return $id;
}

# All slots have been filled for as long as it takes.
sub fill_long_ago { sql("UPDATE osmtalk.slots SET filled_since = now() - interval '1 year'"); return; }

# Where an event and its attempts are, and what became of it.
sub whereabouts
{
	my ($id) = @_;

	return sql("SELECT d.state, e.slot, (SELECT count(*) FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id AND a.slot = e.slot), o.slot
		FROM osmtalk.events e JOIN osmtalk.deliveries d ON d.event_id = e.id LEFT JOIN osmtalk.outbox o ON o.event_id = e.id WHERE e.id = '$id'");
}

sub is_empty_slot
{
	my ($slot, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is_query($node, $db, "SELECT state FROM osmtalk.retained WHERE slot = $slot", 'empty', $name);
}

# ---- by age and result ----

my ($over, $other) = split /\n/, sql('SELECT s FROM generate_series(0, 15) s WHERE osmtalk.slot_is_over(s::int2) ORDER BY 1');
my $current = sql('SELECT osmtalk.current_slot()');
my $filled = ($current + 15) % 16;
my %old = (slot => $over, created => '40 days');
my %event = (
	delivered => old_event(%old, status => 204),
	skipped => old_event(%old, skipped => 1),
	failed => old_event(%old, status => 500),
	lost => old_event(%old),
	failed_long_ago => old_event(slot => $over, created => '100 days', status => 500),
	delivered_late => old_event(%old, tried => '1 day', status => 204),
	pending => old_event(slot => $over, created => '100 days', due => '1 day'),
	of_another_database => old_event(%old, due => '0', origin => "'elsewhere'"),
	not_over => old_event(slot => $filled, created => '40 days', status => 204),
	beside_a_young_one => old_event(slot => $other, created => '40 days', status => 204),
	young => old_event(slot => $other, created => '20 days', status => 204));
my $young = sql("SELECT test.event('cmp_plain')");
like(state_of($node, $db, $young), qr/^delivered/, 'a new event');

is(apply_retention(), 0, 'what has only come, from a dump perhaps, stays');
fill_long_ago();
# one is being sent meanwhile
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/hang') . "'");
my $in_flight = old_event(%old, due => '0');
ok(wait_for(sub { $receiver->requests(eventId => $in_flight) }, 'the request'), 'an old event is in flight');
cmp_ok(apply_retention(), '>', 0, 'retention has something to do');
is(whereabouts($in_flight), 'in_flight|-1|0|-1', 'what is in flight is kept');
is(whereabouts($event{delivered}), '', 'what was delivered is gone');
is(whereabouts($event{skipped}), '', 'so is what was skipped');
is(whereabouts($event{failed_long_ago}), '', 'and what failed longer ago than osmtalk.failed_retention');
is_query($node, $db, "SELECT count(*) FROM osmtalk.delivery_attempts WHERE event_id IN ('$event{delivered}', '$event{failed_long_ago}')", 0, 'with their attempts');
is(whereabouts($event{failed}), 'failed|-1|1|', 'what failed is kept, with its attempts');
is(whereabouts($event{lost}), 'failed|-1|0|', 'so is what has neither result nor outbox row');
is(whereabouts($event{delivered_late}), 'delivered|-1|1|', 'and what was delivered less than osmtalk.retention ago');
is(whereabouts($event{pending}), 'pending|-1|0|-1', 'what is still to be delivered is kept, whatever its age');
is(whereabouts($event{of_another_database}), 'pending|-1|0|-1', 'if only after adopt()');
is(whereabouts($young), "delivered|$current|1|", 'a new event stays where it is');
is(whereabouts($event{not_over}), "delivered|$filled|1|", 'an old event in a slot that is not over stays');
is(whereabouts($event{beside_a_young_one}), "delivered|$other|1|", 'so does one beside a young one');
is_empty_slot($over, 'the slot is empty');
like(state_of($node, $db, $in_flight), qr/^failed\|1\|\|timed out after 3000 ms/, 'the request that was in flight has its result');
is(whereabouts($in_flight), 'failed|-1|1|', 'beside its event');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "'; SELECT osmtalk.redeliver('$event{failed}')");
like(state_of($node, $db, $event{failed}), qr/^delivered\|2\|204/, 'what is kept can be redelivered');
is_query($node, $db, 'SELECT osmtalk.adopt()', 1, 'and adopted');
like(state_of($node, $db, $event{of_another_database}), qr/^delivered\|1\|204/, 'and delivered then');

# ---- what is kept longer goes, too ----

sql("UPDATE osmtalk.delivery_attempts SET started_at = now() - interval '31 days' WHERE event_id = '$event{delivered_late}';
	UPDATE osmtalk.delivery_attempts SET started_at = now() - interval '91 days' WHERE event_id = '$in_flight';
	UPDATE osmtalk.events SET created_at = now() - interval '91 days' WHERE slot = -1");
fill_long_ago();
my $redelivery = session($node, $db);
$redelivery->query_safe("BEGIN; SELECT osmtalk.redeliver('$in_flight')");
apply_retention();
isnt(whereabouts($in_flight), '', 'not while a redelivery is under way');
$redelivery->query_safe('ROLLBACK');
apply_retention();
is(whereabouts($event{delivered_late}) . whereabouts($in_flight) . whereabouts($event{lost}), '', 'then what is too old is gone');
like(whereabouts($event{failed}), qr/^delivered\|-1\|2/, 'what was redelivered lately is not');
is_query($node, $db, "SELECT count(*) FROM osmtalk.deliveries WHERE state = 'pending'", 1, 'nor what is pending');

# ---- an outbox row that names another slot ----

my $elsewhere = old_event(slot => $filled, created => '1 day');
sql("INSERT INTO osmtalk.outbox (event_id) VALUES ('$elsewhere')");
like(state_of($node, $db, $elsewhere), qr/^delivered\|1\|204/, 'an outbox row made by hand finds its event in another slot');
is(whereabouts($elsewhere), "delivered|$filled|1|", 'and the attempt is beside it');

# ---- who is in the way ----

# a transaction that wrote to the slot long ago, and has not committed
my $removed = old_event(%old, status => 204);
my $writer = session($node, $db);
$writer->query_safe("BEGIN; INSERT INTO osmtalk.events (id, type, org_id, body, created_at, slot) VALUES ('evt_late', 'webhook.test', 'acme', '{}', now() - interval '40 days', $over);
	INSERT INTO osmtalk.outbox (event_id, slot) VALUES ('evt_late', $over);
	INSERT INTO osmtalk.events (id, type, org_id, body, created_at, slot) VALUES ('evt_0', 'webhook.test', 'acme', '{}', now() - interval '40 days', $over)");
fill_long_ago();
apply_retention();
isnt(whereabouts($removed), '', 'a slot that somebody writes to is left alone');
$writer->query_safe('COMMIT');
like(state_of($node, $db, 'evt_late'), qr/^delivered\|1\|204/, 'what commits late is delivered');
cmp_ok(apply_retention(), '>', 0, 'then retention goes on');
is(whereabouts($removed) . '/' . whereabouts('evt_late'), '/delivered|-1|1|', 'and keeps what was delivered lately');
is(whereabouts('evt_0'), 'failed|-1|0|', 'and what nothing but the writer could tell of');

# a report, which reads all slots in a long transaction
$removed = old_event(%old, status => 204);
my $report = session($node, $db);
$report->query_safe('BEGIN; SELECT count(*) FROM osmtalk.deliveries');
fill_long_ago();
apply_retention();
cmp_ok(measure(sub { sql('SELECT osmtalk.apply_retention()') }), '<', 1, 'who reads is not waited for');
isnt(whereabouts($removed), '', 'nothing is removed under his eyes');
cmp_ok(measure(sub { $young = sql("SELECT test.event('cmp_plain')") }), '<', 1, 'events are written meanwhile');
ok(request_of($receiver, $young, 5)->{path}, 'and delivered');
# all of the slot has been gone through by now; what comes to it then?
my $late = old_event(%old, due => '1 day');
my $late_failed = old_event(%old, status => 500);
$report->query_safe('ROLLBACK');
cmp_ok(apply_retention(), '>', 0, 'without him it goes on');
is(whereabouts($removed), '', 'and removes what it may');
is(whereabouts($late), 'pending|-1|0|-1', 'but not what came meanwhile');
is(whereabouts($late_failed), 'failed|-1|1|', 'nor what is not in the outbox any more');
is_empty_slot($over, 'the slot is empty');

# the same with nothing in the outbox that would tell of it
fill_long_ago();
$removed = old_event(%old, status => 204);
$report->query_safe('BEGIN; SELECT count(*) FROM osmtalk.deliveries');
apply_retention();
$late_failed = old_event(%old, status => 500);
$report->query_safe('ROLLBACK');
apply_retention();
is(whereabouts($removed) . '/' . whereabouts($late_failed), '/failed|-1|1|', 'what comes meanwhile is seen without the outbox, too');

# a redelivery that has not committed
$removed = old_event(%old, status => 204);
fill_long_ago();
$report->query_safe('BEGIN; SELECT count(*) FROM osmtalk.deliveries');
apply_retention();
$redelivery->query_safe("BEGIN; SELECT osmtalk.redeliver('$removed')");
$report->query_safe('ROLLBACK');
apply_retention();
isnt(whereabouts($removed), '', 'a redelivery under way keeps the slot');
$redelivery->query_safe('COMMIT');
like(state_of($node, $db, $removed), qr/^delivered\|2\|204/, 'it is made');
apply_retention();
is(whereabouts($removed), 'delivered|-1|2|', 'and the event is kept from then on');

my ($status, $out, $err) = $node->psql($db, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT osmtalk.apply_retention()');
like($err, qr/must see what other sessions commit/, 'a transaction that does not see that is refused');

# ---- the worker does it by itself ----

sql('DELETE FROM osmtalk.outbox; TRUNCATE osmtalk.events, osmtalk.delivery_attempts');
setting($node, 'osmtalk.retention' => '1s');
sql("UPDATE osmtalk.slots SET filled_since = now(), newest = NULL; SELECT test.finalise('cmp_plain', 50)");
my $pending = old_event(slot => 'osmtalk.current_slot()', created => '0', due => '1 hour');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/status/500') . "'; SELECT test.finalise('cmp_plain', 3)");
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.events") eq '4' }, 'old events to go'), 'the worker removes old events');
is_query($node, $db, 'SELECT state, count(*) FROM osmtalk.deliveries GROUP BY 1 ORDER BY 1', "failed|3\npending|1", 'and those alone');

# a transaction that is open for longer than anything is kept, and its event's slot long over
my $long = session($node, $db);
$long->query_safe('BEGIN');
my $of_long = $long->query_safe("SELECT test.event('cmp_plain')");
my $its_slot = $long->query_safe("SELECT slot FROM osmtalk.events WHERE id = '$of_long'");
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "'");
$node->poll_query_until($db, "SELECT osmtalk.slot_is_over($its_slot\::int2)");
$long->query_safe('COMMIT');
$long->quit;
like(state_of($node, $db, $of_long), qr/^delivered/, 'an event whose transaction was open for longer than osmtalk.retention is delivered');

# what goes wrong with it does not stop it from sending
my $log = -s $node->logfile;
sql("CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END';
	CREATE TRIGGER refuse BEFORE UPDATE ON osmtalk.slots FOR EACH ROW EXECUTE FUNCTION test.refuse();
	UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "'; SELECT test.finalise('cmp_plain')");
ok(wait_for(sub { log_since($node, $log) =~ /old events could not be removed: refused/ }, 'the log'), 'a failure is logged');
$young = sql("SELECT test.event('cmp_plain')");
ok(request_of($receiver, $young)->{path}, 'events are sent meanwhile');
sql('DROP TRIGGER refuse ON osmtalk.slots');
ok(wait_for(sub { log_since($node, $log) =~ /old events are removed again/ }, 'the log'), 'and when it works again');
is(scalar(() = log_since($node, $log) =~ /could not be removed/g), 1, 'each once');

setting($node, 'osmtalk.retention' => 0);
$young = sql("SELECT test.event('cmp_plain')");
like(state_of($node, $db, $young), qr/^delivered/, 'kept for ever');
is_query($node, $db, 'SELECT osmtalk.retention() IS NULL AND osmtalk.failed_retention() IS NULL AND NOT bool_or(osmtalk.slot_is_over(s::int2)) FROM generate_series(0, 15) s', 't', 'no slot is ever over');

done_testing();
