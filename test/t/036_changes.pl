# What an event refers to is changed or deleted while it waits, or is in flight:
# where it goes follows the rows that are there, what it says does not, and its
# record stays.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my %secrets = ('/campaign' => 'whsec_campaign', '/org' => 'whsec_org', '/new' => 'whsec_new', '/mixed' => 'whsec_campaign');
my $receiver = Osmtalk::Receiver->new(secrets => \%secrets, bodies => 1);
my $elsewhere = Osmtalk::Receiver->new(secrets => \%secrets, bodies => 1);
my $holding = Osmtalk::Receiver->new(bodies => 1);
my $node = new_cluster('main');
set_up($node, $db, url => $receiver->url('/org'));

sub sql { return $node->safe_psql($db, join '', @_); }

# A tenant of the case's own, with a campaign, a lead, and a call that is to end.
my $n = 0;
sub tenant
{
	my ($path) = @_;
	my $t = 't' . ++$n;

	sql("INSERT INTO osmtalk.org_settings VALUES ('$t', '" . $receiver->url('/org') . "', 'whsec_org');
		INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('agent_$t', '$t', true);
		INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_url, webhook_secret)
			VALUES ('cmp_$t', '$t', 'agent_$t', 'The campaign', '" . ($path // $receiver->url('/campaign')) . "', 'whsec_campaign');
		INSERT INTO osmtalk.leads (id, campaign_id, phone_number) VALUES ('ld_$t', 'cmp_$t', '+4930123456');
		INSERT INTO osmtalk.calls (id, lead_id, answered_at) VALUES ('call_$t', 'ld_$t', now() - interval '1 min')");
	return $t;
}

# The lead's event, and that of the analysis, which comes first.
sub ends
{
	my ($t) = @_;

	sql("UPDATE osmtalk.calls SET ended_at = now(), analysis = '{\"success\": true}' WHERE id = 'call_$t'");
	return sql("SELECT id FROM osmtalk.events WHERE org_id = '$t' AND type = 'campaign.lead_completed'");
}

my $delete_lead = "DELETE FROM osmtalk.leads WHERE id = 'ld_%1\$s';";
my $delete_call = "DELETE FROM osmtalk.calls WHERE id = 'call_%1\$s';";
my $delete_campaign = "$delete_lead DELETE FROM osmtalk.campaigns WHERE id = 'cmp_%1\$s';";
my $delete_org = "$delete_campaign $delete_call DELETE FROM osmtalk.agents WHERE org_id = '%1\$s'; DELETE FROM osmtalk.org_settings WHERE org_id = '%1\$s';";
my $no_url = 'not sent: there is no webhook URL any more';

# ---- while it waits ----

# what, the change, where the lead's event goes, and with which verdict on its signature (undef: there is none)
my @cases = (
	[ 'nothing', '', '/campaign', 1 ],
	[ 'the lead is deleted', $delete_lead, '/campaign', 1 ],
	[ 'the call is deleted', $delete_call, '/campaign', 1 ],
	[ 'the lead is another one by now', "UPDATE osmtalk.leads SET phone_number = '+4999999999', variables = '{\"a\": 1}', status = 'pending' WHERE id = 'ld_%1\$s';", '/campaign', 1 ],
	[ 'the campaign is renamed', "UPDATE osmtalk.campaigns SET name = 'Another name' WHERE id = 'cmp_%1\$s';", '/campaign', 1 ],
	[ 'the campaign is deleted', $delete_campaign, '/org', 1 ],
	[ 'campaign and call are deleted', "$delete_campaign $delete_call", '/org', 1 ],
	[ 'the campaign has an empty URL', "UPDATE osmtalk.campaigns SET webhook_url = '', webhook_secret = '' WHERE id = 'cmp_%1\$s';", '/org', 1 ],
	[ 'the campaign has no URL, but a secret', "UPDATE osmtalk.campaigns SET webhook_url = NULL WHERE id = 'cmp_%1\$s';
		UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/mixed') . "' WHERE org_id = '%1\$s';", '/mixed', 1 ],
	[ 'the URL and the secret are changed', "UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/new') . "', webhook_secret = 'whsec_new' WHERE id = 'cmp_%1\$s';", '/new', 1 ],
	[ 'the secret is changed', "UPDATE osmtalk.campaigns SET webhook_secret = 'whsec_other' WHERE id = 'cmp_%1\$s';", '/campaign', 0 ],
	[ 'both secrets are gone', "UPDATE osmtalk.campaigns SET webhook_secret = NULL WHERE id = 'cmp_%1\$s'; UPDATE osmtalk.org_settings SET webhook_secret = '' WHERE org_id = '%1\$s';", '/campaign', undef ],
	[ 'the URL is of another endpoint', "UPDATE osmtalk.campaigns SET webhook_url = '" . $elsewhere->url('/new') . "', webhook_secret = 'whsec_new' WHERE id = 'cmp_%1\$s';", '/new', 1, $elsewhere ],
	[ 'no URL is left', "UPDATE osmtalk.campaigns SET webhook_url = NULL WHERE id = 'cmp_%1\$s'; UPDATE osmtalk.org_settings SET default_webhook_url = '' WHERE org_id = '%1\$s';", undef, $no_url ],
	[ 'organisation and campaign are deleted', $delete_org, undef, $no_url ],
	[ 'the URL may not be called', "UPDATE osmtalk.campaigns SET webhook_url = 'https://10.1.2.3/' WHERE id = 'cmp_%1\$s';", undef,
		q(not sent: this target is not allowed; the server's log says why) ]);

setting($node, 'osmtalk.enabled' => 'off');
for my $case (@cases)
{
	$case->[5] = tenant();
	$case->[6] = ends($case->[5]);
	$case->[7] = sql("SELECT md5(body) FROM osmtalk.events WHERE id = '$case->[6]'");
	sql(sprintf $case->[1], $case->[5]) if $case->[1];
}

# by hand, of the queue itself
my @gone = map { my $t = tenant(); [ $t, ends($t) ] } 1 .. 3;
sql("DELETE FROM osmtalk.events WHERE id = '$gone[0][1]'");
sql("DELETE FROM osmtalk.outbox WHERE event_id = '$gone[1][1]'");
sql("DELETE FROM osmtalk.events WHERE id = '$gone[2][1]'; DELETE FROM osmtalk.outbox WHERE event_id = '$gone[2][1]'");

setting($node, 'osmtalk.enabled' => undef);
is(sql('SELECT osmtalk.wait_until_drained()'), 't', 'all that waited has a result');
for my $case (@cases)
{
	my ($name, undef, $path, $verdict, $at, $t, $event, $md5) = @$case;
	my @requests = map { $_->requests(eventId => $event) } $receiver, $elsewhere;

	is(sql("SELECT md5(body) FROM osmtalk.events WHERE id = '$event'"), $md5, "$name: the event is the same");
	if (!defined $path)
	{
		is(scalar(@requests), 0, '... and is not sent');
		is(state_of($node, $db, $event), "failed|1||$verdict", '... its record says why');
		next;
	}
	is(scalar(@requests), 1, '... and is sent');
	is(scalar(my @there = ($at // $receiver)->requests(eventId => $event, path => $path)), 1, "... to $path");
	if (defined $verdict) { is($requests[0]{verified} ? 1 : 0, $verdict, '... signed with the secret of then'); }
	else { ok(!exists $requests[0]{headers}{'x-osmtalk-signature'}, '... without a signature'); }
	like($requests[0]{body}, qr/"campaign":\{"id":"cmp_$t","name":"The campaign"\},"lead":\{"id":"ld_$t","phoneNumber":"\+4930123456",.*"status":"completed","disposition":"qualified","attempts":1,"callId":"call_$t"/,
		'... and says what it said');
	is(state_of($node, $db, $event), 'delivered|1|204|', '... which is recorded');
}
# those of the analyses
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE type = 'call.analysis_completed' AND state <> 'delivered' AND error <> '$no_url'"), 0, 'events of analyses went to the organisation');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE type = 'call.analysis_completed' AND error = '$no_url'"), 2, 'unless there was none, or it had no URL');

is(scalar(my @none = map { $receiver->requests(eventId => $_->[1]) } @gone), 0, 'an event that was taken out of the tables is not sent');
is(sql("SELECT string_agg(error, ' ') FROM osmtalk.delivery_attempts WHERE event_id = '$gone[0][1]'"), 'not sent: the event was removed', 'the attempt says that the event was removed');
is(state_of($node, $db, $gone[1][1]), 'failed|0||its outbox row was removed before it was sent', 'or the row in the outbox');
sql("SELECT osmtalk.redeliver('$gone[1][1]')");
is(state_of($node, $db, $gone[1][1]), 'delivered|1|204|', 'then it can be redelivered');

# ---- while it is in flight ----

@cases = (
	[ 'nothing', '' ],
	[ 'organisation and campaign are deleted', $delete_org ],
	[ 'the URL is changed', "UPDATE osmtalk.campaigns SET webhook_url = '" . $receiver->url('/new') . "' WHERE id = 'cmp_%1\$s';" ],
	[ 'the outbox row is removed', "DELETE FROM osmtalk.outbox WHERE event_id = '%2\$s';" ],
	[ 'the outbox row is written to', "UPDATE osmtalk.outbox SET due_at = now() + interval '1 hour' WHERE event_id = '%2\$s';" ],
	[ 'the claim is removed', 'DELETE FROM osmtalk.claims;' ],
	[ 'it is redelivered', "SELECT osmtalk.redeliver('%2\$s');" ],
	[ 'the outbox row is removed and it is redelivered', "DELETE FROM osmtalk.outbox WHERE event_id = '%2\$s'; SELECT osmtalk.redeliver('%2\$s');", 2 ],
	[ 'the event is removed', "DELETE FROM osmtalk.events WHERE id = '%2\$s';" ]);
my $from = -s $node->logfile;
for my $case (@cases)
{
	my ($name, $change, $times) = @$case;
	my $t = tenant($holding->url("/hold/$n"));
	my $event = ends($t);

	request_of($holding, $event);
	no warnings 'redundant';    # not all of them name the event
	sql(sprintf $change, $t, $event) if $change;
	# the second request, if any, waits for the first: its endpoint is the same
	wait_for(sub { $holding->let_go; sql("SELECT osmtalk.wait_until_drained('100 ms')") eq 't' && sql('SELECT in_flight FROM osmtalk.worker_status') eq '0' }, 'the end', 20) or die;
	is(scalar(my @requests = $holding->requests(eventId => $event)), $times // 1, "in flight, $name: sent so often");
	is(sql("SELECT string_agg(concat_ws('|', attempt, http_status, error, url = '" . $requests[0]{path} . "' OR url LIKE '%/hold/%'), ' ' ORDER BY attempt) FROM osmtalk.delivery_attempts WHERE event_id = '$event'"),
		join(' ', map { "$_|200|t" } 1 .. ($times // 1)), '... the result is recorded, and where it went');
	next if $name eq 'the event is removed';
	is(sql("SELECT state FROM osmtalk.deliveries WHERE event_id = '$event'"), 'delivered', '... and shown');
}
unlike(log_since($node, $from), qr/ERROR|nothing is sent until/, 'without an error');
ok($node->poll_query_until($db, 'SELECT (SELECT count(*) FROM osmtalk.outbox) + (SELECT count(*) FROM osmtalk.claims) = 0'), 'nothing is left in the queue');

done_testing();
