/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The configuration of a pair: one file, the same on both hosts but for the
 * line `role`. colo-bpf.conf(5) describes it; settings.c has each setting in
 * one row of a table, with its default and its bounds.
 */
#ifndef COLO_CONFIG_H
#define COLO_CONFIG_H

#include <stdbool.h>
#include <jansson.h>
#include <linux/types.h>

#include <colo/abi.h>

#include "secret.h"

#define CONFIG_DIR       "/etc/colo-bpf"
#define CONFIG_PATHS_MAX 4
#define CONFIG_DISKS_MAX 16
#define CONFIG_SETTINGS  80 /* rows of the table, at most */

/* One of the two hosts: the file's group `primary` or `secondary`. */
struct config_host {
	const char *name;    /* "primary", "secondary": what the host is called for good */
	const char *address; /* on the link, numeric */
	const char *path[CONFIG_PATHS_MAX]; /* its addresses on other ways to the peer */
	__u32 paths;
	const char *qmp; /* socket */
	const char *guest;
	const char *port;
	const char *link;
};

struct config_disk {
	const char *node;    /* the quorum node at the device, on both hosts */
	const char *replica; /* the node that the secondary exports by NBD */
};

enum config_takeover_policy {
	TAKEOVER_MANUAL,
	TAKEOVER_FENCE,
	TAKEOVER_WITNESS,
};

struct config_takeover {
	int policy;              /* enum config_takeover_policy */
	const char *fence;       /* command line */
	__u32 fence_timeout_ms;  /* for one run of it */
	__u32 fence_delay_ms;    /* the secondary starts it that much later */
	const char *witness;     /* tcp:ADDR:PORT or file:/DIR */
	__u32 lease_ms;          /* 0: no lease is asked for */
	__u32 daemon_timeout_ms; /* with a lease: a peer's daemon that stays away is lost */
};

struct config_checkpoint {
	__u32 period_ms;
	__u32 min_distance_ms;
	__u32 stop_percent; /* of the time, guests stand still for checkpoints at most */
};

enum config_hooks {
	HOOKS_AUTO,
	HOOKS_NEVER, /* as if QEMU had none of ours */
};

struct config {
	const char *path; /* of the file */
	int role;         /* enum colo_role: this host's at the first start */
	int context;      /* enum colo_context */
	struct config_host host[2];
	struct config_host shared; /* guest, port, link, qmp where both are alike */
	const char *secret_file;
	struct secret secret;
	const char *netdev; /* NULL: the guest's only one */
	struct config_disk disk[CONFIG_DISKS_MAX];
	__u32 disks;
	__u32 nbd_port;
	__u32 migration_port;
	__u32 peer_port;    /* UDP: heartbeats */
	__u32 channel_port; /* TCP: between the daemons */
	__u32 heartbeat_ms;
	__u32 peer_timeout_ms;
	__u32 qemu_timeout_ms;
	__u32 ack_timeout_ms;
	struct config_takeover takeover;
	struct config_checkpoint checkpoint;
	struct colo_config proxy; /* ifindexes 0 */
	int hooks;                /* enum config_hooks */
	/* Of each row of the table: where it stands, 0: its default holds. */
	unsigned int line[CONFIG_SETTINGS];
	const char *file[CONFIG_SETTINGS]; /* NULL: in `path`, not in one that it includes */
	/* The one that it took the place of, whose texts are in use; freed with it. */
	struct config *before;
};

extern const char *const config_policy_names[];
extern const char *const config_context_names[];

/* CONFIG_DIR/NAME.conf */
void config_default_path(char *path, size_t size, const char *name);

/*
 * Read and validate as a whole. NULL, after a message FILE:LINE: text for each
 * fault.
 */
struct config *config_load(const char *path);
void config_free(struct config *config);

/* This host, and the other: fixed by `role`, whatever has become of the roles since. */
const struct config_host *config_self(const struct config *config);
const struct config_host *config_peer(const struct config *config);

/* All values, defaults included. */
json_t *config_describe(const struct config *config);

/*
 * May `next` take the place of `now` in a daemon that runs? A message for each
 * setting that differs and may not. in_colo: what the pair has agreed on for
 * this COLO may not, either.
 */
bool config_may_replace(const struct config *now, const struct config *next, bool in_colo);

#endif
