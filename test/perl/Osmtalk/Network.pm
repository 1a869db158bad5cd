package Osmtalk::Network;

# An internet of the test's own for one server; see test/preload/network.c.
# Built here, when a test wants it.

use strict;
use warnings;
use File::Temp ();
use PostgreSQL::Test::Utils qw(slurp_file system_or_bail);

my @names = qw(seed turned let_go lookups hanging allowed forbidden);    # as Control in the C file

sub new
{
	my ($class, %options) = @_;
	my $dir = File::Temp::tempdir('network_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
	my $self = bless { library => "$dir/network.so", control => "$dir/control" }, $class;

	system_or_bail('gcc', '-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', $self->{library}, "$ENV{SRC}/test/preload/network.c");
	open my $file, '>:raw', $self->{control} or die "could not write $self->{control}: $!";
	print $file pack 'Q*', $options{seed} // 1, (0) x (@names - 1);
	close $file or die;
	return $self;
}

# What the server's environment must have.
sub environment
{
	my ($self) = @_;

	return (LD_PRELOAD => $self->{library}, OSMTALK_NETWORK => $self->{control});
}

sub set
{
	my ($self, $name, $value) = @_;
	my ($index) = grep { $names[$_] eq $name } 0 .. $#names;

	open my $file, '+<:raw', $self->{control} or die "could not open $self->{control}: $!";
	sysseek $file, 8 * $index, 0;
	syswrite $file, pack 'Q', $value or die;
	close $file or die;
	return;
}

# A count by its name.
sub get
{
	my ($self, $name) = @_;
	my %values;

	@values{@names} = unpack 'Q*', slurp_file($self->{control});
	return $values{$name};
}

1;
