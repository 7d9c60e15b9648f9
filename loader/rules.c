// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netdb.h>

#include <bpf/bpf.h>

#include "log.h"
#include "options.h"
#include "output.h"
#include "policy.h"

/* ---------------------------------------------------------------- text --- */

static int bad(const char *option, const char *text, const char *what)
{
	options_bad("passthrough", "--%s \"%s\": %s", option, text, what);
	return -EINVAL;
}

static int parse_prefix(const char *option, const char *text, struct colo_passthrough *rule,
			__u32 address[4], __u32 mask[4])
{
	unsigned long bits, max = strchr(text, ':') ? 128 : 32;
	__u8 *a = (__u8 *)address, *m = (__u8 *)mask;
	__be16 type = htons(max == 128 ? ETH_P_IPV6 : ETH_P_IP);
	const char *slash = strchr(text, '/');
	char host[64], *end;

	bits = max;
	if (slash) {
		bits = strtoul(slash + 1, &end, 10);
		if (!isdigit((unsigned char)slash[1]) || *end || bits > max)
			return bad(option, text,
				   "the prefix's length is no number of its bits");
	}
	snprintf(host, sizeof(host), "%.*s", slash ? (int)(slash - text) : (int)strlen(text),
		 text);
	if (inet_pton(max == 128 ? AF_INET6 : AF_INET, host, address) != 1)
		return bad(option, text, "is not ADDR or ADDR/LENGTH");
	if (rule->ethertype && rule->ethertype != type)
		return bad(option, text, "the other address is of another family");
	rule->ethertype = type;
	for (unsigned int i = 0; i < 16; i++) {
		m[i] = bits >= 8 ? 0xff : (__u8)(0xff00 >> bits);
		bits = bits >= 8 ? bits - 8 : 0;
		if (a[i] & ~m[i])
			return bad(option, text, "has bits behind its prefix");
	}
	return 0;
}

static int parse_ports(const char *option, const char *text, __u16 range[2])
{
	char *end;
	unsigned long from = strtoul(text, &end, 10), to = from;

	if (!isdigit((unsigned char)*text))
		return bad(option, text, "is not PORT or FROM-TO");
	if (*end == '-' && isdigit((unsigned char)end[1]))
		to = strtoul(end + 1, &end, 10);
	if (*end || !from || from > to || to > 65535)
		return bad(option, text, "is not PORT or FROM-TO, of 1 to 65535");
	range[0] = from;
	range[1] = to;
	return 0;
}

/* Some hosts have no /etc/protocols. */
static int protocol_number(const char *text)
{
	const struct protoent *entry = getprotobyname(text);
	unsigned long number;
	char *end;

	if (!strcmp(text, "tcp"))
		return IPPROTO_TCP;
	if (!strcmp(text, "udp"))
		return IPPROTO_UDP;
	if (entry)
		return entry->p_proto;
	number = strtoul(text, &end, 10);
	return isdigit((unsigned char)*text) && !*end && number <= 255 ? (int)number : -1;
}

static int parse_protocol(const char *text, struct colo_passthrough *rule)
{
	int number = protocol_number(text);

	if (number < 0)
		return bad("protocol", text, "is no protocol's name or number");
	rule->proto = number;
	rule->match_proto = 1;
	return 0;
}

int passthrough_parse(const struct passthrough_text *text, struct colo_passthrough *rule)
{
	static const struct colo_passthrough any = {
		.guest_ports = {0, 65535},
		.client_ports = {0, 65535},
	};
	int err = 0;

	*rule = any;
	if (text->protocol)
		err = parse_protocol(text->protocol, rule);
	if (!err && text->guest)
		err = parse_prefix("guest", text->guest, rule, rule->guest_addr,
				   rule->guest_mask);
	if (!err && text->client)
		err = parse_prefix("client", text->client, rule, rule->client_addr,
				   rule->client_mask);
	if (!err && text->guest_port)
		err = parse_ports("guest-port", text->guest_port, rule->guest_ports);
	if (!err && text->client_port)
		err = parse_ports("client-port", text->client_port, rule->client_ports);
	if (err)
		return err;
	if ((text->guest_port || text->client_port) && rule->match_proto &&
	    rule->proto != IPPROTO_TCP && rule->proto != IPPROTO_UDP) {
		options_bad("passthrough", "only tcp and udp have ports");
		return -EINVAL;
	}
	if (!memcmp(rule, &any, sizeof(any))) {
		options_bad("passthrough",
			    "a rule that names nothing would let everything leave");
		return -EINVAL;
	}
	return 0;
}

static const char *prefix_text(char text[80], __be16 type, const __u32 address[4],
			       const __u32 mask[4])
{
	int family = type == htons(ETH_P_IPV6) ? AF_INET6 : AF_INET;
	unsigned int bits = 0;
	size_t length;

	for (int i = 0; i < 4; i++)
		bits += __builtin_popcount(mask[i]);
	if (!type || !bits)
		return "any";
	inet_ntop(family, address, text, 64);
	length = strlen(text);
	snprintf(text + length, 80 - length, "/%u", bits);
	return text;
}

static const char *ports_text(char text[16], const __u16 range[2])
{
	if (!range[0] && range[1] == 65535)
		return "any";
	if (range[0] == range[1])
		snprintf(text, 16, "%u", range[0]);
	else
		snprintf(text, 16, "%u-%u", range[0], range[1]);
	return text;
}

json_t *passthrough_rule(__u32 number, const struct colo_passthrough *rule)
{
	const struct protoent *entry = getprotobynumber(rule->proto);
	char guest[80], client[80], ports[16], proto[8];
	json_t *row = json_object();

	snprintf(proto, sizeof(proto), "%u", rule->proto);
	output_number(row, "rule", number);
	output_text(row, "protocol",
		    !rule->match_proto ? "any" :
		    entry              ? entry->p_name :
					 proto);
	output_text(row, "guest",
		    prefix_text(guest, rule->ethertype, rule->guest_addr, rule->guest_mask));
	output_text(row, "guest_port", ports_text(ports, rule->guest_ports));
	output_text(row, "client",
		    prefix_text(client, rule->ethertype, rule->client_addr, rule->client_mask));
	output_text(row, "client_port", ports_text(ports, rule->client_ports));
	output_number(row, "frames", rule->frames);
	return row;
}

/* --------------------------------------------------------------- rules --- */

static int rule_read(const struct datapath *dp, __u32 number, struct colo_passthrough *rule)
{
	return bpf_map_lookup_elem(dp->map_fd[MAP_PASSTHROUGH], &number, rule);
}

static int rule_write(const struct datapath *dp, __u32 number,
		      const struct colo_passthrough *rule)
{
	int err = bpf_map_update_elem(dp->map_fd[MAP_PASSTHROUGH], &number, rule, 0);

	if (err)
		log_error("%s: the map `passthrough` cannot be written: %s", dp->abi.name,
			  strerror(-err));
	return err;
}

json_t *passthrough_describe(const struct datapath *dp)
{
	json_t *list = json_array();
	struct colo_passthrough rule;

	if (dp->abi.role != COLO_ROLE_PRIMARY)
		return list;
	for (__u32 i = 0; i < dp->config->passthrough && i < COLO_PASSTHROUGH_MAX; i++)
		if (!rule_read(dp, i, &rule) && rule.used)
			json_array_append_new(list, passthrough_rule(i, &rule));
	return list;
}

static bool same_rule(const struct colo_passthrough *a, const struct colo_passthrough *b)
{
	return !memcmp(&a->ethertype, &b->ethertype,
		       offsetof(struct colo_passthrough, frames) -
			       offsetof(struct colo_passthrough, ethertype));
}

/* The programs look at a rule once it is whole: `used` is written last. */
int passthrough_add(const struct datapath *dp, struct colo_passthrough *rule)
{
	__u32 number = COLO_PASSTHROUGH_MAX;
	struct colo_passthrough old;
	int err;

	for (__u32 i = COLO_PASSTHROUGH_MAX; i-- > 0;) {
		err = rule_read(dp, i, &old);
		if (err)
			return err;
		if (!old.used)
			number = i;
		else if (same_rule(&old, rule)) {
			log_error("%s: rule %u is the same", dp->abi.name, i);
			return -EEXIST;
		}
	}
	if (number == COLO_PASSTHROUGH_MAX) {
		log_error("%s: all %u rules are in use: delete one", dp->abi.name,
			  COLO_PASSTHROUGH_MAX);
		return -ENOSPC;
	}
	err = rule_write(dp, number, rule);
	rule->used = 1;
	if (!err)
		err = rule_write(dp, number, rule);
	if (!err && dp->config->passthrough <= number)
		dp->config->passthrough = number + 1;
	return err ? err : (int)number;
}

int passthrough_delete(const struct datapath *dp, __u32 number)
{
	struct colo_passthrough rule;
	int err = rule_read(dp, number, &rule);

	if (!err && !rule.used)
		err = -ENOENT;
	if (err) {
		log_error("%s: there is no rule %u; `colo-bpf passthrough list %s` shows them",
			  dp->abi.name, number, dp->abi.name);
		return err;
	}
	memset(&rule, 0, sizeof(rule));
	err = rule_write(dp, number, &rule);
	while (!err && dp->config->passthrough &&
	       !rule_read(dp, dp->config->passthrough - 1, &rule) && !rule.used)
		dp->config->passthrough--;
	return err;
}

int passthrough_clear(const struct datapath *dp)
{
	int err = 0;

	for (__u32 i = dp->config->passthrough; !err && i-- > 0;)
		err = rule_write(dp, i, &(struct colo_passthrough){});
	dp->config->passthrough = 0;
	return err;
}
