# SPDX-License-Identifier: GPL-2.0-only
#
# Included from the top Makefile.
#
# qemu                the patched QEMU, in the cache; QEMU_DIR says where
# qemu-check-patches  each patch of the series applies and builds (minutes)

QEMU_BUILD := $(dir $(lastword $(MAKEFILE_LIST)))build
QEMU_DIR = $(shell $(QEMU_BUILD) --print)

.PHONY: qemu qemu-check-patches

qemu:
	$(QEMU_BUILD)

qemu-check-patches:
	$(QEMU_BUILD) --check-patches
