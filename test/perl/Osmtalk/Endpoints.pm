package Osmtalk::Endpoints;

# Receivers of every kind, with http and TLS, and a campaign for each thing that
# a request can meet there: for tests that want all of them at once.  Each
# campaign has the name of what it meets; new connections to a receiver that
# closes them after the answer ("closed") make each event begin at the beginning.

use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Utils ();
use Osmtalk::Nginx;
use Osmtalk::Receiver;

# Options: secret: that of the organisation.
sub new
{
	my ($class, %options) = @_;
	my $dir = File::Temp::tempdir('certificates_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);

	Osmtalk::Nginx::make_certificates($dir);
	my $plain = Osmtalk::Receiver->new(secret => $options{secret});
	my $tls = Osmtalk::Receiver->new(secret => $options{secret}, tls => [ "$dir/server.crt", "$dir/server.key" ]);
	return bless {
		ca_file => "$dir/ca.crt",
		receivers => [ $plain, $tls ],
		urls => {
			kept => $plain->url('/kept'),
			closed => $plain->url('/close'),
			tls_kept => $tls->url('/kept'),
			tls_closed => $tls->url('/close'),
			named => 'https://localhost:' . $tls->port . '/close',
			echo => $tls->url('/echo'),
			big => $tls->url('/big'),
			error => $plain->url('/status/500'),
			redirect => $tls->url('/redirect'),
			reset => $plain->url('/reset'),
			hung => $plain->url('/hang'),
			trickle => $tls->url('/trickle'),
			not_tls => 'https://127.0.0.1:' . $plain->port . '/',
			wrong_name => 'https://127.0.0.2:' . $tls->port . '/',
			nobody => 'http://127.0.0.1:' . Osmtalk::Nginx::free_port() . '/',
			forbidden => 'http://10.0.0.1/',
			unresolvable => 'http://no-such-host.invalid/',
		},
	}, $class;
}

# Those that answer with 2xx, those that keep a request until it times out, all of them, and those without TLS.
sub good { return qw(kept closed tls_kept tls_closed named echo big); }
sub slow { return qw(hung trickle unresolvable); }
sub all { return sort keys %{ $_[0]->{urls} }; }
sub plain { return grep { $_[0]->{urls}{$_} !~ /^https:/ } $_[0]->all; }

# The SQL that makes the campaigns, after Osmtalk::Test::set_up().
sub campaigns_sql
{
	my ($self) = @_;

	return 'INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_url) VALUES '
	  . join(', ', map { "('$_', 'acme', 'plain', repeat('$_ ', 1000), '$self->{urls}{$_}')" } $self->all) . ';';
}

sub ca_file { return $_[0]->{ca_file}; }
sub requests { return map { $_->requests } @{ $_[0]->{receivers} }; }

1;
