// SPDX-License-Identifier: GPL-2.0-only
/* Flows of all else: frames with a content each, whole or in fragments. */
#include <stdio.h>
#include <string.h>

#include "generate.h"

static const struct {
	const char *v4, *v6;
} kinds[] = {
	{"udp 10.9.0.10:53>10.9.0.%u:%u", "udp [fd00::10]:53>[fd00::%u]:%u"},
	{"icmp 10.9.0.10>10.9.0.%u type=0 code=0 id=%u",
	 "icmp6 fd00::10>fd00::%u type=129 code=0 id=%u"},
	{"ip 10.9.0.10>10.9.%2$u.%1$u proto=132", "ip fd00::10>fd00::%2$u:%1$u proto=132"},
	{"ip 10.9.0.10>10.9.%2$u.%1$u proto=47", "ip fd00::10>fd00::%2$u:%1$u proto=47"},
	{"ip 10.9.0.10>10.9.%2$u.%1$u proto=50", "ip fd00::10>fd00::%2$u:%1$u proto=50"},
	{"ip 10.9.0.10>10.9.%2$u.%1$u proto=99", "ip fd00::10>fd00::%2$u:%1$u proto=99"},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

void datagram_begin(struct flow_maker *f, unsigned int number)
{
	static const char *const tags[] = {"", "", "", "vlan=5 ", "vlan=9,5 "};
	unsigned int kind = f->fragments || chance(50) ? 0 : below(KINDS);
	int len;

	f->size = chance(80) ? 100 : 1000;
	f->repeat = chance(25) ? between(1, 3) : 1000;
	f->id[OF_S] = below(60000);
	if (!f->fragments && chance(8)) {
		/* An ethertype that nobody knows: the flow is by its MACs. */
		snprintf(f->head, sizeof(f->head), "raw 0200000000010200000000%02x88b6",
			 0x20 + number);
		f->size = 0;
		return;
	}
	len = snprintf(f->head, sizeof(f->head), "%s", tags[below(5)]);
	len += snprintf(f->head + len, sizeof(f->head) - len,
			f->v6 ? kinds[kind].v6 : kinds[kind].v4, 1 + number % 2,
			20 + number / 2);
	/* Of fragments and of all without ports the addresses are the flow. */
	if (f->fragments || kind == 1)
		len = snprintf(f->head, sizeof(f->head),
			       f->v6 ? "%s %s>%s%x%s" : "%s %s>%s%u%s",
			       kind == 1 ? (f->v6 ? "icmp6" : "icmp") : "udp",
			       f->v6 ? (kind == 1 ? "fd00::10" : "[fd00::10]:53") :
				       (kind == 1 ? "10.9.0.10" : "10.9.0.10:53"),
			       f->v6 ? (kind == 1 ? "fd00::7:" : "[fd00::7:") : "10.9.7.",
			       1 + number,
			       kind == 1 ? (f->v6 ? " type=129 code=0" : " type=0 code=0") :
			       f->v6     ? "]:6000" :
					   ":6000");
	if (f->v6 && !f->fragments && chance(20))
		snprintf(f->head + len, sizeof(f->head) - len, " ext=%s",
			 chance(50) ? "dst" : "hop");
}

static unsigned int hash(unsigned int n)
{
	return (n + 1) * 2654435761U >> 16;
}

/* Content n of the flow; S may have another. */
static void content(const struct flow_maker *f, int side, unsigned int n, char *to, size_t size)
{
	unsigned int of = n % f->repeat, from = of * f->size, len;
	char name = f->name;

	len = f->size ? hash(of + f->name) % f->size : 0;
	if (side == OF_S && f->difference == OTHER_BYTES && n == f->at)
		name = 'z';
	if (!f->size) {
		snprintf(to, size, "%02x%02x%02x000000000000000000000000000000", name, of / 256,
			 of % 256);
		return;
	}
	if (side == OF_S && f->difference == ENDS_EARLY && n == f->at)
		len = len ? len - 1 : 1;
	if (side == OF_S && f->difference == GOES_ON && n == f->at)
		len++;
	if (side == OF_S && f->difference == OTHER_PLACE && n == f->at && len)
		/* its last byte alone */
		snprintf(to, size, " data=%c[%u:%u]+z[0:1]", name, from, from + len - 1);
	else
		snprintf(to, size, " data=%c[%u:%u]", name, from, from + len);
}

static const char *draw_csum(const struct flow_maker *f, int side, bool offloads)
{
	if (strncmp(f->head, "udp", 3) || f->v6 || offloads || !chance(10))
		return "";
	return side == OF_P || chance(50) ? " csum=0" : " csum=bad";
}

static void whole(struct maker *m, struct flow_maker *f, int side, unsigned int n)
{
	char bytes[120];

	content(f, side, n, bytes, sizeof(bytes));
	if (!f->size)
		emit(m, side, "%s%s", f->head, bytes);
	else
		emit(m, side, "%s%s%s%s%s", f->head, free_fields(f, true),
		     draw_csum(f, side, m->k.offloads), chance(5) ? " pad=9" : "", bytes);
}

/* Each side has its own ids; S's last part may be of another packet of its. */
static void in_fragments(struct maker *m, struct flow_maker *f, int side, unsigned int n)
{
	unsigned int parts = 2 + hash(n) % 2, of = n % f->repeat, id = 1 + f->id[side]++;

	for (unsigned int part = 0; part < parts; part++) {
		unsigned int from = of * 200 + part * 64, len = part + 1 < parts ? 64 : 40;
		bool other = side == OF_S && n == f->at && part == f->at % parts;
		char name = other && f->difference == OTHER_BYTES ? 'z' : f->name;

		if (other && f->difference == LEAVES_OUT)
			continue;
		emit(m, side, "%s ipid=%u frag=%u%s data=%c[%u:%u]%s", f->head,
		     other && f->difference == OTHER_PLACE ? id + 1 : id,
		     part * 64 + (part ? 8 : 0), part + 1 < parts ? ",more" : "", name, from,
		     from + len,
		     other && f->difference == GOES_ON && part + 1 == parts ? "+z:3" : "");
	}
}

static void draw_difference(struct maker *m, struct flow_maker *f)
{
	static const enum difference often[] = {OTHER_BYTES, ENDS_EARLY, GOES_ON,
						OTHER_PLACE, LEAVES_OUT, ONE_MORE};

	f->drawn = true;
	f->difference = chance(m->k.differs) ? often[below(6)] : SAME;
	f->at = f->sent[OF_S] + below(4);
}

void datagram_send(struct maker *m, struct flow_maker *f, int side)
{
	unsigned int n = f->sent[side]++;

	if (side == OF_S && !f->drawn)
		draw_difference(m, f);
	if (side == OF_S && n == f->at && f->difference == LEAVES_OUT && !f->fragments)
		return;
	if (f->fragments)
		in_fragments(m, f, side, n);
	else
		whole(m, f, side, n);
	if (side == OF_S && n == f->at && f->difference == ONE_MORE)
		whole(m, f, side, n + 500);
}
