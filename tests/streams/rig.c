// SPDX-License-Identifier: GPL-2.0-only
/* A scenario's frames on their way to the programs, and the end of what they bring about. */
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

#define BARRIER_MS 10000 /* for a frame to get through at all */

void fault(struct scenario *s, const char *format, ...)
{
	va_list args;

	if (s->outcome->fault)
		return;
	va_start(args, format);
	if (vasprintf(&s->outcome->fault, format, args) < 0)
		abort();
	va_end(args);
	s->outcome->line = s->at ? s->at->line : 0;
}

/* ---- what is kept until the end --------------------------------------------- */

void *remember(struct scenario *s, void *memory)
{
	struct kept *kept = malloc(sizeof(*kept));

	kept->memory = memory;
	kept->next = s->kept;
	s->kept = kept;
	return memory;
}

struct packet *packet_of(struct scenario *s, const struct frame *frame)
{
	struct packet *p = remember(s, calloc(1, sizeof(*p)));

	p->len = frame->len;
	p->bytes = remember(s, malloc(frame->len + 1));
	memcpy(p->bytes, frame->bytes, frame->len);
	p->number = s->at->line;
	packet_dissect(p);
	if (p->why)
		remember(s, p->why);
	return p;
}

struct item *item_of(struct scenario *s, const struct packet *p)
{
	struct item *item = remember(s, calloc(1, sizeof(*item)));

	item->packet = p;
	return item;
}

/* A checksum that is left to the device is finished on the way. */
void packet_finish(struct packet *p)
{
	struct flow flow = {.src.family = p->key.ethertype == 0x86dd ? AF_INET6 : AF_INET};
	unsigned int size, at = packet_csum(p, &size);
	uint32_t sum = 0;
	uint16_t csum;

	if (!at || p->key.proto == IPPROTO_SCTP)
		return;
	memcpy(flow.src.bytes, p->key.src, 16);
	memcpy(flow.dst.bytes, p->key.dst, 16);
	memset(p->bytes + at, 0, 2);
	if (p->key.proto != IPPROTO_ICMP)
		sum = sum_pseudo(&flow, p->key.proto, p->end - p->l4);
	csum = ~sum_fold(sum_add(sum, p->bytes + p->l4, p->end - p->l4));
	if (!csum && p->key.proto == IPPROTO_UDP)
		csum = 0xffff;
	p->bytes[at] = csum >> 8;
	p->bytes[at + 1] = csum;
}

/* The same packet, or a segment of it; *until: how far it goes. */
bool packet_is_of(const struct packet *p, const struct packet *out, uint32_t from,
		  uint32_t *until)
{
	unsigned int size, at = packet_csum(out, &size);

	*until = p->next;
	if (from == p->seq && judge_is_whole(p, out))
		return !at || !memcmp(p->bytes + at, out->bytes + at, size) ||
		       packet_csum_good(out);
	if (p->class != PACKET_STREAM || out->class != PACKET_STREAM || out->seq != from ||
	    !out->data_len || !judge_header_fits(p, out))
		return false;
	for (uint32_t seq = out->seq; seq != out->next; seq++) {
		if (packet_unit(p, seq) != packet_unit(out, seq))
			return false;
	}
	*until = out->next;
	/* What ends it ends its last segment. */
	return *until != p->next || p->flags == out->flags;
}

/* ---- to the programs ---------------------------------------------------------- */

/* An LLDP frame, which passes; when it has left, all before it has. */
static void put_barrier(struct scenario *s)
{
	uint8_t bytes[60] = {1, 0x80, 0xc2, 0,    0,    14,   2,   0,
			     0, 0,    0,    0x10, 0x88, 0xcc, 'b', 'a'};
	struct frame frame = {.bytes = bytes, .len = sizeof(bytes)};

	s->barriers++;
	memcpy(bytes + 20, &s->barriers, sizeof(s->barriers));
	if (colo_proxy.put(&s->run, VERB_P, 0, &frame)) /* whichever guest it is */
		fault(s, "the guest's device takes no frame");
}

bool is_barrier(const struct frame *frame)
{
	return frame->len == 60 && frame->bytes[12] == 0x88 && frame->bytes[13] == 0xcc &&
	       frame->bytes[14] == 'b';
}

void read_counters(struct scenario *s)
{
	datapath_counters(s->dp, &s->now);
}

/* What came from the link or a client is done on another way than the barrier. */
void wait_for(struct scenario *s, const __u64 *counter, uint64_t want)
{
	uint64_t until = now_ns() + BARRIER_MS * NSEC_PER_MSEC;

	for (read_counters(s); *counter < want; read_counters(s)) {
		if (now_ns() < until)
			continue;
		fault(s, "a frame has not reached the program");
		return;
	}
}

/* All that the last event has brought about is out, and read. */
void settle(struct scenario *s)
{
	bool link = s->run.side == SIDE_SECONDARY && !s->run.failed_over;
	struct frames *out = &s->run.out[link ? OUTLET_LINK : OUTLET_PORT];
	uint64_t until = now_ns() + BARRIER_MS * NSEC_PER_MSEC;
	bool back = false;

	colo_proxy.poll(&s->run, 0);
	put_barrier(s);
	while (!back && !s->outcome->fault) {
		colo_proxy.poll(&s->run, 0);
		for (unsigned int i = out->count; i-- > 0 && !back;)
			back = is_barrier(out->list[i]) &&
			       !memcmp(out->list[i]->bytes + 20, &s->barriers,
				       sizeof(s->barriers));
		if (!back && now_ns() > until)
			fault(s, "nothing leaves any more, not even LLDP");
	}
	read_counters(s);
	if (s->run.error)
		fault(s, "%s", s->run.error);
}

/* ---- frames ---- */

struct frame *build(struct scenario *s, bool from_guest, bool offloads)
{
	char *error = NULL;
	struct frame *frame = build_frame(&s->at->spec, from_guest, offloads, &error);

	if (!frame)
		fault(s, "%s", error ? error : "no frame");
	free(error);
	return frame;
}

void put(struct scenario *s, struct frame *frame)
{
	int err = colo_proxy.put(&s->run, s->at->verb, sent_epoch_diff(s->at), frame);

	if (err)
		fault(s, "the frame cannot be put in: %s", strerror(-err));
	s->outcome->frames++;
}
