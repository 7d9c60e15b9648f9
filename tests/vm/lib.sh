# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# A pair of VMs on two hosts that are network namespaces of this machine, with
# colo-bpf between guests and clients. To be sourced; see tests/demo/run for
# the plainest use:
#
#	pair_begin		namespaces, wires, taps; removed at exit
#	pair_up			disks, both QEMUs, proxy, COLO
#	client rr --count 9	a client of the guest, in the client network
#	host_kill p host	...
#	pair_down		ends what pair_up began; pair_up may follow
#
#	   client network ($id-c): bridge "clients", 10.9.0.1/24
#	      |port                            |port
#	   primary host ($id-p)             secondary host ($id-s)
#	      guest (tap) - PVM                guest (tap) - SVM
#	      link 10.99.0.1 ================= link 10.99.0.2
#
# A side is p or s throughout: the host, whatever its VM has become since. The
# namespaces are entered by setns only (nsenter --net): `ip netns exec` would
# give a fresh /sys, and with it another bpffs than the one with the pins.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${BUILD:-build}
[[ $build == /* ]] || build=$top/$build
colo_bpf=$build/colo-bpf
cache=${COLO_BPF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/colo-bpf}

guest_ip=10.9.0.10
guest_mac=02:00:00:00:00:10
guest_mb=128
disk_mb=64

id=cb$$		# two runs at once must not meet
dir=		# all files of this run
declare -A qemu_pid=() daemon_pid=() link_ip=([p]=10.99.0.1 [s]=10.99.0.2)
declare -A role=([p]=primary [s]=secondary)
client_pids=()

# --- words and waits --------------------------------------------------------

say() {
	printf '%s\n' "$*"
}

# Fails with a message; in a subshell of a test it ends that test only.
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

now_ms() {
	local t=$EPOCHREALTIME

	echo $((${t/[.,]/} / 1000))
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
	local until=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000)) what=$2 bound=$1

	shift 2
	until "$@" >/dev/null 2>&1; do
		if ((${EPOCHREALTIME/[.,]/} >= until)); then
			echo "error: $what: not within $bound s" >&2
			return 1
		fi
		sleep 0.02
	done
}

need() {
	local tool

	for tool in "$@"; do
		[ -n "$(command -v "$tool")" ] ||
			die "$tool is missing (make, make deps)"
	done
}

# --- the hosts and their network --------------------------------------------

# in_host SIDE COMMAND...: in the namespace of host p or s, or of clients (c).
# It execs, so that `in_host ... &` has the command's own pid in $!.
in_host() {
	local side=$1

	shift
	exec nsenter --net="/run/netns/$id-$side" -- "$@"
}

on_host() {
	(in_host "$@")
}

# The hosts' own IPv6 chatter has no business on the wires under test. It is set
# before there are devices, and a kernel without IPv6 has nothing to set.
no_ipv6() {
	on_host "$1" sh -c '
		cd /proc/sys/net/ipv6/conf 2>/dev/null || exit 0
		echo 1 >default/disable_ipv6'
}

net_host() {
	local side=$1

	ip link add name port netns "$id-$side" type veth \
		peer name "to-$side" netns "$id-c"
	on_host c ip link set dev "to-$side" master clients up
	on_host "$side" ip tuntap add dev guest mode tap vnet_hdr
	on_host "$side" ip link set dev lo up
	on_host "$side" ip link set dev port up
	on_host "$side" ip link set dev guest up
}

# The link carries one 802.1Q tag more than the port's frames.
net_up() {
	local side

	for side in c p s; do
		ip netns add "$id-$side"
		no_ipv6 "$side"
	done
	on_host c ip link add clients type bridge
	on_host c ip addr add 10.9.0.1/24 dev clients
	on_host c ip link set dev lo up
	on_host c ip link set dev clients up
	net_host p
	net_host s
	ip link add name link mtu 1600 netns "$id-p" type veth \
		peer name link mtu 1600 netns "$id-s"
	for side in p s; do
		on_host "$side" ip addr add "${link_ip[$side]}/24" dev link
		on_host "$side" ip link set dev link up
	done
}

# A host that died takes its wires with it; this lays them again.
net_mend() {
	local side

	for side in p s; do
		on_host "$side" ip link set dev port up
		on_host "$side" ip link set dev link up
	done
	on_host c ip neigh flush all
	on_host c ip link set dev clients type bridge fdb_flush 2>/dev/null || true
}

# --- the guests -------------------------------------------------------------

# The directory of the QEMU to run, with qemu-system-x86_64 and qemu-img.
find_qemu() {
	qemu_dir=${COLO_BPF_QEMU_DIR:-$("$top/qemu-glue/build" --print)} ||
		die "qemu-glue/build --print failed"
	qemu=$qemu_dir/qemu-system-x86_64
	[ -x "$qemu" ] || die "no $qemu (make qemu)"
}

# qemu_common SIDE: what both sides have alike, to the last device. Without
# such equality the state of one does not load into the other.
#
# no_timer_check: on a busy machine the kernel of a TCG guest sees its timer too
# late to believe in it, and panics.
qemu_common() {
	local accel=tcg,thread=multi cpu=qemu64

	if [ "$(accel)" = kvm ]; then
		accel=kvm
		cpu=host
	fi
	printf '%s\n' -M pc,usb=off,vmport=off -accel "$accel" -cpu "$cpu" \
		-smp 1 -m "$guest_mb" -nodefaults -no-user-config -display none \
		-L /usr/share/qemu -L /usr/share/seabios \
		-kernel "$guest_dir/vmlinuz" -initrd "$guest_dir/initrd" \
		-append "console=ttyS0 quiet no_timer_check panic=-1 ipv6.disable=1 colo.ip=$guest_ip/24"
}

qemu_devices() {
	local side=$1

	printf '%s\n' \
		-netdev tap,id=net0,ifname=guest,script=no,downscript=no,vhost=off \
		-device "virtio-net-pci,netdev=net0,mac=$guest_mac,romfile=${nic_options-}" \
		-device virtio-blk-pci,drive=colo-disk0 \
		-serial "file:$dir/$side.console" \
		-qmp "unix:$dir/$side.qmp,server=on,wait=off" \
		-qmp "unix:$dir/$side.qmp-daemon,server=on,wait=off" \
		-no-reboot
}

disk_primary() {
	printf '%s\n' \
		-blockdev "driver=raw,node-name=disk0,file.driver=file,file.filename=$dir/p.raw" \
		-blockdev driver=quorum,node-name=colo-disk0,read-pattern=fifo,vote-threshold=1,children.0=disk0
}

# What the SVM writes goes to "active", what the PVM overwrites meanwhile is
# kept in "hidden", and "parent0" is the primary's replica, served by NBD.
disk_secondary() {
	printf '%s\n' \
		-blockdev "driver=raw,node-name=parent0,file.driver=file,file.filename=$dir/s.raw" \
		-blockdev "driver=replication,mode=secondary,node-name=childs0,top-id=colo-disk0,file.driver=qcow2,file.file.driver=file,file.file.filename=$dir/active.qcow2,file.backing.driver=qcow2,file.backing.file.driver=file,file.backing.file.filename=$dir/hidden.qcow2,file.backing.backing=parent0" \
		-blockdev driver=quorum,node-name=colo-disk0,read-pattern=fifo,vote-threshold=1,children.0=childs0
}

make_disks() {
	local f

	rm -f "$dir"/*.raw "$dir"/*.qcow2
	truncate -s "${disk_mb}M" "$dir/p.raw"
	# Nothing that the guest's kernel would finish in the background.
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$dir/p.raw"
	cp --sparse=always "$dir/p.raw" "$dir/s.raw"
	for f in active hidden; do
		"$qemu_dir/qemu-img" create -q -f qcow2 "$dir/$f.qcow2" \
			"${disk_mb}M"
	done
}

# boot SIDE: the PVM stays stopped until COLO starts it together with the SVM,
# since what it wrote before would not be on the replica.
boot() {
	local side=$1 args

	rm -f "$dir/$side".{console,qmp,qmp-daemon}
	mapfile -t args < <(
		qemu_common
		if [ "$side" = p ]; then disk_primary; else disk_secondary; fi
		qemu_devices "$side"
	)
	if [ "$side" = p ]; then
		args+=(-S)
	else
		args+=(-incoming "tcp:${link_ip[s]}:9998")
	fi
	in_host "$side" "$qemu" "${args[@]}" </dev/null \
		>"$dir/$side.qemu.log" 2>&1 &
	qemu_pid[$side]=$!
	echo "$!" >"$dir/$side.qemu.pid"
	disown
}

# qmp SIDE STEP...: see tests/tools/qmp.c
qmp() {
	local side=$1

	shift
	"$build/tools/qmp" "$dir/$side.qmp" "$@"
}

# Can KVM boot this guest, or only TCG? Found once per kernel and remembered.
# COLO_BPF_ACCEL=tcg|kvm overrides.
accel() {
	local known

	known=$cache/accel-$(uname -r)
	if [ -n "${COLO_BPF_ACCEL-}" ]; then
		echo "$COLO_BPF_ACCEL"
	elif [ -e "$known" ]; then
		cat "$known"
	elif [ ! -w /dev/kvm ]; then
		echo tcg
	else
		if kvm_boots; then echo kvm; else echo tcg; fi |
			tee "$known"
	fi
}

kvm_boots() {
	local out

	out=$(timeout 15 "$qemu" -M pc,usb=off,vmport=off -accel kvm -cpu host \
		-m "$guest_mb" -nodefaults -no-user-config -display none \
		-L /usr/share/qemu -L /usr/share/seabios -no-reboot \
		-kernel "$guest_dir/vmlinuz" -initrd "$guest_dir/initrd" \
		-append "console=ttyS0 quiet no_timer_check panic=-1 colo.probe=1" \
		-serial stdio </dev/null 2>&1) || true
	[[ $out == *"guestd: ready"* ]]
}

guest_ready() {
	grep -q 'guestd: ready' "$dir/p.console" &&
		grep -q 'guestd: ready' "$dir/s.console"
}

# --- COLO -------------------------------------------------------------------

# The replica first, then the primary's second quorum child, then the state.
# The NBD node has a name of its own, so that it can be yanked (disk_alone).
colo_start() {
	qmp s --quiet --timeout 10 \
		migrate-set-capabilities '{"capabilities": [{"capability": "x-colo", "state": true}]}' \
		nbd-server-start '{"addr": {"type": "inet", "data": {"host": "'"${link_ip[s]}"'", "port": "9999"}}}' \
		block-export-add '{"type": "nbd", "id": "replica", "node-name": "parent0", "writable": true}' ||
		return 1
	qmp p --quiet --timeout 20 \
		blockdev-add '{"driver": "nbd", "node-name": "nbd0", "server": {"type": "inet", "host": "'"${link_ip[s]}"'", "port": "9999"}, "export": "parent0"}' \
		blockdev-add '{"driver": "replication", "mode": "primary", "node-name": "replication0", "file": "nbd0"}' \
		x-blockdev-change '{"parent": "colo-disk0", "node": "replication0"}' \
		migrate-set-capabilities '{"capabilities": [{"capability": "x-colo", "state": true}]}' \
		migrate-set-parameters '{"max-bandwidth": 4294967296, "x-checkpoint-delay": '"${checkpoint_delay_ms:-600000}"'}' \
		migrate '{"uri": "tcp:'"${link_ip[s]}"':9998"}'
}

in_colo() {
	local side

	for side in p s; do
		[ "$(qmp "$side" query-colo-status | jq -r .mode)" = \
			"${role[$side]}" ] || return 1
	done
}

# --- the proxy --------------------------------------------------------------

# proxy SIDE COMMAND [ARG...]: colo-bpf in the host's namespace. The two hosts
# share one /sys/fs/bpf here, so the names differ.
proxy() {
	local side=$1 command=$2

	shift 2
	on_host "$side" "$colo_bpf" "$command" "$id-$side" "$@"
}

# The same on both hosts but for the role, which here are one machine: a file
# for each.
proxy_config() {
	local side=$1

	cat >"$dir/$side.conf" <<-END
	role = "${role[$side]}";
	guest = "guest"; port = "port"; link = "link";
	primary = { address = "${link_ip[p]}"; qmp = "$dir/p.qmp-daemon"; };
	secondary = { address = "${link_ip[s]}"; qmp = "$dir/s.qmp-daemon"; };
	secret_file = "$dir/secret";
	disks = ( { node = "colo-disk0"; replica = "parent0"; } );
	takeover = { policy = "fence"; fence = "$dir/fence %h"; };
	END
}

# fence primary|secondary: what a power switch does. It succeeds only when
# nothing of that host is left: no process, no wire.
fence_script() {
	cat <<-END >"$dir/fence"
	#!/bin/bash
	side=\${1:0:1} by=p
	[ "\$side" = s ] || by=s
	echo "\$\$" >"$dir/\$by.fence.pid"
	echo "\$EPOCHREALTIME \$1" >>"$dir/fenced"
	exec "$BASH" "$top/tests/vm/fence" "$id-\$side" "$dir/\$side"
	END
	chmod 755 "$dir/fence"
}

proxy_attach() {
	proxy "$1" attach --config "$dir/$1.conf"
}

# What the survivor's QEMU must be told about its disk before it goes on alone.
# The secondary's NBD server ends by the daemon's default. On a primary, yank
# comes first and out of band: a host that died without a last word leaves NBD
# requests and perhaps a checkpoint in flight, QEMU's main loop waits for them,
# and every other command waits for the main loop.
failover_commands() {
	cat <<-'END' >"$dir/p.failover"
	{"exec-oob": "yank", "arguments": {"instances": [{"type": "block-node", "node-name": "nbd0"}, {"type": "migration"}]}}
	{"execute": "x-blockdev-change", "arguments": {"parent": "colo-disk0", "child": "children.1"}}
	END
	cat <<-'END' >"$dir/s.failover"
	{"execute": "nbd-server-stop"}
	END
}

daemon_start() {
	local side=$1

	in_host "$side" "$colo_bpf" run "$id-$side" \
		--config "$dir/$side.conf" \
		--on-failover-qmp "$dir/$side.failover" </dev/null \
		>>"$dir/$side.daemon.log" 2>&1 &
	daemon_pid[$side]=$!
	echo "$!" >"$dir/$side.daemon.pid"
	disown
}

# --- a pair -----------------------------------------------------------------

# pair_begin: once per script. Whatever ends the script, pair_end undoes it.
pair_begin() {
	[ "$(id -u)" = 0 ] || die "must run as root"
	need nsenter ip jq mkfs.ext4 e2fsck debugfs "$build/tools/client" \
		"$build/tools/qmp" "$colo_bpf"
	find_qemu
	guest_dir=$("$top/tests/guest/build") || die "no test guest"
	dir=$(mktemp -d "${TMPDIR:-/tmp}/colo-bpf-vm.XXXXXX")
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap pair_end EXIT
	failover_commands
	(umask 077 && head -c 32 /dev/urandom >"$dir/secret")
	proxy_config p
	proxy_config s
	fence_script
	net_up
}

pair_up() {
	make_disks
	: >"$dir/p.daemon.log"
	: >"$dir/s.daemon.log"
	boot s
	boot p
	proxy_attach p || die "attach on the primary failed"
	proxy_attach s || die "attach on the secondary failed"
	daemon_start p
	daemon_start s
	wait_for 10 "the daemons at their QEMUs" proxies_ready || pair_fail
	colo_start || pair_fail
	wait_for 30 "COLO on both sides" in_colo || pair_fail
	wait_for "${boot_s:-60}" "both guests' services" guest_ready || pair_fail
}

# The daemon has its QEMU and its peer.
proxy_ready() {
	proxy "$1" status -j |
		jq -e '.daemon | .qemu and .peer == "alive"'
}

proxies_ready() {
	proxy_ready p && proxy_ready s
}

# What a failure leaves behind is the only trace of its reason.
show_logs() {
	local f

	for f in "$dir"/*.log "$dir"/*.console; do
		[ -s "$f" ] || continue
		echo "--- ${f##*/}:" >&2
		tail -n 15 "$f" >&2
	done
}

pair_fail() {
	show_logs
	die "the pair did not come up"
}

# A child that ended may be a zombie until the shell looks, and kill -0 finds it.
# Its first thread may be one while others still have its files open.
process_gone() {
	local state

	state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
	# fields 3 and 20: the state, and how many threads there are
	# shellcheck disable=SC2086 # words
	set -- $state
	[ "$1" = Z ] && [ "${18}" = 1 ]
}

# end_process PID [SIGNAL]: ends one process of ours, whatever it does. They
# are disowned, or the shell would report each death that a test brings about.
end_process() {
	local pid=$1

	kill -"${2:-TERM}" "$pid" 2>/dev/null || return 0
	wait_for 5 "the end of process $pid" process_gone "$pid" && return
	kill -KILL "$pid" 2>/dev/null || true
}

# An attach that Ctrl-C ended leaves half an instance, which detach refuses.
# Its pins are ours by their name; its hooks go with the namespace.
proxy_detach() {
	local pins=/sys/fs/bpf/colo-bpf/$id-$1

	[ ! -d "$pins" ] || proxy "$1" detach >"$dir/detach.log" 2>&1 ||
		rm -rf "$pins"
}

pair_down() {
	local side pid

	for pid in "${client_pids[@]}"; do
		end_process "$pid" KILL
	done
	client_pids=()
	for side in p s; do
		[ -z "${daemon_pid[$side]-}" ] ||
			end_process "${daemon_pid[$side]}"
		[ -z "${qemu_pid[$side]-}" ] ||
			end_process "${qemu_pid[$side]}" KILL
		unset "daemon_pid[$side]" "qemu_pid[$side]"
		proxy_detach "$side"
	done
	[ ! -e "/run/netns/$id-c" ] || net_mend
}

# All that pair_begin made; it may be called again, and at any point.
pair_clean() {
	local side

	pair_down
	for side in c p s; do
		[ ! -e "/run/netns/$id-$side" ] || ip netns del "$id-$side"
	done
	if [ -n "${KEEP-}" ]; then
		echo "kept: $dir"
	elif [ -n "$dir" ]; then
		rm -rf "$dir"
	fi
}

pair_end() {
	local status=$?

	trap '' HUP INT TERM
	trap - EXIT
	pair_clean
	exit "$status"
}

# --- clients ----------------------------------------------------------------

# client COMMAND...: runs in the client network, prints its JSON.
client() {
	on_host c "$build/tools/client" "$@"
}

# client_start NAME COMMAND...: in the background until client_stop; waits for
# the first answers, so that what follows happens under load.
client_start() {
	local name=$1

	shift
	rm -f "$dir/$name.progress"
	in_host c "$build/tools/client" "$@" --until-signal \
		--progress "$dir/$name.progress" >"$dir/$name.json" &
	client_pids+=($!)
	echo "$!" >"$dir/$name.pid"
	disown
	wait_for 15 "first answers for client $name" client_past "$name" 0
}

# How many answers a client has had (written every 20 ms).
client_answers() {
	local n= gap

	read -r n gap <"$dir/$1.progress" 2>/dev/null || true
	echo "${n:-0}"
}

# client_gap_us NAME: its longest gap since the last mark, once it has had an
# answer after that.
client_gap_us() {
	local n gap=

	read -r n gap <"$dir/$1.progress"
	echo "$gap"
}

client_past() {
	[ "$(client_answers "$1")" -gt "$2" ]
}

# The gap that the client reports is the longest one from here on.
client_mark() {
	kill -USR1 "$(<"$dir/$1.pid")"
}

# client_stop NAME: ends it in good order and prints its JSON.
client_stop() {
	local name=$1 pid

	pid=$(<"$dir/$name.pid")
	kill -TERM "$pid" 2>/dev/null || true
	wait_for 40 "the end of client $name" process_gone "$pid" || return 1
	cat "$dir/$name.json"
}

# --- deaths and disks -------------------------------------------------------

# host_kill SIDE HOW: qemu: its QEMU crashes; processes: QEMU and daemon die,
# and the kernel lives on with the programs in place; host: all of it is gone
# at once and without a last word, so that no FIN or RST tells the other.
host_kill() {
	local side=$1 how=$2

	# Nothing that happens on the way to its death is an order of its own.
	[ "$how" = qemu ] || kill -STOP "${daemon_pid[$side]}"
	if [ "$how" = host ]; then
		on_host "$side" sh -c 'ip link set dev link down
			ip link set dev port down'
	fi
	if [ "$how" != qemu ]; then
		kill -KILL "${daemon_pid[$side]}"
	fi
	kill -KILL "${qemu_pid[$side]}"
}

# survivor_disk SIDE: ends the survivor and prints the image to look at.
survivor_disk() {
	local side=$1

	qmp "$side" --quiet stop || return 1
	# The secondary's disk is merged in the background after a failover.
	wait_for 30 "the end of the merge of the secondary's disk" \
		no_jobs "$side" || return 1
	qmp "$side" --quiet quit || return 1
	wait_for 10 "the survivor's end" process_gone "${qemu_pid[$side]}" ||
		return 1
	echo "$dir/$side.raw"
}

no_jobs() {
	[ "$(qmp "$1" query-jobs)" = "[]" ]
}

# disk_check IMAGE FIRST COUNT: the file system is whole, and so is the log.
disk_check() {
	local image=$1 first=$2 count=$3

	# The guest was not unmounted: its journal is replayed, as at any boot.
	e2fsck -fy -E journal_only "$image" >"$dir/fsck.log" 2>&1
	if ! e2fsck -fn "$image" >>"$dir/fsck.log" 2>&1; then
		cat "$dir/fsck.log" >&2
		return 1
	fi
	rm -f "$dir/append.records"
	debugfs -R "dump /append.log $dir/append.records" "$image" 2>/dev/null
	client_ok "$("$build/tools/client" check-log \
		--file "$dir/append.records" --first "$first" --count "$count")"
}

# --- what was measured ------------------------------------------------------

# counter SIDE NAME...: the sum of counters of `colo-bpf stats`.
counter() {
	local side=$1 names

	shift
	names=$(printf '"%s",' "$@")
	proxy "$side" stats -j | jq "[.. | objects | to_entries[] |
		select(.key | IN(${names%,})) | .value | numbers] | add // 0"
}

# Checkpoints that were asked for because the two guests' answers differed, or
# because the proxy could not tell.
requests() {
	counter p req_payload req_length req_flags req_timeout req_queue_full \
		req_flow_full req_pool_full req_link_gap req_malformed \
		req_untranslatable
}

# Which reasons they had, for a message.
request_reasons() {
	proxy p stats -j | jq -r '[.. | objects | to_entries[] |
		select(.key | startswith("req_")) |
		select((.value | numbers) > 0) |
		"\(.key[4:]) \(.value)"] | join(", ")'
}

# epoch SIDE: the one that is open there, 0 outside COLO.
epoch() {
	proxy "$1" status -j | jq .epoch
}

epoch_past() {
	[ "$(epoch "$1")" -gt "$2" ]
}

# field JSON NAME: of a client's or a command's answer.
field() {
	jq -r ".$2" <<<"$1"
}

# claim WHAT COMMAND...: a line of a test's result.
claim() {
	local what=$1

	shift
	if "$@"; then echo "ok - $what"; else echo "not ok - $what"; fi
}

# client_ok JSON: ended without an error? Says which, if not.
client_ok() {
	[ "$(field "$1" ok)" = true ] && return
	echo "client $(field "$1" test): $(field "$1" error)" >&2
	return 1
}
