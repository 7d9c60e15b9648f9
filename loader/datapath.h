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

struct datapath_options {
	const char *name; /* instance: [A-Za-z0-9._-], at most 31 */
	enum colo_role role;
	const char *guest; /* device names */
	const char *port;
	const char *link;
	const char *peer;          /* may be NULL */
	struct colo_config config; /* 0 in a field: its default */
};

enum datapath_map {
	MAP_ABI,
	MAP_CONFIG,
	MAP_SESSION,
	MAP_COUNTERS,
	MAP_FLOWS,
	MAP_FRAMES,
	MAP_POOL,
	MAP_FREE_FRAMES,
	MAP_FREE_SMALL,
	MAP_FREE_BIG,
	MAP_POLICY,
	MAP_PASSTHROUGH, /* of a primary, as the next */
	MAP_DIGEST_KEY,
	MAP_INPUTS, /* of a secondary, as the next */
	MAP_INPUT_RING,
	MAP_GATES,
	MAP_LINK_SENT,
	MAP_LINK_RECEIVED,
	MAP_LINK_PEER,
	MAP_EVENTS,
	MAP_COUNT,
};

enum datapath_prog {
	PROG_GUEST_OUT, /* guest device, ingress: what the guest sent */
	PROG_PORT_IN,   /* port, ingress: what the clients sent */
	PROG_LINK_IN,   /* link, ingress */
	PROG_CONTROL,   /* run by the daemon */
	PROG_COUNT,
};

/*
 * What release.c has to look at later; nothing here that a restarted daemon
 * would not find again in the maps.
 */
#define DATAPATH_WATCH_MAX 256

struct datapath_watch {
	struct {
		struct colo_flow_key key;
		__u64 due_ns;
	} flow[DATAPATH_WATCH_MAX];
	__u32 count;
	__u64 scan_ns;  /* when the frames are to be looked at */
	__u64 sweep_ns; /* when the flows are */
	__u32 cursor;   /* how far the sweep of the flows has come */
	bool cursor_valid;
};

/* What link.c knows of the counts that are exchanged over the link. */
struct datapath_link {
	int fd;                        /* -1: not open */
	__u64 next_ns;                 /* when it is looked at again */
	struct colo_link_count said;   /* the last that was said to the other side */
	unsigned int repeats;          /* how often */
	struct colo_link_peer pending; /* what the other side said, not yet judged */
	__u64 pending_ns;              /* when it was read, 0: there is none */
};

struct datapath {
	struct colo_abi abi;
	int map_fd[MAP_COUNT];
	int prog_fd[PROG_COUNT];
	/* mmaped */
	struct colo_config *config;
	volatile struct colo_session *session;
	volatile struct colo_frame *frames;
	volatile struct colo_link_peer *link_peer;
	__u32 max_frames;
	struct datapath_watch watch;
	struct datapath_link link;
};

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
int datapath_probe_load(enum colo_role role);

/* Open what is pinned. -EPROTO: another ABI version or not ours. */
int datapath_open(const char *name, struct datapath *dp);
void datapath_close(struct datapath *dp);

/*
 * For tests: like a fresh attach, without loading again. Flows, frames,
 * counters, session and events are as after datapath_attach().
 */
int datapath_reset(struct datapath *dp);

/* Delete every flow; whoever calls it has seen to their frames. */
int datapath_clear_flows(struct datapath *dp);

/* Outside COLO: WIRE for a primary, SHUT for a secondary. */
enum colo_mode datapath_idle_mode(enum colo_role role);

/* The inode number of this thread's network namespace. */
__u32 datapath_netns(void);

/* The maps of one role only are missing on the other. */
bool datapath_has_map(enum colo_role role, enum datapath_map map);

/* Sum of the counters over all CPUs. */
int datapath_counters(const struct datapath *dp, struct colo_counters *sum);

#endif
