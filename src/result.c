/*
 * result.c
 *		What came of a request: in the words that a tenant may read, and in
 *		those that are for the log.
 *
 * Tenants choose where requests go and read this, so it must not tell them of
 * the network what they could not see from outside.  Knows nothing of how the
 * request was made.
 */
#include "postgres.h"

#include "egress.h"
#include "request.h"
#include "settings.h"
#include "utils/timestamp.h"

/* one sentence for whatever is refused: the answer must not map the network */
#define REFUSAL "not sent: this target is not allowed; the server's log says why"

/* seconds: no schedule heeds more, and SQL need not cope with what a receiver may say */
#define LONGEST_RETRY_AFTER (60 * SECS_PER_DAY)

/*
 * What an egress proxy answered instead of making the connection: it refuses,
 * or it cannot.  False if it is not that.
 */
static bool
failed_at_proxy(CURL *easy, OsmtalkDelivery *d, CURLcode code)
{
	long status = 0;

	if (!d->proxied || code == CURLE_OK)
		return false;
	(void) curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &status);
	if (status < 300)
		return false;
	if (status <= 499)
		d->refusal = OSMTALK_EGRESS_BY_PROXY;
	snprintf(d->detail, sizeof(d->detail), "The proxy answered CONNECT with status %ld.", status);
	return true;
}

/* Why it was refused, for those who may know. */
static void
explain_refusal(OsmtalkDelivery *d)
{
	switch (d->refusal)
	{
		case OSMTALK_EGRESS_NOT_PUBLIC:
			snprintf(d->detail, sizeof(d->detail), "The address %s is neither public nor in osmtalk.trusted_networks.", d->refused);
			break;
		case OSMTALK_EGRESS_OWN:
			snprintf(d->detail, sizeof(d->detail), "The address %s is one of this machine's own and not in osmtalk.trusted_networks.", d->refused);
			break;
		case OSMTALK_EGRESS_NEEDS_HTTPS:
			snprintf(d->detail, sizeof(d->detail), "The address %s may be called with https alone, see osmtalk.require_https.", d->refused);
			break;
		default:
			break;
	}
}

void
osmtalk_request_finish(CURL *easy, OsmtalkDelivery *d, CURLcode code)
{
	long status = 0;
	curl_off_t retry_after = 0;
	bool failed = failed_at_proxy(easy, d, code);
	/* a name may have several addresses: what counts is whether one could be connected to */
	bool refused = d->refusal != OSMTALK_EGRESS_ALLOWED &&
		(failed || code == CURLE_COULDNT_CONNECT || code == CURLE_ABORTED_BY_CALLBACK);

	if (!refused)
		d->refusal = OSMTALK_EGRESS_ALLOWED;
	explain_refusal(d);
	(void) curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);

	/* libcurl has no objection to either of these */
	if (d->head == OSMTALK_HEAD_NO_STATUS_LINE)
		strlcpy(d->error, "the answer is not HTTP", sizeof(d->error));
	else if (code == CURLE_OK && d->head != OSMTALK_HEAD_COMPLETE)
		strlcpy(d->error, "the answer ended before its headers did", sizeof(d->error));
	else if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && d->body_bytes > OSMTALK_MOST_RESPONSE))
	{
		d->answered = true;
		d->http_status = (int) status;
		/* a date is counted from now */
		if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after) == CURLE_OK)
			d->retry_after = (double) Min(retry_after, LONGEST_RETRY_AFTER);
		if (status >= 300 && status <= 399)
			snprintf(d->error, sizeof(d->error), "HTTP %ld: redirects are not followed", status);
		else if (status < 200 || status > 299)
			snprintf(d->error, sizeof(d->error), "HTTP %ld", status);
	}
	else if (refused)
	{
		d->permanent = true;
		strlcpy(d->error, REFUSAL, sizeof(d->error));
	}
	else if (failed)
		strlcpy(d->error, curl_easy_strerror(CURLE_COULDNT_CONNECT), sizeof(d->error));
	else if (d->flooded)
		strlcpy(d->error, "the answer is too long", sizeof(d->error));
	else if (code == CURLE_ABORTED_BY_CALLBACK)
		strlcpy(d->error, "the connection was closed before an answer came", sizeof(d->error));
	else if (code == CURLE_WRITE_ERROR)
		strlcpy(d->error, "the answer's headers are too long", sizeof(d->error));
	/* libcurl's word for a line of more than 100 kB, too */
	else if (code == CURLE_OUT_OF_MEMORY && d->posted)
		strlcpy(d->error, "the answer's headers are too long, or memory ran out", sizeof(d->error));
	else if (code == CURLE_OPERATION_TIMEDOUT)
	{
		if (status != 0)
			snprintf(d->error, sizeof(d->error), "timed out after %d ms, in the middle of an answer with HTTP %ld",
					 osmtalk_request_timeout, status);
		else
			snprintf(d->error, sizeof(d->error), "timed out after %d ms", osmtalk_request_timeout);
	}
	else
		strlcpy(d->error, curl_easy_strerror(code), sizeof(d->error));
}
