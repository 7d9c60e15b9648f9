// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the rules say of one flow: TCP as units at their numbers, datagrams as
 * contents. It knows what generate.c makes and no more.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "differ.h"

#define UNIT_SYN 256
#define UNIT_FIN 257

void truth_begin(struct truth *t)
{
	memset(t, 0, sizeof(*t));
	memset(t->unit, 0xff, sizeof(t->unit));
	t->epoch = 1;
}

void truth_end(struct truth *t)
{
	for (unsigned int i = 0; i < t->p_count; i++)
		frame_free(t->p[i].frame);
}

static unsigned int place(const struct truth *t, uint32_t seq)
{
	return seq - t->base;
}

/* What two SYNs have to agree on, as text. */
static void syn_options(const struct spec *spec, char *to, size_t size)
{
	const uint8_t *opt = spec->opt;
	unsigned int mss = 0, ws = 256, sackok = 0, ts = 0, len;

	for (unsigned int i = 0; i < spec->opt_len && opt[i]; i += len) {
		len = opt[i] == 1 ? 1 : opt[i + 1];
		if (opt[i] == 2)
			mss = opt[i + 2] << 8 | opt[i + 3];
		else if (opt[i] == 3)
			ws = opt[i + 2];
		sackok |= opt[i] == 4;
		ts |= opt[i] == 8;
	}
	snprintf(to, size, "%u %u %u %u", mss, ws, sackok, ts);
}

static void note_units(struct truth *t, int side, const struct spec *spec)
{
	unsigned int at = place(t, spec->seq);

	if (spec->flags & TCP_SYN) {
		t->unit[side][at++ % SPACE] = UNIT_SYN;
		syn_options(spec, t->syn[side], sizeof(t->syn[side]));
		t->syn_epoch[side] = t->epoch;
	}
	for (unsigned int i = 0; i < spec->data_len; i++)
		t->unit[side][at++ % SPACE] = spec->data[i];
	if (spec->flags & TCP_FIN)
		t->unit[side][at % SPACE] = UNIT_FIN;
}

/* Both sides' units from the end of what is vouched for. */
static void vouch(struct truth *t)
{
	if (!t->begun) {
		t->vouch_start = t->vouch_end =
			place(t, t->p_count ? t->p[0].spec->seq : t->base);
		t->begun = t->p_count && t->s_count;
	}
	while (!t->mismatch) {
		int p = t->unit[0][t->vouch_end % SPACE], s = t->unit[1][t->vouch_end % SPACE];

		if (p < 0 || s < 0)
			break;
		if (p != s || (p == UNIT_SYN && strcmp(t->syn[0], t->syn[1])))
			t->mismatch = true;
		else
			t->vouch_end++;
	}
	for (unsigned int u = t->reset_at; t->p_reset && u < SPACE; u++)
		t->mismatch |= t->unit[1][u] >= 0;
}

static bool inside(const struct truth *t, const struct sent *p)
{
	unsigned int from = place(t, p->spec->seq), until = place(t, p->end);

	return from == until || (from >= t->vouch_start && until <= t->vouch_end);
}

bool truth_ack_covered(const struct truth *t, const struct sent *p)
{
	return !(p->spec->flags & TCP_ACK) ||
	       (t->has_ack && (int32_t)(p->spec->ack - t->ack) <= 0);
}

bool truth_shown(const struct truth *t, const struct sent *p)
{
	for (uint32_t seq = p->spec->seq; seq != p->end; seq++) {
		unsigned int at = place(t, seq) % SPACE;

		if (at >= t->vouch_end && t->unit[0][at] != t->unit[1][at])
			return false;
	}
	return true;
}

/* A frame of the stream leaves behind those before it. */
static bool in_turn(const struct truth *t, const struct sent *p)
{
	for (unsigned int i = 0; i < t->p_count; i++) {
		const struct sent *other = &t->p[i];

		if (other->has_new && !other->due && !other->may &&
		    (int32_t)(other->spec->seq - p->spec->seq) < 0)
			return false;
	}
	return true;
}

/* An earlier segment with the same number waits: the order of two such is free. */
static bool behind_its_like(const struct truth *t, const struct sent *p)
{
	for (const struct sent *other = t->p; p->has_new && other < p; other++) {
		if (other->has_new && !other->due && other->spec->seq == p->spec->seq)
			return true;
	}
	return false;
}

static bool tcp_due(const struct truth *t, const struct sent *p)
{
	if (!truth_ack_covered(t, p))
		return false;
	if (p->spec->flags & TCP_RST)
		return t->s_reset && !t->mismatch && in_turn(t, p);
	return inside(t, p) && (!p->has_new || in_turn(t, p));
}

static void settle_tcp(struct truth *t)
{
	bool more;

	vouch(t);
	do {
		more = false;
		for (unsigned int i = 0; i < t->p_count; i++) {
			struct sent *p = &t->p[i];

			bool like = behind_its_like(t, p);

			if (p->due || (p->may && like) || !tcp_due(t, p))
				continue;
			if (like)
				p->may = more = true;
			else
				p->due = more = true;
		}
	} while (more);
}

static void put_tcp(struct truth *t, int side, struct sent *sent)
{
	const struct spec *spec = sent->spec;

	if (!t->based)
		t->base = spec->seq - SPACE / 2;
	t->based = true;
	sent->end = spec->seq + spec->data_len + !!(spec->flags & TCP_SYN) +
		    !!(spec->flags & TCP_FIN);
	if (spec->flags & TCP_RST) {
		sent->end = spec->seq;
		if (side)
			t->s_reset = true;
		else
			t->p_reset = true, t->reset_at = place(t, spec->seq);
	} else {
		note_units(t, side, spec);
	}
	sent->has_new = !inside(t, sent);
	if (!(spec->flags & TCP_ACK))
		return;
	if (side) {
		t->last_s_ack = spec->ack;
		if (!t->has_ack || (int32_t)(spec->ack - t->ack) > 0)
			t->ack = spec->ack;
		t->has_ack = true;
	} else {
		if (!t->has_p_ack || (int32_t)(spec->ack - t->p_ack) > 0)
			t->p_ack = spec->ack;
		t->has_p_ack = true;
	}
}

/* L4 without its checksum. */
static bool same_content(const struct spec *a, const struct spec *b)
{
	return a->data_len == b->data_len && a->type == b->type && a->code == b->code &&
	       a->id == b->id && (a->kind != KIND_ICMP || a->seq == b->seq) &&
	       a->frag_off == b->frag_off && a->frag_more == b->frag_more &&
	       !memcmp(a->data, b->data, a->data_len);
}

static void settle_datagrams(struct truth *t)
{
	unsigned int open_p = 0, open_s = 0;
	bool in_order = true;

	for (unsigned int i = 0; i < t->p_count; i++) {
		struct sent *p = &t->p[i];

		for (unsigned int j = 0; !p->matched && !p->due && j < t->s_count; j++) {
			if (t->s[j].matched || t->s[j].epoch != t->epoch ||
			    !same_content(p->spec, t->s[j].spec))
				continue;
			p->matched = t->s[j].matched = true;
		}
		in_order &= p->matched || p->due;
		open_p += !p->matched && !p->due;
		if (in_order && !t->mismatch)
			p->due = true;
	}
	for (unsigned int j = 0; j < t->s_count; j++)
		open_s += !t->s[j].matched && t->s[j].epoch == t->epoch;
	t->mismatch |= !t->patient && open_p && open_s;
}

void truth_put(struct truth *t, enum verb verb, const struct spec *spec,
	       const struct frame *frame)
{
	int side = verb == VERB_S;
	struct sent *sent = side ? &t->s[t->s_count++] : &t->p[t->p_count++];

	sent->spec = spec;
	sent->epoch = t->epoch;
	if (!side)
		sent->frame = frame_new(frame->bytes, frame->len);
	if (spec->kind == KIND_TCP) {
		put_tcp(t, side, sent);
		settle_tcp(t);
	} else {
		settle_datagrams(t);
	}
}

void truth_commit(struct truth *t)
{
	bool any = false;

	for (unsigned int i = 0; i < t->p_count; i++) {
		struct sent *p = &t->p[i];

		p->committed |= !p->due;
		p->due = true;
		p->may = false;
		if (p->spec->kind != KIND_TCP || p->end == p->spec->seq)
			continue;
		if (!t->begun && (!any || place(t, p->spec->seq) < t->vouch_start))
			t->vouch_start = place(t, p->spec->seq);
		if (place(t, p->end) > t->vouch_end || (!t->begun && !any))
			t->vouch_end = place(t, p->end);
		any = true;
	}
	if (any)
		t->begun = true;
	memset(t->unit[1], 0xff, sizeof(t->unit[1]));
	t->mismatch = t->p_reset = t->s_reset = false;
	/* What S had acked beyond it, its new life has not. */
	t->ack = t->p_ack;
	t->has_ack = t->has_p_ack;
	t->epoch++;
}

bool truth_waits(const struct truth *t)
{
	for (unsigned int i = 0; i < t->p_count; i++) {
		if (!t->p[i].due)
			return true;
	}
	for (unsigned int u = t->vouch_end; u < SPACE && t->based; u++) {
		if (t->unit[1][u] >= 0)
			return true;
	}
	return t->s_reset && !t->p_reset;
}
