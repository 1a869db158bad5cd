package Osmtalk::FailingMalloc;

# An allocator that fails at random in the workers of one server; see
# test/preload/failing_malloc.c.  Built here, when a test wants it.

use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Utils qw(system_or_bail);

my $numbers = 'Q2 Q Q2 Q2';    # as Control in the C file
my @names = qw(server_odds libraries_odds seed server_calls libraries_calls server_failures libraries_failures);

sub new
{
	my ($class, %options) = @_;
	my $dir = File::Temp::tempdir('failing_malloc_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
	my $self = bless { library => "$dir/failing_malloc.so", control => "$dir/control" }, $class;

	system_or_bail('gcc', '-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', $self->{library},
		"$ENV{SRC}/test/preload/failing_malloc.c");
	open my $file, '>:raw', $self->{control} or die "could not write $self->{control}: $!";
	print $file pack $numbers, 0, 0, $options{seed} // 1, 0, 0, 0, 0;
	close $file or die;
	return $self;
}

# What the server's environment must have.
sub environment
{
	my ($self) = @_;

	return (LD_PRELOAD => $self->{library}, FAILING_MALLOC => $self->{control});
}

# Of a million allocations so many fail from now on.
sub set_odds
{
	my ($self, %odds) = @_;

	open my $file, '+<:raw', $self->{control} or die "could not open $self->{control}: $!";
	syswrite $file, pack('Q2', $odds{server} // 0, $odds{libraries} // 0) or die;
	close $file or die;
	return;
}

# How many allocations there were, and how many failed, by name.
sub counts
{
	my ($self) = @_;
	my %counts;

	@counts{@names} = unpack $numbers, PostgreSQL::Test::Utils::slurp_file($self->{control});
	return \%counts;
}

1;
