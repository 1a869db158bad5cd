package Osmtalk::Process;

# A process that a test starts besides PostgreSQL.  Whatever happens to the
# test, it is ended, by its process id, when the test ends.

use strict;
use warnings;
use POSIX ();

my %running;

# Starts a command (an array), or a function in a process of its own.
#   output => file for standard output and error
#   group  => in a process group of its own: what it starts ends with it
sub start
{
	my ($class, $command, %options) = @_;

	# here, so that the caller can read it at once
	open my $output, '>>', $options{output} or die "could not open $options{output}: $!";
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		POSIX::setpgid(0, 0) if $options{group};
		open STDIN, '<', '/dev/null';
		open STDOUT, '>&', $output;
		open STDERR, '>&', \*STDOUT;
		if (ref $command eq 'CODE')
		{
			eval { $command->(); 1 } or print STDERR $@;
		}
		else
		{
			no warnings 'exec';
			exec @$command;
		}
		# not exit(): that would run the parent's END blocks
		POSIX::_exit(127);
	}
	# here too, for it may be stopped before the child has come so far
	POSIX::setpgid($pid, $pid) if $options{group};
	$running{$pid} = $options{group} ? -$pid : $pid;
	return bless { pid => $pid }, $class;
}

sub pid { return $_[0]->{pid}; }

sub is_alive
{
	my ($self) = @_;

	return 0 if !$running{ $self->{pid} };
	return 1 if waitpid($self->{pid}, POSIX::WNOHANG()) == 0;
	delete $running{ $self->{pid} };
	return 0;
}

sub stop
{
	my ($self, $signal) = @_;

	return if !$running{ $self->{pid} };
	kill $signal // 'TERM', $running{ $self->{pid} };
	waitpid $self->{pid}, 0;
	delete $running{ $self->{pid} };
	return;
}

# Waits for its end, and returns its exit status (of a signal, 128 more).
sub wait
{
	my ($self) = @_;

	waitpid $self->{pid}, 0;
	delete $running{ $self->{pid} };
	return $? >> 8 || ($? && 128 + $?);
}

END
{
	my $status = $?;    # the test's; waitpid changes it
	kill 'TERM', values %running if %running;
	waitpid $_, 0 for keys %running;
	$? = $status;
}

1;
