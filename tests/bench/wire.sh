# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# To be sourced after tests/vm/lib.sh.

# A cable of the kernel hands a frame of 64 KB over as it is. A wire does not:
# it carries frames of its MTU, and who receives them joins them again (GRO).
# All ways have such a wire between port and clients.
wire_as_real() {
	local side

	for side; do
		on_host "$side" ethtool -K port tso off gro on ||
			die "port of $side: ethtool failed"
		on_host c ethtool -K "to-$side" tso off gro on ||
			die "the other end of $side's port: ethtool failed"
	done
}
