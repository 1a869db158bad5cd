/*
 * http.c
 *		Many requests at once, in one event loop.
 *
 * libcurl says which sockets it waits for and for how long; the sockets go
 * into one descriptor (sockets.c), so that the worker waits for it, its latch
 * and the postmaster in one place, however many requests hang.
 *
 * libcurl allocates with malloc and may start a thread to resolve a name.
 * Threads must never run PostgreSQL's signal handlers: all signals are
 * blocked while libcurl works, and a new thread inherits that.
 */
#include "postgres.h"

#include <curl/curl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <openssl/crypto.h>
#include <signal.h>

#include "http.h"
#include "own.h"
#include "request.h"
#include "resolver.h"
#include "settings.h"
#include "sockets.h"
#include "utils/timestamp.h"

#define STARVED_PAUSE_MS 100

/* an easy handle and what one request hangs on it */
typedef struct Request
{
	CURL *easy;
	struct curl_slist *headers;
} Request;

static CURLM *multi = NULL;
static instr_time timer; /* when libcurl wants to be called */
static bool timer_set = false;
static CURL *pattern = NULL;		 /* what requests have in common by the present settings, once one was made */
static CURLMcode failure = CURLM_OK; /* above that: of libcurl as a whole */
static dlist_head finished = DLIST_STATIC_INIT(finished);

/* requests that are to begin */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);

/* and those that found no free descriptor, to be begun again, or claimed again */
static dlist_head starved = DLIST_STATIC_INIT(starved);
static instr_time starved_since;
static dlist_head outdated = DLIST_STATIC_INIT(outdated);

static int
socket_callback(CURL *easy, curl_socket_t socket, int what, void *arg, void *socket_arg)
{
	int events = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= OSMTALK_SOCKET_READ;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= OSMTALK_SOCKET_WRITE;
	/*
	 * Should the kernel refuse, the request runs into its time-out; an error
	 * returned here would make libcurl give up all of them.
	 */
	(void) osmtalk_sockets_set(socket, events);
	return 0;
}

static int
timer_callback(CURLM *m, long timeout_ms, void *arg)
{
	timer_set = timeout_ms >= 0;
	if (timer_set)
	{
		instr_time now;

		INSTR_TIME_SET_CURRENT(now);
#if PG_VERSION_NUM >= 160000
		timer.ticks = now.ticks + timeout_ms * NS_PER_MS;
#else
		timer.tv_sec = now.tv_sec + timeout_ms / 1000;
		timer.tv_nsec = now.tv_nsec + (timeout_ms % 1000) * 1000000;
		if (timer.tv_nsec >= 1000000000)
		{
			timer.tv_sec++;
			timer.tv_nsec -= 1000000000;
		}
#endif
	}
	return 0;
}

static void
block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	/* a crash is to be noticed, and these are the crashing thread's own */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	(void) sigprocmask(SIG_SETMASK, &all, before);
}

static void
restore_signals(const sigset_t *before)
{
	(void) sigprocmask(SIG_SETMASK, before, NULL);
}

/*
 * A handle for each request is some large blocks and many small ones, which are
 * freed together: glibc would merge all that is free each time, and give the
 * end of it back to the system.
 */
static void
set_up_malloc(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MXFAST, 0);
	(void) mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
#endif
}

int
osmtalk_http_start(void)
{
	int sockets_fd;

	set_up_malloc();
	/* libcurl would write the keys of connections to it */
	(void) unsetenv("SSLKEYLOGFILE");
	if (!osmtalk_own_start())
		ereport(ERROR,
				errcode(ERRCODE_SYSTEM_ERROR),
				errmsg("could not list the machine's own addresses: %m"));
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK || (multi = curl_multi_init()) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("could not initialize libcurl"));
	sockets_fd = osmtalk_sockets_create();
	if (sockets_fd < 0)
		ereport(ERROR,
				errcode(ERRCODE_SYSTEM_ERROR),
				errmsg("could not create a descriptor to wait for sockets: %m"));

	(void) curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	(void) curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	(void) curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	osmtalk_resolver_start(multi, osmtalk_most_requests());
	osmtalk_http_reload();
	return sockets_fd;
}

void
osmtalk_http_reload(void)
{
	if (pattern != NULL)
		curl_easy_cleanup(pattern);
	pattern = NULL;
	/* idle ones are kept, and the oldest of them make room for new ones */
	(void) curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) osmtalk_most_requests());
	(void) curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) osmtalk_most_requests());
}

/* Not curl_version(): that starts libraries, which does not always survive that memory runs out. */
const char *
osmtalk_http_library(void)
{
	static char library[64];
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);

	snprintf(library, sizeof(library), "libcurl/%s %s", info->version, info->ssl_version ? info->ssl_version : "without TLS");
	return library;
}

int
osmtalk_http_capacity(void)
{
	return Min(osmtalk_max_in_flight, osmtalk_most_requests());
}

/*
 * Each request has a handle of its own.  libcurl before 8.3 keeps a pointer to
 * a header of the last answer that a handle saw, which is no more, and follows
 * it when the next answer begins with a header that begins with a space.
 */
static Request *
make_request(void)
{
	Request *request;

	if (pattern == NULL && (pattern = osmtalk_request_create()) == NULL)
		return NULL;
	request = calloc(1, sizeof(*request));
	if (request == NULL)
		return NULL;
	request->easy = curl_easy_duphandle(pattern);
	if (request->easy == NULL)
	{
		free(request);
		return NULL;
	}
	return request;
}

static void
free_request(Request *request)
{
	/* they may hold a token */
	for (struct curl_slist *header = request->headers; header != NULL; header = header->next)
		OPENSSL_cleanse(header->data, strlen(header->data));
	curl_slist_free_all(request->headers);
	curl_easy_cleanup(request->easy);
	free(request);
}

static void
finish(OsmtalkDelivery *d)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, d->begun);
	/* how long it took to find out that a target is refused is nobody's business */
	d->duration_ms = d->refusal != 0 ? 0 : INSTR_TIME_GET_MILLISEC(now);
	if (d->request != NULL)
		free_request(d->request);
	d->request = NULL;
	dlist_push_tail(&finished, &d->node);
}

void
osmtalk_http_send(OsmtalkDelivery *d)
{
	d->started_at = GetCurrentTimestamp();
	INSTR_TIME_SET_CURRENT(d->begun);
	dlist_push_tail(&waiting, &d->node);
}

/* With signals blocked. */
static void
begin(OsmtalkDelivery *d)
{
	Request *request;

	d->permanent = d->body == NULL || d->url == NULL || d->unsignable;
	if (d->body == NULL)
		strlcpy(d->error, "not sent: the event was removed", sizeof(d->error));
	else if (d->url == NULL)
		strlcpy(d->error, "not sent: there is no webhook URL any more", sizeof(d->error));
	else if (d->unsignable)
		snprintf(d->error, sizeof(d->error), "not sent: the webhook secret is longer than %d bytes", OSMTALK_LONGEST_SECRET);
	else if (d->bad_headers)
		strlcpy(d->error, "not sent: the webhook headers are not valid", sizeof(d->error));
	else if ((d->request = request = make_request()) == NULL)
		strlcpy(d->error, "the request could not be prepared", sizeof(d->error));
	else if (osmtalk_request_prepare(request->easy, d, &request->headers))
	{
		if (curl_multi_add_handle(multi, request->easy) == CURLM_OK)
			return;
		strlcpy(d->error, "the request could not be started", sizeof(d->error));
	}
	finish(d);
}

/* Milliseconds until libcurl wants to be called, not above 0 when that is now. */
static double
timer_left(void)
{
	instr_time now;
	instr_time left = timer;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(left, now);
	return INSTR_TIME_GET_MILLISEC(left);
}

/* Milliseconds until starved requests are begun again. */
static double
starved_left(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, starved_since);
	return STARVED_PAUSE_MS - INSTR_TIME_GET_MILLISEC(now);
}

long
osmtalk_http_timeout(void)
{
	double left;

	if (!timer_set && dlist_is_empty(&starved))
		return -1;
	left = timer_set ? timer_left() : STARVED_PAUSE_MS;
	if (!dlist_is_empty(&starved))
		left = Min(left, starved_left());
	/* rounded up: to come too early is to come twice */
	return left <= 0 ? 0 : (long) left + 1;
}

/*
 * The request could not begin for want of a descriptor, or because too many
 * threads look up names: that is this process's
 * business and no failure of the event.
 */
static void
starve(OsmtalkDelivery *d)
{
	free_request(d->request);
	d->request = NULL;
	d->starved = d->posted = false;
	INSTR_TIME_SET_CURRENT(starved_since);
	dlist_push_tail(&starved, &d->node);
}

/* Begins one again, of which nothing was sent, on a new connection.  With signals blocked. */
static void
connect_anew(OsmtalkDelivery *d)
{
	free_request(d->request);
	d->request = NULL;
	d->fresh = true;
	begin(d);
}

/*
 * Begins starved requests again, a little later; not those whose URL and
 * secret may have changed meanwhile, which are to be claimed again.
 */
static void
feed(void)
{
	TimestampTz oldest;

	if (dlist_is_empty(&starved) || starved_left() > 0)
		return;
	oldest = GetCurrentTimestamp() - OSMTALK_STALE_MS * INT64CONST(1000);
	while (!dlist_is_empty(&starved))
	{
		OsmtalkDelivery *d = dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&starved));

		if (d->claimed_at < oldest)
			dlist_push_tail(&outdated, &d->node);
		else
			osmtalk_http_send(d);
	}
}

void
osmtalk_http_give_up_starved(void)
{
	while (!dlist_is_empty(&starved))
		dlist_push_tail(&outdated, dlist_pop_head_node(&starved));
}

/*
 * Has libcurl do what there is to do for a socket.  Should it fail, for want of
 * memory, it is not called again for any: 7.88 leaves a hash table without
 * slots behind, by whose number it divides when it adds to it.
 */
static void
act(curl_socket_t socket, int events)
{
	int running;

	if (failure <= CURLM_OK)
		failure = curl_multi_socket_action(multi, socket, events, &running);
}

int
osmtalk_http_work(void)
{
	OsmtalkReady ready[256];
	sigset_t before;
	CURLMsg *message;
	int left;
	int n;

	if (failure > CURLM_OK)
		return 0;
	block_signals(&before);
	feed();
	while (!dlist_is_empty(&waiting))
		begin(dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&waiting)));
	n = osmtalk_sockets_ready(ready, lengthof(ready));
	for (int i = 0; i < n; i++)
	{
		int events = 0;

		if (ready[i].events & OSMTALK_SOCKET_READ)
			events |= CURL_CSELECT_IN;
		if (ready[i].events & OSMTALK_SOCKET_WRITE)
			events |= CURL_CSELECT_OUT;
		act(ready[i].socket, events);
	}
	if (timer_set && timer_left() <= 0)
	{
		timer_set = false;
		act(CURL_SOCKET_TIMEOUT, 0);
		n = Max(n, 1);
	}

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		char *d;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, &d);
		(void) curl_multi_remove_handle(multi, easy);
		osmtalk_request_over((OsmtalkDelivery *) d, code);
		if (code != CURLE_OK && ((OsmtalkDelivery *) d)->starved)
		{
			starve((OsmtalkDelivery *) d);
			continue;
		}
		if (code != CURLE_OK && ((OsmtalkDelivery *) d)->stale)
		{
			connect_anew((OsmtalkDelivery *) d);
			continue;
		}
		osmtalk_request_finish(easy, (OsmtalkDelivery *) d, code);
		finish((OsmtalkDelivery *) d);
	}
	restore_signals(&before);
	if (failure > CURLM_OK)
		ereport(FATAL,
				errmsg("osmtalk: libcurl cannot go on: %s", curl_multi_strerror(failure)),
				errdetail("The next worker makes the requests in flight again."));
	return n;
}

OsmtalkDelivery *
osmtalk_http_finished(void)
{
	if (dlist_is_empty(&finished))
		return NULL;
	return dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&finished));
}

OsmtalkDelivery *
osmtalk_http_outdated(void)
{
	if (dlist_is_empty(&outdated))
		return NULL;
	return dlist_container(OsmtalkDelivery, node, dlist_pop_head_node(&outdated));
}
