/*
 * network.c
 *		An internet of the test's own: names that lie, addresses that lead
 *		nowhere.
 *
 * Preloaded into a server (LD_PRELOAD).  Whatever an address is, no packet
 * leaves the machine: "public" ones are connected to loopback addresses with
 * the same port, and every other one is counted, and, if it is no loopback
 * address, not connected to.
 *
 *     8.8.8.8, 2001:4860:4860::8888	127.0.0.2
 *     8.8.4.4							127.0.0.4, where nobody listens
 *     9.9.9.9, 2620:fe::fe				the machine's own, as its interfaces say
 *
 * Names that end in ".test" are answered by their first letters:
 *
 *     public…	8.8.8.8
 *     slow…	8.8.8.8, after 50 ms
 *     local…	127.0.0.1
 *     own…		9.9.9.9
 *     flip…	one to four addresses of all kinds at random, others each time
 *				(of the family that is asked for: whoever asks for each by itself is
 *				not to find that there is none at all)
 *     turn…	127.0.0.1, or, once the test says so, 8.8.8.8
 *     hang…	never, until the test lets go
 *
 * Counts and orders are in a file that the environment names.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* the file, as the test knows it (Osmtalk::Network) */
typedef struct Control
{
	uint64_t	seed;
	uint64_t	turned;		/* for the test to set */
	uint64_t	let_go;
	uint64_t	lookups;
	uint64_t	hanging;	/* lookups that are under way */
	uint64_t	allowed;	/* connections */
	uint64_t	forbidden;
} Control;

static const char *const flips[] = {
	"8.8.8.8", "8.8.8.8", "8.8.8.8", "2001:4860:4860::8888", "8.8.4.4", "8.8.4.4", "127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1",
	"::127.0.0.1", "127.0.0.53", "0.0.0.0", "::", "10.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::",
	"fd00::1", "168.63.129.16", "9.9.9.9", "2620:fe::fe",
};

#define NFLIPS (sizeof(flips) / sizeof(flips[0]))

static Control *
control(void)
{
	static Control *shared = NULL;

	if (shared == NULL)
	{
		const char *name = getenv("OSMTALK_NETWORK");
		int			fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
		void	   *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (map == MAP_FAILED)
			abort();
		close(fd);
		shared = map;
	}
	return shared;
}

static void
count(uint64_t *what, int64_t n)
{
	__atomic_add_fetch(what, n, __ATOMIC_SEQ_CST);
}

static socklen_t
read_address(const char *text, struct sockaddr_storage *addr)
{
	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, text, &((struct sockaddr_in *) addr)->sin_addr) == 1)
	{
		addr->ss_family = AF_INET;
		return sizeof(struct sockaddr_in);
	}
	if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *) addr)->sin6_addr) != 1)
		abort();
	addr->ss_family = AF_INET6;
	return sizeof(struct sockaddr_in6);
}

static bool
is_address(const struct sockaddr *a, const char *text)
{
	struct sockaddr_storage b;

	(void) read_address(text, &b);
	if (a->sa_family != b.ss_family)
		return false;
	if (a->sa_family == AF_INET)
		return memcmp(&((const struct sockaddr_in *) a)->sin_addr, &((struct sockaddr_in *) &b)->sin_addr, 4) == 0;
	return memcmp(&((const struct sockaddr_in6 *) a)->sin6_addr, &((struct sockaddr_in6 *) &b)->sin6_addr, 16) == 0;
}

/* ---- names ---- */

/* In one block, as freeaddrinfo() of glibc wants it. */
static struct addrinfo *
answer_with(const char *text, const char *service, const struct addrinfo *hints, struct addrinfo *next)
{
	struct sockaddr_storage addr;
	socklen_t	len = read_address(text, &addr);
	struct addrinfo *ai;

	if (hints != NULL && hints->ai_family != AF_UNSPEC && hints->ai_family != addr.ss_family)
		return next;
	/* at the same place in both families */
	((struct sockaddr_in *) &addr)->sin_port = htons((uint16_t) (service ? atoi(service) : 0));
	ai = calloc(1, sizeof(*ai) + len);
	if (ai == NULL)
		abort();
	ai->ai_family = addr.ss_family;
	ai->ai_socktype = SOCK_STREAM;
	ai->ai_protocol = IPPROTO_TCP;
	ai->ai_addrlen = len;
	ai->ai_addr = memcpy(ai + 1, &addr, len);
	ai->ai_next = next;
	return ai;
}

static unsigned
pick(uint64_t *x, unsigned n)
{
	uint64_t	y = *x += UINT64_C(0x9e3779b97f4a7c15);

	y = (y ^ (y >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	y = (y ^ (y >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned) ((y ^ (y >> 31)) % n);
}

static struct addrinfo *
answer(const char *name, const char *service, const struct addrinfo *hints, uint64_t number)
{
	Control    *c = control();
	uint64_t	x = c->seed + number * 1000;
	struct addrinfo *result = NULL;

	if (strncmp(name, "slow", 4) == 0)
		usleep(50000);
	if (strncmp(name, "public", 6) == 0 || strncmp(name, "slow", 4) == 0)
		return answer_with("8.8.8.8", service, hints, NULL);
	if (strncmp(name, "local", 5) == 0)
		return answer_with("127.0.0.1", service, hints, NULL);
	if (strncmp(name, "own", 3) == 0)
		return answer_with("9.9.9.9", service, hints, NULL);
	if (strncmp(name, "turn", 4) == 0)
		return answer_with(c->turned ? "8.8.8.8" : "127.0.0.1", service, hints, NULL);
	if (strncmp(name, "flip", 4) == 0)
		for (unsigned n = 1 + pick(&x, 4); n > 0; )
		{
			struct addrinfo *longer = answer_with(flips[pick(&x, NFLIPS)], service, hints, result);

			n -= longer != result;
			result = longer;
		}
	if (strncmp(name, "hang", 4) == 0)
	{
		count(&c->hanging, 1);
		while (!__atomic_load_n(&c->let_go, __ATOMIC_SEQ_CST))
			usleep(10000);
		count(&c->hanging, -1);
	}
	return result;
}

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **);
	size_t		len = name ? strlen(name) : 0;

	if (len > 5 && strcmp(name + len - 5, ".test") == 0)
	{
		*result = answer(name, service, hints, __atomic_add_fetch(&control()->lookups, 1, __ATOMIC_SEQ_CST));
		return *result == NULL ? EAI_NONAME : 0;
	}
	real = (int (*) (const char *, const char *, const struct addrinfo *, struct addrinfo **)) dlsym(RTLD_NEXT, "getaddrinfo");
	return real(name, service, hints, result);
}

/* ---- addresses ---- */

/* The loopback interface has public ones. */
int
getifaddrs(struct ifaddrs **list)
{
	int			(*real) (struct ifaddrs **) = (int (*) (struct ifaddrs **)) dlsym(RTLD_NEXT, "getifaddrs");
	int			failure = real(list);

	if (failure != 0)
		return failure;
	for (struct ifaddrs *i = *list; i != NULL; i = i->ifa_next)
	{
		struct sockaddr_storage addr;

		if (i->ifa_addr == NULL || strcmp(i->ifa_name, "lo") != 0 || (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
			continue;
		memcpy(i->ifa_addr, &addr, read_address(i->ifa_addr->sa_family == AF_INET ? "9.9.9.9" : "2620:fe::fe", &addr));
	}
	return 0;
}

static bool
is_loopback(const struct sockaddr *addr)
{
	const struct in6_addr *in6 = &((const struct sockaddr_in6 *) addr)->sin6_addr;

	if (addr->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *) addr)->sin_addr.s_addr) >> 24) == 127;
	return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int			(*real) (int, const struct sockaddr *, socklen_t) =
		(int (*) (int, const struct sockaddr *, socklen_t)) dlsym(RTLD_NEXT, "connect");
	const char *there = NULL;
	struct sockaddr_storage instead;

	if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6)
		return real(fd, addr, len);
	if (is_address(addr, "8.8.8.8"))
		there = "127.0.0.2";
	else if (is_address(addr, "8.8.4.4"))
		there = "127.0.0.4";
	else if (is_address(addr, "2001:4860:4860::8888"))
		there = "::ffff:127.0.0.2";
	if (there != NULL)
	{
		count(&control()->allowed, 1);
		len = read_address(there, &instead);
		((struct sockaddr_in *) &instead)->sin_port = ((const struct sockaddr_in *) addr)->sin_port;
		return real(fd, (struct sockaddr *) &instead, len);
	}
	count(&control()->forbidden, 1);
	if (is_loopback(addr))
		return real(fd, addr, len);
	errno = ENETUNREACH;
	return -1;
}

/* Who is at the other end, as it was called. */
int
getpeername(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	int			(*real) (int, struct sockaddr *, socklen_t *) =
		(int (*) (int, struct sockaddr *, socklen_t *)) dlsym(RTLD_NEXT, "getpeername");
	struct sockaddr_storage called;
	socklen_t	room = *len;
	in_port_t	port;
	int			failure = real(fd, addr, len);

	if (failure != 0 || (addr->sa_family != AF_INET && addr->sa_family != AF_INET6))
		return failure;
	port = ((struct sockaddr_in *) addr)->sin_port;
	if (is_address(addr, "127.0.0.2"))
		*len = read_address("8.8.8.8", &called);
	else if (is_address(addr, "::ffff:127.0.0.2"))
		*len = read_address("2001:4860:4860::8888", &called);
	else
		return 0;
	((struct sockaddr_in *) &called)->sin_port = port;
	memcpy(addr, &called, *len < room ? *len : room);
	return 0;
}
