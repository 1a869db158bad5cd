# All that a worker does with requests, once, at a pace that valgrind allows:
# nothing here is about time, and little about results, which the ordinary tests
# see to.  What counts is that valgrind has nothing to report (test/bin/test
# looks for that).

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

# ---- every kind of answer, and none ----

finalise(8, $endpoints->good);
drained('what is answered');
my $good = join ', ', map { "'$_'" } $endpoints->good;
is(sql("SELECT count(*) FROM osmtalk.deliveries WHERE state = 'delivered' AND campaign_id IN ($good)"), 8 * (my @good = $endpoints->good), 'and all is delivered');
finalise(4, $endpoints->all);
drained('all kinds');
is(scalar(grep { !$_->{verified} } $endpoints->requests), 0, 'each request has its signature');

# ---- what is changed meanwhile ----

my @changes = (
	[ 'osmtalk.max_in_flight' => 3 ],
	[ 'osmtalk.ca_file' => '/nonexistent' ],
	[ 'osmtalk.ca_file' => $endpoints->ca_file ],
	[ 'osmtalk.trusted_networks' => '' ],
	[ 'osmtalk.trusted_networks' => '10.0.0.0/8, 127.0.0.0/8 ::1' ],
	[ 'osmtalk.max_in_flight' => 500 ],
	[ 'osmtalk.require_https' => 'off' ],
	[ 'osmtalk.enabled' => 'off' ],
	[ 'osmtalk.enabled' => 'on' ],
);
for my $change (@changes)
{
	finalise(1, $endpoints->good, 'error', 'nobody');
	setting($node, @$change);
}
drained('reloads');
finalise(5, $endpoints->all);
sql("UPDATE osmtalk.campaigns SET webhook_url = '$endpoints->{urls}{tls_kept}' WHERE id IN ('error', 'nobody');
	UPDATE osmtalk.campaigns SET webhook_url = NULL, webhook_secret = '' WHERE id = 'reset';
	UPDATE osmtalk.org_settings SET webhook_secret = NULL");
drained('URLs and secrets that change, and go');
sql("UPDATE osmtalk.org_settings SET webhook_secret = '$secret', default_webhook_url = '$endpoints->{urls}{kept}'");

# ---- several workers ----

setting($node, 'osmtalk.workers' => 3);
ok(wait_for(sub { workers() == 3 }, 'three workers'), 'three workers');
finalise(10, $endpoints->all);
setting($node, 'osmtalk.workers' => 1);
ok(wait_for(sub { workers() == 1 }, 'one worker'), 'and one');
drained('workers that become more and fewer');

$node->stop('fast');
done_testing();
