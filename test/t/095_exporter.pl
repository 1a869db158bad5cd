# Debian's prometheus-sql-exporter with the collector of doc/monitoring: what it
# gives out is what the views have, for a role that may monitor and nothing else.

use strict;
use warnings;
use HTTP::Tiny;
use Osmtalk::Nginx;
use Osmtalk::Process;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my ($exporter) = grep { -x } map { "$_/prometheus-sql-exporter" } split /:/, $ENV{PATH};
plan skip_all => 'the package prometheus-sql-exporter is not installed' if !$exporter;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
set_up($node, $db, url => $receiver->url('/hook/t0ken?key=hidden'), secret => 'whsec_0123456789abcdef');

sub sql { return $node->safe_psql($db, join '', @_); }

# ---- the exporter, with rights to monitor alone, in the two ways that there are ----

sql('CREATE ROLE server_monitor LOGIN IN ROLE pg_monitor; CREATE ROLE osmtalk_looker LOGIN IN ROLE osmtalk_monitor');
my @users = qw(server_monitor osmtalk_looker);
my $collector = slurp_file("$ENV{SRC}/doc/monitoring/osmtalk-exporter.yml");
my @names = $collector =~ /^  - name: (\w+)$/mg;
my $connections = join "\n", map { sprintf "  - 'postgres://%s@/%s?host=%s&port=%d&sslmode=disable'", $_, $db, $node->host, $node->port } @users;

$collector =~ s/^  - 'postgres:.*$/$connections/m or die;
$collector =~ s/^  interval: .*$/  interval: 500ms/m or die;
my $file = "$PostgreSQL::Test::Utils::tmp_check/collector.yml";
append_to_file($file, $collector);
my $port = Osmtalk::Nginx::free_port();
my $log = "$PostgreSQL::Test::Utils::log_path/exporter.log";
my $process = Osmtalk::Process->start(
	[ 'env', '-i', 'LOGLEVEL=warn', $exporter, '-config.file', $file, '-web.listen-address', "127.0.0.1:$port" ],
	output => $log);

my $text;

# All series: name and labels, those that say where it comes from left out but
# for the user, by the value.
sub scrape
{
	my %series;
	my $answer = HTTP::Tiny->new(timeout => 10)->get("http://127.0.0.1:$port/metrics");

	return if !$answer->{success};
	$text = $answer->{content};
	for my $line (split /\n/, $text)
	{
		my ($name, $labels, $value) = $line =~ /^(sql_\w+)\{(.*)\} (\S+)$/ or next;
		my %label = $labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;

		next if ($label{sql_job} // '') ne 'osmtalk';
		delete @label{qw(sql_job driver host database)};
		$series{ join ' ', $name, map { "$_=$label{$_}" } sort keys %label } = $value;
	}
	return \%series;
}

# All series once all that is true now has been collected.
sub collected
{
	my $now = sql('SELECT extract(epoch FROM clock_timestamp())');
	my $series;

	wait_for(sub {
			$series = scrape() or return;
			return !grep { ($series->{"sql_osmtalk_collected_timestamp_seconds col=time user=$_"} // 0) < $now + 0.5 } @users;
		}, 'the exporter to collect')
	  or die "it does not, see $log";
	return $series;
}

# What a name's series should be is what a query says: labels, and value.
sub is_exported
{
	my ($series, $name, $query, $what) = @_;
	my %expected = map { split /\|/, $_, 2 } split /\n/, sql($query);

	for my $user (@users)
	{
		my %got = map { (my $labels = $_) =~ s/^\S+ (.*?) ?\buser=$user$/$1/; ($labels => $series->{$_}) } grep { /^\Qsql_$name \E.*user=$user$/ } keys %$series;

		$got{$_} += 0 for keys %got;
		$expected{$_} += 0 for keys %expected;
		is_deeply(\%got, \%expected, "$what ($user)");
	}
	return;
}

# ---- something to see ----

sql(<<"END");
INSERT INTO osmtalk.org_settings VALUES ('other "org"', '@{[$receiver->url('/status/500')]}', 'whsec_0123456789abcdef');
INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_other', 'other "org"', 'Other');
INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url, webhook_secret, webhook_retry_schedule)
VALUES ('cmp_retried', 'acme', 'Retried', '@{[$receiver->url('/status/503')]}', 'whsec_0123456789abcdef', '{1 h}');
END
sql("SELECT test.finalise('cmp_plain', 40), test.finalise('cmp_other', 7), test.finalise('cmp_retried', 3)");
ok(wait_for(sub { sql('SELECT attempts FROM osmtalk.stat_delivery') eq '50' }, 'all to be counted'), 'fifty attempts');
sql(<<'END');
SELECT osmtalk.disable_endpoint(id) FROM osmtalk.endpoints WHERE url LIKE '%503';
SELECT test.finalise('cmp_retried', 2);
END
ok(wait_for(sub { sql('SELECT count(*) FROM osmtalk.waiting WHERE endpoint_id IS NOT NULL') eq '2' }, 'two to wait for the endpoint'), 'two events wait for an endpoint');

my $series = collected();
is_deeply([ grep { my $name = $_; grep { ($series->{"sql_exporter_last_scrape_failed query=$name user=$_"} // 1) != 0 } @users } @names ], [], 'no query fails');
is_deeply([ grep { my $name = $_; !grep { /^sql_\Q$name\E / } keys %$series } @names ], [], 'each metric is there');
unlike(slurp_file($log), qr/error|fail/i, 'and the exporter has nothing to say');

is_exported($series, 'osmtalk_attempts_total',
	q{SELECT 'col=' || k, v FROM osmtalk.stat_delivery d, json_each_text(json_build_object('delivered', delivered, 'retried', retried, 'failed', failed)) t (k, v)}, 'attempts');
is_exported($series, 'osmtalk_request_duration_seconds_bucket',
	q{SELECT format('col=answers le=%s', CASE WHEN i > cardinality(osmtalk.latency_bounds()) THEN '+Inf' ELSE trim_scale((osmtalk.latency_bounds())[i] / 1000.0)::text END),
		(SELECT sum(n) FROM unnest(latencies[:i]) n) FROM osmtalk.stat_delivery, generate_subscripts(latencies, 1) i}, 'the histogram');
is($series->{'sql_osmtalk_request_duration_seconds_bucket col=answers le=+Inf user=server_monitor'}, 50, 'fifty answers in it');
is_exported($series, 'osmtalk_request_duration_seconds_count', q{SELECT 'col=answers', sum(n) FROM osmtalk.stat_delivery, unnest(latencies) n}, 'their number');
is_exported($series, 'osmtalk_request_duration_seconds_sum', q{SELECT 'col=seconds', total_ms / 1000 FROM osmtalk.stat_delivery}, 'their time');
is_exported($series, 'osmtalk_workers', q{SELECT 'col=workers state=' || state, count(*) FROM osmtalk.worker_status GROUP BY 1}, 'the worker');
is_exported($series, 'osmtalk_events', q{VALUES ('col=in_flight', 0), ('col=pending', 5), ('col=waiting_for_retry', 3), ('col=waiting_for_endpoint', 2)}, 'events');
is_exported($series, 'osmtalk_oldest_due_seconds', q{VALUES ('col=seconds', 0)}, 'nothing is due');
is_exported($series, 'osmtalk_not_adopted', q{VALUES ('col=events', 0), ('col=calls', 0)}, 'nothing is to be adopted');
is_exported($series, 'osmtalk_paused', q{VALUES ('col=paused', 0)}, 'sending is not paused');
is_exported($series, 'osmtalk_endpoints', q{VALUES ('col=endpoints state=healthy', 2), ('col=endpoints state=probing', 0), ('col=endpoints state=disabled', 1)}, 'endpoints by state');
my $origin = $receiver->url('');
# org_ids with quotes arrive as they were
is_exported($series, 'osmtalk_endpoint_info',
	qq{SELECT format('col=info endpoint_id=%s org_id=%s origin=%s state=%s', id, replace(org_id, '"', '\\"'), '$origin', state), 1 FROM osmtalk.endpoints}, 'what endpoints there are');
is_exported($series, 'osmtalk_endpoint_attempts_total',
	q{SELECT format('col=%s endpoint_id=%s org_id=%s', k, endpoint_id, replace(org_id, '"', '\"')), v
		FROM osmtalk.stat_endpoint, json_each_text(json_build_object('delivered', delivered, 'retried', retried, 'failed', failed)) t (k, v)}, 'what was sent to each');
is_exported($series, 'osmtalk_endpoint',
	q{SELECT format('col=%s endpoint_id=%s org_id=%s', k, endpoint_id, replace(org_id, '"', '\"')), v
		FROM osmtalk.stat_endpoint, json_each_text(json_build_object('consecutive_failures', consecutive_failures, 'waiting', waiting,
			'answers', (SELECT sum(n) FROM unnest(latencies) n), 'answer_seconds', total_ms / 1000)) t (k, v)}, 'how each is');
is_exported($series, 'osmtalk_health', q{SELECT format('check=%s col=status', check_name), array_position('{ok,warn,error}', status::text) - 1 FROM osmtalk.health()}, 'health()');
is($series->{'sql_osmtalk_health check=endpoints col=status user=server_monitor'}, 1, 'which is not all well');
unlike($text, qr/t0ken|hidden|whsec|\+4930/, 'no path, query, secret or phone number is given out');

# ---- and when it changes ----

sql("SELECT osmtalk.pause(), test.finalise('cmp_plain', 2)");
sql("UPDATE osmtalk.outbox SET due_at = now() - interval '100 s' WHERE endpoint_hash <> 1");
ok(wait_for(sub { sql('SELECT state FROM osmtalk.worker_status') eq 'paused' }, 'the pause'), 'sending is paused');
$series = collected();
is_exported($series, 'osmtalk_paused', q{VALUES ('col=paused', 1)}, 'it shows');
is_exported($series, 'osmtalk_workers', q{VALUES ('col=workers state=paused', 1)}, 'the worker has left');
for my $user (@users)
{
	my $late = $series->{"sql_osmtalk_oldest_due_seconds col=seconds user=$user"};
	ok($late >= 100 && $late < 160, "and what is due is late: $late s ($user)");
}

sql(<<'END');
INSERT INTO osmtalk.campaigns (org_id, name, webhook_url, webhook_secret)
SELECT 'acme', 'Many', 'https://' || i || '.example/', 'whsec_0123456789abcdef' FROM generate_series(1, 300) i
END
$series = collected();
is(scalar(grep { /^sql_osmtalk_endpoint_info .*user=server_monitor/ } keys %$series), 200, 'of many endpoints there are 200');
is(scalar(grep { /^sql_osmtalk_endpoint_info .*state=disabled user=server_monitor/ } keys %$series), 1, 'those that fail among them');
is($series->{'sql_osmtalk_endpoints col=endpoints state=healthy user=server_monitor'}, 302, 'but all are counted');
cmp_ok(scalar(grep { /user=server_monitor/ } keys %$series), '<', 2200, 'so there is a bound to the number of series');

my $stopped = $series->{'sql_osmtalk_collected_timestamp_seconds col=time user=server_monitor'};
$node->stop;
ok(wait_for(sub { my $s = scrape(); return $s && $s->{'sql_exporter_last_scrape_failed query=osmtalk_paused user=server_monitor'} eq '1' }, 'the failure'),
	'without a database the queries fail');
my $stands_still = scrape()->{'sql_osmtalk_collected_timestamp_seconds col=time user=server_monitor'};
is(scrape()->{'sql_osmtalk_collected_timestamp_seconds col=time user=server_monitor'}, $stands_still, 'and the time stands still');
$node->start;
collected();
pass('when it is back, so are they');

# ---- the rules ask for nothing that there is not ----

my $rules = join "\n", slurp_file("$ENV{SRC}/doc/monitoring/osmtalk-alerts.yml") =~ /^    expr: (.*?)^    (?:for|labels):/gms;
my %used = map { $_ => 1 } $rules =~ /\b(sql_(?:osmtalk|exporter)_\w+)/g;
is_deeply([ grep { my $name = $_; !grep { /^\Q$name\E / } keys %$series } sort keys %used ], [], 'the metrics of the alert rules are those of the collector');

$process->stop;
done_testing();
