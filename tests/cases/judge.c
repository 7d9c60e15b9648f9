// SPDX-License-Identifier: GPL-2.0-only
/* Holds what has left against the model. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"

#define TEXT_MAX 256

/* What of a TCP header may differ where a segment was cut anew. */
#define CUT_FLAGS (TCP_FIN | TCP_PSH | TCP_URG)

void judge_fail(struct judge *judge, const char *format, ...)
{
	va_list args;

	if (!judge->failures++) {
		va_start(args, format);
		if (vasprintf(&judge->first, format, args) < 0)
			judge->first = NULL;
		va_end(args);
	}
	if (judge->quiet || judge->failures > FAILURES_MAX + 1)
		return;
	if (judge->failures > FAILURES_MAX) {
		printf("#   FAILED: more are not printed\n");
		return;
	}
	printf("#   FAILED: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

static void describe(char *to, size_t size, const struct packet *p)
{
	char flow[TEXT_MAX];

	packet_print_flow(flow, sizeof(flow), p);
	if (p->class == PACKET_STREAM)
		snprintf(to, size, "%s, units %u to %u", flow, p->seq, p->next);
	else
		snprintf(to, size, "%s, %u bytes", flow, p->len);
}

/* ---- P's very frame ----------------------------------------------------- */

/* Rule 8: P's checksum, or the right one. */
static bool csum_fits(const struct packet *p, const struct packet *out)
{
	unsigned int size, at = packet_csum(p, &size);

	if (at && memcmp(p->bytes + at, out->bytes + at, size) && !packet_csum_good(out))
		return false;
	return p->key.ethertype != 0x0800 || p->key.malformed ||
	       !memcmp(p->bytes + p->l3 + 10, out->bytes + p->l3 + 10, 2) ||
	       packet_ip_csum_good(out);
}

static bool bytes_equal(const struct packet *a, const struct packet *b, unsigned int from,
			unsigned int to)
{
	return !memcmp(a->bytes + from, b->bytes + from, to - from);
}

/* All of it but the checksums; padding is nothing. */
bool judge_is_whole(const struct packet *p, const struct packet *out)
{
	unsigned int size, at = packet_csum(p, &size), from = 0;

	if (p->class != out->class || p->end != out->end)
		return false;
	if (p->key.ethertype == 0x0800 && !p->key.malformed) {
		if (!bytes_equal(p, out, 0, p->l3 + 10))
			return false;
		from = p->l3 + 12;
	}
	if (at) {
		if (!bytes_equal(p, out, from, at))
			return false;
		from = at + size;
	}
	return bytes_equal(p, out, from, p->end);
}

/* ---- another cut -------------------------------------------------------- */

/* Rule 4: ack, window, options, addresses are P's. */
bool judge_header_fits(const struct packet *p, const struct packet *out)
{
	const uint8_t *a = p->bytes + p->l4, *b = out->bytes + out->l4;
	bool v6 = p->key.ethertype == 0x86dd;

	if (p->l3 != out->l3 || p->l4 != out->l4 || p->data != out->data || memcmp(a, b, 4) ||
	    memcmp(a + 8, b + 8, 5) || memcmp(a + 14, b + 14, 2) ||
	    (a[13] ^ b[13]) & ~CUT_FLAGS || b[13] & ~a[13] || !packet_csum_good(out) ||
	    !bytes_equal(p, out, p->l4 + 20, p->data) || !bytes_equal(p, out, 0, p->l3))
		return false;
	if (v6)
		return bytes_equal(p, out, p->l3, p->l3 + 4) &&
		       bytes_equal(p, out, p->l3 + 6, p->l4);
	return bytes_equal(p, out, p->l3, p->l3 + 2) &&
	       bytes_equal(p, out, p->l3 + 6, p->l3 + 10) &&
	       bytes_equal(p, out, p->l3 + 12, p->l4) && packet_ip_csum_good(out);
}

/* How far a frame of P goes on with out's units at `at`; `at`: it does not. */
static uint32_t goes_to(const struct item *item, const struct packet *out, uint32_t at)
{
	uint32_t end = item->allowed;

	if (item->seen != at || seq_diff(at, end) >= 0)
		return at;
	if (seq_diff(out->next, end) < 0)
		end = out->next;
	for (uint32_t unit = at; unit != end; unit++) {
		if (packet_unit(item->packet, unit) != packet_unit(out, unit))
			return at;
	}
	return end;
}

/*
 * The frame of P that goes on at `at` with out's units; how far, in *to. Of several
 * one whose header it has, of these the one that goes on farthest, of these the
 * first in sequence order (rule 3).
 */
static struct item *goes_on(struct model_flow *flow, const struct packet *out, uint32_t at,
			    uint32_t *to)
{
	bool found_fits = false, fits;
	struct item *found = NULL;

	*to = at;
	for (unsigned int i = 0; i < flow->open.count; i++) {
		struct item *item = flow->open.list[i];
		uint32_t end = goes_to(item, out, at);
		int better;

		if (end == at)
			continue;
		fits = judge_header_fits(item->packet, out);
		better = fits - found_fits ?: seq_diff(end, *to);
		if (found && !better)
			better = seq_diff(found->packet->seq, item->packet->seq);
		if (found && !better)
			better = item->number < found->number ? 1 : -1;
		if (found && better < 0)
			continue;
		found = item;
		found_fits = fits;
		*to = end;
	}
	return found;
}

static void close_item(struct model_flow *flow, struct item *item)
{
	for (unsigned int i = 0; i < flow->open.count; i++) {
		if (flow->open.list[i] == item) {
			items_remove(&flow->open, i);
			break;
		}
	}
	item->gone = true;
}

static bool take_cut(struct judge *judge, struct model_flow *flow, const struct packet *out)
{
	const struct packet *last = NULL;
	uint32_t at = out->seq, to;

	if (out->class != PACKET_STREAM || !packet_has_units(out))
		return false;
	while (at != out->next) {
		struct item *item = goes_on(flow, out, at, &to);

		if (!item)
			return false;
		last = item->packet;
		item->seen = at = to;
		if (item->left && item->seen == last->next)
			close_item(flow, item);
	}
	if (!judge_header_fits(last, out))
		judge_fail(judge,
			   "rule 4: units %u to %u left with a header that is not frame %u's",
			   out->seq, out->next, last->number);
	judge->cut++;
	return true;
}

/*
 * The open frame that this one is, whose turn it is in its lane, of several the one
 * that came first; open.count: there is none, then *late is one whose turn it is not.
 */
static unsigned int find_whole(const struct model_flow *flow, const struct packet *out,
			       unsigned int *late)
{
	unsigned int found = flow->open.count;
	bool behind[LANES] = {false};

	*late = flow->open.count;
	for (unsigned int i = 0; i < flow->open.count; i++) {
		const struct item *item = flow->open.list[i];
		bool is = item->left && item->seen == item->packet->seq &&
			  judge_is_whole(item->packet, out);

		if (is && !behind[item->lane] &&
		    (found == flow->open.count ||
		     item->number < flow->open.list[found]->number))
			found = i;
		if (is && *late == flow->open.count)
			*late = i;
		behind[item->lane] |= item->left;
	}
	return found;
}

static void take_item(struct judge *judge, struct model_flow *flow, unsigned int at,
		      const struct packet *out)
{
	struct item *item = flow->open.list[at];

	if (!csum_fits(item->packet, out))
		judge_fail(judge, "rule 8: frame %u left with a wrong checksum that is not P's",
			   item->packet->number);
	item->gone = true;
	item->seen = item->packet->next;
	items_remove(&flow->open, at);
	judge->whole++;
}

static bool take_whole(struct judge *judge, struct model_flow *flow, const struct packet *out)
{
	unsigned int at, late;

	at = find_whole(flow, out, &late);
	if (at == flow->open.count && late == flow->open.count)
		return false;
	if (at == flow->open.count) {
		/* The rest of an earlier one may look like one that is not due yet. */
		if (take_cut(judge, flow, out))
			return true;
		at = late;
		judge_fail(judge, "rule 3: frame %u left before one that is due before it",
			   flow->open.list[at]->packet->number);
	}
	take_item(judge, flow, at, out);
	return true;
}

/* ---- flows of which the rules say nothing ------------------------------- */

static bool sent_by_p(const struct model_flow *flow, uint32_t at, int unit)
{
	for (unsigned int i = 0; i < flow->all.count; i++) {
		if (packet_unit(flow->all.list[i]->packet, at) == unit)
			return true;
	}
	return false;
}

/* Whatever leaves, P has sent it. */
static bool take_unjudged(struct judge *judge, struct model_flow *flow,
			  const struct packet *out)
{
	judge->unjudged++;
	for (unsigned int i = 0; i < flow->all.count; i++) {
		struct item *item = flow->all.list[i];

		if (!item->gone && judge_is_whole(item->packet, out)) {
			item->gone = true;
			return true;
		}
	}
	if (out->class != PACKET_STREAM || !packet_has_units(out))
		return false;
	for (uint32_t at = out->seq; at != out->next; at++) {
		if (!sent_by_p(flow, at, packet_unit(out, at)))
			return false;
	}
	return true;
}

/* ---- verdicts ----------------------------------------------------------- */

/* Why a frame should not have left: P's frame that it is, or is of. */
static void accuse(struct judge *judge, const struct model_flow *flow, const struct packet *out)
{
	char what[2 * TEXT_MAX], why[TEXT_MAX];
	const struct item *of = NULL;

	describe(what, sizeof(what), out);
	for (unsigned int i = 0; flow && i < flow->all.count; i++) {
		const struct item *item = flow->all.list[i];

		if (!item->gone && (judge_is_whole(item->packet, out) ||
				    (out->class == PACKET_STREAM && packet_has_units(out) &&
				     packet_unit(item->packet, out->seq) != UNIT_NONE))) {
			of = item;
			break;
		}
	}
	if (!of) {
		judge_fail(judge, "rule 1: %s: left, which P has not sent, or not that often",
			   what);
		return;
	}
	model_why(of, why, sizeof(why));
	judge_fail(judge, "frame %u: %s: left, but %s", of->packet->number, what,
		   of->left ? "not as P sent it, or out of order" : why);
}

void judge_frame(struct judge *judge, const struct frame *frame)
{
	struct packet out = {.len = frame->len, .bytes = frame->bytes};
	struct model_flow *flow;
	bool known = false;
	char *text;

	packet_dissect(&out);
	flow = model_flow(judge->model, &out.key, false);
	if (verbose) {
		text = decode_print(frame);
		printf("#   -> %s\n", text);
		free(text);
	}
	if (flow && flow->unjudged)
		known = take_unjudged(judge, flow, &out);
	else if (flow)
		known = take_whole(judge, flow, &out) || take_cut(judge, flow, &out);
	if (!known)
		accuse(judge, flow, &out);
	free(out.why);
}

bool judge_is_done(const struct judge *judge)
{
	const struct items *due = &judge->model->due;

	for (unsigned int i = 0; i < due->count; i++) {
		if (!due->list[i]->gone && !due->list[i]->flow->unjudged)
			return false;
	}
	return true;
}

void judge_due(struct judge *judge)
{
	struct items *due = &judge->model->due;
	char what[2 * TEXT_MAX];

	for (unsigned int i = 0; i < due->count; i++) {
		struct item *item = due->list[i];

		if (item->gone || item->flow->unjudged)
			continue;
		describe(what, sizeof(what), item->packet);
		judge_fail(judge, "frame %u: %s: has not left%s, though %s",
			   item->packet->number, what,
			   item->seen == item->packet->seq ? "" : " as a whole",
			   item->at_commit ? "a commit covers it (rule 2)" :
					     "the rules let it go");
		/* What hangs on it is no other failure. */
		model_unjudged(judge->model, item->flow, "the engine has held it");
	}
	due->count = 0;
}
