# Bodies that would be too large: within osmtalk.max_payload whatever the data,
# for a bounded amount of memory, by the limit of when the event came about.

use strict;
use warnings;
use Osmtalk::Receiver;
use Osmtalk::Test;
use Test::More;

my $db = 'postgres';
my $secret = 'whsec_large';
my $receiver = Osmtalk::Receiver->new(secret => $secret);
my $node = new_cluster('main');
set_up($node, $db, url => $receiver->url, secret => $secret);

sub sql { return $node->safe_psql($db, join '', @_); }

# The event of an analysis, of a call with those columns.
sub analysis_event
{
	my ($columns, $values, $analysis) = @_;

	return sql("INSERT INTO osmtalk.calls (id, agent_id, $columns) SELECT osmtalk.new_id('call'), 'analyst', $values RETURNING id \\gset
		UPDATE osmtalk.calls SET analysis = $analysis WHERE id = :'id';
		SELECT id FROM osmtalk.events WHERE call_id = :'id'");
}

# ---- the limit is the operator's ----

is_query($node, $db, 'SHOW osmtalk.max_payload', '256kB', 'the default');
is(($node->psql($db, "SET osmtalk.max_payload = '1GB'"))[0], 3, 'a session cannot change it');
my $small = analysis_event('transcript', "repeat('x', 100000)", q('{"a": 1}'));
setting($node, 'osmtalk.max_payload' => '1kB');
my $cut = analysis_event('transcript', "repeat('x', 100000)", q('{"a": 1}'));
setting($node, 'osmtalk.max_payload' => '64MB');
my $large = analysis_event('transcript', "repeat('x', 20000000)", q('{"a": 1}'));
my @sizes = split /\n/, sql("SELECT octet_length(body), body LIKE '%,\"truncated\":true}' FROM osmtalk.events WHERE id IN ('$small', '$cut', '$large') ORDER BY created_at");
like("@sizes", qr/^100\d\d\d\|f \d\d\d\|t 20000\d\d\d\|f$/, 'in force with a reload, for what comes then');

# ---- what is stored is what is sent ----

for my $event ($small, $cut, $large)
{
	my $request = request_of($receiver, $event);

	is($request->{sha256}, sql("SELECT encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM osmtalk.events WHERE id = '$event'"), 'the bytes that are stored');
	ok($request->{verified}, '... signed');
}
setting($node, 'osmtalk.max_payload' => undef);
sql("SELECT osmtalk.redeliver('$cut'), osmtalk.redeliver('$large')");
for my $event ($cut, $large)
{
	my @requests;

	ok(wait_for(sub { (@requests = $receiver->requests(eventId => $event)) == 2 }, 'another delivery'), 'sent again');
	is($requests[1]{sha256}, $requests[0]{sha256}, '... with the same bytes, whatever the limit is now');
}

# ---- memory ----

SKIP:
{
	skip 'no /proc here', 8 if !-r "/proc/$$/status";

	# Kilobytes at most that one statement takes, in a session of its own: "before" it, and what it added.
	my $peak = sub {
		my ($prepare, $statement) = @_;
		my $session = session($node, $db);
		my $of = sub {
			my ($pid) = @_;
			my ($peak) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
			return $peak;
		};
		my $pid = $session->query_safe('SELECT pg_backend_pid()');

		$session->query_safe("SELECT count(*) FROM osmtalk.calls, osmtalk.leads, osmtalk.events");
		$session->query_safe($prepare);
		my $before = $of->($pid);
		$session->query_safe($statement);
		my $after = $of->($pid);
		$session->quit;
		return $after - $before;
	};

	sql("INSERT INTO osmtalk.leads (id, campaign_id, phone_number) SELECT 'ld_' || i, 'cmp_analyst', '+919876543210' FROM generate_series(1, 3) i;
		INSERT INTO osmtalk.calls (id, lead_id, answered_at) SELECT 'call_' || i, 'ld_' || i, now() - interval '1 min' FROM generate_series(1, 3) i");
	# nine kilobytes that would be 131 megabytes
	my $numbers = "UPDATE osmtalk.calls SET ended_at = now(), analysis = ('[' || repeat('1e131071,', 1000) || '1]')::jsonb WHERE id = 'call_1'";
	cmp_ok($peak->('SELECT 1', $numbers), '<', 32 * 1024, 'numbers that would be very long: less than 32 MB');
	# and what is out of line stays there
	sql("ALTER TABLE osmtalk.calls ALTER COLUMN transcript SET STORAGE EXTERNAL;
		UPDATE osmtalk.calls SET transcript = repeat('x', 300000000) WHERE id = 'call_2'");
	cmp_ok($peak->('SELECT 1', "UPDATE osmtalk.calls SET ended_at = now(), analysis = '{}' WHERE id = 'call_2'"), '<', 32 * 1024, 'a transcript of 300 MB: less than 32 MB');
	is_query($node, $db, "SELECT l.status, count(e.id), count(*) FILTER (WHERE e.body LIKE '%,\"truncated\":true}'), max(octet_length(e.body)) < 262144
		  FROM osmtalk.leads l JOIN osmtalk.events e ON e.lead_id = l.id WHERE l.id = 'ld_$_' GROUP BY 1", 'completed|2|' . (2, 1)[ $_ - 1 ] . '|t', 'decided, with both events, cut down') for 1, 2;
	# more than a value of a row can be
	sql("UPDATE osmtalk.calls SET transcript = repeat('y', 900000000) WHERE id = 'call_3';
		UPDATE osmtalk.calls SET metadata = (SELECT jsonb_agg(repeat('z', 50000000)) FROM generate_series(1, 4)) WHERE id = 'call_3'");
	is(($node->psql($db, "UPDATE osmtalk.calls SET ended_at = now(), analysis = '{\"success\": true}' WHERE id = 'call_3'"))[0], 0, 'a row of more than a gigabyte: the call ends');
	is_query($node, $db, "SELECT l.status, l.disposition, count(e.id) FROM osmtalk.leads l JOIN osmtalk.events e ON e.lead_id = l.id WHERE l.id = 'ld_3' GROUP BY 1, 2", 'completed|qualified|2', '... and is decided');
}

done_testing();
