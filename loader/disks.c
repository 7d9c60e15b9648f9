// SPDX-License-Identifier: GPL-2.0-only
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "config.h"
#include "daemon.h"
#include "disks.h"
#include "log.h"
#include "progress.h"

#define NAME_BYTES  32
#define JOB_NEWS_MS 500
#define SWITCH_MS   30000 /* for the last writes to reach the replica */

static const char *node_name(char name[NAME_BYTES], const char *kind, unsigned int disk)
{
	snprintf(name, NAME_BYTES, "colo-%s-%u", kind, disk);
	return name;
}

/* ---- what there is ------------------------------------------------------------ */

static json_t *find_node(json_t *nodes, const char *name)
{
	json_t *node;
	size_t i;

	json_array_foreach(nodes, i, node) {
		const char *is = json_string_value(json_object_get(node, "node-name"));

		if (is && !strcmp(is, name))
			return node;
	}
	return NULL;
}

static bool check_node(struct task *task, json_t *nodes, const char *name, const char *driver)
{
	json_t *node = find_node(nodes, name);
	const char *is = json_string_value(json_object_get(node, "drv"));

	if (!node)
		return task_fail(task, "disk \"%s\": this QEMU has no block node of that name",
				 name);
	if (driver && (!is || strcmp(is, driver)))
		return task_fail(task, "disk \"%s\": is a node of the driver %s, %s is needed",
				 name, is ? is : "?", driver);
	return true;
}

json_t *disks_describe(struct task *task, struct daemon *d, bool secondary)
{
	json_t *nodes =
		task_qmp(task, false, "query-named-block-nodes", json_pack("{s:b}", "flat", 1));
	json_t *list = json_array();

	for (unsigned int i = 0; nodes && i < d->config->disks; i++) {
		const struct config_disk *disk = &d->config->disk[i];
		const char *sized = secondary ? disk->replica : disk->node;
		json_t *node, *bytes;

		if (!check_node(task, nodes, disk->node, "quorum") ||
		    (secondary && !check_node(task, nodes, disk->replica, NULL)))
			break;
		node = find_node(nodes, sized);
		bytes = json_object_get(json_object_get(node, "image"), "virtual-size");
		json_array_append_new(list,
				      json_pack("{s:s, s:O}", "node", sized, "bytes", bytes));
	}
	json_decref(nodes);
	if (json_array_size(list) == d->config->disks && !*task_error(task))
		return list;
	json_decref(list);
	return NULL;
}

static json_int_t bytes_of(json_t *list, size_t at)
{
	return json_integer_value(json_object_get(json_array_get(list, at), "bytes"));
}

bool disks_compare(struct task *task, struct daemon *d, json_t *mine, json_t *peers)
{
	size_t count = json_array_size(mine);

	if (json_array_size(peers) != count)
		return task_fail(task, "the configuration has %zu disks here, %zu at the peer",
				 count, json_array_size(peers));
	for (size_t i = 0; i < count; i++)
		if (bytes_of(mine, i) != bytes_of(peers, i))
			return task_fail(
				task,
				"disk \"%s\": %" JSON_INTEGER_FORMAT
				" bytes here, its replica \"%s\" at the peer has %" JSON_INTEGER_FORMAT,
				d->config->disk[i].node, bytes_of(mine, i),
				d->config->disk[i].replica, bytes_of(peers, i));
	return true;
}

/* ---- secondary ----------------------------------------------------------------- */

bool disks_export(struct task *task, struct daemon *d)
{
	const struct config_host *self = config_self(d->config);
	char id[NAME_BYTES], port[8];

	if (!d->config->disks)
		return true;
	/* one may be left of a start whose daemon has died */
	json_decref(task_try(task, "nbd-server-stop", NULL));
	snprintf(port, sizeof(port), "%u", d->config->nbd_port);
	if (!task_do(task, "nbd-server-start",
		     json_pack("{s:{s:s, s:{s:s, s:s}}}", "addr", "type", "inet", "data",
			       "host", self->address, "port", port)))
		return false;
	task_undo_qmp(task, "nbd-server-stop", NULL);
	for (unsigned int i = 0; i < d->config->disks; i++)
		if (!task_do(task, "block-export-add",
			     json_pack("{s:s, s:s, s:s, s:b}", "type", "nbd", "id",
				       node_name(id, "export", i), "node-name",
				       d->config->disk[i].replica, "writable", 1)))
			return false;
	return true;
}

/* ---- primary: the replica comes in ----------------------------------------------- */

static bool add_node(struct task *task, const char *name, json_t *description)
{
	if (!task_do(task, "blockdev-add", description))
		return false;
	task_undo_qmp(task, "blockdev-del", json_pack("{s:s}", "node-name", name));
	return true;
}

bool disks_connect(struct task *task, struct daemon *d)
{
	const struct config_host *peer = config_peer(d->config);
	char name[NAME_BYTES], port[8];

	snprintf(port, sizeof(port), "%u", d->config->nbd_port);
	for (unsigned int i = 0; i < d->config->disks; i++) {
		node_name(name, "nbd", i);
		if (!add_node(task, name,
			      json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:s}", "driver", "nbd",
					"node-name", name, "server", "type", "inet", "host",
					peer->address, "port", port, "export",
					d->config->disk[i].replica)))
			return false;
	}
	return true;
}

/* The job of that id in the answer of query-block-jobs. */
static json_t *find_job(json_t *jobs, const char *id)
{
	json_t *job;
	size_t i;

	json_array_foreach(jobs, i, job)
		if (qmp_text_is(json_object_get(job, "device"), id))
			return job;
	return NULL;
}

static void undo_job(struct task *task, json_t *argument)
{
	json_t *jobs = task_qmp(task, false, "query-block-jobs", NULL);
	const char *id = json_string_value(argument);
	__u64 seen;

	if (find_job(jobs, id))
		task_do(task, "block-job-cancel",
			json_pack("{s:s, s:b}", "device", id, "force", 1));
	while (find_job(jobs, id)) {
		seen = task_news_count(task);
		json_decref(jobs);
		jobs = task_qmp(task, false, "query-block-jobs", NULL);
		if (!find_job(jobs, id) || !task_news(task, seen, JOB_NEWS_MS))
			break;
	}
	json_decref(jobs);
}

/* Are all copies complete but for what is written from now on? */
static bool sync_look(struct task *task, struct daemon *d, struct progress *progress,
		      bool *ready)
{
	json_t *jobs = task_qmp(task, false, "query-block-jobs", NULL);
	__u64 done = 0, all = 0;
	char id[NAME_BYTES];

	*ready = true;
	for (unsigned int i = 0; jobs && i < d->config->disks; i++) {
		json_t *job = find_job(jobs, node_name(id, "sync", i));

		if (!job) {
			json_decref(jobs);
			return task_fail(
				task,
				"disk \"%s\": the copy to the peer ended early, QEMU's log may say why",
				d->config->disk[i].node);
		}
		done += json_integer_value(json_object_get(job, "offset"));
		all += json_integer_value(json_object_get(job, "len"));
		if (!json_is_true(json_object_get(job, "ready")))
			*ready = false;
	}
	if (!jobs)
		return false;
	json_decref(jobs);
	progress_step(d, progress, done, all);
	return true;
}

bool disks_sync(struct task *task, struct daemon *d)
{
	struct progress progress = progress_begin("disks");
	char id[NAME_BYTES], target[NAME_BYTES];
	bool ready = false;
	__u64 seen;

	for (unsigned int i = 0; i < d->config->disks; i++) {
		node_name(id, "sync", i);
		if (!task_do(task, "blockdev-mirror",
			     json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "job-id", id,
				       "device", d->config->disk[i].node, "target",
				       node_name(target, "nbd", i), "sync", "full", "copy-mode",
				       "write-blocking", "on-source-error", "report",
				       "on-target-error", "report")))
			return false;
		task_undo(task, undo_job, json_string(id));
	}
	do {
		seen = task_news_count(task);
		if (!sync_look(task, d, &progress, &ready))
			return false;
	} while (!ready && task_news(task, seen, JOB_NEWS_MS));
	return ready;
}

/* The copy ends with all written: a job that is ready may be cancelled so. */
static bool sync_end(struct task *task, unsigned int disk)
{
	__u64 until = clock_now() + SWITCH_MS * MS_NS, seen;
	char id[NAME_BYTES];
	json_t *jobs;
	bool running;

	node_name(id, "sync", disk);
	if (!task_do(task, "block-job-cancel", json_pack("{s:s}", "device", id)))
		return false;
	do {
		seen = task_news_count(task);
		jobs = task_qmp(task, false, "query-block-jobs", NULL);
		running = find_job(jobs, id);
		json_decref(jobs);
		if (!jobs)
			return false;
		if (running && clock_now() > until)
			return task_fail(task, "the copy %s does not end", id);
	} while (running && task_news(task, seen, JOB_NEWS_MS));
	return !running;
}

/* A child of a quorum has a name that only the graph tells: the edge from node to child. */
static const char *child_name(json_t *graph, const char *parent, const char *child)
{
	json_int_t parent_id = -1, child_id = -1;
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(graph, "nodes"), i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		json_int_t id = json_integer_value(json_object_get(item, "id"));

		if (name && !strcmp(name, parent))
			parent_id = id;
		if (name && !strcmp(name, child))
			child_id = id;
	}
	json_array_foreach(json_object_get(graph, "edges"), i, item)
		if (json_integer_value(json_object_get(item, "parent")) == parent_id &&
		    json_integer_value(json_object_get(item, "child")) == child_id)
			return json_string_value(json_object_get(item, "name"));
	return NULL;
}

static bool part_from(struct task *task, const char *quorum, unsigned int disk)
{
	json_t *graph = task_qmp(task, false, "x-debug-query-block-graph", NULL);
	char replica[NAME_BYTES];
	const char *child;
	bool done = graph;

	child = child_name(graph, quorum, node_name(replica, "replica", disk));
	if (child)
		done = task_do(task, "x-blockdev-change",
			       json_pack("{s:s, s:s}", "parent", quorum, "child", child));
	json_decref(graph);
	return done;
}

static void undo_child(struct task *task, json_t *argument)
{
	part_from(task, json_string_value(json_array_get(argument, 0)),
		  json_integer_value(json_array_get(argument, 1)));
}

bool disks_switch(struct task *task, struct daemon *d, bool synced)
{
	char replica[NAME_BYTES], nbd[NAME_BYTES];

	for (unsigned int i = 0; i < d->config->disks; i++) {
		const char *quorum = d->config->disk[i].node;

		if (synced && !sync_end(task, i))
			return false;
		node_name(replica, "replica", i);
		if (!add_node(task, replica,
			      json_pack("{s:s, s:s, s:s, s:s}", "driver", "replication", "mode",
					"primary", "node-name", replica, "file",
					node_name(nbd, "nbd", i))))
			return false;
		if (!task_do(task, "x-blockdev-change",
			     json_pack("{s:s, s:s}", "parent", quorum, "node", replica)))
			return false;
		task_undo(task, undo_child, json_pack("[s, i]", quorum, (int)i));
	}
	return true;
}

/* ---- the survivor ------------------------------------------------------------------ */

bool disks_part(struct task *task, struct daemon *d)
{
	bool done = true;

	for (unsigned int i = 0; i < d->config->disks; i++)
		done = part_from(task, d->config->disk[i].node, i) && done;
	return done;
}

/* Of a start whose daemon has died. */
static void remove_jobs(struct task *task, struct daemon *d)
{
	char id[NAME_BYTES];

	for (unsigned int i = 0; i < d->config->disks; i++) {
		json_t *argument = json_string(node_name(id, "sync", i));

		undo_job(task, argument);
		json_decref(argument);
	}
}

bool disks_remove(struct task *task, struct daemon *d)
{
	static const char *const kinds[] = {"replica", "nbd"};
	char name[NAME_BYTES];
	json_t *nodes;
	bool done;

	remove_jobs(task, d);
	nodes = task_qmp(task, false, "query-named-block-nodes", json_pack("{s:b}", "flat", 1));
	done = nodes;

	for (unsigned int i = 0; nodes && i < d->config->disks; i++)
		for (unsigned int k = 0; k < 2; k++)
			if (find_node(nodes, node_name(name, kinds[k], i)))
				done = task_do(task, "blockdev-del",
					       json_pack("{s:s}", "node-name", name)) &&
				       done;
	json_decref(nodes);
	return done;
}

json_t *disks_yank(struct daemon *d, bool nbd)
{
	json_t *list = json_pack("[{s:s}]", "type", "migration");
	char name[NAME_BYTES];

	for (unsigned int i = 0; nbd && i < d->config->disks; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "type", "block-node",
						      "node-name", node_name(name, "nbd", i)));
	return list;
}

bool disks_is_replica(struct daemon *d, const char *node)
{
	char replica[NAME_BYTES], nbd[NAME_BYTES];

	for (unsigned int i = 0; node && i < d->config->disks; i++)
		if (!strcmp(node, node_name(replica, "replica", i)) ||
		    !strcmp(node, node_name(nbd, "nbd", i)))
			return true;
	return false;
}
