# SPDX-License-Identifier: GPL-2.0-only
# The oracle: random streams of both guests (tests/streams/README.md).

STREAMS_SOURCES := $(wildcard tests/streams/*.c)
STREAMS_OBJECTS := $(STREAMS_SOURCES:tests/streams/%.c=$(BUILD)/streams/%.o)

TEST_PREREQUISITES += $(BUILD)/oracle

$(BUILD)/streams/%.o: tests/streams/%.c Makefile | $(BUILD)/streams $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/cases -Itests/streams -MMD -MP -c $< -o $@

# All of the case runner but its main().
$(BUILD)/oracle: $(STREAMS_OBJECTS) $(filter-out %/run.o,$(CASES_OBJECTS)) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CASES_LDLIBS) -o $@

$(BUILD)/streams:
	mkdir -p $@

-include $(STREAMS_OBJECTS:.o=.d)
