# The clock is set back while events wait: for a retry, for an endpoint that is
# probed. They wait for as long as they would have, not until it has caught up.

use strict;
use warnings;
use Osmtalk::Clock;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $clock = Osmtalk::Clock->new;
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main', start => 0);
{
	local %ENV = (%ENV, $clock->environment);
	$node->start;
}
set_up($node, $db, url => $receiver->url('/fail/500/1'));

sub sql { return $node->safe_psql($db, join '', @_); }
sub event { return sql("SELECT test.event('cmp_plain')"); }
sub waits_for { return sql("SELECT waits_for FROM osmtalk.deliveries WHERE event_id = '$_[0]'"); }

sql("UPDATE osmtalk.org_settings SET webhook_retry_schedule = '{3 s}'");
my $event = event();
ok(wait_for(sub { waits_for($event) =~ /^retry 1/ }, 'the retry'), 'an event waits for its retry');
my $by_hand = sql("INSERT INTO osmtalk.events (type, org_id, body) VALUES ('webhook.test', 'acme', '{}') RETURNING id") =~ s/\s.*//sr;
sql("INSERT INTO osmtalk.outbox (event_id, due_at) VALUES ('$by_hand', now() + interval '1 h')");
ok(wait_for(sub { waits_for($by_hand) =~ /^its time/ }, 'the time'), 'another for a time that somebody has set');
my $due = sql("SELECT due_at FROM osmtalk.outbox WHERE event_id = '$by_hand'");
$clock->set(-86400);
my $since = now();
is(state_of($node, $db, $event), 'delivered|2|204|', 'the clock is set back by a day: the retry is made');
cmp_ok(now() - $since, '<', 6, '... when it was to be');
is(sql("SELECT state || ' ' || (o.due_at = '$due') FROM osmtalk.deliveries d JOIN osmtalk.outbox o USING (event_id) WHERE d.event_id = '$by_hand'"), 'pending true', 'that of the other is what it was');

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/well') . "', webhook_retry_schedule = '{1 h}'");
sql("UPDATE osmtalk.endpoints SET state = 'probing', consecutive_failures = 5, next_probe_at = now() + interval '3 s' WHERE url LIKE '%/well'");
$event = event();
ok(wait_for(sub { waits_for($event) =~ /^the endpoint, which fails/ }, 'the endpoint'), 'an event waits for its endpoint to be probed');
$clock->set(-2 * 86400);
$since = now();
is(state_of($node, $db, $event), 'delivered|1|204|', 'the clock is set back by another day: it is');
cmp_ok(now() - $since, '<', 6, '... when it was to be');

done_testing();
