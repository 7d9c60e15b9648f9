/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The data path of one instance: BPF objects, their pins, their attachment to
 * the three devices, and the maps as user space sees them.
 */
#ifndef COLO_DATAPATH_H
#define COLO_DATAPATH_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#include <colo/abi.h>

#include "addresses.h"

struct datapath_options {
	const char *name; /* instance: [A-Za-z0-9._-], at most 31 */
	enum colo_role role;
	const char *guest; /* device names */
	const char *port;
	const char *link;
	const char *peer; /* may be NULL */
	enum colo_context context;
	struct colo_config config; /* 0 in a field: its default */
};

enum datapath_map {
	MAP_ABI,
	MAP_CONFIG,
	MAP_SESSION,
	MAP_COUNTERS,
	MAP_FLOWS,
	MAP_FRAMES,
	MAP_FRAME_MARKS,
	MAP_POOL,
	MAP_FREE_FRAMES,
	MAP_FREE_SMALL,
	MAP_FREE_BIG,
	MAP_MAGAZINES,
	MAP_POLICY,
	MAP_PASSTHROUGH,
	MAP_TRANSLATIONS,
	MAP_DIGEST_KEY, /* of a primary, as the next */
	MAP_XDP_CPUS,
	MAP_INPUTS, /* of a secondary, as the next */
	MAP_INPUT_RING,
	MAP_GATES,
	MAP_LINK_SENT,
	MAP_LINK_RECEIVED,
	MAP_LINK_PEER,
	MAP_CHECKPOINTS,
	MAP_CONTROL_WORK,
	MAP_EVENTS,
	MAP_COUNT,
};

enum datapath_prog {
	PROG_GUEST_OUT, /* guest device, ingress: what the guest sent */
	PROG_PORT_IN,   /* port, ingress: what the clients sent */
	PROG_LINK_IN,   /* link, ingress */
	PROG_PORT_OUT,  /* port, egress: what leaves, of both roles */
	PROG_CONTROL,   /* run by the daemon */
	/* of a primary in the context XDP */
	PROG_GUEST_OUT_XDP, /* guest device, before guest_out */
	PROG_LINK_IN_XDP,   /* link, before link_in */
	PROG_XDP_FLUSHED,   /* at the tracepoint xdp_devmap_xmit */
	PROG_XDP_REFUSED,   /* ... xdp_redirect_err */
	PROG_COUNT,
};

/*
 * What release.c has to look at later; nothing here that a restarted daemon
 * would not find again in the maps.
 */
#define DATAPATH_WATCH_MAX 256

struct datapath_cursor { /* how far a sweep through a table has come */
	__u32 at;
	bool valid;
	__u32 found; /* idle elements, in this pass */
	__u64 next_ns;
};

struct datapath_watch {
	struct {
		struct colo_flow_key key;
		__u64 due_ns;
	} flow[DATAPATH_WATCH_MAX];
	__u32 count;
	__u64 scan_ns; /* when the frames are to be looked at */
	__u64 kept_ns; /* how long after a client's was kept */
	struct datapath_cursor flows, translations;
	struct addresses addresses; /* of the guest, as far as the sweeps have met them */
};

/* What link.c knows of the counts that are exchanged over the link. */
struct datapath_link {
	int fd;                        /* -1: not open */
	__u64 next_ns;                 /* when it is looked at again */
	struct colo_link_count said;   /* the last that was said to the other side */
	unsigned int repeats;          /* how often */
	struct colo_link_peer pending; /* what the other side said, not yet judged */
	__u64 pending_ns;              /* when it was read, 0: there is none */
	struct colo_link_count *cpus;  /* room for a count of each CPU; NULL: none yet */
};

struct datapath {
	struct colo_abi abi;
	int map_fd[MAP_COUNT];
	int prog_fd[PROG_COUNT];
	/* mmaped */
	struct colo_config *config;
	volatile struct colo_session *session;
	volatile struct colo_frame *frames;
	volatile struct colo_frame_mark *marks; /* of the frames */
	struct colo_control *work;              /* of work.c */
	volatile struct colo_link_peer *link_peer;
	struct colo_checkpoint *checkpoints; /* [COLO_CHECKPOINTS] */
	__u32 max_frames;
	struct datapath_watch watch;
	struct datapath_link link;
};

/*
 * The first record from i on that may be in use; max_frames: there is none. Begin
 * with 0, go on with the next.
 */
static inline __u32 datapath_frame(const struct datapath *dp, __u32 i)
{
	__u32 shift = dp->session->frame_shift;
	__u64 used = dp->session->frames_used;

	while (i < dp->max_frames && !(used >> (i >> shift) & 1))
		i = ((i >> shift) + 1) << shift;
	return i < dp->max_frames ? i : dp->max_frames;
}

/* Names of the maps and programs, in the objects and as pins. */
extern const char *const datapath_map_names[MAP_COUNT];
extern const char *const datapath_prog_names[PROG_COUNT];

/*
 * Load, fill the free lists, pin under COLO_PIN_ROOT/NAME, attach. Nothing is
 * left behind if it fails. Mode after it: WIRE for a primary, SHUT for a
 * secondary. Returns 0 or -errno, with a message on the log.
 */
int datapath_attach(const struct datapath_options *options);

/* Take the attachment and the pins away; held frames are discarded. */
int datapath_detach(const char *name);

/*
 * The pins only, where the devices and their namespace are gone or the
 * instance is not whole.
 */
int datapath_unpin(const char *name);

/* Do the objects of this role load on this kernel? Nothing is left of it. */
int datapath_probe_load(enum colo_role role, enum colo_context context);

/* Open what is pinned. -EPROTO: another ABI version or not ours. */
int datapath_open(const char *name, struct datapath *dp);
void datapath_close(struct datapath *dp);

/*
 * For tests: like a fresh attach, without loading again. Flows, frames,
 * counters, session and events are as after datapath_attach().
 */
int datapath_reset(struct datapath *dp);

/*
 * The instance gets the other role, under load: in the modes WIRE, ACTIVE and
 * SHUT, where both roles do the same, its programs are replaced one by one and
 * its pins at one blow. What is of both roles stays: options, policy, rules,
 * translations, counters. ACTIVE becomes WIRE in a primary. 0 or -errno with a
 * message, and then all is as it was. -EBUSY: in COLO, or frames wait.
 */
int datapath_switch_role(struct datapath *dp, enum colo_role role);

/*
 * For a daemon that begins: a switch that another did not live to end is
 * brought to its end, or undone, as the pins say. 0 or -errno with a message.
 */
int datapath_repair(struct datapath *dp);

/* Delete every flow; whoever calls it has seen to their frames. */
int datapath_clear_flows(struct datapath *dp);

/* A colo_flow or a colo_rewrite, by the role. */
union datapath_flow {
	struct colo_flow flow;
	struct colo_rewrite rewrite;
};

size_t datapath_flow_size(enum colo_role role);

/*
 * `each` for every flow of a table that may change meanwhile: one that is there
 * all the time is seen once.
 */
int datapath_each_flow(const struct datapath *dp,
		       void (*each)(const struct colo_flow_key *key,
				    const union datapath_flow *value, void *context),
		       void *context);

/* Outside COLO: WIRE for a primary, SHUT for a secondary. */
enum colo_mode datapath_idle_mode(enum colo_role role);

/* The inode number of this thread's network namespace. */
__u32 datapath_netns(void);

/* The maps of one role only are missing on the other. */
bool datapath_has_map(enum colo_role role, enum datapath_map map);

/* Likewise programs, and those of XDP where it is not used. */
bool datapath_has_prog(enum colo_role role, enum colo_context context, enum datapath_prog prog);

/* A map that is the same whatever the role. */
bool datapath_map_is_shared(enum datapath_map map);

/* Sum of the counters over all CPUs. */
int datapath_counters(const struct datapath *dp, struct colo_counters *sum);

#endif
