// SPDX-License-Identifier: GPL-2.0-only
/*
 * The classes of differences. A class holds only if the rules (truth.c) say
 * what colo-bpf did, and the sequence has what misleads QEMU.
 */
#include <netinet/in.h>
#include <string.h>

#include "differ.h"

const char *const difference_names[DIFFERENCES] = {
	[QEMU_EARLY] = "QEMU releases",   [QEMU_LATE] = "QEMU holds",
	[QEMU_ASKS] = "QEMU asks",        [QEMU_SILENT] = "QEMU does not ask",
	[QEMU_AGAIN] = "QEMU asks again", [QEMU_ORDER] = "QEMU reorders",
};

/* ---- what a sequence has ------------------------------------------------- */

static const struct spec *first(const struct truth *t)
{
	static const struct spec none = {.kind = KIND_ANY};

	return t->p_count ? t->p[0].spec : t->s_count ? t->s[0].spec : &none;
}

static bool is_tcp(const struct truth *t)
{
	return t->based;
}

static bool uncompared(const struct truth *t, const struct sent *p)
{
	(void)p;
	return first(t)->vlans || first(t)->flow.src.family == AF_INET6;
}

static unsigned int twins(const struct sent *list, unsigned int count, const struct sent *of)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < count; i++)
		n += list[i].spec->data_len && list[i].spec->seq == of->spec->seq &&
		     list[i].end == of->end;
	return n;
}

/* Both sides' segments with data are not the same ones, in whatever order. */
static bool other_cuts(const struct truth *t)
{
	for (unsigned int i = 0; i < t->p_count; i++) {
		if (t->p[i].spec->data_len &&
		    twins(t->p, t->p_count, &t->p[i]) != twins(t->s, t->s_count, &t->p[i]))
			return true;
	}
	for (unsigned int i = 0; i < t->s_count; i++) {
		if (t->s[i].spec->data_len &&
		    twins(t->s, t->s_count, &t->s[i]) != twins(t->p, t->p_count, &t->s[i]))
			return true;
	}
	return false;
}

/* New data, and both sides' segments are not the same ones. */
static bool tcp_other_cuts(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && p->has_new && p->spec->data_len && other_cuts(t);
}

/* A frame that QEMU holds, of bytes that S has shown, waits for an ack. */
static bool tcp_ack_pending(const struct truth *t, const struct sent *p)
{
	(void)p;
	for (unsigned int i = 0; is_tcp(t) && i < t->p_count; i++) {
		p = &t->p[i];
		if (!p->out[QEMUS] && p->spec->data_len && p->spec->flags & TCP_ACK &&
		    truth_shown(t, p) && (int32_t)(p->spec->ack - t->last_s_ack) > 0)
			return true;
	}
	return false;
}

static bool tcp_ack_ahead(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && !uncompared(t, p) && !truth_ack_covered(t, p);
}

static bool tcp_control(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && p->spec->flags & (TCP_SYN | TCP_FIN | TCP_RST) &&
	       (p->spec->flags & TCP_RST || !truth_shown(t, p) || t->mismatch);
}

/* S has not shown these bytes at their place, but has shown bytes. */
static bool tcp_other_place(const struct truth *t, const struct sent *p)
{
	if (!is_tcp(t) || !p->spec->data_len || truth_shown(t, p))
		return false;
	for (unsigned int i = 0; i < t->s_count; i++) {
		if (t->s[i].spec->data_len && t->s[i].spec->seq != p->spec->seq)
			return true;
	}
	return false;
}

/* Vouched for, but what comes before it has not left. */
static bool tcp_out_of_turn(const struct truth *t, const struct sent *p)
{
	for (unsigned int i = 0; is_tcp(t) && i < t->p_count; i++) {
		if (t->p[i].has_new && !t->p[i].due &&
		    (int32_t)(t->p[i].spec->seq - p->spec->seq) < 0)
			return true;
	}
	return false;
}

static bool tcp_no_data(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && !p->spec->data_len;
}

static bool tcp_old(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && !p->has_new && p->spec->data_len && t->epoch == 1;
}

static bool tcp_old_epoch(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && !p->has_new && p->spec->data_len && t->epoch > 1;
}

/* What S has sent is vouched for, P's is out: what is left of S are bare acks. */
static bool tcp_bare_acks(const struct truth *t, const struct sent *p)
{
	bool bare = false;

	(void)p;
	if (!is_tcp(t) || truth_waits(t))
		return false;
	for (unsigned int i = 0; i < t->p_count; i++) {
		if (!t->p[i].out[QEMUS])
			return false;
	}
	for (unsigned int i = 0; i < t->s_count; i++)
		bare |= t->s[i].epoch == t->epoch && !t->s[i].spec->data_len;
	return bare;
}

static bool tcp_ask_other_cuts(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && other_cuts(t) && !tcp_ack_pending(t, p) && !tcp_bare_acks(t, p);
}

/* Both cut alike, but S's frames of before the commit are not those of P after it. */
static bool tcp_after_commit(const struct truth *t, const struct sent *p)
{
	return is_tcp(t) && t->epoch > 1 && !other_cuts(t) && !tcp_ack_pending(t, p) &&
	       !tcp_bare_acks(t, p);
}

/* Both cut alike, but S has shown again what a commit has vouched for. */
static bool tcp_s_repeats(const struct truth *t, const struct sent *p)
{
	if (!is_tcp(t) || !p->has_new || !p->spec->data_len || other_cuts(t))
		return false;
	for (unsigned int i = 0; t->epoch > 1 && i < t->s_count; i++) {
		if (t->s[i].epoch == t->epoch && !t->s[i].has_new && t->s[i].spec->data_len)
			return true;
	}
	return false;
}

static bool tcp_overtaken(const struct truth *t, const struct sent *p)
{
	(void)p;
	return is_tcp(t) && t->overtaken;
}

static bool tcp_disordered(const struct truth *t, const struct sent *p)
{
	(void)p;
	return is_tcp(t) && !t->overtaken;
}

static bool tcp_syn_options(const struct truth *t, const struct sent *p)
{
	(void)p;
	return is_tcp(t) && t->syn_epoch[0] == t->epoch && t->syn_epoch[1] == t->epoch &&
	       strcmp(t->syn[0], t->syn[1]);
}

static bool tcp_has_control(const struct truth *t, const struct sent *p)
{
	if (tcp_syn_options(t, p))
		return false;
	for (unsigned int i = 0; is_tcp(t) && i < t->p_count; i++) {
		if (t->p[i].spec->flags & (TCP_FIN | TCP_RST | TCP_SYN))
			return true;
	}
	for (unsigned int i = 0; is_tcp(t) && i < t->s_count; i++) {
		if (t->s[i].spec->flags & (TCP_FIN | TCP_RST | TCP_SYN))
			return true;
	}
	return false;
}

static bool datagram_csum(const struct truth *t, const struct sent *p)
{
	(void)p;
	for (unsigned int i = 0; i < t->p_count; i++) {
		if (t->p[i].spec->kind == KIND_UDP && t->p[i].spec->csum != CSUM_RIGHT)
			return true;
	}
	for (unsigned int i = 0; i < t->s_count; i++) {
		if (t->s[i].spec->kind == KIND_UDP && t->s[i].spec->csum != CSUM_RIGHT)
			return true;
	}
	return false;
}

static bool other_ip_header(const struct truth *t, const struct sent *p)
{
	(void)p;
	return !is_tcp(t) && first(t)->kind == KIND_IP;
}

static bool datagrams_crossed(const struct truth *t, const struct sent *p)
{
	return !is_tcp(t) && !uncompared(t, p) && !datagram_csum(t, p) &&
	       !other_ip_header(t, p) && (t->patient || t->p_count + t->s_count > 2);
}

/* One before it is still held. */
static bool datagram_out_of_turn(const struct truth *t, const struct sent *p)
{
	for (unsigned int i = 0; !is_tcp(t) && !uncompared(t, p) && &t->p[i] < p; i++) {
		if (!t->p[i].due)
			return true;
	}
	return false;
}

static bool datagram_after_mismatch(const struct truth *t, const struct sent *p)
{
	return !is_tcp(t) && !uncompared(t, p) && t->mismatch && !datagram_out_of_turn(t, p);
}

static bool datagram_commit(const struct truth *t, const struct sent *p)
{
	(void)p;
	return !is_tcp(t) && t->epoch > 1;
}

/* ---- the table: the first that holds is it ------------------------------- */

#define CLASS(by, what, how, predicate)                                              \
	{                                                                            \
		.rule = (by), .text = (what), .difference = (how), .is = (predicate) \
	}

struct class classes[] = {
	CLASS("rule 10", "IPv6 and tagged frames are compared", QEMU_EARLY, uncompared),
	CLASS("rule 10", "IPv6 and tagged frames are compared", QEMU_SILENT, uncompared),
	CLASS("rule 6", "an ack that S has not sent waits", QEMU_EARLY, tcp_ack_ahead),
	CLASS("rule 7", "SYN, FIN, RST that S has not shown wait", QEMU_EARLY, tcp_control),
	CLASS("rule 5", "bytes count at their place only", QEMU_EARLY, tcp_other_place),
	CLASS("rule 3", "TCP data leaves in sequence order", QEMU_EARLY, tcp_out_of_turn),
	CLASS("rule 3", "datagrams leave in P's order", QEMU_EARLY, datagram_out_of_turn),
	CLASS("rule 9", "behind a mismatch no datagram leaves", QEMU_EARLY,
	      datagram_after_mismatch),
	CLASS("rule 6", "what brings no unit and S has acked leaves", QEMU_LATE, tcp_no_data),
	CLASS("rule 5", "a retransmission leaves unchecked", QEMU_LATE, tcp_old),
	CLASS("rule 13", "after a commit what P has sent is vouched for", QEMU_LATE,
	      tcp_old_epoch),
	CLASS("rule 5", "the cuts do not matter", QEMU_LATE, tcp_other_cuts),
	CLASS("rule 13", "what S repeats of before a commit is dropped", QEMU_LATE,
	      tcp_s_repeats),
	CLASS("rule 8", "checksum fields are not compared", QEMU_LATE, datagram_csum),
	CLASS("rule 9", "IP headers are not compared", QEMU_LATE, other_ip_header),
	CLASS("rule 9", "the order of S does not matter", QEMU_LATE, datagrams_crossed),
	CLASS("rule 6", "waiting on an ack is no mismatch", QEMU_ASKS, tcp_ack_pending),
	CLASS("rule 5", "S that brings nothing new asks for nothing", QEMU_ASKS, tcp_bare_acks),
	CLASS("rule 5", "the cuts do not matter", QEMU_ASKS, tcp_ask_other_cuts),
	CLASS("rule 13", "a commit drops what S has waiting", QEMU_ASKS, tcp_after_commit),
	CLASS("rule 8", "checksum fields are not compared", QEMU_ASKS, datagram_csum),
	CLASS("rule 9", "IP headers are not compared", QEMU_ASKS, other_ip_header),
	CLASS("rule 9", "the order of S does not matter", QEMU_ASKS, datagrams_crossed),
	CLASS("rule 7", "the options of SYNs have to agree", QEMU_SILENT, tcp_syn_options),
	CLASS("rule 7", "SYN, FIN and RST are units", QEMU_SILENT, tcp_has_control),
	CLASS("rule 9", "the flow of other protocols has no ports", QEMU_SILENT,
	      other_ip_header),
	CLASS("rule 11", "one request per epoch", QEMU_AGAIN, NULL),
	CLASS("rule 13", "a commit releases in order", QEMU_ORDER, datagram_commit),
	CLASS("rule 3", "what brings no unit may overtake", QEMU_ORDER, tcp_overtaken),
	CLASS("rule 3", "TCP data leaves in sequence order", QEMU_ORDER, tcp_disordered),
};

const unsigned int classes_count = sizeof(classes) / sizeof(classes[0]);

struct class *classify(enum difference difference, const struct truth *t, const struct sent *p)
{
	struct class *found = NULL;
	unsigned int others = 0;

	for (unsigned int i = 0; i < classes_count; i++) {
		struct class *class = &classes[i];

		if (class->off || class->difference != difference ||
		    (class->is && !class->is(t, p)))
			continue;
		if (found)
			others++;
		else
			found = class;
	}
	if (found) {
		found->count++;
		found->alone += !others;
	}
	return found;
}
