// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

int bytes_add(struct bytes *bytes, const void *data, size_t length)
{
	if (!length)
		return 0;
	if (bytes->length + length > bytes->size) {
		size_t size = (bytes->length + length) * 2;
		char *more = realloc(bytes->data, size);

		if (!more)
			return -ENOMEM;
		bytes->data = more;
		bytes->size = size;
	}
	memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
	return 0;
}

void bytes_drop(struct bytes *bytes, size_t length)
{
	bytes->length -= length;
	if (bytes->length)
		memmove(bytes->data, bytes->data + length, bytes->length);
}

void bytes_free(struct bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct bytes){};
}
