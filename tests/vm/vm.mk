# SPDX-License-Identifier: GPL-2.0-only
# The tests with real VMs, and the demonstration.

# Each builds what is missing, packages included, and is to be run as root.
.PHONY: demo test-vm guest vm-needs
demo: need-root
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory vm-needs
	@BUILD=$(BUILD) tests/demo/run

test-vm: need-root vm-needs
	@BUILD=$(BUILD) tests/vm/run

guest:
	@tests/guest/build

vm-needs: all qemu guest tools $(BUILD)/tools/insns

# Asks the kernel, so it must run in the guest as it is.
$(BUILD)/tools/insns: tests/vm/insns.c
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -static -o $@ $<

TEST_PREREQUISITES += vm-needs
