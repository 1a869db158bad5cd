/*
 * sockets.h
 *		Many sockets waited for as one descriptor: epoll or kqueue.
 *
 * Knows nothing of libcurl or PostgreSQL.  The descriptor, one per process,
 * becomes readable when any of the sockets is ready, so that a process can
 * wait for all of them, and other things, in one place.
 */
#ifndef OSMTALK_SOCKETS_H
#define OSMTALK_SOCKETS_H

#include <stdbool.h>
#include <stdint.h>

#define OSMTALK_SOCKET_READ 0x01
#define OSMTALK_SOCKET_WRITE 0x02

typedef struct OsmtalkReady
{
	int socket;
	int events; /* OSMTALK_SOCKET_READ and OSMTALK_SOCKET_WRITE; both on an error */
} OsmtalkReady;

/* The descriptor; -1 and errno if there is none to be had. */
extern int osmtalk_sockets_create(void);

/* Waits for these events of the socket from now on; none: for no event. */
extern bool osmtalk_sockets_set(int socket, int events);

/* Which connection a socket has; and which socket a connection, -1 if that cannot be told. */
extern void osmtalk_sockets_connected(int socket, int local_port, int remote_port);
extern int osmtalk_sockets_of(int local_port, int remote_port);

/* Since the last osmtalk_sockets_set() of the socket; 0 if there was none. */
extern int64_t osmtalk_sockets_idle_ms(int socket);

/*
 * A socket will be waited for again and again, and osmtalk_sockets_closed()
 * is called before it is closed: so the kernel need not be told each time.
 */
extern void osmtalk_sockets_opened(int socket);
extern void osmtalk_sockets_closed(int socket);

/* Up to max sockets that are ready; does not wait. */
extern int osmtalk_sockets_ready(OsmtalkReady *ready, int max);

#endif
