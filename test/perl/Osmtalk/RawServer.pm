package Osmtalk::RawServer;

# A server on a free port of 127.0.0.1 that answers with bytes as given, right
# or wrong, and closes the connection.

use strict;
use warnings;
use IO::Socket::INET;
use PostgreSQL::Test::Utils ();
use Osmtalk::Process;

# new('/path' => answer, …)
sub new
{
	my ($class, %answers) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64) or die "could not listen: $@";
	my $self = bless { port => $listener->sockport }, $class;

	$self->{process} = Osmtalk::Process->start(sub { serve($listener, \%answers) },
		output => "$PostgreSQL::Test::Utils::log_path/raw_server.out");
	close $listener;
	return $self;
}

sub serve
{
	my ($listener, $answers) = @_;

	while (my $client = $listener->accept)
	{
		my $request = '';

		while ($request !~ /\r\n\r\n/ || length($') < ($request =~ /^content-length: *(\d+)/im ? $1 : 0))
		{
			last if !sysread $client, $request, 65536, length $request;
		}
		my ($path) = $request =~ m{^POST (\S+)};
		syswrite $client, $answers->{ $path // '' } // "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
		shutdown $client, 1;
		1 while sysread $client, $request, 65536;
		close $client;
	}
	return;
}

sub url { return "http://127.0.0.1:$_[0]->{port}" . ($_[1] // '/'); }
sub stop { return $_[0]->{process}->stop; }

1;
