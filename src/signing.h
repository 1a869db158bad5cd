/*
 * signing.h
 *		HMAC-SHA256 signatures of bodies.
 */
#ifndef OSMTALK_SIGNING_H
#define OSMTALK_SIGNING_H

#include "postgres.h"

#define OSMTALK_SIGNATURE_PREFIX "sha256="
/* the prefix and 64 hex digits, without the terminating NUL */
#define OSMTALK_SIGNATURE_LEN (sizeof(OSMTALK_SIGNATURE_PREFIX) - 1 + 64)

/*
 * Writes "sha256=<hex>" and a NUL to out.  Returns false, and writes an empty
 * string, if the library cannot compute it; then nothing may be sent.  Does
 * not throw.
 */
extern PGDLLEXPORT bool osmtalk_sign(const char *body, size_t body_len,
									 const char *secret, size_t secret_len,
									 char out[OSMTALK_SIGNATURE_LEN + 1]);

#endif
