/*
 * failing_hmac.c
 *		An OpenSSL that cannot compute an HMAC, while a file is there.
 *
 * Preloaded into a server (LD_PRELOAD); the environment names the file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

typedef unsigned char *(*Hmac) (const void *md, const void *key, int key_len,
								const unsigned char *data, size_t n, unsigned char *out, unsigned int *len);

unsigned char *
HMAC(const void *md, const void *key, int key_len, const unsigned char *data, size_t n,
	 unsigned char *out, unsigned int *len)
{
	const char *file = getenv("FAILING_HMAC");

	if (file != NULL && access(file, F_OK) == 0)
		return NULL;
	return ((Hmac) dlsym(RTLD_NEXT, "HMAC")) (md, key, key_len, data, n, out, len);
}
