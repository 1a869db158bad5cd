# Many sessions at once: one event for each outcome, no lead called twice.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(append_to_file run_command);
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new;
my $node = new_cluster('main');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $scripts = 0;

set_up($node, $db, url => $receiver->url);

sub sql { return $node->safe_psql($db, join '', @_); }

# Eight sessions run a script so many times each.  A serialisation failure is
# tried again; any other error fails.
sub eight_sessions
{
	my ($times, $script, $name) = @_;
	my $file = "$dir/script" . ++$scripts;

	append_to_file($file, $script);
	my ($stdout, $stderr) = run_command([ 'pgbench', '-n', '-c8', '-j2', "-t$times", '--max-tries=1000', '-f', $file, $node->connstr($db) ]);
	my $expected = 8 * $times;
	return like("$stdout\n$stderr", qr{^number of transactions actually processed: $expected/$expected$}m, $name);
}

# Waits until a session waits for a lock.
sub somebody_waits
{
	return $node->poll_query_until($db, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
}

my $one_event_each = "SELECT count(*) FROM osmtalk.calls c WHERE (SELECT count(*) FROM osmtalk.events e
	WHERE e.call_id = c.id AND e.type = 'campaign.lead_completed') <> 1";

# ---- the same calls, finalised by all ----

my $n = 0;
for my $isolation ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	sql("SELECT test.place('cmp_plain', 30)");
	my $first = sql("SELECT count(*) - 29 FROM osmtalk.calls");
	sql("CREATE TABLE IF NOT EXISTS test.numbered AS SELECT 0 AS n, '' AS id;
		INSERT INTO test.numbered SELECT row_number() OVER (ORDER BY id), id FROM osmtalk.calls WHERE status = 'in_progress'");
	eight_sessions(40, <<"END", "$isolation: the same calls by eight sessions");
\\set n random(1, 30)
\\set what random(1, 4)
BEGIN ISOLATION LEVEL $isolation;
\\if :what = 1
UPDATE osmtalk.calls SET ended_at = now() WHERE id = (SELECT max(id) FROM test.numbered WHERE n = :n);
\\elif :what = 2
UPDATE osmtalk.calls SET answered_at = started_at, ended_at = started_at + interval '1 min' WHERE id = (SELECT max(id) FROM test.numbered WHERE n = :n);
\\elif :what = 3
UPDATE osmtalk.calls SET sip_status_code = 486, ended_at = now() WHERE id = (SELECT max(id) FROM test.numbered WHERE n = :n);
\\else
UPDATE osmtalk.calls SET analysis = '{"a": 1}' WHERE id = (SELECT max(id) FROM test.numbered WHERE n = :n);
\\endif
END;
END
	sql("UPDATE osmtalk.calls SET ended_at = now() WHERE status = 'in_progress'");
	is(sql($one_event_each), 0, "$isolation: one event each");
	is(sql("SELECT count(*) FROM osmtalk.leads l JOIN osmtalk.calls c ON c.id = l.call_id WHERE l.status::text <> c.status::text"), 0, "$isolation: with the outcome of the call");
}

# ---- analysis and end at once, retries, new calls, and a hand that interferes ----

sql(<<'END');
UPDATE osmtalk.campaigns SET max_attempts = 3, retry_backoff = '0', retry_on = '{failed,busy}' WHERE id = 'cmp_analyst';
CREATE TABLE test.transitions (lead_id text, call_id text);
CREATE FUNCTION test.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO test.transitions VALUES (NEW.id, NEW.call_id); RETURN NULL; END $$;
CREATE TRIGGER a_note AFTER UPDATE ON osmtalk.leads FOR EACH ROW
	WHEN (OLD.status IN ('pending', 'calling') AND NEW.status NOT IN ('pending', 'calling')) EXECUTE FUNCTION test.note();
INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'lead' || i, 'cmp_analyst', '+493012345' || i FROM generate_series(10, 20) i;
END
# A lead may have several calls that have not ended: only the latest decides.
for my $isolation ('READ COMMITTED', 'REPEATABLE READ')
{
	eight_sessions(100, <<"END", "$isolation: everything at once");
\\set l random(10, 20)
\\set what random(1, 8)
BEGIN ISOLATION LEVEL $isolation;
\\if :what = 1
INSERT INTO osmtalk.calls (lead_id) VALUES ('lead' || :l);
\\elif :what = 2
SELECT osmtalk.place_next_call('cmp_analyst');
\\elif :what <= 4
UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min'
	WHERE id = (SELECT max(id) FROM osmtalk.calls WHERE lead_id = 'lead' || :l AND status IN ('queued', 'in_progress'));
\\elif :what = 5
UPDATE osmtalk.calls SET analysis = jsonb_build_object('success', true)
	WHERE id = (SELECT min(id) FROM osmtalk.calls WHERE lead_id = 'lead' || :l AND analysis IS NULL);
\\elif :what = 6
UPDATE osmtalk.calls SET error = 'crash', ended_at = now()
	WHERE id = (SELECT min(id) FROM osmtalk.calls WHERE lead_id = 'lead' || :l AND ended_at IS NULL);
\\elif :what = 7
UPDATE osmtalk.leads SET status = 'failed' WHERE id = 'lead' || :l AND status = 'calling';
\\else
UPDATE osmtalk.leads SET status = 'pending' WHERE id = 'lead' || :l AND osmtalk.is_terminal(status);
\\endif
END;
END
}
sql("UPDATE osmtalk.calls SET ended_at = now() WHERE ended_at IS NULL; UPDATE osmtalk.calls SET analysis_error = 'none' WHERE awaiting_since IS NOT NULL");
is(sql("SELECT count(*) FROM ((TABLE test.transitions EXCEPT ALL SELECT lead_id, call_id FROM osmtalk.events WHERE type = 'campaign.lead_completed' AND campaign_id = 'cmp_analyst')
	UNION ALL (SELECT lead_id, call_id FROM osmtalk.events WHERE type = 'campaign.lead_completed' AND campaign_id = 'cmp_analyst' EXCEPT ALL TABLE test.transitions)) x"), 0, 'one event for each transition');
cmp_ok(sql("SELECT count(*) FROM test.transitions"), '>', 50, '(there were some)');
is(sql("SELECT count(*) FROM (SELECT FROM osmtalk.events WHERE type = 'call.analysis_completed' GROUP BY call_id HAVING count(*) > 1) x"), 0, 'one event for each analysis');
is(sql("SELECT count(*) FROM osmtalk.calls c WHERE agent_id = 'analyst' AND analysis IS NOT NULL AND NOT EXISTS (SELECT FROM osmtalk.events e WHERE e.call_id = c.id AND type = 'call.analysis_completed')"), 0, 'and one for each');
is(sql("SELECT count(*) FROM osmtalk.leads l WHERE campaign_id = 'cmp_analyst' AND attempts <> (SELECT count(*) FROM osmtalk.calls c WHERE c.lead_id = l.id)"), 0, 'each call was counted');
is(sql("SELECT count(*) FROM osmtalk.leads l JOIN osmtalk.calls c ON c.id = l.call_id WHERE l.status = 'calling'"), 0, 'no lead is left calling');
is(sql("SELECT count(*) FROM osmtalk.leads WHERE (status = 'completed') <> (disposition IS NOT NULL) OR osmtalk.is_terminal(status) <> (completed_at IS NOT NULL)"), 0, 'disposition and completed_at follow the status');

# ---- a newer call is placed while the older one ends ----

for my $isolation ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	my ($one, $two) = map { session($node, $db) } 1 .. 2;
	my $lead = sub { return sql("SELECT lead_id FROM osmtalk.calls WHERE id = '$_[0]'") };

	# the newer first: the older one has nothing to decide any more
	my $older = sql("SELECT test.place('cmp_plain')");
	my $id = $lead->($older);
	$one->query_safe("BEGIN ISOLATION LEVEL $isolation; INSERT INTO osmtalk.calls (id, lead_id) VALUES ('newer$isolation', '$id')");
	$two->query_until(qr/begun/, "BEGIN ISOLATION LEVEL $isolation;\n\\echo begun\nUPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$older';\n");
	somebody_waits();
	$one->query_safe('COMMIT');
	my ($out, $failed) = $two->query('COMMIT');
	if ($two->{stderr} =~ /could not serialize/)
	{
		$two->{stderr} = '';
		isnt($isolation, 'READ COMMITTED', "$isolation: may fail to serialise");
		sql("UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$older'");
	}
	is($two->{stderr}, '', "$isolation: no other error");
	is(sql("SELECT status, decided_at IS NULL FROM osmtalk.calls WHERE id = '$older'"), 'completed|t', "$isolation: the older call has its status and decides nothing");
	is(sql("SELECT status, attempts, call_id FROM osmtalk.leads WHERE id = '$id'"), "calling|2|newer$isolation", "$isolation: the lead is at the newer call");
	is(sql("SELECT count(*) FROM osmtalk.events WHERE lead_id = '$id'"), 0, "$isolation: no event");

	# the older first: it decides, then the lead is called again
	$older = sql("SELECT test.place('cmp_plain')");
	$id = $lead->($older);
	$one->query_safe("BEGIN ISOLATION LEVEL $isolation; UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = '$older'");
	$two->query_until(qr/begun/, "BEGIN ISOLATION LEVEL $isolation;\n\\echo begun\nINSERT INTO osmtalk.calls (id, lead_id) VALUES ('second$isolation', '$id');\n");
	somebody_waits();
	$one->query_safe('COMMIT');
	$two->query('COMMIT');
	if ($two->{stderr} =~ /could not serialize/)
	{
		$two->{stderr} = '';
		isnt($isolation, 'READ COMMITTED', "$isolation: may fail to serialise");
		sql("INSERT INTO osmtalk.calls (id, lead_id) VALUES ('second$isolation', '$id')");
	}
	is($two->{stderr}, '', "$isolation: no other error");
	is(sql("SELECT status, attempts, call_id, completed_at IS NULL FROM osmtalk.leads WHERE id = '$id'"), "calling|2|second$isolation|t", "$isolation: the lead is called again");
	is(sql("SELECT string_agg(call_id, ' ') FROM osmtalk.events WHERE lead_id = '$id'"), $older, "$isolation: after the older call's event");
	$_->quit for $one, $two;
}

# ---- many dialers ----

sql("INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name) VALUES ('dialed', 'acme', 'plain', 'Dialed');
	INSERT INTO osmtalk.leads (campaign_id, phone_number) SELECT 'dialed', '+4940' || 1000000 + i FROM generate_series(1, 400) i");
eight_sessions(60, "SELECT osmtalk.place_next_call('dialed');\n", 'eight dialers, until none is due');
is(sql("SELECT count(*), count(DISTINCT lead_id) FROM osmtalk.calls c JOIN osmtalk.leads l ON l.id = c.lead_id WHERE campaign_id = 'dialed'"), '400|400', 'each lead was called once');
is(sql("SELECT DISTINCT status, attempts FROM osmtalk.leads WHERE campaign_id = 'dialed'"), 'calling|1', 'and counted once');

# ---- many who ask for the same event ----

is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'all is sent');
my $event = sql("SELECT osmtalk.send_test_event('acme')");
eight_sessions(100, "SELECT osmtalk.redeliver('$event');\n", 'redeliver() by eight sessions');
is(sql("SELECT osmtalk.wait_until_drained()"), 't', 'all is sent');
my $times = () = $receiver->requests(eventId => $event);
is(sql("SELECT count(*), max(attempt) FROM osmtalk.delivery_attempts WHERE event_id = '$event'"), "$times|$times", 'each request has its attempt');
note "sent $times times";

# ---- all in all ----

my %received;
$received{$_}++ for $receiver->event_ids;
delete $received{$event};
is(scalar(grep { $_ > 1 } values %received), 0, 'no other event came twice');
is(sql("SELECT count(*) - 1 FROM osmtalk.events WHERE skipped_reason IS NULL"), scalar(keys %received), 'and each came');
# a statement that ends several calls of one lead could meet another: none here does
my $deadlocks = () = log_since($node) =~ /deadlock detected/g;
is($deadlocks, 0, 'no deadlock');

done_testing();
