// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "bytes.h"
#include "channel.h"
#include "clock.h"
#include "log.h"
#include "peer.h"
#include "urgent.h"

#define MS             1000000ULL
#define RETRY_NS       (100 * MS)  /* to connect again */
#define HANDSHAKE_NS   (2000 * MS) /* for a connection to show that it is the peer's */
#define DEAD_MS        3000        /* the peer's kernel does not answer for so long */
#define STRANGERS_MAX  8           /* connections that are not the peer's as yet */
#define TABLES_MAX     8
#define HELLO_MAX      512         /* bytes of a line of a stranger */
#define LINE_BYTES_MAX (64U << 20) /* and of the peer */
#define READ_AT_ONCE   (1U << 20)
#define NONCE_BYTES    32
#define HEX_MAC        (2 * SECRET_MAC_BYTES)

enum connection_state {
	CONNECTION_CONNECTING,
	CONNECTION_HELLO, /* the peer's is awaited */
	CONNECTION_PROOF,
	CONNECTION_UP,
	CONNECTION_CLOSED, /* is freed when nobody above can hold it */
};

struct connection {
	struct connection *next;
	struct channel *channel;
	enum connection_state state;
	int fd;
	bool writes; /* is watched for writing, too */
	struct bytes in;
	size_t searched; /* of `in`: has no newline up to here */
	struct bytes out;
	unsigned char nonce[NONCE_BYTES];
	struct secret key_in, key_out;
	__u64 count_in, count_out; /* lines with a code */
	struct loop_timer handshake;
};

struct call {
	struct call *next;
	struct channel *channel;
	__u64 id;
	char method[64];
	channel_answer *answer;
	void *context;
	struct loop_timer timer;
};

struct channel_request {
	struct channel_request *next;
	struct channel *channel;       /* NULL: it was closed */
	struct connection *connection; /* NULL: it ended */
	json_int_t id;
};

struct channel {
	struct channel_options options;
	struct sockaddr_storage peer;
	socklen_t peer_length;
	int listener;
	struct connection *connections;
	struct connection *up;
	struct call *calls;
	struct channel_request *requests;
	__u64 last_id;
	const struct channel_method *table[TABLES_MAX];
	struct loop_timer retry; /* to connect, and to free what is closed */
	char said[256];          /* the last complaint: it is made once */
};

/* Once, until the channel was up again: it is tried ten times a second. */
static void complain(struct channel *channel, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void complain(struct channel *channel, enum log_level level, const char *format, ...)
{
	char text[sizeof(channel->said)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!strcmp(text, channel->said))
		return;
	snprintf(channel->said, sizeof(channel->said), "%s", text);
	log_message(level, "channel: %s", text);
}

/* --------------------------------------------------------------- calls --- */

static void call_end(struct call *call, json_t *value, const char *error)
{
	loop_timer_stop(call->channel->options.loop, &call->timer);
	call->answer(call->context, value, error);
	free(call);
}

static struct call *call_take(struct channel *channel, __u64 id)
{
	struct call **at = &channel->calls, *call;

	for (; (call = *at); at = &call->next) {
		if (call->id != id)
			continue;
		*at = call->next;
		return call;
	}
	return NULL;
}

static void call_late(void *context)
{
	struct call *call = context;
	char text[128];

	call_take(call->channel, call->id);
	snprintf(text, sizeof(text), "%s: the peer has not answered in time", call->method);
	call_end(call, NULL, text);
}

/* What ends may call anew: only those that were there. */
static void calls_fail(struct channel *channel)
{
	struct call *call = channel->calls;

	channel->calls = NULL;
	while (call) {
		struct call *next = call->next;

		call_end(call, NULL, CHANNEL_LOST);
		call = next;
	}
}

/* ---------------------------------------------------------- connection --- */

static void connection_close(struct connection *connection)
{
	struct channel *channel = connection->channel;
	bool was_up = channel->up == connection;

	if (connection->state == CONNECTION_CLOSED)
		return;
	loop_timer_stop(channel->options.loop, &connection->handshake);
	loop_remove(channel->options.loop, connection->fd);
	close(connection->fd);
	connection->fd = -1;
	connection->state = CONNECTION_CLOSED;
	for (struct channel_request *r = channel->requests; r; r = r->next)
		if (r->connection == connection)
			r->connection = NULL;
	loop_timer_set(channel->options.loop, &channel->retry, clock_now() + RETRY_NS);
	if (!was_up)
		return;
	channel->up = NULL;
	log_info("channel: to %s: lost", channel->options.peer);
	calls_fail(channel);
	if (channel->options.changed)
		channel->options.changed(channel->options.daemon, false);
}

void channel_lost(struct channel *channel)
{
	if (channel->up)
		connection_close(channel->up);
}

static void watch_writes(struct connection *connection, bool writes)
{
	if (connection->writes == writes)
		return;
	connection->writes = writes;
	loop_change(connection->channel->options.loop, connection->fd,
		    writes ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void connection_output(struct connection *connection)
{
	struct bytes *out = &connection->out;

	while (connection->state != CONNECTION_CLOSED && out->length) {
		ssize_t n = send(connection->fd, out->data, out->length, MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			connection_close(connection);
			return;
		}
		bytes_drop(out, n);
	}
	if (connection->state != CONNECTION_CLOSED)
		watch_writes(connection, out->length);
}

static void to_hex(char *to, const unsigned char *from, size_t length)
{
	for (size_t i = 0; i < length; i++)
		snprintf(to + 2 * i, 3, "%02x", from[i]);
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

static bool from_hex(unsigned char *to, const char *from, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		int high = hex_digit(from[2 * i]);
		int low = high < 0 ? -1 : hex_digit(from[2 * i + 1]);

		if (low < 0)
			return false;
		to[i] = high << 4 | low;
	}
	return true;
}

/* The code of a line: of its number and its text. */
static int line_mac(unsigned char mac[SECRET_MAC_BYTES], const struct secret *key, __u64 count,
		    const char *text, size_t length)
{
	unsigned char *all = malloc(length + 8);

	if (!all)
		return -ENOMEM;
	for (int i = 0; i < 8; i++)
		all[i] = count >> (56 - 8 * i);
	memcpy(all + 8, text, length);
	secret_mac(mac, key, all, length + 8);
	free(all);
	return 0;
}

/* Queue an object, taken over. 0 or -errno; then the connection is of no use. */
static int send_object(struct connection *connection, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	size_t length = text ? strlen(text) : 0;
	unsigned char mac[SECRET_MAC_BYTES];
	char hex[HEX_MAC + 1];
	int err = text ? 0 : -ENOMEM;

	json_decref(object);
	if (!err && connection->out.length + length > LINE_BYTES_MAX)
		err = -ENOBUFS;
	if (!err)
		err = line_mac(mac, &connection->key_out, connection->count_out++, text,
			       length);
	if (!err) {
		to_hex(hex, mac, sizeof(mac));
		hex[HEX_MAC] = ' ';
		err = bytes_add(&connection->out, hex, sizeof(hex));
	}
	if (!err)
		err = bytes_add(&connection->out, text, length);
	if (!err)
		err = bytes_add(&connection->out, "\n", 1);
	free(text);
	if (err) {
		log_error("channel: a line of %zu bytes cannot be sent: %s", length,
			  strerror(-err));
		connection_close(connection);
		return err;
	}
	connection_output(connection);
	return 0;
}

/* ----------------------------------------------------------- handshake --- */

static void send_hello(struct connection *connection)
{
	char nonce[2 * NONCE_BYTES + 1], line[256];
	int length;

	to_hex(nonce, connection->nonce, NONCE_BYTES);
	length = snprintf(line, sizeof(line),
			  "{\"colo-bpf-channel\": %d, \"host\": \"%s\", \"nonce\": \"%s\"}\n",
			  CHANNEL_VERSION, connection->channel->options.self, nonce);
	if (bytes_add(&connection->out, line, length))
		connection_close(connection);
	else
		connection_output(connection);
}

/* A key a direction: of the version, the sender, and both nonces, the connecting host's first. */
static void derive_keys(struct connection *connection, const unsigned char *theirs)
{
	const struct channel_options *options = &connection->channel->options;
	const unsigned char *ours = connection->nonce;
	unsigned char label[64 + 2 * NONCE_BYTES] = {};

	memcpy(label + 64, options->connects ? ours : theirs, NONCE_BYTES);
	memcpy(label + 64 + NONCE_BYTES, options->connects ? theirs : ours, NONCE_BYTES);
	snprintf((char *)label, 64, "colo-bpf channel %d %s", CHANNEL_VERSION, options->self);
	secret_derive(&connection->key_out, &options->secret, label, sizeof(label));
	memset(label, 0, 64);
	snprintf((char *)label, 64, "colo-bpf channel %d %s", CHANNEL_VERSION, options->peer);
	secret_derive(&connection->key_in, &options->secret, label, sizeof(label));
}

static void got_hello(struct connection *connection, const char *line, size_t length)
{
	struct channel *channel = connection->channel;
	const struct channel_options *options = &channel->options;
	json_t *object = json_loadb(line, length, 0, NULL);
	const char *host = json_string_value(json_object_get(object, "host"));
	json_t *version = json_object_get(object, "colo-bpf-channel");
	json_t *nonce = json_object_get(object, "nonce");
	unsigned char theirs[NONCE_BYTES];

	if (!json_is_integer(version)) {
		complain(channel, LOG_LEVEL_WARNING,
			 "port %u: what connects there is no daemon of colo-bpf",
			 options->port);
	} else if (json_integer_value(version) != CHANNEL_VERSION) {
		complain(
			channel, LOG_LEVEL_ERROR,
			"the peer's colo-bpf speaks version %lld of the channel, this one %d: use the same colo-bpf on both hosts",
			(long long)json_integer_value(version), CHANNEL_VERSION);
	} else if (!host || strcmp(host, options->peer)) {
		complain(
			channel, LOG_LEVEL_ERROR,
			"the peer says that its host is the %s, and so is this one: `role` must differ in the two configurations",
			host ? host : "(none)");
	} else if (json_string_length(nonce) != sizeof(theirs) * 2 ||
		   !from_hex(theirs, json_string_value(nonce), sizeof(theirs))) {
		complain(channel, LOG_LEVEL_WARNING, "a hello without a nonce");
	} else {
		derive_keys(connection, theirs);
		connection->state = CONNECTION_PROOF;
		send_object(connection, json_pack("{s:s}", "proof", options->self));
		json_decref(object);
		return;
	}
	json_decref(object);
	connection_close(connection);
}

static void got_proof(struct connection *connection)
{
	struct channel *channel = connection->channel;

	loop_timer_stop(channel->options.loop, &connection->handshake);
	connection->state = CONNECTION_UP;
	/* The peer has begun anew, and the one before is half open. */
	if (channel->up)
		connection_close(channel->up);
	channel->up = connection;
	*channel->said = 0;
	log_info("channel: to %s: up", channel->options.peer);
	if (channel->options.changed)
		channel->options.changed(channel->options.daemon, true);
}

/* ------------------------------------------------------------- requests -- */

/* Takes it out of the list: the connection that it came by, if that goes on. */
static struct connection *request_end(struct channel_request *request)
{
	struct connection *connection = request->connection;

	if (request->channel) {
		struct channel_request **at = &request->channel->requests;

		while (*at != request)
			at = &(*at)->next;
		*at = request->next;
	}
	return connection;
}

static void request_answer(struct channel_request *request, const char *name, json_t *value)
{
	struct connection *connection = request_end(request);
	json_t *object = json_pack("{s:I, s:o}", "answer", request->id, name, value);

	free(request);
	if (connection)
		send_object(connection, object);
	else
		json_decref(object);
}

void channel_reply(struct channel_request *request, json_t *value)
{
	request_answer(request, "value", value ? value : json_null());
}

void channel_refuse(struct channel_request *request, const char *format, ...)
{
	char text[1024];
	va_list args;
	json_t *value;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	value = json_string(text);
	request_answer(request, "error", value ? value : json_string("refused"));
}

static const struct channel_method *find_method(const struct channel *channel, const char *name)
{
	for (int i = 0; i < TABLES_MAX && channel->table[i]; i++)
		for (const struct channel_method *m = channel->table[i]; m->name; m++)
			if (!strcmp(m->name, name))
				return m;
	return NULL;
}

static void got_call(struct connection *connection, json_t *object)
{
	struct channel *channel = connection->channel;
	const char *name = json_string_value(json_object_get(object, "method"));
	json_t *arguments = json_object_get(object, "arguments");
	const struct channel_method *method = name ? find_method(channel, name) : NULL;
	struct channel_request *request = calloc(1, sizeof(*request));

	if (!request) {
		connection_close(connection);
		return;
	}
	request->channel = channel;
	request->connection = connection;
	request->id = json_integer_value(json_object_get(object, "call"));
	request->next = channel->requests;
	channel->requests = request;
	if (method && json_is_object(arguments))
		method->handle(channel->options.daemon, arguments, request);
	else
		channel_refuse(request, "%s: no such method, or no arguments",
			       name ? name : "(none)");
}

static void got_answer(struct channel *channel, json_t *object)
{
	json_t *error = json_object_get(object, "error");
	struct call *call;

	call = call_take(channel, json_integer_value(json_object_get(object, "answer")));
	/* Not there: it came too late. */
	if (call)
		call_end(call, error ? NULL : json_object_get(object, "value"),
			 json_string_value(error));
}

/* --------------------------------------------------------------- input --- */

/* A line with a code: its object, or NULL. */
static json_t *open_line(struct connection *connection, const char *line, size_t length)
{
	unsigned char theirs[SECRET_MAC_BYTES], ours[SECRET_MAC_BYTES];

	if (length <= HEX_MAC || line[HEX_MAC] != ' ' ||
	    !from_hex(theirs, line, sizeof(theirs)) ||
	    line_mac(ours, &connection->key_in, connection->count_in++, line + HEX_MAC + 1,
		     length - HEX_MAC - 1) ||
	    !secret_equal(ours, theirs))
		return NULL;
	return json_loadb(line + HEX_MAC + 1, length - HEX_MAC - 1, 0, NULL);
}

static void got_line(struct connection *connection, const char *line, size_t length)
{
	struct channel *channel = connection->channel;
	json_t *object;

	if (connection->state == CONNECTION_HELLO) {
		got_hello(connection, line, length);
		return;
	}
	object = open_line(connection, line, length);
	if (!json_is_object(object)) {
		complain(
			channel, LOG_LEVEL_ERROR,
			connection->state == CONNECTION_PROOF ?
				"the peer does not know the secret: secret_file must be the same on both hosts" :
				"a line that is not the peer's, or not its next: the connection is given up");
		connection_close(connection);
	} else if (connection->state == CONNECTION_PROOF) {
		got_proof(connection);
	} else if (json_object_get(object, "call")) {
		got_call(connection, object);
	} else {
		got_answer(channel, object);
	}
	json_decref(object);
}

/* All whole lines that have come; each may close the connection. */
static void take_lines(struct connection *connection)
{
	struct bytes *in = &connection->in;
	size_t start = 0, max;

	while (connection->state != CONNECTION_CLOSED && connection->searched < in->length) {
		char *newline = memchr(in->data + connection->searched, '\n',
				       in->length - connection->searched);

		if (!newline) {
			connection->searched = in->length;
			break;
		}
		got_line(connection, in->data + start, newline - (in->data + start));
		start = newline + 1 - in->data;
		connection->searched = start;
	}
	bytes_drop(in, start);
	connection->searched -= start;
	max = connection->state == CONNECTION_UP ? LINE_BYTES_MAX + HEX_MAC + 2 : HELLO_MAX;
	if (connection->state != CONNECTION_CLOSED && in->length > max) {
		complain(connection->channel, LOG_LEVEL_WARNING,
			 "port %u: a line without an end", connection->channel->options.port);
		connection_close(connection);
	}
}

static void connection_input(struct connection *connection)
{
	char buffer[16384];
	size_t taken = 0;

	while (connection->state != CONNECTION_CLOSED && taken < READ_AT_ONCE) {
		ssize_t n = recv(connection->fd, buffer, sizeof(buffer), 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0 || bytes_add(&connection->in, buffer, n)) {
			connection_close(connection);
			return;
		}
		taken += n;
		take_lines(connection);
	}
}

static void connected(struct connection *connection)
{
	struct channel *channel = connection->channel;
	socklen_t length = sizeof(int);
	int err = 0;

	getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &err, &length);
	if (err) {
		complain(channel, LOG_LEVEL_INFO, "to %s, %s port %u: %s; is tried on",
			 channel->options.peer, channel->options.peer_address,
			 channel->options.port, strerror(err));
		connection_close(connection);
		return;
	}
	connection->state = CONNECTION_HELLO;
	send_hello(connection);
}

static void connection_ready(void *context, __u32 events)
{
	struct connection *connection = context;

	if (connection->state == CONNECTION_CONNECTING)
		connected(connection);
	else if (events & EPOLLOUT)
		connection_output(connection);
	if (connection->state != CONNECTION_CLOSED && events & ~EPOLLOUT)
		connection_input(connection);
}

static void handshake_late(void *context)
{
	struct connection *connection = context;
	struct channel *channel = connection->channel;

	if (connection->state == CONNECTION_CONNECTING)
		complain(channel, LOG_LEVEL_INFO, "to %s, %s port %u: no answer; is tried on",
			 channel->options.peer, channel->options.peer_address,
			 channel->options.port);
	connection_close(connection);
}

/* --------------------------------------------------------------- sockets - */

static void set_option(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

/* A peer whose host is gone is found though nothing is to be sent. */
static void set_options(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_MS);
}

/* Takes fd over. */
static struct connection *connection_new(struct channel *channel, int fd,
					 enum connection_state state)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	bool writes = state == CONNECTION_CONNECTING;

	if (!connection ||
	    loop_add(channel->options.loop, fd, writes ? EPOLLIN | EPOLLOUT : EPOLLIN,
		     connection_ready, connection)) {
		free(connection);
		close(fd);
		return NULL;
	}
	set_options(fd);
	connection->channel = channel;
	connection->fd = fd;
	connection->state = state;
	connection->writes = writes;
	connection->handshake.fire = handshake_late;
	connection->handshake.context = connection;
	loop_timer_set(channel->options.loop, &connection->handshake,
		       clock_now() + HANDSHAKE_NS);
	secret_random(connection->nonce, sizeof(connection->nonce));
	connection->next = channel->connections;
	channel->connections = connection;
	return connection;
}

static int open_socket(const struct channel *channel, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *device = channel->options.device;

	if (fd >= 0)
		urgent(fd, family);
	if (fd >= 0 && device &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device))) {
		int err = errno;

		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

static void begin_connect(struct channel *channel)
{
	int fd = open_socket(channel, channel->peer.ss_family);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&channel->peer, channel->peer_length) &&
	    errno != EINPROGRESS) {
		int err = errno;

		close(fd);
		errno = err;
		fd = -1;
	}
	if (fd < 0) {
		complain(channel, LOG_LEVEL_INFO, "to %s, %s port %u: %s; is tried on",
			 channel->options.peer, channel->options.peer_address,
			 channel->options.port, strerror(errno));
		loop_timer_set(channel->options.loop, &channel->retry, clock_now() + RETRY_NS);
		return;
	}
	connection_new(channel, fd, CONNECTION_CONNECTING);
}

/* Free what is closed; connect if nothing is open. */
static void retry(void *context)
{
	struct channel *channel = context;
	struct connection **at = &channel->connections, *connection;

	while ((connection = *at)) {
		if (connection->state != CONNECTION_CLOSED) {
			at = &connection->next;
			continue;
		}
		*at = connection->next;
		bytes_free(&connection->in);
		bytes_free(&connection->out);
		free(connection);
	}
	if (channel->options.connects && !channel->connections)
		begin_connect(channel);
}

/* The oldest stranger goes, or they could keep the peer out. */
static void bound_strangers(struct channel *channel)
{
	struct connection *oldest = NULL;
	int count = 0;

	for (struct connection *c = channel->connections; c; c = c->next) {
		if (c->state != CONNECTION_HELLO && c->state != CONNECTION_PROOF)
			continue;
		count++;
		oldest = c;
	}
	if (count > STRANGERS_MAX)
		connection_close(oldest);
}

static void on_accept(void *context, __u32 events)
{
	struct channel *channel = context;
	int fd = accept4(channel->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection *connection;

	(void)events;
	if (fd < 0)
		return;
	connection = connection_new(channel, fd, CONNECTION_HELLO);
	if (!connection)
		return;
	send_hello(connection);
	bound_strangers(channel);
}

static int begin_listen(struct channel *channel)
{
	struct sockaddr_storage address;
	socklen_t length;
	int err;

	err = peer_resolve(channel->options.address, channel->options.port,
			   channel->options.device, &address, &length);
	if (err)
		return err;
	channel->listener = open_socket(channel, address.ss_family);
	if (channel->listener < 0)
		return -errno;
	set_option(channel->listener, SOL_SOCKET, SO_REUSEADDR, 1);
	peer_free_bind(channel->listener, address.ss_family);
	if (bind(channel->listener, (struct sockaddr *)&address, length) ||
	    listen(channel->listener, STRANGERS_MAX))
		return -errno;
	return loop_add(channel->options.loop, channel->listener, EPOLLIN, on_accept, channel);
}

/* --------------------------------------------------------------- public -- */

struct channel *channel_open(const struct channel_options *options)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	int err = channel ? 0 : -ENOMEM;

	if (channel) {
		channel->options = *options;
		channel->listener = -1;
		channel->retry.fire = retry;
		channel->retry.context = channel;
		err = peer_resolve(options->peer_address, options->port, options->device,
				   &channel->peer, &channel->peer_length);
	}
	if (!err && options->connects)
		loop_timer_set(options->loop, &channel->retry, 0);
	else if (!err)
		err = begin_listen(channel);
	if (!err)
		return channel;
	log_error("channel: %s port %u: %s",
		  options->connects ? options->peer_address : options->address, options->port,
		  strerror(-err));
	channel_close(channel);
	return NULL;
}

void channel_close(struct channel *channel)
{
	if (!channel)
		return;
	channel->options.changed = NULL;
	channel->options.connects = false;
	for (struct connection *c = channel->connections; c; c = c->next)
		connection_close(c);
	for (struct channel_request *r = channel->requests; r; r = r->next)
		r->channel = NULL;
	retry(channel);
	loop_timer_stop(channel->options.loop, &channel->retry);
	if (channel->listener >= 0) {
		loop_remove(channel->options.loop, channel->listener);
		close(channel->listener);
	}
	free(channel);
}

const char *channel_trouble(const struct channel *channel)
{
	return channel->said;
}

bool channel_is_up(const struct channel *channel)
{
	return channel && channel->up;
}

int channel_methods(struct channel *channel, const struct channel_method *table)
{
	for (int i = 0; i < TABLES_MAX; i++) {
		if (channel->table[i])
			continue;
		channel->table[i] = table;
		return 0;
	}
	return -ENOSPC;
}

int channel_call(struct channel *channel, const char *method, json_t *arguments,
		 __u32 timeout_ms, channel_answer *answer, void *context)
{
	struct connection *up;
	json_t *object;
	struct call *call;

	if (!channel_is_up(channel)) {
		json_decref(arguments);
		return -ENOTCONN;
	}
	call = calloc(1, sizeof(*call));
	object = json_pack("{s:I, s:s, s:o}", "call", (json_int_t)channel->last_id + 1,
			   "method", method, "arguments",
			   arguments ? arguments : json_object());
	if (!call || !object) {
		free(call);
		json_decref(object);
		return -ENOMEM;
	}
	call->channel = channel;
	call->id = ++channel->last_id;
	call->answer = answer;
	call->context = context;
	snprintf(call->method, sizeof(call->method), "%s", method);
	up = channel->up;
	/* A connection that cannot be written to is closed by that. */
	if (send_object(up, object) || channel->up != up) {
		free(call);
		return -ENOTCONN;
	}
	call->timer.fire = call_late;
	call->timer.context = call;
	loop_timer_set(channel->options.loop, &call->timer, clock_now() + timeout_ms * MS);
	call->next = channel->calls;
	channel->calls = call;
	return 0;
}
