// SPDX-License-Identifier: GPL-2.0-only
/*
 * Prints, for each BPF program that is loaded, how many instructions it has and
 * how many the verifier went through: the figure that its limit of a million
 * holds for. By the syscall alone, so that it links statically and runs in a
 * bare initramfs.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int print_program(unsigned int id)
{
	struct bpf_prog_info info = {0};
	union bpf_attr attr = {.prog_id = id};
	int fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);

	if (fd < 0)
		return -1;
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (unsigned long)&info;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)) {
		close(fd);
		return -1;
	}
	close(fd);
	printf("program %-16s %6u instructions, %7u verified\n", info.name,
	       info.xlated_prog_len / 8, info.verified_insns);
	return 0;
}

int main(void)
{
	union bpf_attr attr = {0};
	unsigned int id = 0;

	for (;;) {
		memset(&attr, 0, sizeof(attr));
		attr.start_id = id;
		if (bpf(BPF_PROG_GET_NEXT_ID, &attr))
			break;
		id = attr.next_id;
		if (print_program(id))
			break;
	}
	if (errno != ENOENT) {
		perror("insns: bpf");
		return 1;
	}
	return 0;
}
