/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secret that the two hosts share, and what is made of it: a key for each
 * use and direction, and message authentication codes (HMAC-SHA512-256,
 * libsodium's crypto_auth). Nothing is encrypted.
 */
#ifndef COLO_SECRET_H
#define COLO_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#define SECRET_KEY_BYTES 32
#define SECRET_MAC_BYTES 32
#define SECRET_FILE_MIN  32 /* bytes in the file */

struct secret {
	unsigned char key[SECRET_KEY_BYTES];
};

/*
 * The key of a file that only its owner can read. 0, or -errno and in `why`
 * what is wrong with it.
 */
int secret_read(struct secret *secret, const char *path, char *why, size_t size);

/* The key for one use: other labels give unrelated keys. */
void secret_derive(struct secret *to, const struct secret *from, const void *label,
		   size_t length);

void secret_mac(unsigned char mac[SECRET_MAC_BYTES], const struct secret *secret,
		const void *data, size_t length);
bool secret_verify(const unsigned char mac[SECRET_MAC_BYTES], const struct secret *secret,
		   const void *data, size_t length);
/* Are two codes equal? It takes as long whatever they are. */
bool secret_equal(const unsigned char a[SECRET_MAC_BYTES],
		  const unsigned char b[SECRET_MAC_BYTES]);

/* Bytes that nobody can guess. */
void secret_random(void *to, size_t length);

#endif
