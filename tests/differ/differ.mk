# SPDX-License-Identifier: GPL-2.0-only
# colo-bpf against QEMU's colo-compare, by random sequences (tests/differ/README.md).

DIFFER_SOURCES := $(wildcard tests/differ/*.c)
DIFFER_OBJECTS := $(DIFFER_SOURCES:tests/differ/%.c=$(BUILD)/differ/%.o)

TEST_PREREQUISITES += $(BUILD)/differential

$(BUILD)/differ/%.o: tests/differ/%.c Makefile | $(BUILD)/differ $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/cases -Itests/differ -MMD -MP -c $< -o $@

# All of the case runner but its main().
$(BUILD)/differential: $(DIFFER_OBJECTS) $(filter-out %/run.o,$(CASES_OBJECTS)) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CASES_LDLIBS) -o $@

$(BUILD)/differ:
	mkdir -p $@

-include $(DIFFER_OBJECTS:.o=.d)
