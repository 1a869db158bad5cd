# The page of a large installation: how long it takes, and that it does not
# grow with what there is.

use strict;
use warnings;
use Osmtalk::Test;
use Test::More;

my $node = new_cluster('main', conf => "osmtalk.enabled = off\nfsync = off\nshared_buffers = 128MB\n");
$node->safe_psql('postgres', 'SET client_min_messages = error; CREATE EXTENSION osmtalk; CREATE ROLE monitoring BYPASSRLS IN ROLE osmtalk_monitor; CREATE ROLE tenant IN ROLE osmtalk_monitor');
$node->command_ok([ 'psql', '-XqAt', '-v', 'leads=135000', '-d', $node->connstr('postgres'), '-f', "$ENV{SRC}/test/browser/sample.sql" ], 'a week of 100,000 calls');
# 600 campaigns, of which 200 have most of the leads
$node->safe_psql('postgres', <<'END');
INSERT INTO osmtalk.campaigns (id, org_id, name) SELECT 'cmp_' || i, 'acme', 'Campaign ' || i FROM generate_series(1, 600) i;
SET session_replication_role = replica;
UPDATE osmtalk.leads SET campaign_id = 'cmp_' || 1 + hashtext(id)::bigint % 200 WHERE campaign_id = 'cmp_winback' AND hashtext(id) > 0;
INSERT INTO osmtalk.leads (campaign_id, phone_number) SELECT 'cmp_' || i, '+49301234567' FROM generate_series(1, 600) i;
UPDATE osmtalk.delivery_attempts SET url = 'https://' || attempt + hashtext(event_id) % 1000 || '.example/', http_status = 500, error = 'HTTP 500 ' || hashtext(event_id) % 500 WHERE hashtext(event_id) % 10 = 0;
VACUUM ANALYZE;
END

my %pages;
sub page
{
	my ($name, $prepare, $arguments) = @_;
	my $seconds = measure(sub { $pages{$name} = $node->safe_psql('postgres', "$prepare; SELECT osmtalk.report_html($arguments)") });

	cmp_ok($seconds, '<', 30, sprintf '%s: it takes %.2f s, %d kB', $name, $seconds, length($pages{$name}) / 1024);
	return;
}
my ($calls, $events) = split /\|/, $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM osmtalk.calls), (SELECT count(*) FROM osmtalk.events)');
cmp_ok($calls, '>=', 100_000, "$calls calls, $events events");
page('all', 'SET ROLE monitoring', "'9 days'");
page('a campaign', 'SET ROLE monitoring', "'9 days', 'cmp_renewals'");
$node->safe_psql('postgres', 'SELECT osmtalk.enable_tenant_isolation()');
page('a tenant', "SET osmtalk.org_id = 'acme'; SET ROLE tenant", "'9 days'");

for my $limit ([ 'outcomes-table', 500 + 1, qr/The 500 campaigns with most finished leads are listed/ ], [ 'endpoints-table', 50, qr/And [\d,]+ more\./ ],
	[ 'dead-table', 50, qr/the latest 50 of [\d,]+ dead events/ ], [ 'reasons-table', 50, qr/And [\d,]+ more reasons, of fewer events/ ])
{
	my ($name, $most, $says) = @$limit;
	my ($table) = $pages{all} =~ m{<table id="$name".*?</thead>(.*?)</table>}s;

	is(() = $table =~ /<tr/g, $most, "$name: not all of them");
	like($pages{all}, $says, '... and it says so');
}
like($pages{all}, qr/<summary>488 more campaigns</, 'what is less is opened on demand');
my ($total) = $pages{all} =~ m{<th scope="row" colspan="3">all 606 campaigns</th><td>([\d,]+)</td>};
is($total =~ tr/,//dr, $node->safe_psql('postgres', "SELECT count(*) FROM osmtalk.leads WHERE completed_at > now() - interval '9 days'"), 'the total is of all');
cmp_ok(length $pages{all}, '<', 2_000_000, 'it is not too large to be sent');

done_testing();
