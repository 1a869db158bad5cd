/*
 * egress.h
 *		Which address may be called.
 *
 * Plain C: knows nothing of PostgreSQL or libcurl, allocates with malloc.
 */
#ifndef OSMTALK_EGRESS_H
#define OSMTALK_EGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* exported from the preloaded library to the worker's */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

/* a list of networks, one malloc'ed block */
typedef struct OsmtalkNetworks OsmtalkNetworks;

typedef enum OsmtalkEgress
{
	OSMTALK_EGRESS_ALLOWED,
	OSMTALK_EGRESS_NOT_PUBLIC,	/* not a public address, nor in a trusted network */
	OSMTALK_EGRESS_OWN,			/* public, and this machine's own */
	OSMTALK_EGRESS_NEEDS_HTTPS, /* plain http outside the trusted networks */
	OSMTALK_EGRESS_BY_PROXY		/* the egress proxy refuses */
} OsmtalkEgress;

/*
 * Parses networks separated by commas or white space: "10.0.0.0/8, ::1".
 * Bits beyond the prefix are ignored.  The empty list is a list.  Returns
 * NULL, with the offending element in *bad and *bad_len, if one is not an
 * address or network, and with *bad NULL if memory ran out.
 */
extern PGDLLEXPORT OsmtalkNetworks *osmtalk_networks_parse(const char *list, const char **bad, size_t *bad_len);

/* The bytes it takes: it may be copied. */
extern PGDLLEXPORT size_t osmtalk_networks_size(const OsmtalkNetworks *networks);

/* Whether there is none. */
extern PGDLLEXPORT bool osmtalk_networks_are_none(const OsmtalkNetworks *networks);

/*
 * Whether the address (AF_INET or AF_INET6) lies in one of the networks.  An
 * IPv4 address, in its mapped form too, lies in no network of IPv6 but those
 * within ::ffff:0:0/96: to trust ::/0 is not to trust 127.0.0.1.
 */
extern PGDLLEXPORT bool osmtalk_networks_contain(const OsmtalkNetworks *networks, const struct sockaddr *addr);

/* Whether the address is global unicast: reachable, and reached, through the internet. */
extern PGDLLEXPORT bool osmtalk_address_is_public(const struct sockaddr *addr);

/*
 * Whether a request may go to this address, which is or is not this machine's
 * own.  A public one of another machine may be called with https, or with http
 * unless require_https; one in a trusted network with both; every other, and
 * every other family, with neither.
 */
extern PGDLLEXPORT OsmtalkEgress osmtalk_egress_check(const OsmtalkNetworks *trusted, bool is_own, bool require_https,
													  bool is_https, const struct sockaddr *addr);

/* Reads an address as libcurl prints it; false if it is none. */
extern PGDLLEXPORT bool osmtalk_address_parse(const char *text, struct sockaddr_storage *addr);

#endif
