# Several workers divide the endpoints of a database, and may become more or
# fewer while they deliver.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my @receivers = map { Osmtalk::Receiver->new } 1 .. 6;
my $node = new_cluster('main', conf => "osmtalk.max_in_flight_per_endpoint = 4\nmax_worker_processes = 16\n");
set_up($node, $db, url => $receivers[0]->url);

sub sql { return $node->safe_psql($db, join '', @_); }

sub have_workers
{
	my ($n) = @_;

	setting($node, 'osmtalk.workers' => $n);
	return ok($node->poll_query_until($db, "SELECT count(*) = $n AND count(*) FILTER (WHERE state = 'running' AND pid IS NOT NULL) = $n FROM osmtalk.worker_status"),
		"$n workers");
}

my $locks = "SELECT count(*) FROM pg_locks l JOIN osmtalk.worker_status w USING (pid) WHERE locktype = 'advisory'";

sql("INSERT INTO osmtalk.org_settings (org_id, default_webhook_url) VALUES ", join ', ', map { "('org$_', '" . $receivers[$_]->url('/slow/20') . "')" } 0 .. $#receivers);
have_workers(1);
is(sql($locks), 1, 'one worker has one lock');

# ---- becoming more and fewer under load ----

my $each = 400;
my $enqueue = "SELECT count(osmtalk.send_test_event('org' || i % " . @receivers . ")) FROM generate_series(1, " . $each * @receivers . ") i";
sql($enqueue);
$node->poll_query_until($db, 'SELECT count(*) > 100 FROM osmtalk.delivery_attempts');
have_workers(4);
cmp_ok(sql('SELECT count(*) FROM osmtalk.outbox'), '>', 0, 'there is more to do');
ok($node->poll_query_until($db, 'SELECT count(*) FILTER (WHERE delivered > 0) > 1 FROM osmtalk.worker_status'), 'more than one delivers');
sql($enqueue);
have_workers(2);
sql($enqueue);
is(sql("SELECT osmtalk.wait_until_drained('120 s')"), 't', 'all is sent');

my %times;
$times{$_}++ for map { $_->event_ids } @receivers;
is(scalar(keys %times), 3 * $each * @receivers, 'every event has arrived');
is(scalar(grep { $_ > 1 } values %times), 0, 'once');
is(sql('SELECT count(*), count(*) FILTER (WHERE http_status = 200 AND attempt = 1) FROM osmtalk.delivery_attempts'),
	3 * $each * @receivers . '|' . 3 * $each * @receivers, 'and is recorded so');
for my $receiver (@receivers)
{
	my @changes = sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } map { ([ $_->{arrivedAt}, 1 ], [ $_->{arrivedAt} + 15, -1 ]) } $receiver->requests;
	my ($open, $most) = (0, 0);

	for (@changes)
	{
		$open += $_->[1];
		$most = $open if $open > $most;
	}
	cmp_ok($most, '<=', 4, 'never more than the limit at one endpoint');
}

# ---- one that dies is replaced, and its endpoints are served ----

my $pid = sql('SELECT max(pid) FROM osmtalk.worker_status');
sql("SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until($db, "SELECT count(*) = 2 AND count(*) FILTER (WHERE state = 'running' AND pid <> $pid) = 2 FROM osmtalk.worker_status"), 'a worker that ended is replaced');
my @events = map { sql("SELECT osmtalk.send_test_event('org$_')") } 0 .. $#receivers;
ok(request_of($receivers[$_], $events[$_], 5)->{seq}, "endpoint $_ is served") for 0 .. $#receivers;

# ---- and back ----

have_workers(1);
ok($node->poll_query_until($db, "SELECT ($locks) = 1"), 'one worker has one lock again');
ok(request_of($receivers[$_], sql("SELECT osmtalk.send_test_event('org$_')"), 5)->{seq}, "endpoint $_ is served") for 0 .. $#receivers;

# ---- all make way ----

have_workers(3);
is($node->psql('template1', 'ALTER DATABASE postgres RENAME TO renamed'), 0, 'all of them make way for DDL');
ok($node->poll_query_until('renamed', "SELECT count(*) = 3 AND count(pid) = 3 FROM osmtalk.worker_status"), 'and come back');
$node->safe_psql('renamed', 'DROP EXTENSION osmtalk CASCADE; DROP SCHEMA IF EXISTS test CASCADE');
ok($node->poll_query_until('renamed', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'"), 'and end with the extension');

done_testing();
