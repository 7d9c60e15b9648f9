/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The proxy alone: the same frame pairs through hold, compare and release of
 * colo-bpf and of QEMU's colo-compare. All functions return 0 or -errno unless
 * they say otherwise.
 */
#ifndef COLO_BENCH_H
#define COLO_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <linux/virtio_net.h>

#define HEAD_ROOM 64

/* ---- frames.c: frames that are made beforehand ------------------------------ */

struct kind {
	const char *name;
	bool tcp;
	unsigned int payload; /* bytes */
	unsigned int gso;     /* bytes of a segment that a device cuts, 0: none */
};

const struct kind *kind_find(const char *name);

/*
 * What one guest sends. Only the number is written when it is sent, and the
 * headers are copied, so that several of a flow can be under way; not the payload.
 */
struct frames {
	const struct kind *kind;
	uint32_t flows;
	unsigned int head; /* bytes that each frame has of its own */
	unsigned int length;
	struct virtio_net_hdr vnet;
	unsigned char (*heads)[HEAD_ROOM];
	uint32_t *rounds; /* of each flow: how many it has sent */
};

struct ready {
	unsigned char head[HEAD_ROOM];
	struct iovec parts[2];
};

int frames_make(struct frames *frames, const struct kind *kind, uint32_t flows);
/* ... of what a client sends: the other way round */
int frames_make_client(struct frames *frames, const struct kind *kind, uint32_t flows);
void frames_free(struct frames *frames);
/* The next frame of a flow. */
void frames_next(struct frames *frames, uint32_t flow, struct ready *ready);

/* ---- a side: ours.c, peer.c, wire.c ---------------------------------------------------- */

struct took {
	uint64_t pairs;
	uint64_t wall_ns;
	uint64_t cpu_ns;     /* of the proxy */
	uint64_t program_ns; /* ... in BPF programs */
	uint64_t daemon_ns;  /* ... of the daemon */
};

struct setup {
	const struct kind *kind;
	uint32_t flows; /* that there are */
	uint32_t held;  /* frames of P that are held at once, at most */
};

struct side {
	int (*open)(const struct setup *setup);
	void (*close)(void);
	/* One pair in each of the flows. */
	int (*fill)(void);
	/* Pairs for so long, so many of them under way, in the first `flows` flows. */
	int (*run)(uint32_t flows, uint32_t window, uint64_t for_ns, struct took *took);
	/* As run(), as fast as it goes on both CPUs. */
	int (*race)(uint32_t flows, uint32_t window, uint64_t for_ns, struct took *took);
	/* As run(), from one CPU or from two, each with a half of the flows. */
	int (*cpus)(uint32_t cpus, uint32_t window, uint64_t for_ns, struct took *took);
	/* `count` frames of P, then their frames of S, from which on time is taken. */
	int (*hold)(uint32_t flows, uint32_t count, struct took *took);
	/* ns from S's frame to P's, one pair after the other. */
	int (*latency)(uint32_t count, uint32_t *ns);
	/* Frames of P that nobody compares. */
	int (*wire)(uint32_t flows, uint64_t for_ns, struct took *took);
	/* Frames of the clients to the guest, likewise. */
	int (*wire_in)(uint32_t flows, uint64_t for_ns, struct took *took);
};

/* Few at a time are held several times. */
static inline unsigned int hold_times(uint32_t count)
{
	return count < 64 ? 16 : 1;
}

/* Ours in tc, and in XDP where that goes. */
extern const struct side ours_side, xdp_side, peer_side;
/* Outside COLO, and a bridge of the kernel: only wire, wire_in. */
extern const struct side wire_side, bridge_side;
extern const char *peer_binary;

/* ---- proc.c: threads ------------------------------------------------------------- */

/* CPU time of a thread, 0 if it is not there. */
uint64_t thread_ns(int pid, int tid);
/* The first thread of a process whose name begins so, 0: there is none. */
int thread_named(int pid, const char *name);
/* The kernel's threads for softirqs that were put off, of all CPUs. */
uint64_t softirq_threads_ns(void);

#endif
