/* SPDX-License-Identifier: GPL-2.0-only */
/* Bytes that come or go in pieces. {} is empty. */
#ifndef COLO_BYTES_H
#define COLO_BYTES_H

#include <stddef.h>

struct bytes {
	char *data;
	size_t length;
	size_t size;
};

/* 0 or -ENOMEM. */
int bytes_add(struct bytes *bytes, const void *data, size_t length);
/* Take the first away. */
void bytes_drop(struct bytes *bytes, size_t length);
void bytes_free(struct bytes *bytes);

#endif
