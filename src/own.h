/*
 * own.h
 *		The addresses of the machine that this process runs on.
 *
 * Plain C: knows nothing of PostgreSQL or libcurl.
 */
#ifndef OSMTALK_OWN_H
#define OSMTALK_OWN_H

#include <stdbool.h>
#include <sys/socket.h>

/* Reads them for the first time; false if that fails. */
extern bool osmtalk_own_start(void);

/* Whether one of the interfaces has the address now, or had it a second ago. */
extern bool osmtalk_own_has(const struct sockaddr *addr);

#endif
