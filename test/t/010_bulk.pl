# Twenty thousand events by one statement.

use strict;
use warnings;
use Osmtalk::Nginx;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $db = 'postgres';
my $events = 20_000;
my $nginx = Osmtalk::Nginx->new;
my $node = new_cluster('main', conf => "shared_buffers = 128MB\n");
set_up($node, $db, url => $nginx->url);

# Kilobytes of the worker's own memory.
sub worker_memory
{
	my $status = slurp_file('/proc/' . worker_pid($node, $db) . '/status');

	return $status =~ /^RssAnon:\s+(\d+)/m ? $1 : 0;
}

sub has_proc { return -e "/proc/$$/status"; }

state_of($node, $db, $node->safe_psql($db, "SELECT osmtalk.send_test_event('acme')"));
my $before = has_proc() ? worker_memory() : 0;

my $begun = now();
$node->safe_psql($db, "SELECT test.finalise('cmp_plain', $events)");
my $committed = now();
is_query($node, $db, "SELECT osmtalk.wait_until_drained('100 s')", 't', 'all are sent');
my $took = now() - $committed;
note sprintf '%d calls finalised in %.1f s; their events sent in %.1f s more: %d events/s', $events, $committed - $begun, $took, $events / $took;
# generous: it is there to catch what is ten times slower
cmp_ok($events / $took, '>', 500, 'in reasonable time');

my %times;
$times{$_}++ for $nginx->event_ids;
is(scalar(keys %times), $events + 1, 'each has arrived');
is(scalar(grep { $_ > 1 } values %times), 0, 'once');
is_query($node, $db, "SELECT count(*), count(DISTINCT event_id), max(attempt) FROM osmtalk.delivery_attempts WHERE http_status = 204", join('|', $events + 1, $events + 1, 1), 'and is recorded once');
is_query($node, $db, "SELECT count(*) FROM osmtalk.outbox", 0, 'nothing is left');
is_query($node, $db, "SELECT pending, in_flight, delivered, failed FROM osmtalk.worker_status", '0|0|' . ($events + 1) . '|0', 'worker_status counts them');
is_query($node, $db, "SELECT count(*) FROM osmtalk.deliveries WHERE state = 'delivered'", $events + 1, 'so does deliveries');

SKIP:
{
	skip 'no /proc here', 1 if !has_proc();
	my $after = worker_memory();
	note "the worker's own memory: $before kB before, $after kB after";
	cmp_ok($after, '<', $before + 64 * 1024, 'the worker has not kept what it sent');
}

# a worker that starts with all of it before it
setting($node, 'osmtalk.enabled' => 'off');
$node->safe_psql($db, "SELECT test.finalise('cmp_plain', 5000)");
$node->restart;
setting($node, 'osmtalk.enabled' => undef);
is_query($node, $db, "SELECT osmtalk.wait_until_drained('60 s')", 't', 'what had queued before a restart is sent');
%times = ();
$times{$_}++ for $nginx->event_ids;
is(scalar(keys %times), $events + 5001, 'each');
is(scalar(grep { $_ > 1 } values %times), 0, 'once');

done_testing();
