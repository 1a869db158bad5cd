# A life with secrets, and with tokens in URLs and headers, in a server that logs all that it
# can: none is found afterwards where it does not belong.  They get there by
# rotation, by bind parameters and by COPY; whatever can fail, does.

use strict;
use warnings;
use IPC::Run ();
use Osmtalk::Canary;
use Osmtalk::Nginx;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new(bodies => 1);
my $node = new_cluster('main', conf => <<'END');
shared_preload_libraries = 'osmtalk, pg_stat_statements, auto_explain'
osmtalk.request_timeout = 1s
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
pg_stat_statements.track_planning = on
track_activity_query_size = 16kB
logging_collector = on
log_destination = 'stderr,csvlog,jsonlog'
deadlock_timeout = 100ms
END
expect_signals();
set_up($node, $db, url => $receiver->url);
$node->safe_psql($db, 'CREATE EXTENSION pg_stat_statements');

# ---- what is looked for ----

my @letters = ('a' .. 'z', 'A' .. 'Z', 0 .. 9);
sub random { return join '', map { $letters[ rand @letters ] } 1 .. $_[0]; }

my %secrets = map { ($_ => "hand made: " . random(30) . "+/=") } qw(bound bound_campaign copied copied_campaign refused in_a_line too_short_a_line replaced wrong_type);
my %tokens = map { ($_ => random(32)) } qw(delivered failed hung refused redirected nobody bound copied invalid recorded);

# in headers that a receiver wants to have
my %headers = map { ($_ => random(32)) } qw(bound copied replacing refused in_a_line elsewhere);
sub header { return qq({"Authorization": "Bearer $headers{$_[0]}"}); }

# ---- everything that can be logged, is ----

my %everything = (
	log_min_messages => 'debug5', log_min_error_statement => 'debug5', log_error_verbosity => 'verbose', log_statement => 'all',
	log_min_duration_statement => 0, log_duration => 'on', log_lock_waits => 'on', log_connections => 'on', log_disconnections => 'on',
	log_checkpoints => 'on', log_temp_files => 0, log_autovacuum_min_duration => 0, log_replication_commands => 'on',
	log_parameter_max_length => -1, log_parameter_max_length_on_error => -1,
	log_parser_stats => 'on', log_planner_stats => 'on', log_executor_stats => 'on',
	debug_print_parse => 'on', debug_print_rewritten => 'on', debug_print_plan => 'on',
	(map { ("auto_explain.log_$_" => 'on') } qw(analyze buffers timing triggers verbose settings nested_statements wal)),
	'auto_explain.log_min_duration' => 0);
setting($node, %everything);

my $said = '';    # to clients
sub run_sql
{
	my ($sql, %options) = @_;
	my ($status, $stdout, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT always\n$sql", %options);

	$said .= "$stdout\n$stderr\n" if !$options{shown};
	return ($stdout, $stderr);
}

sub works
{
	my ($what, $sql, %options) = @_;
	my ($stdout, $stderr) = run_sql($sql, %options);

	unlike($stderr, qr/ERROR|FATAL/, $what);
	return $stdout;
}

sub fails
{
	my ($what, $sqlstate, $sql, %options) = @_;
	my ($stdout, $stderr) = run_sql($sql, %options);

	like($stderr, qr/ERROR:  \Q$sqlstate\E/, $what);
	return;
}

# A new secret is shown once: to whoever asked for it.
sub rotated
{
	my ($what, $args) = @_;
	my $secret = works("$what: rotated", "SELECT osmtalk.rotate_webhook_secret($args)", shown => 1);

	return $secrets{$what} = $secret;
}

# By bind parameters, that are not to be logged nor planned with.
sub with_parameters
{
	my ($what, $sql, %parameters) = @_;
	my $script = "$PostgreSQL::Test::Utils::tmp_check/script";
	my $options = '-c log_parameter_max_length=0 -c log_parameter_max_length_on_error=0 -c plan_cache_mode=force_generic_plan';
	my ($stdout, $stderr);

	$options .= ' -c auto_explain.log_parameter_max_length=0' if $node->pg_version >= 16;
	unlink $script;
	append_to_file($script, "$sql;\n");
	local $ENV{PGOPTIONS} = $options;
	my $ok = IPC::Run::run([ $node->installed_command('pgbench'), '-n', '-t', '1', '-M', 'extended', '-f', $script, (map { ('-D', "$_=$parameters{$_}") } keys %parameters), $node->connstr($db) ],
		'>', \$stdout, '2>', \$stderr);
	$said .= "$stdout\n$stderr\n";
	return $ok;
}

# Who asks again and again what the others are doing, and is not heard of in the log.
my $watcher;
$node->safe_psql($db, 'CREATE TABLE test.seen (what text PRIMARY KEY)');
sub watch
{
	my @quiet = map { "$_ = off" } qw(debug_print_parse debug_print_rewritten debug_print_plan log_duration log_executor_stats log_planner_stats log_parser_stats);

	$watcher = session($node, $db);
	$watcher->query_safe(join ' ', map { "SET $_;" } @quiet, 'log_statement = none', 'log_min_messages = error', 'log_min_duration_statement = -1', 'auto_explain.log_min_duration = -1');
	$watcher->query_until(qr/watching/, "\\echo watching\n" . <<'END');
DO $$ BEGIN
	WHILE to_regclass('test.watched') IS NULL LOOP
		PERFORM pg_stat_clear_snapshot();
		INSERT INTO test.seen SELECT DISTINCT concat_ws(' ', a.application_name, a.query) FROM pg_stat_activity a ON CONFLICT DO NOTHING;
		COMMIT;
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
END
	return;
}
watch();

# ---- secrets get there ----

works('a monitor and a clerk', <<'END');
CREATE ROLE monitor IN ROLE osmtalk_monitor;
CREATE ROLE clerk; GRANT USAGE ON SCHEMA osmtalk TO clerk;
GRANT INSERT, UPDATE, SELECT (id, org_id, name, max_attempts) ON osmtalk.campaigns TO clerk;
GRANT INSERT, UPDATE, SELECT (org_id) ON osmtalk.org_settings TO clerk;
GRANT EXECUTE ON FUNCTION osmtalk.rotate_webhook_secret(text, text, interval), osmtalk.send_test_event(text, text) TO clerk;
END
ok(with_parameters('org', 'INSERT INTO osmtalk.org_settings VALUES (:org, :url, :secret, NULL, :headers::jsonb)', headers => header('bound'), org => 'bound', secret => $secrets{bound}, url => $receiver->url("/hook?token=$tokens{bound}")), 'a secret by a bind parameter');
ok(with_parameters('campaign', "INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_secret) VALUES ('cmp_bound', 'bound', 'Bound', :secret)", secret => $secrets{bound_campaign}), '... for a campaign');
my $unused = Osmtalk::Nginx::free_port();
my %urls = (
	delivered => $receiver->url("/hook?token=$tokens{delivered}"), failed => $receiver->url("/status/500?token=$tokens{failed}"), hung => $receiver->url("/hang?token=$tokens{hung}"),
	refused => "https://10.0.0.1/?token=$tokens{refused}", redirected => $receiver->url("/redirect?token=$tokens{redirected}"), nobody => "http://127.0.0.1:$unused/?token=$tokens{nobody}",
	recorded => $receiver->url("/recorded?token=$tokens{recorded}"));
works('... by COPY', "COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\ncopied\t" . $receiver->url("/echo?token=$tokens{copied}") . "\t$secrets{copied}\n\\.\n"
	  . "COPY osmtalk.campaigns (id, org_id, name, webhook_secret, webhook_url, webhook_headers) FROM stdin;\n"
	  . join('', map { "cmp_$_\tcopied\t$_\t$secrets{copied_campaign}\t$urls{$_}\t" . header('copied') . "\n" } sort keys %urls) . "\\.\n");
ok(with_parameters('headers', 'UPDATE osmtalk.org_settings SET webhook_headers = :headers::jsonb WHERE org_id = :org', org => 'copied', headers => header('replacing')), '... and headers');
is($node->safe_psql($db, 'SELECT count(DISTINCT webhook_secret) FROM (SELECT webhook_secret FROM osmtalk.org_settings UNION ALL SELECT webhook_secret FROM osmtalk.campaigns) s WHERE webhook_secret LIKE $$hand made: %$$'), 4, '... they are there');
rotated('rotated', "'acme'");
rotated('rotated_campaign', "'acme', 'cmp_plain'");
rotated('rotated_from_bound', "'bound', NULL, '1 hour'");
rotated('rotated_twice', "'acme'");
works('... and are weak', "COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\nweak\t\\N\tweak\n\\.\nUPDATE osmtalk.org_settings SET webhook_secret = NULL WHERE org_id = 'weak';");

# ---- events are sent with them, and not ----

my $campaigns = join ', ', map { "'cmp_$_'" } sort keys %urls, 'plain', 'analyst', 'bound';
works('calls end', "SELECT test.finalise(c) FROM unnest(ARRAY[$campaigns]) c");
works('... with an analysis', "UPDATE osmtalk.calls SET analysis = '{\"success\": true}' WHERE status = 'completed' AND agent_id = 'analyst'");
works('... and tests', "SELECT count(osmtalk.send_test_event(org_id, id)), count(osmtalk.send_test_event(org_id)) FROM osmtalk.campaigns");
is(works('... all have a result', "SELECT osmtalk.wait_until_drained('60 s')"), 't', '... delivered or not');
my $states = works('which is', "SELECT state, count(*) FROM osmtalk.deliveries GROUP BY 1 ORDER BY 1");
like($states, qr/delivered\|\d+\nfailed\|\d+/, '... the one and the other');
is(works('it is previewed and explained', "SELECT bool_and(p.n > 0 AND x.n > 20) FROM (SELECT min(call_id) AS id FROM osmtalk.events WHERE call_id IS NOT NULL GROUP BY campaign_id) c,
	LATERAL (SELECT count(curl) AS n FROM osmtalk.preview_event(c.id)) p, LATERAL (SELECT count(*) AS n FROM osmtalk.explain_outcome(c.id)) x"), 't', '... call by call');
works('what was sent is sent again', "SELECT count(osmtalk.redeliver(event_id)) FROM osmtalk.deliveries");
my $died = worker_pid($node, $db);
kill 'KILL', $died;
# psql may end before it has read what it is to ask
wait_for(sub { (eval { $node->safe_psql($db, "SELECT count(*) FROM osmtalk.worker_status WHERE pid <> $died") } // '') eq '1' }, 'the next worker') or die;
watch();
works('... in spite of a death of the worker', "SELECT osmtalk.wait_until_drained('60 s')");
my ($unsigned) = grep { ($_->{path} // '') =~ /hook/ && !exists $_->{headers}{'x-osmtalk-signature'} } $receiver->requests;
is($unsigned, undef, '... with signatures');
my ($with_header) = grep { ($_->{headers}{authorization} // '') eq "Bearer $headers{copied}" } $receiver->requests;
ok($with_header, '... and headers');

# ---- what can fail, does ----

works('a user of his own ideas', "ALTER TABLE osmtalk.campaigns ADD CONSTRAINT users CHECK (name <> 'forbidden');
	CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused: %'', TG_TABLE_NAME; END';");
my $again = "SELECT (c).* FROM (SELECT c FROM osmtalk.campaigns c WHERE id = 'cmp_delivered') c";
for my $role ('postgres', 'clerk')
{
	my $as = "SET ROLE $role;";

	fails("as $role: $_->[1]", $_->[0], "$as $_->[1]")
	  for [ '23514', "UPDATE osmtalk.campaigns SET max_attempts = 0" ],
	  [ '23514', "UPDATE osmtalk.campaigns SET name = 'forbidden'" ],
	  [ '23514', "UPDATE osmtalk.campaigns SET org_id = 'acme' WHERE org_id = 'copied'" ],
	  [ '23502', "UPDATE osmtalk.campaigns SET name = NULL" ],
	  [ '23502', "UPDATE osmtalk.org_settings SET org_id = NULL WHERE org_id = 'copied'" ],
	  [ '23503', "UPDATE osmtalk.org_settings SET org_id = 'moved' WHERE org_id = 'copied'" ],
	  [ '23505', "UPDATE osmtalk.campaigns SET id = 'cmp_plain' WHERE id = 'cmp_delivered'" ],
	  [ '22P02', "UPDATE osmtalk.campaigns SET max_attempts = 'many'" ],
	  [ '22023', "SELECT osmtalk.rotate_webhook_secret('unknown')" ],
	  [ '22023', "SELECT osmtalk.rotate_webhook_secret('acme', 'cmp_copied')" ],
	  [ '22023', "SELECT osmtalk.rotate_webhook_secret('acme', overlap => '-1 s')" ],
	  [ '22023', "SELECT osmtalk.send_test_event('acme', 'cmp_copied')" ];
}
fails("as clerk: $_", '42501', "SET ROLE clerk; $_")
  for 'SELECT webhook_secret FROM osmtalk.org_settings', 'SELECT * FROM osmtalk.campaigns', 'TABLE osmtalk.previous_secrets', 'COPY osmtalk.campaigns TO stdout',
  "UPDATE osmtalk.campaigns SET name = 'x' RETURNING webhook_secret", "SELECT * FROM osmtalk.delivery_target('webhook.test', 'acme', NULL)";
fails($_->[1], @$_)
  for [ '23505', "INSERT INTO osmtalk.campaigns $again" ],
  [ '23502', "INSERT INTO osmtalk.previous_secrets (org_id, secret) SELECT org_id, webhook_secret FROM osmtalk.org_settings WHERE org_id = 'acme'" ],
  [ '39P01', "CREATE TRIGGER misused AFTER UPDATE ON osmtalk.campaigns FOR EACH ROW EXECUTE FUNCTION osmtalk.guard_secret_row(); UPDATE osmtalk.campaigns SET name = name" ],
  [ '39P01', "SELECT osmtalk.guard_secret_row()" ],
  [ '22P02', "SELECT webhook_secret::int FROM osmtalk.org_settings WHERE false OR length('x') = 2 OR org_id = 'weak' AND 'x'::text::int = 1" ];
works('the misuse ends', 'DROP TRIGGER misused ON osmtalk.campaigns');

# parameters of what fails
ok(!with_parameters('refused', "INSERT INTO osmtalk.campaigns (org_id, name, webhook_secret, max_attempts) VALUES ('acme', 'x', :secret, 0)", secret => $secrets{refused}), 'a row with parameters is refused');
ok(!with_parameters('refused', "UPDATE osmtalk.org_settings SET default_webhook_url = :url WHERE org_id = 'acme'", url => "gopher://host/?$tokens{invalid}"), '... and a URL');

ok(!with_parameters('refused', 'UPDATE osmtalk.org_settings SET webhook_headers = :headers::jsonb', headers => qq({"Host": "$headers{refused}", "Bearer $headers{refused}": "$headers{refused}"})), '... and headers');
ok(!with_parameters('refused', "UPDATE osmtalk.campaigns SET webhook_url = :url WHERE id = 'cmp_delivered'", url => "https://elsewhere.invalid/?$tokens{invalid}"), '... and a URL that would take headers elsewhere');

# lines of a COPY: the first, and others
for my $line ("in_a_line\tftp://x/\t$secrets{in_a_line}", "acme\t\\N\t$secrets{in_a_line}", "$secrets{too_short_a_line}", "\\N\t\\N\t$secrets{in_a_line}", "x\t\\N\t$secrets{in_a_line}\ttoo much", "x\thttps://x/?$tokens{invalid}\\000\t$secrets{in_a_line}")
{
	fails('a line of a COPY', '2', "COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\n$line\n\\.\n");
	fails('... another', '2', "COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\nfirst\t\\N\t$secrets{in_a_line}\n$line\n\\.\n");
	fails('... without triggers', '2', "SET session_replication_role = replica; COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\n$line\n\\.\n") if $line !~ /ftp/;
}
for my $line ("x\tacme\tx\t$secrets{in_a_line}\t0", "x\tacme\tx\t$secrets{in_a_line}\tmany", "x\tunknown\tx\t$secrets{in_a_line}\t1", "cmp_plain\tacme\tx\t$secrets{in_a_line}\t1", "x\tacme\t\\N\t$secrets{in_a_line}\t1")
{
	fails('a line of a COPY of campaigns', '2', "COPY osmtalk.campaigns (id, org_id, name, webhook_secret, max_attempts) FROM stdin;\n$line\n\\.\n");
	fails('... another, as clerk', '2', "SET ROLE clerk; COPY osmtalk.campaigns (id, org_id, name, webhook_secret, max_attempts) FROM stdin;\nfirst\tacme\tx\t$secrets{in_a_line}\t1\n$line\n\\.\n");
}

for my $line ("x\tacme\t{\"Host\": \"$headers{in_a_line}\"}\tx", "x\tacme\t{\"X\": \"$headers{in_a_line}\"}\t\\N", "x\tacme\t{\"X $headers{in_a_line}\": \"v\"}\tx", "x\tunknown\t{\"X\": \"$headers{in_a_line}\"}\tx\ttoo much")
{
	fails('a line of a COPY with headers', '2', "COPY osmtalk.campaigns (id, org_id, webhook_headers, name) FROM stdin;\n$line\n\\.\n");
	fails('... another, as clerk', '2', "SET ROLE clerk; COPY osmtalk.campaigns (id, org_id, webhook_headers, name) FROM stdin;\nfirst\tacme\t{\"X\": \"$headers{elsewhere}\"}\tx\n$line\n\\.\n");
}

# triggers of the user's, in the way of all that is written
for my $table (qw(org_settings campaigns previous_secrets events outbox leads))
{
	works("a trigger on $table", "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON osmtalk.$table FOR EACH ROW EXECUTE FUNCTION test.refuse()");
	run_sql("SELECT osmtalk.rotate_webhook_secret('acme'); ", shown => 1);
	run_sql("SELECT test.finalise('cmp_delivered')");
	run_sql("SELECT osmtalk.send_test_event('acme', 'cmp_plain')");
	run_sql("COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\nsecond\t\\N\t$secrets{in_a_line}\n\\.\n");
	works("... and none", "DROP TRIGGER refuse ON osmtalk.$table; DELETE FROM osmtalk.org_settings WHERE org_id = 'second'");
}
# what was shown to nobody is a secret all the same
my %known = reverse %secrets;
$secrets{ 'made_' . keys %secrets } = $_ for grep { !exists $known{$_} } split /\n/, $node->safe_psql($db, "SELECT webhook_secret FROM osmtalk.org_settings WHERE webhook_secret LIKE 'whsec%' UNION SELECT webhook_secret FROM osmtalk.campaigns WHERE webhook_secret LIKE 'whsec%' UNION SELECT secret FROM osmtalk.previous_secrets WHERE secret LIKE 'whsec%'");

# locks, time-outs and deadlocks
my $holder = session($node, $db);
$holder->query_safe("BEGIN; INSERT INTO osmtalk.org_settings (org_id) VALUES ('waited_for'); UPDATE osmtalk.org_settings SET org_id = org_id WHERE org_id = 'acme'");
fails('a rotation that waits', '57014', "SET statement_timeout = '300ms'; SELECT osmtalk.rotate_webhook_secret('acme')");
fails('a COPY that waits', '57014', "SET statement_timeout = '300ms'; COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\nwaited_for\t\\N\t$secrets{in_a_line}\n\\.\n");
fails('... or gives up', '55P03', "SET lock_timeout = '300ms'; COPY osmtalk.org_settings (org_id, default_webhook_url, webhook_secret) FROM stdin;\nfirst\t\\N\t$secrets{in_a_line}\nwaited_for\t\\N\t$secrets{in_a_line}\n\\.\n");
$holder->query_safe('ROLLBACK');
$holder->query_safe("BEGIN; SELECT FROM osmtalk.org_settings WHERE org_id = 'bound' FOR UPDATE");
my $deadlocked = session($node, $db);
$deadlocked->query_safe("SET deadlock_timeout = '1h'; BEGIN; SELECT FROM osmtalk.org_settings WHERE org_id = 'copied' FOR UPDATE");
$deadlocked->query_until(qr/waits/, "\\echo waits\nSELECT length(osmtalk.rotate_webhook_secret('bound'));\n");
$node->poll_query_until($db, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted") or die;
like($holder->query("SELECT length(osmtalk.rotate_webhook_secret('copied', 'cmp_failed'))"), qr/^$/, 'a deadlock');
$_->quit for $holder, $deadlocked;

# the worker cannot record where it sent something
works('a constraint that is in the way of the worker', "ALTER TABLE osmtalk.delivery_attempts ADD CHECK (url NOT LIKE '%/recorded%') NOT VALID; SELECT osmtalk.send_test_event('copied', 'cmp_recorded')");
ok($node->poll_query_until($db, "SELECT state LIKE 'waiting: results cannot be recorded%' AND last_error LIKE '%violates check constraint%' FROM osmtalk.worker_status"), '... of which the status tells');
works('... and is not any more', 'ALTER TABLE osmtalk.delivery_attempts DROP CONSTRAINT delivery_attempts_url_check');
is(works('... all have a result', "SELECT osmtalk.wait_until_drained('60 s')"), 't', '... at the end');

works('statistics are gathered', 'ANALYZE; VACUUM');
works('the life of a secret ends', "SELECT length(osmtalk.rotate_webhook_secret('acme', overlap => '0')); DELETE FROM osmtalk.leads WHERE campaign_id = 'cmp_bound'; DELETE FROM osmtalk.campaigns WHERE id = 'cmp_bound'");
$node->restart;
$node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status') or die;
watch();
works('after a restart events are sent', "SELECT count(osmtalk.send_test_event(org_id, id)) FROM osmtalk.campaigns; SELECT osmtalk.wait_until_drained('60 s')");

# ---- where it is looked for ----

my %secret_columns = map { $_ => 1 } 'org_settings.webhook_secret', 'campaigns.webhook_secret', 'previous_secrets.secret';
my @relations = map { [ split /\|/ ] } split /\n/, $node->safe_psql($db, "SELECT c.relname, string_agg(a.attname, ',' ORDER BY a.attnum)
	  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'osmtalk'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1");

# All of a query's rows as text, unseen by the statistics.
sub rows { return $node->safe_psql($db, "COPY ($_[0]) TO stdout"); }

sub rows_of
{
	my ($relation, $columns, $kept) = @_;

	return rows("SELECT " . join(', ', grep { $kept->("$relation.$_") } split /,/, $columns) . " FROM osmtalk.$relation");
}

my $data = $node->data_dir;
sub files
{
	my @files = split /\0/, `find "$data" '(' -path "$data/base" -o -path "$data/global" -o -path "$data/pg_wal" -o -path "$data/log" ')' -prune -o -type f -print0`;

	return @files;
}

my %logs = ('the log, as text' => '.log', 'the log, as CSV' => '.csv', 'the log, as JSON' => '.json');
my %places_of_secrets = (
	(map { my $extension = $logs{$_}; ($_ => sub { map { $_[0]->in_file($_) } grep { /\Q$extension\E$/ } glob "$data/log/*" }) } keys %logs),
	'what the server says before it logs' => sub { $_[0]->in_file($node->logfile) },
	'pg_stat_activity, all the time' => sub { $_[0]->in_text(rows('SELECT what FROM test.seen')) },
	'pg_stat_statements' => sub { $_[0]->in_text(rows('SELECT query FROM pg_stat_statements')) },
	'every column of every table and view of osmtalk but those of secrets' => sub {
		map { my ($relation, $columns) = @$_; $_[0]->in_text(rows_of($relation, $columns, sub { !$secret_columns{ $_[0] } })) } @relations;
	},
	'pg_statistic, and pg_stats' => sub { map { $_[0]->in_text(rows($_)) } 'SELECT s::text FROM pg_statistic s', 'SELECT s::text FROM pg_stats s' },
	'what clients were told' => sub { $_[0]->in_text($said) },
	'files of the data directory but tables, WAL and logs' => sub { map { $_[0]->in_file($_) } files() },
	'command lines and titles of processes' => sub { map { $_[0]->in_file("/proc/$_/cmdline") } split /\n/, rows('SELECT pid FROM pg_stat_activity') },
	'requests, as they were received' => sub { $_[0]->in_text(join '', @{ $receiver->lines }) },
	'comments, definitions and defaults in the catalog' => sub {
		map { $_[0]->in_text(rows("SELECT t::text FROM $_ t")) } qw(pg_description pg_proc pg_attrdef pg_constraint pg_rewrite pg_trigger pg_db_role_setting);
	});
my %places_of_tokens = map { ($_ => $places_of_secrets{$_}) } keys %logs, 'what the server says before it logs', 'pg_stat_activity, all the time', 'pg_stat_statements', 'what clients were told',
  'files of the data directory but tables, WAL and logs', 'command lines and titles of processes';
my %urls_columns = map { $_ => 1 } qw(default_webhook_url webhook_url url);
$places_of_tokens{'every column of every table and view of osmtalk but those of URLs'} = sub {
	map { my ($relation, $columns) = @$_; $_[0]->in_text(rows_of($relation, $columns, sub { !$urls_columns{ $_[0] =~ s/.*\.//r } })) } @relations;
};
$places_of_tokens{'the views, as a role sees them that may read nothing else'} = sub {
	map { my $view = $_; $_[0]->in_text($node->safe_psql($db, "SET ROLE monitor; COPY (SELECT * FROM osmtalk.$view) TO stdout")) }
	  qw(deliveries worker_status campaign_report in_flight not_adopted retained);
};

# headers are what a request is for: they are in those that were received, and in what libcurl has sent them from
my %places_of_headers = %places_of_secrets;
delete @places_of_headers{'requests, as they were received', 'every column of every table and view of osmtalk but those of secrets'};
$places_of_headers{'every column of every table and view of osmtalk but those of headers'} = sub {
	map { my ($relation, $columns) = @$_; $_[0]->in_text(rows_of($relation, $columns, sub { $_[0] !~ /\.webhook_headers$/ })) } @relations;
};

sub scan
{
	my ($canary, $places, @wanted) = @_;
	my %hits;

	for my $place (@wanted ? @wanted : keys %$places)
	{
		my %found = $places->{$place}->($canary);

		$hits{$place} = \%found if %found;
	}
	return \%hits;
}

$node->safe_psql($db, 'CREATE TABLE test.watched ()');
my $secrets = Osmtalk::Canary->new(%secrets);
my $tokens = Osmtalk::Canary->new(%tokens);
my $headers = Osmtalk::Canary->new(%headers);
for my $case ([ 'secret', $secrets, \%places_of_secrets, \%secrets ], [ 'token', $tokens, \%places_of_tokens, \%tokens ], [ 'header', $headers, \%places_of_headers, \%headers ])
{
	my ($what, $canary, $places, $values) = @$case;
	my $hits = scan($canary, $places);

	note scalar(keys %$values), " ${what}s are looked for in";
	note "    $_" for sort keys %$places;
	is_deeply($hits, {}, "no $what is found anywhere") or diag explain $hits;
}

SKIP:
{
	# so many at once that what is left over is not all written over
	setting($node, map { ($_ => undef) } keys %everything);
	$node->safe_psql($db, "SELECT count(osmtalk.send_test_event('copied', 'cmp_delivered')) FROM generate_series(1, 500)");
	$node->safe_psql($db, "SELECT osmtalk.wait_until_drained()");
	my $found = $secrets->in_memory(worker_pid($node, $db)) // skip 'the memory of another process cannot be read here', 1;

	is_deeply($found, {}, 'nor in the memory of the worker that has signed with them');
}

# ---- the scan can see ----

my $dump = "$PostgreSQL::Test::Utils::tmp_check/dump.sql";
command_ok([ 'pg_dump', '-f', $dump, $node->connstr($db) ], 'a dump');
my %in_dump = $secrets->in_file($dump);
ok(exists $in_dump{copied} && exists $in_dump{rotated_from_bound}, '... has secrets, for a restore needs them');

# planted: in each place by its own means, in each form
my $planted = $secrets{copied};
$node->safe_psql($db, "SET log_min_messages = log; DO \$\$ BEGIN RAISE LOG '$planted'; END \$\$; DROP TABLE test.watched");
my @seen = (keys %logs, 'pg_stat_statements', 'files of the data directory but tables, WAL and logs');
my $found = scan($secrets, \%places_of_secrets, @seen);
ok(exists $found->{$_}{copied}, "planted, it is found in: $_") for @seen;
my ($core) = $planted =~ m{([A-Za-z0-9+/=]{20,})};
my %forms = (
	'as it is' => $core, 'in base64' => "encode('$core', 'base64')", 'in base64, after one byte' => "encode('x$core', 'base64')", 'in base64, after two' => "encode('xy$core', 'base64')",
	'in hex' => "encode('$core', 'hex')", 'percent-encoded' => "regexp_replace(encode('$core', 'hex'), '(..)', '%\\1', 'g')", 'cut off' => "left('$core', 14)", 'but for its beginning' => "right('$core', 14)");
for my $form (sort keys %forms)
{
	my $expression = $forms{$form} eq $core ? "'$core'" : $forms{$form};
	my $text = $node->safe_psql($db, "SELECT 'before ' || $expression || ' after'");

	ok({ $secrets->in_text($text) }->{copied}, "... $form");
}
ok({ $secrets->in_text(join ' ', 'constvalue 20 [', unpack('C*', $planted), ']') }->{copied}, '... as a plan that is printed has it');
$node->safe_psql($db, "INSERT INTO osmtalk.events (type, org_id, body, skipped_reason) VALUES ('planted', 'acme', encode('$planted', 'base64'), 'planted')");
my $columns = 'every column of every table and view of osmtalk but those of secrets';
ok(exists scan($secrets, \%places_of_secrets, $columns)->{$columns}, '... in a table');
$node->safe_psql($db, "INSERT INTO osmtalk.events (type, org_id, body, skipped_reason) VALUES ('planted', 'acme', '$headers{copied}', 'planted')");
$columns = 'every column of every table and view of osmtalk but those of headers';
ok(exists scan($headers, \%places_of_headers, $columns)->{$columns}, '... and a header');
$said .= "ERROR: ... ($planted)";
ok(exists scan($secrets, \%places_of_secrets, 'what clients were told')->{'what clients were told'}, '... and in an error message');

done_testing();
