# The table of privileges in doc/privileges.md is what an installation has.
#
# It is made here from the catalogs.  If it differs, look at what has changed;
# if that is meant, put the file that this names in its place:
#     make test SUITE=tap T=041_matrix KEEP=1

use strict;
use warnings;
use Osmtalk::Catalog;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my $node = new_cluster('main');
my @roles = qw(osmtalk_app osmtalk_admin osmtalk_monitor pg_monitor);

$node->safe_psql('postgres', 'SET client_min_messages = error; CREATE EXTENSION osmtalk');

sub rows { return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $_[0]); }

# Who has what on what: kind, object, grantee, privileges; columns in the order
# of the table.  The partitions of a table are one object as long as they are
# alike.
my @granted = rows(<<'END');
WITH rel AS (
	SELECT c.oid, regexp_replace(c.relname, '_([0-9]{2}|kept)$', '_NN') AS name, c.relkind, c.relowner, c.relacl
	  FROM pg_class c WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')),
whole AS (
	SELECT CASE r.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, r.name AS object, r.relowner AS owner, g.grantee,
		   g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END AS privilege, NULL AS columns
	  FROM rel r, aclexplode(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) g
	UNION
	SELECT 'function', p.oid::regprocedure::text, p.proowner, g.grantee, g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END, NULL
	  FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g WHERE p.pronamespace = 'osmtalk'::regnamespace
	UNION
	SELECT 'type', t.typname, t.typowner, g.grantee, g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END, NULL
	  FROM pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) g WHERE t.typnamespace = 'osmtalk'::regnamespace AND t.typelem = 0 AND t.typrelid = 0
	UNION
	SELECT 'schema', 'osmtalk', n.nspowner, g.grantee, g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END, NULL
	  FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) g WHERE n.nspname = 'osmtalk'),
partial AS (
	SELECT CASE r.relkind WHEN 'v' THEN 'view' ELSE 'table' END, r.name, r.relowner, g.grantee, g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END,
		   string_agg(DISTINCT format('%s %s', to_char(a.attnum, 'FM0000'), a.attname), ',' ORDER BY format('%s %s', to_char(a.attnum, 'FM0000'), a.attname))
	  FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid, aclexplode(a.attacl) g GROUP BY 1, 2, 3, 4, 5)
SELECT kind, object, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege, regexp_replace(columns, '(^|,)\d+ ', '\1', 'g'), grantee = owner
  FROM (TABLE whole UNION ALL TABLE partial) g
END

my (%cell, %objects, %others);
for my $row (@granted)
{
	my ($kind, $object, $grantee, $privilege, $columns, $is_owner) = @$row;

	$object =~ s/^osmtalk\.//;
	$object =~ s/timestamp with time zone/timestamptz/g;
	$objects{$kind}{$object} = 1;
	next if $is_owner eq 't';
	$others{$grantee} = 1 if !grep { $_ eq $grantee } @roles;
	push @{ $cell{$kind}{$object}{$grantee} }, $privilege . ($columns ne '' ? " ($columns)" : '');
}

my %order;
@order{qw(SELECT INSERT UPDATE DELETE)} = (1 .. 4);
sub rank { my ($word) = $_[0] =~ /^(\w+)/; return $order{$word} // 9; }

sub cell_of
{
	my ($kind, $object, $role) = @_;
	my @privileges = sort { rank($a) <=> rank($b) || $a cmp $b } @{ $cell{$kind}{$object}{$role} // [] };

	return join '; ', map { s/,/, /gr } @privileges if $kind ne 'function';
	return @privileges ? 'yes' : '';
}

sub table
{
	my ($kind) = @_;
	my @columns = (@roles, sort keys %others);
	my $text = '| ' . join(' | ', $kind, map { "`$_`" } @columns) . " |\n|---" . '|---' x @columns . "|\n";
	my (@some, @none);

	for my $object (sort keys %{ $objects{$kind} })
	{
		push @none, "`$object`" if !$cell{$kind}{$object};
		push @some, "| `$object` | " . join(' | ', map { cell_of($kind, $object, $_) } @columns) . " |\n" if $cell{$kind}{$object};
	}
	return (@some ? $text . join('', @some) : '') . (@some && @none ? "\n" : '')
	  . (@none ? "Nobody but the owner has a right to " . join(",\n", @none) . ".\n" : '');
}

my $text = <<'END';
# Privileges

Who may do what, as an installation has it: made by `test/t/041_matrix.pl`, which fails if this page differs. `sql/grants.sql`
says it to the server, [security.md](security.md) why it is so. `PUBLIC` has nothing but the types of tables' rows. The owner of everything is
`osmtalk_owner`; `pg_monitor` is PostgreSQL's own. A list in parentheses names the columns; without one it is the whole table. `…_NN` are the partitions.

END
$text .= "## The schema and types\n\n" . table('schema') . "\n" . table('type') . "\n## Tables and sequences\n\n" . table('table') . "\n" . table('sequence')
  . "\n## Views\n\n" . table('view') . "\n## Functions\n\n`yes`: may execute it. Those that are internal, and trigger functions, are the owner's alone.\n\n" . table('function');

my $made = "$PostgreSQL::Test::Utils::tmp_check/privileges.md";
append_to_file($made, $text);
my $file = "$ENV{SRC}/doc/privileges.md";
is(differences(-e $file ? slurp_file($file) : '', $text), '', 'doc/privileges.md is true') or diag "what is installed: $made";
is_deeply([ sort keys %others ], [], 'nobody else has any right');

done_testing();
