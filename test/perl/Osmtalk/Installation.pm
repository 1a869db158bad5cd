package Osmtalk::Installation;

# A PostgreSQL of the test's own, with osmtalk in versions that there are not:
# a copy of the stage's programs into which other builds are installed, also
# over one another while servers run, as packages are.  The version that it
# begins with is the present one.

use strict;
use warnings;
use File::Basename ();
use PostgreSQL::Test::Utils qw(append_to_file slurp_file system_or_bail);

# The directories of a PostgreSQL, as its pg_config has them.
sub directory
{
	my ($what) = @_;

	chomp(my $dir = `"$ENV{PG_CONFIG}" --$what`);
	return $dir || die "no $what in $ENV{PG_CONFIG}";
}

sub new
{
	my ($class, $name) = @_;
	my $root = "$PostgreSQL::Test::Utils::tmp_check/$name";
	my ($bin, $lib, $share) = map { directory($_) } qw(bindir pkglibdir sharedir);

	for my $dir ($bin, $lib, $share)
	{
		system_or_bail('mkdir', '-p', "$root$dir");
		# as links: who installs over a file makes a new one
		system_or_bail('cp', '-al', "$ENV{STAGE}$dir/.", "$root$dir");
	}
	return bless { root => $root, bin => "$root$bin", lib => "$root$lib", share => "$root$share/extension" }, $class;
}

# for PostgreSQL::Test::Cluster
sub path { return File::Basename::dirname($_[0]->{bin}); }

# The present version, and the one after it.
sub present_version
{
	my ($version) = slurp_file("$ENV{SRC}/osmtalk.control") =~ /^default_version *= *'(.*)'/m;

	return $version;
}

sub next_version { return present_version() =~ s/(\d+)$/$1 + 1/er; }

sub replace_file
{
	my ($file, $text) = @_;

	unlink $file;
	append_to_file($file, $text);
	return;
}

# Builds the sources as that version, in a directory of its own, which it
# returns.
#   edit    => a function that changes the sources there: edit(directory)
#   oldest  => the oldest version of the objects that its worker serves
#   flags   => for the compiler
sub build
{
	my ($self, $version, %options) = @_;
	my $dir = "$self->{root}/src_" . ++$self->{builds};
	my $control = slurp_file("$ENV{SRC}/osmtalk.control") =~ s/^(default_version *= *)'.*'/$1'$version'/mr;

	system_or_bail('cp', '-a', $ENV{SRC}, $dir);
	unlink glob "$dir/sql/osmtalk--*.sql";
	system_or_bail('cp', '-a', $_, "$dir/sql/") for glob "$ENV{SRC}/sql/osmtalk--*--*.sql";
	replace_file("$dir/osmtalk.control", $control);
	$options{edit}->($dir) if $options{edit};
	system_or_bail('make', '-C', $dir, '-s', '-j2', 'with_llvm=no', "PG_CONFIG=$ENV{PG_CONFIG}",
		$options{oldest} ? "OLDEST_OBJECTS=$options{oldest}" : (), $options{flags} ? "COPT=$options{flags}" : (), 'all');
	return $dir;
}

# Installs a build, or $ENV{SRC}, the present one, over what is there.
sub install
{
	my ($self, $dir) = @_;

	system_or_bail('make', '-C', $dir, '-s', 'with_llvm=no', "PG_CONFIG=$ENV{PG_CONFIG}", "DESTDIR=$self->{root}", 'install');
	return;
}

# Puts a script beside the control file, in place of one of that name.
sub script
{
	my ($self, $name, $text) = @_;

	return replace_file("$self->{share}/$name", $text);
}

1;
