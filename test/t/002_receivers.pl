# Whatever a receiver does, or there is none: what counts as delivered, what is
# recorded, what is never asked for.  And who may be called at all.

use strict;
use warnings;
use Osmtalk::Nginx;
use Osmtalk::RawServer;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $proxy = Osmtalk::Receiver->new;
my $nginx = Osmtalk::Nginx->new(tls => 1);
my $unused_port = Osmtalk::Nginx::free_port();

my $node = new_cluster('main', start => 0, conf => "osmtalk.request_timeout = 1s\n");
{
	# nothing of this may have any effect
	my $home = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$home/.netrc", "machine 127.0.0.1 login user password secret\ndefault login user password secret\n");
	append_to_file("$home/.curlrc", "proxy = " . $proxy->url . "\n");
	my $proxy_url = $proxy->url;
	local %ENV = (%ENV, HOME => $home, CURL_HOME => $home, no_proxy => '', NO_PROXY => '',
		map { ($_ => $proxy_url, lc $_ => $proxy_url) } qw(HTTP_PROXY HTTPS_PROXY ALL_PROXY));
	$node->start;
}
set_up($node, $db, url => $receiver->url('/org'));

sub sql { return $node->safe_psql($db, join '', @_); }

# An event to a URL: its id.
sub event_to
{
	my ($url) = @_;

	$url =~ s/'/''/g;
	return sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$url';
		SELECT osmtalk.send_test_event('acme')");
}

# What becomes of an event to a URL.
sub result_of
{
	my ($url) = @_;

	return state_of($node, $db, event_to($url));
}

# ---- what receivers answer ----

# path => state, status and error
my @answers = (
	'/' => 'delivered|1|204|',
	'/status/200' => 'delivered|1|200|',
	'/status/299' => 'delivered|1|299|',
	'/status/300' => 'failed|1|300|HTTP 300: redirects are not followed',
	'/status/304' => 'failed|1|304|HTTP 304: redirects are not followed',
	'/status/400' => 'failed|1|400|HTTP 400',
	'/status/401' => 'failed|1|401|HTTP 401',
	'/status/404' => 'failed|1|404|HTTP 404',
	'/status/407' => 'failed|1|407|HTTP 407',
	'/status/410' => 'failed|1|410|HTTP 410',
	'/status/417' => 'failed|1|417|HTTP 417',
	'/status/429' => 'failed|1|429|HTTP 429',
	'/status/500' => 'failed|1|500|HTTP 500',
	'/status/503' => 'failed|1|503|HTTP 503',
	'/redirect' => 'failed|1|302|HTTP 302: redirects are not followed',
	'/close' => 'delivered|1|200|',
	'/slow/300' => 'delivered|1|200|',
	'/big' => 'delivered|1|200|',
);
while (my ($path, $expected) = splice @answers, 0, 2)
{
	is(result_of($receiver->url($path)), $expected, $path);
}
is(scalar($receiver->requests(path => '/redirected')), 0, 'a redirect is not followed');
my %times;
$times{$_}++ for $receiver->event_ids;
is_deeply([ grep { $times{$_} > 1 } keys %times ], [], 'nothing is tried again');

is(sql("SELECT response_body FROM osmtalk.delivery_attempts WHERE url LIKE '%/status/404'"), "status 404\n", 'response_body');
is(sql("SELECT octet_length(response_body) FROM osmtalk.delivery_attempts WHERE url LIKE '%/big'"), '1024', 'the first kilobyte of an endless one');

for my $path ('/hang', '/trickle')
{
	my $event = event_to($receiver->url($path));
	like(state_of($node, $db, $event), qr/^failed\|1\|\|timed out after 1000 ms/, $path);
	is(sql("SELECT duration_ms BETWEEN 900 AND 3000 FROM osmtalk.delivery_attempts WHERE event_id = '$event'"), 't', 'after the request time-out');
}
like(result_of($receiver->url('/reset')), qr/^failed\|1\|\|\w/, 'a reset connection');
# On a connection that has been used before, a client library may take a reset
# for an idle connection's end, and repeat the request by itself.
result_of($receiver->url('/'));
my $reset = event_to($receiver->url('/reset'));
state_of($node, $db, $reset);
my $posts = () = $receiver->requests(eventId => $reset);
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE event_id = '$reset'"), $posts, 'a reset connection: each request has its attempt');
# A connection that has been idle is one that may be about to be closed.
{
	my $keyed = Osmtalk::Receiver->new(secret => 'whsec_of_the_idle_one_0123456789');
	sql("INSERT INTO osmtalk.org_settings VALUES ('idle', '" . $keyed->url . "', 'whsec_of_the_idle_one_0123456789')");
	my @sent = map { request_of($keyed, $_) } split /\n/, sql("SELECT osmtalk.send_test_event('idle') FROM generate_series(1, 6)");
	my %before = map { $_->{port} => 1 } @sent;
	cmp_ok(scalar(keys %before), '<', 6, 'connections are used again');
	$node->poll_query_until($db, "SELECT clock_timestamp() - max(started_at) > interval '600 ms' FROM osmtalk.delivery_attempts");
	my $late = sql("SELECT osmtalk.send_test_event('idle')");
	my $request = request_of($keyed, $late);
	ok($request->{port} && !$before{ $request->{port} }, 'but none that has been idle for half a second');
	ok(!(grep { !$_->{verified} } @sent, $request), 'a request that was prepared a second time is signed like the others');
	is(state_of($node, $db, $late), 'delivered|1|204|', 'and is one attempt');
	$keyed->stop;
}
like(result_of("http://127.0.0.1:$unused_port/"), qr/^failed\|1\|\|Could(n't| not) connect/i, 'nobody listens');
like(result_of('http://no-such-host.invalid/'), qr/^failed\|1\|\|Could(n't| not) resolve/i, 'a name that does not resolve');
like(result_of("https://127.0.0.1:" . $receiver->port), qr/^failed\|1\|\|SSL/i, 'no TLS where TLS is wanted');
like(sql("SELECT last_error FROM osmtalk.worker_status"), qr/SSL/i, 'last_error is the last');

# ---- answers right and wrong, byte by byte ----

my $ok = "HTTP/1.1 200 OK\r\n";
my $raw = Osmtalk::RawServer->new(
	'/until-close' => "$ok\r\nuntil the end",
	'/empty' => "${ok}Content-Length: 0\r\n\r\n",
	'/binary' => "${ok}\r\nA\0B\xffC\xc3(\xe2\x82\xacD\xed\xa0\x80\xf5\x80\x80\x80\xc0\x80E\xe2\x82",
	'/cut' => "${ok}\r\n" . "x" x 1022 . "\xe2\x82\xac",
	'/http10' => "HTTP/1.0 200 OK\r\n\r\nten",
	'/continue' => "HTTP/1.1 100 Continue\r\n\r\n${ok}Content-Length: 2\r\n\r\nok",
	'/chunked' => "${ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	'/gzip' => "${ok}Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
	'/short' => "${ok}Content-Length: 100\r\n\r\nabc",
	'/bad-chunk' => "${ok}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
	'/nothing' => '',
	'/garbage' => "\x16\x03\x01garbage\r\n\r\n",
	'/http09' => "just a page",
	'/status-000' => "HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
	'/status-1000' => "HTTP/1.1 1000 Many\r\nContent-Length: 0\r\n\r\n",
	'/only-1xx' => "HTTP/1.1 100 Continue\r\n\r\n",
	'/many-headers' => $ok . "X-Filler: 0123456789\r\n" x 20000 . "Content-Length: 0\r\n\r\n",
	'/long-header' => $ok . "X-Filler: " . 'y' x 200000 . "\r\nContent-Length: 0\r\n\r\n",
	'/no-content' => "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
	'/location' => "HTTP/1.1 201 Created\r\nLocation: " . $receiver->url('/redirected') . "\r\nContent-Length: 0\r\n\r\n",
	'/auth' => "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
	'/cut-status' => 'HTTP/1.1 200 OK',
	'/cut-headers' => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Cut",
	'/no-blank-line' => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
	'/cut-interim' => "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n",
	'/http-what' => "HTTP/what 200 OK\r\nContent-Length: 0\r\n\r\n",
	'/folded' => "HTTP/1.1 200 OK\r\n folded: from nothing\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
	'/headers' => "HTTP/1.1 200 OK\r\n" . ("X-Header: " . ('x' x 40) . "\r\n") x 5 . "Connection: close\r\nContent-Length: 0\r\n\r\n",
	'/switch' => "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
);
my @raw = (
	'/until-close' => qr/^delivered\|1\|200\|$/, '/empty' => qr/^delivered\|1\|200\|$/,
	'/binary' => qr/^delivered\|1\|200\|$/, '/cut' => qr/^delivered\|1\|200\|$/,
	'/http10' => qr/^delivered\|1\|200\|$/, '/continue' => qr/^delivered\|1\|200\|$/,
	'/chunked' => qr/^delivered\|1\|200\|$/, '/gzip' => qr/^delivered\|1\|200\|$/,
	'/no-content' => qr/^delivered\|1\|204\|$/, '/location' => qr/^delivered\|1\|201\|$/,
	'/short' => qr/^failed\|1\|\|\w/, '/bad-chunk' => qr/^failed\|1\|\|\w/,
	'/nothing' => qr/^failed\|1\|\|\w/, '/garbage' => qr/^failed\|1\|\|\w/, '/http09' => qr/^failed\|1\|\|\w/,
	'/status-000' => qr/^failed\|1\|\|\w/, '/status-1000' => qr/^failed\|1\|\|\w/, '/only-1xx' => qr/^failed\|1\|\|\w/,
	'/many-headers' => qr/^failed\|1\|\|\w/, '/long-header' => qr/^failed\|1\|\|\w/,
	(map { $_ => qr/^failed\|1\|\|the answer ended before its headers did$/ } '/cut-headers', '/no-blank-line', '/cut-interim'),
	'/cut-status' => qr/^failed\|1\|\|\w/, '/http-what' => qr/^failed\|1\|\|(the answer is not HTTP|Unsupported protocol)$/,
	'/auth' => qr/^failed\|1\|401\|HTTP 401$/, '/switch' => qr/^failed\|1\|/,
);
while (my ($path, $expected) = splice @raw, 0, 2)
{
	like(result_of($raw->url($path)), $expected, $path);
}
# a header that continues none, on a handle that has seen others: libcurl before 8.3 would follow a stale pointer
sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('cmp_headers', 'acme', 'x', '" . $raw->url('/headers') . "'), ('cmp_folded', 'acme', 'x', '" . $raw->url('/folded') . "')");
for my $round (1 .. 10)
{
	sql("SELECT osmtalk.send_test_event('acme', 'cmp_headers'), osmtalk.send_test_event('acme', 'cmp_folded') FROM generate_series(1, 10); SELECT osmtalk.wait_until_drained()");
}
# libcurl's versions differ in what they make of it, not in what they survive
is(sql("SELECT campaign_id, count(DISTINCT state), max(attempts), count(*), count(*) FILTER (WHERE state = 'delivered') = 100 OR campaign_id = 'cmp_folded' FROM osmtalk.deliveries WHERE campaign_id IN ('cmp_headers', 'cmp_folded') GROUP BY 1 ORDER BY 1"),
	"cmp_folded|1|1|100|t\ncmp_headers|1|1|100|t", 'headers that continue none');
# the database would not hold bytes that are no UTF-8, and the worker would hang on them
is(sql("SELECT response_body FROM osmtalk.delivery_attempts WHERE url LIKE '%/binary'"),
	"A?B?C?(\xe2\x82\xacD????????\x3fE??", 'what is no text becomes question marks')
  or diag sql("SELECT response_body::bytea FROM osmtalk.delivery_attempts WHERE url LIKE '%/binary'");
is(sql("SELECT response_body = repeat('x', 1022) FROM osmtalk.delivery_attempts WHERE url LIKE '%/cut'"), 't', 'a character cut off at the end is dropped');
is(sql("SELECT response_body FROM osmtalk.delivery_attempts WHERE url LIKE '%/until-close'"), 'until the end', 'a body that ends with the connection');
is(scalar($receiver->requests(path => '/redirected')), 0, 'a Location is not followed');

# ---- TLS ----

like(result_of($nginx->url), qr/^failed\|1\|\|SSL/i, 'an authority that nobody knows');
setting($node, 'osmtalk.ca_file' => $nginx->ca_file);
is(result_of($nginx->url), 'delivered|1|204|', 'osmtalk.ca_file of that authority, after a reload');
is(result_of("https://127.0.0.1:$nginx->{port}/"), 'delivered|1|204|', 'its certificate is for the address, too');
like(result_of("https://127.0.0.2:$nginx->{port}/"), qr/^failed\|1\|\|SSL/i, 'but not for another');
setting($node, 'osmtalk.ca_file' => undef);
like(result_of($nginx->url), qr/^failed\|1\|\|SSL/i, 'not known any more');
setting($node, 'osmtalk.ca_file' => '/nonexistent');
like(result_of($nginx->url), qr/^failed\|1\|\|\w/i, 'a file that does not exist');
is(result_of($receiver->url), 'delivered|1|204|', 'matters to https alone');
setting($node, 'osmtalk.ca_file' => undef);
is(scalar(my @ids = $nginx->event_ids), 2, 'nginx saw the two');

# ---- who may be called ----

setting($node, 'osmtalk.trusted_networks' => '');
my $before = $receiver->count;
my $refused = q(failed|1||not sent: this target is not allowed; the server's log says why);
my $port = $receiver->port;
for my $host ('127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]', '[::127.0.0.1]', '127.1', '2130706433', '0x7f000001', '0177.0.0.1', '0', '0.0.0.0', '[::]')
{
	like(result_of("http://$host:$port/"), qr/^failed\|1\|\|(not sent: this target is not allowed|Could(n't| not) (connect|resolve))/i, "not trusted: $host");
}
is($receiver->count, $before, 'nothing reached the receiver');
is(result_of($receiver->url), $refused, 'the error says that it is refused');
# refused before anything is sent, so that this reaches nobody
is(result_of('http://8.8.8.8/'), $refused, 'plain http to a public address, in the same words');

setting($node, 'osmtalk.trusted_networks' => '10.0.0.0/8, 127.0.0.0/31');
is(result_of($receiver->url), 'delivered|1|204|', 'trusted after a reload');
like(result_of("https://127.0.0.2:$nginx->{port}/"), qr/^\Q$refused\E$/, 'but not its neighbour');
# the connection just used is still open, and the address no longer trusted
setting($node, 'osmtalk.trusted_networks' => '10.0.0.0/8');
$before = $receiver->count;
like(result_of($receiver->url), qr/^\Q$refused\E$/, 'not trusted any more: an open connection is not used');
is($receiver->count, $before, 'nothing reached the receiver');
setting($node, 'osmtalk.trusted_networks' => '127.0.0.0/8');
is(result_of($receiver->url), 'delivered|1|204|', 'trusted again');

# ---- all in all ----

is($proxy->count, 0, 'no proxy of the environment was asked');
is_deeply([ grep { exists $_->{headers}{authorization} } $receiver->requests ], [], 'no ~/.netrc was read');
is(sql("SELECT count(*) FROM osmtalk.outbox"), '0', 'nothing is left');
is(sql("SELECT pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'), started_at > pg_postmaster_start_time() FROM osmtalk.worker_status"), 't|t', 'the worker is there');
unlike(log_since($node), qr/worker for database.*started.*worker for database.*started/s, 'the one of the start');

done_testing();
