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

#include <bpf/libbpf.h>

#include "commands.h"
#include "daemon.h"
#include "log.h"
#include "options.h"

static int signals = -1;

static void on_ring(void *context, __u32 events)
{
	struct daemon *d = context;

	(void)events;
	ring_buffer__consume(d->ring);
}

static void on_peer(void *context, __u32 events)
{
	(void)events;
	daemon_peer_input(context);
}

static void on_signal(void *context, __u32 events)
{
	struct signalfd_siginfo info;
	struct daemon *d = context;

	(void)events;
	while (read(signals, &info, sizeof(info)) == sizeof(info)) {
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

static int inputs_open(struct daemon *d)
{
	int err;

	signals = open_signals();
	d->ring = ring_buffer__new(d->dp.map_fd[MAP_EVENTS], daemon_ring_event, d, NULL);
	if (signals < 0 || !d->ring) {
		err = errno ? -errno : -ENOMEM;
		log_error("%s: the event loop cannot be set up: %s", d->options.name,
			  strerror(-err));
		return err;
	}
	err = loop_add(d->loop, signals, EPOLLIN, on_signal, d);
	if (!err)
		err = loop_add(d->loop, ring_buffer__epoll_fd(d->ring), EPOLLIN, on_ring, d);
	if (!err && d->peer.fd >= 0)
		err = loop_add(d->loop, d->peer.fd, EPOLLIN, on_peer, d);
	return err;
}

static void inputs_close(struct daemon *d)
{
	ring_buffer__free(d->ring);
	close(signals);
}

static void run_loop(struct daemon *d)
{
	while (!d->ending) {
		daemon_timers(d);
		if (d->ending || loop_once(d->loop, daemon_next(d)))
			break;
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
	int err = 0;

	if (d->dp.abi.netns_ino != datapath_netns()) {
		log_error(
			"%s was attached in another network namespace: run the daemon there, or with --netns",
			d->options.name);
		return -EXDEV;
	}
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
	int err;

	if (!d)
		return EXIT_FAILED;
	d->options = *options;
	daemon_init(d);
	d->loop = loop_new();
	err = d->loop ? datapath_open(options->name, &d->dp) : -ENOMEM;
	if (err)
		goto out;
	err = open_parts(d);
	if (!err)
		err = inputs_open(d);
	if (!err)
		err = server_open(d);
	if (!err)
		err = hooks_connect(d);
	if (!err) {
		take_precedence();
		run_loop(d);
	}
	server_close(d);
	qmp_free(d->qmp);
	inputs_close(d);
	peer_close(&d->peer);
	datapath_close(&d->dp);
out:
	loop_free(d->loop);
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
