# SPDX-License-Identifier: GPL-2.0-only
# The tests with real VMs, and the demonstration.

# Each builds what is missing, packages included, and is to be run as root.
.PHONY: demo test-vm guest vm-needs
demo: need-root
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory vm-needs
	@BUILD=$(BUILD) tests/demo/run

test-vm: need-root vm-needs verifier-needs
	@BUILD=$(BUILD) tests/vm/run

guest:
	@tests/guest/build

vm-needs: all qemu guest tools

TEST_PREREQUISITES += vm-needs verifier-needs

# --- the verifiers of several kernels, the objects of several compilers ------

VERIFIER_BUILDS := clang-14 clang-19

.PHONY: verifier verifier-baseline verifier-needs verifier-deps $(VERIFIER_BUILDS)
verifier: need-root
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory verifier-needs
	@BUILD=$(BUILD) tests/vm/run verifier

# Do this where a count has grown or fallen for a reason, and say it in the commit.
verifier-baseline: need-root
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory verifier-needs
	@BUILD=$(BUILD) tests/vm/verifier.test --baseline

verifier-needs: qemu $(BUILD)/tools/verified $(VERIFIER_BUILDS)

# Not in packages: who builds or runs colo-bpf has no need of a second compiler.
verifier-deps:
	@.ci/deps $(VERIFIER_BUILDS)

# A target is the name of a compiler and of its package.
$(VERIFIER_BUILDS): verifier-deps
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/$@ CLANG=$@ all

# Asks the kernel, so it must run in the guest as it is.
$(BUILD)/tools/verified: tests/vm/verified.c
	@mkdir -p $(@D)
	$(CC) $(tools_cflags) -static -o $@ $<
