/* SPDX-License-Identifier: GPL-2.0-only */
/* What sink.bpf.c counts, for user space. */
#ifndef COLO_SCALING_SINK_H
#define COLO_SCALING_SINK_H

#define SINK_CLIENT_NET 0x0a400000U /* 10.64.0.0: the client of flow i is i above it */
#define SINK_ORDERED    64          /* flows whose order is looked at */

struct sink_count {
	unsigned long long frames;
	unsigned long long segments; /* of them TCP's */
	unsigned long long payload;  /* ... and bytes in these */
	unsigned long long inverted; /* came behind one that P sent later */
	unsigned long long repeated;
	unsigned long long foreign; /* none of the generator's */
	unsigned long long bytes;   /* of whole frames, if they are only counted */
};

#endif
