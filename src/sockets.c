/*
 * sockets.c
 *		Many sockets waited for as one descriptor: epoll or kqueue.
 *
 * libcurl ceases to wait for a connection at the end of each request and
 * begins again with the next.  The kernel is told of neither: a socket of
 * libcurl's stays registered for reading, and only if something comes that
 * nobody waits for is it taken out.  That saves two system calls a request.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sockets.h"

#define MAX_READY 256

typedef struct Socket
{
	uint8_t wanted;
	uint8_t registered;	 /* with the kernel */
	bool kept;			 /* may stay registered for reading */
	uint16_t local_port; /* of its connection; 0 while that is not known */
	uint16_t remote_port;
	int64_t used_at; /* milliseconds, when it was last said what to wait for */
} Socket;

static int multiplexer = -1;
static Socket *sockets = NULL; /* by descriptor */
static size_t nsockets = 0;

static int make_multiplexer(void);
static bool tell_kernel(int socket, int was, int events);
static int ask_kernel(OsmtalkReady *ready, int max);

int
osmtalk_sockets_create(void)
{
	multiplexer = make_multiplexer();
	return multiplexer;
}

/* NULL if there is no memory. */
static Socket *
find(int socket)
{
	if ((size_t) socket >= nsockets)
	{
		size_t n = ((size_t) socket + 1) * 2;
		Socket *more = realloc(sockets, n * sizeof(Socket));

		if (more == NULL)
			return NULL;
		memset(more + nsockets, 0, (n - nsockets) * sizeof(Socket));
		sockets = more;
		nsockets = n;
	}
	return &sockets[socket];
}

static bool
register_events(Socket *s, int socket, int events)
{
	bool ok = s->registered == events || tell_kernel(socket, s->registered, events);

	s->registered = (uint8_t) (ok ? events : 0);
	return ok;
}

static int64_t
now_ms(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool
osmtalk_sockets_set(int socket, int events)
{
	Socket *s = find(socket);

	if (s == NULL)
		return false;
	s->used_at = now_ms();
	s->wanted = (uint8_t) events;
	if (s->kept)
		events |= s->registered & OSMTALK_SOCKET_READ;
	return register_events(s, socket, events);
}

void
osmtalk_sockets_connected(int socket, int local_port, int remote_port)
{
	Socket *s = find(socket);

	if (s == NULL)
		return;
	s->local_port = (uint16_t) local_port;
	s->remote_port = (uint16_t) remote_port;
}

int
osmtalk_sockets_of(int local_port, int remote_port)
{
	int found = -1;

	for (size_t i = 0; i < nsockets; i++)
		if (sockets[i].local_port == local_port && sockets[i].remote_port == remote_port)
		{
			if (found >= 0)
				return -1;
			found = (int) i;
		}
	return found;
}

int64_t
osmtalk_sockets_idle_ms(int socket)
{
	const Socket *s = find(socket);

	return s == NULL || s->used_at == 0 ? 0 : now_ms() - s->used_at;
}

void
osmtalk_sockets_opened(int socket)
{
	Socket *s = find(socket);

	if (s != NULL)
		*s = (Socket){.kept = true};
}

void
osmtalk_sockets_closed(int socket)
{
	Socket *s = find(socket);

	/* the kernel forgets it by itself */
	if (s != NULL)
		memset(s, 0, sizeof(*s));
}

int
osmtalk_sockets_ready(OsmtalkReady *ready, int max)
{
	int n = ask_kernel(ready, max < MAX_READY ? max : MAX_READY);
	int nwanted = 0;

	for (int i = 0; i < n; i++)
	{
		Socket *s = find(ready[i].socket);

		if (s != NULL && s->wanted == 0)
			(void) register_events(s, ready[i].socket, 0);
		else
			ready[nwanted++] = ready[i];
	}
	return nwanted;
}

#if defined(__linux__)

#include <sys/epoll.h>

static int
make_multiplexer(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static bool
tell_kernel(int socket, int was, int events)
{
	struct epoll_event event = {0};
	int op = events == 0 ? EPOLL_CTL_DEL : was == 0 ? EPOLL_CTL_ADD
													: EPOLL_CTL_MOD;

	if (events & OSMTALK_SOCKET_READ)
		event.events |= EPOLLIN;
	if (events & OSMTALK_SOCKET_WRITE)
		event.events |= EPOLLOUT;
	event.data.fd = socket;
	if (epoll_ctl(multiplexer, op, socket, &event) == 0)
		return true;
	/* a descriptor that was closed and opened again is a new one to epoll */
	if (op == EPOLL_CTL_ADD && errno == EEXIST)
		return epoll_ctl(multiplexer, EPOLL_CTL_MOD, socket, &event) == 0;
	if (op == EPOLL_CTL_MOD && errno == ENOENT)
		return epoll_ctl(multiplexer, EPOLL_CTL_ADD, socket, &event) == 0;
	return op == EPOLL_CTL_DEL && (errno == ENOENT || errno == EBADF);
}

static int
ask_kernel(OsmtalkReady *ready, int max)
{
	struct epoll_event events[MAX_READY];
	int n = epoll_wait(multiplexer, events, max, 0);

	for (int i = 0; i < n; i++)
	{
		ready[i].socket = events[i].data.fd;
		ready[i].events = 0;
		if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			ready[i].events |= OSMTALK_SOCKET_READ;
		if (events[i].events & (EPOLLOUT | EPOLLERR))
			ready[i].events |= OSMTALK_SOCKET_WRITE;
	}
	return n;
}

#else

#include <sys/event.h>
#include <sys/time.h>
#include <sys/types.h>

static int
make_multiplexer(void)
{
	return kqueue();
}

static bool
tell_kernel(int socket, int was, int events)
{
	struct kevent changes[2];
	int n = 0;
	int added = events & ~was;
	int removed = was & ~events;

	if ((added | removed) & OSMTALK_SOCKET_READ)
		EV_SET(&changes[n++], socket, EVFILT_READ, (added & OSMTALK_SOCKET_READ) ? EV_ADD : EV_DELETE, 0, 0, NULL);
	if ((added | removed) & OSMTALK_SOCKET_WRITE)
		EV_SET(&changes[n++], socket, EVFILT_WRITE, (added & OSMTALK_SOCKET_WRITE) ? EV_ADD : EV_DELETE, 0, 0, NULL);
	return n == 0 || kevent(multiplexer, changes, n, NULL, 0, NULL) == 0;
}

static int
ask_kernel(OsmtalkReady *ready, int max)
{
	struct kevent events[MAX_READY];
	const struct timespec now = {0, 0};
	int n = kevent(multiplexer, NULL, 0, events, max, &now);

	for (int i = 0; i < n; i++)
	{
		ready[i].socket = (int) events[i].ident;
		ready[i].events = events[i].filter == EVFILT_WRITE ? OSMTALK_SOCKET_WRITE : OSMTALK_SOCKET_READ;
		if (events[i].flags & EV_ERROR)
			ready[i].events = OSMTALK_SOCKET_READ | OSMTALK_SOCKET_WRITE;
	}
	return n;
}

#endif
