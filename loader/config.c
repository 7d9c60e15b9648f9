// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libconfig.h>

#include "log.h"
#include "output.h"
#include "pool.h"
#include "settings.h"
#include "words.h"

#define LEASE_MS 200 /* with a witness, if the file does not say */

/* A file that is being read. */
struct reader {
	struct config *config;
	const char *path;
	unsigned int faults;
};

static const char *const host_names[2] = {"primary", "secondary"};

void config_default_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s.conf", CONFIG_DIR, name);
}

/* ------------------------------------------------------------ messages --- */

/* line 0: none that could be named. */
static void fault_at(struct reader *r, const char *file, unsigned int line, const char *format,
		     ...) __attribute__((format(printf, 4, 5)));

static void fault_at(struct reader *r, const char *file, unsigned int line, const char *format,
		     ...)
{
	char text[512], number[16] = "";
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (line)
		snprintf(number, sizeof(number), "%u:", line);
	log_error("%s:%s %s", file ? file : r->path, number, text);
	r->faults++;
}

#define fault(r, at, ...)                                         \
	fault_at(r, (at) ? config_setting_source_file(at) : NULL, \
		 (at) ? config_setting_source_line(at) : 0, __VA_ARGS__)

static unsigned int row_of(const char *group, const char *name)
{
	return setting_find(group, name) - settings;
}

/* Does the file have it? */
static bool is_set(const struct reader *r, const char *group, const char *name)
{
	return r->config->line[row_of(group, name)];
}

/* What is wrong with a setting that was read, at its line, if it has one. */
#define fault_row(r, row, ...) \
	fault_at(r, (r)->config->file[row], (r)->config->line[row], __VA_ARGS__)
#define fault_in(r, group, name, ...) fault_row(r, row_of(group, name), __VA_ARGS__)

/* --------------------------------------------------------------- values -- */

static bool number_of(const config_setting_t *at, long long *number)
{
	if (config_setting_type(at) == CONFIG_TYPE_INT)
		*number = config_setting_get_int(at);
	else if (config_setting_type(at) == CONFIG_TYPE_INT64)
		*number = config_setting_get_int64(at);
	else
		return false;
	return true;
}

static void read_number(struct reader *r, const config_setting_t *at,
			const struct setting *setting, const char *name)
{
	long long number = 0;

	if (!number_of(at, &number) || number < setting->min || number > setting->max)
		fault(r, at, "%s: a number from %u to %u is needed", name, setting->min,
		      setting->max);
	else
		*(__u32 *)setting_value(setting, r->config) = number;
}

static void read_choice(struct reader *r, const config_setting_t *at,
			const struct setting *setting, const char *name)
{
	const char *text = config_setting_get_string(at);
	char list[128] = "";

	for (__u32 i = setting->min; setting->choices[i]; i++) {
		size_t used = strlen(list);

		if (text && !strcmp(text, setting->choices[i])) {
			*(int *)setting_value(setting, r->config) = i;
			return;
		}
		snprintf(list + used, sizeof(list) - used, "%s\"%s\"", used ? ", " : "",
			 setting->choices[i]);
	}
	fault(r, at, "%s: one of %s is needed", name, list);
}

/* A copy of the text, or NULL after a message. */
static const char *read_string(struct reader *r, const config_setting_t *at,
			       const struct setting *setting, const char *name)
{
	const char *text = config_setting_get_string(at), *needed;

	if (!text || !*text) {
		fault(r, at, "%s: a text in quotes is needed", name);
		return NULL;
	}
	needed = setting->check ? setting->check(text) : NULL;
	if (needed) {
		fault(r, at, "%s \"%s\": %s", name, text, needed);
		return NULL;
	}
	return strdup(text);
}

static void read_paths(struct reader *r, const config_setting_t *at,
		       const struct setting *setting, const char *name)
{
	struct config_host *host = setting_value(setting, r->config);
	int count = config_setting_length(at);

	if (!config_setting_is_array(at) && !config_setting_is_list(at)) {
		fault(r, at, "%s: a list of addresses, [ \"ADDR\", ... ], is needed", name);
		return;
	}
	if (count > CONFIG_PATHS_MAX) {
		fault(r, at, "%s: at most %d", name, CONFIG_PATHS_MAX);
		return;
	}
	for (int i = 0; i < count; i++)
		host->path[host->paths++] =
			read_string(r, config_setting_get_elem(at, i), setting, name);
}

static void read_disk(struct reader *r, const config_setting_t *at,
		      const struct setting *setting)
{
	struct config_disk *disk = &r->config->disk[r->config->disks++];
	int count = config_setting_is_group(at) ? config_setting_length(at) : 0;

	for (int i = 0; i < count; i++) {
		const config_setting_t *member = config_setting_get_elem(at, i);
		const char *name = config_setting_name(member);

		if (!strcmp(name, "node"))
			disk->node = read_string(r, member, setting, "disks: node");
		else if (!strcmp(name, "replica"))
			disk->replica = read_string(r, member, setting, "disks: replica");
		else
			fault(r, member, "disks: %s: no such setting", name);
	}
	if (!config_setting_get_member(at, "node") || !config_setting_get_member(at, "replica"))
		fault(r, at, "disks: { node = \"NODE\"; replica = \"NODE\"; } is needed");
}

static void read_disks(struct reader *r, const config_setting_t *at,
		       const struct setting *setting, const char *name)
{
	int count = config_setting_length(at);

	if (!config_setting_is_list(at)) {
		fault(r, at, "%s: a list, ( { node = ...; replica = ...; }, ... ), is needed",
		      name);
		return;
	}
	if (count > CONFIG_DISKS_MAX) {
		fault(r, at, "%s: at most %d", name, CONFIG_DISKS_MAX);
		return;
	}
	for (int i = 0; i < count; i++)
		read_disk(r, config_setting_get_elem(at, i), setting);
}

static void note_place(struct reader *r, const config_setting_t *at, unsigned int row)
{
	const char *file = config_setting_source_file(at);

	r->config->line[row] = config_setting_source_line(at);
	if (file && strcmp(file, r->path))
		r->config->file[row] = strdup(file);
}

static void read_setting(struct reader *r, const config_setting_t *at,
			 const struct setting *setting)
{
	char name[64];

	setting_name(name, sizeof(name), setting);
	note_place(r, at, setting - settings);
	switch (setting->type) {
	case SETTING_TEXT:
		*(const char **)setting_value(setting, r->config) =
			read_string(r, at, setting, name);
		break;
	case SETTING_NUMBER:
		read_number(r, at, setting, name);
		break;
	case SETTING_CHOICE:
		read_choice(r, at, setting, name);
		break;
	case SETTING_PATHS:
		read_paths(r, at, setting, name);
		break;
	case SETTING_DISKS:
		read_disks(r, at, setting, name);
		break;
	}
}

/* ---------------------------------------------------------------- whole -- */

static bool is_group(const char *name)
{
	for (unsigned int i = 0; i < settings_count; i++)
		if (*settings[i].group && !strcmp(settings[i].group, name))
			return true;
	return false;
}

static void read_group(struct reader *r, const config_setting_t *group, const char *name)
{
	int count = config_setting_length(group);

	for (int i = 0; i < count; i++) {
		const config_setting_t *at = config_setting_get_elem(group, i);
		const struct setting *setting = setting_find(name, config_setting_name(at));

		if (setting)
			read_setting(r, at, setting);
		else if (*name || !is_group(config_setting_name(at)))
			fault(r, at, "%s%s%s: no such setting", name, *name ? "." : "",
			      config_setting_name(at));
		else if (!config_setting_is_group(at))
			fault(r, at, "%s: a group, { ... }, is needed",
			      config_setting_name(at));
		else
			read_group(r, at, config_setting_name(at));
	}
}

static void check_required(struct reader *r)
{
	for (unsigned int i = 0; i < settings_count; i++) {
		char name[64];

		setting_name(name, sizeof(name), &settings[i]);
		if (settings[i].required && !r->config->line[i])
			fault_at(r, NULL, 0, "%s is missing", name);
	}
}

static void set_defaults(struct config *config)
{
	for (unsigned int i = 0; i < settings_count; i++) {
		void *value = setting_value(&settings[i], config);

		if (settings[i].type == SETTING_NUMBER)
			*(__u32 *)value = settings[i].number;
		else if (settings[i].type == SETTING_CHOICE)
			*(int *)value = settings[i].number;
	}
	for (int i = 0; i < 2; i++)
		config->host[i].name = host_names[i];
}

/* What is alike on both hosts may stand outside their groups. */
static void share(struct reader *r, struct config_host *host, const char *name,
		  const char **value, const char *shared)
{
	if (!*value && shared)
		*value = strdup(shared);
	if (!*value && !is_set(r, host->name, name) && !is_set(r, "", name))
		fault_at(r, NULL, 0, "%s.%s is missing (or %s, for both hosts)", host->name,
			 name, name);
}

static void share_all(struct reader *r)
{
	const struct config_host *shared = &r->config->shared;

	for (int i = 0; i < 2; i++) {
		struct config_host *host = &r->config->host[i];

		share(r, host, "guest", &host->guest, shared->guest);
		share(r, host, "port", &host->port, shared->port);
		share(r, host, "link", &host->link, shared->link);
		share(r, host, "qmp", &host->qmp, shared->qmp);
	}
}

/* --------------------------------------------------------------- checks -- */

static void check_ends(struct reader *r, const char *name, const char *a, const char *b)
{
	if (!a || !b)
		return;
	if (!strcmp(a, b))
		fault_in(r, "secondary", name, "secondary.%s: %s is the primary's, too", name,
			 b);
	if (!strchr(a, ':') != !strchr(b, ':'))
		fault_in(r, "secondary", name,
			 "secondary.%s: %s is of another family than the primary's %s", name, b,
			 a);
}

static void check_devices(struct reader *r, const struct config_host *host)
{
	const char *guest = host->guest, *port = host->port, *link = host->link;

	if (guest && port && link &&
	    (!strcmp(guest, port) || !strcmp(guest, link) || !strcmp(port, link)))
		fault_in(r, is_set(r, host->name, "guest") ? host->name : "", "guest",
			 "%s: guest, port and link must be three devices", host->name);
}

static void check_hosts(struct reader *r)
{
	const struct config_host *p = &r->config->host[0], *s = &r->config->host[1];

	check_ends(r, "address", p->address, s->address);
	if (p->paths != s->paths)
		fault_in(r, is_set(r, "secondary", "paths") ? "secondary" : "primary", "paths",
			 "paths: the primary has %u, the secondary %u; each has an end on both",
			 p->paths, s->paths);
	for (__u32 i = 0; i < p->paths && i < s->paths; i++)
		check_ends(r, "paths", p->path[i], s->path[i]);
	check_devices(r, p);
	check_devices(r, s);
}

static void check_ports(struct reader *r)
{
	static const char *const names[] = {"nbd_port", "migration_port", "peer_port",
					    "channel_port"};
	const struct config *c = r->config;
	const __u32 port[] = {c->nbd_port, c->migration_port, c->peer_port, c->channel_port};

	/* Nobody may listen on peer_port: a refusal shows that the host lives. */
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < i; j++)
			if (port[i] == port[j])
				fault_in(r, "", is_set(r, "", names[i]) ? names[i] : names[j],
					 "%s and %s are both %u", names[j], names[i], port[i]);
}

static void check_times(struct reader *r)
{
	const struct config *c = r->config;

	if (c->peer_timeout_ms < 2 * c->heartbeat_ms)
		fault_in(r, "",
			 is_set(r, "", "peer_timeout_ms") ? "peer_timeout_ms" : "heartbeat_ms",
			 "peer_timeout_ms %u: must be at least twice heartbeat_ms %u",
			 c->peer_timeout_ms, c->heartbeat_ms);
	if (c->checkpoint.min_distance_ms > c->checkpoint.period_ms)
		fault_in(r, "checkpoint",
			 is_set(r, "checkpoint", "min_distance_ms") ? "min_distance_ms" :
								      "period_ms",
			 "checkpoint.min_distance_ms %u: is more than checkpoint.period_ms %u",
			 c->checkpoint.min_distance_ms, c->checkpoint.period_ms);
}

/* Better now than when the peer is gone. */
static void check_fence(struct reader *r)
{
	static const struct word_value values[] = {{'h', ""}, {'a', ""}, {'n', ""}, {}};
	const char *why;
	char **words;

	if (!r->config->takeover.fence)
		return;
	words = words_split(r->config->takeover.fence, values, &why);
	if (words && access(words[0], X_OK))
		fault_in(r, "takeover", "fence", "takeover.fence: %s: %s", words[0],
			 strerror(errno));
	words_free(words);
}

static void check_takeover(struct reader *r)
{
	struct config_takeover *t = &r->config->takeover;

	if (t->policy == TAKEOVER_WITNESS && !is_set(r, "takeover", "lease_ms"))
		t->lease_ms = LEASE_MS;
	if (t->policy == TAKEOVER_FENCE && !is_set(r, "takeover", "fence"))
		fault_in(r, "takeover", "policy",
			 "takeover.policy \"fence\": takeover.fence is missing");
	if (t->policy == TAKEOVER_WITNESS && !is_set(r, "takeover", "witness"))
		fault_in(r, "takeover", "policy",
			 "takeover.policy \"witness\": takeover.witness is missing");
	if (t->policy == TAKEOVER_WITNESS && !t->lease_ms)
		fault_in(r, "takeover", "lease_ms",
			 "takeover.lease_ms 0: with a witness the primary needs a lease");
	if (t->lease_ms && t->lease_ms < 2 * r->config->heartbeat_ms)
		fault_in(r, "takeover", "lease_ms",
			 "takeover.lease_ms %u: must be at least twice heartbeat_ms %u",
			 t->lease_ms, r->config->heartbeat_ms);
	check_fence(r);
}

static void check_pool(struct reader *r)
{
	const struct colo_config *proxy = &r->config->proxy;

	if (!pool_entries(proxy))
		fault_in(
			r, "proxy", "big_blocks",
			"proxy: %u small_blocks and %u big_blocks are a pool of more than 1 GB",
			proxy->small_blocks, proxy->big_blocks);
}

static void check_secret(struct reader *r)
{
	struct config *config = r->config;
	char why[128];

	if (config->secret_file &&
	    secret_read(&config->secret, config->secret_file, why, sizeof(why)))
		fault_in(r, "", "secret_file", "secret_file %s: %s", config->secret_file, why);
}

static void read_file(struct reader *r)
{
	char directory[4096];
	config_t file;
	char *slash;

	config_init(&file);
	snprintf(directory, sizeof(directory), "%s", r->path);
	slash = strrchr(directory, '/');
	if (slash) {
		*slash = 0;
		config_set_include_dir(&file, directory);
	}
	if (config_read_file(&file, r->path)) {
		read_group(r, config_root_setting(&file), "");
		check_required(r);
		share_all(r);
		check_hosts(r);
		check_ports(r);
		check_times(r);
		check_takeover(r);
		check_pool(r);
		check_secret(r);
	} else if (config_error_type(&file) == CONFIG_ERR_PARSE) {
		fault_at(r, config_error_file(&file), config_error_line(&file), "%s",
			 config_error_text(&file));
	} else {
		fault_at(r, NULL, 0, "%s", errno ? strerror(errno) : "cannot be read");
	}
	config_destroy(&file);
}

struct config *config_load(const char *path)
{
	struct reader r = {.config = calloc(1, sizeof(*r.config)), .path = path};

	if (!r.config) {
		log_error("%s: no memory for it", path);
		return NULL;
	}
	r.config->path = strdup(path);
	set_defaults(r.config);
	errno = 0;
	read_file(&r);
	if (!r.faults)
		return r.config;
	config_free(r.config);
	return NULL;
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (unsigned int i = 0; i < settings_count; i++)
		if (settings[i].type == SETTING_TEXT)
			free(*(char **)setting_value(&settings[i], config));
	for (unsigned int i = 0; i < settings_count; i++)
		free((char *)config->file[i]);
	for (int i = 0; i < 2; i++)
		for (__u32 j = 0; j < config->host[i].paths; j++)
			free((char *)config->host[i].path[j]);
	for (__u32 i = 0; i < config->disks; i++) {
		free((char *)config->disk[i].node);
		free((char *)config->disk[i].replica);
	}
	free((char *)config->path);
	config_free(config->before);
	free(config);
}

/* ----------------------------------------------------------------- uses -- */

const struct config_host *config_self(const struct config *config)
{
	return &config->host[config->role == COLO_ROLE_PRIMARY ? 0 : 1];
}

const struct config_host *config_peer(const struct config *config)
{
	return &config->host[config->role == COLO_ROLE_PRIMARY ? 1 : 0];
}

json_t *config_describe(const struct config *config)
{
	json_t *object = json_object(), *group;

	for (unsigned int i = 0; i < settings_count; i++) {
		const struct setting *setting = &settings[i];

		if (setting->change == CHANGE_SHARED)
			continue;
		group = object;
		if (*setting->group) {
			group = json_object_get(object, setting->group);
			if (!group) {
				output_set(object, setting->group, json_object());
				group = json_object_get(object, setting->group);
			}
		}
		output_set(group, setting->name, setting_describe(setting, config));
	}
	return object;
}

static bool may_change(const struct setting *setting, bool in_colo)
{
	return setting->change == CHANGE_LIVE || setting->change == CHANGE_SHARED ||
	       (setting->change == CHANGE_IDLE && !in_colo);
}

static bool same_value(const struct setting *setting, const struct config *a,
		       const struct config *b)
{
	json_t *x = setting_describe(setting, a), *y = setting_describe(setting, b);
	bool same = json_equal(x, y);

	json_decref(x);
	json_decref(y);
	return same;
}

bool config_may_replace(const struct config *now, const struct config *next, bool in_colo)
{
	struct reader r = {.config = (struct config *)next, .path = next->path};

	for (unsigned int i = 0; i < settings_count; i++) {
		const struct setting *setting = &settings[i];
		char name[64];

		if (may_change(setting, in_colo) || same_value(setting, now, next))
			continue;
		setting_name(name, sizeof(name), setting);
		fault_row(&r, i, "%s: cannot be changed while %s", name,
			  setting->change == CHANGE_IDLE ? "COLO runs" : "the daemon runs");
	}
	if (memcmp(&now->secret, &next->secret, sizeof(now->secret)))
		fault_in(
			&r, "", "secret_file",
			"secret_file: has another content, which cannot be changed while the daemon runs");
	return !r.faults;
}
