/*
 * check.h
 *		What the unit tests share: a check that counts, and TAP output.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int	checks = 0;
static int	failures = 0;

#define CHECK(condition, ...) \
	do { \
		int			ok_ = (condition) ? 1 : 0; \
		checks++; \
		failures += !ok_; \
		printf("%s %d - ", ok_ ? "ok" : "not ok", checks); \
		printf(__VA_ARGS__); \
		printf("\n"); \
		if (!ok_) \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition); \
	} while (0)

static inline int
finish_checks(void)
{
	printf("1..%d\n", checks);
	return failures > 0;
}

#endif
