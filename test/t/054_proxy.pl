# An egress proxy of the operator's: all requests go through it, encrypted from
# end to end, and it decides where they may go.

use strict;
use warnings;
use File::Temp ();
use JSON::PP ();
use Osmtalk::Nginx;
use Osmtalk::Process;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Osmtalk::TlsServer;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my $db = 'postgres';
my $log = "$PostgreSQL::Test::Utils::log_path/proxy.jsonl";
my $out = "$PostgreSQL::Test::Utils::log_path/proxy.out";
my $refused = q(failed|1||not sent: this target is not allowed; the server's log says why);
my $plain = Osmtalk::Receiver->new;
my $servers = Osmtalk::TlsServer->new(File::Temp::tempdir('tls_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check));
my $process = Osmtalk::Process->start([ 'node', "$ENV{SRC}/test/receiver/proxy.mjs", $log ], output => $out);
wait_for(sub { slurp_file($out) =~ /"port":(\d+)/ }, 'the proxy') or die;
my ($port) = slurp_file($out) =~ /"port":(\d+)/;
my $proxy = "http://127.0.0.1:$port";

my $node = new_cluster('main', start => 0, conf => <<"END");
osmtalk.request_timeout = 2s
osmtalk.trusted_networks = ''
osmtalk.ca_file = '${ \($servers->ca_file) }'
osmtalk.proxy = '$proxy'
END
{
	# this would have no proxy asked
	local %ENV = (%ENV, no_proxy => '*', NO_PROXY => '*');
	$node->start;
}
set_up($node, $db);

sub sql { return $node->safe_psql($db, join '', @_); }

sub result_of
{
	my ($url) = @_;

	return state_of($node, $db, sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$url'; SELECT osmtalk.send_test_event('acme')"));
}

# What the proxy has been asked for, since the last time.
my $seen = 0;
sub asked
{
	my @lines = -e $log ? split /\n/, slurp_file($log) : ();
	my @new = @lines[ $seen .. $#lines ];

	$seen = @lines;
	return map { JSON::PP::decode_json($_) } @new;
}

sub targets { return join ' ', map { "$_->{method} $_->{target}" } asked(); }

# ---- https ----

my $good = $servers->url('good');
my ($authority) = $good =~ m{//([^/]*)};
is(result_of($good), 'delivered|1|204|', 'https through the proxy, to an address that is not public');
my @first = asked();
is(join(' ', map { "$_->{method} $_->{target}" } @first), "CONNECT $authority", 'which is asked for a connection');
is_deeply([ grep { !/^(Host|User-Agent|Proxy-Connection):/ } @{ $first[0]{headers} } ], [], 'and learns nothing of the event');
is(($servers->requests('good'))[0]{path}, '/good', 'the receiver gets the request itself');
like(result_of($servers->url('wrong_host')), qr/^failed\|1\|\|SSL .*certificate/, 'certificates are verified, behind the proxy too');
like(result_of($servers->url('tls_1_1')), qr/^failed\|1\|\|SSL/, 'and versions');
is(scalar(my @none = $servers->requests('wrong_host')), 0, 'so that nothing is sent');
asked();
# together: one that has been idle for a while is not used again
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$good'; SELECT osmtalk.send_test_event('acme') FROM generate_series(1, 100)");
is(sql('SELECT osmtalk.wait_until_drained()'), 't', 'a hundred events');
cmp_ok(scalar(my @connections = asked()), '<', 100, 'connections are used again');

# ---- plain http ----

my $name = 'http://crm.test:' . $plain->port . '/';
is(result_of($name), $refused, 'plain http, while https is required: nobody knows the address');
like(log_since($node), qr/DETAIL:  The address of the target may be called with https alone/, 'says the log');
is(targets(), '', 'the proxy is not asked');
setting($node, 'osmtalk.require_https' => 'off');
is(result_of($name), 'delivered|1|204|', 'when it is not required: through the proxy, which resolves the name');
is(targets(), 'CONNECT crm.test:' . $plain->port, 'as a connection, too');
is(($plain->requests)[-1]{headers}{host}, 'crm.test:' . $plain->port, 'the request itself is as ever');
is(result_of('http://chatty.test:' . $plain->port . '/'), 'delivered|1|204|', 'what the proxy says besides is ignored');

# ---- what the proxy refuses, and what it cannot do ----

is(result_of('https://denied.test/'), $refused, 'a refusal of the proxy is like one of osmtalk');
like(log_since($node), qr/DETAIL:  The proxy answered CONNECT with status 403\./, 'the log says what it answered');
is(result_of('https://auth.test/'), $refused, 'so is a demand for a password');
like(result_of('https://down.test/'), qr/^failed\|1\|\|Could(n't| not) connect to server$/i, 'a target that it cannot reach is like one that cannot be reached');
like(result_of('https://hang.test/'), qr/^failed\|1\|\|timed out after 2000 ms$/, 'one for which it does not answer');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE to_jsonb(delivery_attempts)::text LIKE '%10.0.0.1%'"), '0', 'what it says of the network is nowhere to be read');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE 'not sent%' AND (duration_ms <> 0 OR http_status IS NOT NULL OR response_body IS NOT NULL)"), '0', 'nor between the lines');

# ---- with and without: a connection made in one way is not used in the other ----

asked();
is(result_of($name), 'delivered|1|204|', 'by the proxy');
setting($node, 'osmtalk.proxy' => '', 'osmtalk.trusted_networks' => '127.0.0.0/8');
like(result_of($name), qr/^failed\|1\|\|Could(n't| not) resolve/i, 'without it the name is not known');
is(result_of($plain->url), 'delivered|1|204|', 'and an address is called by itself');
asked();
setting($node, 'osmtalk.proxy' => $proxy);
is(result_of($plain->url), 'delivered|1|204|', 'with the proxy again');
is(targets(), 'CONNECT 127.0.0.1:' . $plain->port, 'it is asked, whatever is trusted');
setting($node, 'osmtalk.proxy' => 'http://127.0.0.1:' . Osmtalk::Nginx::free_port() . '/');
like(result_of($plain->url), qr/^failed\|1\|\|Could(n't| not) connect to server$/i, 'a proxy that is not there: nothing goes past it');
setting($node, 'osmtalk.proxy' => $proxy);

# ---- what is a proxy ----

for my $bad ('127.0.0.1:3128', 'https://proxy:3128', 'socks5://proxy:1080', 'http://proxy', 'http://user:hunter2@proxy:3128', 'http://hunter2@proxy:3128/', 'http://proxy:3128/path', 'http://proxy:0')
{
	my ($status, $stdout, $stderr) = $node->psql('postgres', "ALTER SYSTEM SET osmtalk.proxy = '$bad'");

	like($stderr, qr/ERROR:  invalid value for parameter "osmtalk\.proxy"\n.*DETAIL:  A proxy is http:\/\/host:port, without user/, "refused: $bad");
	unlike($stderr, qr/hunter2/, '... and not repeated');
}
my $from = -s $node->logfile;
append_to_file($node->data_dir . '/postgresql.auto.conf', "osmtalk.proxy = 'http://user:hunter2\@proxy:3128'\n");
$node->reload;
wait_for(sub { log_since($node, $from) =~ /invalid value for parameter "osmtalk\.proxy"/ }, 'the complaint') or fail('a bad proxy in the file is complained of');
unlike(log_since($node, $from), qr/hunter2/, 'a password in the file does not get into the log');
is(sql('SHOW osmtalk.proxy'), $proxy, 'nor into the setting');

done_testing();
