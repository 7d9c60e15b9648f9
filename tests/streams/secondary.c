// SPDX-License-Identifier: GPL-2.0-only
/*
 * A scenario on a secondary: what each frame has to look like on the other side
 * of it, by rules 14 to 16, and when it has to come.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

#define WAITING_MAX 64  /* client segments of a flow that wait for an offset */
#define STAMPS_MAX  256 /* time stamps of a client that are remembered */
#define INPUTS_MAX  512 /* client frames of an epoch */

/* What has to come next at an outlet. */
struct expected {
	const struct packet *packet;
	uint32_t done; /* TCP: units below were seen */
	struct expected *next;
};

struct tuple {
	bool translated;       /* after a failover: its client knows other numbers */
	struct packet_key key; /* as the guest's frames have it */
	/* the guest's life in this epoch */
	bool has_s, opens; /* its SYN was seen; it has no ACK */
	uint32_t s_isn, s_ack;
	bool s_stamps;
	uint32_t s_stamp;
	bool begun; /* the client's SYN was, and nothing of the guest */
	bool asked; /* the client's SYN was seen, its end is: */
	uint32_t c_isn, c_syn;
	bool older; /* than the epoch: numbers are the primary's */
	/* the primary's SYN of a life that the guest has not begun, or of this one */
	bool has_p, p_used;
	uint32_t p_isn, p_ack;
	bool p_stamps;
	uint32_t p_stamp;
	bool p_known; /* the last number of the primary, of whatever epoch */
	uint32_t p_last;
	/* the difference */
	bool offset;
	uint32_t seq_add, stamp_add;
	bool has_echo;
	uint32_t echo; /* the highest that the client has echoed */
	/* what has ended in the epoch of its last frame */
	uint64_t epoch;
	bool guest_fin, client_fin, reset;
	/* what waits for it */
	const struct packet *unsaid[WAITING_MAX]; /* the guest's SYN, and what is behind it */
	unsigned int unsaid_count;
	const struct packet *waiting[WAITING_MAX]; /* the client's */
	unsigned int waiting_count;
	/* what the guest may be given again: as it was given */
	bool has_ack;
	uint32_t ack;
	struct expected *given;
	/* the client's clock, from itself and from the guest's echoes */
	uint32_t stamps[STAMPS_MAX];
	unsigned int stamp_count;
	struct tuple *next;
};

struct rewriter {
	struct tuple *tuples;
	struct expected *due[OUTLETS], **end[OUTLETS];
	const struct packet *input[INPUTS_MAX];
	unsigned int inputs;
	bool full;            /* a wait was */
	uint64_t redelivered; /* by the counter */
	bool may_repeat;      /* it has gone up in this step */
	bool any_order;       /* what is due is of several flows, one of each */
};

/* ---- packets ------------------------------------------------------------------ */

static void store32(uint8_t *at, uint32_t value)
{
	at[0] = value >> 24;
	at[1] = value >> 16;
	at[2] = value >> 8;
	at[3] = value;
}

static uint32_t load32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/* An option of a TCP header, NULL: it has none of this kind. */
static uint8_t *option(const struct packet *p, uint8_t kind)
{
	uint8_t *at = p->bytes + p->l4 + 20, *end = p->bytes + p->data;

	while (at + 1 < end && *at) {
		if (*at == kind)
			return at;
		at += *at == 1 ? 1 : at[1] < 2 ? 40 : at[1];
	}
	return NULL;
}

static bool stamp_of(const struct packet *p, uint32_t *value, uint32_t *echo)
{
	uint8_t *at = option(p, 8);

	if (!at)
		return false;
	*value = load32(at + 2);
	*echo = load32(at + 6);
	return true;
}

static struct packet *copy_of(struct scenario *s, const struct packet *p)
{
	struct frame frame = {.bytes = p->bytes, .len = p->len};

	return packet_of(s, &frame);
}

/* Rule 14: the guest's segment in the primary's numbers. */
static const struct packet *outward(struct scenario *s, struct tuple *t, const struct packet *p)
{
	struct packet *out = copy_of(s, p);
	uint8_t *stamp = option(out, 8);
	uint32_t value;

	store32(out->bytes + out->l4 + 4, p->seq + t->seq_add);
	if (stamp) {
		value = load32(stamp + 2) + t->stamp_add;
		/* Rule 15: nor is it below what the client has echoed. */
		if (s->run.failed_over && t->has_echo && seq_diff(value, t->echo) < 0) {
			t->stamp_add += t->echo - value;
			value = t->echo;
		}
		store32(stamp + 2, value);
	}
	out = copy_of(s, out);
	packet_finish(out);
	return out;
}

/* ... and the client's in the guest's: ack, each SACK edge, the echo. */
static const struct packet *inward(struct scenario *s, const struct tuple *t,
				   const struct packet *p)
{
	struct packet *in = copy_of(s, p);
	uint8_t *stamp = option(in, 8), *sack = option(in, 5);

	if (p->flags & TCP_ACK) {
		store32(in->bytes + in->l4 + 8, p->ack - t->seq_add);
		if (stamp)
			store32(stamp + 6, load32(stamp + 6) - t->stamp_add);
		for (unsigned int i = 2; sack && i + 4 <= sack[1]; i += 4)
			store32(sack + i, load32(sack + i) - t->seq_add);
	}
	in = copy_of(s, in);
	packet_finish(in);
	return in;
}

static struct tuple *tuple_of(struct scenario *s, const struct packet *p, bool from_guest)
{
	struct packet_key key = p->key;
	struct tuple *t;

	if (!from_guest) {
		memcpy(key.src, p->key.dst, sizeof(key.src));
		memcpy(key.dst, p->key.src, sizeof(key.dst));
		key.sport = p->key.dport;
		key.dport = p->key.sport;
	}
	for (t = s->rewriter->tuples; t && memcmp(&t->key, &key, sizeof(key)); t = t->next)
		;
	if (t)
		return t;
	t = remember(s, calloc(1, sizeof(*t)));
	t->key = key;
	t->next = s->rewriter->tuples;
	s->rewriter->tuples = t;
	return t;
}

/* The client's clock: its own TSval, or TSecr of the guest. */
static void note_stamp(struct tuple *t, const struct packet *p, bool from_guest)
{
	uint32_t value, echo;

	if (stamp_of(p, &value, &echo))
		t->stamps[t->stamp_count++ % STAMPS_MAX] = from_guest ? echo : value;
}

/*
 * An ICMP error quotes a TCP header in the numbers of whom it is for: a client's
 * quotes the guest's seq, the guest's a client's ack.
 */
static const struct packet *quoting(struct scenario *s, const struct packet *p, bool from_guest)
{
	static const uint8_t v4[] = {3, 4, 5, 11, 12}, v6[] = {1, 2, 3, 4};
	unsigned int ip = p->l4 + 8, tcp;
	bool is_v6 = p->key.ethertype == 0x86dd;
	struct packet_key key = p->key;
	struct packet *out;
	struct tuple *t;

	if (p->class != PACKET_DATAGRAM || p->key.fragment ||
	    p->key.proto != (is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) ||
	    !memchr(is_v6 ? v6 : v4, p->bytes[p->l4], is_v6 ? sizeof(v6) : sizeof(v4)))
		return p;
	tcp = ip + (is_v6 ? 40 : (p->bytes[ip] & 15) * 4);
	if (tcp + (from_guest ? 12 : 8) > p->end ||
	    p->bytes[ip + (is_v6 ? 6 : 9)] != IPPROTO_TCP)
		return p;
	memset(key.src, 0, sizeof(key.src));
	memset(key.dst, 0, sizeof(key.dst));
	memcpy(key.src, p->bytes + ip + (is_v6 ? 8 : 12), is_v6 ? 16 : 4);
	memcpy(key.dst, p->bytes + ip + (is_v6 ? 24 : 16), is_v6 ? 16 : 4);
	key.proto = IPPROTO_TCP;
	key.sport = p->bytes[tcp] << 8 | p->bytes[tcp + 1];
	key.dport = p->bytes[tcp + 2] << 8 | p->bytes[tcp + 3];
	t = tuple_of(s, &(const struct packet){.key = key}, !from_guest);
	out = copy_of(s, p);
	if (t->offset && from_guest)
		store32(out->bytes + tcp + 8, load32(out->bytes + tcp + 8) + t->seq_add);
	else if (t->offset)
		store32(out->bytes + tcp + 4, load32(out->bytes + tcp + 4) - t->seq_add);
	packet_finish(out);
	return out;
}

/* ---- what is to come -------------------------------------------------------------- */

static void expect_at(struct scenario *s, enum outlet outlet, const struct packet *p)
{
	struct rewriter *x = s->rewriter;
	struct expected *e = remember(s, calloc(1, sizeof(*e)));

	e->packet = p;
	e->done = p->seq;
	if (!x->due[outlet])
		x->end[outlet] = &x->due[outlet];
	*x->end[outlet] = e;
	x->end[outlet] = &e->next;
}

static void expect_out(struct scenario *s, const struct packet *p)
{
	expect_at(s, s->run.failed_over ? OUTLET_PORT : OUTLET_LINK, p);
}

/* To the guest, which may be given it again as long as it has not acked it. */
static void give(struct scenario *s, struct tuple *t, const struct packet *p)
{
	struct expected *given;

	expect_at(s, OUTLET_GUEST, p);
	if (!t || s->run.failed_over || p->class != PACKET_STREAM || !p->data_len)
		return;
	given = remember(s, calloc(1, sizeof(*given)));
	given->packet = p;
	given->next = t->given;
	t->given = given;
}

static void forget(struct tuple *t)
{
	t->given = NULL;
	t->unsaid_count = t->waiting_count = 0;
	t->has_ack = false;
}

/* Both answer the same SYN of the client, of whose data each may have taken some. */
static bool answer_one(const struct tuple *t)
{
	uint32_t len = t->c_syn - t->c_isn;

	return t->p_ack == t->s_ack ||
	       (t->asked && t->p_ack - t->c_isn - 1 < len && t->s_ack - t->c_isn - 1 < len);
}

/* Both have begun: two SYN-ACKs of one life answer the same SYN. */
static void find_offset(struct scenario *s, struct tuple *t)
{
	if (t->offset || !t->has_s || !t->has_p || (t->p_ack && t->s_ack && !answer_one(t)))
		return;
	t->offset = true;
	t->seq_add = t->p_isn - t->s_isn;
	t->stamp_add = t->p_stamps && t->s_stamps ? t->p_stamp - t->s_stamp : 0;
	t->p_used = true;
	for (unsigned int i = 0; i < t->unsaid_count; i++)
		expect_out(s, outward(s, t, t->unsaid[i]));
	t->unsaid_count = 0;
}

/* Of a life whose offset is not known: it waits, and the wait is bounded. */
static void wait_for_offset(struct scenario *s, const struct packet **list, unsigned int *count,
			    const struct packet *p)
{
	if (*count < WAITING_MAX)
		list[(*count)++] = p;
	else
		s->rewriter->full = true;
}

/* The guest refuses the client's SYN: that RST has no number of its own. */
static bool refuses(const struct tuple *t, const struct packet *p)
{
	return t->asked && p->flags & TCP_RST && p->flags & TCP_ACK && !p->seq &&
	       p->ack == t->c_syn;
}

static void give_waiting(struct scenario *s, struct tuple *t)
{
	for (unsigned int i = 0; t->offset && i < t->waiting_count; i++)
		give(s, NULL, inward(s, t, t->waiting[i]));
	if (t->offset)
		t->waiting_count = 0;
}

/* What it says of its end. */
static void note_end(struct scenario *s, struct tuple *t, const struct packet *p, bool *fin)
{
	if (t->epoch != s->run.epoch)
		t->guest_fin = t->client_fin = t->reset = false;
	t->epoch = s->run.epoch;
	*fin |= p->flags & TCP_FIN;
	t->reset |= p->flags & TCP_RST;
}

/* ---- the guest -------------------------------------------------------------------- */

static void new_life(struct tuple *t, const struct packet *p)
{
	uint32_t echo;

	t->guest_fin = p->flags & TCP_FIN;
	t->client_fin = t->reset = false;
	if (t->has_s) {
		forget(t);
		/* Until the primary says its number it is not this one's. */
		if (t->p_used)
			t->has_p = false;
	}
	t->offset = t->older = t->has_echo = false;
	t->seq_add = t->stamp_add = 0;
	t->has_s = true;
	t->s_isn = p->seq;
	t->s_ack = p->flags & TCP_ACK ? p->ack : 0;
	t->s_stamps = stamp_of(p, &t->s_stamp, &echo);
}

static void guest_syn(struct scenario *s, struct tuple *t, const struct packet *p)
{
	if (!t->has_s || t->s_isn != p->seq) {
		new_life(t, p);
		find_offset(s, t);
		/* S repeats what P has begun: its numbers are P's. */
		if (t->p_known && t->p_last == p->seq)
			t->offset = true;
	}
	if (t->offset)
		expect_out(s, outward(s, t, p));
	else if (!t->unsaid_count) /* else it says it again */
		wait_for_offset(s, t->unsaid, &t->unsaid_count, p);
	give_waiting(s, t);
}

static void guest_stream(struct scenario *s, struct tuple *t, const struct packet *p)
{
	note_end(s, t, p, &t->guest_fin);
	if (p->flags & TCP_ACK && !(p->flags & (TCP_SYN | TCP_RST))) {
		t->has_ack = true;
		t->ack = p->ack;
	}
	if (p->flags & TCP_SYN) {
		guest_syn(s, t, p);
	} else if (refuses(t, p)) {
		expect_out(s, p);
	} else if (t->offset) {
		expect_out(s, outward(s, t, p));
	} else if (!t->has_s) {
		/* Older than the epoch, or it refuses. */
		t->older |= !(p->flags & TCP_RST);
		expect_out(s, p);
	} else {
		wait_for_offset(s, t->unsaid, &t->unsaid_count, p);
	}
}

static void leave_alone(struct tuple *t)
{
	t->translated = t->offset = t->has_echo = false;
	t->seq_add = t->stamp_add = 0;
}

/* Rule 15: old lives go on, new ones are left alone. */
static void guest_alone(struct scenario *s, struct tuple *t, const struct packet *p)
{
	if (refuses(t, p) || (p->flags & TCP_SYN && (!t->offset || t->s_isn != p->seq)))
		leave_alone(t);
	expect_out(s, t->translated ? outward(s, t, p) : p);
}

static void put_guest(struct scenario *s)
{
	struct frame *frame = build(s, true, s->run.test->offloads);
	struct packet *p;
	struct tuple *t;

	if (!frame)
		return;
	p = packet_of(s, frame);
	if (frame->partial)
		packet_finish(p);
	put(s, frame);
	frame_free(frame);
	t = tuple_of(s, p, true);
	if (p->class == PACKET_STREAM)
		note_stamp(t, p, true);
	if (p->class != PACKET_STREAM)
		expect_out(s, quoting(s, p, true));
	else if (s->run.failed_over)
		guest_alone(s, t, p);
	else
		guest_stream(s, t, p);
}

/* ---- the client ------------------------------------------------------------------- */

static void note_echo(struct tuple *t, const struct packet *p)
{
	uint32_t value, echo;

	if (!(p->flags & TCP_ACK) || !stamp_of(p, &value, &echo))
		return;
	if (!t->has_echo || seq_diff(t->echo, echo) < 0)
		t->echo = echo;
	t->has_echo = true;
}

static void client_stream(struct scenario *s, struct tuple *t, const struct packet *p)
{
	bool syn = p->flags & TCP_SYN && !(p->flags & TCP_ACK);

	note_end(s, t, p, &t->client_fin);
	if (syn) {
		t->asked = true;
		t->c_isn = p->seq;
		t->c_syn = p->next;
		if (!t->has_s && !t->offset && !t->older)
			t->begun = true;
		give(s, NULL, p);
		return;
	}
	note_echo(t, p);
	if (t->offset || !(p->flags & TCP_ACK)) {
		give(s, t, inward(s, t, p));
	} else if (t->begun || t->has_s || (t->has_p && !t->p_used && !t->older)) {
		wait_for_offset(s, t->waiting, &t->waiting_count, p);
	} else {
		t->older = true;
		give(s, t, p);
	}
}

static void put_from_client(struct scenario *s)
{
	struct frame *frame = build(s, false, s->run.test->offloads);
	bool lost = s->run.drop && !s->run.failed_over;
	uint64_t came = s->now.in_frames, active = s->now.active_in;
	struct rewriter *x = s->rewriter;
	struct packet *p;
	struct tuple *t;

	if (!frame)
		return;
	p = packet_of(s, frame);
	if (frame->partial)
		packet_finish(p);
	put(s, frame);
	frame_free(frame);
	if (lost)
		return;
	if (s->run.failed_over)
		wait_for(s, &s->now.active_in, active + 1);
	else
		wait_for(s, &s->now.in_frames, came + 1);
	if (!s->run.failed_over && x->inputs < INPUTS_MAX)
		x->input[x->inputs++] = p;
	t = tuple_of(s, p, false);
	if (p->class == PACKET_STREAM)
		note_stamp(t, p, false);
	if (p->class != PACKET_STREAM) {
		expect_at(s, OUTLET_GUEST, quoting(s, p, false));
	} else if (s->run.failed_over) {
		if (p->flags & TCP_SYN && !(p->flags & TCP_ACK)) {
			t->asked = true;
			t->c_isn = p->seq;
			t->c_syn = p->next;
		}
		if (t->translated)
			note_echo(t, p);
		expect_at(s, OUTLET_GUEST, inward(s, t, p));
	} else {
		client_stream(s, t, p);
	}
}

/* ---- the primary's SYN ------------------------------------------------------------- */

static void put_isn(struct scenario *s)
{
	char *error = NULL;
	struct frame *frame = sent_control(s->run.test, s->at, &error);
	uint64_t told = s->now.control_received;
	bool lost = s->run.drop;
	struct packet *p;
	struct tuple *t;
	uint32_t echo;

	if (!frame) {
		fault(s, "%s", error ? error : "no frame");
		free(error);
		return;
	}
	p = packet_of(s, frame);
	put(s, frame);
	frame_free(frame);
	if (lost)
		return;
	wait_for(s, &s->now.control_received, told + 1);
	t = tuple_of(s, p, true);
	/* Said again, it is of the life that there was. */
	if (t->p_known && t->p_last == p->seq)
		return;
	t->p_known = t->has_p = true;
	t->p_used = false;
	t->p_last = p->seq;
	t->p_isn = p->seq;
	t->p_ack = p->flags & TCP_ACK ? p->ack : 0;
	t->p_stamps = stamp_of(p, &t->p_stamp, &echo);
	find_offset(s, t);
	give_waiting(s, t);
}

/* ---- epochs ------------------------------------------------------------------------ */

/* The guest is the primary's copy: what it sends is in the primary's numbers. */
static void commit(struct scenario *s)
{
	struct rewriter *x = s->rewriter;
	unsigned int unread = s->at ? s->at->number : 0;
	int err = colo_proxy.commit(&s->run, unread);

	if (err)
		fault(s, "the reset: %s", strerror(-err));
	for (struct tuple *t = x->tuples; t; t = t->next) {
		forget(t);
		t->has_s = t->has_p = t->begun = t->older = t->offset = false;
		t->seq_add = t->stamp_add = 0;
	}
	if (unread > x->inputs)
		unread = x->inputs;
	/* Rule 16: what the primary has not read it may not have read at the next, either. */
	memmove(x->input, x->input + x->inputs - unread, unread * sizeof(x->input[0]));
	x->inputs = unread;
	for (unsigned int i = 0; i < unread; i++)
		expect_at(s, OUTLET_GUEST, x->input[i]);
	x->full = false;
	s->outcome->commits++;
}

/*
 * Rule 15: its client knows other numbers, or a clock that the guest's may not
 * have reached.
 */
static bool is_translated(const struct scenario *s, const struct tuple *t)
{
	if (t->offset && (t->seq_add || t->stamp_add))
		return true;
	if (t->epoch == s->run.epoch && (t->reset || (t->guest_fin && t->client_fin)))
		return false;
	if (t->offset)
		return t->has_echo || t->s_stamps;
	return !t->has_s && (t->has_echo || t->older);
}

static void failover(struct scenario *s)
{
	int err = colo_proxy.failover(&s->run);

	s->run.failed_over = true;
	if (err)
		fault(s, "the failover: %s", strerror(-err));
	for (struct tuple *t = s->rewriter->tuples; t; t = t->next) {
		/* It has told the client nothing: it goes on in its own numbers. */
		for (unsigned int i = 0; i < t->unsaid_count; i++)
			expect_out(s, t->unsaid[i]);
		forget(t);
		t->translated = is_translated(s, t);
		if (!t->translated)
			leave_alone(t);
	}
	s->rewriter->any_order = true;
}

/* ---- what came --------------------------------------------------------------------- */

static void complain(struct scenario *s, const char *what, const struct packet *p,
		     const struct packet *instead)
{
	struct frame frame = {.bytes = p->bytes, .len = p->len}, other;
	char *text = decode_print(&frame), *expected = NULL;

	if (instead) {
		other = (struct frame){.bytes = instead->bytes, .len = instead->len};
		expected = decode_print(&other);
	}
	fault(s, "%s: %s%s%s", what, text, expected ? ", expected: " : "",
	      expected ? expected : "");
	free(text);
	free(expected);
}

static bool has_stamp(const struct tuple *t, uint32_t stamp)
{
	for (unsigned int i = 0; i < t->stamp_count && i < STAMPS_MAX; i++) {
		if (t->stamps[i] == stamp)
			return true;
	}
	return false;
}

/* What is given again may have a later time of the client's, not an older one (PAWS). */
static const struct packet *stamped(struct scenario *s, const struct tuple *t,
				    const struct packet *p, const struct packet *out)
{
	uint32_t was, is, echo;
	struct packet *later;

	if (!stamp_of(p, &was, &echo) || !stamp_of(out, &is, &echo) || is == was ||
	    seq_diff(is, was) < 0 || !has_stamp(t, is))
		return p;
	later = copy_of(s, p);
	store32(option(later, 8) + 2, is);
	packet_finish(later);
	return later;
}

/* It was given to the guest, which has not acked it. */
static bool may_be_again(struct scenario *s, const struct packet *out)
{
	struct tuple *t = out->class == PACKET_STREAM ? tuple_of(s, out, false) : NULL;
	uint32_t until;

	for (const struct expected *e = t ? t->given : NULL; e; e = e->next) {
		const struct packet *p = stamped(s, t, e->packet, out);

		if ((!t->has_ack || seq_diff(t->ack, p->next) < 0) &&
		    packet_is_of(p, out, out->seq, &until))
			return true;
	}
	return false;
}

static void judge_at(struct scenario *s, enum outlet outlet, const struct frame *frame)
{
	static const char *const where[OUTLETS] = {"by the port", "to the guest",
						   "over the link"};
	struct packet out = {.len = frame->len, .bytes = frame->bytes};
	struct rewriter *x = s->rewriter;
	struct expected *next = x->due[outlet], **at = &x->due[outlet];
	char what[80];
	uint32_t until;

	packet_dissect(&out);
	free(out.why);
	out.why = NULL;
	if (frame->fault)
		complain(s, frame->fault, &out, NULL);
	for (; *at; at = &(*at)->next) {
		if (packet_is_of((*at)->packet, &out, (*at)->done, &until)) {
			(*at)->done = until;
			if (until == (*at)->packet->next)
				*at = (*at)->next;
			return;
		}
		if (!x->any_order)
			break;
	}
	if (outlet == OUTLET_GUEST && x->may_repeat && may_be_again(s, &out))
		return;
	snprintf(what, sizeof(what), "rule 14: went %s", where[outlet]);
	complain(s, what, &out, next ? next->packet : NULL);
}

static void judge_port(struct scenario *s, struct frame *frame)
{
	judge_at(s, OUTLET_PORT, frame);
}

static void judge_guest(struct scenario *s, struct frame *frame)
{
	judge_at(s, OUTLET_GUEST, frame);
}

static void judge_link(struct scenario *s, struct frame *frame)
{
	judge_at(s, OUTLET_LINK, frame);
}

static void judge_rest(struct scenario *s)
{
	const struct colo_counters *c = &s->now;
	unsigned int of_p, all, requests;
	int reason;

	for (enum outlet o = 0; o < OUTLETS; o++) {
		if (s->rewriter->due[o])
			complain(s, "rule 14: has not come", s->rewriter->due[o]->packet, NULL);
	}
	count_records(s->dp, &of_p, &all);
	all -= once(s, SPOIL_LEAK);
	if (c->frames_taken - c->frames_given != all)
		fault(s, "%" PRIu64 " records are in use by the counters, %u are not free",
		      (uint64_t)(c->frames_taken - c->frames_given), all);
	if (c->port_failed + c->lock_failed + c->events_lost + c->link_failed)
		fault(s, "a send or a lock has failed");
	requests = colo_proxy.requests(&s->run, &reason) + once(s, SPOIL_REQUEST);
	if (requests != s->rewriter->full)
		fault(s, "a request for %s", reason_names[reason]);
}

static void look_at_all(struct scenario *s)
{
	struct rewriter *x = s->rewriter;

	settle(s);
	if (s->outcome->fault)
		return;
	x->may_repeat = s->now.rw_in_redelivered != x->redelivered;
	x->redelivered = s->now.rw_in_redelivered;
	judge_outlet(s, OUTLET_PORT, judge_port);
	judge_outlet(s, OUTLET_GUEST, judge_guest);
	judge_outlet(s, OUTLET_LINK, judge_link);
	if (!s->outcome->fault)
		judge_rest(s);
	x->any_order = false;
	for (enum outlet o = 0; o < OUTLETS; o++)
		frames_clear(&s->run.out[o]);
}

/* ---- all of it ----------------------------------------------------------------------- */

/* What is kept for the guest is older now: it may be given again. */
static void let_age(struct scenario *s)
{
	for (__u32 i = 0; i < s->dp->max_frames; i++) {
		if (s->dp->frames[i].state != COLO_FRAME_FREE)
			s->dp->frames[i].held_ns -= s->at->number * NSEC_PER_MSEC;
	}
}

void secondary_begin(struct scenario *s)
{
	s->rewriter = remember(s, calloc(1, sizeof(*s->rewriter)));
	read_counters(s);
}

void secondary_step(struct scenario *s)
{
	struct frame *frame = NULL;
	char *error = NULL;

	/* For what an `I` looks like the runner knows the SYN that it answers. */
	if (s->at->verb == VERB_C || s->at->verb == VERB_G)
		frame = build_frame(&s->at->spec, s->at->verb == VERB_G, s->run.test->offloads,
				    &error);
	if (frame)
		sent_note(s->at->verb, &s->at->spec, frame);
	frame_free(frame);
	free(error);
	switch (s->at->verb) {
	case VERB_G:
		put_guest(s);
		break;
	case VERB_C:
		put_from_client(s);
		break;
	case VERB_I:
		put_isn(s);
		break;
	case VERB_COMMIT:
		commit(s);
		break;
	case VERB_FAILOVER:
		failover(s);
		break;
	default:
		let_age(s);
	}
	look_at_all(s);
}

void secondary_end(struct scenario *s)
{
	if (!s->run.failed_over) {
		commit(s);
		look_at_all(s);
	}
	if (s->outcome->fault)
		return;
	if (s->now.frames_taken != s->now.frames_given)
		fault(s, "%" PRIu64 " records are not given back in the end",
		      (uint64_t)(s->now.frames_taken - s->now.frames_given));
	colo_proxy.end(&s->run);
	if (s->run.error)
		fault(s, "%s", s->run.error);
}
