// SPDX-License-Identifier: GPL-2.0-only
#include "clock.h"
#include "daemon.h"
#include "output.h"
#include "progress.h"

#define SAY_NS (200 * MS_NS)

struct progress progress_begin(const char *step)
{
	return (struct progress){.step = step, .begun_ns = clock_now()};
}

void progress_step(struct daemon *d, struct progress *progress, __u64 done, __u64 all)
{
	__u64 now = clock_now(), rate;
	json_t *event;

	if (done < all && now < progress->said_ns + SAY_NS)
		return;
	progress->said_ns = now;
	rate = done * 1000 / ((now - progress->begun_ns) / MS_NS + 1);
	event = json_object();
	output_text(event, "event", "progress");
	output_text(event, "step", progress->step);
	output_number(event, "bytes", done);
	output_number(event, "total", all);
	output_number(event, "bytes_per_s", rate);
	output_number(event, "left_ms", rate && all > done ? (all - done) * 1000 / rate : 0);
	server_publish(d, event);
}
