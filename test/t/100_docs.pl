# Every code block of README.md and of the pages under doc/ that can be run is
# run, and does what the page says; those that cannot be say why.  See
# test/docs/README.md.
#
# One page alone: make test SUITE=tap T=100_docs PAGE=doc/security.md

use strict;
use warnings;
use Osmtalk::DocRunner;
use Osmtalk::Docs;
use Osmtalk::Test;
use Test::More;

my @pages = $ENV{PAGE} ? split(' ', $ENV{PAGE}) : Osmtalk::Docs::pages($ENV{SRC});
my %count = map { $_ => 0 } qw(ran exists skipped text failed);

for my $page (@pages)
{
	my @blocks = eval { Osmtalk::Docs::blocks_of_file($ENV{SRC}, $page) };
	if ($@)
	{
		fail("$page can be read");
		diag $@;
		next;
	}
	next if !@blocks;
	Osmtalk::DocRunner->new($page, @blocks)->run_all(sub {
			my ($block, $status, $message) = @_;
			my $name = "$page:$block->{line} $block->{language}";

			$count{$status}++;
			ok($status ne 'failed', $name . ($status eq 'ran' ? '' : ": $status" . ($status ne 'failed' && $message ne '' ? ", $message" : '')));
			diag $message if $status eq 'failed';
		});
}
diag sprintf '%d blocks run, %d looked at, %d skipped (each says why), %d text, %d failed',
  @count{qw(ran exists skipped text failed)};
cmp_ok($count{ran}, '>', 0, 'there are blocks that are run') if !$ENV{PAGE};

done_testing();
