# SPDX-License-Identifier: GPL-2.0-only
# The runner of the packet cases (tests/cases/README.md).

CASES_SOURCES := $(wildcard tests/cases/*.c)
CASES_OBJECTS := $(CASES_SOURCES:tests/cases/%.c=$(BUILD)/cases/%.o)

CASES_LDLIBS  := $(LDLIBS) -lpcap

TEST_PREREQUISITES += $(BUILD)/cases-run

$(BUILD)/cases/%.o: tests/cases/%.c Makefile | $(BUILD)/cases $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/cases -MMD -MP -c $< -o $@

$(BUILD)/cases-run: $(CASES_OBJECTS) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CASES_LDLIBS) -o $@

$(BUILD)/cases:
	mkdir -p $@

-include $(CASES_OBJECTS:.o=.d)
