/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The BPF objects of one role, from the skeletons into the kernel and to their
 * pins: that of the role, and those that use its maps: of the port's egress, which
 * both roles have, and of a primary's XDP.
 */
#ifndef COLO_IMAGE_H
#define COLO_IMAGE_H

#include "datapath.h"

struct primary_bpf;
struct secondary_bpf;
struct port_bpf;
struct xdp_bpf;
struct bpf_object;

struct image {
	struct primary_bpf *primary;
	struct secondary_bpf *secondary;
	struct port_bpf *port;
	struct xdp_bpf *xdp;       /* NULL: not of this context */
	struct bpf_object *object; /* of the role */
};

/*
 * Load them with the sizes of config. `from`: take over the maps of that data
 * path which are not of one role only (NULL: all are new). 0 or -errno, with a
 * message; image_close() in any case.
 */
int image_load(struct image *image, enum colo_role role, enum colo_context context,
	       const struct colo_config *config, const struct datapath *from);
void image_close(struct image *image);

/* -1: there is no such map. */
int image_map_fd(const struct image *image, enum datapath_map map);

/* Under COLO_PIN_ROOT/folder, whose directories are there; with a message. */
int image_pin(const struct image *image, const char *folder);

#endif
