// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU's own proxy under test, without a machine: colo-compare over its
 * chardevs for a primary's cases, filter-rewriter between two socket netdevs
 * for a secondary's. Frames cross as a big-endian length of 32 bits and bytes.
 * Each case has a process of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cases.h"

#define START_MS 5000 /* for QEMU to come up */

/* One of QEMU's sockets, and what has come from it so far. */
struct stream {
	int fd;
	uint8_t bytes[2 * FRAME_MAX];
	unsigned int len;
};

enum { PRIMARY_IN, SECONDARY_IN, OUT, NOTIFY, STREAMS };
enum { LINK, GUEST }; /* of the rewriter */

static struct stream streams[STREAMS];
static unsigned int stream_count;
static pid_t child;
static unsigned int requests;
static bool ready;
static bool rewriter;
bool qemu_pipelined;

static bool option_known(const struct statement *st)
{
	static const char *const known[] = {
		"compare_timeout_ms",
		"queue_max",
		/* QEMU knows no reordering: nothing to set. */
		"reorder_ms",
		"reorder_window",
	};

	for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!strcmp(known[i], st->key))
			return true;
	}
	return !strcmp(st->key, "offloads") && !strcmp(st->value, "off");
}

static const struct statement *qemu_cannot(const struct testcase *test)
{
	bool primary = test->side == SIDE_PRIMARY;

	for (const struct statement *st = test->first; st; st = st->next) {
		switch (st->verb) {
		case VERB_SET:
			if (!option_known(st))
				return st;
			break;
		case VERB_COMMIT: /* of a secondary: only a migration makes one */
			if (!primary)
				return st;
			break;
		case VERB_FAILOVER:
		case VERB_LEASE:
		case VERB_SWITCH:
		case VERB_TRANSLATION:
		case VERB_EXPECT_HELD:
		case VERB_EXPECT_ENDS:
			return st;
		case VERB_EXPECT_NEXT:
		case VERB_EXPECT_FIRST:
		case VERB_EXPECT_NONE:
			if (primary && st->outlet != OUTLET_PORT)
				return st;
			break;
		default:
			break;
		}
	}
	return NULL;
}

/* ---- the process -------------------------------------------------------- */

static const char *binary(void)
{
	const char *root = getenv("CASES_ROOT");
	static char path[512];
	char command[300];
	FILE *from;

	if (path[0])
		return path;
	snprintf(command, sizeof(command), "%s/qemu-glue/build --print", root ? root : ".");
	from = popen(command, "r");
	if (from && fgets(path, sizeof(path) - 20, from)) {
		path[strcspn(path, "\n")] = 0;
		strcat(path, "/qemu-system-x86_64");
	}
	if (from)
		pclose(from);
	return path;
}

/*
 * What the case sets, as properties of colo-compare. It asks again at each scan
 * that finds the same packet: scans no faster than the time-out, as by default.
 */
static void compare_options(const struct testcase *test, char *to, size_t size)
{
	unsigned int timeout = 3000;
	int len = 0;

	for (const struct statement *st = test->first; st; st = st->next) {
		if (st->verb != VERB_SET)
			continue;
		if (!strcmp(st->key, "compare_timeout_ms")) {
			timeout = strtoul(st->value, NULL, 0);
		} else if (!strcmp(st->key, "queue_max")) {
			len += snprintf(to + len, size - len, ",max_queue_size=%lu",
					strtoul(st->value, NULL, 0));
		}
	}
	snprintf(to + len, size - len, ",compare_timeout=%u,expired_scan_cycle=%u", timeout,
		 timeout);
}

/* argv as one string, its words between blanks. */
static void command_line(const struct testcase *test, const int fd[STREAMS], char *to,
			 size_t size)
{
	static const char common[] = "-machine none -nodefaults -no-user-config -display none";
	char options[200];

	if (rewriter) {
		snprintf(
			to, size,
			"%s -netdev socket,id=link,fd=%d -netdev hubport,id=h0,hubid=0,netdev=link"
			" -netdev socket,id=guest,fd=%d"
			" -netdev hubport,id=h1,hubid=0,netdev=guest"
			" -object filter-rewriter,id=rewriter,netdev=link,queue=all",
			common, fd[LINK], fd[GUEST]);
		return;
	}
	compare_options(test, options, sizeof(options));
	snprintf(to, size,
		 "%s -object iothread,id=io -chardev socket,id=pri,fd=%d"
		 " -chardev socket,id=sec,fd=%d -chardev socket,id=out,fd=%d"
		 " -chardev socket,id=notify,fd=%d"
		 " -object colo-compare,id=compare,primary_in=pri,secondary_in=sec,outdev=out,"
		 "notify_dev=notify,iothread=io%s",
		 common, fd[PRIMARY_IN], fd[SECONDARY_IN], fd[OUT], fd[NOTIFY], options);
}

static void exec_qemu(char *line)
{
	char *argv[64] = {(char *)binary()};
	unsigned int argc = 1;
	int null = open("/dev/null", O_RDWR);

	while (argc < 63 && (argv[argc] = strsep(&line, " ")))
		argc++;
	dup2(null, STDIN_FILENO);
	dup2(verbose ? STDERR_FILENO : null, STDOUT_FILENO);
	if (!verbose)
		dup2(null, STDERR_FILENO);
	execv(argv[0], argv);
	_exit(127);
}

static int start_process(const struct testcase *test)
{
	int far[STREAMS];
	char line[2000];

	stream_count = rewriter ? 2 : STREAMS;
	for (unsigned int i = 0; i < stream_count; i++) {
		int pair[2], size = 4 << 20;

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			return -errno;
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
		fcntl(pair[0], F_SETFD, FD_CLOEXEC);
		fcntl(pair[0], F_SETFL, O_NONBLOCK);
		streams[i].fd = pair[0];
		streams[i].len = 0;
		far[i] = pair[1];
	}
	command_line(test, far, line, sizeof(line));
	fflush(stdout);
	child = fork();
	if (!child)
		exec_qemu(line);
	for (unsigned int i = 0; i < stream_count; i++)
		close(far[i]);
	return child < 0 ? -errno : 0;
}

static void stop_process(void)
{
	for (unsigned int i = 0; i < stream_count; i++)
		close(streams[i].fd);
	stream_count = 0;
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
}

/* ---- frames ------------------------------------------------------------- */

/*
 * Sends, and waits until it was read: frames of two sockets keep the order in
 * which the case has them.
 */
static int stream_put(struct stream *stream, const void *bytes, unsigned int len)
{
	uint32_t length = htonl(len);
	uint64_t until = now_ns() + 2000 * NSEC_PER_MSEC;
	int left = 1;

	if (send(stream->fd, &length, 4, MSG_NOSIGNAL | MSG_MORE) != 4 ||
	    send(stream->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		return errno ? -errno : -EIO;
	if (qemu_pipelined)
		return 0;
	while (!ioctl(stream->fd, SIOCOUTQ, &left) && left) {
		if (now_ns() > until)
			return -ETIMEDOUT;
		usleep(50);
	}
	/* Read is not yet handled. */
	usleep(200);
	return 0;
}

static void take(struct run *run, unsigned int number, const uint8_t *bytes, unsigned int len)
{
	enum outlet outlet = !rewriter      ? OUTLET_PORT :
			     number == LINK ? OUTLET_LINK :
					      OUTLET_GUEST;
	struct frame *frame;
	char *text;

	if (!ready) {
		ready = true;
		return;
	}
	if (!rewriter && number == NOTIFY) {
		requests++;
		if (verbose)
			printf("#   -> %.*s\n", (int)len, bytes);
		return;
	}
	frame = frame_new(bytes, len);
	frames_add(&run->out[outlet], frame);
	if (!verbose)
		return;
	text = decode_print(frame);
	printf("#   -> %-5s %s\n", outlet_names[outlet], text);
	free(text);
}

/* Whole frames out of what has come; true if there were any. */
static bool take_stream(struct run *run, unsigned int number)
{
	struct stream *stream = &streams[number];
	bool any = false;
	ssize_t got;

	got = recv(stream->fd, stream->bytes + stream->len, sizeof(stream->bytes) - stream->len,
		   0);
	if (!got && child) {
		run_fail(run, "QEMU has died");
		stop_process();
		return true;
	}
	if (got > 0)
		stream->len += got;
	while (stream->len >= 4) {
		uint32_t len;

		memcpy(&len, stream->bytes, 4);
		len = ntohl(len);
		if (len > FRAME_MAX || stream->len < 4 + len)
			break;
		take(run, number, stream->bytes + 4, len);
		stream->len -= 4 + len;
		memmove(stream->bytes, stream->bytes + 4 + len, stream->len);
		any = true;
	}
	return any;
}

static bool take_all(struct run *run)
{
	bool any = false;

	for (unsigned int i = 0; i < stream_count; i++)
		any |= take_stream(run, i);
	return any;
}

static void qemu_poll(struct run *run, uint64_t until_ns)
{
	struct pollfd fds[STREAMS];
	struct timespec wait = {0};
	uint64_t now;

	if (take_all(run))
		return;
	now = now_ns();
	if (until_ns <= now)
		return;
	for (unsigned int i = 0; i < stream_count; i++)
		fds[i] = (struct pollfd){streams[i].fd, POLLIN, 0};
	wait.tv_nsec = until_ns - now < 10 * NSEC_PER_MSEC ? until_ns - now :
							     10 * NSEC_PER_MSEC;
	ppoll(fds, stream_count, &wait, NULL);
	take_all(run);
}

/* Something that comes back: QEMU is up. */
static int wait_ready(struct run *run)
{
	static const char hello[] = "COLO_USERSPACE_PROXY_INIT";
	static const uint8_t frame[60] = {2, 0, 0, 0, 0, 0x10, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
	uint64_t until = now_ns() + START_MS * NSEC_PER_MSEC;

	ready = false;
	if (rewriter)
		stream_put(&streams[LINK], frame, sizeof(frame));
	else
		stream_put(&streams[NOTIFY], hello, strlen(hello));
	while (!ready && !run->error && now_ns() < until)
		qemu_poll(run, until);
	return ready && !run->error ? 0 : -1;
}

static int qemu_begin(struct run *run)
{
	int err;

	rewriter = run->test->side == SIDE_SECONDARY;
	requests = 0;
	if (access(binary(), X_OK)) {
		run_fail(run, "%s is not there: make qemu", binary());
		return -1;
	}
	err = start_process(run->test);
	if (err || wait_ready(run)) {
		run_fail(run, "QEMU does not come up (-v shows why)");
		stop_process();
		return -1;
	}
	return 0;
}

static void qemu_end(struct run *run)
{
	(void)run;
	stop_process();
}

static int qemu_put(struct run *run, enum verb verb, int epoch_diff, struct frame *frame)
{
	bool link = verb == VERB_S || (rewriter && verb != VERB_G);

	(void)epoch_diff; /* QEMU has no epochs: it is just a frame */
	if (link && run->drop) {
		run->drop--;
		return 0;
	}
	switch (verb) {
	case VERB_P:
		return stream_put(&streams[PRIMARY_IN], frame->bytes, frame->len);
	case VERB_S:
		return stream_put(&streams[SECONDARY_IN], frame->bytes, frame->len);
	case VERB_G:
		return stream_put(&streams[GUEST], frame->bytes, frame->len);
	case VERB_C:
		/* colo-compare has nothing to do with clients. */
		return rewriter ? stream_put(&streams[LINK], frame->bytes, frame->len) : 0;
	default:
		return 0; /* I: no such message */
	}
}

static int qemu_commit(struct run *run, unsigned int unread)
{
	static const char message[] = "COLO_CHECKPOINT";

	(void)unread;
	qemu_poll(run, 0);
	requests = 0;
	run->epoch++;
	return stream_put(&streams[NOTIFY], message, strlen(message));
}

static int qemu_failover(struct run *run)
{
	(void)run;
	return -EOPNOTSUPP;
}

static unsigned int qemu_requests(struct run *run, int *reason)
{
	(void)run;
	*reason = -1; /* it gives none */
	return requests;
}

static void qemu_held(struct run *run, int64_t *counted, int64_t *found)
{
	(void)run;
	*counted = -1;
	*found = -1;
}

struct proxy qemu_proxy = {
	.name = "qemu",
	.cannot = qemu_cannot,
	.begin = qemu_begin,
	.end = qemu_end,
	.put = qemu_put,
	.commit = qemu_commit,
	.failover = qemu_failover,
	.poll = qemu_poll,
	.requests = qemu_requests,
	.held = qemu_held,
	.close = stop_process,
};
