# SPDX-License-Identifier: GPL-2.0-only
# The switch of an instance's role under load, and its daemon's death on the way.

TEST_PREREQUISITES += $(BUILD)/role

$(BUILD)/role-tests/%.o: tests/role/%.c Makefile | $(BUILD)/role-tests $(SKELETONS)
	$(CC) $(ALL_CFLAGS) -Itests/cases -MMD -MP -c $< -o $@

# With the frames and devices of the case runner.
$(BUILD)/role: $(BUILD)/role-tests/main.o $(filter-out %/run.o,$(CASES_OBJECTS)) $(LOADER_LIB)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CASES_LDLIBS) -lpthread -o $@

$(BUILD)/role-tests:
	mkdir -p $@

-include $(BUILD)/role-tests/main.d
