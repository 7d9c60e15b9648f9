# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# A pair that lives from a configuration: colo-bpf starts it, takes over, brings
# a fresh secondary up, again and again. To be sourced instead of lib.sh:
#
#	pair_begin; life_up		both guests in COLO, by `colo-bpf start`
#	life_kill SIDE HOW		a host dies; HOW as host_kill in lib.sh
#	life_back SIDE			it comes back as a fresh secondary
#	life_resync			the survivor brings it up
#
# A side is a host, p or s; `alive` and `spare` are the sides that have the
# guest and its copy.

# shellcheck source=tests/vm/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

policy=${POLICY:-fence}	# manual, fence or witness
qmp_socket=qmp-daemon	# qmp-relay: with a relay before it
alive=p spare=s

other_side() {
	if [ "$1" = p ]; then echo s; else echo p; fi
}

# --- what each host is configured with -----------------------------------------

# The file is the same on both hosts but for the line `role`.
life_config() {
	local side=$1

	cat <<-END
	role = "${role[$side]}";
	guest = "guest"; port = "port"; link = "link";
	primary = { address = "${link_ip[p]}"; qmp = "$dir/p.$qmp_socket"; };
	secondary = { address = "${link_ip[s]}"; qmp = "$dir/s.$qmp_socket"; };
	secret_file = "$dir/secret";
	disks = ( { node = "colo-disk0"; replica = "parent0"; } );
	takeover = {
		policy = "$policy";
		fence = "$dir/fence %h";
		fence_delay_ms = ${fence_delay_ms:-100};
		witness = "file:$dir/witness";
	};
	checkpoint = { period_ms = ${checkpoint_delay_ms:-20000}; };
	${life_more-}
	END
}

life_files() {
	local side

	head -c 32 /dev/urandom >"$dir/secret"
	chmod 600 "$dir/secret"
	mkdir -p "$dir/witness"
	fence_script
	for side in p s; do
		life_config "$side" >"$dir/$side.conf"
		: >"$dir/$side.daemon.log"
	done
	: >"$dir/fenced"
}

# --- a host --------------------------------------------------------------------

life_disk_primary() {
	printf '%s\n' \
		-blockdev "driver=raw,node-name=disk0,file.driver=file,file.filename=$dir/$1.raw" \
		-blockdev driver=quorum,node-name=colo-disk0,read-pattern=fifo,vote-threshold=1,children.0=disk0
}

life_disk_secondary() {
	printf '%s\n' \
		-blockdev "driver=raw,node-name=parent0,file.driver=file,file.filename=$dir/$1.raw" \
		-blockdev "driver=replication,mode=secondary,node-name=childs0,top-id=colo-disk0,file.driver=qcow2,file.file.driver=file,file.file.filename=$dir/$1-active.qcow2,file.backing.driver=qcow2,file.backing.file.driver=file,file.backing.file.filename=$dir/$1-hidden.qcow2,file.backing.backing=parent0" \
		-blockdev driver=quorum,node-name=colo-disk0,read-pattern=fifo,vote-threshold=1,children.0=childs0
}

# life_boot SIDE primary|secondary [ARG...]
life_boot() {
	local side=$1 as=$2 args f

	shift 2
	rm -f "$dir/$side".{console,qmp,qmp-daemon}
	if [ "$as" = secondary ]; then
		rm -f "$dir/$side.raw"
		truncate -s "${disk_mb}M" "$dir/$side.raw"
		for f in active hidden; do
			"$qemu_dir/qemu-img" create -q -f qcow2 \
				"$dir/$side-$f.qcow2" "${disk_mb}M"
		done
	fi
	mapfile -t args < <(
		qemu_common
		"life_disk_$as" "$side"
		qemu_devices "$side"
	)
	[ "$as" = primary ] || args+=(-incoming defer)
	in_host "$side" "$qemu" "${args[@]}" "$@" </dev/null \
		>>"$dir/$side.qemu.log" 2>&1 &
	qemu_pid[$side]=$!
	echo "$!" >"$dir/$side.qemu.pid"
	disown
}

life_daemon() {
	local side=$1

	in_host "$side" "$colo_bpf" run "$id-$side" --config "$dir/$side.conf" \
		</dev/null >>"$dir/$side.daemon.log" 2>&1 &
	daemon_pid[$side]=$!
	echo "$!" >"$dir/$side.daemon.pid"
	disown
}

# A relay in front of the daemon's QMP socket, where a test wants to stall it.
declare -A relay_pid=()

life_relay() {
	local side=$1

	rm -f "$dir/$side.qmp-relay"
	"$top/tests/tools/relay" "$dir/$side.qmp-relay" "$dir/$side.qmp-daemon" \
		</dev/null >>"$dir/$side.relay.log" 2>&1 &
	relay_pid[$side]=$!
	disown
}

# life_attach SIDE [ROLE]: as the file says, or what it is now
life_attach() {
	proxy "$1" attach --config "$dir/$1.conf" ${2:+--role "$2"}
}

guest_up() {
	grep -q 'guestd: ready' "$dir/$1.console"
}

# state SIDE: what its daemon is in, "none" without one
state() {
	proxy "$1" status -j 2>/dev/null | jq -r '.daemon.state // "none"'
}

in_state() {
	[ "$(state "$1")" = "$2" ]
}

in_pair() {
	in_state p colo && in_state s colo
}

# --- the life of a pair ----------------------------------------------------------

# start_us: how long the start took
life_up() {
	local side

	trap life_end EXIT
	life_files
	truncate -s "${disk_mb}M" "$dir/p.raw"
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$dir/p.raw"
	for side in p s; do
		life_attach "$side" || die "attach on $side failed"
		[ "$qmp_socket" = qmp-daemon ] || life_relay "$side"
		life_daemon "$side"
	done
	life_boot p primary
	life_boot s secondary
	alive=p spare=s
	wait_for 60 "the primary's guest" guest_up p || pair_fail
	wait_for 10 "the daemons at their QEMUs" proxies_ready || pair_fail
	start_us=$(now_us)
	proxy p start || pair_fail
	wait_for 10 "COLO on both sides" in_pair || pair_fail
	start_us=$(($(now_us) - start_us))
}

# life_kill SIDE HOW: it dies, and is not alive any more.
life_kill() {
	host_kill "$1" "$2"
	alive=$(other_side "$1") spare=$1
}

# What has died of a host comes back: wires, instance and daemon, a QEMU that
# waits. A daemon that lives goes on: it makes its side the secondary itself.
life_back() {
	local side=$1

	end_process "${qemu_pid[$side]}" KILL
	if process_gone "${daemon_pid[$side]}"; then
		proxy_detach "$side"
		on_host "$side" sh -c 'ip link set dev port up; ip link set dev link up'
		life_attach "$side" secondary || return 1
		life_daemon "$side"
	fi
	life_boot "$side" secondary
	wait_for 10 "the daemon of $side at its QEMU" proxy_ready "$side" &&
		wait_for 10 "the daemon of $alive at its peer" proxy_ready "$alive"
}

# --- what a death looks like -------------------------------------------------------

now_us() {
	echo "${EPOCHREALTIME/[.,]/}"
}

# life_ear SIDE: what its daemon does from here on, for life_time
life_ear() {
	local side=$1

	"$colo_bpf" events "$id-$side" >"$dir/$side.events" &
	client_pids+=($!)
	disown
	# once it waits it has asked, and who asks next is answered later
	wait_for 5 "the ear at $side" waits_at_socket "$!" && proxy_ready "$side" >"$dir/ear"
}

waits_at_socket() {
	grep -qE 'unix_stream|poll' "/proc/$1/wchan"
}

# life_time SIDE SINCE FILTER: when its daemon first told of such an event since
# then, both in microseconds; nothing if it did not.
life_time() {
	jq -nr --argjson since "$2" \
		"first(inputs | select(.time_us >= \$since) | select($3) | .time_us)" \
		"$dir/$1.events" 2>/dev/null
}

# life_went_on SIDE SINCE: into seen_us when it took its peer for dead, which a
# peer that has only lost its daemon is not; into alone_us when it went on alone.
life_went_on() {
	local side=$1

	wait_for 20 "$side to go on alone" in_state "$side" alone &&
		wait_for 2 "word of that" life_alone "$side" "$2" || return 1
	alone_us=$(life_alone "$side" "$2")
	seen_us=$(life_time "$side" "$2" \
		'.event == "state" and (.to == "claiming" or .to == "failing")')
}

life_alone() {
	life_time "$1" "$2" '.event == "state" and .to == "alone"' | grep .
}

# note PHASE MICROSECONDS, figures PHASE...: their median and maximum
declare -A noted=()

note() {
	[ -n "$2" ] && noted[$1]+="$2 "
}

figures() {
	local phase

	for phase in "$@"; do
		tr ' ' '\n' <<<"${noted[$phase]-}" | grep . | sort -n |
			awk -v phase="$phase" '{v[NR] = $1 / 1000}
			END {if (NR) printf "%s: median %.1f ms, max %.1f ms of %d\n",
				phase, v[int((NR + 1) / 2)], v[NR], NR}'
	done
}

life_resync() {
	proxy "$alive" resync && wait_for 10 "COLO on both sides" in_pair
}

life_down() {
	local side

	for side in p s; do
		[ -z "${relay_pid[$side]-}" ] || end_process "${relay_pid[$side]}" KILL
		unset "relay_pid[$side]"
	done
	pair_down
}

# What ends the script ends the relays, too.
life_end() {
	local status=$?

	trap '' HUP INT TERM
	life_down
	(exit "$status")
	pair_end
}
