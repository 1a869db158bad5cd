package Osmtalk::Vendor;

# A stand-in for a vendor's API (test/receiver/slack.mjs, hubspot.mjs), and what
# it was asked.

use strict;
use warnings;
use JSON::PP ();
use PostgreSQL::Test::Utils qw(slurp_file);
use Osmtalk::Process;
use Osmtalk::Test;

sub new
{
	my ($class, $name, @arguments) = @_;
	my $base = "$PostgreSQL::Test::Utils::log_path/$name";
	my $self = bless { log => "$base.jsonl" }, $class;

	$self->{process} = Osmtalk::Process->start([ 'node', "$ENV{SRC}/test/receiver/$name.mjs", $self->{log}, @arguments ], output => "$base.out");
	wait_for(sub {
			die "$name does not start, see $base.out\n" if !$self->{process}->is_alive;
			return slurp_file("$base.out") =~ /"port":(\d+)/ && ($self->{port} = $1);
		}, "$name to listen") or die;
	return $self;
}

sub url { return "http://127.0.0.1:$_[0]->{port}" . ($_[1] // ''); }
sub fail_next { return kill 'USR2', $_[0]->{process}->pid; }

sub requests
{
	my ($self) = @_;

	return map { JSON::PP::decode_json($_) } slurp_file($self->{log}) =~ /^(.*)\n/mg;
}

# The requests, once there are so many.
sub wait_for_requests
{
	my ($self, $n) = @_;

	wait_for(sub { $self->requests >= $n }, "request $n of $self->{log}");
	return $self->requests;
}

1;
