# An event's way from the call's last fact to the customer: the bytes, the
# headers, where it goes, what is recorded, and what changes meanwhile do to it.

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex sha256_hex);
use Encode ();
use Osmtalk::Test;
use Osmtalk::Receiver;
use Test::More;

my $receiver = Osmtalk::Receiver->new(
	bodies => 1,
	secrets => { '/org' => 'whsec_org', '/campaign' => 'whsec_campaign', '/own' => 'whsec_org', '/sign' => 'whsec_new' });
my $node = new_cluster('main');
my $db = 'postgres';
my ($version) = PostgreSQL::Test::Utils::slurp_file("$ENV{SRC}/osmtalk.control") =~ /^default_version *= *'(.*)'/m;

sub sql { return $node->safe_psql($db, join '', @_); }

sub event { return sql("SELECT test.event('$_[0]')"); }

sub delivered
{
	my ($event_id) = @_;

	return $node->poll_query_until($db, "SELECT state = 'delivered' FROM osmtalk.deliveries WHERE event_id = '$event_id'");
}

set_up($node, $db, url => $receiver->url('/org'), secret => 'whsec_org');

is_query($node, $db, q(SELECT backend_type, application_name, datname = current_database() FROM pg_stat_activity
	WHERE pid = (SELECT pid FROM osmtalk.worker_status)), 'osmtalk worker|osmtalk worker|t', 'the worker in pg_stat_activity');

# ---- one event, in full ----

my $event = event('cmp_plain');
my $request = request_of($receiver, $event);
my $body = sql("SELECT body FROM osmtalk.events WHERE id = '$event'");
my %headers = %{ $request->{headers} };

is($request->{method}, 'POST', 'method');
is($request->{path}, '/org', 'the organisation\'s URL');
is($request->{body}, Encode::decode('UTF-8', $body), 'body as stored');
is($request->{sha256}, sha256_hex($body), 'byte by byte');
like($request->{body}, qr/"name":"J\x{f6}rg \x{4e2d} \\\\u00e4"/, 'non-ASCII characters raw, what looks like an escape untouched');
is($request->{bytes}, $headers{'content-length'}, 'Content-Length');
is($headers{'x-osmtalk-event-id'}, $event, 'X-OsmTalk-Event-Id');
is($headers{'x-osmtalk-signature'}, 'sha256=' . hmac_sha256_hex($body, 'whsec_org'), 'X-OsmTalk-Signature');
ok($request->{verified}, 'the documented recipe accepts it');
is($headers{'content-type'}, 'application/json', 'Content-Type');
is($headers{'user-agent'}, "osmTalk-Webhooks/$version", 'User-Agent');
is_deeply([ sort keys %headers ],
	[qw(accept content-length content-type host user-agent x-osmtalk-event-id x-osmtalk-signature)],
	'no other headers: no Expect, nothing that could identify the server');

delivered($event);
is_query($node, $db, "SELECT attempt, url, http_status, error IS NULL, response_body IS NULL, duration_ms > 0 AND duration_ms < 60000,
	started_at BETWEEN now() - interval '1 min' AND now() FROM osmtalk.delivery_attempts WHERE event_id = '$event'",
	'1|' . $receiver->url('/org') . '|204|t|t|t|t', 'delivery_attempts');
is_query($node, $db, "SELECT type, org_id, campaign_id, lead_id IS NOT NULL, call_id IS NOT NULL, url, state, attempts, http_status,
	error IS NULL, last_attempt_at >= created_at, delivered_at > last_attempt_at FROM osmtalk.deliveries WHERE event_id = '$event'",
	'campaign.lead_completed|acme|cmp_plain|t|t|' . $receiver->url('/org') . '|delivered|1|204|t|t|t', 'deliveries');
is_query($node, $db, "SELECT count(*) FROM osmtalk.outbox", '0', 'nothing stays in the outbox');
is_query($node, $db, "SELECT state, in_flight, pending, delivered, failed, last_error IS NULL, started_at < now() FROM osmtalk.worker_status",
	'running|0|0|1|0|t|t', 'worker_status');

# ---- whose URL, whose secret ----

sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/own/url') . "' WHERE id = 'cmp_plain'");
$request = request_of($receiver, event('cmp_plain'));
is($request->{path}, '/own/url', 'the campaign\'s URL');
ok($request->{verified}, 'signed with the organisation\'s secret where the campaign has none');

sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/campaign?a=1&b=%20') . "', webhook_secret = 'whsec_campaign' WHERE id = 'cmp_plain'");
$request = request_of($receiver, event('cmp_plain'));
is($request->{path}, '/campaign?a=1&b=%20', 'the query string arrives as written');
ok($request->{verified}, 'signed with the campaign\'s secret');

sql("UPDATE osmtalk.campaigns SET webhook_url = '' WHERE id = 'cmp_plain'");
$request = request_of($receiver, event('cmp_plain'));
is($request->{path}, '/org', 'an empty URL is none');
is($request->{headers}{'x-osmtalk-signature'}, 'sha256=' . hmac_sha256_hex(Encode::encode('UTF-8', $request->{body}), 'whsec_campaign'),
	'signed with the campaign\'s secret at the organisation\'s URL');

sql("UPDATE osmtalk.campaigns SET webhook_secret = '' WHERE id = 'cmp_plain';
	 UPDATE osmtalk.org_settings SET webhook_secret = ''");
$request = request_of($receiver, event('cmp_plain'));
ok(!exists $request->{headers}{'x-osmtalk-signature'}, 'no secret, no signature');
sql("UPDATE osmtalk.org_settings SET webhook_secret = 'whsec_org'");

# ---- the other events ----

sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/campaign') . "', webhook_secret = 'whsec_campaign'");
sql("SELECT test.finalise('cmp_analyst')");
is_query($node, $db, "SELECT count(*) FROM osmtalk.events WHERE campaign_id = 'cmp_analyst'", 0, 'no event before the analysis');
sql(q(UPDATE osmtalk.calls SET analysis = '{"success": true, "summary": "ok"}' WHERE agent_id = 'analyst'));
my ($lead_event, $analysis_event) = map { sql("SELECT id FROM osmtalk.events WHERE type = '$_' AND campaign_id = 'cmp_analyst'") }
  qw(campaign.lead_completed call.analysis_completed);
$request = request_of($receiver, $lead_event);
is($request->{path}, '/campaign', 'campaign.lead_completed goes to the campaign\'s URL');
is($request->{disposition}, 'qualified', 'with the analysis');
$request = request_of($receiver, $analysis_event);
is($request->{path}, '/org', 'call.analysis_completed goes to the organisation\'s URL');
is($request->{event}, 'call.analysis_completed', 'its type');
ok($request->{verified}, 'signed with the organisation\'s secret');
is($request->{body}, Encode::decode('UTF-8', sql("SELECT body FROM osmtalk.events WHERE id = '$analysis_event'")), 'body as stored');

setting($node, 'osmtalk.max_payload' => '4MB');
# a client library may announce a body of more than a megabyte with Expect
my $long = sql("INSERT INTO osmtalk.calls (org_id, agent_id, direction, transcript, analysis) SELECT 'acme', 'analyst', 'web',
	string_agg(md5(i::text) || E' \\u4e2d\n', ''), '{}' FROM generate_series(1, 80000) i RETURNING id");
$request = request_of($receiver, sql("SELECT id FROM osmtalk.events WHERE call_id = '$long'"));
cmp_ok($request->{bytes}, '>', 3_000_000, 'a body of three megabytes');
is($request->{sha256}, sql("SELECT encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM osmtalk.events WHERE call_id = '$long'"), 'byte by byte');
ok($request->{verified}, 'signed');
ok(!exists $request->{headers}{expect}, 'no Expect');
is($request->{headers}{'transfer-encoding'}, undef, 'nor in chunks');

$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is($request->{path}, '/org', 'webhook.test of the organisation');
like($request->{body}, qr/^\{"event":"webhook\.test","timestamp":"[^"]+","organization":\{"id":"acme"\},"campaign":null,"message":"[^"]+"\}$/, 'its body');
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme', 'cmp_plain')"));
is($request->{path}, '/campaign', 'webhook.test of the campaign');
ok($request->{verified}, 'signed as the campaign\'s events are');
like($request->{body}, qr/"campaign":\{"id":"cmp_plain","name":"Campaign of plain"\}/, 'names it');

# ---- what changes while an event is pending ----

setting($node, 'osmtalk.enabled' => 'off');
my $held = event('cmp_plain');
sql("SELECT test.finalise('cmp_analyst')");
my $orphan = sql("UPDATE osmtalk.calls SET analysis_error = 'no' WHERE decided_at IS NULL;
	SELECT id FROM osmtalk.events WHERE campaign_id = 'cmp_analyst' ORDER BY id DESC LIMIT 1");
is_query($node, $db, "SELECT state, pid IS NOT NULL FROM osmtalk.worker_status", 'disabled|t', 'paused: worker_status says so');
# more than a poll: the worker has looked, and left it alone
$node->poll_query_until($db, "SELECT now() - created_at > interval '1500 ms' FROM osmtalk.events WHERE id = '$held'");
is_query($node, $db, "SELECT state, attempts, url FROM osmtalk.deliveries WHERE event_id = '$held'",
	'pending|0|' . $receiver->url('/campaign'), 'paused: pending');
is(scalar($receiver->requests(eventId => $held)), 0, 'paused: nothing is sent');
is_query($node, $db, "SELECT osmtalk.wait_until_drained('100 ms')", 'f', 'wait_until_drained() gives up');

sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/sign/here') . "', webhook_secret = 'whsec_new' WHERE id = 'cmp_plain'");
sql("DELETE FROM osmtalk.calls WHERE lead_id IN (SELECT id FROM osmtalk.leads WHERE campaign_id = 'cmp_analyst');
	 DELETE FROM osmtalk.leads WHERE campaign_id = 'cmp_analyst';
	 DELETE FROM osmtalk.campaigns WHERE id = 'cmp_analyst'");
setting($node, 'osmtalk.enabled' => undef);
$request = request_of($receiver, $held);
is($request->{path}, '/sign/here', 'a changed URL applies to what is pending');
ok($request->{verified}, 'so does a changed secret');
$request = request_of($receiver, $orphan);
is($request->{path}, '/org', 'campaign deleted: the organisation\'s URL');
ok($request->{verified}, 'and its secret');
is_query($node, $db, "SELECT osmtalk.wait_until_drained()", 't', 'wait_until_drained()');

setting($node, 'osmtalk.enabled' => 'off');
my $nowhere = event('cmp_plain');
sql("UPDATE osmtalk.campaigns SET webhook_url = NULL; UPDATE osmtalk.org_settings SET default_webhook_url = NULL");
setting($node, 'osmtalk.enabled' => undef);
$node->poll_query_until($db, "SELECT state = 'failed' FROM osmtalk.deliveries WHERE event_id = '$nowhere'");
is_query($node, $db, "SELECT state, attempts, http_status IS NULL, error FROM osmtalk.deliveries WHERE event_id = '$nowhere'",
	'failed|1|t|not sent: there is no webhook URL any more', 'no URL is left: failed, and the error says so');

# ---- skipped, and sent again ----

my $skipped = event('cmp_plain');
is_query($node, $db, "SELECT state, attempts, error, url IS NULL FROM osmtalk.deliveries WHERE event_id = '$skipped'",
	'skipped|0|no webhook URL|t', 'no URL from the start: skipped');
is_query($node, $db, "SELECT count(*) FROM osmtalk.outbox", '0', 'and not enqueued');
sql("SELECT osmtalk.redeliver('$skipped')");
is_query($node, $db, "SELECT count(*) FROM osmtalk.outbox", '0', 'redeliver() without a URL: nothing');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/org') . "';
	 SELECT osmtalk.redeliver('$skipped')");
is(request_of($receiver, $skipped)->{path}, '/org', 'redeliver() once there is a URL: sent');
delivered($skipped);
is_query($node, $db, "SELECT state, attempts, http_status, error IS NULL FROM osmtalk.deliveries WHERE event_id = '$skipped'",
	'delivered|1|204|t', 'and delivered');

for my $times (2, 3)
{
	sql("SELECT osmtalk.redeliver('$nowhere')");
	ok(wait_for(sub { $receiver->requests(eventId => $nowhere) == $times - 1 }, 'the redelivery'), 'redelivered');
	sql("SELECT osmtalk.wait_until_drained()");
}
is_query($node, $db, "SELECT string_agg(concat_ws(' ', attempt, http_status), ', ' ORDER BY attempt) FROM osmtalk.delivery_attempts WHERE event_id = '$nowhere'",
	'1, 2 204, 3 204', 'attempt numbers continue');
is(scalar(keys %{ { map { $_->{sha256} => 1 } $receiver->requests(eventId => $nowhere) } }), 1, 'with the same bytes');
is_query($node, $db, "SELECT state, attempts, error IS NULL, delivered_at = (SELECT min(started_at + duration_ms * interval '1 ms')
	FROM osmtalk.delivery_attempts WHERE event_id = d.event_id AND attempt = 2) FROM osmtalk.deliveries d WHERE event_id = '$nowhere'",
	'delivered|3|t|t', 'delivered at the first 2xx');

setting($node, 'osmtalk.enabled' => 'off');
my $once = event('cmp_plain');
sql("SELECT osmtalk.redeliver('$once'), osmtalk.redeliver('$once')");
is_query($node, $db, "SELECT count(*) FROM osmtalk.outbox", '1', 'redeliver() of a pending event: nothing');
setting($node, 'osmtalk.enabled' => undef);
delivered($once);
is(scalar($receiver->requests(eventId => $once)), 1, 'it is sent once');

# ---- what is in flight when sending is switched off ----

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/slow/1000') . "'");
my $slow = event('cmp_plain');
request_of($receiver, $slow);
setting($node, 'osmtalk.enabled' => 'off');
ok(delivered($slow), 'what is in flight when sending is switched off is recorded');
setting($node, 'osmtalk.enabled' => undef);

# ---- by hand ----

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/org') . "'");
my ($later, $removed) = split /\n/, sql("INSERT INTO osmtalk.events (type, org_id, body)
	SELECT 'webhook.test', 'acme', '{}' FROM generate_series(1, 2) RETURNING id");
my $begun = now();
sql("INSERT INTO osmtalk.outbox (event_id, due_at) VALUES ('$later', now() + interval '1500 ms'), ('$removed', now() + interval '500 ms');
	DELETE FROM osmtalk.outbox WHERE event_id = '$removed'");
my $due = request_of($receiver, $later)->{arrivedAt} / 1000 - $begun;
ok($due > 1.4 && $due < 4, 'an event is sent when it is due') or diag $due;
my $ahead = sql("INSERT INTO osmtalk.events (type, org_id, body, created_at) VALUES ('webhook.test', 'acme', '{}', now() + interval '1 day') RETURNING id");
sql("INSERT INTO osmtalk.outbox (event_id, due_at) SELECT id, created_at FROM osmtalk.events WHERE id = '$ahead'");
ok(request_of($receiver, $ahead)->{seq}, 'one that was enqueued by a clock that was ahead does not wait for it');
is(scalar(my @none = $receiver->requests(eventId => $removed)), 0, 'one that was taken out of the outbox is not');
is(state_of($node, $db, $removed), 'failed|0||its outbox row was removed before it was sent', 'deliveries says why');

# ---- all in all ----

my %seen;
$seen{$_}++ for $receiver->event_ids;
delete $seen{$nowhere};
is_deeply([ grep { $seen{$_} > 1 } keys %seen ], [], 'no event came twice that was not asked for twice');
is_query($node, $db, "SELECT delivered, failed FROM osmtalk.worker_status", $receiver->count . '|1', 'worker_status counts them');

done_testing();
