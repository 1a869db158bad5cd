package Osmtalk::Canary;

# Looks for values that must not be found: as they are, and as logs and tools
# write them (base64 at each alignment, hex, percent-encoded, the decimal bytes
# of a plan that is printed), whole or cut off at either end.

use strict;
use warnings;
use MIME::Base64 qw(decode_base64 encode_base64);

# So much of its beginning, or its end, is enough to be found.
my $enough = 12;

# Options: values => { name => value }.  The value is looked for without what
# quoting would change: letters, digits and + / = alone.
sub new
{
	my ($class, %values) = @_;
	my %forms;

	while (my ($name, $value) = each %values)
	{
		my ($core) = sort { length $b <=> length $a } $value =~ m{[A-Za-z0-9+/=]+}g;

		die "canary $name is too short\n" if length $core < 2 * $enough;
		for my $part (substr($core, 0, $enough), substr($core, -$enough))
		{
			$forms{$_} //= $name for forms_of($part);
		}
		# the key that such a secret stands for
		if ($core =~ m{^[A-Za-z0-9+/]{43}=$})
		{
			my $key = decode_base64($core);

			$forms{$_} //= $name for map { ($_, unpack('H*', $_), uc unpack('H*', $_)) } substr($key, 0, $enough), substr($key, -$enough);
		}
	}
	my $any = join '|', map { quotemeta } sort keys %forms;
	return bless { forms => \%forms, any => qr/($any)/ }, $class;
}

sub forms_of
{
	my ($part) = @_;
	my %forms = ($part => 1);
	my @bytes = unpack 'C*', $part;

	$forms{ unpack 'H*', $part } = $forms{ uc unpack 'H*', $part } = 1;
	$forms{ join '', map { sprintf '%%%02x', $_ } @bytes } = $forms{ join '', map { sprintf '%%%02X', $_ } @bytes } = 1;
	$forms{ $part =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger } = $forms{ $part =~ s/([^A-Za-z0-9])/sprintf '%%%02x', ord $1/ger } = 1;
	$forms{ join ' ', @bytes } = 1;
	for my $before (0 .. 2)
	{
		# without the digits that depend on what stands before and after
		my $encoded = encode_base64(('x' x $before) . $part, '');
		my $whole = int(8 * ($before + length $part) / 6);
		my $known = substr $encoded, $before ? $before + 1 : 0, $whole - ($before ? $before + 1 : 0);

		$forms{$known} = $forms{ $known =~ tr{+/}{-_}r } = 1;
	}
	return keys %forms;
}

# The names of what is found in the text, each with the form and what is around it.
sub in_text
{
	my ($self, $text) = @_;
	my %found;

	while ($text =~ /$self->{any}/g)
	{
		my $at = $-[1] > 60 ? $-[1] - 60 : 0;

		$found{ $self->{forms}{$1} } //= sprintf '%s ("%s")', $1, substr($text, $at, 160) =~ s/[^ -~]/./gr;
	}
	return %found;
}

# The same of a file, however large.
sub in_file
{
	my ($self, $file) = @_;
	my %found;
	my $text = '';

	open my $handle, '<:raw', $file or return;
	# a piece begins with the end of the one before
	while (sysread $handle, $text, 1 << 24, length $text)
	{
		%found = ($self->in_text($text), %found);
		$text = length $text > 256 ? substr($text, -256) : $text;
	}
	close $handle;
	return %found;
}

# The same of a process's own memory, where others' cannot be seen: undef, if it cannot be read.
sub in_memory
{
	my ($self, $pid) = @_;
	my %found;

	open my $maps, '<', "/proc/$pid/maps" or return undef;
	open my $mem, '<:raw', "/proc/$pid/mem" or return undef;
	while (my $line = <$maps>)
	{
		my ($from, $to) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) rw.p/ or next;
		my $text;

		no warnings 'portable';
		($from, $to) = (hex $from, hex $to);
		sysseek $mem, $from, 0 or next;
		sysread($mem, $text, $to - $from) or next;
		%found = ($self->in_text($text), %found);
	}
	return \%found;
}

1;
