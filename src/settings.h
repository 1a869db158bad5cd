/*
 * settings.h
 *		The settings osmtalk.*, as the server has parsed them.
 */
#ifndef OSMTALK_SETTINGS_H
#define OSMTALK_SETTINGS_H

#include "postgres.h"

#include "egress.h"

/* osmtalk.workers is at most this */
#define OSMTALK_MOST_WORKERS 64

/* times are in milliseconds, retentions in seconds, sizes in bytes; all of them follow a reload */
extern PGDLLEXPORT bool osmtalk_enabled;
extern PGDLLEXPORT int osmtalk_request_timeout;
extern PGDLLEXPORT int osmtalk_max_in_flight;
extern PGDLLEXPORT int osmtalk_max_in_flight_per_endpoint;
extern PGDLLEXPORT int osmtalk_workers;
extern PGDLLEXPORT int osmtalk_poll_interval;
extern PGDLLEXPORT int osmtalk_analysis_timeout;
extern PGDLLEXPORT int osmtalk_call_timeout;
extern PGDLLEXPORT int osmtalk_retention;
extern PGDLLEXPORT int osmtalk_failed_retention;
extern PGDLLEXPORT int osmtalk_max_payload;
extern PGDLLEXPORT bool osmtalk_require_https;
extern PGDLLEXPORT bool osmtalk_standard_webhooks_headers;
extern PGDLLEXPORT char *osmtalk_ca_file;
extern PGDLLEXPORT char *osmtalk_proxy; /* "" for none */

/* the session's own: whose rows it sees, see tenant.c; "" for nobody's */
extern PGDLLEXPORT char *osmtalk_org_id;

/* osmtalk.trusted_networks, parsed; never NULL once settings are defined */
extern PGDLLEXPORT const OsmtalkNetworks *osmtalk_trusted_networks;

#ifdef OSMTALK_FAULTS
/* for tests, see fault.h; "" and 0 for none */
extern PGDLLEXPORT char *osmtalk_fault_event;
extern PGDLLEXPORT char *osmtalk_fault_panic;
extern PGDLLEXPORT char *osmtalk_fault_statement;
extern PGDLLEXPORT int osmtalk_fault_step;
#endif

extern void osmtalk_define_settings(void);

#endif
