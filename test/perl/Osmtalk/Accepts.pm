package Osmtalk::Accepts;

# A listener that counts who connects, where nobody should.

use strict;
use warnings;
use IO::Select;
use IO::Socket::IP;
use PostgreSQL::Test::Utils ();
use Osmtalk::Process;

my $counter = 0;

# new(port, address, …)
sub new
{
	my ($class, $port, @addresses) = @_;
	my $log = sprintf '%s/accepts_%d.out', $PostgreSQL::Test::Utils::log_path, ++$counter;
	my @listeners = map {
		IO::Socket::IP->new(LocalHost => $_, LocalPort => $port, Listen => 1000, ReuseAddr => 1) or die "could not listen on $_:$port: $@"
	} @addresses;
	my $self = bless { log => $log }, $class;

	$self->{process} = Osmtalk::Process->start(sub {
			my $select = IO::Select->new(@listeners);
			STDOUT->autoflush(1);
			while (my @ready = $select->can_read)
			{
				for my $listener (@ready)
				{
					my $client = $listener->accept or next;
					print STDOUT '.';
					close $client;
				}
			}
		}, output => $log);
	return $self;
}

sub count { return -s $_[0]->{log}; }

1;
