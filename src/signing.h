/*
 * signing.h
 *		HMAC-SHA256 signatures of bodies.
 *
 * Plain C: knows nothing of PostgreSQL, does not throw, keeps no state.
 */
#ifndef OSMTALK_SIGNING_H
#define OSMTALK_SIGNING_H

#include <stdbool.h>
#include <stddef.h>

/* exported from the preloaded library to the worker's */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
#endif

#define OSMTALK_SIGNATURE_PREFIX "sha256="
/* the prefix and 64 hex digits, without the terminating NUL */
#define OSMTALK_SIGNATURE_LEN (sizeof(OSMTALK_SIGNATURE_PREFIX) - 1 + 64)

/*
 * Events are not signed with a longer one, nor sent: they would be held in
 * memory with each of them.
 */
#define OSMTALK_LONGEST_SECRET 8192

/*
 * Writes "sha256=<hex>" and a NUL to out.  Returns false, and writes an empty
 * string, if the library cannot compute it; then nothing may be sent.
 */
extern PGDLLEXPORT bool osmtalk_sign(const char *body, size_t body_len,
									 const char *secret, size_t secret_len,
									 char out[OSMTALK_SIGNATURE_LEN + 1]);

/*
 * Whether the header, which may be anything, is the body's signature; takes
 * the same time whichever digit is wrong.  False, too, if the library cannot
 * compute it.
 */
extern PGDLLEXPORT bool osmtalk_verify(const char *body, size_t body_len,
									   const char *secret, size_t secret_len,
									   const char *header, size_t header_len);

/*
 * The same in the form of Standard Webhooks, of "id.timestamp.body".  The
 * secret is "whsec_" and the base64 of the key; nothing can be signed, or
 * verified, with any other.
 */
#define OSMTALK_STANDARD_SIGNATURE_PREFIX "v1,"
#define OSMTALK_STANDARD_SIGNATURE_LEN (sizeof(OSMTALK_STANDARD_SIGNATURE_PREFIX) - 1 + 44)

extern PGDLLEXPORT bool osmtalk_is_standard_secret(const char *secret, size_t len);
extern PGDLLEXPORT bool osmtalk_sign_standard(const char *content, size_t content_len,
											  const char *secret, size_t secret_len,
											  char out[OSMTALK_STANDARD_SIGNATURE_LEN + 1]);

/* The header may have several, separated by spaces; one that is right will do. */
extern PGDLLEXPORT bool osmtalk_verify_standard(const char *content, size_t content_len,
												const char *secret, size_t secret_len,
												const char *signatures, size_t signatures_len);

#endif
