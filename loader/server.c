// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's end of the control socket (control.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "control.h"
#include "daemon.h"
#include "log.h"
#include "output.h"

#define CLIENTS_MAX 32
#define REQUEST_MAX 1024
#define SEND_BUFFER (4 << 20) /* a follower may lag that far behind */

struct client {
	int fd;
	bool follows;
	size_t length;
	char request[REQUEST_MAX];
};

struct server {
	int fd;
	int epoll;
	char path[108];
	struct client client[CLIENTS_MAX];
	int count;
};

/* Is a daemon behind the socket that is there? */
static bool is_served(const char *name)
{
	struct control_client client;

	if (control_open(&client, name))
		return false;
	control_close(&client);
	return true;
}

static int server_listen(struct server *server)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct epoll_event event = {.events = EPOLLIN};
	mode_t mask;
	int err = 0;

	strcpy(address.sun_path, server->path);
	server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server->fd < 0)
		return -errno;
	unlink(server->path);
	event.data.fd = server->fd;
	mask = umask(0177);
	if (bind(server->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(server->fd, 8) ||
	    epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->fd, &event))
		err = -errno;
	umask(mask);
	return err;
}

int server_open(struct daemon *d, int epoll)
{
	struct server *server;
	int err;

	if (is_served(d->options.name)) {
		log_error("%s: a daemon runs already", d->options.name);
		return -EBUSY;
	}
	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	d->server = server;
	server->epoll = epoll;
	control_path(server->path, sizeof(server->path), d->options.name);
	mkdir(COLO_RUN_DIR, 0755);
	err = server_listen(server);
	if (err)
		log_error("%s: the control socket cannot be made: %s", server->path,
			  strerror(-err));
	return err;
}

static void client_close(struct server *server, struct client *client)
{
	close(client->fd);
	*client = server->client[--server->count];
}

void server_close(struct daemon *d)
{
	struct server *server = d->server;

	if (!server)
		return;
	while (server->count)
		client_close(server, &server->client[0]);
	if (server->fd >= 0) {
		close(server->fd);
		unlink(server->path);
	}
	free(server);
	d->server = NULL;
}

static struct client *client_find(const struct daemon *d, int fd)
{
	struct server *server = d->server;

	for (int i = 0; server && i < server->count; i++)
		if (server->client[i].fd == fd)
			return &server->client[i];
	return NULL;
}

bool server_owns(const struct daemon *d, int fd)
{
	return d->server && (fd == d->server->fd || client_find(d, fd));
}

bool server_is_listener(const struct daemon *d, int fd)
{
	return d->server && fd == d->server->fd;
}

void server_accept(struct daemon *d)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct server *server = d->server;
	int size = SEND_BUFFER;
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	event.data.fd = fd;
	if (server->count == CLIENTS_MAX ||
	    epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event)) {
		close(fd);
		return;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	memset(&server->client[server->count], 0, sizeof(struct client));
	server->client[server->count++].fd = fd;
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

	if (text) {
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

static json_t *run_command(struct daemon *d, struct client *client, const char *command)
{
	if (!command)
		return command_result("no \"command\" in the request");
	if (!strcmp(command, "status"))
		return json_pack("{s:o}", "return", daemon_status(d));
	if (!strcmp(command, "checkpoint"))
		return command_result(daemon_checkpoint(d));
	if (!strcmp(command, "failover"))
		return command_result(daemon_failover(d));
	if (!strcmp(command, "events")) {
		client->follows = true;
		return command_result(NULL);
	}
	return command_result("no such command");
}

void server_client(struct daemon *d, int fd)
{
	struct client *client = client_find(d, fd);
	json_t *request, *answer;
	char *newline;
	ssize_t n;

	if (!client)
		return;
	n = read(fd, client->request + client->length, REQUEST_MAX - client->length);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || client->length + n == REQUEST_MAX) {
		client_close(d->server, client);
		return;
	}
	client->length += n;
	while ((newline = memchr(client->request, '\n', client->length))) {
		size_t used = newline + 1 - client->request;

		request = json_loadb(client->request, used, 0, NULL);
		client->length -= used;
		memmove(client->request, client->request + used, client->length);
		answer = run_command(d, client,
				     json_string_value(json_object_get(request, "command")));
		json_decref(request);
		/* What the command did may have let clients go. */
		client = client_find(d, fd);
		if (!client || !client_answer(client, answer))
			break;
	}
}

void server_publish(struct daemon *d, json_t *event)
{
	struct server *server = d->server;
	char *text = NULL;
	size_t length;

	for (int i = server ? server->count - 1 : -1; i >= 0; i--) {
		struct client *client = &server->client[i];

		if (!client->follows)
			continue;
		if (!text)
			text = json_dumps(event, JSON_COMPACT);
		if (!text)
			break;
		length = strlen(text);
		text[length] = '\n';
		if (!client_send(client, text, length + 1))
			client_close(server, client);
		text[length] = 0;
	}
	free(text);
	json_decref(event);
}
