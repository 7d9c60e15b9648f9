// SPDX-License-Identifier: GPL-2.0-only
/*
 * Begins COLO in an instance that is attached, with no QEMU that would say so,
 * and does the daemon's part until it is killed: bench-colo NAME. Exit status 3:
 * the guests' answers differ.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "scaling.h"

#define TURN_NS 1000000 /* events are not waited for */

bool verbose; /* of the case runner's parts */

static int turn(struct rig *rig)
{
	struct timespec pause = {.tv_nsec = TURN_NS};
	int err = rig_daemon(rig);

	nanosleep(&pause, NULL);
	return err;
}

int main(int argc, char **argv)
{
	static struct rig rig;
	int err;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-colo NAME\n");
		return 2;
	}
	err = rig_adopt(&rig, argv[1]);
	if (!err) {
		printf("ready\n");
		fflush(stdout);
	}
	while (!err && !rig.dp.session->request_epoch)
		err = turn(&rig);
	if (err)
		fprintf(stderr, "bench-colo: %s: %s\n", argv[1], strerror(-err));
	else
		fprintf(stderr, "bench-colo: %s: a checkpoint is asked for, reason %d\n",
			argv[1], rig.dp.session->request_reason);
	return err ? 1 : 3;
}
