/*
 * request.c
 *		One HTTP request: how it is made, and what is read of its answer.
 *
 * What is made of it stands in result.c.
 *
 * libcurl's callbacks run in the middle of its own work: they note what they
 * saw in the delivery and return, and never throw (the model is PostgreSQL
 * 18's oauth-curl.c).
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#ifdef __linux__
#include <linux/tcp.h>
#endif
#include <openssl/crypto.h>
#include <sys/socket.h>
#include <unistd.h>

#include "compose.h"
#include "egress.h"
#include "own.h"
#include "request.h"
#include "resolver.h"
#include "settings.h"
#include "sockets.h"
#include "storage/fd.h"
#include "target.h"
#include "utils/timestamp.h"

#define MOST_HEADERS (64 * 1024)

/*
 * What is neither header nor body of an answer (chunk extensions, records of
 * TLS) comes to no callback and may be without end: so much comes on the
 * connection at most, from some turns of libcurl's on: an ordinary answer is
 * over before anybody counts.
 */
#define MOST_RECEIVED (512 * 1024)
#define FEW_TURNS 8

/* libcurl fills it up to a hundred times in one turn, during which others wait */
#define BUFFER_SIZE 4096

/*
 * A connection that has been idle for longer than this is not used again.  A
 * server closes it sooner or later, and a request that meets that moment fails:
 * nobody can tell whether it was read.  libcurl itself counts in seconds, and
 * is told to forget those that are of no use any more.
 */
#define MAX_IDLE_MS 400
#define MAX_IDLE_S 1
#define MAX_LIFETIME_S 600
#define CA_CACHE_S 60

/*
 * How long an answer of the resolver is kept, which knows itself how long it
 * is good for.  libcurl goes through all that it keeps at each request's end.
 */
#define DNS_CACHE_S 1

static size_t
write_callback(char *data, size_t size, size_t count, void *arg)
{
	OsmtalkDelivery *d = arg;
	size_t len = size * count;

	if (d->response_len < OSMTALK_RESPONSE_LEN)
	{
		size_t keep = Min(len, OSMTALK_RESPONSE_LEN - d->response_len);

		memcpy(d->response + d->response_len, data, keep);
		d->response_len += keep;
	}
	d->body_bytes += len;
	return d->body_bytes > OSMTALK_MOST_RESPONSE ? 0 : len;
}

/* Called with a line at a time. */
static size_t
header_callback(char *data, size_t size, size_t count, void *arg)
{
	OsmtalkDelivery *d = arg;

	d->header_bytes += size * count;
	d->head = osmtalk_head_line(d->head, data, size * count);
	return d->header_bytes > MOST_HEADERS || d->head == OSMTALK_HEAD_NO_STATUS_LINE ? 0 : size * count;
}

/* Bytes received on the connection in all; 0 where that cannot be told. */
static uint64
received_on(int fd)
{
#ifdef __linux__
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
		len >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received))
		return info.tcpi_bytes_received;
#endif
	return 0;
}

/* Called at each of libcurl's turns for a request. */
static int
progress_callback(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
	OsmtalkDelivery *d = arg;

	if (d->fd < 0 || ++d->turns < FEW_TURNS)
		return 0;
	if (d->turns == FEW_TURNS)
		d->received = received_on(d->fd);
	else
		d->flooded = received_on(d->fd) > d->received + MOST_RECEIVED;
	return d->flooded;
}

static bool
may_connect(OsmtalkDelivery *d, const struct sockaddr *addr)
{
	const void *bytes = &((const struct sockaddr_in *) addr)->sin_addr;

	/* the address is the proxy's; to judge those of targets is its business */
	if (d->proxied)
		d->refusal = osmtalk_require_https && !d->https ? OSMTALK_EGRESS_NEEDS_HTTPS : OSMTALK_EGRESS_ALLOWED;
	else
		d->refusal = osmtalk_egress_check(osmtalk_trusted_networks, osmtalk_own_has(addr),
										  osmtalk_require_https, d->https, addr);
	if (addr->sa_family == AF_INET6)
		bytes = &((const struct sockaddr_in6 *) addr)->sin6_addr;
	if (d->refusal != OSMTALK_EGRESS_ALLOWED &&
		(d->proxied || inet_ntop(addr->sa_family, bytes, d->refused, sizeof(d->refused)) == NULL))
		strlcpy(d->refused, "of the target", sizeof(d->refused));
	return d->refusal == OSMTALK_EGRESS_ALLOWED;
}

/* Asked before a name is looked up. */
static int
resolver_callback(void *resolver, void *reserved, void *arg)
{
	OsmtalkDelivery *d = arg;

	d->starved = !d->proven && osmtalk_resolver_is_busy();
	if (!d->starved && !d->looks_up)
	{
		osmtalk_resolver_begun();
		d->looks_up = true;
	}
	return d->starved;
}

static void
end_lookup(OsmtalkDelivery *d, bool goes_on)
{
	if (d->looks_up)
		osmtalk_resolver_ended(goes_on);
	d->looks_up = false;
}

void
osmtalk_request_over(OsmtalkDelivery *d, CURLcode code)
{
	end_lookup(d, code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_RESOLVE_PROXY);
}

/* Asked for each address that a name resolves to, before it is connected to. */
static curl_socket_t
opensocket_callback(void *arg, curlsocktype purpose, struct curl_sockaddr *addr)
{
	OsmtalkDelivery *d = arg;
	int fd = -1;

	end_lookup(d, false);
	if (purpose != CURLSOCKTYPE_IPCXN || !may_connect(d, &addr->addr))
		return CURL_SOCKET_BAD;
	/* counted by fd.c, so that it closes files of its own in time */
	if (AcquireExternalFD())
	{
		fd = socket(addr->family, addr->socktype, addr->protocol);
		if (fd < 0)
			ReleaseExternalFD();
	}
	if (fd < 0)
	{
		d->starved = errno == EMFILE || errno == ENFILE;
		return CURL_SOCKET_BAD;
	}
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
	osmtalk_sockets_opened(fd);
	d->opened[d->nopened++ % OSMTALK_MOST_OPENED] = fd;
	return fd;
}

static int
closesocket_callback(void *arg, curl_socket_t fd)
{
	ReleaseExternalFD();
	osmtalk_sockets_closed(fd);
	return close(fd);
}

/*
 * The socket that the request is about to be sent on, -1 if it cannot be told.
 * libcurl names a connection by its ports alone at that moment.
 */
static int
socket_of(OsmtalkDelivery *d, int local_port, int remote_port)
{
	for (int i = 0; i < Min(d->nopened, OSMTALK_MOST_OPENED); i++)
	{
		struct sockaddr_storage addr;
		socklen_t len = sizeof(addr);

		/* the port stands at the same place in both families */
		if (getsockname(d->opened[i], (struct sockaddr *) &addr, &len) == 0 &&
			ntohs(((struct sockaddr_in *) &addr)->sin_port) == local_port)
		{
			osmtalk_sockets_connected(d->opened[i], local_port, remote_port);
			return d->opened[i];
		}
	}
	return osmtalk_sockets_of(local_port, remote_port);
}

/*
 * Whether the connection is still open: nothing may be readable on an idle one
 * but its end.  Session tickets that TLS leaves unread look the same; they cost
 * the certainty alone.
 */
static bool
is_open(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/*
 * Asked before each request, on a connection used again too: settings may have
 * changed since, so that it is not allowed any more, and it must not have been
 * idle for long; if so, a new one is made, of which may be judged anew.  Asked a second time
 * when libcurl, by itself, would repeat a request that got no byte of an answer
 * on a connection used again.  That is right if the receiver had closed it
 * before; otherwise it may have acted on the request, and no event is sent twice
 * unasked.
 */
static int
prereq_callback(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	OsmtalkDelivery *d = arg;
	struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
	bool used_again = d->nopened == 0 && !d->fresh;
	int fd;

	if (d->posted)
		return CURL_PREREQFUNC_ABORT;
	/* what is no address is judged, too */
	(void) osmtalk_address_parse(remote_ip, &addr);
	if (!may_connect(d, (struct sockaddr *) &addr))
	{
		d->stale = used_again;
		return CURL_PREREQFUNC_ABORT;
	}
	fd = socket_of(d, local_port, remote_port);
	if (used_again && (fd < 0 || osmtalk_sockets_idle_ms(fd) > MAX_IDLE_MS))
	{
		d->stale = true;
		return CURL_PREREQFUNC_ABORT;
	}
	d->posted = fd < 0 || is_open(fd);
	d->fd = fd;
	return CURL_PREREQFUNC_OK;
}

CURL *
osmtalk_request_create(void)
{
	CURL *easy = curl_easy_init();
	bool ok = easy != NULL;

#define SET(option, value) ok = ok && curl_easy_setopt(easy, option, value) == CURLE_OK

	/* what may be spoken, and to whom */
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_OPENSOCKETFUNCTION, opensocket_callback);
	SET(CURLOPT_CLOSESOCKETFUNCTION, closesocket_callback);
	SET(CURLOPT_PREREQFUNCTION, prereq_callback);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_RESOLVER_START_FUNCTION, resolver_callback);

	/* nothing ambient */
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);

	/* a proxy is asked for a connection, and learns nothing of what is said on it but how much */
	SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);

	/* TLS */
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (osmtalk_ca_file != NULL && osmtalk_ca_file[0] != '\0')
	{
		SET(CURLOPT_CAINFO, osmtalk_ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}

#if LIBCURL_VERSION_NUM >= 0x075700
	/* read the authorities again after a while: the file may have changed under its name */
	SET(CURLOPT_CA_CACHE_TIMEOUT, (long) CA_CACHE_S);
#endif

	/* signals are PostgreSQL's; what is left of a resolver thread is not waited for */
	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif

	SET(CURLOPT_DNS_CACHE_TIMEOUT, (long) DNS_CACHE_S);
	SET(CURLOPT_MAXAGE_CONN, (long) MAX_IDLE_S);
#if LIBCURL_VERSION_NUM >= 0x075000
	SET(CURLOPT_MAXLIFETIME_CONN, (long) MAX_LIFETIME_S);
#endif

	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_USERAGENT, OSMTALK_USER_AGENT);
	SET(CURLOPT_WRITEFUNCTION, write_callback);
	SET(CURLOPT_HEADERFUNCTION, header_callback);
	SET(CURLOPT_XFERINFOFUNCTION, progress_callback);
	SET(CURLOPT_NOPROGRESS, 0L);
	SET(CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE);

	if (!ok && easy != NULL)
	{
		curl_easy_cleanup(easy);
		return NULL;
	}
	return easy;
}

/* The argument is the list. */
static bool
add_header(void *arg, const char *header)
{
	struct curl_slist **headers = arg;
	struct curl_slist *longer = curl_slist_append(*headers, header);

	if (longer == NULL)
		return false;
	*headers = longer;
	return true;
}

/* Signs it, once: the request may have to be prepared again, and the secrets are wiped meanwhile. */
static bool
sign(const OsmtalkMessage *message, OsmtalkDelivery *d)
{
	if (!osmtalk_sign_message(message, &d->signatures))
	{
		d->unsignable = true;
		return false;
	}
	d->is_signed = true;
	if (d->secret != NULL)
		OPENSSL_cleanse(d->secret, strlen(d->secret));
	for (int i = 0; i < d->nprevious; i++)
		OPENSSL_cleanse(d->previous[i], strlen(d->previous[i]));
	return true;
}

bool
osmtalk_request_prepare(CURL *easy, OsmtalkDelivery *d, struct curl_slist **headers)
{
	OsmtalkTarget target = osmtalk_target_read(d->url);
	OsmtalkMessage message = {
		.event_id = d->event_id,
		.body = d->body,
		.body_len = d->body_len,
		.custom = d->headers,
		.secret = d->secret,
		.nprevious = d->nprevious,
		.standard = d->standard,
		.timestamp = timestamptz_to_time_t(d->started_at)};
	bool ok;

	*headers = NULL;
	d->easy = easy;
	d->nopened = 0;
	d->fd = -1;
	d->turns = 0;
	d->flooded = false;
	d->stale = false;
	d->head = OSMTALK_HEAD_AWAITED;
	d->refusal = OSMTALK_EGRESS_ALLOWED;
	d->https = target == OSMTALK_TARGET_HTTPS;
	d->proxied = osmtalk_proxy[0] != '\0';
	if (target == OSMTALK_TARGET_NONE)
	{
		d->permanent = true;
		strlcpy(d->error, "not sent: the webhook URL is not valid", sizeof(d->error));
		return false;
	}

	/* an application may supply its own ids: one that is no header value is not sent as one */
	if (!osmtalk_is_event_id(d->event_id))
	{
		d->permanent = true;
		strlcpy(d->error, "the event's id cannot be sent in a header", sizeof(d->error));
		return false;
	}
	for (int i = 0; i < d->nprevious; i++)
		message.previous[i] = d->previous[i];
	if (!d->is_signed && !sign(&message, d))
	{
		strlcpy(d->error, "the body could not be signed", sizeof(d->error));
		return false;
	}
	ok = osmtalk_compose_headers(&message, &d->signatures, add_header, headers) &&
		add_header(headers, "Expect:");

	SET(CURLOPT_URL, d->url);
	/* either of the two keeps libcurl from looking into the environment */
	SET(CURLOPT_PROXY, osmtalk_proxy);
	SET(CURLOPT_NOPROXY, d->proxied ? "" : "*");
	SET(CURLOPT_FRESH_CONNECT, (long) d->fresh);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) d->body_len);
	SET(CURLOPT_POSTFIELDS, d->body);
	SET(CURLOPT_HTTPHEADER, *headers);
	SET(CURLOPT_TIMEOUT_MS, (long) osmtalk_request_timeout);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) osmtalk_request_timeout);
	SET(CURLOPT_PRIVATE, d);
	SET(CURLOPT_WRITEDATA, d);
	SET(CURLOPT_HEADERDATA, d);
	SET(CURLOPT_XFERINFODATA, d);
	SET(CURLOPT_OPENSOCKETDATA, d);
	SET(CURLOPT_RESOLVER_START_DATA, d);
	SET(CURLOPT_PREREQDATA, d);
	/* written to while the request runs, so that nothing outlives the delivery */
	d->error[0] = '\0';
	if (!ok)
		strlcpy(d->error, "the request could not be prepared", sizeof(d->error));
	return ok;
#undef SET
}
