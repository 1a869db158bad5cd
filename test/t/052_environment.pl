# The server's environment is somebody else's, and what receivers want to be
# remembered is theirs: neither has a say in where requests go, what they carry,
# whom they trust, or who can read them.

use strict;
use warnings;
use File::Temp ();
use Osmtalk::Accepts;
use Osmtalk::Nginx;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;

my $db = 'postgres';
my $home = File::Temp::tempdir('home_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
my $proxy_port = Osmtalk::Nginx::free_port();
my $proxy = Osmtalk::Accepts->new($proxy_port, '127.0.0.1');
my $tls = Osmtalk::Nginx->new(tls => 1);
my $plain = Osmtalk::Receiver->new;
my $keys = "$home/keys";

append_to_file("$home/.netrc", "machine 127.0.0.1 login user password secret\ndefault login user password secret\n");
append_to_file("$home/.curlrc", "proxy = http://127.0.0.1:$proxy_port\ninsecure\n");
append_to_file("$home/hsts", "127.0.0.1 \"20991231 23:59:59\"\nlocalhost \"20991231 23:59:59\"\n");
append_to_file("$home/aliases", "localhost 127.0.0.3\n");
my %environment = (
	HOME => $home, CURL_HOME => $home, XDG_CONFIG_HOME => $home, NETRC => "$home/.netrc", CURL_HSTS => "$home/hsts",
	CURL_CA_BUNDLE => $tls->ca_file, SSL_CERT_FILE => $tls->ca_file, SSL_CERT_DIR => $home, REQUESTS_CA_BUNDLE => $tls->ca_file,
	SSLKEYLOGFILE => $keys, CURL_SSL_BACKEND => 'gnutls', COOKIE_FILE => "$home/cookies", HOSTALIASES => "$home/aliases",
	no_proxy => '', NO_PROXY => '',
	map { ($_ => "http://127.0.0.1:$proxy_port", lc $_ => "http://127.0.0.1:$proxy_port") } qw(HTTP_PROXY HTTPS_PROXY ALL_PROXY PRE_PROXY SOCKS_PROXY));

my $node = new_cluster('main', start => 0, conf => "osmtalk.request_timeout = 5s\n");
{
	local %ENV = (%ENV, %environment);
	$node->start;
}
set_up($node, $db);

sub sql { return $node->safe_psql($db, join '', @_); }

# What becomes of an event to a URL.
sub result_of
{
	my ($url) = @_;

	return state_of($node, $db, sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$url'; SELECT osmtalk.send_test_event('acme')"));
}

my $pid = worker_pid($node, $db);
is(sql(q(CREATE TEMPORARY TABLE environment (line text); COPY environment FROM PROGRAM 'env' (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02');
	SELECT count(*) FROM environment WHERE line ~ '^(HTTPS_PROXY|all_proxy|SSL_CERT_FILE|SSLKEYLOGFILE|NETRC)=')), '5', 'the server has that environment');

# ---- whom it trusts, and who can read it ----

like(result_of($tls->url), qr/^failed\|1\|\|SSL/, 'an authority that the environment names is not trusted');
setting($node, 'osmtalk.ca_file' => $tls->ca_file);
is(result_of($tls->url), 'delivered|1|204|', 'one that the setting names is');
ok(!-e $keys, 'the keys of connections are written to no file');

# ---- where requests go, and what they carry ----

is(result_of($plain->url("/sticky")), 'delivered|1|200|', 'a receiver that wants much to be remembered');
is(result_of($plain->url("/sticky/again?$_")), 'delivered|1|200|', 'and again') for 1 .. 3;
like(result_of("http://localhost:" . $plain->port . '/by-name'), qr/^delivered\|1\|204\|$/, 'plain http, to a host that a list wants to have https');
is(result_of($plain->url('/status/401')), 'failed|1|401|HTTP 401', 'credentials are wanted');
is(result_of($plain->url('/status/407')), 'failed|1|407|HTTP 407', 'those of a proxy are wanted');
like(result_of($plain->url('/redirect')), qr/^failed\|1\|302\|/, 'a redirect');
is($proxy->count, 0, 'no proxy of the environment was asked');
my @requests = $plain->requests;
is(scalar(@requests), 8, 'each event is one request');
my %wanted = map { $_ => 1 } qw(host accept content-type content-length user-agent x-osmtalk-event-id);
is_deeply([ grep { !$wanted{$_} } map { keys %{ $_->{headers} } } @requests ], [], 'they carry what is documented and nothing else');
is_deeply([ grep { $_->{method} ne 'POST' } @requests ], [], 'and are POSTs');
is(scalar(my @followed = $plain->requests(path => '/redirected')), 0, 'nothing is followed');
# a redirect's target is nowhere to be read
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE to_jsonb(delivery_attempts)::text LIKE '%redirected%'"), '0', 'nor stored');

# ---- no other protocol, whoever wrote the URL ----

for my $url ('ftp://127.0.0.1/', "gopher://127.0.0.1:@{[$plain->port]}/_POST", 'file:///etc/passwd', "dict://127.0.0.1:@{[$plain->port]}/", 'ws://127.0.0.1/', "127.0.0.1:@{[$plain->port]}/",
	"http://user:password\@127.0.0.1:@{[$plain->port]}/", "http://127.0.0.1:@{[$plain->port]}/a b", "http://127.0.0.1:@{[$plain->port]}\\\@example.com/")
{
	# past the check
	my $event = sql("SET session_replication_role = replica; UPDATE osmtalk.org_settings SET default_webhook_url = \$\$$url\$\$; RESET session_replication_role;
		SELECT osmtalk.send_test_event('acme')");
	is(state_of($node, $db, $event), 'failed|1||not sent: the webhook URL is not valid', "not requested: $url");
}
is($plain->count, 8, 'nothing of that came');
is($proxy->count, 0, 'nor to the proxy');
is(worker_pid($node, $db), $pid, 'it is still the same worker');

done_testing();
