// SPDX-License-Identifier: GPL-2.0-only
/* From a frame to its fields, and to a line of text. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

/* Sums are of 16-bit words in network order; only a block's last byte may be odd. */
uint32_t sum_add(uint32_t sum, const uint8_t *bytes, unsigned int len)
{
	for (unsigned int i = 0; i + 1 < len; i += 2) {
		sum += bytes[i] << 8 | bytes[i + 1];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	if (len & 1)
		sum += bytes[len - 1] << 8;
	return sum;
}

uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

uint32_t sum_pseudo(const struct flow *flow, uint8_t proto, uint32_t len)
{
	unsigned int size = flow->src.family == AF_INET6 ? 16 : 4;
	uint32_t sum = sum_add(0, flow->src.bytes, size);

	sum = sum_add(sum, flow->dst.bytes, size);
	return sum + proto + (len >> 16) + (len & 0xffff);
}

static uint16_t load16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint32_t load32(const uint8_t *at)
{
	return (uint32_t)load16(at) << 16 | load16(at + 2);
}

static void decode_tcp(struct view *v)
{
	unsigned int header;

	if (v->l4_len < 20)
		return;
	v->doff = v->l4[12] >> 4;
	header = v->doff * 4;
	v->flow.sport = load16(v->l4);
	v->flow.dport = load16(v->l4 + 2);
	v->seq = load32(v->l4 + 4);
	v->ack = load32(v->l4 + 8);
	v->flags = v->l4[13];
	v->win = load16(v->l4 + 14);
	v->csum = load16(v->l4 + 16);
	v->has_l4 = true;
	if (header < 20 || header > v->l4_len)
		return;
	v->opt = v->l4 + 20;
	v->opt_len = header - 20;
	v->data = v->l4 + header;
	v->data_len = v->l4_len - header;
}

static void decode_udp(struct view *v)
{
	if (v->l4_len < 8)
		return;
	v->flow.sport = load16(v->l4);
	v->flow.dport = load16(v->l4 + 2);
	v->csum = load16(v->l4 + 6);
	v->has_l4 = true;
	v->data = v->l4 + 8;
	v->data_len = v->l4_len - 8;
}

static void decode_icmp(struct view *v)
{
	if (v->l4_len < 8)
		return;
	v->type = v->l4[0];
	v->code = v->l4[1];
	v->csum = load16(v->l4 + 2);
	v->id = load16(v->l4 + 4);
	v->seq = load16(v->l4 + 6);
	v->has_l4 = true;
	v->data = v->l4 + 8;
	v->data_len = v->l4_len - 8;
}

static void check_l4(struct view *v)
{
	uint32_t sum = 0;

	if (!v->has_l4 || v->fragment || v->kind == KIND_IP)
		return;
	if (v->kind == KIND_UDP && !v->csum)
		return;
	if (v->kind != KIND_ICMP)
		sum = sum_pseudo(&v->flow, v->proto, v->l4_len);
	v->csum_known = true;
	v->csum_sum = sum_fold(sum_add(sum, v->l4, v->l4_len));
	v->csum_good = v->csum_sum == 0xffff;
}

static void decode_l4(struct view *v)
{
	v->kind = KIND_IP;
	v->data = v->l4;
	v->data_len = v->l4_len;
	if (v->proto == IPPROTO_TCP)
		v->kind = KIND_TCP;
	else if (v->proto == IPPROTO_UDP)
		v->kind = KIND_UDP;
	else if (v->proto == IPPROTO_ICMP && v->flow.src.family == AF_INET)
		v->kind = KIND_ICMP;
	else if (v->proto == IPPROTO_ICMPV6 && v->flow.src.family == AF_INET6)
		v->kind = KIND_ICMP6;
	if (v->frag_off)
		return;
	if (v->kind == KIND_TCP)
		decode_tcp(v);
	else if (v->kind == KIND_UDP)
		decode_udp(v);
	else if (v->kind != KIND_IP)
		decode_icmp(v);
	check_l4(v);
}

static void decode_ipv4(struct view *v, const uint8_t *l3, unsigned int len)
{
	unsigned int header, total, frag;

	if (len < 20 || l3[0] >> 4 != 4)
		return;
	header = (l3[0] & 15) * 4;
	total = load16(l3 + 2);
	if (header < 20 || total < header || total > len)
		return;
	frag = load16(l3 + 6);
	v->flow.src.family = v->flow.dst.family = AF_INET;
	memcpy(v->flow.src.bytes, l3 + 12, 4);
	memcpy(v->flow.dst.bytes, l3 + 16, 4);
	v->tos = l3[1];
	v->ipid = load16(l3 + 4);
	v->ttl = l3[8];
	v->proto = l3[9];
	v->ip_csum_good = sum_fold(sum_add(0, l3, header)) == 0xffff;
	v->ipopt = l3 + 20;
	v->ipopt_len = header - 20;
	v->frag_off = (frag & 0x1fff) * 8;
	v->frag_more = frag & 0x2000;
	v->fragment = v->frag_off || v->frag_more;
	v->pad = len - total;
	v->l4 = l3 + header;
	v->l4_len = total - header;
	decode_l4(v);
}

static bool is_ext(uint8_t next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING ||
	       next == IPPROTO_FRAGMENT;
}

static void decode_ipv6(struct view *v, const uint8_t *l3, unsigned int len)
{
	unsigned int at = 40, end, size;
	uint8_t next;

	if (len < 40 || l3[0] >> 4 != 6)
		return;
	end = 40 + load16(l3 + 4);
	if (end > len)
		return;
	v->flow.src.family = v->flow.dst.family = AF_INET6;
	memcpy(v->flow.src.bytes, l3 + 8, 16);
	memcpy(v->flow.dst.bytes, l3 + 24, 16);
	v->tos = load16(l3) >> 4;
	v->ttl = l3[7];
	v->ip_csum_good = true;
	v->pad = len - end;
	for (next = l3[6]; is_ext(next) && at + 8 <= end && v->exts < EXTS_MAX; at += size) {
		size = next == IPPROTO_FRAGMENT ? 8 : 8 + l3[at + 1] * 8;
		v->ext[v->exts++] = next;
		if (next == IPPROTO_FRAGMENT) {
			v->frag_off = load16(l3 + at + 2) & 0xfff8;
			v->frag_more = l3[at + 3] & 1;
			v->fragment = v->frag_off || v->frag_more;
			v->ipid = load32(l3 + at + 4);
		}
		next = l3[at];
		if (v->frag_off) {
			at += size;
			break;
		}
	}
	v->proto = next;
	v->l4 = l3 + (at < end ? at : end);
	v->l4_len = at < end ? end - at : 0;
	decode_l4(v);
}

static void decode_arp(struct view *v, const uint8_t *l3, unsigned int len)
{
	if (len < 28 || load16(l3 + 2) != 0x0800)
		return;
	v->kind = KIND_ARP;
	v->op = load16(l3 + 6);
	v->flow.src.family = v->flow.dst.family = AF_INET;
	memcpy(v->flow.src.bytes, l3 + 14, 4);
	memcpy(v->flow.dst.bytes, l3 + 24, 4);
	v->pad = len - 28;
	v->ip_csum_good = true;
}

void decode_frame(const struct frame *frame, struct view *v)
{
	unsigned int at = 12;

	memset(v, 0, sizeof(*v));
	v->bytes = frame->bytes;
	v->len = frame->len;
	v->kind = KIND_OPEN;
	if (frame->len < 14)
		return;
	v->ethertype = load16(frame->bytes + at);
	while ((v->ethertype == 0x8100 || v->ethertype == 0x88a8) && v->vlans < VLANS_MAX &&
	       at + 6 <= frame->len) {
		v->vlan[v->vlans++] = load16(frame->bytes + at + 2) & 0xfff;
		at += 4;
		v->ethertype = load16(frame->bytes + at);
	}
	at += 2;
	if (v->ethertype == 0x0800)
		decode_ipv4(v, frame->bytes + at, frame->len - at);
	else if (v->ethertype == 0x86dd)
		decode_ipv6(v, frame->bytes + at, frame->len - at);
	else if (v->ethertype == 0x0806)
		decode_arp(v, frame->bytes + at, frame->len - at);
}

/* ---- printing ----------------------------------------------------------- */

static void print_options(FILE *to, const struct view *v)
{
	const char *between = " opt=";

	for (unsigned int i = 0; i < v->opt_len && v->opt[i];) {
		const uint8_t *opt = v->opt + i;
		unsigned int len = opt[0] == 1 ? 1 : i + 1 < v->opt_len ? opt[1] : 0;

		if (!len || i + len > v->opt_len || (len == 1 && opt[0] != 1)) {
			fprintf(to, "%s?", between);
			return;
		}
		fputs(between, to);
		between = "/";
		if (opt[0] == 1)
			fprintf(to, "nop");
		else if (opt[0] == 2 && len == 4)
			fprintf(to, "mss:%u", load16(opt + 2));
		else if (opt[0] == 3 && len == 3)
			fprintf(to, "ws:%u", opt[2]);
		else if (opt[0] == 4)
			fprintf(to, "sackok");
		else if (opt[0] == 8 && len == 10)
			fprintf(to, "ts:%u,%u", load32(opt + 2), load32(opt + 6));
		else if (opt[0] == 5)
			for (unsigned int at = 2; at + 8 <= len; at += 8)
				fprintf(to, "%s%u-%u", at == 2 ? "sack:" : ",",
					load32(opt + at), load32(opt + at + 4));
		else
			fprintf(to, "%u?", opt[0]);
		i += len;
	}
}

static void print_l4(FILE *to, const struct view *v)
{
	static const char letters[] = "FSRPAUEC";
	char *data;

	if (v->kind == KIND_TCP && v->has_l4) {
		fprintf(to, " seq=%u ack=%u fl=", v->seq, v->ack);
		for (int i = 7; i >= 0; i--) {
			if (v->flags & 1 << i)
				fputc(letters[i], to);
		}
		fprintf(to, " win=%u", v->win);
		print_options(to, v);
	} else if (v->has_l4 && v->kind != KIND_UDP) {
		fprintf(to, " type=%u code=%u id=%u seq=%u", v->type, v->code, v->id, v->seq);
	} else if (v->kind == KIND_IP) {
		fprintf(to, " proto=%u", v->proto);
	}
	if (v->data_len) {
		data = text_name_bytes(v->data, v->data_len);
		fprintf(to, " data=%s", data);
		free(data);
	}
}

static void print_ip(FILE *to, const struct view *v)
{
	static const char *const names[] = {
		[KIND_TCP] = "tcp",     [KIND_UDP] = "udp", [KIND_ICMP] = "icmp",
		[KIND_ICMP6] = "icmp6", [KIND_IP] = "ip",
	};
	char flow[128];
	bool ports = v->has_l4 && (v->kind == KIND_TCP || v->kind == KIND_UDP);

	text_print_flow(flow, sizeof(flow), &v->flow, ports);
	fprintf(to, "%s %s", names[v->kind], flow);
	print_l4(to, v);
	fprintf(to, " ttl=%u", v->ttl);
	if (v->tos)
		fprintf(to, " tos=%u", v->tos);
	if (v->ipid || v->fragment)
		fprintf(to, " ipid=%u", v->ipid);
	if (v->fragment)
		fprintf(to, " frag=%u%s", v->frag_off, v->frag_more ? ",more" : "");
	if (v->ipopt_len)
		fprintf(to, " ipopt=(%u bytes)", v->ipopt_len);
	for (unsigned int i = 0; i < v->exts; i++)
		fprintf(to, " ext=%u", v->ext[i]);
	if (!v->ip_csum_good)
		fprintf(to, " (IP checksum wrong)");
	if (v->csum_known && !v->csum_good)
		fprintf(to, " (checksum %04x wrong)", v->csum);
}

/* A frame as the language would write it; free it. */
char *decode_print(const struct frame *frame)
{
	struct view v;
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	char flow[128];

	decode_frame(frame, &v);
	for (unsigned int i = 0; i < v.vlans; i++)
		fprintf(to, "%s%u%s", i ? "," : "vlan=", v.vlan[i],
			i + 1 == v.vlans ? " " : "");
	if (v.kind == KIND_ARP) {
		text_print_flow(flow, sizeof(flow), &v.flow, false);
		fprintf(to, "arp %s %s", v.op == 1 ? "request" : "reply", flow);
	} else if (v.kind == KIND_OPEN) {
		fprintf(to, "raw ");
		for (unsigned int i = 0; i < frame->len && i < 80; i++)
			fprintf(to, "%02x", frame->bytes[i]);
		fprintf(to, "%s", frame->len > 80 ? ".." : "");
	} else {
		print_ip(to, &v);
	}
	if (v.pad)
		fprintf(to, " pad=%u", v.pad);
	fprintf(to, " (%u bytes%s)", frame->len, frame->gso ? ", GSO" : "");
	fclose(to);
	return text;
}
