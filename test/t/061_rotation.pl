# A secret is replaced while events wait, are in flight, or are repeated: each
# request is signed with the current one, a second later at the latest; what was
# replaced stays valid for the overlap, whatever happens to the server.

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex);
use Encode ();
use List::Util qw(max);
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new(bodies => 1);
my $holding = Osmtalk::Receiver->new(bodies => 1);
my $node = new_cluster('main', conf => "log_lock_waits = on\n");
expect_signals();
set_up($node, $db, url => $receiver->url, secret => 'the first of the organisation');

sub sql { return $node->safe_psql($db, join '', @_); }

my %names = ('the first of the organisation' => 'first');
sub rotate
{
	my ($name, $args) = @_;
	my $secret = sql("SELECT osmtalk.rotate_webhook_secret(" . ($args // "'acme'") . ")");

	like($secret, qr{^whsec_[A-Za-z0-9+/]{43}=$}, "$name: is made");
	ok(!exists $names{$secret}, '... and is new');
	return $names{$secret} = $name;
}

# The name of the secret that signed the request; OpenSSL takes no part in this.
sub signer
{
	my ($request) = @_;
	my $header = $request->{headers}{'x-osmtalk-signature'} // return 'nobody';
	my $body = Encode::encode_utf8($request->{body});
	my @signers = grep { $header eq 'sha256=' . hmac_sha256_hex($body, $_) } keys %names;

	return @signers == 1 ? $names{ $signers[0] } : 'somebody else';
}

sub valid
{
	my ($database) = @_;
	my ($current, @previous) = split /\n/, $node->safe_psql($database // $db, "SELECT unnest(secret || previous_secrets) FROM osmtalk.delivery_target('webhook.test', 'acme', NULL)");

	return join ' ', map { $names{$_} // 'unknown' } $current, @previous;
}

# ---- events that wait ----

setting($node, 'osmtalk.enabled' => 'off');
my $waiting = sql("SELECT osmtalk.send_test_event('acme')");
rotate('second');
setting($node, 'osmtalk.enabled' => undef);
is(signer(request_of($receiver, $waiting)), 'second', 'an event that waited is signed with the new one');
is(valid(), 'second first', '... and the other is valid still');

# ---- a backlog of an endpoint that is slow ----

# claimed ahead of its turn, that is
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/slow/100') . "' WHERE org_id = 'acme'");
sql("SELECT count(osmtalk.send_test_event('acme')) FROM generate_series(1, 1500)");
my $before = $receiver->count;
$receiver->wait_for_count($before + 200) or die;
my $began = now();
rotate('third');
my $committed = now();
ok(wait_for(sub { my @last = $receiver->requests; return signer($last[-1]) eq 'third' }, 'a request with the new signature'), 'a backlog: requests with the new signature come');
is(sql("SELECT osmtalk.wait_until_drained('60 s')"), 't', '... and the rest');
my @backlog = grep { $_->{path} =~ /slow/ } $receiver->requests;
is(scalar(@backlog), 1500, '... of all its events');
is_deeply([ sort keys %{ { map { signer($_) => 1 } @backlog } } ], [qw(second third)], '... each with the one or the other');
my @late = map { $_->{arrivedAt} / 1000 - $committed } grep { signer($_) eq 'second' } @backlog;
cmp_ok(max(@late), '<', 1.2, sprintf '... the last with the old one %.0f ms after the commit', 1000 * max(@late));
is(scalar(grep { signer($_) eq 'third' && $_->{arrivedAt} / 1000 < $began } @backlog), 0, '... none with the new one before');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "' WHERE org_id = 'acme'");

# ---- repetitions ----

rotate('fourth');
sql("SELECT osmtalk.redeliver('$waiting')");
is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'a redelivery');
is(join(' ', map { signer($_) } $receiver->requests(eventId => $waiting)), 'second fourth', '... is signed with the secret of then');

sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_held', 'acme', 'Held', '" . $holding->url('/hold') . "')");
my $held = sql("SELECT osmtalk.send_test_event('acme', 'cmp_held')");
is(signer(request_of($holding, $held)), 'fourth', 'one that is in flight when the worker dies');
rotate('fifth');
kill 'KILL', worker_pid($node, $db);
ok(wait_for(sub { my @r = $holding->requests(eventId => $held); return @r == 2 }, 'the second request'), '... is made again');
is(join(' ', map { signer($_) } $holding->requests(eventId => $held)), 'fourth fifth', '... with the secret of then');
$holding->let_go;
is(state_of($node, $db, $held), 'delivered|2|200|', '... and delivered');
$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;

# ---- one that cannot begin, for want of a descriptor ----

SKIP:
{
	skip 'no prlimit(1) here', 4 if system('prlimit --version >/dev/null 2>&1') != 0;
	# a worker without connections; then no more descriptors than it has, without a gap
	my $ended = worker_pid($node, $db);
	sql("SELECT pg_terminate_backend($ended, 5000)");
	$node->poll_query_until($db, "SELECT pid <> $ended AND state = 'running' FROM osmtalk.worker_status") or die;
	my $pid = worker_pid($node, $db);
	my ($limit) = `prlimit --pid $pid --nofile --output=SOFT --noheadings` =~ /(\d+)/;
	my %open = map { m{(\d+)$} ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
	my $most = 0;
	$most++ while $open{$most};
	system_or_bail('prlimit', '--pid', $pid, "--nofile=$most:");
	my $starved = sql("SELECT osmtalk.send_test_event('acme')");
	ok($node->poll_query_until($db, "SELECT state = 'in_flight' FROM osmtalk.deliveries WHERE event_id = '$starved'"), 'a request finds no descriptor');
	my $since = now();
	rotate('sixth');
	wait_for(sub { now() > $since + 2.5 }, 'it to be out of date');
	is(scalar(my @none = $receiver->requests(eventId => $starved)), 0, '... and is not made');
	system_or_bail('prlimit', '--pid', $pid, "--nofile=$limit:");
	is(signer(request_of($receiver, $starved)), 'sixth', '... and when there is one, it is signed with the secret of then');
	is(state_of($node, $db, $starved), 'delivered|1|204|', '... at the first attempt');
}

# ---- two at once ----

rotate('base', "'acme', overlap => '0'");
is(valid(), 'base', 'without overlap, no other is valid');
my $one = session($node, $db);
my $other = session($node, $db);
$one->query_safe('BEGIN');
my $first = $one->query_safe("SELECT osmtalk.rotate_webhook_secret('acme')");
$other->query_until(qr/asking/, "\\echo asking\nSELECT osmtalk.rotate_webhook_secret('acme') AS made \\gset\n");
ok($node->poll_query_until($db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%rotate_webhook_secret%'"), 'a second rotation waits for the first');
$one->query_safe('COMMIT');
my ($second) = $other->query_safe("SELECT :'made'") =~ /(whsec_\S+)/;
@names{ $first, $second } = ('of one', 'of the other');
is(valid(), 'of the other of one base', '... and keeps its secret, and the one before');
$one->quit;
$other->quit;
my $event = sql("SELECT osmtalk.send_test_event('acme')");
is(signer(request_of($receiver, $event)), 'of the other', '... the last signs');

# ---- restarts, dumps ----

$node->stop('immediate');
$node->start;
is(valid(), 'of the other of one base', 'after a crash the same are valid');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'pg_dump', '-Fc', '-f', "$PostgreSQL::Test::Utils::tmp_check/dump", $node->connstr($db) ], 'pg_dump');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), "$PostgreSQL::Test::Utils::tmp_check/dump" ], '... and pg_restore');
is(valid('copy'), 'of the other of one base', '... and the same are valid in the copy');

done_testing();
