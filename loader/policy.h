/* SPDX-License-Identifier: GPL-2.0-only */
/* What is compared, passed or dropped: by class, and by the operator's rules. */
#ifndef COLO_POLICY_H
#define COLO_POLICY_H

#include <jansson.h>

#include "datapath.h"

extern const enum colo_action policy_default[COLO_CLASS_MAX];

/* Fill the map `policy` with the defaults. 0 or -errno. */
int policy_fill(int fd);
enum colo_action policy_get(const struct datapath *dp, __u32 class);

/* A passthrough rule as the command line has it; NULL: any. */
struct passthrough_text {
	const char *protocol;   /* name or number */
	const char *guest;      /* ADDR[/LENGTH] */
	const char *guest_port; /* PORT[-PORT] */
	const char *client;
	const char *client_port;
};

/* 0, or -EINVAL after a message about what is wrong. */
int passthrough_parse(const struct passthrough_text *text, struct colo_passthrough *rule);

/* The rule's number, or -errno after a message. */
int passthrough_add(const struct datapath *dp, struct colo_passthrough *rule);
int passthrough_delete(const struct datapath *dp, __u32 number);
int passthrough_clear(const struct datapath *dp);

/* One rule, and all: an array of objects. */
json_t *passthrough_rule(__u32 number, const struct colo_passthrough *rule);
json_t *passthrough_describe(const struct datapath *dp);

#endif
