// SPDX-License-Identifier: GPL-2.0-only
/*
 * An account of each unit: who has shown what at its place, in which epoch and
 * life, and how often it has left. It knows no queues and no time: only whether
 * what has left was allowed to.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

#define MARGIN   4096
#define UNITS    16384 /* of a life at first */
#define SPAN_MAX (1 << 22)
#define VALUES   2 /* a keepalive may bring another byte than the stream had */

struct unit {
	int16_t p[VALUES], s[VALUES]; /* -1: none */
	uint16_t p_epoch, s_epoch;
	uint16_t sent, left;
	uint16_t again; /* copies that brought nothing new, which may overtake */
	bool vouched;
};

/* A frame that has no units of a stream: a datagram, a pure ack, an RST. */
struct single {
	const struct packet *packet;
	unsigned int epoch;
	unsigned int life;
	bool left, used;
};

/* A frame of S whose turn has not come. */
struct heard {
	const struct packet *packet;
	bool unkept;
};

struct singles {
	struct single *list;
	unsigned int count, room;
};

struct life {
	bool has_isn;
	uint32_t isn;
	struct unit *units;
	uint32_t base; /* number of the first */
	unsigned int room;
	bool has_sent;
	uint32_t first, next; /* all that P has sent */
	bool has_p_ack, has_s_ack;
	uint32_t p_ack, s_ack;
};

struct account {
	struct packet_key key;
	struct life *lives;
	unsigned int count;  /* of lives; the last is the one that P is in */
	bool p_seen;         /* anything of P */
	unsigned int s_life; /* that S is in */
	bool s_ahead;        /* ... or one that P has not begun, with this number */
	uint32_t s_isn;
	struct singles p, s;
	struct heard *ahead; /* what S has shown of that life */
	unsigned int ahead_count, ahead_room;
	struct account *next;
};

struct ledger {
	struct account *accounts;
	unsigned int epoch;
	bool alone; /* after a failover */
	struct heard *early;
	unsigned int early_count, early_room;
};

static char *say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *say(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	return text;
}

static void keep(struct heard **list, unsigned int *count, unsigned int *room,
		 const struct packet *packet, bool unkept)
{
	if (*count == *room) {
		*room = *room ? 2 * *room : 16;
		*list = realloc(*list, *room * sizeof(**list));
	}
	(*list)[(*count)++] = (struct heard){packet, unkept};
}

static void add_single(struct singles *singles, const struct packet *packet, unsigned int epoch,
		       unsigned int life)
{
	if (singles->count == singles->room) {
		singles->room = singles->room ? 2 * singles->room : 16;
		singles->list = realloc(singles->list, singles->room * sizeof(*singles->list));
	}
	singles->list[singles->count++] =
		(struct single){.packet = packet, .epoch = epoch, .life = life};
}

static struct account *account_of(struct ledger *ledger, const struct packet_key *key)
{
	struct account *a = ledger->accounts;

	while (a && memcmp(&a->key, key, sizeof(*key)))
		a = a->next;
	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	a->key = *key;
	a->lives = calloc(1, sizeof(*a->lives));
	a->count = 1;
	a->next = ledger->accounts;
	ledger->accounts = a;
	return a;
}

struct ledger *ledger_new(void)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));

	ledger->epoch = 1;
	return ledger;
}

void ledger_free(struct ledger *ledger)
{
	while (ledger->accounts) {
		struct account *a = ledger->accounts;

		ledger->accounts = a->next;
		for (unsigned int i = 0; i < a->count; i++)
			free(a->lives[i].units);
		free(a->lives);
		free(a->p.list);
		free(a->s.list);
		free(a->ahead);
		free(a);
	}
	free(ledger->early);
	free(ledger);
}

/* ---- units ------------------------------------------------------------------ */

static void fill(struct unit *units, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		units[i] = (struct unit){.p = {-1, -1}, .s = {-1, -1}};
}

/* The place of a number; NULL: out of all reach. */
static struct unit *unit_at(struct life *life, uint32_t at)
{
	unsigned int room = life->room, shift = 0;
	struct unit *units;

	if (!room) {
		life->base = at - MARGIN;
		life->units = malloc(UNITS * sizeof(*units));
		life->room = UNITS;
		fill(life->units, UNITS);
	}
	if (at - life->base >= life->room &&
	    (seq_diff(at, life->base) > SPAN_MAX || seq_diff(life->base, at) > SPAN_MAX))
		return NULL;
	while (seq_diff(at, life->base) < 0 || at - life->base >= life->room) {
		room = life->room;
		shift = seq_diff(at, life->base) < 0 ? room : 0;
		units = malloc(2 * room * sizeof(*units));
		fill(units, 2 * room);
		memcpy(units + shift, life->units, room * sizeof(*units));
		free(life->units);
		life->units = units;
		life->base -= shift;
		life->room = 2 * room;
	}
	return &life->units[at - life->base];
}

static bool has_value(const int16_t *values, int value)
{
	return values[0] == value || values[1] == value;
}

/* The last two values of a side, of one epoch. */
static void note_value(int16_t *values, uint16_t *of_epoch, unsigned int epoch, int value)
{
	if (*of_epoch != epoch)
		values[1] = -1;
	else if (values[0] != value)
		values[1] = values[0];
	values[0] = value;
	*of_epoch = epoch;
}

static void compare(struct unit *u, unsigned int epoch)
{
	if (u->p_epoch != epoch || u->s_epoch != epoch)
		return;
	for (unsigned int i = 0; i < VALUES; i++)
		u->vouched |= u->p[i] >= 0 && has_value(u->s, u->p[i]);
}

static struct unit *not_vouched(struct life *life, const struct packet *p, uint32_t *where)
{
	for (*where = p->seq; *where != p->next; (*where)++) {
		struct unit *u = unit_at(life, *where);

		if (u && !u->vouched)
			return u;
	}
	return NULL;
}

/* ---- what is sent ------------------------------------------------------------- */

static void s_stream(struct ledger *ledger, struct account *a, const struct packet *s,
		     bool unkept)
{
	struct life *life = &a->lives[a->s_life];

	if (s->flags & TCP_ACK && (!life->has_s_ack || seq_diff(life->s_ack, s->ack) < 0)) {
		life->s_ack = s->ack;
		life->has_s_ack = true;
	}
	if (unkept)
		return;
	if (s->flags & TCP_RST) {
		add_single(&a->s, s, ledger->epoch, a->s_life);
		return;
	}
	for (uint32_t at = s->seq; at != s->next; at++) {
		struct unit *u = unit_at(life, at);

		if (!u)
			continue;
		note_value(u->s, &u->s_epoch, ledger->epoch, packet_unit(s, at));
		compare(u, ledger->epoch);
	}
}

/* S's SYN: from here on its frames are of the life with this number. */
static void s_syn(struct account *a, uint32_t isn)
{
	for (unsigned int i = a->count; i-- > 0;) {
		if (!a->lives[i].has_isn || a->lives[i].isn != isn)
			continue;
		a->s_life = i;
		a->s_ahead = false;
		return;
	}
	if (!a->s_ahead || a->s_isn != isn)
		a->ahead_count = 0;
	a->s_ahead = true;
	a->s_isn = isn;
}

void ledger_s(struct ledger *ledger, const struct packet *s, bool early, bool unkept)
{
	struct account *a;

	if (early) {
		if (!unkept)
			keep(&ledger->early, &ledger->early_count, &ledger->early_room, s,
			     false);
		return;
	}
	if (s->class != PACKET_STREAM && s->class != PACKET_DATAGRAM)
		return;
	a = account_of(ledger, &s->key);
	if (s->class == PACKET_DATAGRAM) {
		if (!unkept)
			add_single(&a->s, s, ledger->epoch, 0);
		return;
	}
	if (s->flags & TCP_SYN)
		s_syn(a, s->seq);
	if (a->s_ahead)
		keep(&a->ahead, &a->ahead_count, &a->ahead_room, s, unkept);
	else
		s_stream(ledger, a, s, unkept);
}

/* What S has shown before P's first unit, and far from it, is of no life of P. */
static void make_near(struct life *life, uint32_t first)
{
	if (life->has_sent || !life->room || unit_at(life, first))
		return;
	free(life->units);
	life->units = NULL;
	life->room = 0;
}

static void p_syn(struct ledger *ledger, struct account *a, uint32_t isn)
{
	struct life *life = &a->lives[a->count - 1];
	bool first = !a->p_seen && !life->has_sent;

	if (life->has_isn && life->isn == isn)
		return;
	/* The first frame at all: what S has shown before it is of this life. */
	if (!first) {
		a->lives = realloc(a->lives, ++a->count * sizeof(*a->lives));
		life = &a->lives[a->count - 1];
		memset(life, 0, sizeof(*life));
	}
	life->has_isn = true;
	life->isn = isn;
	make_near(life, isn);
	if (!a->s_ahead || a->s_isn != isn)
		return;
	a->s_ahead = false;
	a->s_life = a->count - 1;
	for (unsigned int i = 0; i < a->ahead_count; i++)
		s_stream(ledger, a, a->ahead[i].packet, a->ahead[i].unkept);
	a->ahead_count = 0;
}

static void note_sent(struct life *life, uint32_t from, uint32_t to)
{
	make_near(life, from);
	if (!life->has_sent || seq_diff(from, life->first) < 0)
		life->first = from;
	if (!life->has_sent || seq_diff(life->next, to) < 0)
		life->next = to;
	life->has_sent = true;
}

static void p_stream(struct ledger *ledger, struct account *a, const struct packet *p,
		     bool unkept)
{
	struct life *life;
	uint32_t where;
	bool again;

	if (p->flags & TCP_SYN)
		p_syn(ledger, a, p->seq);
	a->p_seen = true;
	life = &a->lives[a->count - 1];
	if (p->flags & TCP_ACK && (!life->has_p_ack || seq_diff(life->p_ack, p->ack) < 0)) {
		life->p_ack = p->ack;
		life->has_p_ack = true;
	}
	if (packet_has_units(p))
		note_sent(life, p->seq, p->next);
	else if (!unkept)
		add_single(&a->p, p, ledger->epoch, a->count - 1);
	again = !not_vouched(life, p, &where);
	for (uint32_t at = p->seq; at != p->next && !unkept; at++) {
		struct unit *u = unit_at(life, at);

		if (!u)
			continue;
		u->again += again;
		note_value(u->p, &u->p_epoch, ledger->epoch, packet_unit(p, at));
		compare(u, ledger->epoch);
		u->sent++;
	}
}

/* The units of a TCP packet of which both ends are held count as sent (rule 9). */
static void p_fragment(struct ledger *ledger, const struct account *a, const struct packet *p)
{
	const struct packet *first = NULL, *last = NULL;
	struct packet_key key;
	struct life *life;
	uint32_t from, to;

	for (unsigned int i = 0; i < a->p.count; i++) {
		const struct single *other = &a->p.list[i];

		if (other->epoch != ledger->epoch || other->packet->id != p->id)
			continue;
		if (!packet_fragment_offset(other->packet))
			first = other->packet;
		if (packet_is_last_fragment(other->packet))
			last = other->packet;
	}
	if (!first || !last || !packet_span(first, last, &key, &from, &to))
		return;
	a = account_of(ledger, &key);
	life = &a->lives[a->count - 1];
	note_sent(life, from, to);
}

void ledger_p(struct ledger *ledger, const struct packet *p, bool unkept)
{
	struct account *a;

	if (p->class == PACKET_DROP && !ledger->alone)
		return;
	a = account_of(ledger, &p->key);
	if (p->class == PACKET_STREAM)
		p_stream(ledger, a, p, unkept);
	else if (!unkept)
		add_single(&a->p, p, ledger->epoch, 0);
	if (p->class == PACKET_TCP_FRAGMENT)
		p_fragment(ledger, a, p);
}

/* Rule 13: all that P has sent is common to both, and so is what it has acked. */
static void commit_life(struct life *life)
{
	for (uint32_t at = life->first; life->has_sent && at != life->next; at++) {
		struct unit *u = unit_at(life, at);

		if (u)
			u->vouched = true;
	}
	life->has_s_ack = life->has_p_ack;
	life->s_ack = life->p_ack;
}

void ledger_commit(struct ledger *ledger)
{
	unsigned int early = ledger->early_count;

	ledger->epoch++;
	for (struct account *a = ledger->accounts; a; a = a->next) {
		for (unsigned int i = 0; i < a->count; i++)
			commit_life(&a->lives[i]);
		a->s_life = a->count - 1;
		a->s_ahead = false;
		a->ahead_count = 0;
	}
	ledger->early_count = 0;
	for (unsigned int i = 0; i < early; i++)
		ledger_s(ledger, ledger->early[i].packet, false, false);
}

void ledger_failover(struct ledger *ledger)
{
	ledger->alone = true;
}

/* ---- what leaves ---------------------------------------------------------------- */

/* All of L4 but the checksum, and what tells a TCP header apart. */
static bool same_single(const struct packet *a, const struct packet *b)
{
	if (a->class != PACKET_STREAM || b->class != PACKET_STREAM)
		return a->class == b->class && model_content_equal(a, b) && a->id == b->id;
	return a->seq == b->seq && a->ack == b->ack && a->flags == b->flags &&
	       a->data_len == b->data_len &&
	       !memcmp(a->bytes + a->l4 + 14, b->bytes + b->l4 + 14, 2);
}

/* S has shown a fragment like this one in its packet `id`. */
static bool has_fragment(const struct account *a, const struct packet *p, uint32_t id,
			 unsigned int epoch)
{
	for (unsigned int i = 0; i < a->s.count; i++) {
		const struct single *s = &a->s.list[i];

		if (s->epoch == epoch && s->packet->id == id &&
		    model_content_equal(p, s->packet))
			return true;
	}
	return false;
}

/* Rule 9: all fragments of a packet of P that have left are those of one of S. */
static bool use_fragment(const struct account *a, unsigned int p, unsigned int epoch)
{
	uint32_t id = a->p.list[p].packet->id;

	for (unsigned int i = 0; i < a->s.count; i++) {
		bool all = a->s.list[i].epoch == epoch;

		for (unsigned int j = 0; j < a->p.count && all; j++) {
			const struct single *other = &a->p.list[j];

			if (other->left && other->epoch == epoch && other->packet->id == id)
				all = has_fragment(a, other->packet, a->s.list[i].packet->id,
						   epoch);
		}
		if (all)
			return true;
	}
	return false;
}

/* S has shown this datagram, and it has vouched for no other. */
static bool use_datagram(struct account *a, unsigned int p, unsigned int epoch)
{
	const struct packet *packet = a->p.list[p].packet;

	if (a->key.fragment)
		return use_fragment(a, p, epoch);
	for (unsigned int i = 0; i < a->s.count; i++) {
		struct single *s = &a->s.list[i];

		if (s->used || s->epoch != epoch || !model_content_equal(packet, s->packet))
			continue;
		s->used = true;
		return true;
	}
	return false;
}

static bool use_reset(struct account *a, const struct single *p, unsigned int epoch)
{
	for (unsigned int i = 0; i < a->s.count; i++) {
		struct single *s = &a->s.list[i];

		/* S may refuse a life that it has not begun. */
		if (s->used || s->epoch != epoch || s->life > p->life ||
		    s->packet->seq != p->packet->seq)
			continue;
		s->used = true;
		return true;
	}
	return false;
}

static bool acked(const struct life *life, const struct packet *p)
{
	return !(p->flags & TCP_ACK) || (life->has_s_ack && seq_diff(p->ack, life->s_ack) <= 0);
}

/* A frame without units, one of P's that has not left. */
static char *out_single(struct ledger *ledger, struct account *a, const struct packet *out)
{
	bool stream = out->class == PACKET_STREAM;
	struct single *p = NULL;
	bool before = false;
	unsigned int at;

	for (at = 0; at < a->p.count; at++) {
		p = &a->p.list[at];
		if (!p->left && same_single(p->packet, out))
			break;
		before |= !p->left;
	}
	if (at == a->p.count)
		return say("rule 1: a frame left that P has not sent, or not that often");
	p->left = true;
	if (before && out->class == PACKET_DATAGRAM)
		return say("rule 3: a datagram left before the one in front of it");
	if (ledger->alone || p->epoch < ledger->epoch)
		return NULL;
	if (stream && !acked(&a->lives[p->life], out))
		return say("rule 6: ack %u left, which S has not shown", out->ack);
	if (stream && out->flags & TCP_RST && !use_reset(a, p, ledger->epoch))
		return say("rule 7: an RST left that S has not shown");
	if (out->class == PACKET_DATAGRAM && !use_datagram(a, at, ledger->epoch))
		return say("rule 1: a datagram left that S has not shown");
	if (out->class == PACKET_TCP_FRAGMENT || out->class == PACKET_MALFORMED)
		return say("rule 12: a frame left that only a commit lets go");
	return NULL;
}

/* The units of this frame are P's of this life, and may leave once more. */
static bool is_of_life(struct life *life, const struct packet *out)
{
	for (uint32_t at = out->seq; at != out->next; at++) {
		struct unit *u = life->room ? unit_at(life, at) : NULL;

		if (!u || u->left >= u->sent || !has_value(u->p, packet_unit(out, at)))
			return false;
	}
	return true;
}

/* Rule 3: no unit leaves for the first time before one below it. */
static bool overtakes(struct life *life, const struct packet *out, uint32_t *below)
{
	uint32_t at = out->next;

	while (at != out->seq &&
	       (unit_at(life, at - 1)->left > 0 || unit_at(life, at - 1)->again))
		at--;
	if (at == out->seq)
		return false;
	for (*below = life->first; seq_diff(*below, out->seq) < 0; (*below)++) {
		const struct unit *u = unit_at(life, *below);

		if (u->sent > u->again && !u->left)
			return true;
	}
	return false;
}

static char *out_units(struct ledger *ledger, struct account *a, const struct packet *out)
{
	struct life *life = NULL;
	char *fault = NULL;
	uint32_t where;

	for (unsigned int i = a->count; i-- > 0;) {
		if (!is_of_life(&a->lives[i], out))
			continue;
		/* Numbers of two lives may be the same: the one that may leave. */
		if (!life ||
		    (not_vouched(life, out, &where) && !not_vouched(&a->lives[i], out, &where)))
			life = &a->lives[i];
	}
	if (!life)
		return say(
			"rule 1: units %u to %u left, which P has not sent, or not that often",
			out->seq, out->next);
	if (!ledger->alone && not_vouched(life, out, &where))
		fault = say("rule 1: unit %u left, which S has not shown in this epoch", where);
	else if (!ledger->alone && !acked(life, out))
		fault = say("rule 6: ack %u left, which S has not shown", out->ack);
	else if (overtakes(life, out, &where))
		fault = say("rule 3: unit %u left before unit %u", out->seq, where);
	for (uint32_t at = out->seq; at != out->next; at++)
		unit_at(life, at)->left++;
	return fault;
}

char *ledger_out(struct ledger *ledger, const struct packet *out)
{
	struct account *a = account_of(ledger, &out->key);

	if (out->class == PACKET_STREAM && packet_has_units(out))
		return out_units(ledger, a, out);
	return out_single(ledger, a, out);
}

static char *end_life(struct life *life)
{
	for (uint32_t at = life->first; life->has_sent && at != life->next; at++) {
		const struct unit *u = unit_at(life, at);

		if (u && u->left != u->sent)
			return say("rule 2: unit %u was sent %u times and left %u times", at,
				   u->sent, u->left);
	}
	return NULL;
}

char *ledger_end(struct ledger *ledger)
{
	for (struct account *a = ledger->accounts; a; a = a->next) {
		for (unsigned int i = 0; i < a->count; i++) {
			char *fault = end_life(&a->lives[i]);

			if (fault)
				return fault;
		}
		for (unsigned int i = 0; i < a->p.count; i++) {
			if (!a->p.list[i].left)
				return say("rule 2: a frame of P has not left in the end");
		}
	}
	return NULL;
}
