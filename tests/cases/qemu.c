// SPDX-License-Identifier: GPL-2.0-only
#include "cases.h"
struct proxy qemu_proxy = {.name = "qemu"};
