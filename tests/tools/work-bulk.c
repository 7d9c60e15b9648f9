// SPDX-License-Identifier: GPL-2.0-only
/* Bulk transfers of --size bytes, one after the other over one connection. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

#define DEFAULT_SIZE (100 * 1000 * 1000ull)

static uint8_t pattern[2 * PATTERN_PERIOD];

static uint64_t transfer_size(const struct run *r)
{
	return r->opt->size ? r->opt->size : DEFAULT_SIZE;
}

/* Receives what comes next of a download, compares it, adds to its sum. */
static ssize_t receive_part(struct run *r, int fd, uint64_t done, uint64_t left,
			    struct sum *sum)
{
	static uint8_t bulk[PATTERN_PERIOD];
	size_t want = left < sizeof(bulk) ? left : sizeof(bulk);
	ssize_t n = recv(fd, bulk, want, 0);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n <= 0)
		return run_error(r, "after %llu bytes: %s", (unsigned long long)done,
				 n ? strerror(errno) : "closed by the guest");
	if (memcmp(bulk, pattern + done % PATTERN_PERIOD, n))
		return run_error(r, "other bytes at %llu..%llu", (unsigned long long)done,
				 (unsigned long long)(done + n - 1));
	sum_add(sum, bulk, n);
	r->bytes += n;
	run_alive(r);
	return n;
}

static int check_sum(struct run *r, const struct msg *m, uint64_t number, uint64_t sum)
{
	if (!msg_ok(m) || m->number != number)
		return run_error(r, "transfer %llu: no valid end", (unsigned long long)number);
	if (m->data_sum != sum)
		return run_error(r, "transfer %llu: checksums differ",
				 (unsigned long long)number);
	return 0;
}

static int download(struct run *r, int fd, uint64_t number)
{
	uint64_t size = transfer_size(r), done = 0;
	struct msg m = {.number = number, .size = size};
	struct sum sum = {0};

	msg_seal(&m);
	if (run_send(r, fd, &m, sizeof(m)))
		return -1;
	while (done < size) {
		ssize_t n = receive_part(r, fd, done, size - done, &sum);

		if (n < 0)
			return -1;
		done += n;
	}
	if (run_recv(r, fd, &m, sizeof(m)))
		return -1;
	return check_sum(r, &m, number, sum_end(&sum));
}

static int upload(struct run *r, int fd, uint64_t number)
{
	uint64_t size = transfer_size(r), done = 0;
	struct msg m = {.number = number, .size = size};
	struct sum sum = {0};

	msg_seal(&m);
	if (run_send(r, fd, &m, sizeof(m)))
		return -1;
	while (done < size) {
		const uint8_t *at = pattern + done % PATTERN_PERIOD;
		size_t part = size - done < PATTERN_PERIOD ? size - done : PATTERN_PERIOD;

		if (run_send(r, fd, at, part))
			return -1;
		sum_add(&sum, at, part);
		r->bytes += part;
		done += part;
		run_alive(r);
	}
	if (run_recv(r, fd, &m, sizeof(m)))
		return -1;
	return check_sum(r, &m, number, sum_end(&sum));
}

static void transfers(struct run *r, int port, int (*transfer)(struct run *, int, uint64_t))
{
	int fd = run_connect(r, port);

	pattern_fill(pattern);
	while (fd >= 0 && run_goes_on(r, r->answers)) {
		uint64_t begin = now_ns();

		if (transfer(r, fd, r->opt->first + r->answers))
			break;
		run_answer(r, begin);
	}
	if (fd >= 0)
		close(fd);
}

void work_down(struct run *r)
{
	transfers(r, PORT_DOWN, download);
}

void work_up(struct run *r)
{
	transfers(r, PORT_UP, upload);
}
