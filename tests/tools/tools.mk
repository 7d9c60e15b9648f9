# SPDX-License-Identifier: GPL-2.0-only
# The tools of the VM tests: the client that loads and checks, qmp, what
# looks at the clients' network, and what loses frames.

BUILD ?= build
tools_cflags := -O2 -g -Wall -Wextra -Werror

tools: $(addprefix $(BUILD)/tools/,client qmp watch lossy-20.bpf.o lossy-1000.bpf.o)

$(BUILD)/tools/client: $(wildcard tests/tools/client.c tests/tools/work-*.c) \
		tests/tools/client.h tests/guest/proto.h
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -o $@ $(filter %.c,$^)

$(BUILD)/tools/qmp: tests/tools/qmp.c
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -o $@ $< -ljansson

$(BUILD)/tools/watch: tests/tools/watch.c
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -o $@ $<

$(BUILD)/tools/lossy-%.bpf.o: tests/tools/lossy.bpf.c
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -DLOSS_PERMILLE=$* -c $< -o $@

.PHONY: tools
