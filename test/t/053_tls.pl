# TLS is 1.2 or newer, and certificates are verified: nothing is sent to those
# who cannot prove who they are, and no tenant can ask for it.

use strict;
use warnings;
use File::Temp ();
use Osmtalk::Test;
use Osmtalk::TlsServer;
use PostgreSQL::Test::Utils qw(append_to_file);
use Test::More;

my $db = 'postgres';
my $dir = File::Temp::tempdir('tls_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
my $servers = Osmtalk::TlsServer->new($dir);
# so that nothing but osmtalk's own demands keeps the old versions out
append_to_file("$dir/openssl.conf", <<'END');
openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = lax
[lax]
MinProtocol = TLSv1
CipherString = DEFAULT:@SECLEVEL=0
END
my $node = new_cluster('main', start => 0, conf => "osmtalk.request_timeout = 5s\nosmtalk.ca_file = '" . $servers->ca_file . "'\n");
{
	local %ENV = (%ENV, OPENSSL_CONF => "$dir/openssl.conf");
	$node->start;
}
set_up($node, $db);

sub sql { return $node->safe_psql($db, join '', @_); }

sub result_of
{
	my ($url) = @_;

	return state_of($node, $db, sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$url'; SELECT osmtalk.send_test_event('acme')"));
}

sub versions { return join ' ', map { $_->{version} } $servers->requests($_[0]); }

# ---- what is right ----

for my $server (qw(good tls_1_2 tls_1_3))
{
	is(result_of($servers->url($server)), 'delivered|1|204|', $server);
}
is(versions('tls_1_2') . ' ' . versions('tls_1_3') . ' ' . versions('good'), 'TLSv1.2 TLSv1.3 TLSv1.3', 'with the newest version that both speak');
is(result_of($servers->url('good', '127.0.0.1')), 'delivered|1|204|', 'a certificate for an address');

# ---- what is wrong ----

my %wrong = (
	expired => 'certificate', future => 'certificate', wrong_host => 'certificate', wildcard => 'certificate', untrusted => 'certificate',
	self_signed => 'certificate', tls_1_0 => 'connect error', tls_1_1 => 'connect error', anonymous => 'connect error', null_cipher => 'connect error');
for my $server (sort keys %wrong)
{
	like(result_of($servers->url($server)), qr/^failed\|1\|\|SSL .*\Q$wrong{$server}\E/, "$server: refused");
	is(scalar(my @none = $servers->requests($server)), 0, '... and nothing is sent');
}
like(result_of($servers->url('wrong_host', '127.0.0.1')), qr/^failed\|1\|\|SSL/, 'another address');
like(result_of($servers->url('no_san', '127.0.0.1')), qr/^failed\|1\|\|SSL/, 'a certificate that has the name as its subject alone is for no address');

# ---- the name is asked for ----

is(result_of($servers->url('by_name')), 'delivered|1|204|', 'a server with several certificates is asked for that of the name');
is(join(' ', map { $_->{name} } $servers->requests('by_name')), 'localhost', 'by SNI');
is(result_of($servers->url('rather_http2')), 'delivered|1|204|', 'a server that would rather speak HTTP/2');
is(join(' ', map { $_->{protocol} } $servers->requests('rather_http2')), 'http/1.1', 'is not offered it');

# ---- no way around ----

is(sql(q(SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'osmtalk'::regnamespace AND a.attname ~ 'verif|insecure|tls|ssl|cert')),
	'0', 'no row can ask for less');
is(sql(q(SELECT count(*) FROM pg_settings WHERE name ~ '^osmtalk\..*(verif|insecure|tls|ssl)')), '0', 'nor a setting');
# authorities that are gone: no connection is used again that they vouched for, and nothing is sent
is(result_of($servers->url('good')), 'delivered|1|204|', 'a connection is open');
my $before = () = $servers->requests('good');
setting($node, 'osmtalk.ca_file' => '/nonexistent');
like(result_of($servers->url('good')), qr/^failed\|1\|\|\w/, 'no file of authorities: nothing is sent');
setting($node, 'osmtalk.ca_file' => "$servers->{dir}/other.crt");
like(result_of($servers->url('good')), qr/^failed\|1\|\|SSL/, 'other authorities: nothing is sent');
is(scalar(my @now = $servers->requests('good')), $before, 'on no connection');
is(result_of($servers->url('untrusted')), 'delivered|1|204|', 'and those they vouch for are trusted');

done_testing();
