// SPDX-License-Identifier: GPL-2.0-only
/* From a FRAME as it is written to its bytes. */
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 0x10};
static const uint8_t client_mac[6] = {2, 0, 0, 0, 0, 0x01};

struct builder {
	const struct spec *spec;
	uint8_t bytes[FRAME_MAX + 256];
	unsigned int len;
	unsigned int l3_off, l4_off;
	bool over; /* too long */
};

static void put(struct builder *b, const void *bytes, unsigned int len)
{
	if (b->len + len > sizeof(b->bytes)) {
		b->over = true;
		return;
	}
	if (len)
		memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

static void put8(struct builder *b, uint8_t value)
{
	put(b, &value, 1);
}

static void put16(struct builder *b, uint16_t value)
{
	value = htons(value);
	put(b, &value, 2);
}

static void put32(struct builder *b, uint32_t value)
{
	value = htonl(value);
	put(b, &value, 4);
}

static void store16(struct builder *b, unsigned int at, uint16_t value)
{
	b->bytes[at] = value >> 8;
	b->bytes[at + 1] = value;
}

static bool written(const struct builder *b, enum field field)
{
	return b->spec->set & field;
}

static bool v6(const struct builder *b)
{
	return b->spec->flow.src.family == AF_INET6;
}

static void put_macs(struct builder *b, bool from_guest)
{
	const struct spec *spec = b->spec;

	put(b, written(b, FIELD_DMAC) ? spec->dmac : from_guest ? client_mac : guest_mac, 6);
	put(b, written(b, FIELD_SMAC) ? spec->smac : from_guest ? guest_mac : client_mac, 6);
}

/* 802.1Q; two tags are 802.1ad outside. */
static void put_tags(struct builder *b)
{
	for (unsigned int i = 0; i < b->spec->vlans; i++) {
		put16(b, b->spec->vlans == 2 && !i ? 0x88a8 : 0x8100);
		put16(b, b->spec->vlan[i]);
	}
}

static uint8_t protocol(const struct spec *spec)
{
	switch (spec->kind) {
	case KIND_TCP:
		return IPPROTO_TCP;
	case KIND_UDP:
		return IPPROTO_UDP;
	case KIND_ICMP:
		return IPPROTO_ICMP;
	case KIND_ICMP6:
		return IPPROTO_ICMPV6;
	default:
		return spec->proto;
	}
}

static void put_ipv4(struct builder *b)
{
	const struct spec *spec = b->spec;
	unsigned int options = (spec->ipopt_len + 3) / 4 * 4;

	put8(b, 0x45 + options / 4);
	put8(b, spec->tos);
	put16(b, 0); /* length: later */
	put16(b, spec->ipid);
	put16(b, spec->frag_off / 8 | (spec->frag_more ? 0x2000 : 0));
	put8(b, written(b, FIELD_TTL) ? spec->ttl : 64);
	put8(b, protocol(spec));
	put16(b, 0); /* checksum: later */
	put(b, spec->flow.src.bytes, 4);
	put(b, spec->flow.dst.bytes, 4);
	put(b, spec->ipopt, spec->ipopt_len);
	for (unsigned int i = spec->ipopt_len; i < options; i++)
		put8(b, 0);
}

/* The extension headers, the fragment header among them if frag= asks for one. */
static unsigned int list_exts(const struct builder *b, uint8_t ext[EXTS_MAX])
{
	unsigned int count = b->spec->exts;
	bool fragment = false;

	for (unsigned int i = 0; i < count; i++) {
		ext[i] = b->spec->ext[i];
		fragment |= ext[i] == IPPROTO_FRAGMENT;
	}
	if (written(b, FIELD_FRAG) && !fragment)
		ext[count++] = IPPROTO_FRAGMENT;
	return count;
}

static void put_ext(struct builder *b, uint8_t ext, uint8_t next)
{
	const struct spec *spec = b->spec;

	put8(b, next);
	put8(b, 0); /* 8 bytes */
	if (ext == IPPROTO_FRAGMENT) {
		put16(b, spec->frag_off | (spec->frag_more ? 1 : 0));
		put32(b, spec->ipid);
	} else if (ext == IPPROTO_ROUTING) {
		put(b, "\0\0\0\0\0\0", 6); /* type 0, no segment left */
	} else {
		put(b, "\1\4\0\0\0\0", 6); /* PadN */
	}
}

static void put_ipv6(struct builder *b)
{
	const struct spec *spec = b->spec;
	uint8_t ext[EXTS_MAX];
	unsigned int exts = list_exts(b, ext);

	put32(b, 6U << 28 | (uint32_t)spec->tos << 20);
	put16(b, 0); /* length: later */
	put8(b, exts ? ext[0] : protocol(spec));
	put8(b, written(b, FIELD_TTL) ? spec->ttl : 64);
	put(b, spec->flow.src.bytes, 16);
	put(b, spec->flow.dst.bytes, 16);
	for (unsigned int i = 0; i < exts; i++)
		put_ext(b, ext[i], i + 1 < exts ? ext[i + 1] : protocol(spec));
}

static void put_tcp(struct builder *b)
{
	const struct spec *spec = b->spec;
	unsigned int options = (spec->opt_len + 3) / 4 * 4;

	put16(b, spec->flow.sport);
	put16(b, spec->flow.dport);
	put32(b, spec->seq);
	put32(b, spec->ack);
	put8(b, (written(b, FIELD_DOFF) ? spec->doff : 5 + options / 4) << 4);
	put8(b, spec->flags);
	put16(b, written(b, FIELD_WIN) ? spec->win : 64240);
	put16(b, 0);
	/* Urgent up to the end of the segment. */
	put16(b, spec->flags & TCP_URG ? spec->data_len : 0);
	put(b, spec->opt, spec->opt_len);
	for (unsigned int i = spec->opt_len; i < options; i++)
		put8(b, 0);
}

static void put_l4(struct builder *b)
{
	const struct spec *spec = b->spec;

	switch (spec->kind) {
	case KIND_TCP:
		put_tcp(b);
		break;
	case KIND_UDP:
		put16(b, spec->flow.sport);
		put16(b, spec->flow.dport);
		put16(b, 8 + spec->data_len);
		put16(b, 0);
		break;
	case KIND_ICMP:
	case KIND_ICMP6:
		put8(b, spec->type);
		put8(b, spec->code);
		put16(b, 0);
		put16(b, spec->id);
		put16(b, spec->seq);
		break;
	default:
		break;
	}
}

static unsigned int csum_offset(enum kind kind)
{
	return kind == KIND_TCP ? 16 : kind == KIND_UDP ? 6 : 2;
}

static bool has_csum(const struct builder *b)
{
	return b->spec->kind >= KIND_TCP && b->spec->kind <= KIND_ICMP6 && !b->spec->frag_off;
}

static void finish_l4(struct builder *b, bool partial)
{
	const struct spec *spec = b->spec;
	unsigned int len = b->len - b->l4_off, at = b->l4_off + csum_offset(spec->kind);
	uint32_t sum = spec->kind == KIND_ICMP ? 0 :
						 sum_pseudo(&spec->flow, protocol(spec), len);
	uint16_t csum;

	if (!has_csum(b) || spec->csum == CSUM_ZERO)
		return;
	if (partial) {
		store16(b, at, sum_fold(sum));
		return;
	}
	csum = ~sum_fold(sum_add(sum, b->bytes + b->l4_off, len));
	if (!csum && spec->kind == KIND_UDP)
		csum = 0xffff;
	if (spec->csum == CSUM_BAD)
		csum ^= 0x5555;
	store16(b, at, csum);
}

static void finish_l3(struct builder *b)
{
	unsigned int header;

	if (v6(b)) {
		store16(b, b->l3_off + 4, b->len - b->l3_off - 40);
		return;
	}
	header = (b->bytes[b->l3_off] & 15) * 4;
	store16(b, b->l3_off + 2, b->len - b->l3_off);
	store16(b, b->l3_off + 10, ~sum_fold(sum_add(0, b->bytes + b->l3_off, header)));
}

static void build_ip(struct builder *b, bool partial)
{
	const struct spec *spec = b->spec;

	put16(b, v6(b) ? 0x86dd : 0x0800);
	b->l3_off = b->len;
	if (v6(b))
		put_ipv6(b);
	else
		put_ipv4(b);
	b->l4_off = b->len;
	if (!spec->frag_off)
		put_l4(b);
	put(b, spec->data, spec->data_len);
	finish_l4(b, partial);
	finish_l3(b);
}

static void build_arp(struct builder *b)
{
	const struct spec *spec = b->spec;

	put16(b, 0x0806);
	put16(b, 1);
	put16(b, 0x0800);
	put16(b, 6 << 8 | 4);
	put16(b, spec->op);
	put(b, b->bytes + 6, 6);
	put(b, spec->flow.src.bytes, 4);
	put(b, spec->op == 2 ? (const void *)b->bytes : "\0\0\0\0\0\0", 6);
	put(b, spec->flow.dst.bytes, 4);
}

/* A whole frame as it is written; vlan=, smac= and dmac= still count. */
static void build_raw(struct builder *b)
{
	const struct spec *spec = b->spec;

	put(b, written(b, FIELD_DMAC) ? spec->dmac : spec->data, 6);
	put(b, written(b, FIELD_SMAC) ? spec->smac : spec->data + 6, 6);
	put_tags(b);
	put(b, spec->data + 12, spec->data_len - 12);
}

struct frame *frame_new(const uint8_t *bytes, unsigned int len)
{
	struct frame *frame = calloc(1, sizeof(*frame));

	frame->bytes = malloc(len + 1);
	memcpy(frame->bytes, bytes, len);
	frame->len = len;
	return frame;
}

void frame_free(struct frame *frame)
{
	if (!frame)
		return;
	free(frame->bytes);
	free(frame->fault);
	free(frame);
}

/* With offloads on, the guests leave the checksums of TCP and UDP to the device. */
static bool leave_partial(const struct spec *spec)
{
	return (spec->kind == KIND_TCP || spec->kind == KIND_UDP) && spec->csum == CSUM_RIGHT &&
	       !(spec->set & (FIELD_FRAG | FIELD_DOFF | FIELD_PAD));
}

static struct frame *wrong(char **error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static struct frame *wrong(char **error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vasprintf(error, format, args) < 0)
		*error = NULL;
	va_end(args);
	return NULL;
}

static struct frame *check_built(const struct builder *b, bool offloads, bool partial,
				 char **error)
{
	const struct spec *spec = b->spec;
	unsigned int l3_len = b->len - 14 - 4 * spec->vlans;
	struct frame *frame;
	struct view v;

	if (b->over || l3_len > 65535 + spec->pad + (v6(b) ? 40 : 0))
		return wrong(error, "the frame is too long");
	if (offloads && spec->csum == CSUM_BAD)
		return wrong(error, "csum=bad needs offloads off");
	if (l3_len > FRAME_MTU && !(spec->kind == KIND_TCP && partial))
		return wrong(error,
			     "a frame above the MTU of %u has to be TCP with offloads on",
			     FRAME_MTU);
	frame = frame_new(b->bytes, b->len);
	frame->partial = partial;
	/* With options of IPv6 and TCP one segment may be above it. */
	frame->gso = l3_len > FRAME_MTU && spec->data_len > FRAME_GSO;
	frame->l4_off = b->l4_off;
	frame->bad_csum = spec->csum == CSUM_BAD;
	/* What is written byte by byte may be wrong, too. */
	decode_frame(frame, &v);
	if (!partial && ((v.csum_known && !v.csum_good) || !v.ip_csum_good))
		frame->bad_csum = true;
	return frame;
}

struct frame *build_frame(const struct spec *spec, bool from_guest, bool offloads, char **error)
{
	bool partial = offloads && leave_partial(spec);
	struct builder *b = calloc(1, sizeof(*b));
	struct frame *frame;

	b->spec = spec;
	if (spec->kind == KIND_RAW) {
		build_raw(b);
	} else {
		put_macs(b, from_guest);
		put_tags(b);
		if (spec->kind == KIND_ARP)
			build_arp(b);
		else
			build_ip(b, partial);
	}
	/* Not zeros: padding is nothing, whatever stands in it. */
	for (unsigned int i = 0; i < spec->pad; i++)
		put8(b, 0x5a);
	frame = check_built(b, offloads, partial, error);
	free(b);
	return frame;
}
