/*
 * sockets.c
 *		Many sockets waited for as one descriptor: epoll or kqueue.
 */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "sockets.h"

#define MAX_READY 256

#if defined(__linux__)

#include <sys/epoll.h>

int
osmtalk_sockets_create(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

bool
osmtalk_sockets_set(int fd, int socket, int was, int events)
{
	struct epoll_event event = {0};
	int op = events == 0 ? EPOLL_CTL_DEL : was == 0 ? EPOLL_CTL_ADD
													: EPOLL_CTL_MOD;

	if (events & OSMTALK_SOCKET_READ)
		event.events |= EPOLLIN;
	if (events & OSMTALK_SOCKET_WRITE)
		event.events |= EPOLLOUT;
	event.data.fd = socket;
	if (epoll_ctl(fd, op, socket, &event) == 0)
		return true;
	/* a descriptor that was closed and opened again is a new one to epoll */
	if (op == EPOLL_CTL_ADD && errno == EEXIST)
		return epoll_ctl(fd, EPOLL_CTL_MOD, socket, &event) == 0;
	if (op == EPOLL_CTL_MOD && errno == ENOENT)
		return epoll_ctl(fd, EPOLL_CTL_ADD, socket, &event) == 0;
	return op == EPOLL_CTL_DEL && (errno == ENOENT || errno == EBADF);
}

int
osmtalk_sockets_ready(int fd, OsmtalkReady *ready, int max)
{
	struct epoll_event events[MAX_READY];
	int n = epoll_wait(fd, events, max < MAX_READY ? max : MAX_READY, 0);

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

int
osmtalk_sockets_create(void)
{
	return kqueue();
}

bool
osmtalk_sockets_set(int fd, int socket, int was, int events)
{
	struct kevent changes[2];
	int n = 0;
	int added = events & ~was;
	int removed = was & ~events;

	if ((added | removed) & OSMTALK_SOCKET_READ)
		EV_SET(&changes[n++], socket, EVFILT_READ, (added & OSMTALK_SOCKET_READ) ? EV_ADD : EV_DELETE, 0, 0, NULL);
	if ((added | removed) & OSMTALK_SOCKET_WRITE)
		EV_SET(&changes[n++], socket, EVFILT_WRITE, (added & OSMTALK_SOCKET_WRITE) ? EV_ADD : EV_DELETE, 0, 0, NULL);
	return n == 0 || kevent(fd, changes, n, NULL, 0, NULL) == 0;
}

int
osmtalk_sockets_ready(int fd, OsmtalkReady *ready, int max)
{
	struct kevent events[MAX_READY];
	const struct timespec now = {0, 0};
	int n = kevent(fd, NULL, 0, events, max < MAX_READY ? max : MAX_READY, &now);

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
