/*
 * settings.c
 *		Every setting of osmtalk: its unit, its bounds and its check.
 *
 * All are the operator's (PGC_SIGHUP): what may be called, and how, is not
 * for a session to change.  The running worker honours each at a reload.
 */
#include "postgres.h"

#include <limits.h>

#include "fault.h"
#include "fmgr.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "url.h"

PG_FUNCTION_INFO_V1(osmtalk_analysis_timeout_interval);
PG_FUNCTION_INFO_V1(osmtalk_call_timeout_interval);
PG_FUNCTION_INFO_V1(osmtalk_retention_interval);
PG_FUNCTION_INFO_V1(osmtalk_failed_retention_interval);

bool osmtalk_enabled = true;
int osmtalk_request_timeout = 15000;
int osmtalk_max_in_flight = 256;
int osmtalk_max_in_flight_per_endpoint = 32;
int osmtalk_workers = 1;
int osmtalk_poll_interval = 1000;
int osmtalk_analysis_timeout = 5 * 60 * 1000;
int osmtalk_call_timeout = 4 * 60 * 60 * 1000;
int osmtalk_retention = 30 * SECS_PER_DAY;
int osmtalk_failed_retention = 90 * SECS_PER_DAY;
int osmtalk_max_payload = 256 * 1024;
bool osmtalk_require_https = true;
bool osmtalk_standard_webhooks_headers = false;
char *osmtalk_ca_file = NULL;
char *osmtalk_org_id = NULL;
char *osmtalk_proxy = NULL;
const OsmtalkNetworks *osmtalk_trusted_networks = NULL;
#ifdef OSMTALK_FAULTS
char *osmtalk_fault_event = NULL;
char *osmtalk_fault_panic = NULL;
char *osmtalk_fault_statement = NULL;
int osmtalk_fault_step = 0;
#endif

static char *trusted_networks_string = NULL;

/*
 * The parsed list travels as the setting's "extra", which guc.c frees: with
 * free() before PostgreSQL 16, with guc_free() since.
 */
static bool
check_trusted_networks(char **newval, void **extra, GucSource source)
{
	const char *bad;
	size_t bad_len;
	OsmtalkNetworks *networks = osmtalk_networks_parse(*newval, &bad, &bad_len);

	if (networks == NULL)
	{
		if (bad != NULL)
			GUC_check_errdetail("\"%.*s\" is not an address or network such as 10.1.0.0/16 or fd00::/8.",
								(int) bad_len, bad);
		else
			GUC_check_errcode(ERRCODE_OUT_OF_MEMORY);
		return false;
	}
#if PG_VERSION_NUM >= 160000
	*extra = guc_malloc(LOG, osmtalk_networks_size(networks));
	if (*extra != NULL)
		memcpy(*extra, networks, osmtalk_networks_size(networks));
	free(networks);
#else
	*extra = networks;
#endif
	return *extra != NULL;
}

static void
assign_trusted_networks(const char *newval, void *extra)
{
	osmtalk_trusted_networks = extra;
}

/* One that is refused is not repeated: it may hold a password. */
static bool
check_proxy(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || osmtalk_url_is_proxy(*newval, strlen(*newval)))
		return true;
	GUC_check_errmsg("invalid value for parameter \"osmtalk.proxy\"");
	GUC_check_errdetail("A proxy is http://host:port, without user, password and path.");
	return false;
}

void
osmtalk_define_settings(void)
{
	DefineCustomBoolVariable("osmtalk.enabled",
							 "Sends events; when off, they queue.",
							 NULL,
							 &osmtalk_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.request_timeout",
							"How long a whole request may take.",
							NULL,
							&osmtalk_request_timeout, 15000, 1, 10 * 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.max_in_flight",
							"How many requests a database's workers make at once.",
							NULL,
							&osmtalk_max_in_flight, 256, 1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.max_in_flight_per_endpoint",
							"How many requests are made at once to one endpoint.",
							NULL,
							&osmtalk_max_in_flight_per_endpoint, 32, 1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.workers",
							"How many processes deliver a database's events.",
							"Endpoints are divided among them.",
							&osmtalk_workers, 1, 1, OSMTALK_MOST_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.poll_interval",
							"The longest an event waits when a wake-up is lost.",
							NULL,
							&osmtalk_poll_interval, 1000, 10, 60 * 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.analysis_timeout",
							"How long after its end a completed call waits for its analysis.",
							NULL,
							&osmtalk_analysis_timeout, 5 * 60 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.call_timeout",
							"How long after it was placed a call that has not ended is ended.",
							"0 turns it off.",
							&osmtalk_call_timeout, 4 * 60 * 60 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.retention",
							"How long an event is kept after its delivery, at the least.",
							"0 keeps all for ever.",
							&osmtalk_retention, 30 * SECS_PER_DAY, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.failed_retention",
							"How long an event is kept after it failed, at the least.",
							"0 keeps these for ever; not less than osmtalk.retention.",
							&osmtalk_failed_retention, 90 * SECS_PER_DAY, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.max_payload",
							"The most bytes that a body may have.",
							"Of one that would be larger the largest values are set to null.",
							&osmtalk_max_payload, 256 * 1024, 1024, 64 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomBoolVariable("osmtalk.require_https",
							 "Plain http is spoken only inside osmtalk.trusted_networks.",
							 NULL,
							 &osmtalk_require_https, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("osmtalk.standard_webhooks_headers",
							 "Signs requests as Standard Webhooks does, too.",
							 "With webhook-id, webhook-timestamp and webhook-signature, where the secret has its form.",
							 &osmtalk_standard_webhooks_headers, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("osmtalk.trusted_networks",
							   "Non-public addresses that may be called, a list of networks in CIDR notation.",
							   NULL,
							   &trusted_networks_string, "",
							   PGC_SIGHUP, 0,
							   check_trusted_networks, assign_trusted_networks, NULL);
	DefineCustomStringVariable("osmtalk.ca_file",
							   "File of the certificate authorities to trust instead of the system's.",
							   NULL,
							   &osmtalk_ca_file, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("osmtalk.org_id",
							   "The organisation whose rows the session sees, where tenants are isolated.",
							   "See osmtalk.enable_tenant_isolation().",
							   &osmtalk_org_id, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("osmtalk.proxy",
							   "The proxy through which all requests go, http://host:port.",
							   "It decides which addresses may be called.",
							   &osmtalk_proxy, "",
							   PGC_SIGHUP, 0, check_proxy, NULL, NULL);
#ifdef OSMTALK_FAULTS
	DefineCustomStringVariable("osmtalk.fault_event",
							   "The id of an event at which the worker dies.",
							   NULL,
							   &osmtalk_fault_event, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("osmtalk.fault_panic",
							   "The id of an event at which the worker finds that the server cannot go on.",
							   NULL,
							   &osmtalk_fault_panic, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("osmtalk.fault_statement",
							   "A part of the worker's statements that fail.",
							   NULL,
							   &osmtalk_fault_statement, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("osmtalk.fault_step",
							"Which step inside the application's statement fails.",
							NULL,
							&osmtalk_fault_step, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	osmtalk_fault_watch_functions();
#endif

	MarkGUCPrefixReserved("osmtalk");
}

static Datum
interval_of(int64 microseconds)
{
	Interval *result = palloc0(sizeof(Interval));

	result->time = microseconds;
	return IntervalPGetDatum(result);
}

Datum
osmtalk_analysis_timeout_interval(PG_FUNCTION_ARGS)
{
	return interval_of((int64) osmtalk_analysis_timeout * 1000);
}

/* null when the time-out is off: no call is older than that */
Datum
osmtalk_call_timeout_interval(PG_FUNCTION_ARGS)
{
	if (osmtalk_call_timeout == 0)
		PG_RETURN_NULL();
	return interval_of((int64) osmtalk_call_timeout * 1000);
}

/* null when nothing is too old */
Datum
osmtalk_retention_interval(PG_FUNCTION_ARGS)
{
	if (osmtalk_retention == 0)
		PG_RETURN_NULL();
	return interval_of(osmtalk_retention * USECS_PER_SEC);
}

/* a failed event is kept no shorter than a delivered one */
Datum
osmtalk_failed_retention_interval(PG_FUNCTION_ARGS)
{
	if (osmtalk_retention == 0 || osmtalk_failed_retention == 0)
		PG_RETURN_NULL();
	return interval_of(Max(osmtalk_retention, osmtalk_failed_retention) * USECS_PER_SEC);
}
