// SPDX-License-Identifier: GPL-2.0-only
/* Does a frame match a pattern, and if not, why. */
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

static char *differ(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *differ(const char *format, ...)
{
	va_list args;
	char *why;

	va_start(args, format);
	if (vasprintf(&why, format, args) < 0)
		why = strdup("no memory");
	va_end(args);
	return why;
}

static char *differ_bytes(const char *name, const uint8_t *want, unsigned int want_len,
			  const uint8_t *is, unsigned int is_len)
{
	unsigned int at = 0;

	if (want_len != is_len)
		return differ("%s: %u bytes, not %u", name, is_len, want_len);
	while (at < want_len && want[at] == is[at])
		at++;
	return at < want_len ?
		       differ("%s: byte %u is %02x, not %02x", name, at, is[at], want[at]) :
		       NULL;
}

/* Options without what only fills up, unless the pattern has some of that. */
static unsigned int options(const uint8_t *opt, unsigned int len, bool nops, uint8_t to[64])
{
	unsigned int used = 0, size;

	for (unsigned int i = 0; i < len && opt[i]; i += size) {
		size = opt[i] == 1 ? 1 : i + 1 < len ? opt[i + 1] : 1;
		if (!size || i + size > len)
			size = len - i;
		if (opt[i] == 1 && !nops)
			continue;
		memcpy(to + used, opt + i, size);
		used += size;
	}
	return used;
}

static bool has_nop(const uint8_t *opt, unsigned int len)
{
	unsigned int size;

	for (unsigned int i = 0; i < len && opt[i]; i += size) {
		if (opt[i] == 1)
			return true;
		size = i + 1 < len && opt[i + 1] ? opt[i + 1] : len;
	}
	return false;
}

static char *match_options(const struct spec *spec, const struct view *v)
{
	bool nops = has_nop(spec->opt, spec->opt_len);
	uint8_t want[64], is[64];
	unsigned int want_len = options(spec->opt, spec->opt_len, nops, want);
	unsigned int is_len = options(v->opt, v->opt_len, nops, is);

	return differ_bytes("opt", want, want_len, is, is_len);
}

static char *match_flow(const struct spec *spec, const struct view *v)
{
	char want[128], is[128];
	bool ports = spec->kind == KIND_TCP || spec->kind == KIND_UDP;
	struct flow flow = v->flow;

	/* What has no ports of its own (a later fragment) is of any. */
	if (ports && v->frag_off)
		flow.sport = spec->flow.sport, flow.dport = spec->flow.dport;
	if (flow_equal(&spec->flow, &flow))
		return NULL;
	text_print_flow(want, sizeof(want), &spec->flow, ports);
	text_print_flow(is, sizeof(is), &flow, ports);
	return differ("flow: %s, not %s", is, want);
}

static char *match_vlan(const struct spec *spec, const struct view *v)
{
	if (spec->vlans == v->vlans &&
	    !memcmp(spec->vlan, v->vlan, spec->vlans * sizeof(spec->vlan[0])))
		return NULL;
	return differ("vlan: other tags (%u of them)", v->vlans);
}

static char *match_ext(const struct spec *spec, const struct view *v)
{
	uint8_t want[EXTS_MAX];
	unsigned int count = spec->exts;
	bool fragment = memchr(spec->ext, IPPROTO_FRAGMENT, count);

	memcpy(want, spec->ext, count);
	if (spec->set & FIELD_FRAG && !fragment)
		want[count++] = IPPROTO_FRAGMENT;
	return differ_bytes("ext", want, count, v->ext, v->exts);
}

static char *match_ipopt(const struct spec *spec, const struct view *v)
{
	unsigned int len = (spec->ipopt_len + 3) / 4 * 4;
	uint8_t want[44] = {0};

	memcpy(want, spec->ipopt, spec->ipopt_len);
	return differ_bytes("ipopt", want, len, v->ipopt, v->ipopt_len);
}

/* The plain numbers: one row each. */
static char *match_numbers(const struct spec *spec, const struct view *v)
{
	const struct {
		const char *name;
		enum field field;
		uint32_t want, is;
		bool l4;
	} numbers[] = {
		{"seq", FIELD_SEQ, spec->seq, v->seq, true},
		{"ack", FIELD_ACK, spec->ack, v->ack, true},
		{"fl", FIELD_FLAGS, spec->flags, v->flags, true},
		{"win", FIELD_WIN, spec->win, v->win, true},
		{"type", FIELD_TYPE, spec->type, v->type, true},
		{"code", FIELD_CODE, spec->code, v->code, true},
		{"id", FIELD_ID, spec->id, v->id, true},
		{"doff", FIELD_DOFF, spec->doff, v->doff, true},
		{"csum", FIELD_CSUM, 0, v->csum, true},
		{"proto", FIELD_PROTO, spec->proto, v->proto, false},
		{"ttl", FIELD_TTL, spec->ttl, v->ttl, false},
		{"tos", FIELD_TOS, spec->tos, v->tos, false},
		{"ipid", FIELD_IPID, spec->ipid, v->ipid, false},
		{"frag", FIELD_FRAG, spec->frag_off, v->frag_off, false},
		{"frag: more", FIELD_FRAG, spec->frag_more, v->frag_more, false},
		{"pad", FIELD_PAD, spec->pad, v->pad, false},
		{"operation", FIELD_OP, spec->op, v->op, false},
	};

	for (unsigned int i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (!(spec->set & numbers[i].field))
			continue;
		if (numbers[i].l4 && !v->has_l4)
			return differ("%s: the frame has none", numbers[i].name);
		if (numbers[i].want != numbers[i].is)
			return differ("%s: %u, not %u", numbers[i].name, numbers[i].is,
				      numbers[i].want);
	}
	return NULL;
}

static char *match_fields(const struct spec *spec, const struct view *v)
{
	static const struct {
		enum field field;
		char *(*match)(const struct spec *spec, const struct view *v);
	} fields[] = {
		{FIELD_VLAN, match_vlan},   {FIELD_FLOW, match_flow},
		{FIELD_OPT, match_options}, {FIELD_EXT, match_ext},
		{FIELD_IPOPT, match_ipopt},
	};
	char *why = match_numbers(spec, v);

	for (unsigned int i = 0; !why && i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (spec->set & fields[i].field)
			why = fields[i].match(spec, v);
	}
	if (!why && spec->set & FIELD_DMAC)
		why = differ_bytes("dmac", spec->dmac, 6, v->bytes, 6);
	if (!why && spec->set & FIELD_SMAC)
		why = differ_bytes("smac", spec->smac, 6, v->bytes + 6, 6);
	if (!why && spec->set & FIELD_DATA && spec->kind != KIND_RAW)
		why = differ_bytes("data", spec->data, spec->data_len, v->data, v->data_len);
	return why;
}

static char *match_kind(const struct spec *spec, const struct view *v)
{
	if (spec->kind == KIND_ANY || spec->kind == KIND_OPEN || spec->kind == v->kind)
		return NULL;
	/* `ip` is every IP packet, by its number. */
	if (spec->kind == KIND_IP && v->kind >= KIND_TCP && v->kind <= KIND_IP)
		return NULL;
	return differ("another protocol");
}

static char *match_ip(const struct spec *spec, struct view *v)
{
	char *why = match_kind(spec, v);

	if (!why && spec->kind == KIND_IP) {
		v->data = v->l4;
		v->data_len = v->l4_len;
		v->flow.sport = v->flow.dport = 0;
	}
	return why ? why : match_fields(spec, v);
}

static char *match_raw(const struct spec *spec, const struct frame *frame)
{
	char *error = NULL, *why;
	struct frame *want = build_frame(spec, true, false, &error);

	if (!want)
		return error;
	why = differ_bytes("frame", want->bytes, want->len, frame->bytes, frame->len);
	frame_free(want);
	return why;
}

static bool frame_equal(const struct frame *a, const struct frame *b)
{
	return a->len == b->len && !memcmp(a->bytes, b->bytes, a->len);
}

/* The same packet, translated: a checksum that is updated stays as wrong as it was. */
static bool same_wrong(const struct frame *in, const struct view *v)
{
	struct view was;

	decode_frame(in, &was);
	return was.csum_known && v->csum_known && was.kind == v->kind &&
	       was.l4_len == v->l4_len && was.csum_sum == v->csum_sum &&
	       was.ip_csum_good == v->ip_csum_good;
}

/*
 * Every frame that leaves is checked, whatever the pattern names. One that went
 * in wrong may leave as it was (rule 8: what leaves whole carries P's).
 */
static char *match_checksums(const struct view *v, const struct frame *frame,
			     const struct frames *bad)
{
	for (unsigned int i = 0; i < bad->count; i++) {
		if (frame_equal(bad->list[i], frame) || same_wrong(bad->list[i], v))
			return NULL;
	}
	if (v->kind != KIND_OPEN && !v->ip_csum_good)
		return differ("the IP checksum is wrong");
	if (v->csum_known && !v->csum_good)
		return differ("the checksum %04x is wrong", v->csum);
	return NULL;
}

char *match_frame(const struct spec *spec, const struct frame *frame, const struct frames *bad)
{
	char *why = frame->fault ? strdup(frame->fault) : NULL;
	struct view v;

	decode_frame(frame, &v);
	if (!why && spec->kind == KIND_RAW)
		why = match_raw(spec, frame);
	else if (!why)
		why = match_ip(spec, &v);
	return why ? why : match_checksums(&v, frame, bad);
}
