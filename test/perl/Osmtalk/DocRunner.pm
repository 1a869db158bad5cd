package Osmtalk::DocRunner;

# Runs the code blocks of one page, in their order, as its reader would: with a
# database of a server of the page's own, and a directory to work in.  How a
# block is run follows from its language and from the comments before it; see
# test/docs/README.md.

use strict;
use warnings;
use File::Temp ();
use IO::Socket::IP;
use JSON::PP ();
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file system_or_bail);
use Osmtalk::Docs;
use Osmtalk::Extras;
use Osmtalk::Process;
use Osmtalk::Test;

# Where a page says 8080, a port that is free is meant.
my $port_in_pages = 8080;

# How many seconds what a page expects may take to come true.
our $patience = $PostgreSQL::Test::Utils::timeout_default;

# language => how it is run
my %runs = (
	sql => \&run_sql,
	ini => \&run_settings,
	conf => \&run_settings,
	json => \&run_json,
);

# and programs: language => the file's name, what runs it
my %programs = (
	sh => [ 'block.sh', 'bash', '-eu', '-o', 'pipefail' ],
	bash => [ 'block.sh', 'bash', '-eu', '-o', 'pipefail' ],
	js => [ 'block.mjs', 'node' ],
	python => [ 'block.py', 'python3' ],
	go => [ 'block.go', 'go', 'run' ],
);
for my $language (keys %programs)
{
	$runs{$language} = sub { my ($self, $text) = @_; return $self->run_program($language, $text) };
}

# new(name, blocks): what Osmtalk::Docs::blocks() returns
sub new
{
	my ($class, $name, @blocks) = @_;
	my $self = bless {
		name => $name,
		blocks => \@blocks,
		port => PostgreSQL::Test::Cluster::get_free_port(),
		dir => File::Temp::tempdir('page_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check),
		output => '',
	}, $class;

	# what a reader in the top directory has before him
	system_or_bail('cp', '-r', "$ENV{SRC}/doc", "$self->{dir}/doc");
	for my $block (@blocks)
	{
		$block->{text} =~ s/\b$port_in_pages\b/$self->{port}/g;
		for my $file (arguments($block, 'file'))
		{
			append_to_file("$self->{dir}/$file", $block->{text});
		}
	}
	return $self;
}

sub arguments
{
	my ($block, $name) = @_;

	return map { $_->[1] // '' } grep { $_->[0] eq $name } @{ $block->{directives} };
}

# Runs all blocks.  Calls RESULT(block, status, message) after each, status
# being one of
#     ran, failed     as the word says
#     exists          not run, but all that it names is there
#     skipped         not run
#     text            nothing to be run
# The message of what did not run is the reason.
sub run_all
{
	my ($self, $result) = @_;
	my $failed = 0;

	for my $block (@{ $self->{blocks} })
	{
		my ($status, $message);
		if (!eval { ($status, $message) = $self->run_block($block); 1 })
		{
			($status, $message) = ('failed', $@);
		}
		$failed = 1 if $status eq 'failed';
		$result->($block, $status, $message // '');
	}
	$self->stop;
	$self->{node}->clean_node if $self->{node} && !$failed;
	return;
}

sub stop
{
	my ($self) = @_;

	$_->{process}->stop for @{ $self->{background} // [] };
	$self->{background} = [];
	$self->{node}->teardown_node if $self->{node};
	return;
}

# Dies if the block fails.
sub run_block
{
	my ($self, $block) = @_;
	my $text = $block->{text};
	my $code = $runs{ $block->{language} };
	my ($reason) = arguments($block, 'skip');
	my ($known) = arguments($block, 'exists');
	my $is_file = arguments($block, 'file');
	my $own_way = 0;

	return ('skipped', $reason) if defined $reason;
	for my $needed (arguments($block, 'needs'), $block->{language} eq 'go' ? 'go' : ())
	{
		my $missing = Osmtalk::Extras::missing($needed);
		return ('skipped', $missing) if $missing ne '';
		symlink Osmtalk::Extras::npm_directory() . '/node_modules', "$self->{dir}/node_modules" if $needed eq 'npm';
	}
	$self->prepare($_) for arguments($block, 'setup');
	for my $command (arguments($block, 'background'))
	{
		$own_way = 1 if $command eq '';
		$command eq '' ? $self->start($block->{language}, $text) : $self->start('sh', $self->with_port($command));
	}

	if (arguments($block, 'output'))
	{
		same_output($self->{output}, $text);
		$own_way = 1;
	}
	for my $command (arguments($block, 'run'))
	{
		local $ENV{BLOCK} = $self->file('block', $text);
		$self->run_program('sh', $self->with_port($command));
		$own_way = 1;
	}
	if (defined $known)
	{
		check_commands($text, $known);
	}
	elsif (!$own_way && !$is_file)
	{
		return ('text') if $block->{language} eq 'text';
		die "a block of language '$block->{language}', which nobody knows to run: say which it is, 'text', or why it is skipped\n"
		  if !$code;
		$code->($self, $text);
	}
	$self->wait_for_print($_) for arguments($block, 'prints');
	$self->wait_for_true($_) for arguments($block, 'expect');
	return defined $known ? ('exists', $known) : ('ran');
}

sub with_port
{
	my ($self, $text) = @_;

	return $text =~ s/\b$port_in_pages\b/$self->{port}/gr;
}

# ---- server ----

# The page's server, made when it is first needed: with osmtalk preloaded, and
# all else as it is by default.
sub node
{
	my ($self) = @_;

	return $self->{node} if $self->{node};
	my $node = PostgreSQL::Test::Cluster->new($self->{name} =~ s/\W+/_/gr);
	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', "fsync = off\nshared_buffers = 16MB\nmax_worker_processes = 16\nshared_preload_libraries = 'osmtalk'\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	return $self->{node} = $node;
}

# A page whose first setup is not "nothing" begins with the extension.
sub database
{
	my ($self) = @_;
	my $node = $self->node;

	if (!$self->{begun}++)
	{
		$node->safe_psql('app', 'CREATE EXTENSION osmtalk');
		$node->poll_query_until('app', 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die "no worker\n";
	}
	return $node;
}

# NAME.sql or NAME.sh of test/docs.
sub prepare
{
	my ($self, $name) = @_;

	if ($name eq 'nothing')
	{
		die "'setup nothing' comes too late\n" if $self->{begun}++;
		return;
	}
	my $file = "$ENV{SRC}/test/docs/$name";
	return $self->run_sql(slurp_file("$file.sql")) if -e "$file.sql";
	return $self->run_program('sh', slurp_file("$file.sh")) if -e "$file.sh";
	die "there is no test/docs/$name.sql, nor .sh\n";
}

# ---- blocks ----

sub environment
{
	my ($self) = @_;
	my $node = $self->database;

	return (
		%ENV,
		PGHOST => $node->host,
		PGPORT => $node->port,
		PGDATABASE => 'app',
		PGCLIENTENCODING => 'UTF8',
		PGOPTIONS => '',
		PORT => $self->{port},
		DOCS => "$ENV{SRC}/test/docs",
		HOME => $self->{dir},
		PYTHONPATH => $self->{dir},
		PYTHONDONTWRITEBYTECODE => 1,
		Osmtalk::Extras::environment(),
	);
}

# Runs a command (an array) in the page's directory; its output is what the
# next block may say it is.
sub command
{
	my ($self, @command) = @_;
	local %ENV = $self->environment;
	my $log = sprintf '%s/output_%d', $self->{dir}, ++$self->{outputs};
	my $process = Osmtalk::Process->start([ 'timeout', '-k', '5', 3 * $PostgreSQL::Test::Utils::timeout_default,
			'env', '-C', $self->{dir}, @command ], output => $log);
	my $status = $process->wait;

	$self->{output} = slurp_file($log);
	die "$command[0] ended with status $status, having said\n$self->{output}" if $status != 0;
	return;
}

# A file of the page's directory with that text.
sub file
{
	my ($self, $name, $text) = @_;
	my $path = "$self->{dir}/$name";

	unlink $path;
	append_to_file($path, $text);
	return $path;
}

sub run_sql
{
	my ($self, $text) = @_;

	return $self->command('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-P', 'pager=off', '-f', $self->file('block.sql', $text));
}

sub run_program
{
	my ($self, $language, $text) = @_;
	my ($name, @interpreter) = @{ $programs{$language} };

	return $self->command(@interpreter, $self->file($name, $text));
}

sub run_json
{
	my ($self, $text) = @_;

	JSON::PP->new->utf8->decode($text);
	return;
}

# Settings of the server: it must start with them, and have taken each.
sub run_settings
{
	my ($self, $text) = @_;
	my $node = $self->database;
	my @names = $text =~ /^\s*([\w.]+)\s*(?:=|\s)\s*\S/mg or die "no setting in this block\n";

	$node->append_conf('postgresql.conf', $text);
	$node->stop;
	$node->start(fail_ok => 1) or die "the server does not start: " . tail($node->logfile);
	for my $name (@names)
	{
		my $query = "SELECT coalesce(max(error), 'not applied') FROM pg_file_settings WHERE lower(name) = lower('$name')
			HAVING count(*) FILTER (WHERE applied AND error IS NULL) = 0
			    OR NOT EXISTS (SELECT FROM pg_settings WHERE lower(name) = lower('$name'))";
		my $error = $node->safe_psql('app', $query);
		die "$name: $error\n" if $error ne '';
	}
	return;
}

sub tail
{
	my ($file) = @_;
	my @lines = split /^/, slurp_file($file);

	return join '', @lines[ (@lines > 10 ? -10 : 0) .. -1 ];
}

# Starts a program that goes on; waits until it listens on the page's port.
sub start
{
	my ($self, $language, $text) = @_;
	my ($name, @interpreter) = @{ $programs{$language} // die "a block of language '$language' cannot be started\n" };
	local %ENV = $self->environment;
	die "something listens on the page's port already\n" if $self->is_listening;
	my $log = sprintf '%s/background_%d', $self->{dir}, ++$self->{outputs};
	my $script = $self->file("background_$self->{outputs}_$name", $text);
	# in a group of its own, so that whatever it starts ends with it
	my $process = Osmtalk::Process->start([ 'env', '-C', $self->{dir}, @interpreter, $script ], output => $log, group => 1);

	push @{ $self->{background} }, { process => $process, log => $log };
	wait_for(sub {
			die "it does not start: " . slurp_file($log) if !$process->is_alive;
			return $self->is_listening;
		}, "the program to listen") or die "nobody listens on the port\n";
	return;
}

sub is_listening
{
	my ($self) = @_;

	return defined IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $self->{port});
}

# ---- what is to come of it ----

sub wait_for_print
{
	my ($self, $text) = @_;
	my $last = $self->{background}[-1] // die "nothing runs in the background\n";

	wait_for(sub { index(slurp_file($last->{log}), $text) >= 0 }, $text, $patience)
	  or die "it does not print '$text' but\n" . slurp_file($last->{log});
	return;
}

sub wait_for_true
{
	my ($self, $query) = @_;
	my $said;

	wait_for(sub { ($said = $self->database->safe_psql('app', $query)) eq 't' }, $query, $patience) or die "$query says '$said'\n";
	return;
}

# An ellipsis stands for anything, on a line of its own for any lines.
sub same_output
{
	my ($output, $expected) = @_;
	my $ellipsis = "\xe2\x80\xa6";
	my $pattern = join '\n', map { /^\s*$ellipsis\s*$/ ? '(?:.*\n)*?.*' : join('.*?', map { quotemeta } split /$ellipsis/, $_, -1) }
	  split /\n/, trimmed($expected);

	die "the output is not as shown, but\n$output" if trimmed($output) !~ /^$pattern$/;
	return;
}

sub trimmed { return $_[0] =~ s/[ \t]+$//gmr =~ s/\A\n+|\n+\z//gr; }

# Whether make knows the targets, and the tree has the programs, that a block names.
# Where it names none, the reason must: it says then which test does the same.
sub check_commands
{
	my ($text, $reason) = @_;
	my $known = known_commands($text);

	$known += known_commands($reason) if !$known;
	die "there is nothing to be looked for, neither in the block nor in '$reason'\n" if !$known;
	return;
}

sub known_commands
{
	my ($text) = @_;
	my $known = 0;

	for my $line (split /\n/, $text =~ s/\\\n/ /gr)
	{
		my @words = split ' ', $line =~ s/(^|\s)#.*//r;
		shift @words while @words && $words[0] =~ /^(?:sudo|[A-Z_]+=.*)$/;
		my $program = $words[0] // '';
		if ($program eq 'make')
		{
			my $command = join ' ', @words;
			my $said = `cd "$ENV{SRC}" && $command -n 2>&1`;
			die "$command: $said" if $? != 0;
			++$known;
		}
		elsif ($program =~ m{^[^/]+/})
		{
			die "$program is not there, or no program\n" if !-x "$ENV{SRC}/$program";
			++$known;
		}
	}
	return $known;
}

1;
