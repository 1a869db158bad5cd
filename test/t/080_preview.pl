# What preview_event() shows is what a receiver gets: the URL, each header, the
# body byte by byte; of events that are there, and of those that are about to
# come, asked for in the transaction that has them come.  Its command for a
# shell sends the same.  And it writes nothing.

use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Encode ();
use IPC::Run ();
use JSON::PP ();
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my %secrets = (org => 'whsec_of_the_organisation', campaign => q(it's "the campaign's" \ $secret));
my $receiver = Osmtalk::Receiver->new(bodies => 1, secrets => { '/org' => $secrets{org}, '/campaign' => $secrets{campaign} });
my $node = new_cluster('main');
my $db = 'postgres';
my $json = JSON::PP->new->allow_nonref;

sub sql { return $node->safe_psql($db, join '', @_); }

# What a query returns as one JSON value, bodies in bytes.
sub json_of { return $json->decode(Encode::decode('UTF-8', sql("SELECT coalesce(json_agg(r), '[]') FROM ($_[0]) r"))); }

sub preview { return @{ json_of("SELECT * FROM osmtalk.preview_event('$_[0]')") }; }

# Headers by their names in lower case, as the receiver has them.
sub lower { return { map { (lc $_ => $_[0]->{$_}) } keys %{ $_[0] } }; }

# What libcurl adds is not in the preview.
my %made_by_libcurl = map { ($_ => 1) } qw(host accept content-length);

sub is_as_received
{
	my ($preview, $request, $what, @except) = @_;
	my %headers = %{ $request->{headers} // {} };
	my %previewed = %{ lower($preview->{headers}) };
	my $body = Encode::encode('UTF-8', $preview->{body});

	is($preview->{url}, $receiver->url($request->{path} // ''), "$what: the URL");
	is($request->{sha256}, sha256_hex($body), "$what: the body, byte by byte");
	is($preview->{bytes}, length $body, "$what: its size");
	is($headers{'content-length'}, length $body, "$what: Content-Length");
	is($headers{accept}, '*/*', "$what: Accept");
	is($headers{host}, '127.0.0.1:' . $receiver->port, "$what: Host");
	delete @headers{ keys %made_by_libcurl };
	for my $name (@except)
	{
		isnt($headers{$name}, $previewed{$name}, "$what: $name is another");
		delete $_->{$name} for \%headers, \%previewed;
	}
	is_deeply(\%headers, \%previewed, "$what: all other headers") or diag explain $request->{headers};
	return;
}

set_up($node, $db, url => $receiver->url('/org'), secret => $secrets{org});
sql("INSERT INTO osmtalk.org_settings VALUES ('unsigned', '" . $receiver->url('/unsigned') . "', NULL);
	INSERT INTO osmtalk.campaigns (id, org_id, name) VALUES ('cmp_unsigned', 'unsigned', 'Unsigned')");
sql(q(UPDATE osmtalk.campaigns SET webhook_url = '), $receiver->url('/campaign?a=1&b=%20{x}[1-3]'), q(', webhook_secret = $s$), $secrets{campaign}, q($s$ WHERE id = 'cmp_analyst'));

# What a shell, or a JSON string, might make something else of.
my $nasty = q(it's "quoted" \ \n $(id) `id` $HOME !! %s %% ~ # & ; | < > * ? [a] {b} @file) . "\x{f6}\x{4e2d}\x{1f600}\t\x{1}";
my $variables = $json->encode({ name => $nasty, "'" => "''" });
# a lead with those is called; returns the call's id
sub placed
{
	my ($campaign) = @_;
	my $call = sql("SELECT test.place('$campaign')");

	sql("UPDATE osmtalk.leads SET variables = \$json\$", Encode::encode('UTF-8', $variables), "\$json\$ WHERE call_id = '$call'");
	return $call;
}

# ---- events that are there ----

setting($node, 'osmtalk.enabled' => 'off');
my %calls = map { ($_ => placed("cmp_$_")) } qw(plain analyst unsigned);
sql("UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '42.5 s', transcript = \$t\$", Encode::encode('UTF-8', $nasty),
	"\$t\$, analysis = '{\"success\": true, \"it''s\": 1.50}' WHERE id IN ('", join("', '", values %calls), "')");
my %previews;
for my $name (sort keys %calls)
{
	my @rows = preview($calls{$name});

	is(join(' ', map { $_->{type} } @rows), $name eq 'analyst' ? 'campaign.lead_completed call.analysis_completed' : 'campaign.lead_completed', "$name: its events");
	is($_->{state}, 'pending', "$name: pending") for @rows;
	is($_->{reason}, 'It waits for osmtalk.enabled: it is off.', "$name: why it is") for @rows;
	$previews{"$name, $_->{type}"} = $_ for @rows;
}
setting($node, 'osmtalk.enabled' => undef);
is_as_received($previews{$_}, request_of($receiver, $previews{$_}{event_id}), $_) for sort keys %previews;
my ($signed, $unsigned) = map { $previews{"$_, campaign.lead_completed"}{headers} } qw(analyst unsigned);
like($signed->{'X-OsmTalk-Signature'}, qr/^sha256=[0-9a-f]{64}$/, 'with a secret there is a signature');
ok(!exists $unsigned->{'X-OsmTalk-Signature'}, 'without, there is none');
ok(request_of($receiver, $previews{'analyst, campaign.lead_completed'}{event_id})->{verified}, 'the documented recipe accepts what was previewed');

# ---- the command ----

# with and without what may be built into the shell
my @shells = grep { -x $_ } qw(/bin/sh /bin/bash /bin/dash);
sub runs
{
	my ($preview, $what) = @_;

	for my $shell (@shells)
	{
		my $before = $receiver->requests(eventId => $preview->{event_id});
		my $command = Encode::encode('UTF-8', $preview->{curl});
		my ($out, $err);

		# on standard input, as when it is pasted
		IPC::Run::run([ $shell, '-s' ], '<', \"$command\n", '>', \$out, '2>', \$err);
		like($out, qr{^HTTP/1\.1 204}, "$what: $shell runs the command") or diag $err;
		my @requests = $receiver->requests(eventId => $preview->{event_id});
		is(scalar @requests, $before + 1, "$what: a request is made");
		is_as_received($preview, $requests[-1], "$what, by $shell");
	}
	return;
}
# what a user may have set is not heeded
@ENV{qw(http_proxy HTTP_PROXY all_proxy ALL_PROXY)} = ('http://127.0.0.1:1') x 4;
delete @ENV{qw(no_proxy NO_PROXY)};
for my $name (sort keys %calls)
{
	for my $preview (preview($calls{$name}))
	{
		like($preview->{curl}, qr/^curl /, "$name: a command");
		runs($preview, "$name, $preview->{type}");
	}
}
# bodies that only somebody who writes events by hand can have
my %by_hand = (at => "\@/etc/hostname'\n", empty => '', lines => "'\n''\r\n\\\n'", large => "'" . ("0123456789 'x' %s \\ \x{4e2d}\n" x 8000), dashes => '--data x', percent => '%s%n%%\\0');
for my $name (sort keys %by_hand)
{
	my $body = Encode::encode('UTF-8', $by_hand{$name});

	sql("INSERT INTO osmtalk.events (id, type, org_id, call_id, body) VALUES ('evt_$name', 'webhook.test', 'acme', '$calls{plain}', \$body\$$body\$body\$);
		INSERT INTO osmtalk.outbox (event_id) VALUES ('evt_$name')");
	my ($preview) = grep { ($_->{event_id} // '') eq "evt_$name" } preview($calls{plain});
	is_as_received($preview, request_of($receiver, "evt_$name"), "a body of $name");
	runs($preview, "a body of $name");
}

# ---- events that are about to come ----

# In one transaction: the preview, what brings the event about, the event.
sub about_to_come
{
	my ($what, $call, $type, $set) = @_;
	my @lines = split /\n/, sql("BEGIN;
		SELECT to_json(p) FROM osmtalk.preview_event('$call') p WHERE p.type = '$type';
		UPDATE osmtalk.calls SET $set WHERE id = '$call';
		SELECT e.id FROM osmtalk.events e WHERE e.call_id = '$call' AND e.type = '$type';
		COMMIT");
	my $preview = $json->decode(Encode::decode('UTF-8', $lines[0]));

	is($preview->{event_id}, undef, "$what: no id yet");
	is($preview->{state}, 'not written', "$what: no event yet");
	is_as_received($preview, request_of($receiver, $lines[1]), $what, 'x-osmtalk-event-id');
	return;
}
sql("UPDATE osmtalk.campaigns SET max_attempts = 2, retry_on = '{busy}' WHERE id = 'cmp_unsigned'");
about_to_come('a call that ends', placed('cmp_plain'), 'campaign.lead_completed', 'ended_at = now()');
for my $case (
	[ 'busy', 'sip_status_code = 486' ], [ 'failed', "error = 'bot crashed'" ], [ 'voicemail', 'voicemail_detected = true, answered_at = now()' ],
	[ 'completed', "answered_at = now() - interval '1 min', analysis = '{\"success\": true}'" ])
{
	my ($status, $facts) = @$case;
	my $call = placed('cmp_plain');

	sql("UPDATE osmtalk.calls SET $facts WHERE id = '$call'");
	about_to_come("a call that ends as $status", $call, 'campaign.lead_completed', 'ended_at = now()');
}
my $waiting = placed('cmp_analyst');
sql("UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id = '$waiting'");
about_to_come('an analysis that is awaited and fails', $waiting, 'campaign.lead_completed', "analysis_error = 'no'");
# a retry sends nothing, which the preview says; the last attempt does
my $busy = placed('cmp_unsigned');
sql("UPDATE osmtalk.calls SET sip_status_code = 486 WHERE id = '$busy'");
my ($retried) = preview($busy);
like($retried->{reason}, qr/^Not final.* pending again, by the retry policy of its campaign, and nothing would be sent\.$/, 'a call that would be tried again');
is($retried->{body}, undef, '... has no body');
sql("UPDATE osmtalk.calls SET ended_at = now() WHERE id = '$busy'");
is(sql("SELECT count(*) FROM osmtalk.events WHERE call_id = '$busy'"), 0, '... and sends none');
my $last = sql("INSERT INTO osmtalk.calls (lead_id, sip_status_code) SELECT lead_id, 486 FROM osmtalk.calls WHERE id = '$busy' RETURNING id");
about_to_come('the last attempt', $last, 'campaign.lead_completed', 'ended_at = now()');

# ---- what was sent ----

my $sent = $previews{'plain, campaign.lead_completed'};
is(state_of($node, $db, $sent->{event_id}), 'delivered|1|204|', 'what was sent');
my ($again) = preview($calls{plain});
like($again->{reason}, qr/^Already sent as event "\Q$sent->{event_id}\E": attempt 1, at \S+Z, was answered with HTTP 204\. It is sent again only by SELECT osmtalk\.redeliver\('\Q$sent->{event_id}\E'\)\.$/, '... is said to be');
is($again->{$_}, $sent->{$_}, "... with the same $_") for qw(event_id url body bytes curl);
is_deeply($again->{headers}, $sent->{headers}, '... and headers');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = '" . $receiver->url('/status/500') . "' WHERE org_id = 'acme'");
my $before = $receiver->requests(eventId => $sent->{event_id});
($again) = preview($calls{plain});
sql("SELECT osmtalk.redeliver('$sent->{event_id}')");
is(state_of($node, $db, $sent->{event_id}), 'failed|2|500|HTTP 500', 'sent again');
is_as_received($again, ($receiver->requests(eventId => $sent->{event_id}))[$before], '... it goes where it was previewed to go');
($again) = preview($calls{plain});
like($again->{reason}, qr/^Already tried as event "\Q$sent->{event_id}\E", and failed after 2 attempts: HTTP 500\. It is sent again only by /, '... and its failure is told');

# ---- Standard Webhooks, and headers of the receiver's own ----

setting($node, 'osmtalk.standard_webhooks_headers' => 'on', 'osmtalk.enabled' => 'off');
my ($old, $new) = map { sql("SELECT osmtalk.rotate_webhook_secret('unsigned')") } 1 .. 2;
sql(q(UPDATE osmtalk.org_settings SET webhook_headers = '{"Authorization": "Bearer t0ken", "X-Tenant": "acme"}' WHERE org_id = 'unsigned'));
my $standard = placed('cmp_unsigned');
sql("UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id = '$standard'");
my ($previewed) = preview($standard);
is_deeply([ @{ $previewed->{headers} }{qw(Authorization X-Tenant)} ], [ '...', '...' ], 'of the receiver\'s own headers the names are shown');
unlike($json->encode($previewed), qr/t0ken|\Q$old\E|\Q$new\E/, '... no token, and no secret');
is($previewed->{headers}{'webhook-id'}, $previewed->{event_id}, 'webhook-id');
is(sql("SELECT osmtalk.verify_standard_webhook(p.body, p.headers, '$_') FROM osmtalk.preview_event('$standard') p"), 't', 'a signature by each valid secret') for $old, $new;
setting($node, 'osmtalk.enabled' => undef);
my $received = request_of($receiver, $previewed->{event_id});
my $headers = $json->encode($received->{headers});
is(sql("SELECT osmtalk.verify_standard_webhook(body, \$h\$$headers\$h\$, '$new') FROM osmtalk.events WHERE id = '$previewed->{event_id}'"), 't', 'the request is signed, too');
# these are of the attempt's second
delete @{ $_->{headers} }{qw(webhook-timestamp webhook-signature)} for $previewed, $received;
is_as_received($previewed, $received, 'with those of Standard Webhooks', qw(authorization x-tenant));
sql("UPDATE osmtalk.campaigns SET webhook_events = '{}' WHERE id = 'cmp_unsigned'");
my ($unwanted) = preview(placed('cmp_unsigned'));
like($unwanted->{reason}, qr/Events of this type are not wanted: they are not in webhook_events\.$/, 'an event that is not wanted');

# ---- nothing is written ----

my $all = join ' UNION ALL ', map { "SELECT '$_', md5(string_agg(t::text || t.xmin || t.xmax, ',' ORDER BY t::text)) FROM osmtalk.$_ t" } qw(calls leads events outbox delivery_attempts org_settings campaigns);
is(sql('SELECT osmtalk.wait_until_drained()'), 't', 'all is done');
my $unchanged = sql($all);
my $many = sql("BEGIN READ ONLY;
	SELECT count(*) > 30 FROM osmtalk.calls c, LATERAL osmtalk.preview_event(c.id) p, LATERAL osmtalk.explain_outcome(c.id) x;
	SELECT count(*) > 5 FROM osmtalk.leads l, LATERAL osmtalk.preview_lead_event(l.id) p;
	SELECT pg_current_xact_id_if_assigned() IS NULL, (SELECT count(*) = 0 FROM pg_locks WHERE pid = pg_backend_pid() AND mode NOT IN ('AccessShareLock', 'ExclusiveLock'));
	COMMIT");
is($many, "t\nt\nt|t", 'in a transaction that is read only, without an id and without locks');
is(sql($all), $unchanged, 'no row has changed');
is(sql("SELECT count(*) FROM osmtalk.calls c, LATERAL osmtalk.preview_event(c.id) p WHERE strpos(p::text, '$secrets{org}') > 0 OR strpos(p.curl, \$s\$$secrets{campaign}\$s\$) > 0"), 0,
	'no secret is shown');

done_testing();
