/* SPDX-License-Identifier: GPL-2.0-only */
/* The sub-commands, a file each. They return the exit status. */
#ifndef COLO_COMMANDS_H
#define COLO_COMMANDS_H

#define COLO_COMMANDS(X)                                                          \
	X(attach, "Load the data path of an instance and hook it to its devices") \
	X(detach, "Take an instance away: its hooks, its pins, what it holds")    \
	X(config, "Check or show a configuration file")                           \
	X(run, "Run the daemon of an instance")                                   \
	X(status, "Show what an instance does")                                   \
	X(stats, "Show the counters of an instance")                              \
	X(flows, "Show the flows of an instance")                                 \
	X(policy, "Show or set what is compared, passed or dropped, by class")    \
	X(passthrough, "Let flows leave uncompared: add, del, list")              \
	X(events, "Follow the events of an instance, one JSON object a line")     \
	X(checkpoint, "Ask for a checkpoint")                                     \
	X(checkpoints, "Show the last checkpoints, and what they took")           \
	X(start, "Bring the pair to COLO, from two running QEMUs")                \
	X(resync, "Bring a fresh secondary up against the survivor")              \
	X(failover, "Let this side go on alone")                                  \
	X(witness, "Be the third place that lets one of two hosts go on")         \
	X(probe, "Show what this kernel, devices and QEMU can do")                \
	X(version, "Show the versions")

#define COLO_COMMAND(name, summary) int cmd_##name(int argc, char **argv);
COLO_COMMANDS(COLO_COMMAND)
#undef COLO_COMMAND

/* The one-line summary of a command, for its help. */
const char *command_summary(const char *name);

#define COLO_VERSION "0.1"

#endif
