/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests/scale measures with: instances of the real programs on real
 * devices, a generator of both guests' frames, and a count of what reaches the
 * client. All functions return 0 or -errno unless they say otherwise.
 */
#ifndef COLO_SCALING_H
#define COLO_SCALING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <colo/link.h>

#include "datapath.h"
#include "sink.h"

struct sink_bpf;
struct ring_buffer;

/* ---- rig.c: an instance, its devices, its daemon's part -------------------- */

struct rig {
	char name[32];
	int guest;  /* of the tap: what is written to it, the guest has sent */
	int port;   /* ifindex */
	int client; /* ... of its far end */
	int link;
	int other; /* packet socket at the far end of the link */
	bool open;
	struct sink_bpf *sink;
	struct datapath dp;
	struct ring_buffer *ring;
	unsigned int requests; /* that the ring buffer has announced */
	__u64 tick_ns;
};

/* A network namespace of our own. */
int rig_enter(void);
/* `sizes`: 0 in a field is its default. COLO has begun when it returns. */
extern enum colo_context rig_context;
extern bool rig_refuses; /* the port takes no frames of XDP */
int rig_open(struct rig *rig, enum colo_role role, const struct colo_config *sizes);
/* An instance that another has attached: COLO begins, nothing else is opened. */
int rig_adopt(struct rig *rig, const char *name);
void rig_close(struct rig *rig);
/* What the daemon does when it wakes up. */
int rig_daemon(struct rig *rig);
/* Frames of a flow that come from several CPUs are one queue at the client, on `cpu`. */
int rig_steer(struct rig *rig, unsigned int cpu);
/* What comes by the link is polled by a thread, which runs on that CPU. */
int rig_thread_link(struct rig *rig, unsigned int cpu);
/* The ports that are made from now on have that many queues to send from. */
extern unsigned int rig_queues;
/* What is made from now on: the devices' offloads; what arrives is only counted. */
extern bool rig_offloads, rig_counts_only;
/* Of these, how many have sent something. */
int rig_queues_used(const struct rig *rig);
/* Takes away what a process that was killed has left. */
void rig_remove(int pid);

struct colo_counters rig_counters(const struct rig *rig);
__u64 rig_flows(const struct rig *rig); /* in the table, by the counters */
uint64_t rig_arrived(const struct rig *rig);
/* Time in the programs at the hooks so far: bpf_enable_stats() must be on. */
uint64_t rig_program_ns(const struct rig *rig);

/* ---- frames.c: what both guests send --------------------------------------- */

/*
 * Flow i is of UDP if i is even, of TCP else, with a client of its own; in round
 * r it has one frame: datagram r, or the r-th segment of the stream.
 */
#define FRAME_ROOM 1536
#define BATCH      64

struct frame_kind {
	unsigned int payload; /* bytes, at least 8 of a datagram */
	bool fin, rst;        /* TCP flags besides ACK */
	bool syn;             /* ... without it */
};

/* Frames of one side that go out together. */
struct batch {
	unsigned int count;
	unsigned int length[BATCH];
	unsigned char frame[BATCH][FRAME_ROOM];
};

void batch_add(struct batch *batch, uint32_t flow, uint32_t round,
	       const struct frame_kind *kind);
/* A client's: as the guest's, the other way round. */
void batch_add_client(struct batch *batch, uint32_t flow, uint32_t round,
		      const struct frame_kind *kind);
int batch_from_guest(struct rig *rig, const struct batch *batch);
void guest_reads(struct rig *rig); /* all that has come for it */
int batch_from_link(struct rig *rig, const struct batch *batch, enum colo_link_kind kind,
		    uint64_t epoch);

/* ---- load.c: flows that are active ------------------------------------------ */

/* Flows first, first + step, ..., count of them, in an order that is not theirs. */
struct load {
	struct rig *rig;
	struct frame_kind kind;
	uint32_t first, step, count;
	uint32_t at;    /* how far this round has come */
	uint32_t round; /* of the frames */
	uint64_t epoch;
};

/*
 * `pairs` pairs of P's and S's frames, each side first by turns (a secondary: a
 * client's ack, and a frame of its guest), until all have arrived; if not, -EIO.
 * *cpu_ns: what it took of this thread.
 */
int load_run(struct load *load, uint32_t pairs, uint64_t *cpu_ns);

/* ---- turns.c: the daemon beside it -------------------------------------------- */

#define TURN_MAX_NS 20000000ULL /* a tenth of the silence that is the peer's loss */

struct turns {
	struct rig *rig;
	pthread_t thread;
	volatile bool stop;
	unsigned int count;
	uint64_t longest_ns;
	uint64_t cpu_ns;
	int error;
};

int turns_begin(struct turns *turns, struct rig *rig);
void turns_stop(struct turns *turns);
void turns_end(struct turns *turns); /* ... and claims that none took long */

/* ---- memory.c: the memory cgroup -------------------------------------------- */

/* Makes one; what is called in `inside` is charged to it. Returns what that returns. */
int memory_inside(int (*inside)(void));
/* What is charged to it now, 0 if there is none. */
uint64_t memory_current(void);
/* Claims that it is back to what it was before, within a tenth. */
void memory_back(uint64_t before, uint64_t peak, double after_s);

/* ---- the parts --------------------------------------------------------------- */

struct scale {
	uint32_t flows;
	bool full;
};

void part_flows(const struct scale *scale);   /* throughput, commits, memory, reclaim */
void part_rewrite(const struct scale *scale); /* the secondary's table */
void part_order(const struct scale *scale);
void part_bounds(const struct scale *scale);
void part_ring(const struct scale *scale);

/* ---- main.c ------------------------------------------------------------------ */

/* A line of the result. */
void claim(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));
void figure(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- clock.c ----------------------------------------------------------------- */

uint64_t scale_now(void);
uint64_t scale_cpu_ns(void);        /* of this thread */
void scale_cpu(unsigned int cpu);   /* this thread runs there from now on */
void scale_precedence(bool daemon); /* ... and as the daemon does, or as others */
double scale_median(double *values, unsigned int count);

#endif
