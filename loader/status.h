/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COLO_STATUS_H
#define COLO_STATUS_H

#include <jansson.h>

#include "datapath.h"

/* What the maps say of an instance. */
json_t *status_describe(const struct datapath *dp);

#endif
