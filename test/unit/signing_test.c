/*
 * signing_test.c
 *		Signatures: known answers, and whatever a receiver may be given as one.
 *
 * Bodies, secrets and headers are handed over in blocks of exactly their size,
 * so that a sanitizer sees a byte that is read beyond them.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "signing.h"

/* bytes as they are, or one of them so many times */
typedef struct Bytes
{
	const char *bytes;
	size_t		len;
	bool		repeated;
} Bytes;

#define TEXT(s) {s, sizeof(s) - 1, false}
#define TIMES(c, n) {c, n, true}

typedef struct Vector
{
	const char *what;
	Bytes		key;
	Bytes		body;
	const char *digest;
} Vector;

static const Vector vectors[] = {
	/* RFC 4231; its case 5 has the first 128 bits alone */
	{"RFC 4231, 1", TIMES("\x0b", 20), TEXT("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	{"RFC 4231, 2", TEXT("Jefe"), TEXT("what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
	{"RFC 4231, 3", TIMES("\xaa", 20), TIMES("\xdd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
	{"RFC 4231, 4", TEXT("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"), TIMES("\xcd", 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
	{"RFC 4231, 5", TIMES("\x0c", 20), TEXT("Test With Truncation"), "a3b6167473100ee06e0c796c2955552b"},
	{"RFC 4231, 6", TIMES("\xaa", 131), TEXT("Test Using Larger Than Block-Size Key - Hash Key First"), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	{"RFC 4231, 7", TIMES("\xaa", 131), TEXT("This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm."), "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	/* Python's hmac */
	{"a key one byte shorter than a block, no body", TIMES("k", 63), TEXT(""), "a73e4ae46b2a9f2402fff056e156c0a25551e3db5097f9367522239bfbc2d02e"},
	{"as long as a block", TIMES("k", 64), TEXT(""), "83026a325aaee70e36cfe607536aa1054104ad1077c36134810d4ccded1ccd3b"},
	{"one byte longer", TIMES("k", 65), TEXT(""), "41f1c4cc3107cd5b8d92460f61032902bfdb06484eef17e861b83a5012d3b7f3"},
	{"much longer", TIMES("k", 1000), TIMES("b", 3), "e010e7b48ae7a854070892a46e3deaa6d912539e02a9e6e450a980160823a927"},
	{"a body of a megabyte", TEXT("secret"), TIMES("m", 1048576), "95f1472696d449906336b63ca4c970d1707236faf293942160b3795b34ec58aa"},
	{"bytes that are zero count", TEXT("a\0b"), TEXT("c\0d"), "8c18c35eec555433aca6c25beff4ab0085afc6084012a0d923fb48f4251062fa"},
	{"no key and no body", TEXT(""), TEXT(""), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"},
};

static char *
block(Bytes b)
{
	char	   *p = malloc(b.len > 0 ? b.len : 1);

	if (p == NULL)
		abort();
	if (b.repeated)
		memset(p, b.bytes[0], b.len);
	else
		memcpy(p, b.bytes, b.len);
	return p;
}

static void
test_vectors(void)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
	{
		const Vector *v = &vectors[i];
		char	   *key = block(v->key);
		char	   *body = block(v->body);
		char	   *out = block((Bytes) TIMES("", OSMTALK_SIGNATURE_LEN + 1));
		bool		has_key = v->key.len > 0;

		CHECK(osmtalk_sign(body, v->body.len, key, v->key.len, out) &&
			  strlen(out) == OSMTALK_SIGNATURE_LEN && memcmp(out, "sha256=", 7) == 0 &&
			  memcmp(out + 7, v->digest, strlen(v->digest)) == 0, "%s", v->what);
		CHECK(osmtalk_verify(body, v->body.len, key, v->key.len, out, OSMTALK_SIGNATURE_LEN) == has_key,
			  "%s: %s", v->what, has_key ? "verified" : "an empty secret verifies nothing");
		free(key);
		free(body);
		free(out);
	}
}

/* Whether it is taken for the signature of "body" with "secret". */
static bool
accepted(const char *header, size_t len)
{
	char	   *body = block((Bytes) TEXT("body"));
	char	   *secret = block((Bytes) TEXT("secret"));
	char	   *copy = block((Bytes) {header, len, false});
	bool		result = osmtalk_verify(body, 4, secret, 6, copy, len);

	free(body);
	free(secret);
	free(copy);
	return result;
}

static const char right[] = "sha256=dc46983557fea127b43af721467eb9b3fde2338fe3e14f51952aa8478c13d355";

static void
test_digits(void)
{
	char		header[OSMTALK_SIGNATURE_LEN];
	int			wrong = 0;
	int			flipped = 0;

	CHECK(accepted(right, OSMTALK_SIGNATURE_LEN), "as sent");

	memcpy(header, right, OSMTALK_SIGNATURE_LEN);
	for (size_t i = 7; i < OSMTALK_SIGNATURE_LEN; i++)
		if (header[i] >= 'a')
			header[i] -= 'a' - 'A';
	CHECK(accepted(header, OSMTALK_SIGNATURE_LEN), "upper-case digits");
	memcpy(header, right, OSMTALK_SIGNATURE_LEN / 2);
	CHECK(accepted(header, OSMTALK_SIGNATURE_LEN), "digits of both cases");

	memcpy(header, right, OSMTALK_SIGNATURE_LEN);
	memcpy(header, "SHA256=", 7);
	CHECK(!accepted(header, OSMTALK_SIGNATURE_LEN), "the algorithm is in lower case");

	/* each byte, replaced by each other */
	for (size_t i = 0; i < OSMTALK_SIGNATURE_LEN; i++)
		for (int c = 0; c < 256; c++)
		{
			bool		same = (char) c == right[i] ||
				(i >= 7 && right[i] >= 'a' && (char) c == right[i] - ('a' - 'A'));

			memcpy(header, right, OSMTALK_SIGNATURE_LEN);
			header[i] = (char) c;
			flipped++;
			wrong += accepted(header, OSMTALK_SIGNATURE_LEN) != same;
		}
	CHECK(wrong == 0, "%d headers with another byte: %d taken for what they are not", flipped, wrong);
}

static void
test_lengths(void)
{
	char		header[4096];
	int			wrong = 0;

	memset(header, '0', sizeof(header));
	memcpy(header, right, OSMTALK_SIGNATURE_LEN);
	for (size_t len = 0; len < sizeof(header); len++)
		wrong += accepted(header, len) != (len == OSMTALK_SIGNATURE_LEN);
	CHECK(wrong == 0, "no header, one that is too short, and one that is too long");
	wrong = 0;
	for (size_t len = 0; len < OSMTALK_SIGNATURE_LEN; len++)
		wrong += accepted(right + len, OSMTALK_SIGNATURE_LEN - len) != (len == 0);
	CHECK(wrong == 0, "without its first bytes");
	CHECK(!osmtalk_verify("body", 4, "secret", 6, NULL, 0), "no header at all");
}

/* One signature, for another body or by another key. */
static void
test_forgeries(void)
{
	CHECK(!osmtalk_verify("body ", 5, "secret", 6, right, OSMTALK_SIGNATURE_LEN), "of another body");
	CHECK(!osmtalk_verify("body", 3, "secret", 6, right, OSMTALK_SIGNATURE_LEN), "of a longer one");
	CHECK(!osmtalk_verify("body", 4, "Secret", 6, right, OSMTALK_SIGNATURE_LEN), "by another secret");
	CHECK(!osmtalk_verify("body", 4, "secret", 5, right, OSMTALK_SIGNATURE_LEN), "by a longer one");
	CHECK(!osmtalk_verify("body", 4, "secret", 0, right, OSMTALK_SIGNATURE_LEN), "no secret verifies nothing");
}

/* What cannot be computed: the length is looked at before anything is read. */
static void
test_impossible(void)
{
	char		out[OSMTALK_SIGNATURE_LEN + 1] = "sha256=";

	CHECK(!osmtalk_sign("body", 4, "secret", (size_t) 1 << 31, out) && out[0] == '\0', "a secret of 2 GB: no signature");
	CHECK(!osmtalk_verify("body", 4, "secret", (size_t) 1 << 31, right, OSMTALK_SIGNATURE_LEN), "and nothing is verified by it");
}

/* The example of Standard Webhooks, verified in a list of that many bytes. */
static bool
standard_accepted(const char *signatures, size_t len)
{
	static const char content[] = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
	char	   *body = block((Bytes) TEXT(content));
	char	   *secret = block((Bytes) TEXT("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
	char	   *copy = block((Bytes) {signatures, len, false});
	bool		result = osmtalk_verify_standard(body, sizeof(content) - 1, secret, 38, copy, len);

	free(body);
	free(secret);
	free(copy);
	return result;
}

static void
test_standard(void)
{
	static const char list[] = "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v2,x";
	int			wrong = 0;

	CHECK(standard_accepted(list + 8, OSMTALK_STANDARD_SIGNATURE_LEN), "a signature of Standard Webhooks");
	for (size_t len = 0; len < sizeof(list); len++)
		wrong += standard_accepted(list, len) != (len >= 55);
	CHECK(wrong == 0, "in a list, cut off at each byte: %d wrong", wrong);
	wrong = 0;
	for (size_t from = 0; from < sizeof(list) - 1; from++)
		wrong += standard_accepted(list + from, sizeof(list) - 1 - from) != (from <= 8);
	CHECK(wrong == 0, "and begun at each: %d wrong", wrong);
	wrong = 0;
	for (size_t i = 0; i < OSMTALK_STANDARD_SIGNATURE_LEN; i++)
		for (int c = 0; c < 256; c++)
		{
			char		signature[OSMTALK_STANDARD_SIGNATURE_LEN];

			memcpy(signature, list + 8, sizeof(signature));
			if (signature[i] == (char) c)
				continue;
			signature[i] = (char) c;
			wrong += standard_accepted(signature, sizeof(signature));
		}
	CHECK(wrong == 0, "with another byte: %d are accepted", wrong);
	CHECK(!osmtalk_verify_standard("x", 1, NULL, 0, list, sizeof(list) - 1), "no secret verifies nothing");
}

/* What the base64 of a secret stands for, at the ends of blocks. */
static void
test_standard_secrets(void)
{
	static const char *const good[] = {"whsec_AA==", "whsec_AAA=", "whsec_AAAA", "whsec_+/+/AAA="};
	static const char *const bad[] = {"", "w", "whsec_", "whsec_A", "whsec_AA", "whsec_AAA", "whsec_A===", "whsec_====", "whsec_AA=A", "whsec_AA==AAAA", "whsec_-_-_", "whsec_ AAA", "Whsec_AAAA", "AAAA"};
	char	   *longest = malloc(OSMTALK_LONGEST_SECRET + 4);

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		char	   *secret = block((Bytes) {good[i], strlen(good[i]), false});

		CHECK(osmtalk_is_standard_secret(secret, strlen(good[i])), "a secret of that form: %s", good[i]);
		free(secret);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		char	   *secret = block((Bytes) {bad[i], strlen(bad[i]), false});

		CHECK(!osmtalk_is_standard_secret(secret, strlen(bad[i])), "of another: %s", bad[i]);
		free(secret);
	}
	if (longest == NULL)
		abort();
	memset(longest, 'A', OSMTALK_LONGEST_SECRET + 4);
	memcpy(longest, "whsec_", 6);
	CHECK(osmtalk_is_standard_secret(longest, OSMTALK_LONGEST_SECRET - 2), "the longest");
	CHECK(!osmtalk_is_standard_secret(longest, OSMTALK_LONGEST_SECRET + 2), "and a longer one");
	free(longest);
}

int
main(void)
{
	test_vectors();
	test_digits();
	test_lengths();
	test_forgeries();
	test_impossible();
	test_standard();
	test_standard_secrets();
	return finish_checks();
}
