// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client of the VM tests: puts load on the test guest, checks every byte
 * of what comes back, and prints one JSON object. Exit status 0 only without
 * errors. SIGTERM ends a run in good order, SIGUSR1 marks a moment: the gap
 * that is reported is the longest one after the last mark.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define PROGRESS_NS (20 * 1000 * 1000ull)

volatile sig_atomic_t stop_asked, mark_asked;

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int run_goes_on(const struct run *r, uint64_t sent)
{
	const struct options *o = r->opt;

	if (stop_asked || r->errors)
		return 0;
	if (o->until_signal)
		return 1;
	if (o->count && sent >= o->count)
		return 0;
	return !o->seconds || now_ns() - r->start_ns < o->seconds * 1e9;
}

void run_pace(const struct run *r, uint64_t sent)
{
	struct timespec until;
	uint64_t due;

	if (!r->opt->rate)
		return;
	due = r->start_ns + (uint64_t)(sent * 1e9 / r->opt->rate);
	until.tv_sec = due / 1000000000;
	until.tv_nsec = due % 1000000000;
	while (!stop_asked &&
	       clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static void write_progress(struct run *r, uint64_t now)
{
	char text[64];
	int len;

	if (r->progress_fd < 0 || now - r->progress_ns < PROGRESS_NS)
		return;
	r->progress_ns = now;
	len = snprintf(text, sizeof(text), "%20llu %20llu\n", (unsigned long long)r->answers,
		       (unsigned long long)r->gap_ns / 1000);
	if (pwrite(r->progress_fd, text, len, 0) != len)
		run_error(r, "%s: %s", r->opt->progress, strerror(errno));
}

void run_alive(struct run *r)
{
	uint64_t now = now_ns();

	if (mark_asked) {
		mark_asked = 0;
		r->gap_ns = 0;
	}
	if (now - r->last_ns > r->gap_ns) {
		r->gap_ns = now - r->last_ns;
		r->gap_at_ns = r->last_ns;
	}
	r->last_ns = now;
	write_progress(r, now);
}

void run_answer(struct run *r, uint64_t sent_ns)
{
	uint64_t now = now_ns(), us = (now - sent_ns) / 1000;

	if (r->gaps_file && r->answers)
		fprintf(r->gaps_file, "%.3f\n", (now - r->answer_ns) / 1e6);
	r->answer_ns = now;
	if (r->answers == r->latency_room) {
		r->latency_room = r->latency_room ? 2 * r->latency_room : 65536;
		r->latency_us =
			realloc(r->latency_us, r->latency_room * sizeof(*r->latency_us));
		if (!r->latency_us) {
			fprintf(stderr, "client: out of memory\n");
			exit(2);
		}
	}
	r->latency_us[r->answers++] = us < UINT32_MAX ? us : UINT32_MAX;
	run_alive(r);
}

int run_error(struct run *r, const char *format, ...)
{
	va_list ap;

	if (!r->errors++) {
		va_start(ap, format);
		vsnprintf(r->error, sizeof(r->error), format, ap);
		va_end(ap);
	}
	return -1;
}

static int set_timeouts(const struct run *r, int fd)
{
	struct timeval t = {
		.tv_sec = (time_t)r->opt->timeout,
		.tv_usec = (r->opt->timeout - (time_t)r->opt->timeout) * 1e6,
	};
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) ||
	       setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

/* A connect that a signal interrupted goes on in the kernel: wait for its end. */
static int finish_connect(const struct run *r, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	uint64_t until = now_ns() + (uint64_t)(r->opt->timeout * 1e9);
	int error = ETIMEDOUT;
	socklen_t len = sizeof(error);

	while (now_ns() < until) {
		int n = poll(&p, 1, (until - now_ns()) / 1000000 + 1);

		if (n > 0 && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
			break;
		if (n < 0 && errno != EINTR)
			return -1;
	}
	errno = error;
	return error ? -1 : 0;
}

int run_connect_to(struct run *r, const char *host, int port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(r->opt->port ? r->opt->port : port),
	};
	int type = port == PORT_UDP || port == PORT_COUNT ? SOCK_DGRAM : SOCK_STREAM;
	int fd, rc;

	if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
		return run_error(r, "%s is not an IPv4 address", host);
	fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	if (fd < 0 || set_timeouts(r, fd))
		return run_error(r, "socket: %s", strerror(errno));
	rc = connect(fd, (struct sockaddr *)&to, sizeof(to));
	if (rc && errno == EINTR)
		rc = finish_connect(r, fd);
	if (rc) {
		run_error(r, "connect to %s:%d: %s", host, ntohs(to.sin_port), strerror(errno));
		close(fd);
		return -1;
	}
	r->connects++;
	return fd;
}

int run_connect(struct run *r, int port)
{
	return run_connect_to(r, r->opt->host, port);
}

int run_recv(struct run *r, int fd, void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = recv(fd, (uint8_t *)data + done, len - done, 0);

		if (n > 0) {
			done += n;
			r->bytes += n;
		} else if (n == 0) {
			return run_error(r, "the guest closed the connection");
		} else if (errno == EAGAIN) {
			return run_error(r, "no answer within %.1f s", r->opt->timeout);
		} else if (errno != EINTR) {
			return run_error(r, "recv: %s", strerror(errno));
		}
	}
	return 0;
}

int run_send(struct run *r, int fd, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(fd, (const uint8_t *)data + done, len - done, MSG_NOSIGNAL);

		if (n >= 0)
			done += n;
		else if (errno == EAGAIN)
			return run_error(r, "nothing taken within %.1f s", r->opt->timeout);
		else if (errno != EINTR)
			return run_error(r, "send: %s", strerror(errno));
	}
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* A silence that lasts to the end of the run is a gap as well. */
static void run_end(struct run *r)
{
	r->end_ns = now_ns();
	if (r->end_ns - r->last_ns > r->gap_ns) {
		r->gap_ns = r->end_ns - r->last_ns;
		r->gap_at_ns = r->last_ns;
	}
	if (r->answers)
		qsort(r->latency_us, r->answers, sizeof(*r->latency_us), by_value);
}

static uint32_t percentile(const struct run *r, int percent)
{
	return r->answers ? r->latency_us[(r->answers - 1) * percent / 100] : 0;
}

static void print_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		putchar((unsigned char)*s < ' ' ? ' ' : *s);
	}
	putchar('"');
}

static void run_print(const struct run *r)
{
	double seconds = (r->end_ns - r->start_ns) / 1e9;

	printf("{\"test\":\"%s\",\"ok\":%s,\"requests\":%llu,\"errors\":%llu", r->name,
	       r->errors ? "false" : "true", (unsigned long long)r->answers,
	       (unsigned long long)r->errors);
	printf(",\"seconds\":%.3f,\"rate\":%.1f,\"bytes\":%llu,\"MBps\":%.1f", seconds,
	       r->answers / seconds, (unsigned long long)r->bytes, r->bytes / seconds / 1e6);
	printf(",\"connects\":%llu,\"lost\":%llu", (unsigned long long)r->connects,
	       (unsigned long long)r->lost);
	printf(",\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u", percentile(r, 50),
	       percentile(r, 99), percentile(r, 100));
	printf(",\"gap_ms\":%.1f,\"gap_at_ms\":%.1f,\"error\":", r->gap_ns / 1e6,
	       (r->gap_at_ns - r->start_ns) / 1e6);
	print_string(r->error);
	printf("}\n");
}

static const struct command {
	const char *name, *help;
	void (*work)(struct run *r);
} commands[] = {
	{"rr", "messages over one connection", work_rr},
	{"random", "as rr, each answer holds random bytes", work_random},
	{"work", "--size rounds of work of the guest's processor", work_work},
	{"code", "as rr, the guest writes code and runs it", work_code},
	{"append", "as rr, each is on the disk first", work_append},
	{"udp", "as rr, in datagrams", work_udp},
	{"count", "datagrams that the guest counts, in --window streams", work_count},
	{"http", "GET, a connection each or --keepalive", work_http},
	{"down", "downloads of --size bytes", work_down},
	{"up", "uploads of --size bytes", work_up},
	{"check-log", "--file holds requests --first..+--count", work_check_log},
};

static const struct option long_options[] = {
	{"host", required_argument, NULL, 'h'},
	{"also", required_argument, NULL, 'a'}, /* of rr */
	{"port", required_argument, NULL, 'p'},
	{"count", required_argument, NULL, 'n'},
	{"seconds", required_argument, NULL, 's'},
	{"until-signal", no_argument, NULL, 'u'},
	{"timeout", required_argument, NULL, 't'},
	{"size", required_argument, NULL, 'S'},
	{"window", required_argument, NULL, 'w'},
	{"first", required_argument, NULL, 'f'},
	{"rate", required_argument, NULL, 'r'},
	{"keepalive", no_argument, NULL, 'k'},
	{"progress", required_argument, NULL, 'P'},
	{"file", required_argument, NULL, 'F'},
	{"gaps", required_argument, NULL, 'g'},
	{NULL, 0, NULL, 0},
};

static int usage(void)
{
	fprintf(stderr, "usage: client COMMAND [--OPTION [VALUE]]...\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(stderr, "  %-10s %s\n", commands[i].name, commands[i].help);
	fprintf(stderr, "\noptions:");
	for (const struct option *o = long_options; o->name; o++)
		fprintf(stderr, " --%s%s", o->name, o->has_arg ? " X" : "");
	fprintf(stderr, "\n");
	return 2;
}

static int parse(struct options *o, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'h':
			o->host = optarg;
			break;
		case 'a':
			o->also = optarg;
			break;
		case 'p':
			o->port = atoi(optarg);
			break;
		case 'n':
			o->count = strtoull(optarg, NULL, 0);
			break;
		case 's':
			o->seconds = atof(optarg);
			break;
		case 'u':
			o->until_signal = 1;
			break;
		case 't':
			o->timeout = atof(optarg);
			break;
		case 'S':
			o->size = strtoull(optarg, NULL, 0);
			break;
		case 'w':
			o->window = atoi(optarg);
			break;
		case 'f':
			o->first = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			o->rate = atof(optarg);
			break;
		case 'k':
			o->keepalive = 1;
			break;
		case 'P':
			o->progress = optarg;
			break;
		case 'F':
			o->check_file = optarg;
			break;
		case 'g':
			o->gaps = optarg;
			break;
		default:
			return -1;
		}
	}
	if (!o->count && !o->seconds && !o->until_signal)
		o->count = 1;
	return optind == argc && o->timeout > 0 ? 0 : -1;
}

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		mark_asked = 1;
	else
		stop_asked = 1;
}

static int run_command(const struct command *command, const struct options *o)
{
	struct run r = {.opt = o, .name = command->name, .progress_fd = -1};
	/*
	 * No SA_RESTART: a wait ends, and its loop looks at the flags. SIGINT
	 * keeps its default: it ends a client in the midst of a wait.
	 */
	struct sigaction act = {.sa_handler = on_signal};

	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGUSR1, &act, NULL);
	if (o->progress) {
		r.progress_fd = open(o->progress, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (r.progress_fd < 0) {
			fprintf(stderr, "client: %s: %s\n", o->progress, strerror(errno));
			return 2;
		}
	}
	if (o->gaps) {
		r.gaps_file = fopen(o->gaps, "we");
		if (!r.gaps_file) {
			fprintf(stderr, "client: %s: %s\n", o->gaps, strerror(errno));
			return 2;
		}
	}
	r.start_ns = r.last_ns = now_ns();
	command->work(&r);
	run_end(&r);
	if (r.gaps_file && fclose(r.gaps_file))
		run_error(&r, "%s: %s", o->gaps, strerror(errno));
	run_print(&r);
	return r.errors ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct options o = {
		.host = "10.9.0.10",
		.timeout = 30,
		.window = 1,
		.first = 1,
	};

	if (argc < 2)
		return usage();
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		if (parse(&o, argc - 1, argv + 1))
			return usage();
		if (!o.window && commands[i].work != work_udp)
			return usage();
		if (o.also && commands[i].work != work_rr)
			return usage();
		return run_command(&commands[i], &o);
	}
	return usage();
}
