/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps that both roles have, and the per-CPU scratch of one packet.
 * Sizes written here are placeholders: the loader sets them before load.
 */
#ifndef COLO_BPF_MAPS_H
#define COLO_BPF_MAPS_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include <colo/abi.h>
#include <colo/link.h>

#define __unused    __attribute__((unused))

#define HDR_SCRATCH 320 /* so that any offset below 256 can be read */

/* What the parser found; offsets from the MAC header. */
struct packet {
	struct colo_flow_key key;
	__u32 len;
	__u32 class; /* enum colo_class */
	__u32 flags; /* enum colo_frame_flag */
	__u32 seq;
	__u32 end;
	__u32 ack;
	__u32 data_off; /* payload of TCP, else all behind L3's header */
	__u32 data_len;
	__u16 window;
	__u16 urg_ptr;
	__u16 l3_off;
	__u16 l4_off;
	__u16 hdr_len; /* = data_off, at most COLO_HDR_MAX */
	__u16 gso_size;
	__be16 vlan_tci;
	__be16 vlan_proto;
	__u8 hdr[HDR_SCRATCH];
};

/* Units that a TCP packet in fragments has, and their flow. */
struct span {
	struct colo_flow_key key;
	__u32 seq;
	__u32 end;
};

struct scratch {
	struct packet pkt;
	__u8 out[HDR_SCRATCH]; /* headers of a frame that is being made */
	__u8 pseudo[40];
	__u32 carrier;               /* the record of S's packet, COLO_NONE: it is P's */
	__u32 carrier_done;          /* it is in no queue any more */
	__u32 compared_to;           /* how far from its start that record was compared */
	struct colo_control control; /* off the stack: 512 bytes for a chain of calls */
	struct colo_link_counts counts;
	struct span span;                    /* of a TCP packet in fragments */
	struct colo_flow flow;               /* value of a new flow */
	struct colo_rewrite rewrite;         /* likewise on a secondary */
	struct colo_translation translation; /* value of a new one */
	struct colo_flow_key quoted;         /* of a packet that an ICMP error quotes */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct colo_abi);
} abi SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_session);
} session SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct colo_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_frame);
} frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_frame_mark);
} frame_marks SEC(".maps");

/*
 * Blocks of payload: an entry is one big block or 32 small ones. An offset in
 * the pool is entry << 16 | byte; no block crosses an entry. One large value
 * would do without the look-up, but Linux before 6.13 bounds it at 4 MB.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, COLO_BIG_SIZE + COLO_POOL_SLACK);
} pool SEC(".maps");

/* Free frame records (index), and free blocks (byte offset in the pool). */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1024);
	__type(value, __u32);
} free_frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1024);
	__type(value, __u32);
} free_small SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1024);
	__type(value, __u32);
} free_big SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COLO_CLASS_MAX);
	__type(key, __u32);
	__type(value, enum colo_action);
} policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COLO_PASSTHROUGH_MAX);
	__type(key, __u32);
	__type(value, struct colo_passthrough);
} passthrough SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct colo_flow_key);
	__type(value, struct colo_translation);
} translations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct colo_link_count);
} link_sent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct colo_link_count);
} link_received SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_link_peer);
} link_peer SEC(".maps");

/* The daemon's: no program looks at it, but its pin and its types live with the rest. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COLO_CHECKPOINTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct colo_checkpoint);
} checkpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

/*
 * An offset into a header scratch. The mask is opaque to the compiler, which
 * else drops it where it knows the range and the verifier does not.
 */
static __always_inline __u32 in_hdr(__u32 off)
{
	asm volatile("" : "+r"(off));
	return off & 255;
}

#define ZERO_KEY(map)                                \
	({                                           \
		__u32 _zero = 0;                     \
		bpf_map_lookup_elem(&(map), &_zero); \
	})

static __always_inline struct scratch *scratch_get(void)
{
	return ZERO_KEY(scratch);
}

static __always_inline struct colo_session *session_get(void)
{
	return ZERO_KEY(session);
}

static __always_inline struct colo_config *config_get(void)
{
	return ZERO_KEY(config);
}

#endif
