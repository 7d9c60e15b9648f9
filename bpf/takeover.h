/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secondary takes over: what its flows differ by from what their clients
 * know becomes a translation at the port, and is added to one that is there.
 * So does what the clients have echoed of the primary's clock, and flows whose
 * clients may echo it yet are watched.
 */
#ifndef COLO_BPF_TAKEOVER_H
#define COLO_BPF_TAKEOVER_H

#include "rewrite.h"
#include "translate.h"

/* What a flow brings to its translation. */
static __always_inline void takeover_add(struct colo_translation *t,
					 const struct colo_rewrite *f, int offset, __u32 ended)
{
	if (f->flags & COLO_RW_ECHO) /* in the numbers of the primary's guest */
		translation_note_echo(t, f->ts_echo + t->ts_delta);
	if (offset) {
		t->seq_delta += f->seq_delta;
		t->ts_delta += f->ts_delta;
		t->isn = f->s_isn;
		t->flags |= COLO_TR_ISN;
	}
	if (f->flags & COLO_RW_C_SYN) {
		t->c_syn = f->c_syn;
		t->flags |= COLO_TR_C_SYN;
	}
	if (ended & COLO_RW_G_FIN)
		t->flags |= COLO_TR_G_FIN;
	if (ended & COLO_RW_C_FIN)
		t->flags |= COLO_TR_C_FIN;
	if (ended & COLO_RW_RST)
		t->flags |= COLO_TR_RST;
	t->seen_ns = bpf_ktime_get_ns();
}

/* Of a life before: the primary's guest has begun another one since. */
static __always_inline void takeover_clear(struct colo_translation *t)
{
	t->flags = 0;
	t->seq_delta = 0;
	t->ts_delta = 0;
}

#define RW_FINS (COLO_RW_G_FIN | COLO_RW_C_FIN)

/* What has ended of the flow, as far as this epoch has seen it. */
static __always_inline __u32 takeover_ended(const struct colo_rewrite *f, __u64 epoch)
{
	return f->epoch == epoch ? f->flags & (RW_FINS | COLO_RW_RST) : 0;
}

/* Whether the flow needs one: by its numbers, or for its timestamps. */
static __always_inline int takeover_needed(const struct colo_rewrite *f, int offset,
					   __u32 ended, __u64 epoch)
{
	if (offset && (f->seq_delta || f->ts_delta))
		return 1;
	if (ended & COLO_RW_RST || (ended & RW_FINS) == RW_FINS)
		return 0;
	return f->flags & COLO_RW_ECHO ||
	       (f->epoch == epoch && f->flags & (COLO_RW_OLD | COLO_RW_S_TS));
}

static __always_inline int takeover_locked(struct colo_rewrite *f, struct scratch *s,
					   struct colo_session *ses)
{
	struct colo_translation *t, *new = &s->translation;
	/* of an epoch before: S is P's copy since then */
	int offset = f->flags & COLO_RW_OFFSET && f->epoch == ses->epoch;
	__u32 ended = takeover_ended(f, ses->epoch);
	int ret;

	__builtin_memset(new, 0, sizeof(*new));
	new->key = f->key;
	ret = translation_find(&new->key, &t);
	if (ret < 0)
		return -1;
	if (ret && t) {
		if (offset && translation_is_old(t, f->p_isn))
			takeover_clear(t);
		takeover_add(t, f, offset, ended);
		word_unlock(&t->lock);
		return 0;
	}
	if (!takeover_needed(f, offset, ended, ses->epoch))
		return 0;
	takeover_add(new, f, offset, ended);
	return translation_add(s, ses);
}

/*
 * One flow. Negative: a lock was not got, try again. A function of its own, and
 * its key copied: the verifier of 6.1 takes no key from a function's argument.
 */
__noinline int takeover_flow(struct colo_rewrite *f)
{
	struct colo_session *ses = session_get();
	struct scratch *s = scratch_get();
	int ret;

	if (!f || !ses || !s)
		return 0;
	if (!word_lock(&f->lock))
		return -1;
	ret = takeover_locked(f, s, ses);
	if (!ret)
		f->flags |= COLO_RW_MOVED;
	word_unlock(&f->lock);
	return ret;
}

struct takeover {
	__u32 numbers; /* only flows whose numbers differ: no others may take their room */
	__u32 again;
};

static long takeover_step(void *map __unused, const void *key __unused, struct colo_rewrite *f,
			  struct takeover *t)
{
	if (f->flags & COLO_RW_MOVED ||
	    !(f->flags & (COLO_RW_OFFSET | COLO_RW_ECHO | COLO_RW_OLD)))
		return 0;
	if (t->numbers && !(f->flags & COLO_RW_OFFSET && (f->seq_delta || f->ts_delta)))
		return 0;
	if (takeover_flow(f))
		t->again = 1;
	return 0;
}

/* All flows, each once. A pass through a large table takes its time. */
static __always_inline __u32 takeover_move(__u32 all_fit)
{
	struct takeover t = {.numbers = !all_fit};

	bpf_for_each_map_elem(&flows, takeover_step, &t, 0);
	if (all_fit)
		return t.again ? COLO_CONTROL_AGAIN : 0;
	t.numbers = 0;
	bpf_for_each_map_elem(&flows, takeover_step, &t, 0);
	return t.again ? COLO_CONTROL_AGAIN : 0;
}

#endif
