package Osmtalk::Nginx;

# nginx on a free port of 127.0.0.1, with every path of its own in one
# directory: a receiver that speaks TLS, with a certificate for localhost and
# 127.0.0.1 (but not for 127.0.0.2, where it listens too) from a certificate
# authority of its own; or plain http.  Answers 204 and logs each event id.

use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Cluster ();
use Socket ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file system_or_bail);
use Osmtalk::Process;

# Options:
#   tls      => true
#   proxy_to => the server that it stands in front of, in the place of 204
sub new
{
	my ($class, %options) = @_;
	my $dir = File::Temp::tempdir('nginx_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
	my $port = free_port();
	my $scheme = $options{tls} ? 'https' : 'http';
	my $ssl = $options{tls} ? 'ssl' : '';
	my $tls = '';
	my $answer = $options{proxy_to} ? "proxy_pass $options{proxy_to};" : 'return 204;';

	if ($options{tls})
	{
		make_certificates($dir);
		$tls = "ssl_certificate $dir/server.crt; ssl_certificate_key $dir/server.key;";
	}
	append_to_file("$dir/nginx.conf", <<"END");
daemon off;
master_process off;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 512; }
http {
	log_format ids '\$http_x_osmtalk_event_id';
	access_log $dir/access.log ids;
	client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fastcgi;
	uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
	keepalive_requests 100000;
	server {
		listen 127.0.0.1:$port $ssl;
		listen 127.0.0.2:$port $ssl;
		$tls
		location / { $answer }
	}
}
END

	my $self = bless {
		dir => $dir,
		port => $port,
		scheme => $scheme,
		process => Osmtalk::Process->start([ 'nginx', '-p', $dir, '-e', "$dir/error.log", '-c', "$dir/nginx.conf" ],
			output => "$dir/out"),
	}, $class;
	Osmtalk::Test::wait_for(sub {
			die "nginx does not start: " . slurp_file("$dir/out") . "\n" if !$self->{process}->is_alive;
			return !can_listen($port);
		}, 'nginx to listen') or die;
	return $self;
}

sub can_listen
{
	my ($port) = @_;

	socket(my $socket, Socket::PF_INET(), Socket::SOCK_STREAM(), 0) or die "socket: $!";
	setsockopt($socket, Socket::SOL_SOCKET(), Socket::SO_REUSEADDR(), 1);
	return bind($socket, Socket::sockaddr_in($_[0], Socket::INADDR_LOOPBACK())) && listen($socket, 1);
}

# The one that PostgreSQL::Test::Cluster would give to a server: it keeps
# other tests from taking it.
sub free_port { return PostgreSQL::Test::Cluster::get_free_port(); }

sub make_certificates
{
	my ($dir) = @_;

	append_to_file("$dir/san", "subjectAltName = DNS:localhost, IP:127.0.0.1\n");
	system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
		'-subj', '/CN=a private authority', '-keyout', "$dir/ca.key", '-out', "$dir/ca.crt");
	system_or_bail('openssl', 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost',
		'-keyout', "$dir/server.key", '-out', "$dir/server.csr");
	system_or_bail('openssl', 'x509', '-req', '-in', "$dir/server.csr", '-days', '2', '-extfile', "$dir/san",
		'-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key", '-CAcreateserial', '-out', "$dir/server.crt");
	return;
}

sub url { return "$_[0]->{scheme}://localhost:$_[0]->{port}" . ($_[1] // '/'); }
sub ca_file { return "$_[0]->{dir}/ca.crt"; }
sub stop { return $_[0]->{process}->stop; }

# Every event id received, in order, repetitions included.
sub event_ids
{
	my ($self) = @_;

	return if !-e "$self->{dir}/access.log";
	return split /\n/, slurp_file("$self->{dir}/access.log");
}

1;
