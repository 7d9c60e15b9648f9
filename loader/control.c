// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "control.h"
#include "log.h"

#define ANSWER_MS 5000

void control_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s.sock", COLO_RUN_DIR, name);
}

int control_open(struct control_client *client, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int err;

	memset(client, 0, sizeof(*client));
	control_path(address.sun_path, sizeof(address.sun_path), name);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return -errno;
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address))) {
		err = -errno;
		control_close(client);
		return err;
	}
	return 0;
}

void control_close(struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	free(client->buffer);
	memset(client, 0, sizeof(*client));
	client->fd = -1;
}

int control_send_object(struct control_client *client, json_t *request)
{
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int length = text ? (int)strlen(text) : 0, err = -ENOMEM;

	json_decref(request);
	if (text) {
		text[length++] = '\n'; /* in the place of the NUL */
		err = send(client->fd, text, length, MSG_NOSIGNAL) == length ? 0 : -errno;
	}
	free(text);
	return err;
}

int control_send(struct control_client *client, const char *command)
{
	return control_send_object(client, json_pack("{s:s}", "command", command));
}

static int read_more(struct control_client *client, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
	ssize_t n;

	if (client->length + 65536 > client->size) {
		char *more = realloc(client->buffer, client->size + 131072);

		if (!more)
			return -ENOMEM;
		client->buffer = more;
		client->size += 131072;
	}
	if (poll(&poll_fd, 1, timeout_ms) <= 0)
		return -ETIMEDOUT;
	n = read(client->fd, client->buffer + client->length, 65536);
	if (n <= 0)
		return n ? -errno : -EPIPE;
	client->length += n;
	return 0;
}

json_t *control_receive(struct control_client *client, int timeout_ms)
{
	char *newline = NULL;
	json_t *object;
	size_t used;

	for (;;) {
		if (client->length)
			newline = memchr(client->buffer, '\n', client->length);
		if (newline)
			break;
		if (read_more(client, timeout_ms))
			return NULL;
	}
	used = newline + 1 - client->buffer;
	object = json_loadb(client->buffer, used, 0, NULL);
	client->length -= used;
	memmove(client->buffer, client->buffer + used, client->length);
	return object;
}

int control_reach(struct control_client *client, const char *name)
{
	int err = control_open(client, name);

	if (err)
		log_error("%s/%s.sock: %s: no daemon runs for %s (`colo-bpf run`)",
			  COLO_RUN_DIR, name, strerror(-err), name);
	return err;
}

json_t *control_call(const char *name, const char *command, int *running)
{
	struct control_client client;
	json_t *answer, *value = NULL;
	const char *text;
	int err;

	err = running ? control_open(&client, name) : control_reach(&client, name);
	if (running)
		*running = !err;
	if (err)
		return NULL;
	answer = control_send(&client, command) ? NULL : control_receive(&client, ANSWER_MS);
	text = json_string_value(json_object_get(answer, "error"));
	if (text)
		log_error("%s: %s", name, text);
	else if (answer)
		value = json_incref(json_object_get(answer, "return"));
	else
		log_error("%s: the daemon does not answer", name);
	json_decref(answer);
	control_close(&client);
	return value;
}
