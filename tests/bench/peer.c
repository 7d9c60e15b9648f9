// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's colo-compare over unix sockets, without a machine: no frame has to
 * cross a network card on its way to it. Its CPU time is its iothread's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "bench.h"
#include "scaling.h"

#define CHUNK      64
#define TABLE      16384 /* connections that it knows at most */
#define LOST_NS    50000000ULL
#define START_NS   10000000000ULL
#define STALL_NS   15000000000ULL
#define BUFFER     (8 << 20)
#define HANDLED_NS 100000

enum { PRIMARY_IN, SECONDARY_IN, OUT, NOTIFY, SOCKETS };

const char *peer_binary;

static pid_t child;
static int iothread;
static int sockets[SOCKETS];

/* What is on its way into a socket: frames that are made, not yet all written. */
static struct output {
	int fd;
	struct frames frames;
	struct ready ready[CHUNK];
	uint32_t lengths[CHUNK];
	struct iovec parts[3 * CHUNK];
	unsigned int part, end; /* of `parts`: what is left */
	uint32_t flow;
	uint64_t begun; /* frames */
} p_out, s_out;

/* What comes out of QEMU: frames are counted, their content is P's. */
static struct {
	unsigned char *bytes;
	size_t len;
	size_t left; /* of the frame that has begun */
	uint64_t frames;
} in;

/* ---- the process --------------------------------------------------------------- */

static void exec_qemu(const int far[SOCKETS], unsigned int queue)
{
	char sizes[128], chardev[SOCKETS][64], compare[512];
	static const char *const names[SOCKETS] = {"pri", "sec", "out", "notify"};

	for (int i = 0; i < SOCKETS; i++)
		snprintf(chardev[i], sizeof(chardev[i]), "socket,id=%s,fd=%d", names[i],
			 far[i]);
	snprintf(sizes, sizeof(sizes), "max_queue_size=%u", queue);
	snprintf(compare, sizeof(compare),
		 "colo-compare,id=compare,primary_in=pri,secondary_in=sec,outdev=out,"
		 "notify_dev=notify,iothread=io,%s",
		 sizes);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(peer_binary, peer_binary, "-name", "bench,debug-threads=on", "-machine", "none",
	      "-nodefaults", "-no-user-config", "-display", "none", "-object", "iothread,id=io",
	      "-chardev", chardev[0], "-chardev", chardev[1], "-chardev", chardev[2],
	      "-chardev", chardev[3], "-object", compare, NULL);
	perror(peer_binary);
	_exit(127);
}

static int start_process(unsigned int queue)
{
	int far[SOCKETS];

	for (int i = 0; i < SOCKETS; i++) {
		int pair[2], size = BUFFER;

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			return -errno;
		for (int end = 0; end < 2; end++)
			setsockopt(pair[end], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
		fcntl(pair[0], F_SETFD, FD_CLOEXEC);
		fcntl(pair[0], F_SETFL, O_NONBLOCK);
		sockets[i] = pair[0];
		far[i] = pair[1];
	}
	fflush(stdout);
	child = fork();
	if (!child)
		exec_qemu(far, queue);
	for (int i = 0; i < SOCKETS; i++)
		close(far[i]);
	return child < 0 ? -errno : 0;
}

/* It answers when it is up. The iothread runs on the CPU that the sender leaves. */
static int wait_ready(void)
{
	static const char hello[] = "COLO_USERSPACE_PROXY_INIT";
	uint32_t length = htonl(strlen(hello));
	struct pollfd fd = {sockets[NOTIFY], POLLIN, 0};
	char answer[256];
	cpu_set_t set;

	if (send(sockets[NOTIFY], &length, sizeof(length), MSG_NOSIGNAL) < 0 ||
	    send(sockets[NOTIFY], hello, strlen(hello), MSG_NOSIGNAL) < 0)
		return -errno;
	if (poll(&fd, 1, START_NS / 1000000) != 1 ||
	    recv(sockets[NOTIFY], answer, sizeof(answer), 0) <= 0)
		return -ETIMEDOUT;
	iothread = thread_named(child, "IO ");
	if (!iothread)
		return -ESRCH;
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	return sched_setaffinity(iothread, sizeof(set), &set) ? -errno : 0;
}

/* ---- frames ---------------------------------------------------------------------- */

static void make_more(struct output *to, uint32_t flows, unsigned int count)
{
	struct iovec *part = to->parts;

	for (unsigned int i = 0; i < count; i++) {
		frames_next(&to->frames, to->flow, &to->ready[i]);
		to->lengths[i] = htonl(to->frames.length);
		*part++ = (struct iovec){&to->lengths[i], sizeof(to->lengths[i])};
		*part++ = to->ready[i].parts[0];
		*part++ = to->ready[i].parts[1];
		to->flow = to->flow + 1 < flows ? to->flow + 1 : 0;
	}
	to->part = 0;
	to->end = 3 * count;
	to->begun += count;
}

/* true: something went out */
static bool write_more(struct output *to, int *err)
{
	ssize_t sent = writev(to->fd, to->parts + to->part, to->end - to->part);

	if (sent < 0) {
		if (errno != EAGAIN)
			*err = -errno;
		return false;
	}
	while (to->part < to->end && (size_t)sent >= to->parts[to->part].iov_len)
		sent -= to->parts[to->part++].iov_len;
	if (to->part < to->end) {
		to->parts[to->part].iov_base = (char *)to->parts[to->part].iov_base + sent;
		to->parts[to->part].iov_len -= sent;
	}
	return true;
}

/* Frames up to the limit. true: something went out */
static bool go_on(struct output *to, uint32_t flows, uint64_t limit, int *err)
{
	if (to->part == to->end) {
		uint64_t may = limit - to->begun;

		if (!may)
			return false;
		make_more(to, flows, may < CHUNK ? may : CHUNK);
	}
	return write_more(to, err);
}

static void count_frames(void)
{
	size_t at = 0;

	while (in.len - at >= sizeof(uint32_t)) {
		uint32_t length;

		memcpy(&length, in.bytes + at, sizeof(length));
		length = ntohl(length);
		if (in.len - at < sizeof(length) + length)
			break;
		at += sizeof(length) + length;
		in.frames++;
	}
	in.len -= at;
	memmove(in.bytes, in.bytes + at, in.len);
}

static bool read_more(int *err)
{
	ssize_t got = recv(sockets[OUT], in.bytes + in.len, BUFFER - in.len, 0);

	if (got <= 0) {
		if (!got || errno != EAGAIN)
			*err = got ? -errno : -EPIPE;
		return false;
	}
	in.len += got;
	count_frames();
	return true;
}

/* A checkpoint that it asks for is read, and no answer is needed. */
static void read_requests(void)
{
	char bytes[256];

	while (recv(sockets[NOTIFY], bytes, sizeof(bytes), 0) > 0)
		continue;
}

static void wait_more(bool p_waits, bool s_waits)
{
	struct pollfd fds[] = {
		{sockets[OUT], POLLIN, 0},
		{p_waits ? p_out.fd : -1, POLLOUT, 0},
		{s_waits ? s_out.fd : -1, POLLOUT, 0},
	};

	poll(fds, 3, 1);
}

/*
 * With more flows than its table takes it forgets all of them, and what it held
 * with them. Of what was sent, this much is never seen again.
 */
static uint64_t lost(uint32_t flows, uint64_t under_way, uint64_t idle_ns)
{
	return flows > TABLE && idle_ns > LOST_NS ? under_way : 0;
}

/* Pairs until `pairs` have begun or the time is over; all that begin are waited for. */
static int pump(uint32_t flows, uint64_t window, uint64_t pairs, uint64_t end_ns)
{
	const uint64_t base = p_out.begun;
	uint64_t limit = base + pairs, done = base, out = in.frames, moved = scale_now();
	int err = 0;

	while (!err && done < limit) {
		uint64_t now = scale_now(), p_limit = done + window;
		bool any;

		if (now >= end_ns && limit > p_out.begun)
			limit = p_out.begun;
		if (p_limit > limit)
			p_limit = limit;
		any = go_on(&p_out, flows, p_limit, &err);
		any |= go_on(&s_out, flows, p_out.begun, &err);
		any |= read_more(&err);
		done += in.frames - out;
		out = in.frames;
		if (any) {
			moved = now;
			continue;
		}
		wait_more(p_out.part < p_out.end, s_out.part < s_out.end);
		done += lost(flows, p_out.begun - done, now - moved);
		if (now - moved > STALL_NS)
			err = -ETIMEDOUT;
	}
	read_requests();
	return err;
}

static void flows_begin(void)
{
	p_out.flow = s_out.flow = 0;
}

static int peer_run(uint32_t flows, uint32_t window, uint64_t for_ns, struct took *took)
{
	uint64_t begun = scale_now(), cpu = thread_ns(child, iothread), frames = in.frames;
	int err;

	flows_begin();
	err = pump(flows, window, 1ULL << 40, begun + for_ns);
	took->wall_ns = scale_now() - begun;
	took->cpu_ns = thread_ns(child, iothread) - cpu;
	took->pairs = in.frames - frames;
	return err;
}

/* It has one thread, whoever sends. */
static int peer_cpus(uint32_t cpus, uint32_t window, uint64_t for_ns, struct took *took)
{
	(void)cpus;
	return peer_run(p_out.frames.flows, window, for_ns, took);
}

/* From when all of P's have been taken from the socket. */
static int wait_taken(void)
{
	uint64_t end = scale_now() + STALL_NS, before = 0, cpu;

	do {
		before = thread_ns(child, iothread);
		usleep(20000);
		cpu = thread_ns(child, iothread);
	} while (cpu != before && scale_now() < end);
	return cpu == before ? 0 : -ETIMEDOUT;
}

/* All of P's, and they are held. */
static int hold_p(uint32_t flows, uint64_t limit)
{
	uint64_t stall = scale_now() + STALL_NS;
	int err = 0;

	while (!err && (p_out.begun < limit || p_out.part < p_out.end)) {
		if (!go_on(&p_out, flows, limit, &err) && !err)
			wait_more(true, false);
		if (scale_now() > stall)
			err = -ETIMEDOUT;
	}
	return err ?: wait_taken();
}

static int release_by_s(uint32_t flows, uint64_t limit, struct took *took)
{
	uint64_t out = in.frames, count = limit - s_out.begun, cpu = thread_ns(child, iothread);
	uint64_t begun = scale_now();
	int err = 0;

	while (!err && in.frames - out < count) {
		bool any = go_on(&s_out, flows, limit, &err);

		any |= read_more(&err);
		if (!any)
			wait_more(false, s_out.part < s_out.end);
		if (scale_now() > begun + STALL_NS)
			err = -ETIMEDOUT;
	}
	took->wall_ns += scale_now() - begun;
	took->cpu_ns += thread_ns(child, iothread) - cpu;
	took->pairs += in.frames - out;
	return err;
}

static int peer_hold(uint32_t flows, uint32_t count, struct took *took)
{
	int err = 0;

	flows_begin();
	for (unsigned int i = 0; i < hold_times(count) && !err; i++) {
		uint64_t limit = p_out.begun + count;

		err = hold_p(flows, limit) ?: release_by_s(flows, limit, took);
	}
	return err;
}

/* Of more flows than its table has, it would only forget them again. */
static int peer_fill(void)
{
	uint32_t flows = p_out.frames.flows < TABLE ? p_out.frames.flows : TABLE;

	flows_begin();
	return pump(flows, CHUNK, flows, ~0ULL);
}

/* P's next frame, and QEMU has taken it: unlike S's, it is not in the socket. */
static int p_taken(void)
{
	uint64_t limit = p_out.begun + 1, end = scale_now() + STALL_NS;
	int left = 1, err = 0;

	while (!err && (p_out.begun < limit || p_out.part < p_out.end))
		go_on(&p_out, 1, limit, &err);
	while (!err && !ioctl(p_out.fd, SIOCOUTQ, &left) && left)
		if (scale_now() > end)
			err = -ETIMEDOUT;
	/* read is not yet handled */
	for (end = scale_now() + HANDLED_NS; !err && scale_now() < end;)
		continue;
	return err;
}

/* Nothing is slept on here: the iothread has the other CPU. */
static int peer_latency(uint32_t count, uint32_t *ns)
{
	int err = 0;

	flows_begin();
	for (uint32_t i = 0; i < count && !err; i++) {
		uint64_t out = in.frames, begun;

		err = p_taken();
		begun = scale_now();
		go_on(&s_out, 1, p_out.begun, &err);
		while (!err && in.frames == out) {
			read_more(&err);
			if (scale_now() > begun + STALL_NS)
				err = -ETIMEDOUT;
		}
		ns[i] = scale_now() - begun;
	}
	return err;
}

static void peer_close(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		for (int i = 0; i < SOCKETS; i++)
			close(sockets[i]);
	}
	child = 0;
	frames_free(&p_out.frames);
	frames_free(&s_out.frames);
}

static int peer_open(const struct setup *setup)
{
	int err;

	scale_cpu(0);
	memset(&p_out, 0, sizeof(p_out));
	memset(&s_out, 0, sizeof(s_out));
	in.len = in.frames = 0;
	if (!in.bytes)
		in.bytes = malloc(BUFFER);
	err = in.bytes ? 0 : -ENOMEM;
	err = err ?: frames_make(&p_out.frames, setup->kind, setup->flows);
	err = err ?: frames_make(&s_out.frames, setup->kind, setup->flows);
	err = err ?: start_process(setup->held + 1024);
	err = err ?: wait_ready();
	p_out.fd = sockets[PRIMARY_IN];
	s_out.fd = sockets[SECONDARY_IN];
	return err;
}

const struct side peer_side = {
	.open = peer_open,
	.close = peer_close,
	.fill = peer_fill,
	.run = peer_run,
	.race = peer_run,
	.cpus = peer_cpus,
	.hold = peer_hold,
	.latency = peer_latency,
};
