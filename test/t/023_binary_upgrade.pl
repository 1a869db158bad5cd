# A server that pg_upgrade has started sends nothing: neither launcher nor
# worker runs in it.  The whole of pg_upgrade is test/bin/pg-upgrade's.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
my $processes = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'osmtalk%'";

set_up($node, 'postgres', url => $receiver->url);
is_query($node, 'postgres', $processes, 2, 'a launcher and a worker');
setting($node, 'osmtalk.enabled' => 'off');
my $event = $node->safe_psql('postgres', "SELECT osmtalk.send_test_event('acme')");
$node->safe_psql('postgres', 'ALTER SYSTEM RESET osmtalk.enabled');
$node->stop;

# as pg_upgrade does
my @server = ('-D', $node->data_dir, '-l', $node->logfile, '-w');
$node->command_ok([ 'pg_ctl', @server, '-o', '-b -c autovacuum=off', 'start' ], 'started for an upgrade');
my $later = $node->safe_psql('postgres', "SELECT osmtalk.send_test_event('acme')");
$node->poll_query_until('postgres', "SELECT now() - created_at > interval '2500 ms' FROM osmtalk.events WHERE id = '$later'");
is_query($node, 'postgres', $processes, 0, 'neither runs');
is($receiver->count, 0, 'nothing is sent');
is_query($node, 'postgres', "SELECT count(*), max(attempts) FROM osmtalk.outbox", '2|0', 'nor touched');
$node->command_ok([ 'pg_ctl', @server, '-m', 'fast', 'stop' ], 'stopped');

$node->start;
ok(request_of($receiver, $_, 20)->{seq}, 'started as usual: it is sent') for $event, $later;

done_testing();
