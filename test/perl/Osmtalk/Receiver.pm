package Osmtalk::Receiver;

# The webhook receiver (test/receiver/receiver.mjs: there is how it behaves by
# path) on a free port of 127.0.0.1, and what it has received.

use strict;
use warnings;
use JSON::PP ();
use PostgreSQL::Test::Utils ();
use Osmtalk::Process;

my $counter = 0;

# Options:
#   secret  => what signatures are verified with
#   secrets => { '/path' => secret, … }, the longest prefix of the path counts
#   bodies  => keep the bodies
#   tls     => [ certificate file, key file ]
#   listen  => [ host, port ]
sub new
{
	my ($class, %options) = @_;
	my $base = sprintf '%s/receiver_%d', $PostgreSQL::Test::Utils::log_path, ++$counter;
	my @command = ('node', "$ENV{SRC}/test/receiver/receiver.mjs", "$base.jsonl");

	push @command, '--secret', $options{secret} if defined $options{secret};
	push @command, '--secrets', JSON::PP::encode_json($options{secrets}) if $options{secrets};
	push @command, '--bodies' if $options{bodies};
	push @command, '--tls', @{ $options{tls} } if $options{tls};
	push @command, '--listen', @{ $options{listen} } if $options{listen};

	my $self = bless {
		host => ($options{listen} // ['127.0.0.1'])->[0],
		scheme => $options{tls} ? 'https' : 'http',
		log => "$base.jsonl",
		offset => 0,
		lines => [],
		process => Osmtalk::Process->start(\@command, output => "$base.out"),
	}, $class;

	Osmtalk::Test::wait_for(sub {
			die "the receiver does not start, see $base.out\n" if !$self->{process}->is_alive;
			return PostgreSQL::Test::Utils::slurp_file("$base.out") =~ /"port":(\d+)/ && ($self->{port} = $1);
		}, 'the receiver to listen') or die;
	return $self;
}

sub port { return $_[0]->{port}; }
sub url { return "$_[0]->{scheme}://$_[0]->{host}:$_[0]->{port}" . ($_[1] // '/'); }
sub stop { return $_[0]->{process}->stop; }

# Answers all that is held so far (/hold).
sub let_go { return kill 'USR2', $_[0]->{process}->pid; }

# Mends what is /broken, or breaks it again.
sub mend { return kill 'USR1', $_[0]->{process}->pid; }

# The lines of the log so far, as they are: for many requests, and quick.
sub lines
{
	my ($self) = @_;

	open my $fh, '<:raw', $self->{log} or return $self->{lines};
	seek $fh, $self->{offset}, 0;
	while (my $line = <$fh>)
	{
		last if $line !~ /\n\z/;    # still being written
		$self->{offset} += length $line;
		push @{ $self->{lines} }, $line;
	}
	return $self->{lines};
}

sub count { return scalar @{ $_[0]->lines }; }

# Every event id received, in order, repetitions included.
sub event_ids { return map { /"eventId":"([^"]*)"/ ? $1 : () } @{ $_[0]->lines }; }

# The requests so far, decoded, in order; those alone whose fields have the
# given values: requests(eventId => …, path => …).
sub requests
{
	my ($self, %wanted) = @_;
	my @found;

	for my $line (@{ $self->lines })
	{
		# decoding is slow: a line that cannot match is not decoded
		next if grep { index($line, $wanted{$_}) < 0 } keys %wanted;
		my $request = JSON::PP::decode_json($line);
		next if grep { ($request->{$_} // '') ne $wanted{$_} } keys %wanted;
		push @found, $request;
	}
	return @found;
}

# Waits until so many requests have come in all; whether they have.
sub wait_for_count
{
	my ($self, $n, $timeout) = @_;

	return Osmtalk::Test::wait_for(sub { $self->count >= $n }, "request $n at the receiver", $timeout);
}

1;
