// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <bpf/bpf.h>

#include "clock.h"
#include "log.h"
#include "names.h"
#include "output.h"
#include "translations.h"

#define BATCH 4096 /* more than any bucket of a hash map is long */
#define MS    1000000ULL

bool translation_ended(const struct colo_translation *t)
{
	const __u32 fins = COLO_TR_G_FIN | COLO_TR_C_FIN;

	return t->flags & COLO_TR_RST || (t->flags & fins) == fins;
}

/* `call` for each of the map; `take`: and delete it. 0 or -errno. */
static int walk(const struct datapath *dp, bool take,
		void (*call)(const struct colo_translation *t, void *context), void *context)
{
	struct colo_flow_key *keys = calloc(BATCH, sizeof(*keys));
	struct colo_translation *values = calloc(BATCH, sizeof(*values));
	int fd = dp->map_fd[MAP_TRANSLATIONS];
	__u32 cursor = 0, count;
	int err = keys && values ? 0 : -ENOMEM;

	for (bool first = true; !err; first = false) {
		count = BATCH;
		err = (take ? bpf_map_lookup_and_delete_batch : bpf_map_lookup_batch)(
			fd, first ? NULL : &cursor, &cursor, keys, values, &count, NULL);
		for (__u32 i = 0; (!err || err == -ENOENT) && i < count; i++) {
			values[i].key = keys[i];
			call(&values[i], context);
		}
	}
	free(keys);
	free(values);
	return err == -ENOENT ? 0 : err;
}

static const struct {
	const char *name;
	__u32 flag;
} ends[] = {
	{"guest_fin", COLO_TR_G_FIN},
	{"client_fin", COLO_TR_C_FIN},
	{"rst", COLO_TR_RST},
};

#define ENDS (sizeof(ends) / sizeof(*ends))

/* -------------------------------------------------------------- export --- */

struct export
{
	json_t *list;
	__u64 now;
};

static void export_one(const struct colo_translation *t, void *context)
{
	struct export *export = context;
	json_t *entry = name_flow(&t->key);

	json_object_del(entry, "protocol");
	output_number(entry, "seq_delta", t->seq_delta);
	output_number(entry, "ts_delta", t->ts_delta);
	if (t->flags & COLO_TR_ISN)
		output_number(entry, "isn", t->isn);
	if (t->flags & COLO_TR_ECHO)
		output_number(entry, "echo", t->ts_echo);
	for (size_t i = 0; i < ENDS; i++)
		if (t->flags & ends[i].flag)
			output_flag(entry, ends[i].name, 1);
	output_number(entry, "idle_ms",
		      t->seen_ns < export->now ? (export->now - t->seen_ns) / MS : 0);
	json_array_append_new(export->list, entry);
}

json_t *translations_export(const struct datapath *dp)
{
	struct export export = {.list = json_array(), .now = clock_now()};
	int err = walk(dp, false, export_one, &export);

	if (!err)
		return export.list;
	log_error("%s: the map `translations` cannot be read: %s", dp->abi.name,
		  strerror(-err));
	json_decref(export.list);
	return NULL;
}

static void count_one(const struct colo_translation *t, void *context)
{
	*(__u64 *)context += (t->seq_delta || t->ts_delta) && !translation_ended(t);
}

__u64 translations_count(const struct datapath *dp)
{
	__u64 count = 0;

	if (dp->session->translations)
		walk(dp, false, count_one, &count);
	return count;
}

/* -------------------------------------------------------------- import --- */

static void forget_one(const struct colo_translation *t, void *context)
{
	volatile struct colo_session *session = context;

	(void)t;
	__atomic_fetch_sub(&session->translations, 1, __ATOMIC_SEQ_CST);
}

int translations_clear(struct datapath *dp)
{
	return walk(dp, true, forget_one, (void *)dp->session);
}

/* As bpf/translate.h: the count is never below the number of entries. */
static int add(struct datapath *dp, const struct colo_translation *t)
{
	volatile struct colo_session *session = dp->session;
	int err;

	__atomic_fetch_add(&session->translations, 1, __ATOMIC_SEQ_CST);
	err = bpf_map_update_elem(dp->map_fd[MAP_TRANSLATIONS], &t->key, t, BPF_NOEXIST);
	if (err)
		__atomic_fetch_sub(&session->translations, 1, __ATOMIC_SEQ_CST);
	return err;
}

static int parse_addresses(struct colo_flow_key *key, const char *guest, const char *client)
{
	int family = strchr(guest, ':') ? AF_INET6 : AF_INET;

	key->ethertype = htons(family == AF_INET ? ETH_P_IP : ETH_P_IPV6);
	key->proto = IPPROTO_TCP;
	return inet_pton(family, guest, key->saddr) == 1 &&
			       inet_pton(family, client, key->daddr) == 1 ?
		       0 :
		       -EINVAL;
}

/* A member that is a number of at most max; an absent one is left alone if it may be. */
static int parse_number(const json_t *entry, const char *name, __u64 max, bool *there,
			__u64 *number)
{
	json_t *value = json_object_get(entry, name);

	if (!value && there)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    (__u64)json_integer_value(value) > max)
		return -EINVAL;
	*number = json_integer_value(value);
	if (there)
		*there = true;
	return 0;
}

static int parse(const json_t *entry, __u64 now, struct colo_translation *t)
{
	enum { GUEST_PORT, CLIENT_PORT, SEQ, TS, IDLE, VLAN, VLAN_INNER, ISN, ECHO, NUMBERS };
	bool there[NUMBERS] = {};
	const struct {
		const char *name;
		__u64 max;
		bool optional;
	} members[NUMBERS] = {
		[GUEST_PORT] = {"guest_port", 0xffff, false},
		[CLIENT_PORT] = {"client_port", 0xffff, false},
		[SEQ] = {"seq_delta", 0xffffffff, false},
		[TS] = {"ts_delta", 0xffffffff, false},
		[IDLE] = {"idle_ms", ~0ULL >> 1, false},
		[VLAN] = {"vlan", 0xfff, true},
		[VLAN_INNER] = {"vlan_inner", 0xfff, true},
		[ISN] = {"isn", 0xffffffff, true},
		[ECHO] = {"echo", 0xffffffff, true},
	};
	const char *guest = json_string_value(json_object_get(entry, "guest"));
	const char *client = json_string_value(json_object_get(entry, "client"));
	__u64 n[NUMBERS] = {};
	int err = 0;

	memset(t, 0, sizeof(*t));
	if (!guest || !client || parse_addresses(&t->key, guest, client))
		return -EINVAL;
	for (int i = 0; !err && i < NUMBERS; i++)
		err = parse_number(entry, members[i].name, members[i].max,
				   members[i].optional ? &there[i] : NULL, &n[i]);
	t->key.sport = htons(n[GUEST_PORT]);
	t->key.dport = htons(n[CLIENT_PORT]);
	t->key.vlan[0] = htons(n[VLAN]);
	t->key.vlan[1] = htons(n[VLAN_INNER]);
	t->seq_delta = n[SEQ];
	t->ts_delta = n[TS];
	t->isn = n[ISN];
	t->ts_echo = n[ECHO];
	t->flags = (there[ISN] ? COLO_TR_ISN : 0) | (there[ECHO] ? COLO_TR_ECHO : 0);
	for (size_t i = 0; i < ENDS; i++)
		if (json_is_true(json_object_get(entry, ends[i].name)))
			t->flags |= ends[i].flag;
	t->seen_ns = n[IDLE] < now / MS ? now - n[IDLE] * MS : 0;
	return err;
}

/* All are looked at before any is taken. */
static struct colo_translation *parse_all(const struct datapath *dp, const json_t *list)
{
	struct colo_translation *all;
	__u64 now = clock_now();
	json_t *entry;
	size_t i;

	if (!json_is_array(list)) {
		log_error("%s: translations: not a list", dp->abi.name);
		return NULL;
	}
	all = calloc(json_array_size(list) + 1, sizeof(*all));
	if (!all) {
		log_error("%s: translations: %s", dp->abi.name, strerror(ENOMEM));
		return NULL;
	}
	json_array_foreach(list, i, entry) {
		char *text;

		if (!parse(entry, now, &all[i]))
			continue;
		text = json_dumps(entry, JSON_COMPACT | JSON_ENCODE_ANY);
		log_error("%s: translations: entry %zu is none: %s", dp->abi.name, i,
			  text ? text : "");
		free(text);
		free(all);
		return NULL;
	}
	return all;
}

int translations_import(struct datapath *dp, const json_t *list)
{
	struct colo_translation *all = parse_all(dp, list);
	size_t count = json_array_size(list);
	int err;

	if (!all)
		return -EINVAL;
	err = translations_clear(dp);
	for (size_t i = 0; !err && i < count; i++)
		err = add(dp, &all[i]);
	free(all);
	if (!err)
		return 0;
	log_error("%s: %zu translations of the other side cannot be taken over: %s%s",
		  dp->abi.name, count, strerror(-err),
		  err == -E2BIG ? ": its --max-flows are more" : "");
	translations_clear(dp);
	return err;
}
