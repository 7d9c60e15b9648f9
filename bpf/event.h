/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counters, and the checkpoint request of an epoch (rule 11).
 */
#ifndef COLO_BPF_EVENT_H
#define COLO_BPF_EVENT_H

#include "maps.h"

#define COUNT_N(field, n)                                      \
	do {                                                   \
		struct colo_counters *_c = ZERO_KEY(counters); \
		if (_c)                                        \
			_c->field += (n);                      \
	} while (0)

#define COUNT(field) COUNT_N(field, 1)

static __always_inline void event_send(enum colo_event_type type, enum colo_reason reason,
				       __u64 epoch, const struct colo_flow_key *key, __u32 seq)
{
	struct colo_event *event;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		COUNT(events_lost);
		return;
	}
	event->ns = bpf_ktime_get_ns();
	event->epoch = epoch;
	event->type = type;
	event->reason = reason;
	event->key = *key;
	event->seq = seq;
	event->reserved = 0;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void request_count(__u32 reason)
{
	struct colo_counters *c = ZERO_KEY(counters);

	if (!c)
		return;
	switch (reason) {
	case COLO_REASON_PAYLOAD:
		c->req_payload++;
		break;
	case COLO_REASON_LENGTH:
		c->req_length++;
		break;
	case COLO_REASON_FLAGS:
		c->req_flags++;
		break;
	case COLO_REASON_TIMEOUT:
		c->req_timeout++;
		break;
	case COLO_REASON_QUEUE_FULL:
		c->req_queue_full++;
		break;
	case COLO_REASON_FLOW_FULL:
		c->req_flow_full++;
		break;
	case COLO_REASON_POOL_FULL:
		c->req_pool_full++;
		break;
	case COLO_REASON_LINK_GAP:
		c->req_link_gap++;
		break;
	case COLO_REASON_MALFORMED:
		c->req_malformed++;
		break;
	case COLO_REASON_UNTRANSLATABLE:
		c->req_untranslatable++;
		break;
	case COLO_REASON_OPERATOR:
		c->req_operator++;
		break;
	}
}

/*
 * Ask for a checkpoint, once per epoch: the flag in `session` is what counts,
 * the event only announces it. Outside COLO (epoch 0) there is nothing to ask.
 */
__noinline int request(__u32 reason, const struct colo_flow_key *key, __u32 seq)
{
	struct colo_session *s = session_get();
	__u64 epoch, old;

	if (!s || !key)
		return 0;
	epoch = s->epoch;
	old = s->request_epoch;
	if (old >= epoch)
		return 0;
	if (__sync_val_compare_and_swap(&s->request_epoch, old, epoch) != old)
		return 0;
	s->request_reason = reason;
	s->request_ns = bpf_ktime_get_ns();
	request_count(reason);
	event_send(COLO_EVENT_REQUEST, reason, epoch, key, seq);
	return 1;
}

#endif
