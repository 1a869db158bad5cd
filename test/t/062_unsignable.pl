# A secret is there, and no signature can be made with it: the event is not sent
# without one, its record says why, and nobody else waits for it.

use strict;
use warnings;
use File::Temp ();
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file system_or_bail);
use Test::More;

my $db = 'postgres';
my $dir = File::Temp::tempdir('failing_hmac_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
my $failing = "$dir/failing";
my $receiver = Osmtalk::Receiver->new(secret => 'the secret of the others');
my $node = new_cluster('main', start => 0);

system_or_bail('gcc', '-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', "$dir/failing_hmac.so", "$ENV{SRC}/test/preload/failing_hmac.c", '-ldl');
{
	local %ENV = (%ENV, LD_PRELOAD => "$dir/failing_hmac.so", FAILING_HMAC => $failing);
	$node->start;
}
set_up($node, $db, url => $receiver->url, secret => 'the secret of the others');

sub sql { return $node->safe_psql($db, join '', @_); }

# ---- too long ----

# Those that compression makes short, those that it does not, and those so long
# that copies of it for each event would be the end of the worker.
my $too_long = 'failed|1||not sent: the webhook secret is longer than 8192 bytes';
my %cases = (
	"repeat('x', 8192)" => 'delivered|1|204|',
	"(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 256) i)" => 'delivered|1|204|',
	"repeat('x', 8193)" => $too_long,
	"(SELECT left(string_agg(md5(i::text), ''), 8193) FROM generate_series(1, 257) i)" => $too_long,
	"repeat('x', 200000000)" => $too_long);
my $receives_all = Osmtalk::Receiver->new(bodies => 1);
sql("SET client_min_messages = error; INSERT INTO osmtalk.org_settings VALUES ('long', '" . $receives_all->url . "')");
for my $secret (sort keys %cases)
{
	sql("SET client_min_messages = error; UPDATE osmtalk.org_settings SET webhook_secret = $secret WHERE org_id = 'long'");
	my $event = sql("SELECT osmtalk.send_test_event('long')");
	is(state_of($node, $db, $event), $cases{$secret}, "a secret that is $secret");
	my ($request) = $receives_all->requests(eventId => $event);
	if ($cases{$secret} eq $too_long)
	{
		is($request, undef, '... is not sent');
		next;
	}
	is(sql("SELECT osmtalk.verify_signature(e.body, s.webhook_secret, '$request->{headers}{'x-osmtalk-signature'}')
			  FROM osmtalk.events e JOIN osmtalk.org_settings s USING (org_id) WHERE e.id = '$event'"), 't', '... is signed with all of it');
}

# many at once, while others are served
my $log = -s $node->logfile;
sql("SELECT count(osmtalk.send_test_event('long')) FROM generate_series(1, 500)");
my @others = split /\n/, sql("SELECT osmtalk.send_test_event('acme') FROM generate_series(1, 20)");
is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'hundreds of events of that organisation end');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE '%longer than 8192 bytes'"), 503, '... all with that reason');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE org_id = 'acme' AND state = 'delivered'"), 20, '... those of the others are delivered');
is(scalar(grep { !$_->{verified} } $receiver->requests), 0, '... and signed');
unlike(log_since($node, $log), qr/out of memory|nothing is sent until/, '... and the worker has not noticed');

# ---- no HMAC ----

append_to_file($failing, '');
my $event = sql("SELECT osmtalk.send_test_event('acme')");
is(state_of($node, $db, $event), 'failed|1||the body could not be signed', 'the library computes no HMAC: the event fails');
is(scalar(my @none = $receiver->requests(eventId => $event)), 0, '... and is not sent');
sql("UPDATE osmtalk.org_settings SET webhook_secret = NULL, default_webhook_url = '" . $receives_all->url . "' WHERE org_id = 'long'");
my $unsigned = sql("SELECT osmtalk.send_test_event('long')");
is(state_of($node, $db, $unsigned), 'delivered|1|204|', '... one that is to have no signature is');
my ($status, $stdout, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\nSELECT osmtalk.signature('body', 'a canary of a secret')");
like($stderr, qr/^psql:.*ERROR:  XX000: could not compute an HMAC-SHA256$/m, '... signature() fails');
unlike($stderr =~ s/^LINE.*//mr, qr/canary/, '... without saying for what');
is(sql("SELECT osmtalk.verify_signature('body', 'secret', osmtalk_signature) FROM (VALUES ('sha256=' || repeat('0', 64)), ('sha256='), ('')) h (osmtalk_signature)"), "f\nf\nf", '... and nothing verifies');

unlink $failing or die;
sql("SELECT osmtalk.redeliver('$event')");
ok(request_of($receiver, $event)->{verified}, 'once it does again, it is redelivered, with its signature');

done_testing();
