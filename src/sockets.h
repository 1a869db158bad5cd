/*
 * sockets.h
 *		Many sockets waited for as one descriptor: epoll or kqueue.
 *
 * Knows nothing of libcurl or PostgreSQL.  A descriptor made here becomes
 * readable when any of its sockets is ready, so that a process can wait for
 * all of them, and other things, in one place.
 */
#ifndef OSMTALK_SOCKETS_H
#define OSMTALK_SOCKETS_H

#include <stdbool.h>

#define OSMTALK_SOCKET_READ 0x01
#define OSMTALK_SOCKET_WRITE 0x02

typedef struct OsmtalkReady
{
	int socket;
	int events; /* OSMTALK_SOCKET_READ and OSMTALK_SOCKET_WRITE; both on an error */
} OsmtalkReady;

/* -1 and errno if there is none to be had */
extern int osmtalk_sockets_create(void);

/* Waits for these events of the socket from now on; none: for no event.  was: what it was so far. */
extern bool osmtalk_sockets_set(int fd, int socket, int was, int events);

/* Up to max sockets that are ready; does not wait. */
extern int osmtalk_sockets_ready(int fd, OsmtalkReady *ready, int max);

#endif
