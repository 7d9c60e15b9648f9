/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of the client tool share. */
#ifndef COLO_TEST_CLIENT_H
#define COLO_TEST_CLIENT_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include "../guest/proto.h"

struct options {
	const char *host;
	const char *also;       /* rr: a second guest, which is asked the same at once */
	int port;               /* 0: the service's own */
	uint64_t count;         /* stop after so many requests; 0: no limit */
	double seconds;         /* stop after so long; 0: no limit */
	int until_signal;       /* neither limit holds, SIGTERM ends the run */
	double timeout;         /* seconds to wait for one answer */
	uint64_t size;          /* bytes of an answer, or of a transfer */
	unsigned int window;    /* requests that may be under way at once; udp: 0: any */
	uint64_t first;         /* number of the first request */
	double rate;            /* requests a second; 0: as many as go */
	int keepalive;          /* http: one connection for all requests */
	const char *progress;   /* a file: the answers so far, the gap since the mark in us */
	const char *check_file; /* check-log: the file to look at */
	const char *gaps;       /* a file for the times between answers, ms, a line each */
};

/* One run: what was counted, and when the last answer came. */
struct run {
	const struct options *opt;
	const char *name;

	uint64_t answers;
	uint64_t errors;
	uint64_t bytes;
	uint64_t connects;
	uint64_t lost;   /* datagrams without an answer */
	char error[256]; /* the first error */

	uint64_t start_ns;
	uint64_t last_ns;   /* of the last answer, or of the start */
	uint64_t gap_ns;    /* the longest time without an answer */
	uint64_t gap_at_ns; /* and when it began */
	uint64_t end_ns;

	uint32_t *latency_us; /* one an answer */
	size_t latency_room;

	FILE *gaps_file;
	uint64_t answer_ns; /* of the last whole answer */

	int progress_fd;
	uint64_t progress_ns;
};

extern volatile sig_atomic_t stop_asked, mark_asked;

uint64_t now_ns(void);

/* Whether the run goes on, after `sent` requests. */
int run_goes_on(const struct run *r, uint64_t sent);
/* Waits until request number `sent` of the run is due (--rate). */
void run_pace(const struct run *r, uint64_t sent);
/* Counts one answer whose request went out at `sent_ns`. */
void run_answer(struct run *r, uint64_t sent_ns);
/* Something came that is not yet an answer: the peer is alive. */
void run_alive(struct run *r);
/* Counts an error; the first one's text is kept. Returns -1. */
int run_error(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Connects to --host within --timeout; returns the socket, or -1 (counted). */
int run_connect(struct run *r, int port);
/* ... to any host. */
int run_connect_to(struct run *r, const char *host, int port);
/*
 * Receives exactly len bytes, each recv within --timeout. Returns 0, or -1:
 * counted as an error, but for a signal that ended the run before any byte.
 */
int run_recv(struct run *r, int fd, void *data, size_t len);
int run_send(struct run *r, int fd, const void *data, size_t len);

/* The work of each sub-command; errors are counted in the run. */
void work_rr(struct run *r);
void work_random(struct run *r);
void work_append(struct run *r);
void work_work(struct run *r);
void work_code(struct run *r);
void work_udp(struct run *r);
void work_count(struct run *r);
void work_down(struct run *r);
void work_up(struct run *r);
void work_http(struct run *r);
void work_check_log(struct run *r);

#endif
