/*
 * compose_test.c
 *		A request's headers: which there are, in which order, and what may be
 *		among them.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "compose.h"

/* the secret of the standard's own example, and its id, timestamp and signature */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define OTHER_SECRET "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static OsmtalkMessage
message(void)
{
	return (OsmtalkMessage) {
		.event_id = ID, .body = BODY, .body_len = strlen(BODY), .secret = SECRET, .standard = true, .timestamp = 1614265330};
}

typedef struct List
{
	char		text[8192];
	int			n;
	int			most;
} List;

static bool
add(void *arg, const char *header)
{
	List	   *list = arg;

	if (list->n == list->most)
		return false;
	list->n++;
	strcat(strcat(list->text, header), "\n");
	return true;
}

/* All of them, a line each. */
static const char *
composed(const OsmtalkMessage *m)
{
	static List list;
	OsmtalkSignatures signatures;

	list = (List) {.most = 100};
	if (!osmtalk_sign_message(m, &signatures))
		return "not signed";
	if (!osmtalk_compose_headers(m, &signatures, add, &list))
		return "not added";
	return list.text;
}

#define BEGINNING "Content-Type: application/json\nX-OsmTalk-Event-Id: " ID "\n"

static void
test_composition(void)
{
	OsmtalkMessage m = message();
	OsmtalkSignatures signatures;
	List list = {.most = 3};
	char classic[200];

	osmtalk_sign(BODY, strlen(BODY), SECRET, strlen(SECRET), classic);
#define EXPECT(rest, what) do { \
		char expected[8192]; \
		snprintf(expected, sizeof(expected), "%s" rest, BEGINNING, classic); \
		CHECK(strcmp(composed(&m), expected) == 0, "%s", what); \
	} while (0)
	EXPECT("X-OsmTalk-Signature: %s\nwebhook-id: " ID "\nwebhook-timestamp: 1614265330\nwebhook-signature: " SIGNATURE "\n", "all of them, as the standard's example has them");

	m.custom = "Authorization: Bearer x\0X-A: b\0";
	EXPECT("X-OsmTalk-Signature: %s\nwebhook-id: " ID "\nwebhook-timestamp: 1614265330\nwebhook-signature: " SIGNATURE "\nAuthorization: Bearer x\nX-A: b\n", "and the receiver's own");
	m.custom = "";
	m.standard = false;
	EXPECT("X-OsmTalk-Signature: %s\n", "without the standard's");

	m = message();
	m.secret = NULL;
	CHECK(strcmp(composed(&m), BEGINNING) == 0, "no secret, no signature in either form");
	m = message();
	m.secret = "whsec_only_an_example";
	osmtalk_sign(BODY, strlen(BODY), m.secret, strlen(m.secret), classic);
	EXPECT("X-OsmTalk-Signature: %s\n", "a secret of another form: none of the standard's headers");
	m.previous[0] = SECRET;
	m.nprevious = 1;
	EXPECT("X-OsmTalk-Signature: %s\n", "nor with one before it that has the form");
	m = message();
	m.event_id = "evt_a.1614265330";
	CHECK(strstr(composed(&m), "webhook-") == NULL && strstr(composed(&m), "X-OsmTalk-Signature") != NULL, "nor for an id with a full stop");

	m = message();
	osmtalk_sign_message(&m, &signatures);
	for (list.most = 0; list.most < 6; list.most++)
	{
		list.n = 0;
		CHECK(!osmtalk_compose_headers(&m, &signatures, add, &list) && list.n == list.most, "the header %d cannot be added", list.most + 1);
	}
}

static void
test_rotation(void)
{
	OsmtalkMessage m = message();
	OsmtalkSignatures signatures;
	const char *content = ID ".1614265330." BODY;
	char		first[OSMTALK_STANDARD_SIGNATURE_LEN + 1];
	char		expected[400];

	m.previous[0] = OTHER_SECRET;
	m.previous[1] = "of another form";
	m.previous[2] = OTHER_SECRET;
	m.nprevious = 3;
	CHECK(osmtalk_sign_message(&m, &signatures), "signed with those that were replaced, too");
	osmtalk_sign_standard(content, strlen(content), OTHER_SECRET, strlen(OTHER_SECRET), first);
	snprintf(expected, sizeof(expected), "%s %s %s", SIGNATURE, first, first);
	CHECK(strcmp(signatures.standard, expected) == 0, "the current one's first, separated by spaces, none for one of another form");
	CHECK(osmtalk_verify_standard(content, strlen(content), SECRET, strlen(SECRET), signatures.standard, strlen(signatures.standard)) &&
		  osmtalk_verify_standard(content, strlen(content), OTHER_SECRET, strlen(OTHER_SECRET), signatures.standard, strlen(signatures.standard)),
		  "both verify");
}

static void
test_ids(void)
{
	char		id[402];

	memset(id, 'x', sizeof(id));
	id[401] = '\0';
	CHECK(!osmtalk_is_event_id(id), "an id of 401 bytes");
	id[400] = '\0';
	CHECK(osmtalk_is_event_id(id), "of 400");
	for (int c = 1; c < 256; c++)
	{
		id[200] = (char) c;
		if (osmtalk_is_event_id(id) != (c >= ' ' && c != 127))
			CHECK(false, "with the byte %d", c);
	}
	{
		OsmtalkMessage m = message();
		OsmtalkSignatures signatures;

		id[200] = 'x';
		m.event_id = id;
		CHECK(osmtalk_sign_message(&m, &signatures) && signatures.standard[0] == 'v', "the longest is signed");
	}
}

/* Handed over in blocks of their size, so that a sanitizer sees what is read beyond them. */
static bool
accepted(const char *name, size_t name_len, const char *value, size_t value_len)
{
	char	   *n = malloc(name_len > 0 ? name_len : 1);
	char	   *v = malloc(value_len > 0 ? value_len : 1);
	bool		result;

	if (n == NULL || v == NULL)
		abort();
	memcpy(n, name, name_len);
	memcpy(v, value, value_len);
	result = osmtalk_header_complaint(n, name_len, v, value_len) == NULL;
	free(n);
	free(v);
	return result;
}

static void
test_custom(void)
{
	static const char *const allowed[] = {"Authorization", "X-Api-Key", "x", "Cookie", "Accept", "Hosts", "X-Host", "Connection2", "Content", "webhook", "X-Webhook-Id",
		"Date", "!#$%&'*+-.^_`|~09azAZ", "TEx", "svix-id"};
	static const char *const refused[] = {"", " ", "Host", "HOST", "hOsT", "User-Agent", "Content-Type", "content-length", "Content-Encoding", "CONTENT-", "Transfer-Encoding",
		"Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect", "Accept-Encoding", "Proxy-Authorization", "proxy-connection", "X-OsmTalk-Signature",
		"x-osmtalk-anything", "webhook-id", "Webhook-Signature", "WEBHOOK-", "HTTP2-Settings",
		"X A", "X:", "X:A", ":authority", "X\r\nA", "X\nA", "X\tA", "X\"", "X(", "X)", "X,", "X/", "X;", "X<", "X=", "X>", "X?", "X@", "X[", "X\\", "X]", "X{", "X}", "X\x7f", "Caf\xc3\xa9"};
	static const char *const values[] = {"Bearer abc.def-ghi", "a", "a b  c", "\"quoted\"", "a:b;c,d", "!~"};
	static const char *const bad_values[] = {"", " ", " a", "a ", "a\r\nX-Injected: b", "a\nb", "a\rb", "a\tb", "a\x01", "a\x7f", "caf\xc3\xa9", "\xff"};

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		CHECK(accepted(allowed[i], strlen(allowed[i]), "v", 1), "allowed: %s", allowed[i]);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		CHECK(!accepted(refused[i], strlen(refused[i]), "v", 1), "refused: a name, case %zu", i);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		CHECK(accepted("X", 1, values[i], strlen(values[i])), "a value: %s", values[i]);
	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++)
		CHECK(!accepted("X", 1, bad_values[i], strlen(bad_values[i])), "refused: a value, case %zu", i);
	CHECK(!accepted("X\0A", 3, "v", 1) && !accepted("X", 1, "a\0b", 3) && !accepted("\0", 1, "v", 1), "bytes that are zero");
}

int
main(void)
{
	test_composition();
	test_rotation();
	test_ids();
	test_custom();
	return finish_checks();
}
