# The receivers of doc/recipes in Node.js, Python and Go: each takes what osmtalk
# sends, refuses what is not genuine, answers before it works, and loses and
# repeats nothing.

use strict;
use warnings;
use Osmtalk::Extras;
use Osmtalk::Recipe;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $node = new_cluster('main');
set_up($node, $db);

sub sql { return $node->safe_psql($db, join '', @_); }

my $receiver;    # the one that is tested
my $bodies;      # how many were made for it

# A body of our own, no two the same.
sub body
{
	my ($message) = @_;

	return sprintf '{"event":"webhook.test","message":"%s %d"}', $message // 'x', ++$bodies;
}

# What has been handled, once it is so many.
sub handled
{
	my ($n) = @_;

	wait_for(sub { $receiver->handled >= $n }, "$n handled events");
	return [ $receiver->handled ];
}

sub takes_what_osmtalk_sends
{
	sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "', webhook_secret = '$Osmtalk::Recipe::secret'");
	my $call = sql("SELECT test.place('cmp_analyst')");
	my @events = map { sql($_) } "SELECT test.event('cmp_plain')", "SELECT osmtalk.send_test_event('acme')",
	  "UPDATE osmtalk.calls SET analysis = '{\"success\": true}' WHERE id = '$call'; SELECT id FROM osmtalk.events WHERE call_id = '$call'";
	is(state_of($node, $db, $_), 'delivered|1|204|', "delivered: $_") for @events;
	my @expected = map { sql("SELECT type || ' ' || coalesce(call_id, body::jsonb->>'message') FROM osmtalk.events WHERE id = '$_'") } @events;
	is_deeply([ sort @{ handled(3) } ], [ sort @expected ], 'and handled');

	sql("SELECT osmtalk.redeliver('$events[0]')");
	wait_for(sub { sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE event_id = '$events[0]' AND http_status = 204") == 2 }, 'a repetition');
	sql("UPDATE osmtalk.org_settings SET webhook_secret = 'whsec_of_somebody_else_0123456789'");
	is(state_of($node, $db, sql("SELECT osmtalk.send_test_event('acme')")), 'failed|1|401|HTTP 401', 'signed with another secret: refused');
	sql("UPDATE osmtalk.org_settings SET webhook_secret = '$Osmtalk::Recipe::old_secret'");
	is(state_of($node, $db, sql("SELECT osmtalk.send_test_event('acme')")), 'delivered|1|204|', 'with the old one: taken');
	is(scalar(@{ handled(4) }), 4, 'what came twice is handled once');
	return;
}

sub refuses_what_is_not_genuine
{
	my ($kind, $one) = @_;
	my $good = Osmtalk::Recipe::signature($one);
	my @refused = (
		[ 401, 'another byte', body(), 'X-OsmTalk-Signature' => $good ],
		[ 401, 'no signature', $one, 'X-OsmTalk-Signature' => undef ],
		(map { [ 401, "signature '$_'", $one, 'X-OsmTalk-Signature' => $_ ] }
			'', 'sha256', 'sha256=', '=', substr($good, 7), substr($good, 0, -1), substr($good, 0, -2), $good =~ s/sha256/sha1/r,
			'sha256=' . (substr($good, 7) =~ tr/0-9a-f/1-9a-f0/r), "sha256=$good", 'sha256=' . 'z' x 64, 'sha256=' . "\xe4" x 64),
		[ 401, 'the empty secret', $one, 'X-OsmTalk-Signature' => Osmtalk::Recipe::signature($one, '') ],
	);
	for (@refused)
	{
		my ($status, $name, @request) = @$_;
		is($receiver->post(@request), $status, $name);
	}
	is($receiver->post($one), 204, 'a good one, after all these');
	is($receiver->post($one), 204, 'again');
	is($receiver->post($one, 'X-OsmTalk-Event-Id' => 'evt_another'), 204, 'and under another id');
	is($receiver->post("\xff\x00{", 'X-OsmTalk-Signature' => Osmtalk::Recipe::signature("\xff\x00")), 401, 'bytes that are no text');

	my $stored = $receiver->stored;
	my $large = 'x' x (1024 * 1024 + 1);
	is($receiver->post(body('y' x 1_000_000)), 204, 'a large one');
	is($receiver->answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n" . ($kind eq 'go-receiver' ? $large : '')),
		413, 'one that is too large');
	like($receiver->answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"), qr/^(413|400)$/, 'larger than a number');
	like($receiver->answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"), qr/^(413|400|411)$/, 'smaller than nothing');
	like($receiver->answer_to("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" . "10000\r\n" . 'x' x 65536 . "\r\n" . ("10000\r\n" . 'x' x 65536 . "\r\n") x 16), qr/^(411|413|closed)$/, 'one of unknown length');
	like($receiver->answer_to("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), qr/^(405|501)$/, 'another method');
	is($receiver->stored, $stored + 1, 'nothing but what is genuine is stored');
	is((stat "$receiver->{dir}/spool")[2] & 077, 0, 'nobody else can read it');
	is(scalar(@{ handled(6) }), 6, 'nor handled');

	# a client that sends slowly keeps nobody waiting
	my @slow = map { my $socket = $receiver->connection; print $socket "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"; $socket->flush; $socket } 1 .. 20;
	is($receiver->post(body()), 204, 'while others have not finished their requests');
	close $_ for @slow;
	handled(7);
	return;
}

# Work that takes long, fails, or is interrupted.
sub loses_and_repeats_nothing
{
	my ($one) = @_;

	$receiver->switch_on('hold');
	is($receiver->post(body('held')), 204, 'it answers before it works');
	is($receiver->post(body('waiting')), 204, 'and while it does');
	wait_for(sub { $receiver->begun >= 8 }, 'the handler to begin');
	$receiver->stop('KILL');
	is(scalar($receiver->handled), 7, 'it is killed in the middle of its work');
	$receiver->switch_off('hold');
	$receiver->start;
	like(join("\n", @{ handled(9) }), qr/held.*\n.*waiting|waiting.*\n.*held/, 'a restart does what was left undone');

	$receiver->switch_on('fail');
	my $failing = body('failing');
	my $before = $receiver->begun;
	is($receiver->post($failing), 204, 'the handler fails');
	wait_for(sub { $receiver->begun >= $before + 2 }, 'another try') or fail('it is tried again');
	is($receiver->post($failing), 204, 'it comes again meanwhile');
	$receiver->switch_off('fail');
	like((@{ handled(10) })[-1], qr/failing/, 'until it does not');

	# what is marked as done stays done
	$receiver->wait_until_done;
	$receiver->stop;
	$receiver->start;
	is($receiver->post($one), 204, 'one from before the restart');
	is($receiver->post(body('last')), 204, 'and a new one');
	handled(11);
	is_deeply([ map { s/.* //r } ($receiver->handled)[ 10 .. $receiver->handled - 1 ] ], [$bodies], 'only the new one is handled');
	is(scalar(glob "$receiver->{dir}/spool/*.part"), undef, 'nothing is left of half a file');
	return;
}

sub check
{
	my ($kind) = @_;

	$receiver = Osmtalk::Recipe->new($kind, handler => 1);
	$bodies = 0;
	my $one = body();
	takes_what_osmtalk_sends();
	refuses_what_is_not_genuine($kind, $one);
	loses_and_repeats_nothing($one);
	unlike($receiver->log, qr/whsec_/, 'the log has no secret');
	$receiver->stop;
	return;
}

for my $kind (qw(node-receiver python-receiver go-receiver))
{
	my $missing = $kind eq 'go-receiver' ? Osmtalk::Extras::missing('go') : '';

	subtest $kind => sub { $missing ne '' ? plan(skip_all => $missing) : (check($kind), done_testing()) };
}

done_testing();
