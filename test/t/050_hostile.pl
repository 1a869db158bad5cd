# Receivers that do what no receiver should: answers without end, answers that
# never come, answers that are none.  Each request to them ends in time and costs
# the worker little, and a tenant whose receiver is as it should be notices nothing.
#
# Prints the table of doc/security.md; with MARKDOWN=1 nothing but the table is
# needed to be read: perl … | grep '^# |'

use strict;
use warnings;
use File::Temp ();
use IO::Socket::INET;
use JSON::PP ();
use Osmtalk::Nginx;
use Osmtalk::Process;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my $db = 'postgres';
my $timeout = 1;             # seconds: osmtalk.request_timeout
my $most_memory = 10 * 1024; # kB
my $most_wait = 1000;        # ms: of the healthy tenant
my $endpoints = 8;
my $each = 2;                # events to each endpoint
my $healthy = Osmtalk::Receiver->new;
my $dir = File::Temp::tempdir('hostile_XXXX', DIR => $PostgreSQL::Test::Utils::tmp_check);

Osmtalk::Nginx::make_certificates($dir);
my $out = "$PostgreSQL::Test::Utils::log_path/hostile.out";
my $server = Osmtalk::Process->start([ 'node', "$ENV{SRC}/test/receiver/hostile.mjs", "$dir/server.crt", "$dir/server.key", $endpoints ], output => $out);
wait_for(sub { die slurp_file($out) if !$server->is_alive; slurp_file($out) =~ /\}\n/ }, 'the hostile receivers') or die;
my $urls = JSON::PP::decode_json(slurp_file($out));

# A listener whose queue is full: the connection is never accepted, nor refused.
my (@listeners, @fillers);
for (1 .. $endpoints)
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "could not listen: $@";

	push @listeners, $listener;
	push @fillers, map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $listener->sockport, Blocking => 0) } 1 .. 4;
	push @{ $urls->{'never accepts'} }, 'http://127.0.0.1:' . $listener->sockport;
}

my $node = new_cluster('main', conf => "osmtalk.request_timeout = ${timeout}s\nosmtalk.ca_file = '$dir/ca.crt'\n");
set_up($node, $db, url => $healthy->url('/healthy'));

sub sql { return $node->safe_psql($db, join '', @_); }

my $pid = worker_pid($node, $db);
sub status { return slurp_file("/proc/$pid/status") =~ /^\Q$_[0]\E:\s*(\d+)/m ? $1 : die "no $_[0]"; }

# From here on VmHWM is the most that there has been since.
sub reset_peak
{
	append_to_file("/proc/$pid/clear_refs", '5');
	return status('VmRSS');
}

# The worst that the healthy tenant has met since then: ms from the event to its answer, and how many events there were.
sub healthy_since
{
	my ($time) = @_;

	return split /\|/, sql("SELECT round(max(extract(epoch FROM a.started_at - e.created_at) * 1000 + a.duration_ms)::numeric), count(*), count(a.error)
		FROM osmtalk.events e JOIN osmtalk.delivery_attempts a ON a.event_id = e.id WHERE e.campaign_id IS NULL AND e.created_at >= '$time'");
}

sub healthy_events { return sql(q(SELECT osmtalk.send_test_event('acme') FROM generate_series(1, 5))); }

# All of them once, so that what is loaded at the first use is there.
for my $what (grep { /^(TLS: body|body|gzip|headers without|100 Cont|reset a)/ } sort keys %$urls)
{
	sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ('warm-up: $what', 'acme', 'x', '$urls->{$what}[0]/')");
	sql("SELECT osmtalk.send_test_event('acme', 'warm-up: $what') FROM generate_series(1, 3)");
}
healthy_events() for 1 .. 4;
sql('SELECT osmtalk.wait_until_drained()');
# the server's shared memory counts as the worker's once it has looked at it
sql("SELECT count(*) FROM osmtalk.events");

my $alone_since = sql('SELECT clock_timestamp()');
healthy_events() for 1 .. 20;
sql('SELECT osmtalk.wait_until_drained()');
my ($alone) = healthy_since($alone_since);
my @table = ([ 'behaviour', 'requests', 'what became of them', 'longest', 'more memory', 'healthy tenant' ],
	[ 'none', '', '', '', '', "$alone ms" ]);
my ($worst_time, $worst_memory, $worst_wait) = (0, 0, 0);

for my $what (sort { lc $a cmp lc $b } keys %$urls)
{
	# an answer cut off after each of its bytes wants as many requests
	my $times = $what =~ /each byte of an answer/ ? 16 : $each;
	my $peak_from = reset_peak();
	my $since = sql('SELECT clock_timestamp()');
	my $begun = now();

	sql("INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url)
		SELECT '$what ' || n, 'acme', 'x', url || '/hostile' FROM unnest('{" . join(',', @{ $urls->{$what} }) . "}'::text[]) WITH ORDINALITY u (url, n);
		SELECT osmtalk.send_test_event('acme', c.id) FROM osmtalk.campaigns c, generate_series(1, $times) WHERE c.id LIKE '$what %' AND c.id NOT LIKE 'warm-up%';");
	do { healthy_events() } until sql("SELECT osmtalk.wait_until_drained('50 ms')") eq 't' || now() > $begun + 60;
	my $memory = status('VmHWM') - $peak_from;
	$memory = 0 if $memory < 0;
	my ($wait, $n, $failed) = healthy_since($since);
	my ($requests, $longest, $outcomes) = split /\|/, sql("
		WITH attempts AS (
			SELECT a.duration_ms, coalesce(regexp_replace(a.error, ',.*', ''), 'delivered') AS outcome
			  FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id WHERE e.campaign_id LIKE '$what %')
		SELECT (SELECT count(*) FROM attempts), (SELECT round(max(duration_ms)) FROM attempts),
			   (SELECT string_agg(outcome || CASE WHEN (SELECT count(DISTINCT outcome) FROM attempts) > 1 THEN ' (' || n || ')' ELSE '' END, '; ' ORDER BY n DESC, outcome)
				  FROM (SELECT outcome, count(*) AS n FROM attempts GROUP BY 1) o)");

	push @table, [ $what, $requests, $outcomes, sprintf('%.2f s', $longest / 1000), sprintf('%.1f MB', $memory / 1024), "$wait ms" ];
	$worst_time = $longest if $longest > $worst_time;
	$worst_memory = $memory if $memory > $worst_memory;
	$worst_wait = $wait if $wait > $worst_wait;
	ok($requests == $endpoints * $times && $longest <= 1000 * $timeout + 1000 && $memory <= $most_memory && $wait <= $most_wait && $failed == 0,
		sprintf '%s: %d requests, at most %d ms, %d kB; healthy: %d, at most %d ms', $what, $requests, $longest, $memory, $n, $wait);
}
push @table, [ 'the worst of each', '', '', sprintf('%.2f s', $worst_time / 1000), sprintf('%.1f MB', $worst_memory / 1024), "$worst_wait ms" ];
splice @table, 1, 0, [ '---', '--:', '---', '--:', '--:', '--:' ];
note '| ' . join(' | ', @$_) . ' |' for @table;

cmp_ok(scalar(keys %$urls), '>=', 40, scalar(keys %$urls) . ' behaviours');
is(worker_pid($node, $db), $pid, 'it is still the same worker');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE octet_length(response_body) > 1024"), '0', 'a kilobyte of an answer is kept at most');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id
	WHERE e.campaign_id ~ '^(never|TLS: (silent|alerts|anything|plain|a )|headers|one header|status line|100 Continue w|no HTTP|resets|closes)' AND a.error IS NULL"), '0', 'what is no answer is no delivery');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id
	WHERE e.campaign_id ~ '^(body|TLS: body|gzip bomb, Content|brotli)' AND a.error IS NOT NULL"), '0', 'and a long one is');
is(sql("SELECT string_agg(DISTINCT a.error, ' ') FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id WHERE e.campaign_id ~ '^chunk extension'"),
	'the answer is too long', 'what is neither header nor body has its limit, too');
unlike(log_since($node), qr/terminated by signal/, 'no process crashed');

done_testing();
