// SPDX-License-Identifier: GPL-2.0-only
/* A TCP flow of both guests: one stream, that each cuts, repeats and acks as it likes. */
#include <stdio.h>
#include <string.h>

#include "generate.h"

#define OLDER 400 /* bytes that a flow has sent before it is first seen */

/* Pairs of SYN options: which of them agree is for the models to say. */
static const char *const syn_options[] = {
	"mss:1460",
	"mss:1460/ws:7",
	"mss:1460/sackok/nop/ws:7",
	"mss:1400/nop/nop/ts:%u,%u",
	"mss:1460/sackok/ts:%u,%u/nop/ws:7",
	"mss:536",
	"mss:1460/ws:8",
	"mss:1460/ws:7/sackok",
};
#define OPTIONS (sizeof(syn_options) / sizeof(syn_options[0]))

static void draw_life(struct maker *m, struct flow_maker *f)
{
	struct life *l = &f->life[f->lives];
	struct life *before = f->lives ? l - 1 : NULL;

	memset(l, 0, sizeof(*l));
	l->syn = before || chance(m->k.handshakes);
	l->active = chance(30);
	l->fin = chance(m->k.ends);
	l->resets = !l->fin && chance(m->k.ends / 4);
	l->options = below(OPTIONS);
	l->len = m->k.gso   ? between(1000, 200000) :
		 chance(80) ? between(0, 3000) :
			      below(20000);
	l->isn = chance(25) ? 0U - between(0, l->len + OLDER + 10) : any();
	if (before && chance(30))
		l->isn = before->isn + before->len + between(1, 70000);
	else if (before && chance(10))
		l->isn = before->isn - between(1, 70000);
	l->client_isn = chance(10) ? 0U - below(3000) : any();
	if (!l->syn)
		l->len += OLDER;
	f->lives++;
}

static void enter_life(struct flow_maker *f, int side, unsigned int life)
{
	struct guest *s = &f->side[side];

	memset(s, 0, sizeof(*s));
	s->life = life;
	if (!f->life[life].syn) {
		s->syn = true;
		s->next = OLDER;
	}
}

void tcp_begin(struct maker *m, struct flow_maker *f)
{
	static const char *const tags[] = {"", "", "", "vlan=5 ", "vlan=9,5 "};
	unsigned int number = f - m->flow, tag = m->k.gso && chance(80) ? 0 : below(5);
	const char *ext = "";

	if (f->v6 && !m->k.gso && chance(20))
		ext = chance(50) ? " ext=dst" : " ext=hop,dst";
	/* Next to each other: flows that differ in a tag, a port or an address only. */
	if (f->v6)
		snprintf(f->head, sizeof(f->head), "%stcp [fd00::10]:80>[fd00::%u]:%u%s",
			 tags[tag], 1 + number % 2, 5000 + number / 2, ext);
	else
		snprintf(f->head, sizeof(f->head), "%stcp 10.9.0.10:80>10.9.0.%u:%u%s",
			 tags[tag], 1 + number % 2, 5000 + number / 2,
			 !m->k.gso && chance(5) ? " ipopt=01010101" : "");
	f->segment = m->k.gso ? 60000 : chance(80) ? 1400 : 40;
	if (chance(25)) {
		f->step = between(1, m->k.gso ? 50000 : 1200);
		f->urgent = !m->k.gso && chance(15);
	}
	f->stamps = chance(40);
	draw_life(m, f);
	enter_life(f, OF_P, 0);
	enter_life(f, OF_S, 0);
}

void tcp_copy(struct flow_maker *f)
{
	f->side[OF_S] = f->side[OF_P];
}

bool tcp_behind(const struct flow_maker *f)
{
	const struct guest *p = &f->side[OF_P], *s = &f->side[OF_S];

	return s->life < p->life ||
	       (s->life == p->life &&
		(s->next < p->next || (p->fin && !s->fin) || (p->rst && !s->rst)));
}

/* ---- where S differs ------------------------------------------------------------ */

/* The first, the last, one in the middle, or next to a cut of P's segments. */
static unsigned int draw_place(const struct flow_maker *f)
{
	const struct guest *p = &f->side[OF_P], *s = &f->side[OF_S];
	const struct life *l = &f->life[s->life];
	unsigned int at = s->next + below(600);

	if (p->cut_count && chance(60)) {
		const struct cut *cut = &p->cuts[below(p->cut_count)];
		unsigned int which = below(4);

		at = which == 0 ? cut->from :
		     which == 1 ? cut->until - (cut->until > cut->from) :
		     which == 2 ? cut->until :
				  (cut->from + cut->until) / 2;
	} else if (chance(15)) {
		at = l->len ? l->len - 1 : 0;
	} else if (chance(15)) {
		at = s->next;
	}
	return at < s->next ? s->next : at;
}

static void draw_difference(struct maker *m, struct flow_maker *f)
{
	static const enum difference often[] = {OTHER_BYTES,   OTHER_BYTES,  OTHER_BYTES,
						ENDS_EARLY,    GOES_ON,      RESETS,
						OTHER_OPTIONS, OTHER_URGENT, OTHER_PLACE,
						LEAVES_OUT};
	const struct guest *s = &f->side[OF_S];

	f->drawn = true;
	f->difference = SAME;
	if (!chance(m->k.differs))
		return;
	f->difference = often[below(10)];
	f->at = draw_place(f);
	/* What it has shown in this epoch stays what it was. */
	if (f->difference == OTHER_PLACE && s->cut_count)
		f->difference = OTHER_BYTES;
	if ((f->difference == ENDS_EARLY || f->difference == RESETS) &&
	    f->at > f->life[s->life].len)
		f->difference = SAME;
}

/* How many bytes the stream of this side has. */
static unsigned int length_of(const struct flow_maker *f, int side)
{
	unsigned int len = f->life[f->side[side].life].len;

	if (side == OF_P)
		return len;
	if (f->difference == ENDS_EARLY || f->difference == RESETS)
		return f->at < len ? f->at : len;
	return f->difference == GOES_ON ? len + 300 : len;
}

static bool ends_with_fin(const struct flow_maker *f, int side)
{
	const struct life *l = &f->life[f->side[side].life];

	if (side == OF_S && f->difference != SAME) {
		if (f->difference == ENDS_EARLY)
			return true;
		if (f->difference == RESETS || f->difference == GOES_ON)
			return false;
	}
	return l->fin;
}

static bool ends_with_rst(const struct flow_maker *f, int side)
{
	const struct life *l = &f->life[f->side[side].life];

	if (side == OF_S && f->difference == RESETS)
		return true;
	if (side == OF_S && (f->difference == GOES_ON || f->difference == ENDS_EARLY))
		return false;
	return l->resets;
}

/* ---- one segment ---------------------------------------------------------------- */

static uint32_t number(const struct flow_maker *f, int side, unsigned int at)
{
	const struct life *l = &f->life[f->side[side].life];

	return l->isn + l->syn + at +
	       (side == OF_S && f->difference == OTHER_PLACE ? 1 + f->at % 300 : 0);
}

static void bytes_of(const struct flow_maker *f, int side, unsigned int from,
		     unsigned int until, char *to, size_t size)
{
	unsigned int at = f->at, end;

	to[0] = 0;
	if (from == until)
		return;
	end = at + (f->at % 5 ? 1 : 20);
	if (side == OF_P || f->difference != OTHER_BYTES || at >= until || end <= from) {
		snprintf(to, size, " data=%c[%u:%u]", f->name, from, until);
		return;
	}
	if (at < from)
		at = from;
	if (end > until)
		end = until;
	snprintf(to, size, " data=%c[%u:%u]+z[%u:%u]+%c[%u:%u]", f->name, from, at, at, end,
		 f->name, end, until);
}

/* The highest that it has seen, as a rule; now and then an older one comes late. */
static uint32_t draw_ack(struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	struct life *l = &f->life[s->life];

	if (chance(25))
		l->client += below(1500);
	if (chance(40))
		s->ack = between(s->ack, l->client);
	return l->client_isn + 1 + (chance(5) ? below(s->ack + 1) : s->ack);
}

static bool is_urgent(const struct flow_maker *f, int side, unsigned int from)
{
	bool urgent = f->urgent && f->step && from / f->step % 3 == 1;

	if (side == OF_S && f->difference == OTHER_URGENT && from >= f->at)
		return !urgent;
	return urgent;
}

static void note_cut(struct guest *s, unsigned int from, unsigned int until)
{
	if (s->cut_count == CUTS_MAX)
		memmove(s->cuts, s->cuts + 1, --s->cut_count * sizeof(s->cuts[0]));
	s->cuts[s->cut_count++] = (struct cut){from, until};
}

/* Bytes [from, until), and the FIN behind them. */
static void segment(struct maker *m, struct flow_maker *f, int side, unsigned int from,
		    unsigned int until, bool fin)
{
	const struct guest *s = &f->side[side];
	char bytes[160], options[64] = "", flags[8] = "";
	uint32_t ack = draw_ack(f, side);

	bytes_of(f, side, from, until, bytes, sizeof(bytes));
	if (f->stamps)
		snprintf(options, sizeof(options), " opt=nop/nop/ts:%u,%u", any(), s->ack);
	snprintf(flags, sizeof(flags), "%s%s%sA", fin ? "F" : "",
		 until != from && is_urgent(f, side, from) ? "U" : "", chance(30) ? "P" : "");
	emit(m, side, "%s seq=%u ack=%u fl=%s win=%u%s%s%s", f->head, number(f, side, from),
	     ack, flags, chance(60) ? 64240 : below(65536), options,
	     free_fields(f, strstr(f->head, "ipopt") == NULL), bytes);
}

/* The same in two fragments; one of them may be lost for ever. */
static void in_fragments(struct maker *m, struct flow_maker *f, int side, unsigned int from,
			 unsigned int until)
{
	unsigned int id = below(65536), first = (until - from) / 2 / 8 * 8 + 4;
	char bytes[160];

	if (first > until - from)
		return;
	bytes_of(f, side, from, from + first, bytes, sizeof(bytes));
	if (!chance(10))
		emit(m, side, "%s seq=%u ack=%u fl=A ipid=%u frag=0,more%s", f->head,
		     number(f, side, from), draw_ack(f, side), id, bytes);
	bytes_of(f, side, from + first, until, bytes, sizeof(bytes));
	if (!chance(10))
		emit(m, side, "%s ipid=%u frag=%u%s", f->head, id, 20 + first, bytes);
}

static void syn(struct maker *m, struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	const struct life *l = &f->life[s->life];
	unsigned int which = l->options;
	char options[80], format[40];

	if (side == OF_S && f->difference == OTHER_OPTIONS)
		which = (which + 1 + f->at % (OPTIONS - 1)) % OPTIONS;
	snprintf(format, sizeof(format), "%s", syn_options[which]);
	snprintf(options, sizeof(options), format, any(), 77);
	/* Keys that no rewriter can follow. */
	if (m->domain == DOMAIN_LIVES && l->isn % 50 == 7)
		snprintf(options, sizeof(options), "mss:1460/hex:1312%032u", 0);
	s->syn = true;
	/* A guest's SYN is answered before anything else leaves it. */
	flush_p(m);
	emit(m, side, "%s seq=%u ack=%u fl=%s opt=%s%s", f->head, l->isn,
	     l->active ? 0 : l->client_isn + 1, l->active ? "S" : "SA", options,
	     free_fields(f, false));
	flush_p(m);
}

static void reset(struct maker *m, struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	unsigned int at = s->next;

	s->rst = true;
	if (chance(50))
		emit(m, side, "%s seq=%u ack=%u fl=RA", f->head, number(f, side, at),
		     draw_ack(f, side));
	else
		emit(m, side, "%s seq=%u ack=0 fl=R", f->head, number(f, side, at));
}

/* ---- what a guest does next -------------------------------------------------------- */

static void new_data(struct maker *m, struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	unsigned int len = length_of(f, side), from = s->next, until;
	bool fin;

	until = from + (chance(20) ? 1 : between(1, f->segment));
	if (f->step)
		until = (from / f->step + 1) * f->step;
	if (until > from + f->segment)
		until = from + f->segment;
	if (until > len)
		until = len;
	fin = until == len && ends_with_fin(f, side) && chance(70);
	if (until == from && !fin)
		return;
	note_cut(s, from, until);
	s->next = until;
	s->fin |= fin;
	if (side == OF_S && f->difference == LEAVES_OUT && from <= f->at && f->at < until)
		return;
	if (f->fragments && chance(20) && until - from > 24 && !fin && !f->v6 &&
	    !strstr(f->head, "ipopt"))
		in_fragments(m, f, side, from, until);
	else
		segment(m, f, side, from, until, fin);
}

/* Something that was sent, cut in another way, perhaps with something new. */
static void old_data(struct maker *m, struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	unsigned int from, until, len = length_of(f, side);
	bool fin;

	if (s->cut_count && (f->step || chance(40))) {
		const struct cut *cut = &s->cuts[below(s->cut_count)];

		from = cut->from;
		until = cut->until;
	} else {
		unsigned int back = s->next < 3000 || m->k.gso ? s->next : 3000;

		from = s->next - below(back + 1);
		until = from + below(f->segment < 1400 ? 100 : m->k.gso ? 60000 : 1400);
	}
	if (side == OF_S && f->difference == LEAVES_OUT && from <= f->at && f->at < until)
		return;
	if (until > s->next && (!chance(30) || f->step || s->fin || until > len))
		until = s->next;
	fin = s->fin && until == s->next;
	if (until < from || (until == from && !fin))
		return;
	if (until > s->next) {
		note_cut(s, from, until);
		s->next = until;
	}
	segment(m, f, side, from, until, fin);
}

/* A byte of what was acked long ago, or none at all. */
static void keepalive(struct maker *m, struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	char bytes[40] = "";

	if (!s->next || f->urgent)
		return;
	if (chance(60))
		snprintf(bytes, sizeof(bytes), " data=%c[%u:%u]",
			 side == OF_P && chance(20) ? 'z' : f->name, s->next - 1, s->next);
	if (side == OF_S && f->difference != SAME)
		bytes[0] = 0;
	emit(m, side, "%s seq=%u ack=%u fl=A%s", f->head, number(f, side, s->next - 1),
	     draw_ack(f, side), bytes);
}

/* The tuple is used again; S as a rule behind P. */
static bool next_life(struct maker *m, struct flow_maker *f, int side)
{
	unsigned int life = f->side[side].life + 1;

	if (side == OF_S && !chance(m->k.s_first) && life > f->side[OF_P].life)
		return false;
	if (side == OF_S && f->difference != SAME)
		return false;
	if (life == LIVES_MAX || (life == f->lives && life > f->side[!side].life + 1))
		return false;
	if (life == f->lives)
		draw_life(m, f);
	enter_life(f, side, life);
	syn(m, f, side);
	return true;
}

static void pure_ack(struct maker *m, struct flow_maker *f, int side)
{
	const struct guest *s = &f->side[side];

	if (s->next || s->syn)
		segment(m, f, side, s->next + s->fin, s->next + s->fin, false);
}

void tcp_send(struct maker *m, struct flow_maker *f, int side)
{
	struct guest *s = &f->side[side];
	bool closed = s->fin || s->rst;

	if (side == OF_S && !f->drawn)
		draw_difference(m, f);
	if (!s->syn) {
		syn(m, f, side);
		return;
	}
	if (chance(closed ? 3 * m->k.lives : m->k.lives / 6) && next_life(m, f, side))
		return;
	/* S learns of P's new life by the same SYN of the client. */
	if (side == OF_S && s->life < f->side[OF_P].life && chance(60) && next_life(m, f, side))
		return;
	if (s->rst)
		return;
	if (chance(m->k.again))
		old_data(m, f, side);
	else if (chance(15))
		pure_ack(m, f, side);
	else if (chance(3))
		keepalive(m, f, side);
	else if (chance(3) && f->life[s->life].syn && s->next < 100)
		syn(m, f, side);
	else if (s->next == length_of(f, side) && ends_with_rst(f, side))
		reset(m, f, side);
	else
		new_data(m, f, side);
}
