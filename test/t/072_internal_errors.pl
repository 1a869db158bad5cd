# Each step of what happens inside the application's statement fails in turn, by
# a fault that is compiled in for this test alone.  Then the statement fails,
# loudly, and leaves nothing; no event is lost in silence.  And without the
# fault the same statement does all of it.

use strict;
use warnings;
use Osmtalk::Installation;
use Osmtalk::Test;
use Test::More;

my $installation = Osmtalk::Installation->new('installation');
$installation->install($installation->build(Osmtalk::Installation::present_version(), flags => '-DOSMTALK_FAULTS'));

my $db = 'postgres';
my $node = new_cluster('main', installation => $installation, conf => "osmtalk.enabled = off\n");
set_up($node, $db, url => 'https://example.invalid/', secret => 'whsec_of_acme');

sub sql { return $node->safe_psql($db, join '', @_); }

# Everything there is, but for what the worker writes.
sql(<<'END');
CREATE FUNCTION test.everything() RETURNS text LANGUAGE sql AS $$
	SELECT md5(concat((SELECT string_agg(c::text, ' ' ORDER BY c.id) FROM osmtalk.calls c), (SELECT string_agg(l::text, ' ' ORDER BY l.id) FROM osmtalk.leads l),
		(SELECT string_agg(e::text, ' ' ORDER BY e.id) FROM osmtalk.events e), (SELECT string_agg(o::text, ' ' ORDER BY o.id) FROM osmtalk.outbox o)))
$$;
-- one after the other until none fails; what failed, what that left behind
CREATE FUNCTION test.each_step(statement text, OUT steps text[], OUT left_behind text[], OUT other_errors text[]) LANGUAGE plpgsql AS $$
DECLARE
	before text := test.everything();
BEGIN
	FOR n IN 1 .. 1000 LOOP
		BEGIN
			PERFORM set_config('osmtalk.fault_step', n::text, false);
			EXECUTE statement;
			PERFORM set_config('osmtalk.fault_step', '0', false);
			RETURN;
		EXCEPTION WHEN OTHERS THEN
			PERFORM set_config('osmtalk.fault_step', '0', false);
			IF SQLERRM LIKE 'fault at step "%' THEN
				steps := steps || substring(SQLERRM, '"(.*)"');
			ELSE
				other_errors := other_errors || SQLERRM;
			END IF;
			IF test.everything() <> before THEN
				left_behind := left_behind || SQLERRM;
			END IF;
		END;
	END LOOP;
END $$;
UPDATE osmtalk.campaigns SET max_attempts = 2, retry_on = '{busy}';
INSERT INTO osmtalk.dnc_entries (org_id, phone_number) VALUES ('acme', '+4912345678');
END

sub placed { return sql("SELECT test.place('cmp_$_[0]')"); }
sub lead { return sql("INSERT INTO osmtalk.leads (campaign_id, phone_number) VALUES ('cmp_$_[0]', '+4930123456') RETURNING id"); }

my $waiting = placed('analyst');
sql("UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now() WHERE id = '$waiting'");
my $decided = placed('analyst');
sql("UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now(), analysis_error = 'x' WHERE id = '$decided'");
my @ids = map { placed('plain') } 1 .. 3;
my @leads = (lead('analyst'), lead('analyst'), lead('plain'), lead('plain'));

my $completed = "answered_at = now() - interval '1 min', ended_at = now()";
for my $case (
	[ 'a call ends', "UPDATE osmtalk.calls SET $completed WHERE id = '$ids[0]'", 1, 15 ],
	[ 'it is to be called again', "UPDATE osmtalk.calls SET ended_at = now(), sip_status_code = 486 WHERE id = '$ids[1]'", 0, 10 ],
	[ 'an analysis comes that was waited for', "UPDATE osmtalk.calls SET analysis = '{\"success\": true}' WHERE id = '$waiting'", 2, 25 ],
	[ 'an analysis comes late', "UPDATE osmtalk.calls SET analysis = '{\"success\": true}' WHERE id = '$decided'", 1, 15 ],
	[ 'a call arrives that has ended', "INSERT INTO osmtalk.calls (id, lead_id, answered_at, ended_at, analysis) VALUES ('call_ended', '$leads[0]', now() - interval '1 min', now(), '{}')", 2, 30 ],
	[ 'a call is placed', "SELECT osmtalk.place_call('$leads[1]')", 0, 5 ],
	[ 'a number is on the list', "INSERT INTO osmtalk.calls (id, lead_id, phone_number) VALUES ('call_dnc', '$leads[2]', '+49 123 456 78')", 1, 15 ],
	[ 'the application decides', "UPDATE osmtalk.leads SET status = 'failed' WHERE id = '$leads[3]'", 1, 8 ],
	[ 'many calls end at once', "UPDATE osmtalk.calls SET $completed WHERE id = '$ids[2]' OR id IN (SELECT test.place('cmp_plain', 2))", 1, 15 ],
	[ 'a test is asked for', "SELECT osmtalk.send_test_event('acme', 'cmp_plain')", 1, 5 ])
{
	my ($what, $statement, $events, $least) = @$case;
	my $before = sql('SELECT count(*) FROM osmtalk.events e JOIN osmtalk.outbox o ON o.event_id = e.id');
	my ($steps, $left, $other, $names) = split /\|/, sql("SELECT cardinality(r.steps), coalesce(array_to_string(r.left_behind, ', '), ''), coalesce(array_to_string(r.other_errors, ', '), ''), array_to_string(r.steps, ', ') FROM test.each_step(\$x\$ $statement \$x\$) r");

	cmp_ok($steps // 0, '>=', $least, "$what: so many steps fail, each with an error") or diag $names;
	note "$what: $steps steps: $names";
	is($left, '', '... which leaves nothing behind');
	is($other, '', '... nor fails otherwise afterwards');
	is(sql('SELECT count(*) FROM osmtalk.events e JOIN osmtalk.outbox o ON o.event_id = e.id') - $before, $events, "... and when none does, $events events are enqueued");
}

# Without a savepoint: the transaction is gone, and its client knows.
my $call = placed('plain');
my ($status, undef, $stderr) = $node->psql($db, "BEGIN; SET LOCAL osmtalk.fault_step = 12; UPDATE osmtalk.calls SET $completed WHERE id = '$call'; COMMIT");
is($status, 3, 'the statement fails');
like($stderr, qr/ERROR:  fault at step/, '... the client is told');
is_query($node, $db, "SELECT status, (SELECT count(*) FROM osmtalk.events e WHERE e.call_id = c.id) FROM osmtalk.calls c WHERE id = '$call'", 'in_progress|0', '... and the call has not ended');
unlike(log_since($node), qr/terminated by signal|could not|cache lookup/, 'nothing worse is in the log');

done_testing();
