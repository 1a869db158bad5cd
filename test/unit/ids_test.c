/*
 * ids_test.c
 *		Ids: their shape, their order, and that they differ.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ids.h"

#define MANY 100000
#define NOW UINT64_C(1788000000000000)	/* in 2026 */

typedef struct Id
{
	char		text[4 + OSMTALK_ID_TAIL_LEN + 1];
} Id;

static uint64_t seed = 1;

/* Good enough for what must hold whatever the bytes are. */
static void
draw(uint8_t random[OSMTALK_ID_RANDOM_DIGITS])
{
	for (int i = 0; i < OSMTALK_ID_RANDOM_DIGITS; i++)
	{
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		random[i] = (uint8_t) (seed >> 56);
	}
}

static Id
id_at(uint64_t microseconds)
{
	uint8_t		random[OSMTALK_ID_RANDOM_DIGITS];
	Id			id = {""};

	draw(random);
	osmtalk_id_write("call", 4, microseconds, random, id.text);
	return id;
}

static int
compare(const void *a, const void *b)
{
	return strcmp(((const Id *) a)->text, ((const Id *) b)->text);
}

/* Of that prefix: written into a block of exactly the size it should have. */
static bool
has_shape(const char *prefix, size_t prefix_len)
{
	uint8_t		random[OSMTALK_ID_RANDOM_DIGITS];
	size_t		len = prefix_len + OSMTALK_ID_TAIL_LEN;
	char	   *id = malloc(len);
	bool		ok;

	if (id == NULL)
		abort();
	draw(random);
	osmtalk_id_write(prefix, prefix_len, NOW, random, id);
	ok = memcmp(id, prefix, prefix_len) == 0 && id[prefix_len] == '_';
	for (size_t i = prefix_len + 1; i < len; i++)
		ok = ok && ((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'v'));
	free(id);
	return ok;
}

static void
test_shape(void)
{
	static const uint8_t zeros[OSMTALK_ID_RANDOM_DIGITS] = {0};
	uint8_t		ones[OSMTALK_ID_RANDOM_DIGITS];
	char		id[OSMTALK_ID_TAIL_LEN + 1] = "";
	char		other[OSMTALK_ID_TAIL_LEN + 1] = "";

	CHECK(OSMTALK_ID_TAIL_LEN == 28, "an underscore and 27 digits");
	CHECK(has_shape("call", 4), "the prefix, an underscore, digits and the letters a to v");
	CHECK(has_shape("", 0), "an empty prefix");
	CHECK(has_shape("a_b", 3) && has_shape("\xc3\xbc", 2) && has_shape("nul\0nul", 7), "whatever the prefix");

	memset(ones, 0xff, sizeof(ones));
	osmtalk_id_write("", 0, 0, zeros, id);
	CHECK(strcmp(id, "_000000000000000000000000000") == 0, "the least: %s", id);
	osmtalk_id_write("", 0, UINT64_MAX, ones, id);
	CHECK(strcmp(id, "_vvvvvvvvvvvvvvvvvvvvvvvvvvv") == 0, "the greatest: %s", id);
	osmtalk_id_write("", 0, NOW, zeros, id);
	CHECK(strcmp(id, "_1iq5kodng000000000000000000") == 0, "a moment of 2026: %s", id);

	/* five bits of each byte, so 80 in all */
	memset(ones, 0xe0, sizeof(ones));
	osmtalk_id_write("", 0, NOW, zeros, id);
	osmtalk_id_write("", 0, NOW, ones, other);
	CHECK(strcmp(id, other) == 0, "the upper three bits of a random byte say nothing");
	for (int i = 0; i < OSMTALK_ID_RANDOM_DIGITS; i++)
		for (int bit = 1; bit < 32; bit *= 2)
		{
			uint8_t		random[OSMTALK_ID_RANDOM_DIGITS] = {0};

			random[i] = (uint8_t) bit;
			osmtalk_id_write("", 0, NOW, random, other);
			if (strcmp(id, other) >= 0)
				id[0] = '!';
		}
	CHECK(id[0] == '_', "each of the lower five makes another id");
}

/* Whether the ids of these moments are in their order, each with its own chance. */
static bool
in_order(uint64_t from, uint64_t step, int n)
{
	Id			last = id_at(from);

	for (int i = 1; i < n; i++)
	{
		Id			next = id_at(from + (uint64_t) i * step);

		if (compare(&last, &next) >= 0)
			return false;
		last = next;
	}
	return true;
}

static void
test_order(void)
{
	Id			before;
	Id			after;

	CHECK(in_order(NOW, 1, MANY), "one microsecond after the other, within a millisecond and from one to the next");
	CHECK(in_order(NOW, 1000, MANY), "one millisecond after the other");
	CHECK(in_order(NOW, UINT64_C(86400000000), 365 * 50), "one day after the other, for fifty years");
	CHECK(in_order((UINT64_C(1) << 55) - MANY, 1, MANY), "up to the year 3111");
	for (int digit = 1; digit < OSMTALK_ID_TIME_DIGITS; digit++)
	{
		uint64_t	carry = UINT64_C(1) << (5 * digit);

		CHECK(in_order(carry - 2, 1, 4), "where %d digits change at once", digit + 1);
	}

	/* the clock is set back by an hour: what follows sorts before, and is no less an id */
	before = id_at(NOW);
	after = id_at(NOW - UINT64_C(3600000000));
	CHECK(compare(&after, &before) < 0, "a clock that is set back makes ids that sort before");
}

/* The clock stands still, or tells the same hour twice. */
static void
test_uniqueness(void)
{
	Id		   *ids = malloc(MANY * sizeof(Id));
	int			same = 0;

	if (ids == NULL)
		abort();
	for (int i = 0; i < MANY; i++)
		ids[i] = id_at(NOW + (uint64_t) (i % 10));
	qsort(ids, MANY, sizeof(Id), compare);
	for (int i = 1; i < MANY; i++)
		same += compare(&ids[i - 1], &ids[i]) == 0;
	CHECK(same == 0, "%d ids of ten microseconds, told again and again, all differ", MANY);
	free(ids);
}

int
main(void)
{
	test_shape();
	test_order();
	test_uniqueness();
	return finish_checks();
}
