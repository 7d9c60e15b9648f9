// SPDX-License-Identifier: GPL-2.0-only
/* What `set policy.CLASS` and `set passthrough.WHAT` of a scenario make of a packet. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"

static const struct testcase *rules_of;

static const char *value_of(const char *key)
{
	for (const struct statement *st = rules_of->first; st; st = st->next) {
		if (st->verb == VERB_SET && !strcmp(st->key, key))
			return st->value;
	}
	return NULL;
}

/* Rule 10: a fragment has no L4 of its own, but that TCP cannot be cut up is seen. */
static const char *class_of(const struct packet *p)
{
	uint8_t proto = p->key.proto;

	if (p->key.ethertype != 0x0800 && p->key.ethertype != 0x86dd)
		return p->key.ethertype == 0x0806 ? "arp" : "eth_other";
	if (proto == IPPROTO_TCP)
		return "tcp";
	if (p->key.fragment)
		return "ip_other";
	if (proto == IPPROTO_UDP)
		return "udp";
	if (proto == IPPROTO_ICMP)
		return "icmp";
	return proto == IPPROTO_ICMPV6 ? "icmp6" : "ip_other";
}

static bool in_prefix(const char *text, const struct packet *p, const uint8_t *address)
{
	unsigned int bits = atoi(strchr(text, '/') + 1);
	uint8_t prefix[16] = {0};
	char host[64];
	bool v6 = strchr(text, ':');

	snprintf(host, sizeof(host), "%.*s", (int)strcspn(text, "/"), text);
	inet_pton(v6 ? AF_INET6 : AF_INET, host, prefix);
	if (v6 != (p->key.ethertype == 0x86dd))
		return false;
	for (unsigned int i = 0; i < bits; i++) {
		if ((prefix[i / 8] ^ address[i / 8]) & 0x80 >> i % 8)
			return false;
	}
	return true;
}

static bool in_ports(const char *text, uint16_t port)
{
	const char *to = strchr(text, '-');

	return port >= atoi(text) && port <= atoi(to ? to + 1 : text);
}

static bool passes_through(const struct packet *p)
{
	const char *proto = value_of("passthrough.protocol");
	const char *guest_port = value_of("passthrough.guest_port");
	const char *client = value_of("passthrough.client");

	if ((!proto && !guest_port && !client) ||
	    (p->key.ethertype != 0x0800 && p->key.ethertype != 0x86dd))
		return false;
	return (!proto || p->key.proto == atoi(proto)) &&
	       (!guest_port || in_ports(guest_port, p->key.sport)) &&
	       (!client || in_prefix(client, p, p->key.dst));
}

static void apply(struct packet *p)
{
	const char *action;
	char key[48];

	if (p->class == PACKET_MALFORMED || p->class == PACKET_UNFIT)
		return;
	if (passes_through(p)) {
		p->class = PACKET_PASS;
		p->through = true;
		return;
	}
	snprintf(key, sizeof(key), "policy.%s", class_of(p));
	action = value_of(key);
	if (!action || (p->class == PACKET_PASS && p->key.ethertype != 0x0806))
		return;
	if (!strcmp(action, "pass"))
		p->class = PACKET_PASS;
	else if (!strcmp(action, "drop"))
		p->class = PACKET_DROP;
	else if (p->class == PACKET_PASS)
		p->class = PACKET_DATAGRAM;
}

void rules_set(const struct testcase *test)
{
	bool any = false;

	rules_of = test;
	for (const struct statement *st = test ? test->first : NULL; st; st = st->next)
		any |= st->verb == VERB_SET && (!strncmp(st->key, "policy.", 7) ||
						!strncmp(st->key, "passthrough.", 12));
	packet_rules = any ? apply : NULL;
}
