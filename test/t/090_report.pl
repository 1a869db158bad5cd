# The page that report_html() makes: its numbers are those of queries, whatever
# names are in it they are text, whoever sees it sees no more than he may, and a
# browser shows it as it is meant to be seen.  Pictures of it are left in the
# test's directory (KEEP=1).

use strict;
use warnings;
use utf8;
use JSON::PP ();
use List::Util qw(max sum0);
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my $program = $ENV{CHROMIUM} // (grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH})[0];
my $without = 'chromium is not installed: the page is not looked at (apt install chromium)';
my $directory = PostgreSQL::Test::Utils::tempdir();
my $pictures = "$PostgreSQL::Test::Utils::tmp_check/pictures";
mkdir $pictures or die;

my $node = new_cluster('main', conf => "osmtalk.enabled = off\ntimezone = 'Asia/Kolkata'\n");
my $db = 'report <b>&"\'';
$node->safe_psql('postgres', 'CREATE DATABASE "' . ($db =~ s/"/""/gr) . '"');
$node->safe_psql($db, 'SET client_min_messages = error; CREATE EXTENSION osmtalk;
	CREATE ROLE monitoring IN ROLE osmtalk_monitor; CREATE ROLE clerk IN ROLE osmtalk_admin; CREATE ROLE application IN ROLE osmtalk_app;
	CREATE ROLE shows_it; GRANT USAGE ON SCHEMA osmtalk TO shows_it; GRANT EXECUTE ON FUNCTION osmtalk.report_html(interval, text) TO shows_it');

# One moment, so that a page and a query are of the same.
my $session = session($node, $db);
sub sql { return $session->query_safe($_[0]); }
sub page { return sql('SELECT osmtalk.report_html(' . ($_[0] // '') . ')') . "\n"; }
sub rows { return map { [ split /\|/, $_, -1 ] } split /\n/, sql($_[0]); }

my $files = 0;
sub file_of
{
	my ($page) = @_;
	my $file = sprintf '%s/page%d.html', $directory, ++$files;

	append_to_file($file, $page);
	return $file;
}

# It is one whole document, in ASCII.
sub is_well_formed
{
	my ($page, $name) = @_;
	my $errors = '';

	unlike($page, qr/[^\n -~]/, "$name: ASCII");
	IPC::Run::run([ 'python3', '-c', 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])', file_of($page) ], '2>', \$errors);
	return is($errors =~ s/.*\n(?=.)//sr, '', "$name: well-formed");
}

# What a browser sees; see test/browser/look.mjs.
sub look
{
	my ($page, $name) = @_;
	my ($out, $errors);

	mkdir "$pictures/$name";
	IPC::Run::run([ 'node', "$ENV{SRC}/test/browser/look.mjs", file_of($page), "$pictures/$name" ], '>', \$out, '2>', \$errors, init => sub { $ENV{CHROMIUM} = $program })
	  or die "look.mjs: $errors\n";
	return JSON::PP->new->utf8->decode($out);
}

# What every page is to be like, in every view.
sub is_fit_to_see
{
	my ($seen, $name) = @_;
	my $page = $seen->{contents};

	is_deeply($seen->{console}, [], "$name: the console says nothing");
	is_deeply($seen->{requests}, [], "$name: it asks for nothing");
	for my $view (sort keys %{ $seen->{views} })
	{
		my $is = $seen->{views}{$view};

		is_deeply($is->{wide}, [], "$name, $view: nothing is wider than the page");
		cmp_ok($is->{pageWidth}, '<=', $is->{width}, "$name, $view: nor is the page wider than the screen");
		is_deeply($is->{faint}, [], "$name, $view: text and colours have enough contrast");
		is_deeply($is->{small}, [], "$name, $view: what is to be touched is large enough");
	}
	is("@$page{qw(lang charset mode)}", 'en UTF-8 CSS1Compat', "$name: language, encoding and standard");
	is_deeply($page->{doubleIds}, [], "$name: ids are unique");
	is_deeply($page->{missingIds}, [], "$name: what is referred to is there");
	is($page->{unnamed}, 0, "$name: every picture has a title");
	is(scalar(grep { /^h1/ } @{ $page->{headings} }), 1, "$name: one first heading");
	is($page->{elements}{$_}, 1, "$name: one $_") for qw(header main footer);
	return;
}

# ---- nothing at all ----

sql('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $empty = page();
is_well_formed($empty, 'empty');
unlike($empty, qr/class="plot"|<table/, 'empty: no charts, no tables');
is(() = $empty =~ /<p>(No calls\.|No requests\.|None\.|No lead was finished)/g, 5, 'empty: it says so');
like($empty, qr/<div id="connect-rate"><dt>Connect rate<\/dt><dd class="value">&#8211;</, 'empty: no rate of nothing');
sql('ROLLBACK');

# ---- a week ----

$node->command_ok([ 'psql', '-XqAt', '-v', 'leads=3000', '-d', $node->connstr($db), '-f', "$ENV{SRC}/test/browser/sample.sql" ], 'a week of somebody\'s business');
sql('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $page = page();
is_well_formed($page, 'a week');

# ---- who sees it, and how ----

sub as_role { my ($role) = @_; sql("SET LOCAL ROLE $role"); my $seen = page(); sql('RESET ROLE'); return $seen; }
is(as_role($_), $page, "$_ sees the same") for qw(monitoring clerk shows_it);
sql('ROLLBACK');
my ($status, $out, $errors) = $node->psql($db, 'SET ROLE application; SELECT osmtalk.report_html()');
like($errors, qr/permission denied for function report_html/, 'an application does not');
for my $helper (split /\n/, sql("SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'osmtalk'::regnamespace AND proname LIKE 'report\\_%' AND proname <> 'report_html'"))
{
	is(sql("SELECT count(*) FROM unnest('{osmtalk_app,osmtalk_admin,osmtalk_monitor,public}'::name[]) r WHERE has_function_privilege(r, '$helper', 'EXECUTE')"), 0, "$helper is nobody's");
}

unlike($page, qr/\+?49[34]0\d/, 'no phone number is in it');
unlike($page, qr/not-to-be-shown|secret-of|said-in-confidence|whsec/, 'nor a query string of a URL, a body, an answer, a transcript, a secret');
like($page, qr{https://hooks\.partner\.example/osmtalk/in\?\.\.\.}, 'but URLs as redacted_url() has them');

sql('BEGIN ISOLATION LEVEL REPEATABLE READ');
$page = page();
for my $setting ("DateStyle = 'SQL, DMY'", "IntervalStyle = 'iso_8601'", 'standard_conforming_strings = off', 'extra_float_digits = -15', "lc_numeric = 'C'", 'search_path = pg_temp, public', 'quote_all_identifiers = on',
	'transform_null_equals = on', 'enable_hashagg = off', 'enable_hashjoin = off', 'work_mem = \'64kB\'', 'row_security = off', map { "client_encoding = '$_'" } qw(LATIN1 WIN1251 SQL_ASCII EUC_JP))
{
	sql("SAVEPOINT before; SET LOCAL $setting");
	is(page(), $page, "with $setting: the same page");
	sql('ROLLBACK TO before');
}
sql("SET LOCAL TimeZone = '<+05>-05'");
like(page(), qr{<bdi>&#60;\+05&#62;-05</bdi>}, 'the time zone\'s name is text, too');
sql('ROLLBACK');

# ---- what it is asked for ----

for my $case ("NULL", "'0'", "'-1 day'", "'100 years 1 day'", "'1 year -400 days'", "'1000000 years'")
{
	is(($node->psql($db, "\\set VERBOSITY sqlstate\nSELECT osmtalk.report_html($case)"))[2] =~ s/^.*ERROR: +//sr, '22023', "no page for $case");
}
like(($node->psql($db, "SELECT osmtalk.report_html(campaign_id => 'cmp_none')"))[2], qr/ERROR:  there is no campaign "cmp_none"/, 'nor for a campaign that is not there');
my %bars = ('1 microsecond' => [ 1, 1 ], '90 minutes' => [ 18, 19 ], '8 hours' => [ 32, 33 ], '2 days' => [ 48, 49 ], '7 days' => [ 28, 29 ], '60 days' => [ 60, 61 ], '1 year' => [ 52, 54 ], '5 years' => [ 60, 61 ],
	'100 years' => [ 100, 101 ], '-1 mon 40 days' => [ 9, 42 ]);
for my $period (sort keys %bars)
{
	my $other = page("'$period'");

	is_well_formed($other, $period);
	next if $other =~ />No calls\./;
	my ($table) = $other =~ m{<table id="calls-table">.*?<tbody>(.*?)</tbody>}s;
	my $bars = () = $table =~ /<tr>/g;
	cmp_ok($bars, '>=', $bars{$period}[0], "$period: not too few bars") && cmp_ok($bars, '<=', $bars{$period}[1], "$period: nor too many");
}

# ---- tenants ----

$node->safe_psql($db, 'SELECT osmtalk.enable_tenant_isolation()');
sub as_tenant
{
	my ($org, $arguments) = @_;

	sql("BEGIN; SET LOCAL osmtalk.org_id = '$org'; SET LOCAL ROLE monitoring");
	my $seen = page($arguments);
	sql('ROLLBACK');
	return $seen;
}
my %own = (acme => qr/Q2 Renewals|Win back|Demo follow|hooks\.partner|crm\.acme|cmp_renewals|acme/, globex => qr/Kundenbefragung|Health policy|hooks\.globex|cmp_survey|globex/);
for my $case ([ 'acme', 'globex' ], [ 'globex', 'acme' ])
{
	my $seen = as_tenant($case->[0]);

	like($seen, $own{ $case->[0] }, "$case->[0] sees its own");
	unlike($seen, $own{ $case->[1] }, '... and nothing of the other');
}
my $count = sub { my ($seen) = $_[0] =~ m{<div id="calls-tile"><dt>Calls</dt><dd class="value">([\d,]+)} or die; return $1 =~ tr/,//dr; };
my $all = sub {
	sql("BEGIN; SET LOCAL ROLE postgres");
	my $shown = $count->(page());
	is($shown, sql("SELECT count(*) FROM osmtalk.calls WHERE placed_at BETWEEN now() - interval '7 days' AND now()"), 'a superuser sees all');
	sql('ROLLBACK');
	return $shown;
};
# the seven days move on meanwhile, and calls fall out of them
my $before = $all->();
my $both = $count->(as_tenant('acme')) + $count->(as_tenant('globex'));
my $after = $all->();
ok($after <= $both && $both <= $before, "... and the two see all calls, together ($before, $both, $after)");
my $of_nobody = as_tenant('');
unlike($of_nobody, qr/$own{acme}|$own{globex}/, 'a session without a tenant sees nothing');
is($of_nobody =~ s/<header>.*<\/header>//sr, $empty =~ s/<header>.*<\/header>//sr, '... as if there were nothing');
like(($node->psql($db, "SET osmtalk.org_id = 'acme'; SET ROLE monitoring; SELECT osmtalk.report_html(campaign_id => 'cmp_survey')"))[2], qr/there is no campaign "cmp_survey"/, 'another\'s campaign is none');
unlike(as_tenant('acme', "campaign_id => 'cmp_demo'"), qr/Q2 Renewals|crm\.acme/, 'its own campaign is by itself');
$node->safe_psql($db, 'SELECT osmtalk.disable_tenant_isolation()');

# ---- names that are no good ----

my @hostile = (
	q(<script>hacked = 'a script'</script>),
	q("><img src="x" onerror="hacked = 'an attribute'"><p title=").q(' autofocus onfocus='hacked=1),
	'</title></desc></svg></style></table><style>* { display: none }</style><!-- <![CDATA[ ]]> --!>',
	'&lt;b&gt; &#60;script&#62; &amp;amp; &nbsp &',
	"controls: \x01\x07\x1b[31m \x7f \x{85} \x{9b} \x{2028} \t tab\nline",
	"directions: \x{202e}gnp.exe \x{2067}\x{2066}\x{202a} \x{200f} שלום عربي",
	'W' x 400,
	"\x{1F469}\x{200D}\x{1F469}\x{200D}\x{1F467} \x{1F1EE}\x{1F1F3} e" . "\x{301}" x 40 . " \x{ffff}\x{fffe}\x{fdd0}\x{1ffff}\x{10fffd}",
	'%s %1$s %% \\ \\u0041 E\'\\\' $$ {{7*7}} ${7*7}',
	"https://user:pw-not-to-be-shown\@host.example/<path>\"'&?key=not-to-be-shown#not-to-be-shown");

# As the page has it, without the help of what makes it.
sub shown
{
	my ($text) = @_;

	$text = substr($text, 0, 119) . "\x{2026}" if length $text > 120;
	$text =~ s/[\t\n\x0b\f\r\x{85}\x{2028}\x{2029}]/ /g;
	return $text =~ s/[\x00-\x1f\x7f-\x9f\x{202a}-\x{202e}\x{2066}-\x{2069}\x{fdd0}-\x{fdef}\x{fffe}\x{ffff}\x{1fffe}\x{1ffff}]/\x{fffd}/gr;
}

$node->safe_psql($db, <<'END');
CREATE SCHEMA test;
-- everything that has text, with this text in it; what counts is the same whatever it is
CREATE FUNCTION test.furnish(names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	name text;
	n int := 0;
BEGIN
	FOREACH name IN ARRAY names LOOP
		n := n + 1;
		INSERT INTO osmtalk.org_settings (org_id) VALUES ('org' || n || name);
		INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp' || n || name, 'org' || n || name, name);
		INSERT INTO osmtalk.leads (id, campaign_id, phone_number, status, disposition, completed_at) VALUES ('ld' || n || name, 'cmp' || n || name, '+49301234567', 'completed', name, now() - interval '1 day');
		INSERT INTO osmtalk.calls (id, org_id, lead_id, status, placed_at) VALUES ('call' || n || name, 'org' || n || name, 'ld' || n || name, 'completed', now() - interval '1 day');
		INSERT INTO osmtalk.events (id, type, org_id, campaign_id, body, created_at) VALUES ('evt' || n || name, name, 'org' || n || name, 'cmp' || n || name, name, now() - interval '1 day');
		INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, duration_ms, http_status, error)
		VALUES ('evt' || n || name, 1, n || name, now() - interval '1 day', 'NaN', 500, n || name), ('evt' || n || name, 2, n || name, now() - interval '1 day', 'Infinity', 200, NULL),
			('evt' || n || name, 3, n || name, now() - interval '1 hour', -1, NULL, n || name);
		INSERT INTO osmtalk.events (type, org_id, body, created_at, skipped_reason) VALUES (name, 'org' || n || name, name, now() - interval '1 day', n || name);
	END LOOP;
END $$;
END
sub page_with
{
	my ($arguments, @names) = @_;
	my $array = join ', ', map { "convert_from('\\x" . unpack('H*', do { my $bytes = $_; utf8::encode($bytes); $bytes }) . "', 'UTF8')" } @names;

	sql("BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL standard_conforming_strings = on; DELETE FROM osmtalk.leads; SELECT test.furnish(ARRAY[$array])");
	my $made = page($arguments);
	sql('ROLLBACK');
	return $made;
}
my $hostile = page_with('', @hostile);
my $harmless = page_with('', map { "name $_" } 1 .. @hostile);
is_well_formed($hostile, 'hostile names');
unlike($hostile, qr/<script|<img|onerror="/, '... none has become markup');
# a campaign may be called so, and its name be an error; an endpoint's URL is not shown so
my ($endpoints) = $hostile =~ m{<table id="endpoints-table"(.*?)</table>}s;
my @endpoints = $endpoints =~ m{<th role="rowheader" scope="row" class="words"><bdi>(\d+http.*?)</bdi></th>}g;
is_deeply(\@endpoints, ['10https://...@host.example/&#60;path&#62;&#34;&#39;&#38;?...'], '... nor has a URL kept what it is to be without');
my $of_one = page_with("campaign_id => 'cmp1' || " . "'" . ($hostile[0] =~ s/'/''/gr) . "'", @hostile);
is_well_formed($of_one, 'a hostile campaign');

# ---- in a browser ----

SKIP:
{
	skip $without, 1 if !$program;

	sql('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$page = page();
	my $seen = look($page, 'week');
	my $shown = $seen->{contents};
	is_fit_to_see($seen, 'a week');
	note "pictures: $pictures; lowest contrast: ", join ', ', map { sprintf '%s %.2f', $_, $seen->{views}{$_}{lowestContrast} } sort keys %{ $seen->{views} };
	is($shown->{title}, 'osmTalk report', 'the title');
	like($shown->{header}, qr/All organisations, database \Q$db\E\n+.*Asia\/Kolkata/, 'what it is of');

	# numbers, as people write them, and back
	my $number = sub { return $_[0] eq "\x{2013}" ? '' : $_[0] =~ /[a-z]{4},/i ? $_[0] : $_[0] =~ tr/,//dr; };
	my $table = sub { my ($name) = @_; return [ map { [ map { $number->($_) } @$_ ] } @{ $shown->{tables}{$name} } ]; };
	my $percent = sub { my ($part, $whole) = @_; return $part == $whole ? "100\x{a0}%" : $part == 0 ? "0\x{a0}%" : sprintf "%.1f\x{a0}%%", 100 * $part / $whole; };
	# a half is rounded up, as by PostgreSQL
	my $round = sub { my ($v, $digits) = @_; return sprintf "%.${digits}f", int($v * 10**$digits + 0.5) / 10**$digits; };
	my $ms = sub { my ($v) = @_; return $v eq '' ? '' : $v < 9.95 ? $round->($v, 1) . "\x{a0}ms" : $v < 999.5 ? $round->($v, 0) . "\x{a0}ms" : $round->($v / 1000, 1) . "\x{a0}s"; };

	# calls
	my @statuses = qw(completed voicemail no_answer busy failed dnc_blocked);
	my $of_statuses = join ', ', map { "count(*) FILTER (WHERE status::text = '$_')" } @statuses;
	my @six_hours = rows("SELECT to_char(b, 'Dy DD Mon YYYY HH24:MI'), count(c.id), $of_statuses, count(*) FILTER (WHERE status IN ('queued', 'in_progress'))
		  FROM generate_series(date_trunc('day', now() - interval '7 days'), now(), interval '6 hours') b
		  LEFT JOIN osmtalk.calls c ON c.placed_at >= greatest(b, now() - interval '7 days') AND c.placed_at < b + interval '6 hours' WHERE b + interval '6 hours' > now() - interval '7 days' GROUP BY b ORDER BY b");
	my @all_calls = rows("SELECT count(*), $of_statuses, count(*) FILTER (WHERE status IN ('queued', 'in_progress')) FROM osmtalk.calls WHERE placed_at > now() - interval '7 days'");
	cmp_ok($all_calls[0][0], '>', 1500, 'calls');
	is_deeply($table->('calls-table'), [ @six_hours, [ 'in all', @{ $all_calls[0] } ] ], 'calls over time, by status');
	is(scalar @{ $shown->{bars}{'calls-chart-title'} }, scalar(grep { $_->[1] } @six_hours), 'a bar wherever there are calls');
	my ($highest) = sort { $b->[1] <=> $a->[1] } @six_hours;
	ok((grep { /^\Q$highest->[0]\E: \Q@{[ scalar reverse((reverse $highest->[1]) =~ s!(\d{3})(?=\d)!$1,!gr) ]}\E \(completed \Q$highest->[2]\E,/ } @{ $shown->{bars}{'calls-chart-title'} }), 'a bar says what it is');
	my ($calls, $completed, $blocked, $open) = @{ $all_calls[0] }[ 0, 1, 6, 7 ];
	is($number->($shown->{tiles}{'calls-tile'}[0]), $calls, 'tile: calls');
	is($shown->{tiles}{'connect-rate'}[0], $percent->($completed, $calls - $blocked - $open), 'tile: connect rate');

	# outcomes
	my @dispositions = qw(qualified callback completed not_interested);
	my $finished = "l.completed_at BETWEEN now() - interval '7 days' AND now()";
	my $figures = join ', ', "count(*) FILTER (WHERE $finished)", "count(*) FILTER (WHERE l.status IN ('pending', 'calling'))", (map { "count(*) FILTER (WHERE $finished AND l.status = '$_')" } @statuses),
	  (map { "count(*) FILTER (WHERE $finished AND l.disposition = '$_')" } @dispositions), 0;
	my @campaigns = rows("SELECT c.name, c.id, c.org_id, $figures FROM osmtalk.campaigns c JOIN osmtalk.leads l ON l.campaign_id = c.id GROUP BY c.id ORDER BY count(*) FILTER (WHERE $finished) DESC");
	my @all_leads = rows("SELECT $figures FROM osmtalk.leads l");
	for my $row (@campaigns) { utf8::decode($row->[0]); }
	is_deeply($table->('outcomes-table'), [ @campaigns, [ 'all 6 campaigns', @{ $all_leads[0] } ] ], 'outcomes by campaign');
	is_deeply($shown->{names}, [ map { $_->[0] } @campaigns ], 'each campaign is shown');
	my @widths = map { $_->[1] } @{ $shown->{widths}[0] };
	is_deeply([ map { sprintf '%.3f', $_ } @widths ], [ map { sprintf '%.3f', 100 * $_ / $campaigns[0][3] } grep { $_ } @{ $campaigns[0] }[ 5 .. 10 ] ], '... as wide as its numbers are large');
	like($shown->{breakdowns}[1], qr/^Disposition: qualified \Q@{[ scalar reverse((reverse $campaigns[0][11]) =~ s!(\d{3})(?=\d)!$1,!gr) ]}\E,/, '... with a disposition');

	# deliveries
	# to the microsecond, as in the figures of which the page is made
	my $latency = join ', ', map { "round((percentile_cont($_) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE http_status = 200))::numeric, 3)" } 0.5, 0.95;
	my $requests = "count(a.event_id), count(*) FILTER (WHERE http_status = 200), count(*) FILTER (WHERE a.error IS NOT NULL), $latency";
	my @requests = (rows("SELECT to_char(b, 'Dy DD Mon YYYY HH24:MI'), $requests FROM generate_series(date_trunc('day', now() - interval '7 days'), now(), interval '6 hours') b
		  LEFT JOIN osmtalk.delivery_attempts a ON a.started_at >= greatest(b, now() - interval '7 days') AND a.started_at < b + interval '6 hours' WHERE b + interval '6 hours' > now() - interval '7 days' GROUP BY b ORDER BY b"),
		rows("SELECT 'in all', $requests FROM osmtalk.delivery_attempts a WHERE started_at > now() - interval '7 days'"));
	for my $row (@requests) { $_ = $ms->($_) for @$row[ 4, 5 ]; }
	is_deeply($table->('delivery-table'), \@requests, 'requests over time, and their latency');
	is($shown->{tiles}{latency}[0], "$requests[-1][4] / $requests[-1][5]", 'tile: latency');
	is(scalar @{ $shown->{bars}{'latency-chart-title'} }, scalar(grep { $_->[2] } @requests) - 1, 'a bar of latency wherever there was an answer');
	my ($events) = rows("SELECT count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state <> 'skipped'), count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state IN ('pending', 'in_flight'))
		  FROM osmtalk.deliveries WHERE created_at > now() - interval '7 days'");
	cmp_ok($events->[$_], '>', 0, 'events of each kind') for 0 .. 3;
	is($shown->{tiles}{delivered}[0], $percent->(@$events[ 0, 1 ]), 'tile: events delivered');
	is($shown->{tiles}{delivered}[1] =~ s/(?<=\d),(?=\d)//gr, "$events->[0] of $events->[1]; $events->[2] failed, $events->[3] waiting", 'tile: how many, and how many not');
	my @endpoints = rows("SELECT osmtalk.redacted_url(url), CASE WHEN (array_agg(http_status ORDER BY started_at DESC))[1] = 200 THEN 'well again' ELSE 'failing' END, count(*) FILTER (WHERE http_status IS DISTINCT FROM 200), count(*), '',
		  to_char(max(started_at) FILTER (WHERE error IS NOT NULL), 'DD Mon YYYY HH24:MI'), (array_agg(error ORDER BY started_at DESC) FILTER (WHERE error IS NOT NULL))[1]
		  FROM osmtalk.delivery_attempts WHERE started_at > now() - interval '7 days' GROUP BY url HAVING count(error) > 0 ORDER BY 2, 3 DESC");
	$_->[4] = $percent->(@$_[ 2, 3 ]) for @endpoints;
	is_deeply($table->('endpoints-table'), \@endpoints, 'failing endpoints');
	is_deeply($table->('reasons-table'), [ rows("SELECT error, CASE state WHEN 'failed' THEN 'failed' ELSE 'not sent' END, count(*), to_char(max(created_at), 'DD Mon YYYY HH24:MI') FROM osmtalk.deliveries
		 WHERE created_at > now() - interval '7 days' AND state IN ('failed', 'skipped') GROUP BY state, error ORDER BY state, 3 DESC, error COLLATE \"C\"") ], 'why events are dead, or were not sent');
	is_deeply($table->('dead-table'), [ rows("SELECT event_id, to_char(created_at, 'DD Mon YYYY HH24:MI'), type, osmtalk.redacted_url(url), attempts, error FROM osmtalk.deliveries
		 WHERE created_at > now() - interval '7 days' AND state = 'failed' ORDER BY created_at DESC LIMIT 50") ], 'the latest dead letters');

	# one campaign
	my $one = look(page("'3 days', 'cmp_demo'"), 'campaign')->{contents};
	is($number->($one->{tiles}{'calls-tile'}[0]), sql("SELECT count(*) FROM osmtalk.calls c JOIN osmtalk.leads l ON l.id = c.lead_id WHERE l.campaign_id = 'cmp_demo' AND c.placed_at > now() - interval '3 days'"), 'of one campaign: its calls');
	is($number->($one->{tables}{'delivery-table'}[-1][1]), sql("SELECT count(*) FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id WHERE e.campaign_id = 'cmp_demo' AND a.started_at > now() - interval '3 days'"), '... its requests');
	is_deeply($one->{names}, ['Demo follow-up'], '... its outcomes');
	is(scalar @{ $one->{tables}{'endpoints-table'} // [] }, 1, '... its endpoint');
	sql('ROLLBACK');

	# nothing
	is_fit_to_see(look($empty, 'empty'), 'empty');

	# names that are no good: text, and nothing is there that is not there with other names
	my ($bad, $good) = (look($hostile, 'hostile'), look($harmless, 'harmless')->{contents});
	is_fit_to_see($bad, 'hostile names');
	is($bad->{contents}{hacked}, undef, 'no script has run');
	is_deeply($bad->{contents}{$_}, $good->{$_}, "the same $_ as with other names") for qw(elements attributes headings);
	is_deeply([ sort @{ $bad->{contents}{names} } ], [ sort map { shown($_) } @hostile ], 'names are what they are, without controls');
	my @urls = sort map { shown($_ =~ s{(?<=//)[^/?#]*@}{...@}r =~ s/([?#]).*/$1.../sr) } map { my $n = $_ + 1; "$n$hostile[$_]" } 0 .. $#hostile;
	is_deeply([ sort map { $_->[0] } grep { $_->[0] =~ /^\d/ } @{ $bad->{contents}{tables}{'endpoints-table'} } ], [ map { s/^\s+|\s+$//gr } @urls ], 'URLs, too');
	is_fit_to_see(look($of_one, 'hostile-campaign'), 'a hostile campaign');
}

$session->quit;
unlike(log_since($node), qr/terminated by signal|PANIC/, 'no process crashed');
done_testing();
