# The pages' links lead somewhere; and what runs the pages' blocks sees when one
# is not true.

use strict;
use warnings;
use File::Basename qw(dirname);
use File::Find ();
use Osmtalk::DocRunner;
use Osmtalk::Docs;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $top = $ENV{SRC};

# ---- links ----

my @pages = (Osmtalk::Docs::pages($top), grep { -e "$top/$_" } 'CHANGELOG.md');
File::Find::find({ no_chdir => 1, wanted => sub { push @pages, s{^\Q$top\E/}{}r if m{/README\.md\z} } }, "$top/test");
my %anchors = map { $_ => Osmtalk::Docs::anchors(slurp_file("$top/$_")) } @pages;

# Whether a link of a page leads somewhere in the tree, or out of it.
sub leads_somewhere
{
	my ($page, $link) = @_;

	return 1 if $link =~ m{^(?:https?://|mailto:)};
	my ($path, $anchor) = split /#/, $link, 2;
	my $target = $path eq '' ? $page : dirname($page) . "/$path";
	$target =~ s{^\./}{};
	1 while $target =~ s{[^/]+/\.\./}{};
	return 0 if !-e "$top/$target";
	return !defined $anchor || !$anchors{$target} || $anchors{$target}{$anchor};
}

for my $page (@pages)
{
	is_deeply([ grep { !leads_somewhere($page, $_) } Osmtalk::Docs::links(slurp_file("$top/$page")) ], [], "links of $page");
}
ok(!leads_somewhere('README.md', $_), "a link to $_ would be seen") for 'doc/no.md', '#no-such-heading', 'doc/osmtalk.md#no';
ok(leads_somewhere('doc/osmtalk.md', $_), "a link to $_ is one") for '../README.md#install', '#tables', 'security.md#dumps';

# ---- comments that are not understood ----

my %wrong = (
	"<!-- test: skip -->\n```sql\n```\n" => 'needs to be said what',
	"<!-- test: skp: x -->\n```sql\n```\n" => 'is not known',
	"<!-- test output -->\n```sql\n```\n" => 'not understood',
	"<!-- test: output: x -->\n```text\n```\n" => 'stands alone',
	"<!-- test: setup demo -->\nAnd then:\n```sql\n```\n" => 'no block follows',
	"<!-- test: setup demo -->\n" => 'no block follows',
	"```sql\nSELECT 1;\n" => 'without an end',
);
for my $text (sort keys %wrong)
{
	eval { Osmtalk::Docs::blocks($text, 'page') };
	like($@, qr/^page:?\d*: .*$wrong{$text}/, $text =~ s/\n/ /gr);
}

# ---- blocks, right and wrong ----

my @cases = (
	[ ran => "```sql\nSELECT 1 AS one \\gset\nSELECT :one;\n```\n" ],
	[ ran => "<!-- test: output -->\n```text\n ?column? \n\x{2026}\n(1 \x{2026})\n```\n" ],
	[ failed => "<!-- test: output -->\n```text\n ?column? \n----------\n        2\n(1 row)\n```\n", 'not as shown' ],
	[ failed => "```sql\nSELECT 1/0;\nSELECT 2;\n```\n", 'division by zero' ],
	[ ran => "<!-- test: setup demo -->\n<!-- test: expect: SELECT count(*) > 0 FROM osmtalk.leads -->\n```sql\nSELECT 1;\n```\n" ],
	[ failed => "<!-- test: expect: SELECT false -->\n```sql\nSELECT 1;\n```\n", "says 'f'" ],
	[ failed => "<!-- test: setup nobody -->\n```sql\nSELECT 1;\n```\n", 'there is no test/docs/nobody' ],
	[ failed => "<!-- test: setup nothing -->\n```sql\nSELECT 1;\n```\n", 'too late' ],
	[ failed => "```\nSELECT 1;\n```\n", 'nobody knows to run' ],
	[ failed => "```cobol\nx\n```\n", 'nobody knows to run' ],
	[ text => "```text\nanything\n```\n" ],
	[ skipped => "<!-- test: skip: there is\n     one machine -->\n```sh\nfalse\n```\n", 'there is one machine' ],
	[ ran => "```sh\npsql -XAtc 'SELECT 1'\n```\n" ],
	[ failed => "```sh\nfalse\ntrue\n```\n", 'status 1' ],
	[ exists => "<!-- test: exists: too long -->\n```sh\nmake test SUITE=tap   # some\nsudo make install\ntest/bin/demo\n```\n" ],
	[ failed => "<!-- test: exists: too long -->\n```sh\nmake no-such-target\n```\n", 'No rule' ],
	[ failed => "<!-- test: exists: too long -->\n```sh\ntest/bin/no-such\n```\n", 'not there' ],
	[ exists => "<!-- test: exists: make test -->\n```sh\nsudo apt install x \\\n  no/such\n/usr/bin/no-such\n```\n" ],
	[ failed => "<!-- test: exists: make no-such-test -->\n```sh\nsudo apt install x\n```\n", 'No rule' ],
	[ failed => "<!-- test: exists: another test does -->\n```sh\nsudo apt install x\n```\n", 'nothing to be looked for' ],
	[ ran => "```json\n{\"a\": 1}\n```\n" ],
	[ failed => "```json\n{\"a\": 1,}\n```\n", 'json|expected|malformed' ],
	[ ran => "```ini\n# a comment\nosmtalk.request_timeout = 10s\n\nosmtalk.trusted_networks = '127.0.0.0/8'\n```\n" ],
	[ failed => "```ini\nosmtalk.no_such = 1\n```\n", 'osmtalk.no_such' ],
	[ ran => "```js\nconsole.log(1 + 1);\n```\n" ],
	[ ran => "<!-- test: output -->\n```text\n2\n```\n" ],
	[ failed => "```js\nthrow new Error('no');\n```\n", 'Error: no' ],
	[ ran => "```python\nassert 1 + 1 == 2\n```\n" ],
	[ failed => "```python\nassert 1 + 1 == 3\n```\n", 'AssertionError' ],
	[ failed => "<!-- test: background: exit 1 -->\n```sql\nSELECT 1;\n```\n", 'does not start' ],
	[ ran => "<!-- test: background -->\n```js\nimport http from 'node:http';\nhttp.createServer((a, b) => { console.log('asked'); b.end('hello') }).listen(8080, '127.0.0.1');\n```\n" ],
	[ ran => "<!-- test: prints: asked -->\n```python\n"
		. "import urllib.request\nassert urllib.request.urlopen('http://127.0.0.1:8080').read() == b'hello'\n```\n" ],
	[ failed => "<!-- test: background: true -->\n```sql\nSELECT 1;\n```\n", 'listens on the page\'s port already' ],
	[ failed => "<!-- test: background -->\n```text\nSELECT 1;\n```\n", 'cannot be started' ],
	[ ran => "<!-- test: file lib.py -->\n<!-- test: run: python3 -c 'import lib; assert lib.one() == 1' -->\n```python\ndef one():\n    return 1\n```\n" ],
);
my $text = join "\n", map { $_->[1] } @cases;
utf8::encode($text);
my @results;
$Osmtalk::DocRunner::patience = 5;    # one of them waits in vain
Osmtalk::DocRunner->new('sample', Osmtalk::Docs::blocks($text, 'sample'))->run_all(sub { push @results, [ @_[ 1, 2 ] ] });
is(scalar(@results), scalar(@cases), 'each block has a result');
for my $i (0 .. $#cases)
{
	my ($status, $block, $message) = @{ $cases[$i] };
	my $name = "$status: " . ($block =~ s/\n/ /gr);

	utf8::encode($name);
	is($results[$i][0], $status, $name) or diag $results[$i][1];
	like($results[$i][1], qr/$message/i, 'and says why') if defined $message;
}

done_testing();
