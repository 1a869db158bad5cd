package Osmtalk::Recipe;

# A receiver of doc/recipes at work, in a copy of that directory, on a free port
# of 127.0.0.1; and requests to it.

use strict;
use warnings;
use Digest::SHA ();
use File::Temp ();
use IO::Socket::IP;
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file system_or_bail);
use Osmtalk::Extras;
use Osmtalk::Process;
use Osmtalk::Test;

our $secret = 'whsec_of_the_recipes_0123456789';
our $old_secret = 'whsec_of_before_0123456789';

# directory => what starts it, after what has to be done before, and its handler
my %receivers = (
	'node-receiver' => { start => [ 'node', 'receiver.mjs' ], handler => 'handler.mjs' },
	'python-receiver' => { start => [ 'python3', '-B', 'receiver.py' ], handler => 'handler.py' },
	'go-receiver' => { build => 'go build -o receiver .', start => ['./receiver'], handler => 'handler.go' },
	'postgresql-receiver' => { start => [ 'node', 'receiver.mjs' ], npm => 1 },
	'hubspot' => { start => [ 'node', '../node-receiver/receiver.mjs' ], npm => 1 },
	'slack' => { start => [ 'node', '../node-receiver/receiver.mjs' ], npm => 1 },
);

# Options:
#   handler => the tests' own in the place of the recipe's
#   env     => { … }
sub new
{
	my ($class, $name, %options) = @_;
	my $receiver = $receivers{$name} or die "no receiver $name\n";
	my $dir = File::Temp::tempdir('recipe_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);
	my $self = bless {
		dir => "$dir/$name",
		handled => "$dir/handled",
		log => "$dir/log",
		port => PostgreSQL::Test::Cluster::get_free_port(),
		start => $receiver->{start},
	}, $class;

	system_or_bail('cp', '-r', glob("$ENV{SRC}/doc/recipes/*"), $dir);
	symlink Osmtalk::Extras::npm_directory() . '/node_modules', "$dir/node_modules" if $receiver->{npm};
	system_or_bail('cp', "$ENV{SRC}/test/receiver/handlers/$receiver->{handler}", $self->{dir}) if $options{handler};
	$self->{env} = {
		Osmtalk::Extras::environment(),
		WEBHOOK_SECRET => $secret,
		WEBHOOK_SECRET_OLD => $old_secret,
		PORT => $self->{port},
		RETRY_SECONDS => '0.3',
		HANDLED => $self->{handled},
		%{ $options{env} // {} },
	};
	if ($receiver->{build})
	{
		local %ENV = (%ENV, %{ $self->{env} });
		system_or_bail('env', '-C', $self->{dir}, split ' ', $receiver->{build});
	}
	$self->start;
	return $self;
}

sub start
{
	my ($self) = @_;
	local %ENV = (%ENV, %{ $self->{env} });

	$self->{process} = Osmtalk::Process->start([ 'env', '-C', $self->{dir}, @{ $self->{start} } ], output => $self->{log});
	wait_for(sub {
			die "the receiver does not start: " . slurp_file($self->{log}) if !$self->{process}->is_alive;
			return $self->connection;
		}, 'the receiver to listen') or die;
	return;
}

sub stop { my ($self, $signal) = @_; return $self->{process}->stop($signal); }
sub url { return "http://127.0.0.1:$_[0]->{port}/webhooks"; }
sub log { return slurp_file($_[0]->{log}); }

# What the tests' handler has noted; the beginnings of its work; and the switches
# "hold" and "fail".
sub handled { my ($self) = @_; return -e $self->{handled} ? split(/\n/, slurp_file($self->{handled})) : (); }
sub begun { my ($self) = @_; return -e "$self->{handled}.begun" ? split(/\n/, slurp_file("$self->{handled}.begun")) : (); }
sub switch_on { my ($self, $what) = @_; append_to_file("$self->{handled}.$what", ''); return; }
sub switch_off { my ($self, $what) = @_; unlink "$self->{handled}.$what"; return; }

# How many events it has stored; waiting for all of them to be done.
sub stored { my ($self) = @_; my @files = glob "$self->{dir}/spool/*.json"; return scalar @files; }

sub wait_until_done
{
	my ($self) = @_;

	return wait_for(sub { my @done = glob "$self->{dir}/spool/*.done"; return @done == $self->stored }, 'all to be done');
}

# ---- requests ----

sub connection
{
	my ($self) = @_;

	return IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $self->{port}, Timeout => 10);
}

sub signature
{
	my ($body, $key) = @_;

	return 'sha256=' . Digest::SHA::hmac_sha256_hex($body, $key // $secret);
}

# What comes back for these bytes: the status, or "closed".  Nothing more is
# sent after them, and the connection stays open as long as the receiver wants.
sub answer_to
{
	my ($self, $bytes) = @_;
	my $socket = $self->connection or die "nobody listens\n";
	local $SIG{PIPE} = 'IGNORE';

	$socket->blocking(1);
	print $socket $bytes;
	$socket->flush;
	vec(my $ready = '', fileno $socket, 1) = 1;
	return 'silence' if !select $ready, undef, undef, $PostgreSQL::Test::Utils::timeout_default;
	my $answer = <$socket> // '';
	return $answer =~ m{^HTTP/1\.1 (\d{3})} ? $1 : 'closed';
}

# The status for a body; headers are added to those of a good request, or replace
# them; undef removes.
sub post
{
	my ($self, $body, %headers) = @_;
	my %all = (
		Host => '127.0.0.1',
		'Content-Type' => 'application/json',
		'Content-Length' => length $body,
		'X-OsmTalk-Event-Id' => 'evt_of_the_test',
		'X-OsmTalk-Signature' => signature($body),
		%headers,
	);
	my $head = join '', map { "$_: $all{$_}\r\n" } grep { defined $all{$_} } sort keys %all;

	return $self->answer_to("POST /webhooks HTTP/1.1\r\n$head\r\n$body");
}

1;
