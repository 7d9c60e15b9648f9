// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "commands.h"
#include "config.h"
#include "datapath.h"
#include "log.h"
#include "options.h"
#include "peer.h"
#include "pin.h"

enum { ROLE_PRIMARY, ROLE_SECONDARY };

static const char *const roles[] = {
	[ROLE_PRIMARY] = "primary",
	[ROLE_SECONDARY] = "secondary",
	NULL,
};

/*
 * Pins in a mount namespace that ends with this process would be gone at once,
 * and the hooks would stay: `ip netns exec` makes such a one.
 */
static int check_mounts(void)
{
	if (pin_mounted() || !pin_private_mounts())
		return 0;
	log_error(
		"/sys/fs/bpf is no BPF file system in this mount namespace, and pins made here would vanish with it (`ip netns exec` does that): use --netns, or mount one: `mount -t bpf bpf /sys/fs/bpf`");
	return -EXDEV;
}

static int check_peer(const char *peer)
{
	struct sockaddr_storage address;
	socklen_t length;

	if (!peer)
		return -1;
	if (!peer_parse_address(peer, &address, &length) &&
	    strlen(peer) < sizeof(((struct colo_abi *)0)->peer))
		return -1;
	return options_bad("attach", "--peer \"%s\": is not ADDR, ADDR:PORT or [ADDR6]:PORT",
			   peer);
}

/* All of it is on the command line, or all of it in the file. */
static int check_devices(const struct datapath_options *o)
{
	if (!o->guest)
		return options_bad("attach", "--guest DEV is missing");
	if (!o->port)
		return options_bad("attach", "--port DEV is missing");
	if (!o->link)
		return options_bad("attach", "--link DEV is missing");
	return check_peer(o->peer);
}

static enum colo_role role_number(int choice)
{
	return choice == ROLE_PRIMARY ? COLO_ROLE_PRIMARY : COLO_ROLE_SECONDARY;
}

/* Said on the command line, or by a configuration. */
static bool has_devices(const struct datapath_options *o)
{
	static const struct colo_config none;

	return o->guest || o->port || o->link || o->peer ||
	       memcmp(&o->config, &none, sizeof(none));
}

/* role, context: -1, the file's. A host that comes back has the other role perhaps. */
static int attach_config(struct datapath_options *o, const char *file, int role, int context)
{
	const struct config_host *self;
	struct config *config;
	char path[256], peer[64];
	int err;

	config_default_path(path, sizeof(path), o->name);
	config = config_load(file ? file : path);
	if (!config)
		return EXIT_FAILED;
	o->context = (enum colo_context)(context < 0 ? config->context : context);
	self = config_self(config);
	o->role = role < 0 ? (enum colo_role)config->role : role_number(role);
	o->guest = self->guest;
	o->port = self->port;
	o->link = self->link;
	peer_text(peer, sizeof(peer), config_peer(config)->address, config->peer_port);
	o->peer = peer;
	o->config = config->proxy;
	err = datapath_attach(o);
	/* These were lent. */
	o->guest = o->port = o->link = o->peer = NULL;
	config_free(config);
	return err ? EXIT_FAILED : EXIT_OK;
}

int cmd_attach(int argc, char **argv)
{
	struct datapath_options o = {};
	struct colo_config *c = &o.config;
	const char *file = NULL;
	int role = -1, context = -1;
	const struct option_row rows[] = {
		{OPTION_NAME, .argument = "NAME", .required = true, .value = &o.name},
		{OPTION_TEXT, .name = "config", .argument = "FILE", .value = &file,
		 .help = "the configuration (" CONFIG_DIR "/NAME.conf)"},
		{OPTION_CHOICE, .name = "role", .argument = "ROLE", .value = &role,
		 .choices = roles,
		 .help = "which side this host is now, if not what the configuration says"},
		{OPTION_CHOICE, .name = "context", .argument = "CONTEXT", .value = &context,
		 .choices = config_context_names,
		 .help = "where a primary looks at frames first, tc or xdp (tc, or the file's)"},
		{OPTION_TEXT, .name = "guest", .argument = "DEV", .value = &o.guest,
		 .help = "the guest's tap"},
		{OPTION_TEXT, .name = "port", .argument = "DEV", .value = &o.port,
		 .help = "the device where the clients are"},
		{OPTION_TEXT, .name = "link", .argument = "DEV", .value = &o.link,
		 .help = "the device to the other host; MTU: the port's + 4"},
		{OPTION_TEXT, .name = "peer", .argument = "ADDR[:PORT]", .value = &o.peer,
		 .help = "the other host's address on the link, for the daemon"},
		{OPTION_NUMBER, .name = "compare-timeout-ms", .argument = "MS",
		 .value = &c->compare_timeout_ms, .min = 1, .max = 3600000,
		 .help = "the bound of every wait (3000)"},
		{OPTION_NUMBER, .name = "reorder-ms", .argument = "MS", .value = &c->reorder_ms,
		 .min = 1, .max = 60000, .help = "datagrams may come that much later (2)"},
		{OPTION_NUMBER, .name = "reorder-window", .argument = "N",
		 .value = &c->reorder_window, .min = 1, .max = 64,
		 .help = "or behind that many (8)"},
		{OPTION_NUMBER, .name = "queue-max", .argument = "N", .value = &c->queue_max,
		 .min = 1, .max = 1 << 20, .help = "held frames of a flow and side (4096)"},
		{OPTION_NUMBER, .name = "flow-grace-ms", .argument = "MS",
		 .value = &c->flow_grace_ms, .min = 1, .max = 86400000,
		 .help = "closed flows are kept that long (10000)"},
		{OPTION_NUMBER, .name = "flow-idle-ms", .argument = "MS",
		 .value = &c->flow_idle_ms, .min = 1, .max = 0xffffffff,
		 .help = "idle flows are kept that long (600000)"},
		{OPTION_NUMBER, .name = "max-flows", .argument = "N", .value = &c->max_flows,
		 .min = 1, .max = 1 << 24, .help = "flows (1000000)"},
		{OPTION_NUMBER, .name = "max-frames", .argument = "N", .value = &c->max_frames,
		 .min = 1, .max = 1 << 22, .help = "held frames of all flows (32768)"},
		{OPTION_NUMBER, .name = "small-blocks", .argument = "N",
		 .value = &c->small_blocks, .min = 1, .max = 1 << 19,
		 .help = "of 2 KB, for their payload (8192)"},
		{OPTION_NUMBER, .name = "big-blocks", .argument = "N", .value = &c->big_blocks,
		 .min = 1, .max = 1 << 14, .help = "of 64 KB, likewise (768)"},
		{OPTION_END},
	};
	int status = options_parse("attach", command_summary("attach"), rows, argc, argv);

	if (status == -1 && file && has_devices(&o))
		status = options_bad("attach", "--config: the file has the devices and sizes");
	if (status == -1 && has_devices(&o))
		status = role < 0 ? options_bad("attach", "--role ROLE is missing") :
				    check_devices(&o);
	if (status != -1)
		return status;
	if (check_mounts())
		return EXIT_FAILED;
	if (!has_devices(&o))
		return attach_config(&o, file, role, context);
	o.role = role_number(role);
	o.context = context < 0 ? COLO_CONTEXT_TC : (enum colo_context)context;
	return datapath_attach(&o) ? EXIT_FAILED : EXIT_OK;
}
