# SPDX-License-Identifier: GPL-2.0-only
# Completion of colo-bpf(8) for bash.

_colo_bpf() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]} words='' option

	if [ "$COMP_CWORD" = 1 ]; then
		words=$(colo-bpf --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
	elif [[ $before == --guest || $before == --port || $before == --link ]]; then
		words=$(ls /sys/class/net)
	elif [[ $before == --qmp || $before == --config || $before == --dir || $before == --on-failover-qmp ]]; then
		compopt -o default
	elif [ "$before" = --netns ]; then
		words=$(ls /run/netns 2>/dev/null)
	elif option=$(colo-bpf "$command" --help 2>/dev/null | grep -A1 -e " $before [A-Z]" |
		sed -n 's/.*one of: //p') && [ -n "$option" ]; then
		words=$option
	elif [[ $word == -* ]]; then
		words=$(colo-bpf "$command" --help 2>/dev/null | grep -o -e '--[a-z-]*' | sort -u)
	elif [ "$COMP_CWORD" = 2 ]; then
		words=$(ls /sys/fs/bpf/colo-bpf 2>/dev/null)
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _colo_bpf colo-bpf
