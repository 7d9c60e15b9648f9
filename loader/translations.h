/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The map `translations` as user space sees it: a resync copies it to the new
 * secondary.
 */
#ifndef COLO_TRANSLATIONS_H
#define COLO_TRANSLATIONS_H

#include <jansson.h>

#include "datapath.h"

/*
 * All of them, exactly if nothing passes meanwhile: an array of objects
 *
 *   guest, client          addresses
 *   guest_port, client_port
 *   vlan, vlan_inner       VIDs of the tags, absent without
 *   seq_delta, ts_delta    the client's number - the guest's number
 *   isn                    the guest's, absent if not known
 *   echo                   the client's highest TSecr, absent if it sent none
 *   guest_fin, client_fin, rst   true if it has ended so far, else absent
 *   idle_ms                since its last packet
 *
 * NULL: the map cannot be read, said on the log.
 */
json_t *translations_export(const struct datapath *dp);

/*
 * These instead of what there is. 0 or -errno with a message: -EINVAL, and what
 * there was stays, for a list that is none; else the map is empty afterwards.
 */
int translations_import(struct datapath *dp, const json_t *list);

int translations_clear(struct datapath *dp);

/* Flows whose clients know other numbers than the guest, and which have not ended. */
__u64 translations_count(const struct datapath *dp);

/* Has its flow ended: an RST, or FINs of both? */
bool translation_ended(const struct colo_translation *t);

#endif
