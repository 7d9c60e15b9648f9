// SPDX-License-Identifier: GPL-2.0-only
/* Time of a scenario: what waits gets older, and the daemon looks. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>

#include "link.h"
#include "release.h"
#include "scenario.h"

#define SLICE_MS 10 /* of a wait, between two looks of the daemon */
#define KEYS_MAX 64 /* flows of a scenario whose flows end by time */

#define STILL_NS 1000000 /* nothing by the scenario's clock: see SCALE */

/*
 * How old something is by the scenario's clock, `ns` later: as a time of now. The
 * clock stands still between two waits; what came in between keeps its order.
 */
static uint64_t aged(const struct scenario *s, uint64_t since, uint64_t now, uint64_t ns)
{
	uint64_t age = since < s->clock_ns ? s->clock_ns - since : 0;
	uint64_t order = since < s->clock_ns ? 0 : (since - s->clock_ns) / 1024;

	if (since >= s->clock_ns && order < STILL_NS)
		age = STILL_NS - order;
	return now > age + ns ? now - age - ns : 0;
}

static void age_flows(struct scenario *s, uint64_t now, uint64_t ns)
{
	struct colo_flow_key keys[KEYS_MAX];
	int fd = s->dp->map_fd[MAP_FLOWS], count = 0;
	struct colo_flow flow;

	/* An update moves a flow: first all keys. */
	while (count < KEYS_MAX &&
	       !bpf_map_get_next_key(fd, count ? &keys[count - 1] : NULL, &keys[count]))
		count++;
	while (count--) {
		if (bpf_map_lookup_elem(fd, &keys[count], &flow))
			continue;
		flow.seen_ns = aged(s, flow.seen_ns, now, ns);
		bpf_map_update_elem(fd, &keys[count], &flow, BPF_EXIST);
	}
}

/* What waits is older now. */
static void age(struct scenario *s, unsigned int ms)
{
	uint64_t ns = (uint64_t)ms * SCALE * NSEC_PER_MSEC, now = now_ns();
	uint64_t reorder = s->dp->config->reorder_ms * NSEC_PER_MSEC;

	for (__u32 i = 0; i < s->dp->max_frames; i++) {
		volatile struct colo_frame *frame = &s->dp->frames[i];

		if (frame->state == COLO_FRAME_FREE)
			continue;
		frame->held_ns = aged(s, frame->held_ns, now, ns);
		if (!frame->held_ns)
			fault(s, "this machine has not been up for long enough");
	}
	for (__u32 i = 0; i < s->dp->watch.count; i++) {
		uint64_t *due = (uint64_t *)&s->dp->watch.flow[i].due_ns;

		*due = aged(s, *due - reorder, now, ns) + reorder;
	}
	if (s->reclaims)
		age_flows(s, now, ns);
	s->clock_ns = now;
}

/* The other side says what it has sent, and the daemon looks long after. */
static void compare_counts(struct scenario *s)
{
	uint64_t told = s->now.control_received;

	if (s->said) {
		colo_say(&s->run);
		wait_for(s, &s->now.control_received, told + 1);
	}
	link_tick(s->dp, now_ns());
	if (s->dp->link.pending_ns)
		s->dp->link.pending_ns = 1;
	link_tick(s->dp, now_ns());
	if (s->gap)
		model_request(s->judge.model, COLO_REASON_LINK_GAP);
}

static struct colo_flow_key key_of(const struct packet_key *k)
{
	struct colo_flow_key key = {
		.sport = htons(k->sport),
		.dport = htons(k->dport),
		.vlan = {htons(k->vlan[0]), htons(k->vlan[1])},
		.ethertype = htons(k->ethertype),
		.proto = k->proto,
		.fragment = k->fragment,
	};

	memcpy(key.saddr, k->src, sizeof(key.saddr));
	memcpy(key.daddr, k->dst, sizeof(key.daddr));
	return key;
}

/* Rule 13: closed and idle flows go after their time, those that hold frames stay. */
static void check_reclaimed(struct scenario *s)
{
	struct model *model = s->judge.model;
	struct colo_flow value;

	for (struct model_flow *f = model->flows; f; f = f->next_flow) {
		struct colo_flow_key key = key_of(&f->key);
		uint64_t limit = f->closed ? s->grace : s->idle;
		bool busy = f->held.count || f->acks.count || f->old.count || f->early.count;
		bool old = f->seen + limit <= model->now;

		if (!f->tracked)
			continue;
		if (!bpf_map_lookup_elem(s->dp->map_fd[MAP_FLOWS], &key, &value)) {
			if (old && !busy && !f->waiting.count && !f->unjudged)
				fault(s, "rule 13: an idle flow is not reclaimed");
			continue;
		}
		if (busy || !old)
			fault(s, "rule 13: a flow is gone that %s",
			      busy ? "holds frames" : "is not idle");
		model_forget(model, f);
	}
}

void let_pass(struct scenario *s)
{
	unsigned int left = s->at->number;
	__u64 next;

	if (!s->run.failed_over)
		compare_counts(s);
	while (left && !s->outcome->fault) {
		unsigned int ms = left < SLICE_MS ? left : SLICE_MS;

		colo_proxy.poll(&s->run, 0);
		age(s, ms);
		model_pass(s->judge.model, ms);
		s->dp->watch.scan_ns = 0;
		if (s->reclaims)
			memset(&s->dp->watch.flows, 0, sizeof(s->dp->watch.flows));
		release_tick(s->dp, now_ns(), &next);
		if (s->reclaims)
			check_reclaimed(s);
		look(s);
		left -= ms;
	}
}
