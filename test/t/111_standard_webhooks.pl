# Standard Webhooks: what a worker sends is what others' verifiers accept, those
# of npm and the one in SQL, during a rotation with each secret that is valid;
# where it cannot be signed so, none of its headers is there.

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256);
use Encode ();
use File::Temp ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64 encode_base64);
use Osmtalk::Canary;
use Osmtalk::Extras;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file system_or_bail);
use Test::More;

my $db = 'postgres';
my $dir = File::Temp::tempdir('failing_hmac_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
my $failing = "$dir/failing";
my $receiver = Osmtalk::Receiver->new(bodies => 1);
my $node = new_cluster('main', start => 0, conf => "osmtalk.request_timeout = 2s\n");

system_or_bail('gcc', '-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', "$dir/failing_hmac.so", "$ENV{SRC}/test/preload/failing_hmac.c", '-ldl');
{
	local %ENV = (%ENV, LD_PRELOAD => "$dir/failing_hmac.so", FAILING_HMAC => $failing);
	$node->start;
}
set_up($node, $db, url => $receiver->url);

sub sql { return $node->safe_psql($db, join '', @_); }
sub rotate { return sql("SELECT osmtalk.rotate_webhook_secret($_[0])"); }

# What is there of the standard's headers: "id timestamp signatures".
sub standard_of
{
	my ($request) = @_;
	my %headers = %{ $request->{headers} };

	return join ' ', map { defined $headers{"webhook-$_"} ? ($_) : () } qw(id timestamp signature);
}

sub signature_by
{
	my ($request, $secret) = @_;
	my ($key) = $secret =~ /^whsec_(.*)/;
	my %headers = %{ $request->{headers} };
	my $content = join '.', $headers{'webhook-id'}, $headers{'webhook-timestamp'}, Encode::encode_utf8($request->{body});

	return 'v1,' . encode_base64(hmac_sha256($content, decode_base64($key)), '');
}

my %secrets = (first => rotate("'acme'"));

# ---- off, as it is by default ----

my $request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is(standard_of($request), '', 'by default there are none of its headers');
my $classic = $request->{headers}{'x-osmtalk-signature'};
ok($classic, '... and the one that there always is');

# ---- on ----

setting($node, 'osmtalk.standard_webhooks_headers' => 'on');
my $before = int now();
my $event = sql("SELECT osmtalk.send_test_event('acme')");
$request = request_of($receiver, $event);
is(standard_of($request), 'id timestamp signature', 'from the reload on they are there');
is($request->{headers}{'webhook-id'}, $event, '... the id is the event\'s');
like($request->{headers}{'webhook-timestamp'}, qr/^\d+$/, '... the timestamp is in whole seconds');
cmp_ok($request->{headers}{'webhook-timestamp'}, '>=', $before, '... of the attempt');
cmp_ok($request->{headers}{'webhook-timestamp'}, '<=', now(), '... neither earlier nor later');
is($request->{headers}{'webhook-signature'}, signature_by($request, $secrets{first}), '... the signature as Digest::SHA makes it, and no other');
like($request->{headers}{'x-osmtalk-signature'}, qr/^sha256=[0-9a-f]{64}$/, '... beside the classic one');

# ---- a run, with a rotation in the middle of it ----

my $failures = Osmtalk::Receiver->new(bodies => 1);
sql("UPDATE osmtalk.org_settings SET webhook_events = osmtalk.event_types();
	 INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_failing', 'acme', E'Failing \\u4e2d', '" . $failures->url('/status/500') . "'), ('cmp_own', 'acme', 'Own', NULL)");
$secrets{own} = rotate("'acme', 'cmp_own'");
sub events
{
	sql("SELECT test.finalise('cmp_plain', 30), test.finalise('cmp_analyst', 10), test.finalise('cmp_failing', 5), test.finalise('cmp_own', 5);
		 UPDATE osmtalk.calls SET analysis = '{\"success\": true, \"summary\": \"J\x{c3}\x{b6}rg \xf0\x9f\x94\xa5\"}' WHERE agent_id = 'analyst' AND analysis IS NULL;
		 SELECT count(osmtalk.send_test_event('acme', id)) FROM osmtalk.campaigns;
		 SELECT osmtalk.wait_until_drained('60 s')");
	return;
}
events();
my $rotated_at = now();
$secrets{second} = rotate("'acme'");
events();
sql("SELECT count(osmtalk.redeliver(event_id)) FROM osmtalk.deliveries WHERE state = 'failed' OR type = 'webhook.test'; SELECT osmtalk.wait_until_drained('60 s')");
my @all = ($receiver->requests, $failures->requests);
cmp_ok(scalar(@all), '>', 200, scalar(@all) . ' requests came');
my @signed = grep { standard_of($_) ne '' } @all;
is(scalar(@signed), @all - 1, '... all of them with the headers, but for the one before');
is(scalar(grep { $_->{headers}{'webhook-id'} ne $_->{headers}{'x-osmtalk-event-id'} } @signed), 0, '... whose ids are the events\'');

# who can verify which: those signed before the rotation, and after it
sub expected
{
	my ($request) = @_;
	my $own = $request->{body} =~ /"id":"cmp_own"/ && $request->{event} !~ /^call/;
	my $count = () = $request->{headers}{'webhook-signature'} =~ /v1,/g;

	# the campaign's first secret took the place of the organisation's
	return 'first own' if $own;
	return $count == 2 ? 'first second' : 'first';
}
is_deeply([ sort keys %{ { map { expected($_) => 1 } @signed } } ], [ 'first', 'first own', 'first second' ], 'there are those of one secret, and of two');
is(scalar(grep { expected($_) eq 'first' && $_->{arrivedAt} / 1000 > $rotated_at + 2 } @signed), 0, '... of two from the rotation on');

SKIP:
{
	my $missing = Osmtalk::Extras::missing('npm');
	skip $missing, 6 if $missing ne '';
	my $npm = Osmtalk::Extras::npm_directory();
	my $log = "$PostgreSQL::Test::Utils::tmp_check/requests.jsonl";

	system_or_bail('cp', "$ENV{SRC}/test/npm/verify.mjs", $npm);
	append_to_file($log, JSON::PP->new->utf8->encode($_) . "\n") for @signed;
	my $json = JSON::PP::encode_json({ %secrets, stranger => 'whsec_' . encode_base64('a key of thirty-two other bytes.', '') });
	my $said = `cd "$npm" && node verify.mjs "$log" '$json'`;
	is($?, 0, 'the verifiers of npm run');
	my @verdicts = @{ JSON::PP::decode_json($said) };
	is(scalar(@verdicts), scalar(@signed), '... over every request');
	for my $library (qw(standardwebhooks svix))
	{
		my @wrong = grep { $verdicts[$_]{accepted}{$library} ne expected($signed[$_]) } 0 .. $#signed;
		is(scalar(@wrong), 0, "$library " . Osmtalk::Extras::npm_version($library) . ': accepts each with each secret that was valid then, and no other') or diag explain [ map { [ $verdicts[$_], expected($signed[$_]) ] } @wrong[ 0 .. ($#wrong > 2 ? 2 : $#wrong) ] ];
	}
	my @wrong = grep { $_->{accepted}{octokit} !~ /^(?:first|second|own)$/ } @verdicts;
	is(scalar(@wrong), 0, '@octokit/webhooks-methods ' . Osmtalk::Extras::npm_version('@octokit/webhooks-methods') . ': accepts each, with one secret') or diag explain $wrong[0];
	is_deeply([ map { @{ $_->{wrongly} } } @verdicts ], [], 'none accepts another byte, another time, another id, a replay, another request\'s signature');
}

# the one in SQL, of the same requests
my $values = join ', ', map {
	my $headers = JSON::PP->new->encode($_->{headers});
	sprintf '($b$%s$b$, $h$%s$h$::jsonb, %s)', Encode::encode_utf8($_->{body}), Encode::encode_utf8($headers), "'" . expected($_) . "'"
} @signed;
sql("CREATE TABLE test.received (body text, headers jsonb, valid text); INSERT INTO test.received VALUES $values; CREATE TABLE test.secrets (name text, secret text); INSERT INTO test.secrets VALUES " . join(', ', map { "('$_', '$secrets{$_}')" } keys %secrets));
is(sql("SELECT count(*), count(*) FILTER (WHERE v IS DISTINCT FROM valid) FROM test.received r, LATERAL (SELECT string_agg(s.name, ' ' ORDER BY s.name) FROM test.secrets s WHERE osmtalk.verify_standard_webhook(r.body, r.headers, s.secret)) v (v)"), @signed . '|0', 'verify_standard_webhook() says the same');
is(sql("SELECT count(*) FROM test.received r, test.secrets s WHERE osmtalk.verify_standard_webhook(r.body || ' ', r.headers, s.secret) OR osmtalk.verify_standard_webhook(r.body, r.headers, s.secret, '-1 s') OR osmtalk.verify_standard_webhook(r.body, r.headers - 'webhook-id', s.secret)"), '0', '... and accepts nothing else');

# an attempt that is repeated has a time of its own, and the same id
my ($retried) = grep { my $id = $_->{eventId}; 2 == grep { $_->{eventId} eq $id } @signed } $failures->requests;
my @times = map { $_->{headers}{'webhook-timestamp'} } $failures->requests(eventId => $retried->{eventId});
is(scalar(@times), 2, 'a request that is repeated');
cmp_ok($times[1], '>=', $times[0], '... has the time of the repetition');

# ---- the overlap ends ----

$secrets{third} = rotate("'acme', overlap => '0'");
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is($request->{headers}{'webhook-signature'}, signature_by($request, $secrets{third}), 'without overlap there is one signature');
rotate("'acme'") for 1 .. 5;
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is(scalar(my @four = $request->{headers}{'webhook-signature'} =~ /v1,/g), 4, 'at most four');
cmp_ok(length $request->{headers}{'webhook-signature'}, '==', 4 * 48 - 1, '... separated by a space each');

# ---- where it cannot be signed so ----

sub secret_is { return sql("SET client_min_messages = error; DELETE FROM osmtalk.previous_secrets; UPDATE osmtalk.org_settings SET webhook_secret = $_[0] WHERE org_id = 'acme'"); }
for my $case ([ "'whsec_only_an_example'", 'one that is no base64' ], [ "'a secret of another form'", 'one without the prefix' ], [ "repeat('x', 8192)", 'a long one' ])
{
	secret_is($case->[0]);
	is(sql("SELECT org_id, campaign_id FROM osmtalk.secret_problems() WHERE problem = 'not standard' AND campaign_id IS NULL"), 'acme|', "$case->[1]: can be told, without being shown");
	like(sql("SELECT message FROM osmtalk.health() WHERE check_name = 'secrets'"), qr/[1-9] not of the form of Standard Webhooks/, '... by health(), too');
	$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
	is(standard_of($request), '', '... and none of the three headers is sent');
	is(sql("SELECT osmtalk.verify_signature(\$b\$$request->{body}\$b\$, webhook_secret, '$request->{headers}{'x-osmtalk-signature'}') FROM osmtalk.org_settings"), 't', '... and the classic signature is');
}
secret_is('NULL');
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is(join(' ', grep { /webhook|signature/ } sort keys %{ $request->{headers} }), '', 'no secret: neither');
# the current one has the form, and of those before one has not
sql("SET client_min_messages = error; UPDATE osmtalk.org_settings SET webhook_secret = 'by hand, of another form' WHERE org_id = 'acme'");
$secrets{fourth} = rotate("'acme'");
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is($request->{headers}{'webhook-signature'}, signature_by($request, $secrets{fourth}), 'a replaced one of another form has no signature');
sql("SET client_min_messages = error; UPDATE osmtalk.org_settings SET webhook_secret = 'by hand, of another form' WHERE org_id = 'acme'");
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is(standard_of($request), '', 'nor has a current one of another form those of the one before');
$secrets{fifth} = rotate("'acme'");

# an id that an application has made up
sql("INSERT INTO osmtalk.events (id, type, org_id, body) VALUES ('evt.1', 'webhook.test', 'acme', '{}'); SELECT osmtalk.redeliver('evt.1')");
$request = request_of($receiver, 'evt.1');
is(standard_of($request), '', 'an id with a full stop could be read as another: none of the headers');
ok($request->{headers}{'x-osmtalk-signature'}, '... and the classic signature is there');

# ---- no HMAC ----

append_to_file($failing, '');
$event = sql("SELECT osmtalk.send_test_event('acme')");
is(state_of($node, $db, $event), 'failed|1||the body could not be signed', 'the library computes no HMAC: the event fails');
is(scalar(my @none = $receiver->requests(eventId => $event)), 0, '... and is not sent');
is(sql("SELECT bool_or(osmtalk.verify_standard_webhook(r.body, r.headers, s.secret)) FROM test.received r, test.secrets s"), 'f', '... and nothing verifies');
unlink $failing or die;
sql("SELECT osmtalk.redeliver('$event')");
$request = request_of($receiver, $event);
is(scalar(grep { $_ eq signature_by($request, $secrets{fifth}) } split / /, $request->{headers}{'webhook-signature'}), 1, 'once it does again, it is redelivered, with its signatures');

# ---- off again; and what is left of the secrets ----

SKIP:
{
	sql("SELECT count(osmtalk.send_test_event('acme')) FROM generate_series(1, 500); SELECT osmtalk.wait_until_drained()");
	my $found = Osmtalk::Canary->new(map { ($_ => $secrets{$_} =~ s/^whsec_//r) } qw(fourth fifth))->in_memory(worker_pid($node, $db)) // skip 'the memory of another process cannot be read here', 1;

	is_deeply($found, {}, 'neither secrets nor keys are in the memory of the worker that has signed with them');
}
setting($node, 'osmtalk.standard_webhooks_headers' => undef);
$request = request_of($receiver, sql("SELECT osmtalk.send_test_event('acme')"));
is(standard_of($request), '', 'off again: none');
my @keys = grep { !/^webhook-/ } sort keys %{ $request->{headers} };
is_deeply(\@keys, [qw(accept content-length content-type host user-agent x-osmtalk-event-id x-osmtalk-signature)], '... and nothing else has changed');

done_testing();
