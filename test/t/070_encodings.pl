# Whatever encoding a client speaks, a body is UTF-8 with the characters that
# were meant; bytes that are none in it are refused before a trigger sees them,
# and the call can still be ended.  (Databases of other encodings are refused:
# see test/sql/installation.sql.)

use strict;
use warnings;
use Digest::SHA ();
use Encode ();
use Osmtalk::Receiver;
use Osmtalk::Test;
use PostgreSQL::Test::Utils qw(slurp_file append_to_file);
use Test::More;

my $db = 'postgres';
my $receiver = Osmtalk::Receiver->new(bodies => 1, secret => 'whsec_encodings');
my $node = new_cluster('main');
set_up($node, $db, url => $receiver->url, secret => 'whsec_encodings');

# A file of bytes, as that client would send them.
sub run_bytes
{
	my ($encoding, $bytes) = @_;
	my $file = "$PostgreSQL::Test::Utils::tmp_check/commands.sql";

	unlink $file;
	append_to_file($file, $bytes);
	local $ENV{PGCLIENTENCODING} = $encoding;
	return $node->psql($db, '', extra_params => [ '-f', $file ], on_error_stop => 0);
}

for my $case (
	[ UTF8 => 'UTF-8', "Gr\x{fc}\x{df}e \x{65e5}\x{672c} \x{1f600}" ],
	[ LATIN1 => 'iso-8859-1', "Gr\x{fc}\x{df}e \x{a0}\x{ff}" ],
	[ WIN1252 => 'cp1252', "\x{20ac} \x{201e}Gr\x{fc}\x{df}e\x{201c}" ],
	[ EUC_JP => 'euc-jp', "\x{65e5}\x{672c}\x{8a9e} \x{30ab}" ],
	[ SJIS => 'cp932', "\x{65e5}\x{672c}\x{8a9e} \x{30bd}\\" ],
	[ GB18030 => 'gb18030', "\x{4e2d}\x{6587}" ],
	# as bytes: the server takes them for its own encoding
	[ SQL_ASCII => 'UTF-8', "Gr\x{fc}\x{df}e" ])
{
	my ($encoding, $perl, $text) = @$case;
	SKIP:
	{
		skip "this Perl does not know $perl", 5 if !Encode::find_encoding($perl);
		my $bytes = Encode::encode($perl, $text, Encode::FB_CROAK | Encode::LEAVE_SRC);
		# an encoding in which a byte of a character may be a backslash is not escaped bytewise
		my $json = Encode::encode($perl, $text =~ s/\\/\\\\/gr, Encode::FB_CROAK | Encode::LEAVE_SRC);
		my $call = $node->safe_psql($db, "SELECT test.place('cmp_analyst')");
		run_bytes($encoding, "UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now(), transcript = '$bytes', analysis = '{\"summary\": \"$json\"}' WHERE id = '$call';\n");
		my %ids = map { split /\|/ } split /\n/, $node->safe_psql($db, "SELECT type, id FROM osmtalk.events WHERE call_id = '$call'");
		is(scalar keys %ids, 2, "$encoding: two events");
		for my $type (sort keys %ids)
		{
			my $request = request_of($receiver, $ids{$type});
			my $body = $request->{body} // '';
			my $quoted = $text =~ s/\\/\\\\/gr;

			# decoded without a replacement, it has the same bytes again
			is(Digest::SHA::sha256_hex(Encode::encode('UTF-8', $body)), $request->{sha256}, "$encoding: $type is UTF-8");
			ok($request->{verified} && index($body, qq("summary":"$quoted")) >= 0, '... and says what was meant') or diag Encode::encode('UTF-8', $body);
		}
	}
}

# ---- bytes that are no characters ----

for my $case (
	[ UTF8 => "\xff" ], [ UTF8 => "\xc3" ], [ UTF8 => "\xed\xa0\xbd" ], [ UTF8 => "\xc0\x80" ], [ UTF8 => "\xf5\x80\x80\x80" ],
	[ SQL_ASCII => "Gr\xfc\xdfe" ], [ EUC_JP => "\x8f\xff" ], [ SJIS => "\x81" ], [ WIN1252 => "\x81" ])
{
	my ($encoding, $bytes) = @$case;
	my $call = $node->safe_psql($db, "SELECT test.place('cmp_analyst')");
	my $what = sprintf '%s with %s', $encoding, join ' ', map { sprintf '%02x', ord } split //, $bytes;

	run_bytes($encoding, "UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now(), analysis = '{\"summary\": \"$bytes\"}' WHERE id = '$call';\n");
	is_query($node, $db, "SELECT status, (SELECT count(*) FROM osmtalk.events WHERE call_id = '$call') FROM osmtalk.calls WHERE id = '$call'", 'in_progress|0', "$what is refused");
	run_bytes($encoding, "UPDATE osmtalk.calls SET answered_at = now() - interval '1 min', ended_at = now(), analysis = '{}' WHERE id = '$call';\n");
	is_query($node, $db, "SELECT status, (SELECT count(*) FROM osmtalk.events WHERE call_id = '$call') FROM osmtalk.calls WHERE id = '$call'", 'completed|2', '... and the call ends without it');
}
like(log_since($node), qr/invalid byte sequence/, 'the server itself says why');
unlike(log_since($node), qr/terminated by signal/, 'no process died');

done_testing();
