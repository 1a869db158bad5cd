# The alert rules for Prometheus: that they are rules, and their unit tests.

use strict;
use warnings;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};
plan skip_all => 'the package prometheus, with promtool, is not installed' if !$promtool;

sub promtool
{
	my ($what, @arguments) = @_;
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run([ $promtool, @arguments ], '<', \undef, '>', \$stdout, '2>', \$stderr);

	return ok($ok, $what) || diag "$stdout$stderr";
}

my $rules = "$ENV{SRC}/doc/monitoring/osmtalk-alerts.yml";
my $tests = "$ENV{SRC}/test/monitoring/alerts_test.yml";

promtool('the rules are rules', 'check', 'rules', $rules);
promtool('each fires when it should, and not otherwise', 'test', 'rules', $tests);
my @alerts = slurp_file($rules) =~ /^  - alert: (\w+)/mg;
my %fires = map { $_ => 1 } slurp_file($tests) =~ /alertname: (\w+)\n    exp_alerts:\n    - exp_labels/g;
is_deeply([ grep { !$fires{$_} } @alerts ], [], 'each of ' . @alerts . ' is tested');

done_testing();
