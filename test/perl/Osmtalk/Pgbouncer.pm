package Osmtalk::Pgbouncer;

# pgbouncer before a cluster, on a Unix socket beside the cluster's own.  Of
# each database it has two: NAME_session and NAME_transaction, after the pooling.
# Each role has one connection to each, so clients are certain to share it.

use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Osmtalk::Process;

# Databases, and the roles that may log in.
sub new
{
	my ($class, $node, $databases, $roles) = @_;
	my $dir = File::Temp::tempdir('pgbouncer_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
	my ($host, $port) = ($node->host, PostgreSQL::Test::Cluster::get_free_port());
	my $server = "host=$host port=" . $node->port . ' pool_size=1';
	my $lines = join '', map {
		my $database = $_;
		map { "${database}_$_ = $server dbname=$database pool_mode=$_\n" } 'session', 'transaction'
	} @$databases;

	append_to_file("$dir/users", join '', map { "\"$_\" \"\"\n" } @$roles);
	append_to_file("$dir/ini", <<"END");
[databases]
$lines
[pgbouncer]
unix_socket_dir = $host
listen_port = $port
auth_type = trust
auth_file = $dir/users
END

	my $self = bless {
		# the cluster, as it is seen through here
		node => bless({ %$node, _port => $port }, ref $node),
		process => Osmtalk::Process->start([ 'pgbouncer', "$dir/ini" ], output => "$dir/out"),
	}, $class;
	Osmtalk::Test::wait_for(sub {
			die "pgbouncer does not start: " . slurp_file("$dir/out") . "\n" if !$self->{process}->is_alive;
			return -S "$host/.s.PGSQL.$port";
		}, 'pgbouncer to listen') or die;
	return $self;
}

sub node { return $_[0]->{node}; }

1;
