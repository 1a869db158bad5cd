# An event that makes the worker die, by a fault that is compiled in for this
# test alone: it is sent alone after two deaths, set aside after three more, and
# all others are delivered.

use strict;
use warnings;
use Osmtalk::Installation;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $installation = Osmtalk::Installation->new('installation');
my $present = slurp_file("$installation->{lib}/osmtalk.so");

unlike($present, qr/fault_(?:event|statement)/, 'what is installed has no such setting');
$installation->install($installation->build(Osmtalk::Installation::present_version(), flags => '-DOSMTALK_FAULTS'));

my $db = 'app';
my $receiver = Osmtalk::Receiver->new;
my $holding = Osmtalk::Receiver->new;    # another endpoint
my $node = new_cluster('main', installation => $installation, conf => "osmtalk.request_timeout = 60s\n");
expect_signals();
$node->safe_psql('postgres', "CREATE DATABASE $_") for 'app', 'sibling';
set_up($node, 'app', url => $receiver->url('/slow/20'));
set_up($node, 'sibling', url => $receiver->url('/sibling'));

# The server may be down, for a moment.
sub sql
{
	my ($query, $database) = @_;
	my $result;

	wait_for(sub {
			# psql may end before it has read the query
			my ($status, $stdout) = eval { $node->psql($database // $db, $query, on_error_stop => 1) };
			return defined $status && $status == 0 && defined($result = $stdout);
		}, $query) or die;
	return $result;
}

sub deaths { return scalar(() = log_since($node) =~ /terminated by signal 6/g); }

# Attempts without a result: one for each death that an event was there at.
my $deaths_of = "SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE 'no result:%' AND event_id";

# ---- an event that kills the worker, and others ----

# in flight with it, and for long
sql("INSERT INTO osmtalk.org_settings VALUES ('held', '" . $holding->url('/hold') . "')");
my @held = map { sql("SELECT osmtalk.send_test_event('held')") } 1 .. 2;
request_of($holding, $_) for @held;

# it is known by its id before it is there
my $poison = sql("SELECT osmtalk.new_id('evt')");
setting($node, 'osmtalk.fault_event' => $poison);
my $begun = now();
my @others = split /\n/, $node->safe_psql($db, "BEGIN;
	INSERT INTO osmtalk.events (id, type, org_id, body) VALUES ('$poison', 'webhook.test', 'acme', '{}');
	INSERT INTO osmtalk.outbox (event_id) VALUES ('$poison');
	SELECT osmtalk.send_test_event('acme') FROM generate_series(1, 20);
	COMMIT");
ok(wait_for(sub { deaths() >= 2 }, 'two deaths', 30), 'the worker dies of it');
# what hung with it would be sent alone as long as it hangs
wait_for(sub { $holding->let_go; sql("SELECT state FROM osmtalk.deliveries WHERE event_id = '$poison'") eq 'failed' }, 'its end', 60);
note sprintf 'set aside after %.1f s', now() - $begun;

is(deaths(), 5, 'it does so five times');
is(sql("SELECT state, attempts, error FROM osmtalk.deliveries WHERE event_id = '$poison'"),
	'failed|6|set aside: the worker died each time it sent this event', 'then it is set aside, and its error says so');
is(sql("$deaths_of = '$poison'"), 5, 'each death is an attempt of it');
is(scalar(my @never = $receiver->requests(eventId => $poison)), 0, '(which died before it was sent)');
my $most = sql("SELECT coalesce(max(n), 0) FROM (SELECT count(*) n FROM osmtalk.delivery_attempts
	WHERE error LIKE 'no result:%' AND event_id <> '$poison' GROUP BY event_id) x");
is($most, 2, 'no other event was there at more than two: after that it was alone');
like(log_since($node), qr/osmtalk: set aside 1 events of database "app", the worker died each time it sent them/, 'the log says so');

wait_for(sub { $holding->let_go; sql("SELECT osmtalk.wait_until_drained('100 ms')") eq 't' }, 'the others', 30);
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state = 'delivered'"), @held + @others, 'all others are delivered');
my %got = map { $_ => 1 } $receiver->event_ids, $holding->event_ids;
is_deeply([ grep { !$got{$_} } @held, @others ], [], 'to the receiver, too');

my $next = sql("SELECT osmtalk.send_test_event('acme')");
my $request = request_of($receiver, $next, 10);
ok($request->{seq}, 'new events are sent');
is(deaths(), 5, 'and nothing dies any more');

my $sibling = sql("SELECT osmtalk.send_test_event('acme')", 'sibling');
ok(request_of($receiver, $sibling, 10)->{seq}, 'so are those of another database');
is(sql("SELECT count(*) FROM osmtalk.delivery_attempts WHERE error LIKE 'set aside%'", 'sibling'), 0, 'of which none was set aside');

# ---- sent again, once what was wrong is right ----

setting($node, 'osmtalk.fault_event' => undef);
sql("SELECT osmtalk.redeliver('$poison')");
is(state_of($node, $db, $poison), 'delivered|7|200|', 'redeliver() tries again, with the next number');

# and if it is not right, it does not take five deaths less
setting($node, 'osmtalk.fault_event' => $poison);
$node->psql($db, "SELECT osmtalk.redeliver('$poison')");
wait_for(sub { sql("SELECT state FROM osmtalk.deliveries WHERE event_id = '$poison'") eq 'failed' }, 'its end', 60);
is(deaths(), 10, 'a redelivery that kills again: five more, and it is set aside again');
setting($node, 'osmtalk.fault_event' => undef);

# ---- deaths of which it is innocent do not add up with its own ----

$poison = sql("SELECT osmtalk.send_test_event('held')");
request_of($holding, $poison);
for my $signal (qw(KILL SEGV ABRT BUS KILL SEGV))
{
	my $ready = () = log_since($node) =~ /ready to accept connections/g;
	my $times = () = $holding->requests(eventId => $poison);

	my $pid = sql('SELECT pid FROM osmtalk.worker_status') or die;
	kill $signal, $pid;
	wait_for(sub { $ready < (() = log_since($node) =~ /ready to accept connections/g) }, 'the restart') or die;
	wait_for(sub { $times < (() = $holding->requests(eventId => $poison)) }, 'the next request') or die;
}
is(sql("SELECT worker_deaths, attempts FROM osmtalk.outbox WHERE event_id = '$poison'"), '0|6', 'signals from outside, whichever, are not put down to an event');
$holding->let_go;
like(state_of($node, $db, $poison), qr/^delivered\|7\|200/, 'it is delivered');

setting($node, 'osmtalk.fault_panic' => $poison);
$node->psql($db, "SELECT osmtalk.redeliver('$poison')");
ok(wait_for(sub { sql("SELECT attempts FROM osmtalk.outbox WHERE event_id = '$poison'") >= 13 }, 'six deaths', 60), 'a server that cannot go on');
is(sql("SELECT worker_deaths FROM osmtalk.outbox WHERE event_id = '$poison'"), 0, '... is not put down to an event either');
ok(wait_for(sub { eval { setting($node, 'osmtalk.fault_panic' => undef); 1 } }, 'the setting', 60), '(and can go on)');
ok(wait_for(sub { $holding->let_go; sql("SELECT state FROM osmtalk.deliveries WHERE event_id = '$poison'") eq 'delivered' }, 'its end', 60), 'it is delivered');

done_testing();
