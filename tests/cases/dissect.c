// SPDX-License-Identifier: GPL-2.0-only
/* What the headers of a captured frame say, and why some do not parse (rule 8). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"

void (*packet_rules)(struct packet *packet);

static uint16_t load16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint32_t load32(const uint8_t *at)
{
	return (uint32_t)load16(at) << 16 | load16(at + 2);
}

static void refuse(struct packet *p, enum packet_class class, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void refuse(struct packet *p, enum packet_class class, const char *format, ...)
{
	va_list args;

	free(p->why);
	p->class = class;
	va_start(args, format);
	if (vasprintf(&p->why, format, args) < 0)
		p->why = NULL;
	va_end(args);
}

/* Outermost tags first. Returns the type behind them and its end in *at. */
static int read_tags(struct packet *p, unsigned int *at)
{
	unsigned int type = load16(p->bytes + 12);

	*at = 14;
	while (type == 0x8100 || type == 0x88a8) {
		if (p->len < *at + 4) {
			refuse(p, PACKET_MALFORMED, "rule 8: the frame ends within a tag");
			return -1;
		}
		if (p->tags == VLANS_MAX) {
			refuse(p, PACKET_MALFORMED, "rule 10: more than two tags");
			return -1;
		}
		p->key.vlan[p->tags++] = load16(p->bytes + *at) & 0xfff;
		type = load16(p->bytes + *at + 2);
		*at += 4;
	}
	return type;
}

static void dissect_tcp(struct packet *p)
{
	unsigned int len = p->end - p->l4, header;
	const uint8_t *l4 = p->bytes + p->l4;

	if (len < 20) {
		refuse(p, PACKET_MALFORMED, "rule 8: %u bytes of TCP, its header has 20", len);
		return;
	}
	header = (l4[12] >> 4) * 4;
	if (header < 20 || header > len) {
		refuse(p, PACKET_MALFORMED, "rule 8: data offset %u of %u bytes", header, len);
		return;
	}
	if (p->l4 + header > HEADERS_MAX) {
		refuse(p, PACKET_MALFORMED, "rule 12: %u bytes of headers, %u can be followed",
		       p->l4 + header, HEADERS_MAX);
		return;
	}
	p->class = PACKET_STREAM;
	p->key.sport = load16(l4);
	p->key.dport = load16(l4 + 2);
	p->seq = load32(l4 + 4);
	p->ack = load32(l4 + 8);
	p->flags = l4[13] & 63;
	p->data = p->l4 + header;
	p->data_len = len - header;
	p->next = p->seq;
	/* The text of an RST is no part of the stream. */
	if (!(p->flags & TCP_RST))
		p->next += p->data_len + !!(p->flags & TCP_SYN) + !!(p->flags & TCP_FIN);
}

static void dissect_udp(struct packet *p)
{
	unsigned int len = p->end - p->l4, said;

	said = len < 8 ? 0 : load16(p->bytes + p->l4 + 4);
	if (said < 8 || said > len) {
		refuse(p, PACKET_MALFORMED, "rule 8: UDP length %u in %u bytes", said, len);
		return;
	}
	p->key.sport = load16(p->bytes + p->l4);
	p->key.dport = load16(p->bytes + p->l4 + 2);
}

static void dissect_icmp6(struct packet *p)
{
	uint8_t type;

	if (p->end - p->l4 < 4) {
		refuse(p, PACKET_MALFORMED, "rule 8: %u bytes of ICMPv6", p->end - p->l4);
		return;
	}
	type = p->bytes[p->l4];
	if ((type >= 130 && type <= 137) || type == 143)
		p->class = PACKET_PASS;
}

static void dissect_l4(struct packet *p, uint8_t proto)
{
	bool v6 = p->key.ethertype == 0x86dd;

	p->key.proto = proto;
	p->class = PACKET_DATAGRAM;
	if (p->key.fragment) {
		if (proto == IPPROTO_TCP)
			p->class = PACKET_TCP_FRAGMENT;
	} else if (proto == IPPROTO_TCP) {
		dissect_tcp(p);
	} else if (proto == IPPROTO_UDP) {
		dissect_udp(p);
	} else if (proto == IPPROTO_ICMP && p->end - p->l4 < 8) {
		refuse(p, PACKET_MALFORMED, "rule 8: %u bytes of ICMP", p->end - p->l4);
	} else if (proto == IPPROTO_ICMPV6 && v6) {
		dissect_icmp6(p);
	} else if (proto == IPPROTO_IGMP && !v6) {
		p->class = PACKET_PASS;
	}
}

static void set_fragment(struct packet *p, uint32_t place, uint32_t id)
{
	p->place = place;
	p->id = id;
	p->key.fragment = place != 0;
}

/* A length that the header names, against what the frame has. */
static bool too_long(struct packet *p, const char *what, unsigned int said)
{
	unsigned int there = p->len - p->l3;

	if (said <= there)
		return false;
	refuse(p, PACKET_MALFORMED, "rule 8: %s %u beyond the %u %sbytes", what, said, there,
	       p->cut ? "captured " : "");
	return true;
}

static void dissect_ipv4(struct packet *p)
{
	const uint8_t *l3 = p->bytes + p->l3;
	unsigned int header, total;

	if (p->len < p->l3 + 20) {
		refuse(p, PACKET_MALFORMED, "rule 8: %u bytes of IPv4", p->len - p->l3);
		return;
	}
	header = (l3[0] & 15) * 4;
	total = load16(l3 + 2);
	if (l3[0] >> 4 != 4 || header < 20) {
		refuse(p, PACKET_MALFORMED, "rule 8: version %u, IHL %u in IPv4", l3[0] >> 4,
		       header);
		return;
	}
	if (total < header) {
		refuse(p, PACKET_MALFORMED, "rule 8: total length %u below the header's %u",
		       total, header);
		return;
	}
	if (too_long(p, "total length", total))
		return;
	memcpy(p->key.src, l3 + 12, 4);
	memcpy(p->key.dst, l3 + 16, 4);
	p->l4 = p->l3 + header;
	p->end = p->l3 + total;
	set_fragment(p, load16(l3 + 6) & 0x3fff, load16(l3 + 4));
	dissect_l4(p, l3[9]);
}

/* Extension headers up to L4 or the fragment header. The protocol, or -1. */
static int skip_extensions(struct packet *p, uint8_t next)
{
	unsigned int at = p->l3 + 40, size, count = 0;

	while (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT) {
		const uint8_t *ext = p->bytes + at;

		if (at + 8 > p->end) {
			refuse(p, PACKET_MALFORMED, "rule 8: it ends within extension headers");
			return -1;
		}
		size = next == IPPROTO_FRAGMENT ? 8 : (ext[1] + 1) * 8;
		if (next == IPPROTO_FRAGMENT)
			set_fragment(p, load16(ext + 2) & 0xfff9, load32(ext + 4));
		next = ext[0];
		at += size;
		if (at > p->end) {
			refuse(p, PACKET_MALFORMED, "rule 8: an extension header of %u bytes",
			       size);
			return -1;
		}
		if (++count > EXTS_LIMIT || at > HEADERS_MAX - 20) {
			refuse(p, PACKET_MALFORMED,
			       "rule 12: more extension headers than can be followed");
			return -1;
		}
		if (p->key.fragment)
			break;
	}
	p->l4 = at;
	return next;
}

static void dissect_ipv6(struct packet *p)
{
	const uint8_t *l3 = p->bytes + p->l3;
	int proto;

	if (p->len < p->l3 + 40 || l3[0] >> 4 != 6) {
		refuse(p, PACKET_MALFORMED, "rule 8: no whole IPv6 header");
		return;
	}
	if (too_long(p, "payload length", 40 + load16(l3 + 4)))
		return;
	memcpy(p->key.src, l3 + 8, 16);
	memcpy(p->key.dst, l3 + 24, 16);
	p->end = p->l3 + 40 + load16(l3 + 4);
	proto = skip_extensions(p, l3[6]);
	if (proto >= 0)
		dissect_l4(p, proto);
}

static void dissect_other(struct packet *p)
{
	static const uint8_t stp[6] = {1, 0x80, 0xc2, 0, 0, 0};
	unsigned int type = p->key.ethertype;

	p->l4 = p->l3;
	p->end = p->len;
	memcpy(p->key.src, p->bytes + 6, 6);
	memcpy(p->key.dst, p->bytes, 6);
	p->class = PACKET_DATAGRAM;
	if (type == 0x0806 || type == 0x8035 || type == 0x88cc ||
	    (type < 1536 && !memcmp(p->bytes, stp, 6)))
		p->class = PACKET_PASS;
}

/* All frames that do not parse are one flow for each pair of MACs. */
static void settle_malformed(struct packet *p)
{
	memset(&p->key, 0, sizeof(p->key));
	memcpy(p->key.src, p->bytes + 6, 6);
	memcpy(p->key.dst, p->bytes, 6);
	p->key.malformed = 1;
	p->l4 = 0;
	p->place = p->id = 0;
	p->end = p->len;
}

/* Bulk of TCP above the MTU is a GSO frame, as the guest that sent it had it. */
void packet_prepare(struct packet *p)
{
	bool tagged;

	if (p->class == PACKET_UNFIT)
		return;
	tagged = load16(p->bytes + 12) == 0x8100 || load16(p->bytes + 12) == 0x88a8;
	if (p->class == PACKET_STREAM && p->end - p->l3 > FRAME_MTU &&
	    p->data_len > FRAME_GSO && !(p->flags & (TCP_SYN | TCP_RST | TCP_URG))) {
		struct flow flow = {.src.family = p->key.ethertype == 0x86dd ? AF_INET6 :
									       AF_INET};
		uint8_t *csum = p->bytes + p->l4 + 16;
		uint16_t sum;

		memcpy(flow.src.bytes, p->key.src, 16);
		memcpy(flow.dst.bytes, p->key.dst, 16);
		sum = sum_fold(sum_pseudo(&flow, IPPROTO_TCP, p->end - p->l4));
		csum[0] = sum >> 8;
		csum[1] = sum;
		p->gso = true;
		p->len = p->end; /* padding would be cut up as data */
		return;
	}
	if (p->len > PACKET_MAX)
		refuse(p, PACKET_UNFIT, "longer than a packet of 65535 bytes: no tap takes it");
	else if (p->len > REPLAY_MTU + 14 + 4 * p->tags)
		refuse(p, PACKET_UNFIT,
		       "beyond the MTU of %u, and no TCP that a device could cut", REPLAY_MTU);
	else if (tagged && p->len < 20)
		refuse(p, PACKET_UNFIT,
		       "it ends within its tag: the kernel drops it before any program");
	/* The kernel wants six bytes behind the link's tag. */
	p->alone = p->len < 16;
}

void packet_dissect(struct packet *p)
{
	int type;

	if (p->len < PACKET_MIN) {
		refuse(p, PACKET_UNFIT, "%u bytes, no Ethernet header: no tap takes it",
		       p->len);
		return;
	}
	type = read_tags(p, &p->l3);
	p->key.ethertype = type;
	if (type == 0)
		refuse(p, PACKET_MALFORMED, "rule 12: ethertype 0");
	else if (type == 0x0800)
		dissect_ipv4(p);
	else if (type == 0x86dd)
		dissect_ipv6(p);
	else if (type > 0)
		dissect_other(p);
	if (p->class == PACKET_MALFORMED)
		settle_malformed(p);
	if (packet_rules)
		packet_rules(p);
}

void packet_free(struct packet *p)
{
	free(p->bytes);
	free(p->why);
}

bool packet_has_units(const struct packet *p)
{
	return p->seq != p->next;
}

int packet_unit(const struct packet *p, uint32_t at)
{
	uint32_t offset = at - p->seq;

	if (offset >= p->next - p->seq)
		return UNIT_NONE;
	if (p->flags & TCP_SYN) {
		if (!offset)
			return UNIT_SYN;
		offset--;
	}
	return offset < p->data_len ? p->bytes[p->data + offset] : UNIT_FIN;
}

unsigned int packet_fragment_offset(const struct packet *p)
{
	return p->key.ethertype == 0x86dd ? p->place & 0xfff8 : (p->place & 0x1fff) * 8;
}

bool packet_is_last_fragment(const struct packet *p)
{
	return !(p->place & (p->key.ethertype == 0x86dd ? 1 : 0x2000));
}

bool packet_span(const struct packet *first, const struct packet *last, struct packet_key *key,
		 uint32_t *from, uint32_t *to)
{
	const uint8_t *l4 = first->bytes + first->l4;
	unsigned int header, len;

	if (first->end - first->l4 < 20)
		return false;
	header = (l4[12] >> 4) * 4;
	len = packet_fragment_offset(last) + last->end - last->l4;
	if (len < header)
		return false;
	*key = first->key;
	key->fragment = 0;
	key->sport = load16(l4);
	key->dport = load16(l4 + 2);
	*from = load32(l4 + 4);
	*to = *from + len - header + !!(l4[13] & TCP_SYN) + !!(l4[13] & TCP_FIN);
	return true;
}

unsigned int packet_csum(const struct packet *p, unsigned int *len)
{
	unsigned int at = 0;

	*len = 2;
	if (!p->l4 || !p->key.proto || p->key.malformed)
		return 0;
	/* Only the first fragment has the header. */
	if (p->key.fragment && p->place & (p->key.ethertype == 0x86dd ? 0xfff8 : 0x1fff))
		return 0;
	switch (p->key.proto) {
	case IPPROTO_TCP:
		at = 16;
		break;
	case IPPROTO_UDP:
		at = 6;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		at = 2;
		break;
	case IPPROTO_SCTP:
		at = 8;
		*len = 4;
		break;
	default:
		return 0;
	}
	return p->l4 + at + *len <= p->end ? p->l4 + at : 0;
}

bool packet_csum_good(const struct packet *p)
{
	struct flow flow = {.src.family = p->key.ethertype == 0x86dd ? AF_INET6 : AF_INET};
	unsigned int len, at = packet_csum(p, &len);
	uint32_t sum = 0;

	if (!at || p->key.fragment || p->key.proto == IPPROTO_SCTP)
		return false;
	memcpy(flow.src.bytes, p->key.src, 16);
	memcpy(flow.dst.bytes, p->key.dst, 16);
	if (p->key.proto != IPPROTO_ICMP)
		sum = sum_pseudo(&flow, p->key.proto, p->end - p->l4);
	return sum_fold(sum_add(sum, p->bytes + p->l4, p->end - p->l4)) == 0xffff;
}

bool packet_ip_csum_good(const struct packet *p)
{
	return sum_fold(sum_add(0, p->bytes + p->l3, p->l4 - p->l3)) == 0xffff;
}

/* The next option of TCP, NULL: there is none. */
static const uint8_t *next_option(const struct packet *p, const uint8_t *at)
{
	const uint8_t *end = p->bytes + p->data;

	at = at ? at + at[1] : p->bytes + p->l4 + 20;
	while (at < end && *at == 1)
		at++;
	return at + 1 >= end || !*at || at[1] < 2 || at + at[1] > end ? NULL : at;
}

bool packet_keyed(const struct packet *p)
{
	const uint8_t *at = NULL;

	while ((at = next_option(p, at))) {
		if (*at == 19 || *at == 29 || *at == 30)
			return true;
	}
	return false;
}

/* What of a SYN's options has to agree. */
struct agreed {
	bool has[256];
	uint16_t mss;
	uint8_t scale;
};

static void read_agreed(const struct packet *p, struct agreed *to)
{
	static const uint8_t kinds[] = {2, 3, 4, 8, 19, 29, 30};
	const uint8_t *at = NULL;

	memset(to, 0, sizeof(*to));
	while ((at = next_option(p, at))) {
		if (memchr(kinds, *at, sizeof(kinds)))
			to->has[*at] = true;
		if (*at == 2 && at[1] == 4)
			to->mss = load16(at + 2);
		if (*at == 3 && at[1] == 3)
			to->scale = at[2];
	}
}

bool packet_options_differ(const struct packet *a, const struct packet *b)
{
	struct agreed of_a, of_b;

	read_agreed(a, &of_a);
	read_agreed(b, &of_b);
	return memcmp(&of_a, &of_b, sizeof(of_a));
}

static void print_address(char *to, size_t size, const struct packet *p, const uint8_t *address)
{
	if (p->key.ethertype == 0x0800 || p->key.ethertype == 0x86dd)
		inet_ntop(p->key.ethertype == 0x86dd ? AF_INET6 : AF_INET, address, to, size);
	else
		snprintf(to, size, "%02x:%02x:%02x:%02x:%02x:%02x", address[0], address[1],
			 address[2], address[3], address[4], address[5]);
}

void packet_print_flow(char *to, size_t size, const struct packet *p)
{
	static const struct {
		uint8_t proto;
		const char *name;
	} names[] = {{IPPROTO_ICMP, "icmp"}, {IPPROTO_IGMP, "igmp"},    {IPPROTO_TCP, "tcp"},
		     {IPPROTO_UDP, "udp"},   {IPPROTO_ICMPV6, "icmp6"}, {IPPROTO_SCTP, "sctp"}};
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], what[24];
	bool ports = p->class == PACKET_STREAM || p->key.sport || p->key.dport;

	if (p->len < PACKET_MIN) {
		snprintf(to, size, "%u bytes", p->len);
		return;
	}
	print_address(src, sizeof(src), p, p->key.src);
	print_address(dst, sizeof(dst), p, p->key.dst);
	snprintf(what, sizeof(what), p->key.malformed ? "frame" : "ethertype %04x",
		 p->key.ethertype);
	if (p->key.ethertype == 0x0800 || p->key.ethertype == 0x86dd)
		snprintf(what, sizeof(what), "ip %u", p->key.proto);
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]) && p->key.proto; i++) {
		if (names[i].proto == p->key.proto)
			snprintf(what, sizeof(what), "%s", names[i].name);
	}
	if (ports)
		snprintf(to, size, "%s %s:%u>%s:%u", what, src, p->key.sport, dst,
			 p->key.dport);
	else
		snprintf(to, size, "%s %s>%s%s", what, src, dst,
			 p->key.fragment ? " fragment" : "");
}
