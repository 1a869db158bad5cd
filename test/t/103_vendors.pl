# The recipes for HubSpot, Slack and PostgreSQL: what the vendors' APIs are
# asked, what they would refuse, and what comes of failures and repetitions.

use strict;
use warnings;
use Osmtalk::Extras;
use Osmtalk::Process;
use Osmtalk::Recipe;
use Osmtalk::Test;
use Osmtalk::Vendor;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $missing = Osmtalk::Extras::missing('npm');
plan skip_all => $missing if $missing ne '';

my $db = 'postgres';
my $node = new_cluster('main');
set_up($node, $db, secret => $Osmtalk::Recipe::secret);

sub sql { return $node->safe_psql($db, join '', @_); }

# A call with that analysis, of a lead with those variables; the event's id.
sub call_with
{
	my ($analysis, $variables) = @_;
	my $call = sql("SELECT test.place('cmp_analyst')");

	sql("UPDATE osmtalk.leads SET variables = '$variables' WHERE call_id = '$call'") if defined $variables;
	sql("UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '42 s', analysis = '$analysis' WHERE id = '$call'");
	return sql("SELECT id FROM osmtalk.events WHERE call_id = '$call' AND type = 'campaign.lead_completed'");
}

sub send_to
{
	my ($receiver) = @_;

	sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url . "'");
	return;
}

sub call_of { return sql("SELECT call_id FROM osmtalk.events WHERE id = '$_[0]'"); }
sub redelivered
{
	my ($event) = @_;

	sql("SELECT osmtalk.redeliver('$event')");
	return state_of($node, $db, $event);
}

# The version that a page names is the one that is tested.
sub same_major
{
	my ($page, $package) = @_;
	my ($named) = slurp_file("$ENV{SRC}/doc/recipes/$page") =~ /npm install \Q$package\E@(\d+)/;
	my ($tested) = Osmtalk::Extras::npm_version($package) =~ /^(\d+)/;

	return is($named, $tested, "$page: the version of $package");
}

subtest HubSpot => sub {
	my $hubspot = Osmtalk::Vendor->new('hubspot', '--token', 'pat-of-the-test');
	my %env = (HUBSPOT_TOKEN => 'pat-of-the-test', HUBSPOT_URL => $hubspot->url);
	my $receiver = Osmtalk::Recipe->new('hubspot', env => \%env);
	my $last = sub { my ($n) = @_; return ($hubspot->wait_for_requests($n))[ $n - 1 ] // {} };
	send_to($receiver);

	# without its properties HubSpot refuses, and nothing is lost
	my $first = call_with('{"success": true, "summary": "wants Pro"}', '{"first_name": "J\u00f6rg", "company": "Acme <b>", "age": 41}');
	is(state_of($node, $db, $first), 'delivered|1|204|', 'an event is taken');
	like($last->(1)->{said}{message}, qr/does not exist|not a unique property/, 'the properties are wanted');
	{
		local %ENV = (%ENV, %env);
		my $said = `cd $receiver->{dir} && node properties.mjs 2>&1 && node properties.mjs 2>&1`;
		is($said, "osmtalk_call_id: made\nlead_status: made\nvoice_ai_summary: made\n"
			. "osmtalk_call_id: was there\nlead_status: was there\nvoice_ai_summary: was there\n", 'properties.mjs makes them, once');
		$ENV{HUBSPOT_TOKEN} = 'another';
		isnt(system("cd $receiver->{dir} && node properties.mjs >/dev/null 2>&1"), 0, 'and fails with a wrong token');
	}
	ok(wait_for(sub { grep { ($_->{contacts} // [])->[0] } $hubspot->requests }, 'the contact'), 'then it is created');
	my $call = call_of($first);
	is_deeply((grep { $_->{contacts}[0] } $hubspot->requests)[0]->{contacts}, [ {
				id => '1', firstname => "J\x{f6}rg", company => 'Acme <b>', osmtalk_call_id => $call,
				phone => sql("SELECT phone_number FROM osmtalk.leads WHERE call_id = '$call'"),
				lead_status => 'qualified_by_voice_ai', voice_ai_summary => 'wants Pro' } ], 'with what the lead has');

	my $n = $hubspot->requests;
	is(redelivered($first), 'delivered|2|204|', 'the same event again');
	call_with($_) for '{"success": false}', '{"next_action": "not_interested"}';
	ok($receiver->wait_until_done, 'the receiver is done with all');
	unlink glob "$receiver->{dir}/spool/*";
	is(redelivered($first), 'delivered|3|204|', 'and once more, when the receiver has forgotten it');
	is(scalar(@{ $last->($n + 1)->{contacts} }), 1, 'is one contact still');
	is($last->($n + 1)->{said}{results}[0]{new} ? 1 : 0, 0, 'HubSpot knows it');
	is(scalar($hubspot->requests), $n + 1, 'leads that are not qualified are not pushed');

	my $nameless = call_with('{"lead_qualified": true}', '{}');
	is($last->($n + 2)->{contacts}[1]{firstname}, sql("SELECT phone_number FROM osmtalk.leads WHERE call_id = '" . call_of($nameless) . "'"),
		'a lead without a name has its number for one');

	$hubspot->fail_next;
	my $unlucky = call_with('{"success": true}');
	is($last->($n + 3)->{status}, 503, 'HubSpot fails');
	is(scalar(@{ $last->($n + 4)->{contacts} }), 3, 'and is asked again');
	like($receiver->log, qr/waits for another try/, 'the log says so');

	sql("UPDATE osmtalk.leads SET status = 'pending', disposition = NULL, call_id = NULL WHERE call_id = '" . call_of($nameless) . "';
		UPDATE osmtalk.leads SET status = 'completed', disposition = 'qualified' WHERE status = 'pending'");
	like($last->($n + 5)->{contacts}[3]{osmtalk_call_id}, qr/^ld_/, 'a lead that was decided by hand, without a call');
	unlike($receiver->log, qr/pat-of-the-test|whsec_/, 'the log has no secret');
	same_major('hubspot.md', '@hubspot/api-client');
	$receiver->stop;
};

subtest Slack => sub {
	my $path = '/services/T00000000/B00000000/of_the_test';
	my $slack = Osmtalk::Vendor->new('slack', '--path', $path);
	my $receiver = Osmtalk::Recipe->new('slack', env => { SLACK_WEBHOOK_URL => $slack->url($path) });
	send_to($receiver);

	my $event = call_with('{"next_action": "book_demo"}', '{"first_name": "Arjun", "company": "Acme"}');
	my $call = call_of($event);
	my ($request) = $slack->wait_for_requests(1);
	is($request->{said}, 'ok', 'Slack takes it');
	is($request->{shown}, "\x{1f525} Arjun from Acme wants a demo. Call: $call", 'and shows it');

	call_with('{"next_action": "book_demo"}', '{"first_name": "<!channel> & <https://evil.example|click>", "company": "&lt;!here&gt;"}');
	$request = ($slack->wait_for_requests(2))[1];
	is_deeply($request->{mentions}, [], 'what is called like a mention mentions nobody');
	like($request->{shown}, qr/\Q<!channel> & <https:\/\/evil.example|click> from &lt;!here&gt; wants\E/, 'and is shown as it is');

	call_with('{"next_action": "callback_later"}');
	call_with('{}');
	is(redelivered($event), 'delivered|2|204|', 'the first event again');
	$slack->fail_next;
	call_with('{"next_action": "book_demo"}', '{}');
	my @requests = $slack->wait_for_requests(4);
	is_deeply([ map { $_->{status} } @requests ], [ 200, 200, 503, 200 ], 'what Slack does not take is tried again, and nothing else is said');
	like($requests[3]{shown}, qr/^\x{1f525} \+\d+ wants a demo/, 'a lead without name and company');
	unlike($receiver->log, qr/of_the_test|whsec_/, 'the log has no secret');
	same_major('slack.md', '@slack/webhook');
	$receiver->stop;

	my $wrong = Osmtalk::Recipe->new('slack', env => { SLACK_WEBHOOK_URL => $slack->url('/services/gone') });
	send_to($wrong);
	call_with('{"next_action": "book_demo"}');
	is(($slack->wait_for_requests(5))[4]{said}, 'no_service', 'a webhook that was removed');
	ok(wait_for(sub { $wrong->log =~ /waits for another try.*404/ }, 'the log'), 'is in the log');
	$wrong->stop;
};

subtest PostgreSQL => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE crm');
	$node->safe_psql('crm', slurp_file("$ENV{SRC}/doc/recipes/postgresql-receiver/inbox.sql"));
	$node->safe_psql('crm', "INSERT INTO inbox.secrets VALUES ('$Osmtalk::Recipe::secret'), ('$Osmtalk::Recipe::old_secret')");
	my $crm = sub { return $node->safe_psql('crm', join '', @_) };
	my @receivers = map {
		Osmtalk::Recipe->new('postgresql-receiver', env => { PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'crm', PGUSER => 'inbox_http' })
	} 1 .. 2;
	my $receiver = $receivers[0];
	send_to($receiver);

	my $event = call_with('{"success": true, "summary": "wants \"Pro\""}');
	is(state_of($node, $db, $event), 'delivered|1|204|', 'an event is taken');
	is(redelivered($event), 'delivered|2|204|', 'twice');
	my $expected = sql("SELECT id, phone_number, status, disposition, outcome->>'summary'
		FROM (SELECT call_id AS id, phone_number, status, disposition, outcome FROM osmtalk.leads) AS lead WHERE id = '" . call_of($event) . "'");
	ok(wait_for(sub { $crm->('SELECT count(*) FROM inbox.events WHERE try_at IS NOT NULL') eq '0' && $crm->('TABLE outcomes') ne '' }, 'the work'), 'it is done');
	is($crm->('TABLE outcomes'), $expected, 'as it was decided');

	# to both replicas at once
	my $racing = '{"event":"campaign.lead_completed","lead":{"id":"ld_x","callId":"call_x","phoneNumber":"+4930","status":"busy"}}';
	my $answer = "$receivers[1]{dir}/answer";
	my $session = session($node, 'crm');
	$session->query_safe("BEGIN; SELECT inbox.receive('evt_race', '" . Osmtalk::Recipe::signature($racing) . "', convert_to('$racing', 'UTF8'))");
	my $second = Osmtalk::Process->start(sub { print $receivers[1]->post($racing, 'X-OsmTalk-Event-Id' => 'evt_race') }, output => $answer);
	wait_for(sub { $crm->("SELECT count(*) FROM pg_locks WHERE NOT granted") eq '1' }, 'the second to wait');
	is(-s $answer, 0, 'the second replica waits for the first');
	$session->query_safe('COMMIT');
	$session->quit;
	$second->wait;
	is(slurp_file($answer), '204', 'and takes it for received then');
	is($receivers[ $_ % 2 ]->post($racing, 'X-OsmTalk-Event-Id' => 'evt_race'), 204, "again, to replica $_") for 1, 2;
	is($receiver->post($racing, 'X-OsmTalk-Event-Id' => 'evt_replayed'), 204, 'under another id');
	is($crm->("SELECT count(*) FROM inbox.events WHERE body = convert_to('$racing', 'UTF8')"), '1', 'is stored once');
	ok(wait_for(sub { $crm->("SELECT count(*) FROM outcomes WHERE call_id = 'call_x'") eq '1' }, 'the work'), 'and done once');

	my $good = Osmtalk::Recipe::signature($racing);
	for my $wrong ('', 'sha256=', substr($good, 0, -1), "${good}0", $good =~ s/sha256/sha1/r, 'sha256=' . (substr($good, 7) =~ tr/0-9a-f/1-9a-f0/r), uc $good)
	{
		is($receiver->post($racing, 'X-OsmTalk-Signature' => $wrong), 401, "signature '$wrong'");
	}
	is($receiver->post($racing . ' ', 'X-OsmTalk-Signature' => $good), 401, 'another byte');
	is($receiver->post($racing, 'X-OsmTalk-Signature' => Osmtalk::Recipe::signature($racing, $Osmtalk::Recipe::old_secret)), 204, 'the old secret');
	is($receiver->post($racing, 'X-OsmTalk-Event-Id' => undef), 401, 'without an id');
	is($receiver->answer_to("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"), 413, 'one that is too large');
	is($receiver->answer_to("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), 411, 'one of unknown length');
	is($receiver->answer_to("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 405, 'another method');

	# what fails leaves nothing behind but its reason, and is done later
	$crm->('ALTER TABLE outcomes ADD CONSTRAINT no CHECK (status <> \'failed\')');
	my $failing = '{"event":"campaign.lead_completed","lead":{"id":"ld_y","callId":"call_y","phoneNumber":"+4930","status":"failed"}}';
	is($receiver->post($failing, 'X-OsmTalk-Event-Id' => 'evt_failing'), 204, 'the work fails');
	ok(wait_for(sub { $crm->("SELECT error FROM inbox.events WHERE event_id = 'evt_failing'") =~ /violates check constraint/ }, 'the reason'), 'its reason is there');
	is($receiver->post('{"event":"campaign.lead_completed","lead":{"id":"ld_z","callId":"call_z","phoneNumber":"+4930","status":"busy"}}',
			'X-OsmTalk-Event-Id' => 'evt_after'), 204, 'others come after it');
	ok(wait_for(sub { $crm->("SELECT count(*) FROM outcomes WHERE call_id = 'call_z'") eq '1' }, 'the next'), 'and are done');
	$crm->("ALTER TABLE outcomes DROP CONSTRAINT no; UPDATE inbox.events SET try_at = now() WHERE event_id = 'evt_failing'");
	is($receiver->post($racing, 'X-OsmTalk-Event-Id' => 'evt_race'), 204, 'when anything comes');
	ok(wait_for(sub { $crm->("SELECT status FROM outcomes WHERE call_id = 'call_y'") eq 'failed' }, 'the work'), 'it is tried again');

	# the HTTP part can do no more than it needs
	for my $statement ('TABLE inbox.secrets', 'TABLE inbox.events', 'TABLE outcomes', "SELECT inbox.handle('{}')", "SELECT inbox.is_signature('', '', '')",
		"INSERT INTO inbox.events VALUES ('x', 'x')")
	{
		my ($status) = $node->psql('crm', $statement, extra_params => [ '-U', 'inbox_http' ], on_error_stop => 1);
		isnt($status, 0, "inbox_http may not: $statement");
	}
	is($node->safe_psql('crm', "SELECT inbox.receive('evt', 'sha256=', '')", extra_params => [ '-U', 'inbox_http' ]), 'f', 'a wrong signature');
	$crm->('DELETE FROM inbox.secrets');
	is($receiver->post($racing), 401, 'without a secret nothing is genuine');

	# the database goes away and comes back
	$node->restart;
	wait_for(sub { $receiver->post($racing) eq '401' }, 'the receiver to be connected again') or fail('it comes back');
	is($receiver->{process}->is_alive, 1, 'a restart of the database does not end it');
	unlike($receiver->log, qr/whsec_/, 'the log has no secret');
	same_major('postgresql-receiver.md', 'pg');
	$_->stop for @receivers;
};

done_testing();
