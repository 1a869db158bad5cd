/*
 * own.c
 *		The addresses of the machine that this process runs on.
 *
 * A machine with a public address reaches its own services by it, past the
 * firewall that keeps others from them.  Interfaces come and go, so the list
 * is read again, but not for each request.  Must not judge: see egress.c.
 */
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "own.h"

#define MAX_AGE_MS 1000

static struct ifaddrs *list = NULL;
static int64_t read_at;

static int64_t
now_ms(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Should it fail, the list is what it was. */
static bool
read_again(void)
{
	struct ifaddrs *new;

	read_at = now_ms();
	if (getifaddrs(&new) != 0)
		return false;
	if (list != NULL)
		freeifaddrs(list);
	list = new;
	return true;
}

bool
osmtalk_own_start(void)
{
	return read_again();
}

static bool
is_same(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a == NULL || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *) a)->sin_addr,
					  &((const struct sockaddr_in *) b)->sin_addr, sizeof(struct in_addr)) == 0;
	if (a->sa_family == AF_INET6)
		return memcmp(&((const struct sockaddr_in6 *) a)->sin6_addr,
					  &((const struct sockaddr_in6 *) b)->sin6_addr, sizeof(struct in6_addr)) == 0;
	return false;
}

bool
osmtalk_own_has(const struct sockaddr *addr)
{
	if (now_ms() - read_at > MAX_AGE_MS)
		(void) read_again();
	for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next)
		if (is_same(i->ifa_addr, addr))
			return true;
	return false;
}
