/*
 * failing_malloc.c
 *		An allocator that fails at random, in the worker alone.
 *
 * Preloaded into a server (LD_PRELOAD), it lets every process allocate as
 * usual but one that loads osmtalk_worker.  How often it fails there, and how
 * often it did, stands in a file that the environment names: so a test sets
 * the odds while the server runs, and sees that there were failures at all.
 *
 * Two kinds of callers are told apart by where they return to: the server,
 * which raises an ERROR ("out of memory"), and libraries, which have to find
 * their own way back.  Who gives up the process is spared: the dynamic linker,
 * and what resolves names in glibc, which asserts that it can read its
 * configuration; that fails as a whole.
 *
 * For glibc, whose own functions are under other names, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum
{
	SERVER,
	LIBRARIES,
	NCALLERS
};

/* the file, as the test knows it (Osmtalk::FailingMalloc) */
typedef struct Control
{
	uint64_t	odds[NCALLERS]; /* of a million allocations so many fail */
	uint64_t	seed;
	uint64_t	calls[NCALLERS];
	uint64_t	failures[NCALLERS];
} Control;

typedef struct Range
{
	uintptr_t	start;
	uintptr_t	end;
} Range;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static Control *control = NULL; /* NULL: nothing fails */
static Range server;
static Range linker;
static __thread bool spared = false;

static void
note_range(const struct dl_phdr_info *info, Range *range)
{
	range->start = UINTPTR_MAX;
	range->end = 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		uintptr_t	start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		uintptr_t	end = start + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		range->start = start < range->start ? start : range->start;
		range->end = end > range->end ? end : range->end;
	}
}

/* The first object is the program itself. */
static int
note_object(struct dl_phdr_info *info, size_t size, void *nobjects)
{
	if ((*(int *) nobjects)++ == 0)
		note_range(info, &server);
	else if (strstr(info->dlpi_name, "/ld-linux") != NULL)
		note_range(info, &linker);
	return 0;
}

static void
begin_to_fail(void)
{
	const char *name = getenv("FAILING_MALLOC");
	int			nobjects = 0;
	int			fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
	void	   *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (shared == MAP_FAILED)
		abort();
	close(fd);
	(void) dl_iterate_phdr(note_object, &nobjects);
	control = shared;
}

/* A process that loads the worker's library is a worker, and has not begun yet. */
void *
dlopen(const char *file, int flags)
{
	void	   *(*real) (const char *, int) = (void *(*) (const char *, int)) dlsym(RTLD_NEXT, "dlopen");
	void	   *handle = real(file, flags);

	if (handle != NULL && file != NULL && strstr(file, "osmtalk_worker") != NULL && control == NULL)
		begin_to_fail();
	return handle;
}

static bool
within(const Range *range, const void *address)
{
	return (uintptr_t) address >= range->start && (uintptr_t) address < range->end;
}

/* Whether this one fails: a hash of its number (splitmix64), against the odds. */
static bool
fails(const void *caller)
{
	int			who;
	uint64_t	x;

	if (control == NULL || spared || within(&linker, caller))
		return false;
	who = within(&server, caller) ? SERVER : LIBRARIES;
	x = __atomic_add_fetch(&control->calls[who], 1, __ATOMIC_RELAXED) * 2 + (uint64_t) who;
	x = (x + control->seed) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	if (x % 1000000 >= control->odds[who])
		return false;
	__atomic_add_fetch(&control->failures[who], 1, __ATOMIC_RELAXED);
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	int			(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **);
	int			failure;

	if (fails(__builtin_return_address(0)))
		return EAI_MEMORY;
	real = (int (*) (const char *, const char *, const struct addrinfo *, struct addrinfo **)) dlsym(RTLD_NEXT, "getaddrinfo");
	spared = true;
	failure = real(node, service, hints, result);
	spared = false;
	return failure;
}
