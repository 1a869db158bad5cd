# Headers of a receiver's own arrive as they were written, at the URL that they
# were set beside and nowhere else; and an event whose headers cannot be sent is
# not sent without them.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $of_organisation = Osmtalk::Receiver->new;
my $of_campaign = Osmtalk::Receiver->new;
my $node = new_cluster('main');

set_up($node, $db, url => $of_organisation->url, secret => 'a secret of sixteen');

sub sql { return $node->safe_psql($db, join '', @_); }
sub test_event { return sql("SELECT osmtalk.send_test_event('acme'" . ($_[0] ? ", '$_[0]'" : '') . ')'); }

# The headers of the request that the event makes, but for those that each has.
my @ordinary = qw(accept content-length content-type host user-agent x-osmtalk-event-id x-osmtalk-signature);
sub headers_of
{
	my ($receiver, $event) = @_;
	my %headers = %{ request_of($receiver, $event)->{headers} // {} };

	delete @headers{@ordinary};
	return \%headers;
}

is_deeply(headers_of($of_organisation, test_event()), {}, 'none, as ever');
my $json = '{"Authorization": "Bearer eyJhbGciOi.J9-_", "X-Api-Key": "a  b; c=\"d\", é"}' =~ s/, é//r;
sql("UPDATE osmtalk.org_settings SET webhook_headers = '$json'");
my %organisations = (authorization => 'Bearer eyJhbGciOi.J9-_', 'x-api-key' => 'a  b; c="d"');
is_deeply(headers_of($of_organisation, test_event()), \%organisations, 'the organisation\'s, as they were written');
is_deeply(headers_of($of_organisation, sql("SELECT test.event('cmp_plain')")), \%organisations, '... with a campaign\'s event that goes to its URL');

# ---- a campaign's URL ----

sql("UPDATE osmtalk.campaigns SET webhook_url = '" . $of_campaign->url . "'");
is_deeply(headers_of($of_campaign, sql("SELECT test.event('cmp_plain')")), {}, 'a campaign\'s URL is sent none of the organisation\'s');
is_deeply(headers_of($of_campaign, test_event('cmp_plain')), {}, '... nor a test');
sql(q(UPDATE osmtalk.campaigns SET webhook_headers = '{"x-of": "the campaign"}'));
is_deeply(headers_of($of_campaign, test_event('cmp_plain')), { 'x-of' => 'the campaign' }, '... but the campaign\'s own');
sql("SELECT test.finalise('cmp_analyst'); UPDATE osmtalk.calls SET analysis = '{}' WHERE agent_id = 'analyst'");
my $analysis = sql("SELECT id FROM osmtalk.events WHERE type = 'call.analysis_completed'");
is_deeply(headers_of($of_organisation, $analysis), \%organisations, 'an event of a call goes to the organisation, with its own');
sql('UPDATE osmtalk.campaigns SET webhook_url = NULL');
is_deeply(headers_of($of_organisation, test_event('cmp_plain')), \%organisations, 'a campaign\'s headers without a URL go nowhere');

# ---- what is pending ----

setting($node, 'osmtalk.enabled' => 'off');
my $held = test_event();
sql(q(UPDATE osmtalk.org_settings SET webhook_headers = '{"X-New": "1"}'));
setting($node, 'osmtalk.enabled' => undef);
is_deeply(headers_of($of_organisation, $held), { 'x-new' => 1 }, 'a change applies to what is pending');

# ---- the most ----

sql("UPDATE osmtalk.org_settings SET webhook_headers = (SELECT jsonb_object_agg('X-' || i, repeat(i::text, 200)) FROM generate_series(1, 9) i) || jsonb_build_object('X-Long', repeat('v', 2000))");
is_deeply(headers_of($of_organisation, test_event()), { 'x-long' => 'v' x 2000, map { ("x-$_" => $_ x 200) } 1 .. 9 }, 'many, and long ones');
setting($node, 'osmtalk.standard_webhooks_headers' => 'on');
sql("SELECT osmtalk.rotate_webhook_secret('acme'); SELECT osmtalk.rotate_webhook_secret('acme')");
my $headers = headers_of($of_organisation, test_event());
is(scalar(grep { /^webhook-/ } keys %$headers), 3, '... with those of Standard Webhooks');
is(scalar(keys %$headers), 13, '... all of them');
setting($node, 'osmtalk.standard_webhooks_headers' => undef);

# a thousand at once, on connections that are used again
my $before = $of_organisation->count;
sql("SELECT count(osmtalk.send_test_event('acme')) FROM generate_series(1, 1000); SELECT osmtalk.wait_until_drained('60 s')");
is(scalar(grep { ($_->{headers}{'x-9'} // '') eq '9' x 200 } $of_organisation->requests), 1002, 'each of a thousand has them');

# ---- what cannot be sent ----

# nobody has looked at them when they were written
for my $case ([ q('{"X": "v\r\nX-Injected: 1"}'), 'a line break' ], [ q('{"Host": "elsewhere.invalid"}'), 'a reserved name' ], [ q('"text"'), 'not an object' ], [ "jsonb_build_object('X', repeat('v', 100000000))", 'a hundred megabytes' ])
{
	sql("SET session_replication_role = replica; UPDATE osmtalk.org_settings SET webhook_headers = $case->[0]");
	my $event = test_event();
	is(state_of($node, $db, $event), 'failed|1||not sent: the webhook headers are not valid', "$case->[1]: the event is not sent");
	is(scalar(my @none = $of_organisation->requests(eventId => $event)), 0, '... neither without them');
}
sql('UPDATE osmtalk.org_settings SET webhook_headers = NULL');
is_deeply(headers_of($of_organisation, test_event()), {}, 'without them, events are sent again');

done_testing();
