package Osmtalk::TlsServer;

# Servers that speak TLS in ways that are wrong, or just so: see
# test/receiver/tls.mjs.  Each has a port of its own on 127.0.0.1.

use strict;
use warnings;
use JSON::PP ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file system_or_bail);
use Osmtalk::Process;

sub new
{
	my ($class, $dir) = @_;
	my $self = bless { dir => $dir, log => "$PostgreSQL::Test::Utils::log_path/tls.jsonl" }, $class;
	my $out = "$PostgreSQL::Test::Utils::log_path/tls.out";

	$self->make_certificates;
	$self->{process} = Osmtalk::Process->start([ 'node', "$ENV{SRC}/test/receiver/tls.mjs", $dir, $self->{log} ], output => $out);
	Osmtalk::Test::wait_for(sub { die slurp_file($out) if !$self->{process}->is_alive; slurp_file($out) =~ /\}\n/ }, 'TLS servers') or die;
	$self->{ports} = JSON::PP::decode_json(slurp_file($out));
	return $self;
}

sub openssl { return system_or_bail('openssl', @_); }

# An authority, another that nobody trusts, and certificates by the names of their files.
sub make_certificates
{
	my ($self) = @_;
	my $dir = $self->{dir};

	append_to_file("$dir/ca.conf", <<"END");
[ca]
default_ca = ca
[ca]
database = $dir/index
serial = $dir/serial
new_certs_dir = $dir
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
END
	append_to_file("$dir/index", '');
	append_to_file("$dir/serial", "01\n");
	for my $ca ('ca', 'other')
	{
		openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '3', '-subj', "/CN=$ca", '-keyout', "$dir/$ca.key", '-out', "$dir/$ca.crt");
	}
	my $day = 86400;
	my %certificates = (
		good => [ 'ca', 'DNS:localhost,IP:127.0.0.1', -$day, $day ],
		expired => [ 'ca', 'DNS:localhost,IP:127.0.0.1', -2 * $day, -$day ],
		future => [ 'ca', 'DNS:localhost,IP:127.0.0.1', $day, 2 * $day ],
		wrong_host => [ 'ca', 'DNS:example.com,DNS:localhost.example.com,IP:127.0.0.9', -$day, $day ],
		wildcard => [ 'ca', 'DNS:*,DNS:*host', -$day, $day ],
		no_san => [ 'ca', undef, -$day, $day ],
		untrusted => [ 'other', 'DNS:localhost,IP:127.0.0.1', -$day, $day ],
	);
	for my $name (sort keys %certificates)
	{
		my ($ca, $san, $from, $to) = @{ $certificates{$name} };
		my $time = sub { my @t = gmtime(time + $_[0]); return sprintf '%02d%02d%02d%02d%02d%02dZ', $t[5] % 100, $t[4] + 1, @t[ 3, 2, 1, 0 ] };

		openssl('req', '-new', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr",
			$san ? ('-addext', "subjectAltName = $san") : ());
		openssl('ca', '-batch', '-notext', '-config', "$dir/ca.conf", '-cert', "$dir/$ca.crt", '-keyfile', "$dir/$ca.key",
			'-startdate', $time->($from), '-enddate', $time->($to), '-in', "$dir/$name.csr", '-out', "$dir/$name.crt");
	}
	openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName = DNS:localhost,IP:127.0.0.1',
		'-keyout', "$dir/self_signed.key", '-out', "$dir/self_signed.crt");
	return;
}

sub ca_file { return "$_[0]->{dir}/ca.crt"; }

# By name or, with an address, by that.
sub url
{
	my ($self, $server, $host) = @_;

	return 'https://' . ($host // 'localhost') . ':' . ($self->{ports}{$server} // die "no server $server") . "/$server";
}

# The requests so far: server, version, name (of SNI), path.
sub requests
{
	my ($self, $server) = @_;

	return if !-e $self->{log};
	return grep { $_->{server} eq $server } map { JSON::PP::decode_json($_) } split /\n/, slurp_file($self->{log});
}

1;
