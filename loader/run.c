// SPDX-License-Identifier: GPL-2.0-only
/* colo-bpf run: the daemon's command line and loop. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <bpf/libbpf.h>

#include "commands.h"
#include "daemon.h"
#include "log.h"
#include "options.h"

struct loop {
	int epoll;
	int timer;
	int signals;
	int ring;
	bool qmp_writes; /* QMP is polled for writing, too */
	bool qmp_watched;
};

static int watch(struct loop *loop, int fd, unsigned int events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* QMP's socket goes away by itself when it is closed. */
static void watch_qmp(struct loop *loop, struct daemon *d)
{
	bool writes = d->qmp && qmp_wants_write(d->qmp);
	struct epoll_event event = {.events = EPOLLIN};

	if (!d->qmp || !qmp_is_open(d->qmp))
		return;
	if (loop->qmp_watched && writes == loop->qmp_writes)
		return;
	event.data.fd = qmp_fd(d->qmp);
	if (writes)
		event.events |= EPOLLOUT;
	epoll_ctl(loop->epoll, loop->qmp_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, event.data.fd,
		  &event);
	loop->qmp_watched = true;
	loop->qmp_writes = writes;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int loop_open(struct loop *loop, struct daemon *d)
{
	int err;

	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	loop->signals = open_signals();
	d->ring = ring_buffer__new(d->dp.map_fd[MAP_EVENTS], daemon_ring_event, d, NULL);
	if (loop->epoll < 0 || loop->timer < 0 || loop->signals < 0 || !d->ring) {
		err = errno ? -errno : -ENOMEM;
		log_error("%s: the event loop cannot be set up: %s", d->options.name,
			  strerror(-err));
		return err;
	}
	loop->ring = ring_buffer__epoll_fd(d->ring);
	err = watch(loop, loop->timer, EPOLLIN);
	if (!err)
		err = watch(loop, loop->signals, EPOLLIN);
	if (!err)
		err = watch(loop, loop->ring, EPOLLIN);
	if (!err && d->peer.fd >= 0)
		err = watch(loop, d->peer.fd, EPOLLIN);
	return err;
}

static void loop_close(struct loop *loop, struct daemon *d)
{
	ring_buffer__free(d->ring);
	close(loop->signals);
	close(loop->timer);
	close(loop->epoll);
}

static void set_timer(struct loop *loop, struct daemon *d)
{
	__u64 next = daemon_next(d);
	struct itimerspec spec = {
		.it_value.tv_sec = next / 1000000000ULL,
		.it_value.tv_nsec = next % 1000000000ULL,
	};

	if (!next)
		spec.it_value.tv_nsec = 1;
	timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void on_signal(struct loop *loop, struct daemon *d)
{
	struct signalfd_siginfo info;

	while (read(loop->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			continue;
		log_info("%s: ends, the data path goes on without time-outs and checkpoints",
			 d->options.name);
		notify_manager("STOPPING=1");
		d->leaving = true;
		daemon_heartbeat(d);
		daemon_end(d, 0);
	}
}

static void on_ready(struct loop *loop, struct daemon *d, const struct epoll_event *event)
{
	int fd = event->data.fd;
	__u64 expired;

	if (fd == loop->timer) {
		if (read(fd, &expired, sizeof(expired)) < 0)
			return;
	} else if (fd == loop->signals) {
		on_signal(loop, d);
	} else if (fd == loop->ring) {
		ring_buffer__consume(d->ring);
	} else if (fd == d->peer.fd) {
		daemon_peer_input(d);
	} else if (server_owns(d, fd)) {
		if (!server_is_listener(d, fd))
			server_client(d, fd);
		else
			server_accept(d);
	} else if (d->qmp && fd == qmp_fd(d->qmp)) {
		if (event->events & EPOLLOUT)
			qmp_output(d->qmp);
		if (event->events & ~EPOLLOUT)
			qmp_input(d->qmp);
	}
}

static void loop_run(struct loop *loop, struct daemon *d)
{
	struct epoll_event events[16];

	while (!d->ending) {
		int count;

		daemon_timers(d);
		watch_qmp(loop, d);
		set_timer(loop, d);
		if (d->ending)
			break;
		count = epoll_wait(loop->epoll, events, 16, -1);
		for (int i = 0; i < count && !d->ending; i++)
			on_ready(loop, d, &events[i]);
	}
}

/* A busy host must not make this process late: the peer would give it up. */
static void take_precedence(void)
{
	struct sched_param param = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param) && errno != EPERM)
		log_debug("SCHED_RR: %s", strerror(errno));
	mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

static int open_parts(struct daemon *d)
{
	const char *peer = d->options.peer ? d->options.peer : d->dp.abi.peer;
	int err;

	if (d->dp.abi.netns_ino != datapath_netns()) {
		log_error(
			"%s was attached in another network namespace: run the daemon there, or with --netns",
			d->options.name);
		return -EXDEV;
	}
	err = datapath_repair(&d->dp);
	if (err)
		return err;
	if (*peer)
		err = peer_open(&d->peer, peer, d->dp.abi.link, d->options.peer_timeout_ms,
				daemon_now());
	else
		log_warning("%s: no --peer: nobody tells when the other host is gone",
			    d->options.name);
	if (!err)
		err = daemon_adopt(d);
	return err;
}

static int daemon_run(const struct daemon_options *options)
{
	struct daemon *d = calloc(1, sizeof(*d));
	struct loop loop = {.epoll = -1, .timer = -1, .signals = -1};
	int err;

	if (!d)
		return EXIT_FAILED;
	d->options = *options;
	daemon_init(d);
	err = datapath_open(options->name, &d->dp);
	if (err)
		goto out;
	err = open_parts(d);
	if (!err)
		err = loop_open(&loop, d);
	if (!err)
		err = server_open(d, loop.epoll);
	if (!err)
		err = hooks_connect(d);
	if (!err) {
		take_precedence();
		loop_run(&loop, d);
	}
	server_close(d);
	qmp_free(d->qmp);
	loop_close(&loop, d);
	peer_close(&d->peer);
	datapath_close(&d->dp);
out:
	err = err ? EXIT_FAILED : d->status;
	free(d);
	return err;
}

int cmd_run(int argc, char **argv)
{
	static const char *const policies[] = {
		[LOST_FAILOVER] = "failover",
		[LOST_MANUAL] = "manual",
		NULL,
	};
	struct daemon_options o = {
		.heartbeat_ms = 50,
		.peer_timeout_ms = 200,
		.ack_timeout_ms = 5000,
		.min_distance_ms = 5,
		.stop_percent = 50,
	};
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &o.name},
		{OPTION_TEXT, .name = "qmp", .required = true, .argument = "SOCKET",
		 .value = &o.qmp, .help = "a QMP socket of QEMU, the daemon's own"},
		{OPTION_TEXT, .name = "peer", .argument = "ADDR[:PORT]", .value = &o.peer,
		 .help = "the other host's daemon (as attached; port 7730)"},
		{OPTION_CHOICE, .name = "peer-lost", .argument = "POLICY",
		 .value = &o.peer_lost, .choices = policies,
		 .help = "when the peer is lost (failover); see colo-bpf(8) on split brain"},
		{OPTION_NUMBER, .name = "heartbeat-ms", .argument = "MS",
		 .value = &o.heartbeat_ms, .min = 1, .max = 10000,
		 .help = "a heartbeat to the peer each (50)"},
		{OPTION_NUMBER, .name = "peer-timeout-ms", .argument = "MS",
		 .value = &o.peer_timeout_ms, .min = 10, .max = 600000,
		 .help = "silence of the peer that is its loss (200)"},
		{OPTION_NUMBER, .name = "ack-timeout-ms", .argument = "MS",
		 .value = &o.ack_timeout_ms, .min = 100, .max = 600000,
		 .help = "QEMU waits that long for the daemon (5000)"},
		{OPTION_NUMBER, .name = "min-distance-ms", .argument = "MS",
		 .value = &o.min_distance_ms, .min = 0, .max = 60000,
		 .help = "the guest runs at least that long between checkpoints (5)"},
		{OPTION_NUMBER, .name = "stop-percent", .argument = "N",
		 .value = &o.stop_percent, .min = 1, .max = 100,
		 .help = "of the time the guest stands still for checkpoints at most (50)"},
		{OPTION_NUMBER, .name = "wait-qmp-s", .argument = "SECONDS",
		 .value = &o.wait_qmp_s, .min = 0, .max = 3600,
		 .help = "wait for the QMP socket to be there (0)"},
		{OPTION_TEXT, .name = "on-failover-qmp", .argument = "FILE",
		 .value = &o.on_failover,
		 .help = "QMP commands, a JSON object a line, before a failover (secondary: nbd-server-stop)"},
		{OPTION_END},
	};
	int status = options_parse("run", command_summary("run"), rows, argc, argv);

	if (status != -1)
		return status;
	if (o.peer_timeout_ms < 2 * o.heartbeat_ms)
		return options_bad(
			"run", "--peer-timeout-ms %u: must be at least twice --heartbeat-ms %u",
			o.peer_timeout_ms, o.heartbeat_ms);
	if (o.on_failover && !hooks_check_file(o.on_failover))
		return EXIT_FAILED;
	return daemon_run(&o);
}
