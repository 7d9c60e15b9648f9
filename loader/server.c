// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's end of the control socket (control.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control.h"
#include "daemon.h"
#include "log.h"
#include "output.h"
#include "pair.h"

#define CLIENTS_MAX 32
#define REQUEST_MAX 1024
#define SEND_BUFFER (4 << 20) /* a follower may lag that far behind */

struct client {
	struct client *next;
	struct daemon *d;
	int fd; /* -1: is to be freed */
	bool follows;
	size_t length;
	char request[REQUEST_MAX];
};

struct server {
	int fd;
	char path[108];
	struct client *clients;
	int count;
};

static loop_ready server_accept, client_ready;

bool server_is_there(const char *name)
{
	struct control_client client;

	if (control_open(&client, name))
		return false;
	control_close(&client);
	return true;
}

static int server_listen(struct daemon *d)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct server *server = d->server;
	mode_t mask;
	int err = 0;

	strcpy(address.sun_path, server->path);
	server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server->fd < 0)
		return -errno;
	unlink(server->path);
	mask = umask(0177);
	if (bind(server->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(server->fd, 8))
		err = -errno;
	umask(mask);
	return err ? err : loop_add(d->loop, server->fd, EPOLLIN, server_accept, d);
}

int server_open(struct daemon *d)
{
	struct server *server;
	int err;

	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	d->server = server;
	control_path(server->path, sizeof(server->path), d->options.name);
	mkdir(COLO_RUN_DIR, 0755);
	err = server_listen(d);
	if (err)
		log_error("%s: the control socket cannot be made: %s", server->path,
			  strerror(-err));
	return err;
}

/* Its memory stays until nobody above can hold it: client_sweep(). */
static void client_close(struct client *client)
{
	if (client->fd < 0)
		return;
	loop_remove(client->d->loop, client->fd);
	close(client->fd);
	client->fd = -1;
	client->d->server->count--;
}

static void client_sweep(struct server *server)
{
	struct client **at = &server->clients, *client;

	while ((client = *at)) {
		if (client->fd >= 0) {
			at = &client->next;
			continue;
		}
		*at = client->next;
		free(client);
	}
}

void server_close(struct daemon *d)
{
	struct server *server = d->server;

	if (!server)
		return;
	for (struct client *client = server->clients; client; client = client->next)
		client_close(client);
	client_sweep(server);
	if (server->fd >= 0) {
		loop_remove(d->loop, server->fd);
		close(server->fd);
		unlink(server->path);
	}
	free(server);
	d->server = NULL;
}

static void server_accept(void *context, __u32 events)
{
	struct daemon *d = context;
	struct server *server = d->server;
	struct client *client;
	int size = SEND_BUFFER;
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	client_sweep(server);
	client = server->count < CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
	if (!client || loop_add(d->loop, fd, EPOLLIN, client_ready, client)) {
		free(client);
		close(fd);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	client->d = d;
	client->fd = fd;
	client->next = server->clients;
	server->clients = client;
	server->count++;
}

/* All of it or nothing: who lags too far behind is let go. */
static bool client_send(struct client *client, const char *text, size_t length)
{
	return send(client->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length;
}

static bool client_answer(struct client *client, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	bool sent = false;

	if (text && client->fd >= 0) {
		size_t length = strlen(text);

		text[length] = '\n'; /* in the place of the NUL */
		sent = client_send(client, text, length + 1);
	}
	free(text);
	json_decref(object);
	return sent;
}

static json_t *command_result(const char *problem)
{
	return problem ? json_pack("{s:s}", "error", problem) : json_pack("{s:{}}", "return");
}

static json_t *run_command(struct daemon *d, struct client *client, json_t *request)
{
	const char *command = json_string_value(json_object_get(request, "command"));

	if (!command)
		return command_result("no \"command\" in the request");
	if (!strcmp(command, "status"))
		return json_pack("{s:o}", "return", daemon_status(d));
	if (!strcmp(command, "checkpoint"))
		return command_result(daemon_checkpoint(d));
	if (!strcmp(command, "failover"))
		return command_result(
			daemon_failover(d, json_is_true(json_object_get(request, "force"))));
	if (!strcmp(command, "start"))
		return command_result(pair_start(
			d, false, json_is_true(json_object_get(request, "disks-equal"))));
	if (!strcmp(command, "resync"))
		return command_result(pair_start(d, true, false));
	if (!strcmp(command, "cancel"))
		return command_result(pair_cancel(d));
	if (!strcmp(command, "events")) {
		client->follows = true;
		return command_result(NULL);
	}
	return command_result("no such command");
}

static void client_ready(void *context, __u32 events)
{
	struct client *client = context;
	json_t *request, *answer;
	char *newline;
	ssize_t n;

	(void)events;
	n = read(client->fd, client->request + client->length, REQUEST_MAX - client->length);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || client->length + n == REQUEST_MAX) {
		client_close(client);
		return;
	}
	client->length += n;
	while ((newline = memchr(client->request, '\n', client->length))) {
		size_t used = newline + 1 - client->request;

		request = json_loadb(client->request, used, 0, NULL);
		client->length -= used;
		memmove(client->request, client->request + used, client->length);
		answer = run_command(client->d, client, request);
		json_decref(request);
		/* What the command did may have let this client go. */
		if (!client_answer(client, answer))
			break;
	}
}

/* With the time of the host, to be put beside what others have logged. */
static char *event_text(json_t *event)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	output_number(event, "time_us", ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000);
	return json_dumps(event, JSON_COMPACT);
}

void server_publish(struct daemon *d, json_t *event)
{
	struct server *server = d->server;
	char *text = NULL;
	size_t length;

	for (struct client *client = server ? server->clients : NULL; client;
	     client = client->next) {
		if (client->fd < 0 || !client->follows)
			continue;
		if (!text)
			text = event_text(event);
		if (!text)
			break;
		length = strlen(text);
		text[length] = '\n';
		if (!client_send(client, text, length + 1))
			client_close(client);
		text[length] = 0;
	}
	free(text);
	json_decref(event);
}
