// SPDX-License-Identifier: GPL-2.0-only
/*
 * watch: which host the guest's frames come from.
 *
 *	watch [--all] MAC DEV DEV...
 *
 * Prints a line with the time (CLOCK_REALTIME, s), the device and the ethertype
 * whenever a frame with that source comes in on another device than the one
 * before it: each take-over is one line. Two hosts that both send make many.
 * With --all each frame is a line. Ends with SIGTERM, after "frames DEV N" for
 * each device.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#define DEVICES 8

struct device {
	const char *name;
	int index;
	unsigned long frames;
};

static volatile sig_atomic_t ended;
static int all;

static void on_end(int number)
{
	(void)number;
	ended = 1;
}

static int open_all(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), on = 1, size = 64 << 20;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
	return fd;
}

/* When the kernel had it. */
static struct timespec time_of(struct msghdr *message)
{
	struct cmsghdr *c;
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	for (c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS)
			memcpy(&t, CMSG_DATA(c), sizeof(t));
	return t;
}

static void say(const char *device, const unsigned char *frame, struct msghdr *message)
{
	struct timespec t = time_of(message);

	printf("%ld.%06ld %s %02x%02x\n", (long)t.tv_sec, t.tv_nsec / 1000, device,
	       frame[2 * ETH_ALEN], frame[2 * ETH_ALEN + 1]);
	fflush(stdout);
}

/* Returns the device that the frame came from, the last one's if it is not the guest's. */
static struct device *look(int fd, const unsigned char *mac, struct device *devices, int count,
			   struct device *last)
{
	unsigned char frame[ETH_HLEN], control[128];
	struct sockaddr_ll from;
	struct iovec data = {.iov_base = frame, .iov_len = sizeof(frame)};
	struct msghdr message = {.msg_name = &from,
				 .msg_namelen = sizeof(from),
				 .msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &message, MSG_TRUNC);

	if (n < (ssize_t)sizeof(frame) || memcmp(frame + ETH_ALEN, mac, ETH_ALEN))
		return last;
	for (int i = 0; i < count; i++) {
		if (devices[i].index != from.sll_ifindex)
			continue;
		devices[i].frames++;
		if (all || last != &devices[i])
			say(devices[i].name, frame, &message);
		return &devices[i];
	}
	return last;
}

int main(int argc, char **argv)
{
	struct device devices[DEVICES] = {0}, *last = NULL;
	struct tpacket_stats stats;
	socklen_t length = sizeof(stats);
	unsigned char mac[ETH_ALEN];
	struct sigaction action = {.sa_handler = on_end};
	struct pollfd polled;
	int fd, count;

	all = argc > 1 && !strcmp(argv[1], "--all");
	argc -= all;
	argv += all;
	count = argc - 2;
	if (count < 1 || count > DEVICES ||
	    sscanf(argv[1], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5]) != ETH_ALEN) {
		fprintf(stderr, "usage: watch [--all] MAC DEV...\n");
		return 2;
	}
	for (int i = 0; i < count; i++) {
		devices[i].name = argv[i + 2];
		devices[i].index = if_nametoindex(argv[i + 2]);
		if (!devices[i].index) {
			fprintf(stderr, "watch: %s: %s\n", argv[i + 2], strerror(errno));
			return 1;
		}
	}
	fd = open_all();
	if (fd < 0) {
		fprintf(stderr, "watch: packet socket: %s\n", strerror(errno));
		return 1;
	}
	sigaction(SIGTERM, &action, NULL);
	polled = (struct pollfd){.fd = fd, .events = POLLIN};
	while (!ended)
		if (poll(&polled, 1, 100) > 0)
			last = look(fd, mac, devices, count, last);
	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length);
	for (int i = 0; i < count; i++)
		printf("frames %s %lu\n", devices[i].name, devices[i].frames);
	if (stats.tp_drops) {
		fprintf(stderr, "watch: %u frames were not seen\n", stats.tp_drops);
		return 1;
	}
	return 0;
}
