# SPDX-License-Identifier: GPL-2.0-only
# Side by side with QEMU's own proxy (docs/performance.md).
#
#	make bench			all rows
#	make bench BENCH_ARGS=--quick	... in less than five minutes
#	make bench BENCH_ARGS='vm.rr proxy.tcp64'	single rows

BENCH_SOURCES := $(filter-out tests/bench/colo.c,$(wildcard tests/bench/*.c))
BENCH_OBJECTS := $(BENCH_SOURCES:tests/bench/%.c=$(BUILD)/bench/%.o)
# The rig of tests/scale, without its main().
BENCH_RIG     := $(addprefix $(BUILD)/scaling-test/,rig.o turns.o clock.o)

PACKAGE_FILES += tests/bench/packages

.PHONY: bench bench-needs
bench: need-root
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory bench-needs
	@BUILD=$(BUILD) tests/bench/run $(BENCH_ARGS)

bench-needs: vm-needs $(BUILD)/bench-proxy $(BUILD)/bench-colo $(BUILD)/tools/guestd

$(BUILD)/bench/%.o: tests/bench/%.c Makefile | $(BUILD)/bench $(BUILD)/scaling-test/sink.skel.h $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/bench -Itests/cases -Itests/scaling -I$(BUILD)/scaling-test -MMD -MP -c $< -o $@

$(BUILD)/bench-proxy: $(BENCH_OBJECTS)
$(BUILD)/bench-colo: $(BUILD)/bench/colo.o
$(BUILD)/bench-proxy $(BUILD)/bench-colo: $(BENCH_RIG) $(filter-out %/run.o,$(CASES_OBJECTS)) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CASES_LDLIBS) -lpthread -o $@

# The guests' server, for a namespace of this machine.
$(BUILD)/tools/guestd: tests/guest/guestd.c tests/guest/proto.h
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -o $@ $<

$(BUILD)/bench:
	mkdir -p $@

-include $(BENCH_OBJECTS:.o=.d) $(BUILD)/bench/colo.d

# The last run becomes the one that the documents are made from.
.PHONY: bench-keep bench-docs
bench-keep:
	cp $(BUILD)/bench.json docs/bench.json
	@$(MAKE) --no-print-directory bench-docs

bench-docs:
	@.ci/deps @tests/bench/packages
	tests/bench/document docs/bench.json
