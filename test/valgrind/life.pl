# The life of a worker beside its requests, for valgrind as requests.pl is: what
# applications do, errors, calls whose time is up, retention, and its end in
# every way.

use strict;
use warnings;
use Osmtalk::Endpoints;
use Osmtalk::Test;
use Test::More;

my $db = 'app';
my $secret = 'whsec_of_acme';
my $endpoints = Osmtalk::Endpoints->new(secret => $secret);
my $node = new_cluster('main', conf => "osmtalk.request_timeout = 5s\nosmtalk.ca_file = '" . $endpoints->ca_file . "'\n");
$node->safe_psql('postgres', 'CREATE DATABASE app');
set_up($node, $db, secret => $secret, url => $endpoints->{urls}{kept});

sub sql { return $node->safe_psql($db, join '', @_); }
sub drained { return is(sql("SELECT osmtalk.wait_until_drained('200 s')"), 't', "$_[0]: nothing is left"); }
sub workers { return sql("SELECT count(*) FROM osmtalk.worker_status WHERE state = 'running'"); }
sub finalise
{
	my ($n, @campaigns) = @_;

	sql(map { "SELECT test.finalise('$_', $n);" } @campaigns);
	return;
}

sql($endpoints->campaigns_sql);

# ---- from the application's side ----

sql("BEGIN; SELECT test.finalise('kept', 3); SAVEPOINT s; SELECT test.finalise('kept', 3); ROLLBACK TO s; COMMIT");
sql("BEGIN; SELECT test.finalise('kept', 3); ROLLBACK");
sql("BEGIN; SELECT test.finalise('kept', 3); PREPARE TRANSACTION 'p'");
sql("COMMIT PREPARED 'p'");
sql("SELECT osmtalk.redeliver(event_id) FROM osmtalk.deliveries WHERE state = 'failed' LIMIT 20");
sql("SELECT osmtalk.send_test_event('acme'), osmtalk.send_test_event('acme', 'tls_kept')");
# an error in the middle of the worker's transaction: results wait, and are recorded after all
sql(<<'ENDSQL');
CREATE FUNCTION test.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON osmtalk.delivery_attempts FOR EACH ROW EXECUTE FUNCTION test.refuse();
ENDSQL
finalise(5, $endpoints->good);
ok(wait_for(sub { sql('SELECT last_error FROM osmtalk.worker_status') =~ /the disk is full/ }, 'the error'), 'results cannot be recorded');
sql('DROP TRIGGER refuse ON osmtalk.delivery_attempts');
drained('errors');

# ---- analyses, and calls whose time is up ----

my @analyses = ('null', '{}', '[]', '"x"', '1e-300', 'true', '{"success": true, "a": {"b": [1, null, {"c": "\u00e9\"\\\\"}]}}',
	'{"next_action": "callback_later"}', '{"lead_qualified": "true"}', '[' x 500 . ']' x 500);
for my $analysis (@analyses, '{"text": "' . 'Jörg ' x 5000 . '"}')
{
	sql("WITH c AS (SELECT test.place('cmp_analyst') AS id)
		UPDATE osmtalk.calls k SET answered_at = now(), ended_at = now() + interval '1 min', analysis = '$analysis',
			transcript = repeat('ä', 1000), metadata = '$analysis' FROM c WHERE k.id = c.id")
	  if $analysis =~ /^[{]/;
	sql("DO \$\$ DECLARE call text := test.place('cmp_analyst'); BEGIN
		UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '1 min' WHERE id = call;
		UPDATE osmtalk.calls SET analysis = '$analysis' WHERE id = call; END \$\$");
}
setting($node, 'osmtalk.analysis_timeout' => '1s', 'osmtalk.call_timeout' => '1s');
sql("SELECT test.place('kept', 3)");
sql("UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() WHERE id = (SELECT test.place('cmp_analyst'))");
ok(wait_for(sub { sql('SELECT count(*) FROM osmtalk.calls WHERE decided_at IS NULL') == 0 }, 'the decisions'), 'overdue calls are decided');
setting($node, 'osmtalk.analysis_timeout' => undef, 'osmtalk.call_timeout' => undef);
drained('analyses');

# ---- retention ----

sql("UPDATE osmtalk.slots SET filled_since = now() - interval '1 year'");
sql("INSERT INTO osmtalk.events (type, org_id, body, created_at, slot) SELECT 'webhook.test', 'acme', '{}', now() - interval '40 days', s
	FROM generate_series(0, 15) s WHERE osmtalk.slot_is_over(s::int2)");
sql('SELECT osmtalk.apply_retention()') for 1 .. 20;
setting($node, 'osmtalk.retention' => '2d', 'osmtalk.failed_retention' => '3d');
finalise(3, 'kept', 'error');
drained('retention');

# ---- the extension goes and comes, workers end with requests in flight ----

for my $i (1 .. 2)
{
	finalise(5, 'hung', 'kept', 'tls_closed', 'named');
	sql('SELECT pg_terminate_backend(pid, 100000) FROM osmtalk.worker_status WHERE pid IS NOT NULL');
}
finalise(5, 'hung');
sql('DROP EXTENSION osmtalk CASCADE; DROP SCHEMA test CASCADE');
ok(wait_for(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'osmtalk worker'") == 0 }, 'its end'), 'DROP EXTENSION ends the worker');
set_up($node, $db, secret => $secret, url => $endpoints->{urls}{tls_kept});
finalise(5, 'cmp_plain');
drained('a new extension');
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state = 'delivered'"), 5, 'delivers');

# another database, and one that goes while its worker works
$node->safe_psql('postgres', 'CREATE DATABASE other');
set_up($node, 'other', secret => $secret, url => $endpoints->{urls}{hung});
$node->safe_psql('other', "SELECT test.finalise('cmp_plain', 3)");
$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');

sql("UPDATE osmtalk.org_settings SET default_webhook_url = '$endpoints->{urls}{hung}'");
finalise(5, 'cmp_plain');
$node->stop('fast');
$node->start;
ok(wait_for(sub { workers() == 1 }, 'the worker'), 'after a restart there is one again');
sql("UPDATE osmtalk.org_settings SET default_webhook_url = NULL");
drained('the end');
$node->stop('fast');

done_testing();
