# SPDX-License-Identifier: GPL-2.0-only
# The tools of the VM tests: the client that loads and checks, and qmp.

BUILD ?= build
tools_cflags := -O2 -g -Wall -Wextra -Werror

tools: $(BUILD)/tools/client $(BUILD)/tools/qmp

$(BUILD)/tools/client: $(wildcard tests/tools/client.c tests/tools/work-*.c) \
		tests/tools/client.h tests/guest/proto.h
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -o $@ $(filter %.c,$^)

$(BUILD)/tools/qmp: tests/tools/qmp.c
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -o $@ $< -ljansson

.PHONY: tools
