# At which rate, and how evenly, dead events are sent again; and that a dead
# endpoint among them delays no other.
#
#     make test SUITE=tap T=121_rate EVENTS=100000 RATE=2000
#
# measures one redelivery of so many, cancelled in the middle and resumed, and
# wants the rate within a tenth.

use strict;
use warnings;
use Osmtalk::Nginx;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $db = 'postgres';
my $measures = ($ENV{EVENTS} // '') ne '';
my $nginx = Osmtalk::Nginx->new;
my $node = new_cluster('main', conf => "shared_buffers = 128MB\n");
set_up($node, $db, url => $nginx->url);

sub sql { return $node->safe_psql($db, join '', @_); }

# Events whose only attempt failed, of one organisation.
sub dead
{
	my ($org, $n) = @_;

	sql(<<"END");
INSERT INTO osmtalk.events (type, org_id, body) SELECT 'campaign.lead_completed', '$org', repeat('x', 500) FROM generate_series(1, $n);
INSERT INTO osmtalk.delivery_attempts (event_id, attempt, url, started_at, duration_ms, http_status, error)
	SELECT e.id, 1, 'http://127.0.0.1/', now(), 1, 500, 'HTTP 500' FROM osmtalk.events e
	 WHERE e.org_id = '$org' AND NOT EXISTS (SELECT FROM osmtalk.delivery_attempts a WHERE a.event_id = e.id);
ANALYZE osmtalk.events;
ANALYZE osmtalk.delivery_attempts;
END
	return;
}

sub begin
{
	my ($org, $rate) = @_;

	return sql("SELECT redelivery_id FROM osmtalk.redeliver_matching('org_id = ''$org''', dry_run => false, state => 'failed', rate => $rate)");
}

sub progress { return sql("SELECT $_[1] FROM osmtalk.redelivery_progress WHERE id = $_[0]"); }

sub finishes
{
	my ($id) = @_;

	return wait_for(sub { progress($id, 'state') eq 'finished' }, "redelivery $id", 3000);
}

# Of the deliveries of an organisation in that time: events a second, and the
# most in a quarter of one, as a multiple of what the rate allows.
sub measured
{
	my ($org, $rate, $from, $to) = @_;

	return split /\|/, sql(<<"END");
WITH sent AS MATERIALIZED (
	SELECT extract(epoch FROM a.started_at) AS at FROM osmtalk.delivery_attempts a JOIN osmtalk.events e ON e.id = a.event_id
	 WHERE e.org_id = '$org' AND a.http_status = 204 AND a.started_at BETWEEN '${\ ($from // '-infinity')}' AND '${\ ($to // 'infinity')}')
SELECT round(((SELECT count(*) - 1 FROM sent) / (SELECT greatest(max(at) - min(at), 0.001) FROM sent))::numeric, 1),
	   round((max(n) / ($rate * 0.25))::numeric, 2)
  FROM (SELECT count(*) AS n FROM sent GROUP BY floor(at * 4)) q
END
}

sub measure_many
{
	my ($n, $rate) = ($ENV{EVENTS}, $ENV{RATE} // 1000);
	my ($id, $count, $took);

	dead('acme', $n);
	$took = measure(sub { $count = sql("SELECT total FROM osmtalk.redeliver_matching('state = ''failed''')") });
	is($count, $n, sprintf '%d are counted in %.1f s', $n, $took);
	$took = measure(sub { $id = begin('acme', $rate) });
	note sprintf 'begun in %.1f s', $took;
	ok(wait_for(sub { progress($id, 'done') > $n / 2 }, 'half of them', 3000), 'half of them are sent');
	note 'progress: ' . sql("SELECT row_to_json(p) FROM osmtalk.redelivery_progress p WHERE id = $id");
	$took = measure(sub { sql("SELECT * FROM osmtalk.redelivery_progress") for 1 .. 20 });
	note sprintf 'the view is read in %.0f ms, psql included', $took * 1000 / 20;
	my $cancelled = sql("SELECT osmtalk.cancel_redelivery($id); SELECT clock_timestamp()") =~ s/^\n//r;
	ok(wait_for(sub { progress($id, 'waiting = not_enqueued') eq 't' }, 'the outbox'), 'cancelled');
	my $sent = progress($id, 'done');
	my ($first, $burst) = measured('acme', $rate, undef, $cancelled);
	note "$sent sent: $first a second; at most $burst times the rate in a quarter of a second";
	my $resumed = sql("SELECT osmtalk.resume_redelivery($id); SELECT clock_timestamp()") =~ s/^\n//r;
	ok(finishes($id), 'resumed');
	(my $second, $burst) = measured('acme', $rate, $resumed);
	note 'the other ' . ($n - $sent) . ": $second a second; at most $burst times the rate in a quarter of a second";
	note 'progress: ' . sql("SELECT row_to_json(p) FROM osmtalk.redelivery_progress p WHERE id = $id");
	is(progress($id, 'done'), $n, 'all are sent');
	my %times;
	$times{$_}++ for $nginx->event_ids;
	is(scalar(keys %times) . ' ' . scalar(grep { $_ > 1 } values %times), "$n 0", 'each once');
	for my $measured ($first, $second)
	{
		cmp_ok(abs($measured / $rate - 1), '<=', 0.1, "the rate is kept: $measured");
	}
	return;
}

if ($measures)
{
	measure_many();
	done_testing();
	exit;
}

# ---- small numbers; the machine may be busy ----

for my $case ([ 10, 20 ], [ 200, 300 ], [ 5000, 5000 ])
{
	my ($rate, $n) = @$case;

	sql("INSERT INTO osmtalk.org_settings VALUES ('rate_$rate', '" . $nginx->url . "')");
	dead("rate_$rate", $n);
	my $id = begin("rate_$rate", $rate);
	ok(finishes($id), "$n at $rate a second");
	my ($measured, $burst) = measured("rate_$rate", $rate);
	note "$measured a second; at most $burst times the rate in a quarter of a second; by the view " . progress($id, 'measured_rate');
	cmp_ok($measured, '<=', 1.1 * $rate, '... not faster');
	cmp_ok($measured, '>=', 0.4 * $rate, '... nor much slower');
	is(progress($id, 'done'), $n, '... all are sent');
}

# ---- two workers, endpoints of either, and one that refuses ----

setting($node, 'osmtalk.workers' => 2);
ok(wait_for(sub { sql("SELECT count(*) FROM osmtalk.worker_status WHERE state = 'running'") == 2 }, 'the second worker'), 'two workers');
my %url = (
	refuses => 'http://127.0.0.1:' . Osmtalk::Nginx::free_port() . '/',
	one => $nginx->url,
	another => $nginx->url =~ s/localhost/127.0.0.1/r,
	third => $nginx->url =~ s/localhost/127.0.0.2/r);
for my $org (sort keys %url)
{
	sql("INSERT INTO osmtalk.org_settings VALUES ('$org', '$url{$org}')");
	dead($org, 200);
}
my @ids = map { sql("SELECT redelivery_id FROM osmtalk.redeliver_matching('org_id IN (''refuses'', ''$_'')', dry_run => false, rate => 1000)") } qw(one another third);
ok(finishes($_), 'redeliveries side by side') for @ids;
is(sql('SELECT sum(done), sum(failed + already_waiting), sum(total) FROM osmtalk.redelivery_progress WHERE id IN (' . join(', ', @ids) . ')'), '600|600|1200', 'each event has its result, and is counted once');
unlike(log_since($node), qr/redeliveries cannot go on|nothing is sent until/, 'nothing went wrong');

done_testing();
