package Osmtalk::Clock;

# A clock for one server that the test can set; see test/preload/clock.c.
# Built here, when a test wants it.

use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Utils qw(system_or_bail);

sub new
{
	my ($class) = @_;
	my $dir = File::Temp::tempdir('clock_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
	my $self = bless { library => "$dir/clock.so", offset => "$dir/offset" }, $class;

	system_or_bail('gcc', '-std=gnu11', '-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', $self->{library}, "$ENV{SRC}/test/preload/clock.c");
	$self->set(0);
	return $self;
}

# What the server's environment must have.
sub environment
{
	my ($self) = @_;

	return (LD_PRELOAD => $self->{library}, OSMTALK_CLOCK => $self->{offset});
}

# By how many seconds it is ahead of the system's.
sub set
{
	my ($self, $seconds) = @_;

	open my $file, (-e $self->{offset} ? '+<:raw' : '>:raw'), $self->{offset} or die "could not open $self->{offset}: $!";
	syswrite $file, pack 'q', $seconds * 1e9 or die;
	close $file or die;
	return;
}

1;
