package Osmtalk::Docs;

# Pages of the documentation as data: their code blocks, and the comments
# before these that say how they are tested (see test/docs/README.md).  Runs
# nothing, see Osmtalk::DocRunner.

use strict;
use warnings;
use File::Find ();
use PostgreSQL::Test::Utils qw(slurp_file);

# What may be said in <!-- test: ... -->, and whether it has an argument:
# 0 no, 1 yes, 2 may.
my %directives = (
	setup => 1,
	needs => 1,
	skip => 1,
	exists => 1,
	file => 1,
	run => 1,
	background => 2,
	output => 0,
	expect => 1,
	prints => 1,
);

# README.md and every page under doc/, by their paths from the top of the tree.
sub pages
{
	my ($top) = @_;
	my @pages = ('README.md');

	File::Find::find({
			no_chdir => 1,
			wanted => sub { push @pages, $File::Find::name =~ s{^\Q$top\E/}{}r if /\.md\z/; },
		}, "$top/doc");
	return sort @pages;
}

# The code blocks of a text, in order.  Each has line, language (what the fence
# is followed by, its first word), text, and directives, a list of [name,
# argument].  Dies where the text is not as it should be.
sub blocks
{
	my ($text, $name) = @_;
	my @lines = split /\n/, $text;
	my (@blocks, @pending);

	for (my $i = 0; $i < @lines; $i++)
	{
		my $where = "$name:" . ($i + 1);
		if ($lines[$i] =~ /^( *)(`{3,}|~{3,})\s*(.*?)\s*$/)
		{
			my ($indent, $fence, $info) = ($1, $2, $3);
			my ($language) = split ' ', $info;
			my $block = { line => $i + 1, language => $language // '', text => '', directives => [ splice @pending ] };
			while (++$i < @lines && $lines[$i] !~ /^ *\Q$fence\E\s*$/)
			{
				$block->{text} .= $lines[$i] =~ s/^ {0,${\length $indent}}//r . "\n";
			}
			die "$where: a block without an end\n" if $i >= @lines;
			push @blocks, $block;
		}
		elsif ($lines[$i] =~ /^ *<!--\s*test\b/)
		{
			my $comment = $lines[$i];
			$comment .= ' ' . $lines[$i] =~ s/^\s+//r while $comment !~ /-->/ && ++$i < @lines;
			push @pending, directive($comment, $where);
		}
		elsif ($lines[$i] =~ /\S/ && @pending)
		{
			die "$where: a test comment that no block follows\n";
		}
	}
	die "$name: a test comment that no block follows\n" if @pending;
	return @blocks;
}

sub blocks_of_file
{
	my ($top, $page) = @_;

	return blocks(slurp_file("$top/$page"), $page);
}

sub directive
{
	my ($comment, $where) = @_;

	$comment =~ /^ *<!--\s*test:\s*(\w+)(?:(?::\s*|\s+)(\S.*?))?\s*-->\s*$/ or die "$where: not understood: $comment\n";
	my ($name, $argument) = ($1, $2);
	my $takes = $directives{$name};

	die "$where: '$name' is not known\n" if !defined $takes;
	die "$where: '$name' needs to be said what\n" if $takes == 1 && !defined $argument;
	die "$where: '$name' stands alone\n" if $takes == 0 && defined $argument;
	return [ $name, $argument ];
}

# The anchors of a page's headings, as GitHub makes them.
sub anchors
{
	my ($text) = @_;
	my (%seen, %anchors);

	for my $heading (outside_of_blocks($text) =~ /^#{1,6}\s+(.*?)\s*#*$/mg)
	{
		my $anchor = lc($heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr);
		$anchor =~ s/[^\w\- ]//g;
		$anchor =~ s/ /-/g;
		$anchor .= "-$seen{$anchor}" if $seen{$anchor}++;
		$anchors{$anchor} = 1;
	}
	return \%anchors;
}

# The targets of a page's links.
sub links
{
	my ($text) = @_;

	return outside_of_blocks($text) =~ s/`[^`\n]*`//gr =~ /\]\(([^()\s]+)\)/g;
}

sub outside_of_blocks
{
	my ($text) = @_;

	return $text =~ s/^ *(`{3,}|~{3,}).*?^ *\1\s*$//gmsr;
}

1;
