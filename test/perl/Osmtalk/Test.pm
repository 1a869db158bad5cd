package Osmtalk::Test;

# What the TAP tests share: a preloaded cluster, an organisation to work with,
# and waiting for a condition instead of for a time.
#
# The organisation that set_up() makes: 'acme', with an agent 'plain', an agent
# 'analyst' that has analysis configured, and a campaign of each: 'cmp_plain'
# and 'cmp_analyst'.  And functions to make it work:
#     test.place(campaign, n)      n new leads, each called; returns the calls' ids
#     test.finalise(campaign, n)   and the calls completed: n events; returns n
#     test.event(campaign)         one of them; returns the event's id, null if it waits for analysis

use strict;
use warnings;
use Exporter 'import';
use Time::HiRes ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Osmtalk::Nginx;
use Osmtalk::Receiver;

our @EXPORT = qw(wait_for new_cluster set_up set_up_sql session setting now worker_pid log_since expect_signals
  is_query measure request_of state_of);

sub now { return Time::HiRes::time(); }

# Waits until CONDITION returns true; returns that, or nothing (and says so)
# when TIMEOUT seconds have passed.
sub wait_for
{
	my ($condition, $what, $timeout) = @_;
	my $begun = now();
	my $deadline = $begun + ($timeout // $PostgreSQL::Test::Utils::timeout_default);

	for (;;)
	{
		my $result = $condition->();
		return $result if $result;
		last if now() > $deadline;
		# what comes, mostly comes soon
		Time::HiRes::usleep(now() < $begun + 1 ? 5000 : 50_000);
	}
	diag "gave up waiting for $what";
	return;
}

# Seconds that CODE takes.
sub measure
{
	my ($code) = @_;
	my $begun = now();

	$code->();
	return now() - $begun;
}

# A running cluster with the library preloaded and fsync on, as in production.
# Options:
#   conf     => further settings
#   stream   => for standbys
#   start    => false: do not start it
#   installation => an Osmtalk::Installation instead of the stage's programs
sub new_cluster
{
	my ($name, %options) = @_;
	my $installation = $options{installation};
	my $node = PostgreSQL::Test::Cluster->new($name, $installation ? (install_path => $installation->path) : ());

	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ], allows_streaming => $options{stream});
	$node->append_conf('postgresql.conf', <<'END' . ($options{conf} // ''));
fsync = on
restart_after_crash = on
log_statement = none
log_line_prefix = '%m [%p] %b %d '
max_connections = 50
shared_buffers = 16MB
max_prepared_transactions = 10
max_worker_processes = 16
shared_preload_libraries = 'osmtalk'
osmtalk.trusted_networks = '127.0.0.0/8'
END
	$node->start if $options{start} // 1;
	return $node;
}

# Creates the extension, the organisation and the functions, and waits for the
# worker (unless wait => 0).
sub set_up
{
	my ($node, $database, %options) = @_;

	$node->safe_psql($database, set_up_sql(%options));
	return if !($options{wait} // 1);
	$node->poll_query_until($database, 'SELECT pid IS NOT NULL FROM osmtalk.worker_status')
	  or die "no worker in $database\n";
	return;
}

# Options: url, secret: the organisation's; campaign_url, campaign_secret.
sub set_up_sql
{
	my (%options) = @_;
	my ($url, $secret, $campaign_url, $campaign_secret) =
	  map { defined $_ ? "'$_'" : 'NULL' } @options{qw(url secret campaign_url campaign_secret)};

	return <<"END";
SET client_min_messages = error;
CREATE EXTENSION osmtalk;
INSERT INTO osmtalk.org_settings VALUES ('acme', $url, $secret);
INSERT INTO osmtalk.agents (id, org_id, enable_sentiment) VALUES ('plain', 'acme', false), ('analyst', 'acme', true);
INSERT INTO osmtalk.campaigns (id, org_id, agent_id, name, webhook_url, webhook_secret)
	SELECT 'cmp_' || id, org_id, id, 'Campaign of ' || id, $campaign_url, $campaign_secret FROM osmtalk.agents;
CREATE SCHEMA test;
CREATE SEQUENCE test.numbers;
CREATE FUNCTION test.place(campaign text, n int DEFAULT 1) RETURNS SETOF text LANGUAGE plpgsql AS \$\$
DECLARE
	leads text[];
BEGIN
	WITH new AS (
		INSERT INTO osmtalk.leads (campaign_id, phone_number, variables)
		SELECT campaign, '+4930' || lpad(nextval('test.numbers')::text, 7, '0'), '{"name": "Jörg \\u4e2d \\\\u00e4"}'
		  FROM generate_series(1, n)
		RETURNING id)
	SELECT array_agg(id) INTO leads FROM new;
	RETURN QUERY INSERT INTO osmtalk.calls (lead_id, started_at) SELECT unnest(leads), now() RETURNING id;
END \$\$;
CREATE FUNCTION test.finalise(campaign text, n int DEFAULT 1) RETURNS int LANGUAGE plpgsql AS \$\$
DECLARE
	placed text[] := ARRAY(SELECT test.place(campaign, n));
BEGIN
	UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '42.5 s' WHERE id = ANY (placed);
	RETURN n;
END \$\$;
CREATE FUNCTION test.event(campaign text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	call text := test.place(campaign);
BEGIN
	UPDATE osmtalk.calls SET answered_at = now(), ended_at = now() + interval '42.5 s' WHERE id = call;
	RETURN (SELECT id FROM osmtalk.events WHERE call_id = call);
END \$\$;
END
}

# A session that stays open, each query with the whole time-out to itself.
sub session
{
	my ($node, $database, %options) = @_;
	my $session = $node->background_psql($database, on_error_stop => 0, %options);

	$session->set_query_timer_restart;
	$session->query_safe(q(SET client_min_messages = error));
	return $session;
}

# Changes settings (undef: resets them) in the running server, and waits until
# the postmaster has read them: by then it has told the worker, too.
sub setting
{
	my ($node, %settings) = @_;
	my @commands = map {
		defined $settings{$_} ? "ALTER SYSTEM SET $_ = '$settings{$_}';" : "ALTER SYSTEM RESET $_;"
	} sort keys %settings;
	my $before = $node->safe_psql('postgres', join("\n", @commands, 'SELECT clock_timestamp()'));

	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	wait_for(sub { $node->safe_psql('postgres', "SELECT pg_conf_load_time() > '$before'") eq 't' }, 'the reload')
	  or die;
	return;
}

sub worker_pid
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, 'SELECT pid FROM osmtalk.worker_status');
}

# is() of what a query returns.
sub is_query
{
	my ($node, $database, $query, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is($node->safe_psql($database, $query), $expected, $name);
}

# The first request of an event at a receiver, once it has come; an empty one,
# after the time-out, if it does not.
sub request_of
{
	my ($receiver, $event_id, $timeout) = @_;
	my @requests;

	wait_for(sub { @requests = $receiver->requests(eventId => $event_id) }, "event $event_id", $timeout);
	return $requests[0] // {};
}

# What became of an event, once it has a result: state, attempts, status and
# error of the last attempt, joined by "|".
sub state_of
{
	my ($node, $database, $event_id) = @_;
	my $state;

	wait_for(sub {
			$state = $node->safe_psql($database,
				"SELECT state, attempts, http_status, error FROM osmtalk.deliveries WHERE event_id = '$event_id'");
			return $state !~ /^(pending|in_flight)/;
		}, "a result of event $event_id");
	return $state;
}

# The server's log from a position on (see -s $node->logfile).
sub log_since
{
	my ($node, $from) = @_;

	return substr PostgreSQL::Test::Utils::slurp_file($node->logfile), $from // 0;
}

# This test kills processes: test/bin/test must not take that for a crash.
sub expect_signals
{
	append_to_file("$PostgreSQL::Test::Utils::log_path/EXPECTS_SIGNALS", '');
	return;
}

1;
