/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hooks of the context XDP: bpf_links, pinned in links/ by the names of their
 * programs.
 */
#ifndef COLO_XDP_H
#define COLO_XDP_H

#include "datapath.h"

/*
 * Before anything is loaded: can these devices have it? With a message. Fills in
 * config->xdp_frame_max.
 */
int xdp_check(const struct datapath_options *options, struct colo_config *config);

/* Attach the programs that are not yet; none of a secondary. With a message. */
int xdp_attach(const struct datapath *dp);

/*
 * Take them off at once: a link whose pin is gone ends only some time later, and
 * the device is busy until then. `name`: that of the pins.
 */
void xdp_detach(const char *name);

#endif
