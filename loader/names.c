// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <linux/if_ether.h>

#include "names.h"
#include "output.h"

#define LOOK_UP(table, index)                                                   \
	((size_t)(index) < sizeof(table) / sizeof(*(table)) && (table)[index] ? \
		 (table)[index] :                                               \
		 "unknown")

const char *name_role(enum colo_role role)
{
	static const char *const names[] = {
		[COLO_ROLE_NONE] = "none",
		[COLO_ROLE_PRIMARY] = "primary",
		[COLO_ROLE_SECONDARY] = "secondary",
	};

	return LOOK_UP(names, role);
}

const char *name_context(enum colo_context context)
{
	return context == COLO_CONTEXT_XDP ? "xdp" : "tc";
}

const char *name_mode(enum colo_mode mode)
{
	static const char *const names[] = {
		[COLO_MODE_SHUT] = "shut",       [COLO_MODE_WIRE] = "wire",
		[COLO_MODE_PRIMARY] = "primary", [COLO_MODE_SECONDARY] = "secondary",
		[COLO_MODE_ACTIVE] = "active",
	};

	return LOOK_UP(names, mode);
}

const char *name_reason(enum colo_reason reason)
{
	static const char *const names[COLO_REASON_MAX] = {
		[COLO_REASON_NONE] = "none",
		[COLO_REASON_PAYLOAD] = "payload",
		[COLO_REASON_LENGTH] = "length",
		[COLO_REASON_FLAGS] = "flags",
		[COLO_REASON_TIMEOUT] = "timeout",
		[COLO_REASON_QUEUE_FULL] = "queue_full",
		[COLO_REASON_FLOW_FULL] = "flow_full",
		[COLO_REASON_POOL_FULL] = "pool_full",
		[COLO_REASON_LINK_GAP] = "link_gap",
		[COLO_REASON_MALFORMED] = "malformed",
		[COLO_REASON_UNTRANSLATABLE] = "untranslatable",
		[COLO_REASON_OPERATOR] = "operator",
		[COLO_REASON_PERIOD] = "period",
		[COLO_REASON_PEER] = "peer",
	};

	return LOOK_UP(names, reason);
}

const char *name_class(enum colo_class class)
{
	static const char *const names[COLO_CLASS_MAX] = {
		[COLO_CLASS_TCP] = "tcp",
		[COLO_CLASS_UDP] = "udp",
		[COLO_CLASS_ICMP] = "icmp",
		[COLO_CLASS_ICMP6] = "icmp6",
		[COLO_CLASS_IP_OTHER] = "ip_other",
		[COLO_CLASS_ARP] = "arp",
		[COLO_CLASS_ND] = "nd",
		[COLO_CLASS_MLD] = "mld",
		[COLO_CLASS_IGMP] = "igmp",
		[COLO_CLASS_LLDP] = "lldp",
		[COLO_CLASS_STP] = "stp",
		[COLO_CLASS_ETH_OTHER] = "eth_other",
	};

	return LOOK_UP(names, class);
}

const char *name_action(enum colo_action action)
{
	static const char *const names[] = {
		[COLO_ACTION_COMPARE] = "compare",
		[COLO_ACTION_PASS] = "pass",
		[COLO_ACTION_DROP] = "drop",
	};

	return LOOK_UP(names, action);
}

void name_address(char text[64], const struct colo_flow_key *key, const __u8 address[16])
{
	switch (ntohs(key->ethertype)) {
	case ETH_P_IP:
		inet_ntop(AF_INET, address, text, 64);
		break;
	case ETH_P_IPV6:
		inet_ntop(AF_INET6, address, text, 64);
		break;
	default:
		snprintf(text, 64, "%02x:%02x:%02x:%02x:%02x:%02x", address[0], address[1],
			 address[2], address[3], address[4], address[5]);
	}
}

static void protocol_name(char text[32], const struct colo_flow_key *key)
{
	unsigned int ethertype = ntohs(key->ethertype);

	if (ethertype != ETH_P_IP && ethertype != ETH_P_IPV6)
		snprintf(text, 32, "0x%04x", ethertype);
	else if (key->proto == IPPROTO_TCP)
		strcpy(text, "tcp");
	else if (key->proto == IPPROTO_UDP)
		strcpy(text, "udp");
	else if (key->proto == IPPROTO_ICMP)
		strcpy(text, "icmp");
	else if (key->proto == IPPROTO_ICMPV6)
		strcpy(text, "icmp6");
	else
		snprintf(text, 32, "ip-%u", key->proto);
}

json_t *name_flow(const struct colo_flow_key *key)
{
	json_t *flow = json_object();
	char text[64];

	protocol_name(text, key);
	output_text(flow, "protocol", text);
	name_address(text, key, key->saddr);
	output_text(flow, "guest", text);
	output_number(flow, "guest_port", ntohs(key->sport));
	name_address(text, key, key->daddr);
	output_text(flow, "client", text);
	output_number(flow, "client_port", ntohs(key->dport));
	for (int i = 0; i < 2; i++)
		if (key->vlan[i])
			output_number(flow, i ? "vlan_inner" : "vlan", ntohs(key->vlan[i]));
	if (key->fragment)
		output_flag(flow, "fragments", 1);
	return flow;
}
