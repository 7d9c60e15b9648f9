// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <sodium.h>

#include "secret.h"

#define FILE_MAX 65536

_Static_assert(SECRET_KEY_BYTES == crypto_auth_KEYBYTES, "a key of crypto_auth");
_Static_assert(SECRET_KEY_BYTES == crypto_generichash_BYTES, "a key made by hashing");
_Static_assert(SECRET_MAC_BYTES == crypto_auth_BYTES, "a code of crypto_auth");

static int complain(int err, char *why, size_t size, const char *text)
{
	snprintf(why, size, "%s", text);
	return err;
}

static int check_file(int fd, char *why, size_t size)
{
	struct stat st;

	if (fstat(fd, &st))
		return complain(-errno, why, size, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return complain(-EINVAL, why, size, "is no regular file");
	if (st.st_mode & 0177)
		return complain(-EPERM, why, size,
				"others than its owner may use it: chmod 0600 it");
	return 0;
}

int secret_read(struct secret *secret, const char *path, char *why, size_t size)
{
	unsigned char bytes[FILE_MAX + 1];
	size_t length = 0;
	ssize_t n = 1;
	int fd, err;

	if (sodium_init() < 0)
		return complain(-ENOSYS, why, size, "libsodium finds no random numbers");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain(-errno, why, size, strerror(errno));
	err = check_file(fd, why, size);
	while (!err && n > 0 && length < sizeof(bytes)) {
		n = read(fd, bytes + length, sizeof(bytes) - length);
		length += n > 0 ? n : 0;
	}
	if (!err && n < 0)
		err = complain(-errno, why, size, strerror(errno));
	else if (!err && length < SECRET_FILE_MIN)
		err = complain(-EINVAL, why, size, "has fewer than 32 bytes");
	else if (!err && length > FILE_MAX)
		err = complain(-EFBIG, why, size, "has more than 64 KB");
	close(fd);
	if (!err)
		crypto_generichash(secret->key, sizeof(secret->key), bytes, length, NULL, 0);
	sodium_memzero(bytes, sizeof(bytes));
	return err;
}

void secret_derive(struct secret *to, const struct secret *from, const void *label,
		   size_t length)
{
	secret_mac(to->key, from, label, length);
}

void secret_mac(unsigned char mac[SECRET_MAC_BYTES], const struct secret *secret,
		const void *data, size_t length)
{
	crypto_auth(mac, data, length, secret->key);
}

bool secret_verify(const unsigned char mac[SECRET_MAC_BYTES], const struct secret *secret,
		   const void *data, size_t length)
{
	return !crypto_auth_verify(mac, data, length, secret->key);
}

bool secret_equal(const unsigned char a[SECRET_MAC_BYTES],
		  const unsigned char b[SECRET_MAC_BYTES])
{
	return !sodium_memcmp(a, b, SECRET_MAC_BYTES);
}

void secret_random(void *to, size_t length)
{
	randombytes_buf(to, length);
}
