// SPDX-License-Identifier: GPL-2.0-only
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "follow.h"
#include "log.h"
#include "options.h"
#include "output.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

static void print_progress(json_t *event)
{
	const char *step = json_string_value(json_object_get(event, "step"));
	json_int_t bytes = json_integer_value(json_object_get(event, "bytes"));
	json_int_t total = json_integer_value(json_object_get(event, "total"));
	json_int_t rate = json_integer_value(json_object_get(event, "bytes_per_s"));
	json_int_t left = json_integer_value(json_object_get(event, "left_ms"));

	log_info("%s: %" PRIdMAX " of %" PRIdMAX " MB, %" PRIdMAX " MB/s, %" PRIdMAX
		 ".%" PRIdMAX " s left",
		 step ? step : "?", (intmax_t)bytes >> 20, (intmax_t)total >> 20,
		 (intmax_t)rate >> 20, (intmax_t)left / 1000, (intmax_t)left / 100 % 10);
}

/* -1: it goes on. */
static int look(json_t *line, const char *name, const char *procedure)
{
	const char *event = json_string_value(json_object_get(line, "event"));
	const char *error = json_string_value(json_object_get(line, "error"));
	const char *which = json_string_value(json_object_get(line, "procedure"));

	if (!event && error) {
		log_error("%s: %s", name, error);
		return EXIT_FAILED;
	}
	if (event && common.json)
		output_line(json_incref(line));
	if (event && !strcmp(event, "progress") && !common.json)
		print_progress(line);
	if (!event || strcmp(event, "done") || !which || strcmp(which, procedure))
		return -1;
	if (json_is_true(json_object_get(line, "ok")))
		return EXIT_OK;
	log_error("%s: %s: %s", name, procedure, error ? error : "failed");
	return EXIT_FAILED;
}

static int follow(struct control_client *client, const char *name, const char *procedure)
{
	bool cancelled = false;
	int status = -1;
	json_t *line;

	while (status == -1) {
		line = control_receive(client, -1);
		if (!line && interrupted && !cancelled) {
			cancelled = true;
			control_send(client, "cancel");
			continue;
		}
		if (!line) {
			log_error("%s: the daemon ended", name);
			return EXIT_FAILED;
		}
		status = look(line, name, procedure);
		json_decref(line);
	}
	return status;
}

int follow_procedure(const char *name, const char *procedure, json_t *request)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	struct control_client client;
	int err, status;

	err = control_reach(&client, name);
	if (err) {
		json_decref(request);
		return EXIT_FAILED;
	}
	/* without SA_RESTART: the wait for a line ends */
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	err = control_send(&client, "events");
	if (!err)
		err = control_send_object(&client, request);
	else
		json_decref(request);
	status = err ? EXIT_FAILED : follow(&client, name, procedure);
	control_close(&client);
	return status;
}
