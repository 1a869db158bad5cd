# What a worker has claimed: it is not claimed twice, whatever makes the
# outbox be read again, and what cannot be sent is handed back.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $other = Osmtalk::Receiver->new;
my $node = new_cluster('main', conf => "osmtalk.max_in_flight_per_endpoint = 2\nosmtalk.request_timeout = 8s\n");
set_up($node, $db, url => $receiver->url);

sub sql { return $node->safe_psql($db, join '', @_); }

# an endpoint that answers, so that events are claimed ahead for it
sql("SELECT count(osmtalk.send_test_event('acme')) FROM generate_series(1, 20)");
is(sql('SELECT osmtalk.wait_until_drained()'), 't', 'the endpoint is proven');
my $before = $receiver->count;

# and then hangs
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/hang') . "' WHERE org_id = 'acme'");
sql("SELECT count(osmtalk.send_test_event('acme')) FROM generate_series(1, 12)");
$receiver->wait_for_count($before + 2) or die;
is(sql('SELECT in_flight FROM osmtalk.worker_status'), 2, 'two requests hang');
is(sql('SELECT count(*) FROM osmtalk.in_flight'), 12, 'all events are claimed');

# ---- read again ----

# a row that looks copied makes the worker read the whole outbox
my $copied = sql("SELECT osmtalk.new_id('evt')");
sql("INSERT INTO osmtalk.org_settings VALUES ('other', '" . $other->url . "')");
sql("INSERT INTO osmtalk.events (id, type, org_id, body) VALUES ('$copied', 'webhook.test', 'other', '{}');
	INSERT INTO osmtalk.outbox (event_id, xid) VALUES ('$copied', '3')");
ok(request_of($other, $copied, 5)->{seq}, 'the outbox was read again');
is($receiver->count, $before + 2, 'what is claimed is not sent again');

# ---- handed back ----

# longer than it may be claimed and not sent, and shorter than the requests hang
$node->poll_query_until($db, "SELECT clock_timestamp() > claimed_at + interval '1500 ms' FROM (SELECT min(claimed_at) FROM osmtalk.in_flight) c (claimed_at)");
is($receiver->count, $before + 2, 'the two still hang');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $other->url('/now') . "' WHERE org_id = 'acme'");
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'all have a result');
is(scalar(my @new = $other->requests(path => '/now')), 10, 'what was claimed and not sent goes to the URL of then');
is($receiver->count, $before + 2, 'and nothing more to that of before');
is(sql("SELECT count(*), max(attempts) FROM osmtalk.deliveries WHERE org_id = 'acme'"), '32|1', 'each had one attempt');

# ---- and what is claimed when sending is switched off ----

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/slow/300') . "' WHERE org_id = 'acme'");
$before = $receiver->count;
sql("SELECT count(osmtalk.send_test_event('acme')) FROM generate_series(1, 12)");
$receiver->wait_for_count($before + 2) or die;
setting($node, 'osmtalk.enabled' => 'off');
$node->poll_query_until($db, "SELECT state = 'disabled' AND in_flight = 0 FROM osmtalk.worker_status");
my $sent = $receiver->count;
cmp_ok($sent, '<', $before + 12, 'sending is off');
$node->poll_query_until($db, "SELECT count(*) = 0 FROM osmtalk.in_flight");
is($receiver->count, $sent, 'what was claimed is not sent, and waits');
setting($node, 'osmtalk.enabled' => undef);
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'until sending is on');
is($receiver->count, $before + 12, 'once each');

# ---- events of several slots ----

# of one batch: in the slot of the last, in others, kept, in another than the outbox names, and nowhere
setting($node, 'osmtalk.enabled' => 'off');
sql("WITH e AS (
		INSERT INTO osmtalk.events (type, org_id, body, slot)
		SELECT 'webhook.test', 'other', i::text, i % 17 - 1 FROM generate_series(1, 170) i RETURNING id, body, slot)
	INSERT INTO osmtalk.outbox (event_id, endpoint_hash, slot)
	SELECT id, osmtalk.endpoint_hash('" . $other->url . "'), CASE WHEN body::int % 10 = 0 THEN (slot + 2) % 16 ELSE slot END FROM e
	UNION ALL SELECT 'evt_nowhere', osmtalk.endpoint_hash('" . $other->url . "'), 3");
my $others = $other->count;
setting($node, 'osmtalk.enabled' => undef);
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', 'events of all slots have a result');
is($other->count, $others + 170, 'each is sent once');
is(sql("SELECT count(*), bool_and(a.http_status = 204 AND a.slot = e.slot) FROM osmtalk.events e JOIN osmtalk.delivery_attempts a ON a.event_id = e.id
	WHERE e.org_id = 'other' AND e.body <> '{}'"), '170|t', 'with its attempt beside it');
like(sql("SELECT error FROM osmtalk.delivery_attempts WHERE event_id = 'evt_nowhere'"), qr/removed/, 'one that is nowhere was not');

done_testing();
