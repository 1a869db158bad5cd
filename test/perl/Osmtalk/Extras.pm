package Osmtalk::Extras;

# What some tests use and not every machine has: Go, and packages of the npm
# registry.  Without it these tests are skipped, and say so; where
# OSMTALK_EXTRAS is "required" they fail.
#
# The packages are those of test/npm/package.json, in the versions of its lock
# file.  The first test that asks installs them into the stage; the tree stays
# free of them.

use strict;
use warnings;
use Fcntl qw(:flock);
use JSON::PP ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);

sub npm_directory { return "$ENV{STAGE}/npm"; }

# Why a thing, "go" or "npm", is not there; empty if it is.
sub missing
{
	my ($what) = @_;
	my $reason =
		$what eq 'go' ? (has_command('go') ? '' : 'there is no go; Debian has it as golang-go')
	  : $what eq 'npm' ? npm_packages()
	  : die "nobody knows how to look for '$what'\n";

	die "$reason\n" if $reason ne '' && ($ENV{OSMTALK_EXTRAS} // '') eq 'required';
	return $reason;
}

sub has_command
{
	my ($command) = @_;

	return system("command -v $command >/dev/null 2>&1") == 0;
}

# Installs the packages, unless another test has; returns what went wrong.
sub npm_packages
{
	my $dir = npm_directory();

	return 'there is no npm' if !has_command('npm');
	mkdir $dir;
	# one of the tests that run side by side
	open my $lock, '>', "$dir/lock" or die "could not open $dir/lock: $!";
	flock $lock, LOCK_EX or die "could not lock $dir/lock: $!";
	if (!-e "$dir/result")
	{
		my $said = npm_install($dir);
		append_to_file("$dir/result", $said);
	}
	return slurp_file("$dir/result");
}

# No scripts of the packages' own are run.
sub npm_install
{
	my ($dir) = @_;
	local $ENV{HOME} = $dir;

	system('cp', "$ENV{SRC}/test/npm/package.json", "$ENV{SRC}/test/npm/package-lock.json", $dir) == 0
	  or die "could not copy test/npm\n";
	my $said = `cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error \\
		--fetch-retries=1 --fetch-timeout=30000 </dev/null 2>&1`;
	return $? == 0 ? '' : 'npm could not install the packages of test/npm: ' . ($said =~ s/\s+/ /gr);
}

# The version of a package that the lock file has.
sub npm_version
{
	my ($package) = @_;
	my $lock = JSON::PP::decode_json(slurp_file("$ENV{SRC}/test/npm/package-lock.json"));

	return $lock->{packages}{"node_modules/$package"}{version};
}

# For programs in Go: what they are built from is the standard library alone.
sub environment
{
	return (GOCACHE => "$ENV{STAGE}/go", GOPROXY => 'off', GO111MODULE => 'auto', GOTOOLCHAIN => 'local');
}

1;
