# SPDX-License-Identifier: GPL-2.0-only
# A million flows, and full tables (tests/scale).

SCALING_SOURCES := $(wildcard tests/scaling/*.c)
SCALING_SOURCES := $(filter-out %.bpf.c,$(SCALING_SOURCES))
SCALING_OBJECTS := $(SCALING_SOURCES:tests/scaling/%.c=$(BUILD)/scaling-test/%.o)

.SECONDARY: $(BUILD)/scaling-test/sink.bpf.o $(BUILD)/scaling-test/sink.skel.h

TEST_PREREQUISITES += $(BUILD)/scaling

$(BUILD)/scaling-test/%.bpf.o: tests/scaling/%.bpf.c tests/scaling/sink.h Makefile | $(BUILD)/scaling-test
	$(CLANG) $(BPF_CFLAGS) -Itests/scaling -c $< -o $@

$(BUILD)/scaling-test/%.skel.h: $(BUILD)/scaling-test/%.bpf.o
	$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(BUILD)/scaling-test/%.o: tests/scaling/%.c Makefile | $(BUILD)/scaling-test/sink.skel.h $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/cases -Itests/scaling -I$(BUILD)/scaling-test -MMD -MP -c $< -o $@

# All of the case runner but its main().
$(BUILD)/scaling: $(SCALING_OBJECTS) $(filter-out %/run.o,$(CASES_OBJECTS)) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CASES_LDLIBS) -lpthread -o $@

$(BUILD)/scaling-test:
	mkdir -p $@

-include $(SCALING_OBJECTS:.o=.d)
