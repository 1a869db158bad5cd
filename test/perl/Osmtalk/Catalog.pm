package Osmtalk::Catalog;

# Everything that an extension consists of, as text: so that two ways to come
# to a version can be compared.  pg_dump says nothing of an extension's
# members, so first they are made ordinary objects: the database is of no other
# use afterwards.

use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);

our @EXPORT = qw(describe differences);

# What pg_dump does not show, or would show in another way.
my %queries = (
	'extension' => q(
		SELECT extversion, extnamespace::regnamespace, extrelocatable, extowner::regrole
		  FROM pg_extension WHERE extname = 'osmtalk'),
	'member' => q(
		SELECT i.type, i.identity
		  FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) i
		 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'osmtalk')),
	'dumped with its rows' => q(
		SELECT c.oid::regclass, c.condition
		  FROM pg_extension x, unnest(x.extconfig, x.extcondition) c (oid, condition) WHERE x.extname = 'osmtalk'),
	'privilege that no dump repeats' => q(
		SELECT i.type, i.identity, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
		  FROM pg_init_privs p, pg_identify_object(p.classoid, p.objoid, p.objsubid) i, aclexplode(p.initprivs) a
		 WHERE p.privtype = 'e' AND i.schema = 'osmtalk'),
	# its order in a dump is that of the grants
	'privilege' => q(
		SELECT o.identity, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
		  FROM (SELECT 'pg_proc'::regclass, oid, 0, proacl FROM pg_proc WHERE pronamespace = 'osmtalk'::regnamespace
				UNION ALL
				SELECT 'pg_class'::regclass, oid, 0, relacl FROM pg_class WHERE relnamespace = 'osmtalk'::regnamespace
				UNION ALL
				SELECT 'pg_type'::regclass, oid, 0, typacl FROM pg_type WHERE typnamespace = 'osmtalk'::regnamespace) c (class, oid, sub, acl),
			   pg_identify_object(c.class, c.oid, c.sub) o, aclexplode(c.acl) a));

sub describe
{
	my ($node, $database) = @_;
	my $text = '';

	for my $what (sort keys %queries)
	{
		$text .= "$what: $_\n" for sort split /\n/, $node->safe_psql($database, $queries{$what});
	}
	$node->safe_psql($database, <<'END');
DELETE FROM pg_init_privs WHERE privtype = 'e' AND (pg_identify_object(classoid, objoid, objsubid)).schema = 'osmtalk';
DELETE FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'osmtalk');
END
	my ($dump, $errors);
	IPC::Run::run([ $node->installed_command('pg_dump'), '--schema-only', '--schema=osmtalk', '-d', $node->connstr($database) ],
		'>', \$dump, '2>', \$errors)
	  or die "pg_dump: $errors\n";
	# newer ones put a random word into \restrict
	$text .= join '', grep { !/^(--.*|\\(un)?restrict .*|)$/ } map { "$_\n" } split /\n/, $dump;
	return $text;
}

# The lines in which two descriptions differ, as diff shows them; empty if they are the same.
sub differences
{
	my ($one, $other) = @_;
	my $base = "$PostgreSQL::Test::Utils::tmp_check/description";
	my $difference = '';

	unlink "$base.1", "$base.2";
	append_to_file("$base.1", $one);
	append_to_file("$base.2", $other);
	IPC::Run::run([ 'diff', '-U1', "$base.1", "$base.2" ], '>', \$difference);
	return $difference =~ s/\A(---|\+\+\+).*\n(---|\+\+\+).*\n//r;
}

1;
