/*
 * bound_a.c
 *		Bound A of the benchmark: what libcurl alone can send.
 *
 *		bound_a EVENTS URL SECRET COUNT IN_FLIGHT poll|epoll
 *
 * EVENTS has a line per event: its id, a tab, its body (JSON has neither raw
 * tabs nor raw newlines outside what it escapes).  COUNT of them, from the
 * first again when they run out, are signed and posted to URL with the headers
 * that the worker sends, IN_FLIGHT at a time, over connections kept alive.
 *
 * No database and no scheduler; otherwise what any sender must do: a handle
 * from a pool, a signature, three headers of its own per request.  "poll" is
 * curl_multi_poll(), "epoll" curl_multi_socket_action() with epoll; which is
 * faster depends on the number of sockets, so the benchmark tries both.
 *
 * Prints one JSON object.  Fails if any answer is not 2xx.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct Event
{
	const char *id;
	const char *body;
	size_t body_len;
} Event;

typedef struct Request
{
	CURL *easy;
	struct curl_slist *headers;
} Request;

static Event *events;
static size_t nevents;
static const char *url;
static const char *secret;
static size_t count;
static int in_flight;

static CURLM *multi;
static size_t begun;
static size_t done;
static size_t bad;

/* for "epoll" */
static int epoll_fd;
static long timer_ms = -1;
static struct timespec timer_set;

static void
die(const char *what)
{
	fprintf(stderr, "bound_a: %s\n", what);
	exit(1);
}

static double
seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) (now.tv_sec - then->tv_sec) + (double) (now.tv_nsec - then->tv_nsec) / 1e9;
}

/* ---- the events ---- */

static void
read_events(const char *file)
{
	FILE *f = fopen(file, "r");
	size_t capacity = 0;
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (f == NULL)
		die("cannot open the file of events");
	while ((len = getline(&line, &room, f)) > 0)
	{
		char *tab = strchr(line, '\t');

		if (tab == NULL || line[len - 1] != '\n')
			die("a line of the file of events is not an id, a tab and a body");
		*tab = line[len - 1] = '\0';
		if (nevents == capacity)
		{
			capacity = capacity ? capacity * 2 : 1024;
			events = realloc(events, capacity * sizeof(*events));
			if (events == NULL)
				die("out of memory");
		}
		events[nevents].id = line;
		events[nevents].body = tab + 1;
		events[nevents++].body_len = (size_t) (line + len - 1 - (tab + 1));
		line = NULL; /* kept */
		room = 0;
	}
	fclose(f);
	if (nevents == 0)
		die("no events");
}

/* ---- a request ---- */

static size_t
discard(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n;
}

static Request *
make_request(void)
{
	Request *r = calloc(1, sizeof(*r));

	if (r == NULL || (r->easy = curl_easy_init()) == NULL)
		die("out of memory");
	curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(r->easy, CURLOPT_URL, url);
	curl_easy_setopt(r->easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(r->easy, CURLOPT_PROXY, "");
	curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(r->easy, CURLOPT_USERAGENT, "osmTalk-Webhooks/bound");
	curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, 15000L);
	curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, discard);
	return r;
}

static void
sign(const Event *e, char *header)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	char *p = header + sprintf(header, "X-OsmTalk-Signature: sha256=");

	if (HMAC(EVP_sha256(), secret, (int) strlen(secret), (const unsigned char *) e->body, e->body_len,
			 digest, &len) == NULL)
		die("cannot sign");
	for (unsigned int i = 0; i < len; i++)
	{
		*p++ = hex[digest[i] >> 4];
		*p++ = hex[digest[i] & 0xf];
	}
	*p = '\0';
}

static void
begin(Request *r)
{
	const Event *e = &events[begun++ % nevents];
	char header[512];

	r->headers = curl_slist_append(NULL, "Content-Type: application/json");
	r->headers = curl_slist_append(r->headers, "Expect:");
	snprintf(header, sizeof(header), "X-OsmTalk-Event-Id: %s", e->id);
	r->headers = curl_slist_append(r->headers, header);
	sign(e, header);
	r->headers = curl_slist_append(r->headers, header);
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
	curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) e->body_len);
	curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, e->body);
	if (curl_multi_add_handle(multi, r->easy) != CURLM_OK)
		die("cannot begin a request");
}

static void
collect(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		Request *r;
		long status = 0;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &r);
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (code != CURLE_OK || status < 200 || status > 299)
			bad++;
		curl_multi_remove_handle(multi, easy);
		curl_slist_free_all(r->headers);
		r->headers = NULL;
		done++;
		if (begun < count)
			begin(r);
	}
}

/* ---- the two loops ---- */

static void
run_poll(void)
{
	int running;

	while (done < count)
	{
		if (curl_multi_perform(multi, &running) != CURLM_OK)
			die("curl_multi_perform failed");
		collect();
		if (done < count && curl_multi_poll(multi, NULL, 0, 1000, NULL) != CURLM_OK)
			die("curl_multi_poll failed");
	}
}

static int
socket_callback(CURL *easy, curl_socket_t socket, int what, void *arg, void *known)
{
	struct epoll_event event = {0};

	(void) easy;
	(void) arg;
	event.data.fd = socket;
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		event.events |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		event.events |= EPOLLOUT;
	if (what == CURL_POLL_REMOVE)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, socket, NULL);
	else if (epoll_ctl(epoll_fd, known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event) != 0)
		epoll_ctl(epoll_fd, known != NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event);
	curl_multi_assign(multi, socket, what == CURL_POLL_REMOVE ? NULL : (void *) 1);
	return 0;
}

static int
timer_callback(CURLM *m, long timeout_ms, void *arg)
{
	(void) m;
	(void) arg;
	timer_ms = timeout_ms;
	clock_gettime(CLOCK_MONOTONIC, &timer_set);
	return 0;
}

static void
run_epoll(void)
{
	int running;

	while (done < count)
	{
		struct epoll_event ready[256];
		double left = timer_ms < 0 ? 1000 : (double) timer_ms - seconds_since(&timer_set) * 1000;
		int n = epoll_wait(epoll_fd, ready, 256, left <= 0 ? 0 : (int) left + 1);

		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, ready[i].data.fd,
									 (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? CURL_CSELECT_IN : 0) |
										 (ready[i].events & (EPOLLOUT | EPOLLERR) ? CURL_CSELECT_OUT : 0),
									 &running);
		if (timer_ms >= 0 && seconds_since(&timer_set) * 1000 >= (double) timer_ms)
		{
			timer_ms = -1;
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		collect();
	}
}

int
main(int argc, char **argv)
{
	struct timespec start;
	struct rusage before;
	struct rusage after;
	bool with_epoll;
	double elapsed;
	double cpu;

	if (argc != 7)
		die("usage: bound_a EVENTS URL SECRET COUNT IN_FLIGHT poll|epoll");
	read_events(argv[1]);
	url = argv[2];
	secret = argv[3];
	count = strtoul(argv[4], NULL, 10);
	in_flight = atoi(argv[5]);
	with_epoll = strcmp(argv[6], "epoll") == 0;
	if (count == 0 || in_flight <= 0)
		die("COUNT and IN_FLIGHT must be positive");

	curl_global_init(CURL_GLOBAL_ALL);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	if (with_epoll)
	{
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	}

	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < in_flight && begun < count; i++)
		begin(make_request());
	if (with_epoll)
		run_epoll();
	else
		run_poll();
	elapsed = seconds_since(&start);
	getrusage(RUSAGE_SELF, &after);

	cpu = (double) (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
		(double) (after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
	printf("{\"rate\": %.1f, \"cpu_us\": %.3f, \"bad\": %zu}\n", (double) count / elapsed, cpu * 1e6 / (double) count, bad);
	return bad > 0;
}
