// SPDX-License-Identifier: GPL-2.0-only
#include <stdarg.h>
#include <stdio.h>

#include <bpf/libbpf.h>

#include "log.h"

enum log_level log_max_level = LOG_LEVEL_INFO;

static int libbpf_warnings;

static void log_line(enum log_level level, const char *format, va_list args)
{
	static const char *const prefix[] = {
		[LOG_LEVEL_ERROR] = "colo-bpf: error: ",
		[LOG_LEVEL_WARNING] = "colo-bpf: warning: ",
		[LOG_LEVEL_INFO] = "colo-bpf: ",
		[LOG_LEVEL_DEBUG] = "colo-bpf: debug: ",
	};
	char line[1024];

	if (level > log_max_level)
		return;
	vsnprintf(line, sizeof(line), format, args);
	/* One write a line: the lines of two processes do not mix. */
	fprintf(stderr, "%s%s\n", prefix[level], line);
}

void log_message(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_line(level, format, args);
	va_end(args);
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	if (log_max_level >= LOG_LEVEL_DEBUG || (libbpf_warnings && level == LIBBPF_WARN))
		return vfprintf(stderr, format, args);
	return 0;
}

void log_libbpf(int warnings)
{
	libbpf_warnings = warnings;
	libbpf_set_print(print_libbpf);
}
