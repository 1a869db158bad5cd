# doc/recipes/tunnel.md: nginx, with a certificate of an authority of its own,
# stands for a tunnel to a receiver on the developer's machine.

use strict;
use warnings;
use Osmtalk::Nginx;
use Osmtalk::Recipe;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Recipe->new('node-receiver', handler => 1);
my $tunnel = Osmtalk::Nginx->new(tls => 1, proxy_to => $receiver->url =~ s{/webhooks$}{}r);
my $node = new_cluster('main', conf => "osmtalk.ca_file = '" . $tunnel->ca_file . "'\n");
set_up($node, $db, url => $tunnel->url('/webhooks'), secret => $Osmtalk::Recipe::secret);

my @events = split /\n/, $node->safe_psql($db, q{SELECT osmtalk.send_test_event('acme') UNION ALL SELECT test.event('cmp_plain')});
is(state_of($node, $db, $_), 'delivered|1|204|', 'through the tunnel, with its signature') for @events;
ok(wait_for(sub { $receiver->handled == 2 }, 'both events'), 'the receiver has both');
is_deeply([ sort $tunnel->event_ids ], [ sort @events ], 'by way of the tunnel');

# names in raw UTF-8, and a body of some size
my $call = $node->safe_psql($db, q{SELECT test.place('cmp_plain')});
$node->safe_psql($db, qq{UPDATE osmtalk.leads SET variables = jsonb_build_object('text', repeat('中ö "\\ ', 10000)) WHERE call_id = '$call';
	UPDATE osmtalk.calls SET ended_at = now() WHERE id = '$call'});
is(state_of($node, $db, $node->safe_psql($db, qq{SELECT id FROM osmtalk.events WHERE call_id = '$call'})), 'delivered|1|204|', 'the bytes are what they were');

$receiver->stop;
my $lost = $node->safe_psql($db, q{SELECT osmtalk.send_test_event('acme')});
is(state_of($node, $db, $lost), 'failed|1|502|HTTP 502', 'nobody behind it');
like($node->safe_psql($db, qq{SELECT response_body FROM osmtalk.delivery_attempts WHERE event_id = '$lost'}), qr/Bad Gateway/, 'what was answered is there');
$receiver->start;
$node->safe_psql($db, qq{SELECT osmtalk.redeliver('$lost')});
is(state_of($node, $db, $lost), 'delivered|2|204|', 'sent again');

# the same machine, without a tunnel: trusted_networks alone
$node->safe_psql($db, q{UPDATE osmtalk.org_settings SET default_webhook_url = '} . $receiver->url . q{'});
is(state_of($node, $db, $node->safe_psql($db, q{SELECT osmtalk.send_test_event('acme')})), 'delivered|1|204|', 'plain http on this machine');
setting($node, 'osmtalk.trusted_networks' => '');
like(state_of($node, $db, $node->safe_psql($db, q{SELECT osmtalk.send_test_event('acme')})), qr/^failed\|1\|\|not sent: this target is not allowed/, 'only while it is trusted');

done_testing();
