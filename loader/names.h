/* SPDX-License-Identifier: GPL-2.0-only */
/* The ABI's enums and structs as people and JSON read them. */
#ifndef COLO_NAMES_H
#define COLO_NAMES_H

#include <jansson.h>

#include <colo/abi.h>

/* "unknown" for a value that has no name. */
const char *name_role(enum colo_role role);
const char *name_mode(enum colo_mode mode);
const char *name_context(enum colo_context context);
const char *name_reason(enum colo_reason reason);
const char *name_class(enum colo_class class);
const char *name_action(enum colo_action action);

/* Address of a flow: IPv4, IPv6 or MAC, by the key's ethertype. */
void name_address(char text[64], const struct colo_flow_key *key, const __u8 address[16]);

/* {"protocol", "guest", "guest_port", "client", "client_port", ...} */
json_t *name_flow(const struct colo_flow_key *key);

#endif
