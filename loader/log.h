/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Messages for people, on stderr. One message per failure, at the place that
 * knows what can be done about it.
 */
#ifndef COLO_LOG_H
#define COLO_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* The highest level that is printed; INFO at first. */
extern enum log_level log_max_level;

void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...)   log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * libbpf's own messages: 1: its warnings are shown, 0: none (where an error is
 * expected and handled). Everything is shown at LOG_LEVEL_DEBUG.
 */
void log_libbpf(int warnings);

#endif
