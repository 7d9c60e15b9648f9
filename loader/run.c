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

#include "clock.h"
#include "commands.h"
#include "daemon.h"
#include "log.h"
#include "options.h"
#include "pair.h"

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
		if (info.ssi_signo == SIGHUP) {
			daemon_reload(d);
			continue;
		}
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

/* The events of the maps that are open: anew after a switch of the role. */
static int ring_open(struct daemon *d)
{
	d->ring = ring_buffer__new(d->dp.map_fd[MAP_EVENTS], daemon_ring_event, d, NULL);
	return d->ring ?
		       loop_add(d->loop, ring_buffer__epoll_fd(d->ring), EPOLLIN, on_ring, d) :
		       -errno;
}

int daemon_switch_role(struct daemon *d, enum colo_role role)
{
	int err, ring;

	loop_remove(d->loop, ring_buffer__epoll_fd(d->ring));
	ring_buffer__free(d->ring);
	err = datapath_switch_role(&d->dp, role);
	if (!err)
		d->session.role = role;
	record_map(d);
	ring = ring_open(d);
	if (ring) {
		log_error("%s: the events of the data path cannot be read any more: %s",
			  d->options.name, strerror(-ring));
		daemon_end(d, EXIT_FAILED);
	}
	return err;
}

static int inputs_open(struct daemon *d)
{
	int err;

	signals = open_signals();
	err = signals < 0 ? -errno : ring_open(d);
	if (err) {
		log_error("%s: the event loop cannot be set up: %s", d->options.name,
			  strerror(-err));
		return err;
	}
	err = loop_add(d->loop, signals, EPOLLIN, on_signal, d);
	for (__u32 i = 0; !err && i < d->peer.paths; i++)
		err = loop_add(d->loop, d->peer.path[i].fd, EPOLLIN, on_peer, d);
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
		tasks_run(&d->tasks, clock_now());
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

/* The instance that is attached: is it the one that the file describes? */
static int check_device(const struct daemon *d, const char *name, const char *attached,
			const char *wanted)
{
	if (!strcmp(attached, wanted))
		return 0;
	log_error("%s: %s is %s, but %s was attached with %s: detach and attach it",
		  d->config->path, name, wanted, d->options.name, attached);
	return -EINVAL;
}

static void check_size(const struct daemon *d, const char *name, __u32 attached, __u32 wanted)
{
	if (attached != wanted)
		log_warning("%s: proxy.%s is %u; %s was attached with %u and keeps that",
			    d->config->path, name, wanted, d->options.name, attached);
}

static int check_instance(const struct daemon *d)
{
	const struct config_host *self = config_self(d->config);
	const struct colo_config *had = d->dp.config, *has = &d->config->proxy;

	check_size(d, "max_flows", had->max_flows, has->max_flows);
	check_size(d, "max_frames", had->max_frames, has->max_frames);
	check_size(d, "small_blocks", had->small_blocks, has->small_blocks);
	check_size(d, "big_blocks", had->big_blocks, has->big_blocks);
	return check_device(d, "guest", d->dp.abi.guest, self->guest) ||
			       check_device(d, "port", d->dp.abi.port, self->port) ||
			       check_device(d, "link", d->dp.abi.link, self->link) ?
		       -EINVAL :
		       0;
}

static int open_channel(struct daemon *d)
{
	const struct config_host *self = config_self(d->config), *peer = config_peer(d->config);
	const struct channel_options options = {
		.loop = d->loop,
		.daemon = d,
		.secret = d->config->secret,
		.self = self->name,
		.peer = peer->name,
		.address = self->address,
		.peer_address = peer->address,
		.device = self->link,
		.port = d->config->channel_port,
		.connects = d->config->role == COLO_ROLE_PRIMARY,
		.changed = daemon_channel_changed,
	};

	d->channel = channel_open(&options);
	if (!d->channel)
		return -EIO;
	return channel_methods(d->channel, takeover_methods)      ?:
		       channel_methods(d->channel, pair_methods)  ?:
		       channel_methods(d->channel, plain_methods) ?:
		       channel_methods(d->channel, record_methods);
}

static int open_parts(struct daemon *d)
{
	int err;

	if (d->dp.abi.netns_ino != datapath_netns()) {
		log_error(
			"%s was attached in another network namespace: run the daemon there, or with --netns",
			d->options.name);
		return -EXDEV;
	}
	err = datapath_repair(&d->dp);
	if (!err)
		err = check_instance(d);
	if (err)
		return err;
	daemon_set_proxy(d);
	err = peer_open(&d->peer, d->config, clock_now());
	if (!err)
		err = open_channel(d);
	if (!err)
		err = daemon_adopt(d);
	return err;
}

static int run_daemon(struct daemon *d)
{
	int err;

	/* before anything is touched that is that one's */
	if (server_is_there(d->options.name)) {
		log_error("%s: a daemon runs already", d->options.name);
		return -EBUSY;
	}
	err = datapath_open(d->options.name, &d->dp);
	if (err)
		return err;
	err = open_parts(d);
	if (!err)
		err = inputs_open(d);
	if (!err)
		err = server_open(d);
	if (!err) {
		hooks_connect(d);
		take_precedence();
		notify_manager("READY=1");
		run_loop(d);
	}
	watchdog_stop(d);
	tasks_end(&d->tasks);
	takeover_close(d);
	server_close(d);
	hooks_close(d);
	inputs_close(d);
	channel_close(d->channel);
	peer_close(&d->peer);
	datapath_close(&d->dp);
	return err;
}

static int daemon_run(const struct daemon_options *options)
{
	struct daemon *d = calloc(1, sizeof(*d));
	int status = EXIT_FAILED;

	if (!d)
		return status;
	d->options = *options;
	daemon_init(d);
	d->loop = loop_new();
	d->config = config_load(options->config);
	if (d->loop && d->config && !run_daemon(d))
		status = d->status;
	config_free(d->config);
	loop_free(d->loop);
	free(d);
	return status;
}

int cmd_run(int argc, char **argv)
{
	struct daemon_options o = {};
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &o.name},
		{OPTION_TEXT, .name = "config", .argument = "FILE", .value = &o.config,
		 .help = "the configuration (" CONFIG_DIR "/NAME.conf)"},
		{OPTION_TEXT, .name = "on-failover-qmp", .argument = "FILE",
		 .value = &o.on_failover,
		 .help = "QMP commands, a JSON object a line, before a failover (secondary: nbd-server-stop)"},
		{OPTION_END},
	};
	int status = options_parse("run", command_summary("run"), rows, argc, argv);
	char path[256];

	if (status != -1)
		return status;
	if (o.on_failover && !hooks_check_file(o.on_failover))
		return EXIT_FAILED;
	config_default_path(path, sizeof(path), o.name);
	if (!o.config)
		o.config = path;
	return daemon_run(&o);
}
