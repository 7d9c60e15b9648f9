// SPDX-License-Identifier: GPL-2.0-only
/*
 * verified PINS LOG: prints a line for each BPF program that is pinned in the
 * directory PINS:
 *
 *	NAME INSTRUCTIONS VERIFIED STACK
 *
 * VERIFIED is how many instructions the verifier went through, the figure that
 * its limit of a million holds for. STACK is the deepest chain of calls as the
 * verifier of 6.1 adds it up, of 512 bytes: each frame in steps of 32 bytes (later
 * ones count in steps of 16). The frames are in LOG, what `colo-bpf attach -v`
 * wrote.
 *
 * By the syscall alone, so that it links statically and runs in a bare
 * initramfs.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FUNCTIONS_MAX 256 /* of one program, as in the kernel */
#define FRAME_STEP    32

/*
 * A call of bpf_loop() becomes a loop after the check of the stack, and its frame
 * grows by three registers that are in the log but were not in the check. The
 * loop begins with a comparison of R1 and its bound (inline_bpf_loop() in
 * kernel/bpf/verifier.c).
 */
#define LOOP_SPILL (3 * 8)
#define LOOP_MAX   (8 * 1024 * 1024)

struct program {
	struct bpf_prog_info info;
	struct bpf_insn *insns;
	unsigned int insn_count;
	struct bpf_func_info functions[FUNCTIONS_MAX];
	unsigned int frames[FUNCTIONS_MAX];
	int deepest[FUNCTIONS_MAX]; /* of the chains that begin there; 0: not known yet */
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "verified: %s: %s\n", what, why);
	exit(1);
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int open_pin(const char *directory, const char *name)
{
	union bpf_attr attr = {0};
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	attr.pathname = (unsigned long)path;
	fd = bpf(BPF_OBJ_GET, &attr);
	if (fd < 0)
		die(path, strerror(errno));
	return fd;
}

static void get_info(int fd, const char *name, struct bpf_prog_info *info)
{
	union bpf_attr attr = {0};

	attr.info.bpf_fd = fd;
	attr.info.info_len = sizeof(*info);
	attr.info.info = (unsigned long)info;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr))
		die(name, strerror(errno));
}

/* The sizes first, then the instructions and where the functions begin. */
static void read_program(int fd, const char *name, struct program *p)
{
	struct bpf_prog_info sizes = {0};

	get_info(fd, name, &sizes);
	if (sizes.nr_func_info > FUNCTIONS_MAX)
		die(name, "more functions than a program can have");
	p->insns = calloc(1, sizes.xlated_prog_len);
	if (!p->insns)
		die(name, strerror(ENOMEM));
	p->insn_count = sizes.xlated_prog_len / sizeof(*p->insns);
	p->info.xlated_prog_len = sizes.xlated_prog_len;
	p->info.xlated_prog_insns = (unsigned long)p->insns;
	p->info.nr_func_info = sizes.nr_func_info;
	p->info.func_info_rec_size = sizeof(*p->functions);
	p->info.func_info = (unsigned long)p->functions;
	get_info(fd, name, &p->info);
}

/* "stack depth 200+40+8": a number a function, in the order of their places. */
static void parse_frames(const char *text, const char *name, struct program *p)
{
	unsigned int count = 0;
	char *end;

	for (;; text = end + 1) {
		if (count == p->info.nr_func_info)
			die(name, "the log has more functions than the kernel");
		p->frames[count++] = strtoul(text, &end, 10);
		if (*end != '+')
			break;
	}
	if (count != p->info.nr_func_info)
		die(name, "the log has fewer functions than the kernel");
}

/* libbpf heads each program's log with "prog 'NAME': -- BEGIN PROG LOAD LOG --". */
static void read_frames(const char *log, const char *name, struct program *p)
{
	static const char depth[] = "stack depth ", begin[] = "-- BEGIN PROG LOAD LOG --";
	FILE *file = fopen(log, "r");
	char quoted[64], *line = NULL;
	size_t size = 0;
	int mine = 0, found = 0;

	if (!file)
		die(log, strerror(errno));
	snprintf(quoted, sizeof(quoted), "prog '%s': ", name);
	while (getline(&line, &size, file) > 0) {
		if (strstr(line, begin))
			mine = strstr(line, quoted) != NULL;
		if (!mine || strncmp(line, depth, strlen(depth)))
			continue;
		parse_frames(line + strlen(depth), name, p);
		found = 1;
	}
	free(line);
	fclose(file);
	if (!found)
		die(name, "no stack depth in the log");
}

static unsigned int function_at(const struct program *p, unsigned int insn, const char *name)
{
	for (unsigned int f = 0; f < p->info.nr_func_info; f++)
		if (p->functions[f].insn_off == insn)
			return f;
	die(name, "a call to where no function begins");
	return 0;
}

/* Whom instruction i calls, or makes its callback; -1: nobody. */
static int callee(const struct program *p, unsigned int i, const char *name)
{
	const struct bpf_insn *insn = &p->insns[i];

	if (insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == BPF_PSEUDO_CALL)
		return function_at(p, i + 1 + insn->off, name);
	if (insn->code == (BPF_LD | BPF_IMM | BPF_DW) && insn->src_reg == BPF_PSEUDO_FUNC)
		return function_at(p, i + 1 + insn->imm, name);
	return -1;
}

static int begins_loop(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_JLE | BPF_K) && insn->dst_reg == BPF_REG_1 &&
	       insn->imm == LOOP_MAX && insn->off == 2;
}

/* There is no recursion in BPF. */
static int deepest(struct program *p, unsigned int f, const char *name)
{
	unsigned int i = p->functions[f].insn_off, end = p->insn_count;
	int frame = p->frames[f], below = 0, loops = 0;

	if (p->deepest[f])
		return p->deepest[f];
	if (f + 1 < p->info.nr_func_info)
		end = p->functions[f + 1].insn_off;
	for (; i < end; i++) {
		int called = callee(p, i, name), depth;

		loops |= begins_loop(&p->insns[i]);
		if (called < 0)
			continue;
		depth = deepest(p, called, name);
		if (depth > below)
			below = depth;
	}
	if (loops)
		frame -= LOOP_SPILL;
	if (frame <= 0)
		frame = 1;
	p->deepest[f] = below + (frame + FRAME_STEP - 1) / FRAME_STEP * FRAME_STEP;
	return p->deepest[f];
}

static void print_program(const char *pins, const char *log, const char *name)
{
	struct program *p = calloc(1, sizeof(*p));
	int fd = open_pin(pins, name);

	if (!p)
		die(name, strerror(ENOMEM));
	read_program(fd, name, p);
	read_frames(log, name, p);
	printf("%s %u %u %d\n", name, p->insn_count, p->info.verified_insns,
	       deepest(p, 0, name));
	close(fd);
	free(p->insns);
	free(p);
}

int main(int argc, char **argv)
{
	struct dirent *entry;
	DIR *directory;

	if (argc != 3)
		die("usage", "verified PINS LOG");
	directory = opendir(argv[1]);
	if (!directory)
		die(argv[1], strerror(errno));
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			print_program(argv[1], argv[2], entry->d_name);
	closedir(directory);
	return 0;
}
