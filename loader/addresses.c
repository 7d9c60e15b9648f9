// SPDX-License-Identifier: GPL-2.0-only
#include <stdbool.h>
#include <string.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>

#include <bpf/bpf.h>

#include "addresses.h"
#include "datapath.h"

#define FLOWS_MAX 65536 /* looked through */

static bool is_host(const struct colo_flow_key *key)
{
	static const __u8 none[16];

	if (key->ethertype == htons(ETH_P_IP))
		return memcmp(key->saddr, none, 4) && key->saddr[0] < 224;
	return key->ethertype == htons(ETH_P_IPV6) && memcmp(key->saddr, none, 16) &&
	       key->saddr[0] != 0xff;
}

void addresses_note(struct addresses *addresses, const struct colo_flow_key *key)
{
	struct guest_address found = {.ethertype = key->ethertype};

	if (!is_host(key) || addresses->count == ADDRESSES_MAX)
		return;
	memcpy(found.bytes, key->saddr, sizeof(found.bytes));
	memcpy(found.vlan, key->vlan, sizeof(found.vlan));
	for (int i = 0; i < addresses->count; i++)
		if (!memcmp(&addresses->list[i], &found, sizeof(found)))
			return;
	addresses->list[addresses->count++] = found;
}

void addresses_scan(struct addresses *addresses, const struct datapath *dp)
{
	struct colo_flow_key key, *last = NULL;

	for (int i = 0; i < FLOWS_MAX && addresses->count < ADDRESSES_MAX; i++) {
		if (bpf_map_get_next_key(dp->map_fd[MAP_FLOWS], last, &key))
			break;
		last = &key;
		addresses_note(addresses, &key);
	}
}
