# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# QEMU's own proxy. To be sourced after tests/vm/lib.sh.

# docs/COLO-FT.txt and docs/colo-proxy.txt of QEMU, with vnet_hdr_support for
# virtio-net. To be at its best: no Nagle between the hosts (net_repair has the
# other half), unix sockets where both ends are in one process.
#
#	peer_p, peer_s NETDEV on|off [PROPERTIES]	vnet_hdr_support; more of colo-compare
peer_p() {
	local netdev=$1 vnet=$2

	printf '%s\n' \
		-chardev "socket,id=mirror0,host=${link_ip[p]},port=9003,server=on,wait=off,nodelay=on" \
		-chardev "socket,id=compare1,host=${link_ip[p]},port=9004,server=on,wait=off,nodelay=on" \
		-chardev "socket,id=compare0,path=$dir/compare0,server=on,wait=off" \
		-chardev "socket,id=compare0-0,path=$dir/compare0" \
		-chardev "socket,id=compare_out,path=$dir/compare_out,server=on,wait=off" \
		-chardev "socket,id=compare_out0,path=$dir/compare_out" \
		-object "filter-mirror,id=m0,netdev=$netdev,queue=tx,outdev=mirror0,vnet_hdr_support=$vnet" \
		-object "filter-redirector,netdev=$netdev,id=redire0,queue=rx,indev=compare_out,vnet_hdr_support=$vnet" \
		-object "filter-redirector,netdev=$netdev,id=redire1,queue=rx,outdev=compare0,vnet_hdr_support=$vnet" \
		-object iothread,id=iothread1 \
		-object "colo-compare,id=comp0,primary_in=compare0-0,secondary_in=compare1,outdev=compare_out0,iothread=iothread1,vnet_hdr_support=$vnet${3-}"
}

peer_s() {
	local netdev=$1 vnet=$2

	printf '%s\n' \
		-chardev "socket,id=red0,host=${link_ip[p]},port=9003,reconnect-ms=100,nodelay=on" \
		-chardev "socket,id=red1,host=${link_ip[p]},port=9004,reconnect-ms=100,nodelay=on" \
		-object "filter-redirector,id=f1,netdev=$netdev,queue=tx,indev=red0,vnet_hdr_support=$vnet" \
		-object "filter-redirector,id=f2,netdev=$netdev,queue=rx,outdev=red1,vnet_hdr_support=$vnet" \
		-object "filter-rewriter,id=rew0,netdev=$netdev,queue=all,vnet_hdr_support=$vnet"
}

# Acknowledged at once, both ways: what Nagle's algorithm waits for.
net_repair() {
	local side

	for side in p s; do
		on_host "$side" ip route replace 10.99.0.0/24 dev link \
			src "${link_ip[$side]}" quickack 1
	done
}
