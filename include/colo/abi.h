/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ABI of colo-bpf's pinned maps: everything that the BPF programs and
 * user space share, and everything that `bpftool map dump pinned` shows.
 *
 * All times are CLOCK_MONOTONIC nanoseconds unless the name says otherwise;
 * all TCP numbers are in host byte order and compared serially (RFC 1982);
 * addresses, ports and tags are in network byte order.
 */
#ifndef COLO_ABI_H
#define COLO_ABI_H

#ifndef __bpf__
#include <linux/types.h>
#endif

#define COLO_ABI_VERSION     9
#define COLO_PIN_ROOT        "/sys/fs/bpf/colo-bpf"

#define COLO_SESSION_ID      16    /* bytes */
#define COLO_HDR_MAX         160   /* saved header bytes of a frame */
#define COLO_SMALL_SIZE      2048  /* bytes in a small block of the pool */
#define COLO_BIG_SIZE        65536 /* bytes in a big block of the pool */
#define COLO_POOL_SLACK      4096  /* behind each entry of the pool, for the verifier */
#define COLO_SMALL_PER_ENTRY (COLO_BIG_SIZE / COLO_SMALL_SIZE)
/* Entries of the pool that the small blocks take: the first ones. */
#define COLO_SMALL_ENTRIES(n) (((n) + COLO_SMALL_PER_ENTRY - 1) / COLO_SMALL_PER_ENTRY)
#define COLO_NONE             0xffffffffU /* no frame, no block */

enum colo_role {
	COLO_ROLE_NONE,
	COLO_ROLE_PRIMARY,
	COLO_ROLE_SECONDARY,
};

/* What the data path does with packets; only the daemon changes it. */
enum colo_mode {
	COLO_MODE_SHUT,      /* nothing passes: a secondary before COLO, a side that lost */
	COLO_MODE_WIRE,      /* guest and port are one plain wire */
	COLO_MODE_PRIMARY,   /* mirror, hold, compare, release */
	COLO_MODE_SECONDARY, /* input from the link, output to the link */
	COLO_MODE_ACTIVE,    /* a secondary that took over: as WIRE, map `translations` */
};

/* Why a checkpoint was asked for (rule 11). */
enum colo_reason {
	COLO_REASON_NONE,
	COLO_REASON_PAYLOAD,        /* other bytes */
	COLO_REASON_LENGTH,         /* equal start, other datagram size */
	COLO_REASON_FLAGS,          /* SYN, FIN, RST, URG or SYN options */
	COLO_REASON_TIMEOUT,        /* compare_timeout_ms has run out */
	COLO_REASON_QUEUE_FULL,     /* too many held frames in a flow */
	COLO_REASON_FLOW_FULL,      /* the flow table is full */
	COLO_REASON_POOL_FULL,      /* no frame or block is left */
	COLO_REASON_LINK_GAP,       /* the link lost frames */
	COLO_REASON_MALFORMED,      /* guest output that does not parse */
	COLO_REASON_UNTRANSLATABLE, /* fragmented TCP, MD5, AO, MPTCP */
	COLO_REASON_OPERATOR,       /* `colo-bpf checkpoint` */
	/* of a checkpoint that the data path has not asked for */
	COLO_REASON_PERIOD, /* QEMU's own, x-checkpoint-delay */
	COLO_REASON_PEER,   /* the daemon's: does QEMU's channel to the peer still work? */
	COLO_REASON_MAX,
};

/* Classes of rule 10; each has an entry in the map `policy`. */
enum colo_class {
	COLO_CLASS_TCP,
	COLO_CLASS_UDP,
	COLO_CLASS_ICMP,
	COLO_CLASS_ICMP6,
	COLO_CLASS_IP_OTHER,
	COLO_CLASS_ARP, /* and RARP */
	COLO_CLASS_ND,  /* IPv6 neighbour and router discovery */
	COLO_CLASS_MLD,
	COLO_CLASS_IGMP,
	COLO_CLASS_LLDP,
	COLO_CLASS_STP,
	COLO_CLASS_ETH_OTHER, /* unknown ethertypes */
	COLO_CLASS_MAX,
};

enum colo_action {
	COLO_ACTION_COMPARE,
	COLO_ACTION_PASS, /* P leaves, S is dropped */
	COLO_ACTION_DROP,
};

/*
 * The tap's queue while it is attached, if it was shorter: frames. Input that is
 * kept for a guest's new life is cut when it is given, a frame of 64 KB into 45.
 */
#define COLO_GUEST_QUEUE 4096

/* Where the frames of a primary are looked at first. */
enum colo_context {
	COLO_CONTEXT_TC,
	COLO_CONTEXT_XDP, /* the simple ones in XDP, all else in tc */
};

/* map `abi`: array[1]. What is pinned here, so that a daemon can adopt it. */
struct colo_abi {
	__u32 version; /* COLO_ABI_VERSION */
	enum colo_role role;
	__u32 guest_ifindex;
	__u32 port_ifindex;
	__u32 link_ifindex;
	__u32 netns_ino; /* inode number of the network namespace */
	char name[32];
	char guest[16];
	char port[16];
	char link[16];
	char peer[64];     /* the peer daemon's address, as given */
	__u32 guest_queue; /* length of the tap's queue, before it was attached */
	enum colo_context context;
};

/* map `config`: array[1], mmapable. Options; the daemon writes, programs read. */
struct colo_config {
	__u32 guest_ifindex;
	__u32 port_ifindex;
	__u32 link_ifindex;
	__u32 compare_timeout_ms; /* bound of every wait, 3000 */
	__u32 reorder_ms;         /* unmatched datagrams of both sides, 2 */
	__u32 reorder_window;     /* ... or that many on one side, 8 (max 64) */
	__u32 queue_max;          /* held frames of a flow and side, 4096 */
	__u32 flow_grace_ms;      /* closed flows are kept that long, 10000 */
	__u32 flow_idle_ms;       /* idle flows are kept that long, 600000 */
	__u32 max_flows;
	__u32 max_frames;
	__u32 small_blocks;
	__u32 big_blocks;
	__u32 passthrough; /* rules that are looked at, 0: there are none */
	/*
	 * Frames that XDP may release are no longer than that, what the port takes.
	 * 0: it releases none, by choice or because the port took none: then the
	 * programs have set it.
	 */
	__u32 xdp_frame_max;
};

/*
 * map `xdp_cpus` of a primary: array, by CPU. Frames of XDP that were on their
 * way to the port, and how many of them have reached it.
 */
struct colo_xdp_cpu {
	__u64 sent;
	__u64 flushed;
	__u64 reserved[6];
};

/*
 * map `magazines`: array, one of each list for each CPU. Free records and small
 * blocks that were given back last and are taken first. bpf/freelist.h
 */
enum colo_list {
	COLO_LIST_FRAMES,
	COLO_LIST_SMALL,
	COLO_MAGAZINES,
};

#define COLO_MAGAZINE 61
#define COLO_CPUS_MAX 8192

struct colo_magazine {
	__u32 busy;
	__u32 count;
	__u32 depth; /* the most that it takes, 0: the pool is too small for that */
	__u32 value[COLO_MAGAZINE];
};

/* The last frame that a flow has released by XDP: number `serial` of its CPU. */
struct colo_xdp_last {
	__u64 serial; /* 0: none */
	__u64 ns;
	__u32 cpu;
	__u32 reserved;
};

/*
 * map `session`: array[1], mmapable. The state that the daemon sets, the one
 * request of the epoch that the programs set, and how many translations there
 * are, which whoever makes or deletes one counts.
 */
struct colo_session {
	__u64 epoch; /* the open epoch, 0 outside COLO */
	enum colo_mode mode;
	__u32 translations;  /* entries of that map; it is not looked at if there are none */
	__u64 request_epoch; /* the last epoch in which a checkpoint was asked for */
	enum colo_reason request_reason; /* and the first reason for it */
	__u32 request_pad;
	__u64 request_ns; /* and when */
	__u64 commit_ns;  /* when the open epoch was opened */
	/*
	 * In mode PRIMARY nothing leaves from this time on: what may leave waits
	 * for the daemon to set a later one. 0: no lease is asked for.
	 */
	__u64 lease_ns;
	__u8 id[COLO_SESSION_ID]; /* of the last COLO, the same on both hosts; 0: none */
	__u32 lease_ms;           /* what both have agreed on for it */
	__u32 guest_routes;       /* the guest has said so, in a router advertisement */
	/*
	 * Of the clients' frames that come now: the epoch that the guest will
	 * read them in. Primary: epoch, or epoch + 1 from the guest's stop on.
	 * Secondary: of the guest's life; older ones came with its state.
	 */
	__u64 input_epoch;
	__u64 input_mark; /* with which that began in the tap, 0: with none */
	__u32 gate_shut;  /* nothing is put into the tap: it is being marked */
	__u32 gate_empty; /* CPUs below this are outside the gate then */
	__u32 kept;       /* secondary: segments were kept since the daemon has cleared it */
	/*
	 * A bit for each 1 << frame_shift records of `frames`, from the first: one of
	 * them has been in use. Who looks for those that are needs no others.
	 */
	__u32 frame_shift;
	__u64 frames_used;
};

/* map `gates`: array by CPU. Whether it puts a client's frame into the tap. */
struct colo_gate {
	__u32 inside;
	__u32 reserved[15]; /* a cache line */
};

/* map `digest_key`: array[1] of a primary. Random, new with each start of COLO. */
struct colo_digest_key {
	__u64 word[COLO_BIG_SIZE / 8 + 16];
};

/*
 * maps `link_sent` and `link_received`: percpu array[2], by the lowest bit of
 * the epoch. What went over the link and what came, in units that neither GSO
 * nor GRO changes: payload bytes of TCP, frames of all else (TCP without
 * payload included). Control frames are not counted. Sum over the CPUs whose
 * epoch is the one that is meant.
 */
struct colo_link_count {
	__u64 epoch;
	__u64 tcp_bytes;
	__u64 frames;
};

/*
 * maps `inputs` (array[COLO_INPUTS], by ordinal % COLO_INPUTS) and `input_ring`
 * (array[1]) of a secondary: clients' frames for the guest's next life. As many
 * as the primary's tap takes while its guest is stopped.
 */
#define COLO_INPUTS 960

struct colo_input {
	__u32 frame; /* index into `frames` */
};

struct colo_input_ring {
	__u32 lock;
	__u32 reserved;
	__u64 first; /* ordinal of the first that is kept */
	__u64 next;  /* of the next that will be */
};

/*
 * map `link_peer`: array[1], mmapable. What the other side last said of what it
 * has sent, written by the programs; serial is odd meanwhile.
 */
struct colo_link_peer {
	__u64 serial; /* 0: it has said nothing yet */
	struct colo_link_count sent;
	__u64 asked_epoch;  /* the last epoch in which it wants a checkpoint */
	__u32 asked_reason; /* enum colo_reason */
	__u32 reserved;
};

/*
 * map `passthrough`: array[COLO_PASSTHROUGH_MAX]. Flows that the operator lets
 * leave uncompared. An address matches where (it ^ rule) & mask is 0; IPv4
 * fills the first word. Fragments have the ports 0.
 */
#define COLO_PASSTHROUGH_MAX 64

struct colo_passthrough {
	__u32 used;
	__be16 ethertype; /* 0x0800 or 0x86dd, 0: both */
	__u8 proto;       /* holds if match_proto */
	__u8 match_proto;
	__u32 guest_addr[4];
	__u32 guest_mask[4];
	__u32 client_addr[4];
	__u32 client_mask[4];
	__u16 guest_ports[2]; /* from, to; host byte order; 0..65535: any, fragments too */
	__u16 client_ports[2];
	__u64 frames; /* of P that have left by it */
};

/*
 * Flow key, from the guest's point of view: saddr and sport are the guest's.
 * IPv4 addresses fill the first 4 bytes, MACs of non-IP the first 6.
 * Ports are those of TCP and UDP, 0 for all else and for fragments.
 */
struct colo_flow_key {
	__u8 saddr[16];
	__u8 daddr[16];
	__be16 sport;
	__be16 dport;
	__be16 vlan[2]; /* TCI without PCP/DEI, outermost first, 0 none */
	__be16 ethertype;
	__u8 proto;
	__u8 fragment; /* 1: the flow of fragments */
};

/* Bits of colo_flow.flags */
enum colo_flow_flag {
	COLO_F_TCP = 1 << 0,
	COLO_F_ISN = 1 << 1,      /* isn is known */
	COLO_F_VOUCHED = 1 << 2,  /* [vouch_start, vouch_end) is not empty */
	COLO_F_P_SEEN = 1 << 3,   /* p_first, p_next hold */
	COLO_F_P_ACK = 1 << 4,    /* p_ack holds */
	COLO_F_S_ACK = 1 << 5,    /* s_ack holds */
	COLO_F_MISMATCH = 1 << 6, /* no release before the commit */
	COLO_F_WATCH = 1 << 7,    /* the daemon was told to look at reorder_ms */
	COLO_F_P_FIN = 1 << 8,
	COLO_F_C_FIN = 1 << 9, /* the client's FIN was seen */
	COLO_F_RST = 1 << 10,
	COLO_F_PENDING = 1 << 11, /* releasable frames wait for the daemon */
	COLO_F_S_ISN = 1 << 12,   /* s_isn holds: S's SYN came before P's */
	COLO_F_S_OLD = 1 << 13, /* S has not shown the SYN of this life: its frames are older */
	COLO_F_P_LEFT = 1 << 14,     /* p_left_start, p_left hold */
	COLO_F_S_NEXT_ACK = 1 << 15, /* s_next_ack holds */
	COLO_F_BOTH_RST = 1 << 16,   /* rst_seq, rst_ack hold */
	COLO_F_LATER = 1 << 17, /* what may leave goes to p_ready; set anew by each packet */
	COLO_F_S_UNSEEN =
		1 << 18,         /* S's SYN of this life has not come: its acks may be older */
	COLO_F_FLIGHT = 1 << 19, /* COLO_F_LATER, as a frame of XDP has not left yet */
};

/* A queue of frames; index into the map `frames`, COLO_NONE if empty. */
struct colo_queue {
	__u32 head;
	__u32 tail;
	__u32 count;
};

/* map `flows` of a primary: hash, colo_flow_key -> colo_flow. */
struct colo_flow {
	struct colo_flow_key key; /* again: a recycled element is recognised */
	__u32 lock;
	__u64 epoch; /* the epoch that this state belongs to */
	__u64 seen_ns;
	__u32 flags; /* enum colo_flow_flag */
	/* TCP: the interval of the stream that is vouched for, and how far both are */
	__u32 isn;
	__u32 vouch_start;
	__u32 vouch_end;
	__u32 p_first;
	__u32 p_next;
	__u32 p_ack;
	__u32 s_ack;
	__u32 s_isn;      /* in P's numbers: the life that S's frames belong to */
	__u32 s_next_ack; /* what S has acked in that life, if P's is an older one */
	__u32 rst_seq;    /* the last RST that both have sent, as S did */
	__u32 rst_ack;
	__u32 rst_more; /* how many more of it S has sent than P */
	/* frames of P with new units (TCP: by sequence; datagrams: by arrival) */
	struct colo_queue p_held;
	/* frames of P without a new unit that wait for S's ack */
	struct colo_queue p_ackwait;
	/* frames of P that only a commit can release */
	struct colo_queue p_commit;
	/* frames of S that wait for P */
	struct colo_queue s_wait;
	/* frames of S of the epoch to come */
	struct colo_queue s_next_epoch;
	/* frames of P that may leave and wait for the lease, or for XDP, in their order */
	struct colo_queue p_ready;
	__u32 p_left_start;   /* TCP: the units of P that have left */
	__u32 p_left;         /* TCP: units of P below have left */
	__u32 p_matched_held; /* datagrams in p_held whose partner was found */
	__u64 matched;        /* frames of P released by a match */
	__u64 mismatches;
	struct colo_xdp_last xdp_data; /* TCP: of a segment with new units */
	struct colo_xdp_last xdp_ack;  /* ... without */
};

enum colo_frame_state {
	COLO_FRAME_FREE,
	COLO_FRAME_P, /* a frame of the primary's guest is held */
	COLO_FRAME_S, /* a frame of the secondary's guest waits */
	COLO_FRAME_C, /* a client's frame waits on the secondary for an offset */
	COLO_FRAME_I, /* a client's frame is kept for the guest's next life */
};

/* Bits of colo_frame.flags */
enum colo_frame_flag {
	COLO_FR_SYN = 1 << 0,
	COLO_FR_FIN = 1 << 1,
	COLO_FR_RST = 1 << 2,
	COLO_FR_ACK = 1 << 3,
	COLO_FR_URG = 1 << 4,
	COLO_FR_PSH = 1 << 5,
	COLO_FR_MATCHED = 1 << 6,    /* a datagram whose partner was found */
	COLO_FR_TCP = 1 << 7,        /* the stream fields hold */
	COLO_FR_UDP = 1 << 8,        /* checksum at l4_off + 6 */
	COLO_FR_RETRANS = 1 << 9,    /* counted already as sent */
	COLO_FR_WHOLE = 1 << 10,     /* hdr is a plain prefix: no L3/L4 offsets */
	COLO_FR_DIGEST = 1 << 11,    /* digest holds */
	COLO_FR_PARTIAL = 1 << 12,   /* kept input whose checksum was left to the device */
	COLO_FR_READY = 1 << 13,     /* may leave, waits for the lease */
	COLO_FR_COMMITTED = 1 << 14, /* ... by a commit, else by a match */
	COLO_FR_GIVEN = 1 << 15,     /* the guest was given it again */
};

/*
 * map `frames`: array[max_frames], mmapable. One held frame: its headers, and
 * where in the pool its payload is. The programs own a frame's fields while
 * they hold its flow's lock; user space only reads.
 */
struct colo_frame {
	enum colo_frame_state state;
	__u32 flags; /* enum colo_frame_flag */
	__u32 next;
	__u32 prev;
	__u64 held_ns; /* when it came; GIVEN: when the guest was last given it */
	__u64 epoch;
	__u32 seq;      /* first unit; a fragment's offset and more-flag */
	__u32 end;      /* behind the last unit */
	__u32 vouched;  /* P: units below are vouched for; S: were compared */
	__u32 released; /* P: units below have left */
	__u32 ack;      /* of a fragment: the packet's id */
	__u16 window;
	__u16 urg_ptr;
	__u32 data_off; /* offset in the pool, COLO_NONE: no payload */
	__u32 data_len; /* payload (TCP) or bytes behind hdr (all else) */
	__u16 hdr_len;
	__u16 l3_off;
	__u16 l4_off;
	__u16 gso_size;  /* how to cut it when it leaves from here, 0: whole */
	__be16 vlan_tci; /* outer tag that the device had stripped, 0 none */
	__be16 vlan_proto;
	__u64 digest[2]; /* of a datagram's content, if it was needed: bpf/digest.h */
	struct colo_flow_key key;
	__u8 hdr[COLO_HDR_MAX]; /* from the MAC header to the end of L4's (TCP) or L3's */
};

/*
 * map `frame_marks`: array[max_frames], mmapable. The state of each record once
 * more, side by side: who looks for the few that hold something reads these.
 */
struct colo_frame_mark {
	enum colo_frame_state state;
	__u32 reserved;
};

/* map `flows` of a secondary: hash, colo_flow_key -> colo_rewrite. */
enum colo_rewrite_flag {
	COLO_RW_P_ISN = 1 << 0, /* p_isn is known */
	COLO_RW_S_ISN = 1 << 1, /* s_isn is known */
	COLO_RW_P_TS = 1 << 2,
	COLO_RW_S_TS = 1 << 3,
	COLO_RW_C_ISN = 1 << 4,  /* the client's SYN was seen: the life begins in this epoch */
	COLO_RW_OFFSET = 1 << 5, /* seq_delta and ts_delta hold */
	COLO_RW_ECHO = 1 << 6,   /* ts_echo holds */
	COLO_RW_G_FIN = 1 << 7,
	COLO_RW_C_FIN = 1 << 8,
	COLO_RW_RST = 1 << 9,
	COLO_RW_G_ACK = 1 << 10,   /* g_ack holds */
	COLO_RW_RECOVER = 1 << 11, /* recover holds */
	COLO_RW_P_USED =
		1 << 12,       /* p_isn is that of the life before, or of this one and in use */
	COLO_RW_OLD = 1 << 13, /* the flow is older than the epoch: offset 0 */
	COLO_RW_P_KNOWN = 1 << 14, /* p_isn holds, if only of an epoch before */
	COLO_RW_C_SYN = 1 << 15,   /* c_isn, c_syn hold */
	COLO_RW_MOVED = 1 << 16,   /* this side took over: it is in `translations` */
	COLO_RW_PROBE = 1 << 17,   /* with RECOVER: nothing but the time says so yet */
};

struct colo_rewrite {
	struct colo_flow_key key;
	__u32 lock;
	__u64 epoch;
	__u64 seen_ns;
	__u32 flags; /* enum colo_rewrite_flag */
	__u32 p_isn;
	__u32 s_isn;
	__u32 c_isn;   /* of the client's last SYN */
	__u32 c_syn;   /* ... and what is behind it, data included */
	__u32 s_c_isn; /* what S's SYN-ACK acknowledges: the client's ISN + 1, and data */
	__u32 p_tsval; /* TSval of the primary's SYN or SYN-ACK */
	__u32 s_tsval;
	__u32 seq_delta;          /* P's number - S's number */
	__u32 ts_delta;           /* P's TSval - S's TSval */
	__u32 ts_echo;            /* the highest TSecr of the client: P's clock */
	__u32 p_c_isn;            /* as s_c_isn, of P's */
	__u64 p_epoch;            /* the epoch of p_isn */
	struct colo_queue s_wait; /* S's SYN and what is behind it, until P's ISN is known */
	struct colo_queue c_wait; /* client segments that wait for the offset */
	struct colo_queue c_sent; /* ... that the guest has not yet acknowledged */
	__u32 g_ack;              /* the guest's last ack */
	__u32 g_ack_repeats;      /* how often it was repeated */
	__u32 recover;            /* redelivery goes on until this is acknowledged */
	__u32 redelivered;        /* segments that the guest was given again */
	__u32 g_window;           /* the window of its last ack, as in the header */
	__u32 given_window;       /* likewise when it was last given one again */
	__u32 overdue;            /* times that one was overdue, since it acknowledged more */
	__u32 given;              /* the end of the last that it was given again */
};

/* Bits of colo_translation.flags */
enum colo_translation_flag {
	COLO_TR_ISN = 1 << 0,  /* isn holds */
	COLO_TR_ECHO = 1 << 1, /* ts_echo holds */
	COLO_TR_G_FIN = 1 << 2,
	COLO_TR_C_FIN = 1 << 3,
	COLO_TR_RST = 1 << 4,
	COLO_TR_C_SYN = 1 << 5, /* c_syn holds */
	COLO_TR_AHEAD = 1 << 6, /* the guest's clock has passed ts_echo */
};

/*
 * map `translations`: hash, colo_flow_key -> colo_translation, of both roles.
 * Flows whose client knows other numbers than this side's guest, because hosts
 * of their time have died, are translated at the port, outside mirror and
 * compare (rule 15); so are those whose guest's clock may be behind what the
 * client has seen. On a secondary in COLO: the primary's, for its own take-over.
 */
struct colo_translation {
	struct colo_flow_key key; /* again: a recycled element is recognised */
	__u32 lock;
	__u64 seen_ns;   /* its last packet; without a delta: when it was made */
	__u32 flags;     /* enum colo_translation_flag */
	__u32 isn;       /* the guest's: a SYN with another begins a new life */
	__u32 seq_delta; /* the client's number - the guest's number */
	__u32 ts_delta;  /* likewise of TSval */
	__u32 ts_echo;   /* the highest TSecr of the client: TSval does not fall below */
	__u32 c_syn;     /* what is behind the client's last SYN, data included */
};

/*
 * map `counters`: percpu array[1]. Sum over the CPUs.
 *
 * P's frames:  p_held = p_matched + p_committed + p_failed_over + p_discarded
 *                       + those still held
 *              p_frames (in COLO) = p_policy_pass + p_policy_drop
 *                       + p_passthrough + p_covered
 *                       + p_at_once + p_held + p_unheld + p_unleased
 */
#define COLO_COUNTERS(X)                                                           \
	X(wire_out, "guest frames passed outside COLO")                            \
	X(wire_in, "client frames passed outside COLO")                            \
	X(shut_out, "guest frames dropped: this side may not send")                \
	X(shut_in, "client frames dropped: this side's port is shut")              \
	X(p_frames, "frames of the primary's guest in COLO")                       \
	X(p_policy_pass, "passed uncompared by policy")                            \
	X(p_policy_drop, "dropped by policy")                                      \
	X(p_passthrough, "passed uncompared by a passthrough rule")                \
	X(p_covered, "released on arrival: nothing new in them, ack covered")      \
	X(p_at_once, "released on arrival: S was there first")                     \
	X(p_held, "held")                                                          \
	X(p_matched, "held, then released by a match")                             \
	X(p_committed, "held, then released by a commit")                          \
	X(p_failed_over, "held, then released by a failover")                      \
	X(p_discarded, "held, then discarded: this side lost or was detached")     \
	X(p_unheld, "dropped: could not be held")                                  \
	X(p_unleased, "passes uncompared, dropped: the lease had run out")         \
	X(p_waited, "held ones that could leave, and waited for lease or XDP")     \
	X(p_segments, "segments cut anew from held frames")                        \
	X(p_released_whole, "releases that used the secondary's frame as carrier") \
	X(s_frames, "frames of the secondary's guest")                             \
	X(s_matched, "compared equal")                                             \
	X(s_inside, "nothing new in them: ack noted, dropped")                     \
	X(s_waited, "came before P's and waited")                                  \
	X(s_committed, "waited, then dropped by a commit")                         \
	X(s_failed_over, "waited, then dropped by a failover")                     \
	X(s_discarded, "waited, then dropped: detached")                           \
	X(s_old_life, "dropped: of an older life of its tuple")                    \
	X(s_old_epoch, "dropped: of a closed epoch")                               \
	X(s_next_epoch, "kept for the epoch to come")                              \
	X(s_policy_drop, "dropped by policy")                                      \
	X(s_passthrough, "dropped by a passthrough rule")                          \
	X(s_unheld, "dropped: could not be kept")                                  \
	X(in_frames, "client frames in COLO")                                      \
	X(in_mirrored, "client frames sent to the secondary")                      \
	X(in_mirror_failed, "client frames that could not be mirrored")            \
	X(control_sent, "control frames sent")                                     \
	X(control_received, "control frames received")                             \
	X(link_foreign, "frames of the link with a tag that is not expected")      \
	X(link_failed, "frames that could not be sent over the link")              \
	X(port_failed, "frames that could not be sent on the port")                \
	X(parse_failed, "guest frames that do not parse")                          \
	X(in_parse_failed, "client frames that do not parse")                      \
	X(lock_failed, "flow locks not got in time")                               \
	X(flows_created, "flows created")                                          \
	X(flows_closed, "flows reclaimed")                                         \
	X(frames_taken, "frame records taken from the pool")                       \
	X(frames_given, "frame records given back")                                \
	X(mismatches, "mismatches found")                                          \
	X(rw_in, "client frames delivered to the secondary's guest")               \
	X(rw_in_translated, "... with numbers translated")                         \
	X(rw_in_queued, "... that waited for an offset")                           \
	X(rw_in_dropped, "... that were dropped: the wait is bounded")             \
	X(rw_in_kept, "... that were kept until the guest acknowledges them")      \
	X(rw_in_redelivered, "... that the guest had lost and was given again")    \
	X(rw_in_replayed, "... that were kept for its new life and given then")    \
	X(rw_in_unkept, "... that could not be kept for that")                     \
	X(rw_in_old, "... that came with its state: dropped")                      \
	X(mark_failed, "marks in the guest's input that could not be set")         \
	X(rw_out, "frames of the secondary's guest sent over the link")            \
	X(rw_out_translated, "... with numbers translated")                        \
	X(rw_syn_waited, "frames that waited for the primary's ISN, SYNs first")   \
	X(rw_untranslatable, "frames that cannot be translated")                   \
	X(active_out, "guest frames sent after a take-over")                       \
	X(active_in, "client frames delivered after a take-over")                  \
	X(tr_out, "guest frames translated at the port")                           \
	X(tr_in, "client frames translated at the port")                           \
	X(tr_failed, "frames dropped at the port: could not be translated")        \
	X(tr_created, "translations made by a take-over")                          \
	X(tr_full, "translations not made: the table is full")                     \
	X(tr_ended, "translations deleted: the flow has ended, or begun anew")     \
	X(req_payload, "checkpoint requests: other bytes")                         \
	X(req_length, "checkpoint requests: other datagram size")                  \
	X(req_flags, "checkpoint requests: SYN, FIN, RST, URG or SYN options")     \
	X(req_timeout, "checkpoint requests: a wait ran out")                      \
	X(req_queue_full, "checkpoint requests: too many held frames in a flow")   \
	X(req_flow_full, "checkpoint requests: flow table full")                   \
	X(req_pool_full, "checkpoint requests: pool full")                         \
	X(req_link_gap, "checkpoint requests: loss on the link")                   \
	X(req_malformed, "checkpoint requests: guest output does not parse")       \
	X(req_untranslatable, "checkpoint requests: cannot be followed")           \
	X(req_operator, "checkpoint requests: by the operator")                    \
	X(events_lost, "events that found the ring buffer full")                   \
	X(xdp_held, "held by XDP, of p_held")                                      \
	X(xdp_matched, "held, then released by a match in XDP, of p_matched")      \
	X(xdp_covered, "released on arrival by XDP, of p_covered")                 \
	X(xdp_waited, "waited for a frame of XDP to leave first, of p_waited")     \
	X(xdp_lost, "released by XDP, but the port did not take them")

struct colo_counters {
#define COLO_COUNTER_FIELD(name, text) __u64 name;
	COLO_COUNTERS(COLO_COUNTER_FIELD)
#undef COLO_COUNTER_FIELD
};

/* Ring buffer `events`. */
enum colo_event_type {
	COLO_EVENT_REQUEST, /* a checkpoint is wanted: reason, epoch, key, seq */
	COLO_EVENT_WATCH, /* unmatched datagrams on both sides: look at key after reorder_ms */
	COLO_EVENT_RELEASE, /* frames of key can leave, but no packet was fit to carry them */
};

struct colo_event {
	__u64 ns;
	__u64 epoch;
	enum colo_event_type type;
	enum colo_reason reason;
	struct colo_flow_key key;
	__u32 seq; /* TCP: where it was found */
	__u32 reserved;
};

enum colo_checkpoint_end {
	COLO_CHECKPOINT_STOPPED,   /* under way: the primary's guest has stopped */
	COLO_CHECKPOINT_COMMITTED, /* ... and what was held has left */
	COLO_CHECKPOINT_DONE,      /* the guest runs again */
	COLO_CHECKPOINT_FAILED,    /* COLO ended before the commit */
	COLO_CHECKPOINT_CUT,       /* COLO ended after the commit */
	COLO_CHECKPOINT_ENDS,
};

/* What a checkpoint took on the primary, part by part, without a gap between them. */
struct colo_checkpoint_parts {
	__u64 request;  /* until the secondary has stopped */
	__u64 stop;     /* until the primary has, its disks flushed */
	__u64 device;   /* to save the state of the devices */
	__u64 ram;      /* to send the dirty pages */
	__u64 transfer; /* until the secondary has all */
	__u64 commit;   /* until this daemon has let go what was held */
	__u64 load;     /* until the secondary has loaded it, as seen from the primary */
	__u64 resume;   /* to start the guest */
};

/* ... and on the secondary. */
struct colo_load_parts {
	__u64 stop;
	__u64 receive; /* all of the state; the primary stops and saves it meanwhile */
	__u64 flush;   /* from the cache to the guest's memory */
	__u64 load;    /* devices and disks */
};

/*
 * map `checkpoints`: array[COLO_CHECKPOINTS], mmapable, written by the daemon
 * only. The last checkpoints: number n is at (n - 1) % COLO_CHECKPOINTS, and
 * the highest number says how many there were in the life of the instance.
 * What is not known is 0.
 */
#define COLO_CHECKPOINTS 1024

struct colo_checkpoint {
	__u64 number;     /* written last, 0: none */
	__u64 epoch;      /* that it closes; counted anew in each session */
	__u64 session_ns; /* when this COLO began */
	enum colo_role role;
	enum colo_checkpoint_end end;
	enum colo_reason reason; /* on the primary */
	__u32 reserved;
	__u64 requested_ns;  /* when the data path asked for it */
	__u64 asked_ns;      /* when the daemon asked QEMU */
	__u64 stopped_ns;    /* when the daemon heard that the guest has stopped */
	__u64 ended_ns;      /* ... that it runs, or that COLO has ended */
	__u64 standstill_ns; /* how long the pair stood still for it: a duration */
	struct colo_checkpoint_parts primary_took_ns;
	struct colo_load_parts secondary_took_ns; /* on the primary: as the peer told */
	__u64 release_ns; /* of the commit, or the reset: this daemon's own work; a duration */
	__u64 ram_bytes;  /* sent for dirty pages */
	__u64 ram_pages;
	__u64 device_bytes;
};

/*
 * The program `control` is run by the daemon through BPF_PROG_RUN, as often as
 * it has entries in the map `control_work` (array[COLO_WORK_MAX], mmapable): cb[0]
 * of the packet is the entry of the next run. A run works on one flow under the
 * flow's lock, sends what may leave on the port, and says in `result`, and
 * returns, how many frames it has ended, COLO_CONTROL_AGAIN added if more are
 * left. One process at a time: the daemon, or who detaches when it has ended.
 */
enum colo_control_op {
	/* these four on a flow of a primary, first what waits for the lease */
	COLO_CONTROL_RELEASE,   /* send what is vouched for */
	COLO_CONTROL_COMMIT,    /* epoch was opened: all held leave, S's are dropped */
	COLO_CONTROL_FAILOVER,  /* all held leave, S's are dropped */
	COLO_CONTROL_DISCARD,   /* all are dropped */
	COLO_CONTROL_TIMEOUT,   /* look at reorder_ms and compare_timeout_ms */
	COLO_CONTROL_RECLAIM,   /* delete the flow if closed or idle for its time */
	COLO_CONTROL_REQUEST,   /* ask for a checkpoint; the reason is in `reason`, no flow */
	COLO_CONTROL_MARK,      /* the input that comes now is that of `epoch`; mark the tap */
	COLO_CONTROL_REPLAY,    /* secondary: the kept input to the guest */
	COLO_CONTROL_FORGET,    /* secondary: drop it */
	COLO_CONTROL_TRANSLATE, /* secondary: all offsets go to `translations`; no flow */
	COLO_CONTROL_EXPIRE,    /* delete the translation if closed or idle for its time */
};

#define COLO_CONTROL_AGAIN (1 << 16)
#define COLO_CONTROL_LEN   1514 /* of the packet, which is the carrier */
#define COLO_WORK_MAX      256

struct colo_control {
	enum colo_control_op op;
	enum colo_reason reason;
	__u64 epoch;
	struct colo_flow_key key;
	__u32 result;
	__u64 mark;     /* MARK: the number that the mark carries */
	__u64 until_ns; /* COMMIT, FAILOVER: only what was held before, 0: all */
	__u32 in_order; /* not before the entry before it is done */
	__u32 all_fit;  /* TRANSLATE: no order is needed, the table has room for every flow */
};

_Static_assert(sizeof(struct colo_flow_key) == 44, "colo_flow_key");
_Static_assert(sizeof(struct colo_session) == 120, "colo_session");
_Static_assert(__builtin_offsetof(struct colo_session, lease_ns) == 48,
	       "colo_session.lease_ns");
_Static_assert(sizeof(struct colo_translation) == 80, "colo_translation");
_Static_assert(sizeof(struct colo_config) == 60, "colo_config");
_Static_assert(sizeof(struct colo_xdp_cpu) == 64, "colo_xdp_cpu");
_Static_assert(sizeof(struct colo_xdp_last) == 24, "colo_xdp_last");
_Static_assert(sizeof(struct colo_event) == 80, "colo_event");
_Static_assert(sizeof(struct colo_gate) == 64, "colo_gate");
_Static_assert(sizeof(struct colo_magazine) == 256, "colo_magazine");
_Static_assert(sizeof(struct colo_control) == 88, "colo_control");
_Static_assert(sizeof(struct colo_frame) % 8 == 0, "colo_frame");
_Static_assert(sizeof(struct colo_checkpoint) == 208, "colo_checkpoint");
_Static_assert(sizeof(struct colo_frame_mark) == 8, "colo_frame_mark");
_Static_assert(sizeof(struct colo_passthrough) == 88, "colo_passthrough");

#endif
