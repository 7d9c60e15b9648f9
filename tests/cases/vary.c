// SPDX-License-Identifier: GPL-2.0-only
/*
 * S's side: P's frames, cut differently, reordered, early, late, or with a
 * byte of them flipped.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "vary.h"

#define LAG_MAX    32    /* frames that one side is ahead */
#define SHUFFLE    8     /* frames that S's are moved by */
#define MERGED_MAX 60000 /* bytes */
#define BIG        2048  /* bytes that a small block of the pool holds */
#define BIG_MERGED 300   /* merged segments of a portion that are larger */

const char *const variant_names[VARIANTS] = {
	[VARY_S_AFTER] = "equal, S after P",
	[VARY_S_BEFORE] = "equal, S before P",
	[VARY_P_AHEAD] = "equal, P ahead",
	[VARY_S_AHEAD] = "equal, S ahead",
	[VARY_RECUT] = "recut",
	[VARY_REORDER] = "reordered",
	[VARY_FLIP_AFTER] = "a byte flipped",
	[VARY_FLIP_BEFORE] = "a byte flipped, S before P",
};

/* xorshift64*, the same everywhere. */
uint64_t vary_random(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 2685821657736338717ULL >> 16;
}

static struct timed *add(struct schedule *to, struct packet *packet, bool of_p,
			 unsigned int from, long when)
{
	struct timed *timed;

	if (to->count == to->room) {
		to->room = to->room ? 2 * to->room : 1024;
		to->list = realloc(to->list, to->room * sizeof(*to->list));
	}
	timed = &to->list[to->count++];
	*timed = (struct timed){.packet = packet, .of_p = of_p, .from = from, .when = when};
	return timed;
}

static void free_timed(struct timed *timed)
{
	if (!timed->own)
		return;
	packet_free(timed->packet);
	free(timed->packet);
}

void schedule_clear(struct schedule *schedule)
{
	for (unsigned int i = 0; i < schedule->count; i++)
		free_timed(&schedule->list[i]);
	free(schedule->list);
	memset(schedule, 0, sizeof(*schedule));
}

static bool crosses(const struct packet *p)
{
	return p->class != PACKET_UNFIT && !p->alone;
}

static bool is_syn(const struct packet *p)
{
	return p->class == PACKET_STREAM && p->flags & TCP_SYN;
}

static bool same_flow(const struct packet *a, const struct packet *b)
{
	return !memcmp(&a->key, &b->key, sizeof(a->key));
}

/* ---- time --------------------------------------------------------------- */

/*
 * S's SYN of a life comes before all of S's frames of it, and behind all of
 * the life before: a client answers what has left, and that S has sent, too.
 */
static void keep_lives(const struct packet *packets, unsigned int count, long *when,
		       unsigned int reach)
{
	for (unsigned int i = 0; i < count; i++) {
		if (!is_syn(&packets[i]))
			continue;
		for (unsigned int j = i > reach ? i - reach : 0; j < count && j <= i + reach;
		     j++) {
			long now = (long)i * STEP;

			if (!same_flow(&packets[i], &packets[j]))
				continue;
			if (j < i && when[j] >= now)
				when[j] = now - 1;
			if (j == i || (j > i && when[j] <= now))
				when[j] = now + 1;
		}
	}
}

/* One side's times: by up to LAG_MAX frames late, in order. */
static void lag(const struct packet *packets, unsigned int count, long *when, uint64_t *seed)
{
	long behind = 0;

	for (unsigned int i = 0; i < count; i++) {
		if (!(vary_random(seed) % 5))
			behind = vary_random(seed) % (LAG_MAX + 1);
		when[i] = ((long)i + behind) * STEP + 1;
		if (i && when[i] < when[i - 1])
			when[i] = when[i - 1];
	}
	/* Lives are kept by the whole side waiting: its frames stay in order. */
	for (unsigned int i = 0; i < count; i++) {
		unsigned int j;

		if (!is_syn(&packets[i]))
			continue;
		for (j = i; j && j + 2 * LAG_MAX > i; j--) {
			if (same_flow(&packets[i], &packets[j - 1]))
				break;
		}
		for (; j && j + 2 * LAG_MAX > i; j--) {
			if (when[j - 1] < (long)i * STEP)
				break;
			when[j - 1] = (long)i * STEP - 1;
		}
	}
	for (unsigned int i = count; i-- > 1;) {
		if (when[i - 1] > when[i])
			when[i - 1] = when[i];
	}
}

static void shuffle(const struct packet *packets, unsigned int count, long *when,
		    uint64_t *seed)
{
	for (unsigned int i = 0; i < count; i++)
		when[i] = ((long)i + (long)(vary_random(seed) % SHUFFLE) - SHUFFLE / 2) * STEP +
			  1;
	keep_lives(packets, count, when, SHUFFLE);
}

/* ---- content ------------------------------------------------------------ */

static void store16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void store32(uint8_t *at, uint32_t value)
{
	store16(at, value >> 16);
	store16(at + 2, value);
}

/* A segment with the headers of `of`, its lengths and checksums right. */
static struct packet *make_segment(const struct packet *of, uint32_t seq, uint8_t flags,
				   const uint8_t *data, unsigned int len)
{
	struct flow flow = {.src.family = of->key.ethertype == 0x86dd ? AF_INET6 : AF_INET};
	struct packet *p = calloc(1, sizeof(*p));
	uint8_t *l3, *l4;
	uint32_t sum;

	p->number = of->number;
	p->len = of->data + len;
	p->bytes = malloc(p->len + 1);
	memcpy(p->bytes, of->bytes, of->data);
	memcpy(p->bytes + of->data, data, len);
	l3 = p->bytes + of->l3;
	l4 = p->bytes + of->l4;
	if (flow.src.family == AF_INET6) {
		store16(l3 + 4, p->len - of->l3 - 40);
	} else {
		store16(l3 + 2, p->len - of->l3);
		store16(l3 + 10, 0);
		store16(l3 + 10, ~sum_fold(sum_add(0, l3, of->l4 - of->l3)));
	}
	memcpy(flow.src.bytes, of->key.src, 16);
	memcpy(flow.dst.bytes, of->key.dst, 16);
	store32(l4 + 4, seq);
	l4[13] = (l4[13] & 0xc0) | flags;
	store16(l4 + 16, 0);
	sum = sum_pseudo(&flow, IPPROTO_TCP, p->len - of->l4);
	store16(l4 + 16, ~sum_fold(sum_add(sum, l4, p->len - of->l4)));
	packet_dissect(p);
	packet_prepare(p);
	return p;
}

static bool cuttable(const struct packet *p)
{
	return p->class == PACKET_STREAM && p->data_len && p->len <= PACKET_MAX &&
	       !(p->flags & (TCP_SYN | TCP_RST | TCP_URG));
}

/* The last segment of the flow in the list, if this one continues it: one of both. */
static bool merge(struct schedule *to, unsigned int first, const struct packet *p,
		  unsigned int from, long when, unsigned int *big)
{
	for (unsigned int i = to->count; i-- > first;) {
		struct packet *q = to->list[i].packet, *both;
		unsigned int len = q->data_len + p->data_len;
		uint8_t *data;

		if (!same_flow(q, p))
			continue;
		if (!cuttable(q) || q->next != p->seq || q->flags & TCP_FIN ||
		    seq_diff(q->ack, p->ack) > 0 || len > MERGED_MAX ||
		    (len > BIG && *big >= BIG_MERGED))
			return false;
		*big += len > BIG;
		data = malloc(len);
		memcpy(data, q->bytes + q->data, q->data_len);
		memcpy(data + q->data_len, p->bytes + p->data, p->data_len);
		both = make_segment(p, q->seq, p->flags, data, len);
		free(data);
		free_timed(&to->list[i]);
		memmove(to->list + i, to->list + i + 1, (--to->count - i) * sizeof(*to->list));
		add(to, both, false, from, when)->own = true;
		return true;
	}
	return false;
}

static void split(struct schedule *to, const struct packet *p, unsigned int from, long when,
		  uint64_t *seed)
{
	unsigned int at = 0, len;

	while (at < p->data_len) {
		bool last;

		len = p->data_len - at;
		if (len > 1 && vary_random(seed) % 4)
			len = 1 + vary_random(seed) % (len - 1);
		last = at + len == p->data_len;
		add(to,
		    make_segment(p, p->seq + at,
				 last ? p->flags : p->flags & ~(TCP_FIN | TCP_PSH),
				 p->bytes + p->data + at, len),
		    false, from, when)
			->own = true;
		at += len;
	}
}

static void recut(struct schedule *to, struct packet *packets, unsigned int count,
		  uint64_t *seed)
{
	unsigned int first = to->count, big = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct packet *p = &packets[i];
		long when = (long)i * STEP + 1;

		if (!crosses(p))
			continue;
		if (!cuttable(p)) {
			add(to, p, false, i, when);
			continue;
		}
		switch (vary_random(seed) % 4) {
		case 0:
			add(to, p, false, i, when);
			break;
		case 1:
			split(to, p, i, when, seed);
			break;
		default:
			if (!merge(to, first, p, i, when, &big))
				split(to, p, i, when, seed);
		}
	}
}

static void send_flipped(struct schedule *to, struct packet *of, unsigned int from, long when,
			 const struct flip *flip)
{
	struct packet *p = calloc(1, sizeof(*p));

	p->number = of->number;
	p->len = of->len;
	p->bytes = malloc(p->len + 1);
	memcpy(p->bytes, of->bytes, p->len);
	p->bytes[flip->offset] ^= flip->with;
	packet_dissect(p);
	packet_prepare(p);
	add(to, p, false, from, when)->own = true;
}

static void send_as_is(struct schedule *to, struct packet *packets, unsigned int count,
		       const long *when, const struct flip *flips, unsigned int flip_count)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct flip *flip = NULL;

		if (!crosses(&packets[i]))
			continue;
		for (unsigned int f = 0; f < flip_count && !flip; f++)
			flip = flips[f].number == packets[i].number ? &flips[f] : NULL;
		if (flip)
			send_flipped(to, &packets[i], i, when[i], flip);
		else
			add(to, &packets[i], false, i, when[i]);
	}
}

/* Stable: what comes at one time stays in its order. */
static void merge_sort(struct timed *list, struct timed *room, unsigned int count)
{
	unsigned int half = count / 2, a = 0, b = half;

	if (count < 2)
		return;
	merge_sort(list, room, half);
	merge_sort(list + half, room, count - half);
	for (unsigned int i = 0; i < count; i++) {
		bool first = a < half && (b == count || list[a].when <= list[b].when);

		room[i] = list[first ? a++ : b++];
	}
	memcpy(list, room, count * sizeof(*list));
}

void vary(struct schedule *schedule, struct packet *packets, unsigned int count,
	  enum variant variant, const struct flip *flips, unsigned int flip_count,
	  uint64_t *seed)
{
	long *p_when = malloc((count + 1) * sizeof(*p_when));
	long *s_when = malloc((count + 1) * sizeof(*s_when));
	struct timed *room;

	for (unsigned int i = 0; i < count; i++) {
		bool before = variant == VARY_S_BEFORE || variant == VARY_FLIP_BEFORE;

		p_when[i] = (long)i * STEP;
		s_when[i] = (long)i * STEP + (before ? -1 : 1);
	}
	if (variant == VARY_P_AHEAD)
		lag(packets, count, s_when, seed);
	else if (variant == VARY_S_AHEAD)
		lag(packets, count, p_when, seed);
	else if (variant == VARY_REORDER)
		shuffle(packets, count, s_when, seed);
	if (variant == VARY_S_AHEAD) {
		for (unsigned int i = 0; i < count; i++)
			s_when[i] = (long)i * STEP;
	}
	for (unsigned int i = 0; i < count; i++) {
		if (packets[i].class != PACKET_UNFIT)
			add(schedule, &packets[i], true, i, p_when[i]);
	}
	if (variant == VARY_RECUT)
		recut(schedule, packets, count, seed);
	else
		send_as_is(schedule, packets, count, s_when, flips, flip_count);
	room = malloc((schedule->count + 1) * sizeof(*room));
	merge_sort(schedule->list, room, schedule->count);
	free(room);
	free(p_when);
	free(s_when);
}
