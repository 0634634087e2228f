/* Structured log to standard error (or a file): one line an event.
 *
 *   2026-11-23T00:36:40.123Z info  proxy  listener added name=inbound addr=0.0.0.0:15006
 *
 * Rooms below proxy, mesh, agent and cli do not log, they report. Components have levels of their
 * own, changed at run time (--component-log-level, POST /logging). Values with spaces, quotes or
 * control bytes are quoted and escaped, so that a peer cannot forge a line.
 * Thread: any; a line is written with one write(2). */
#ifndef WEFT_BASE_LOG_H
#define WEFT_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/sv.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL, LOG_OFF };

struct log_component {
    const char *name;
    _Atomic int level;
    struct log_component *next; /* private */
    _Atomic bool known;         /* private: in the list of log_each_component */
};

/* In a .c file: LOG_COMPONENT(proxy); then log_info(&log_proxy, "text key=%s", v). */
#define LOG_COMPONENT(id)                                                                          \
    static struct log_component log_##id = {.name = #id, .level = LOG_INFO};                       \
    __attribute__((constructor)) static void log_register_##id(void)                               \
    {                                                                                              \
        log_component_register(&log_##id);                                                         \
    }

/* Components of the same name in several files share a level (set through log_set_level). */
void log_component_register(struct log_component *c);
/* Sets the level of one component by name, or of all when name is NULL. E_NOT_FOUND. */
int log_set_level(const char *component, enum log_level level);
void log_each_component(void (*fn)(const char *name, enum log_level level, void *arg), void *arg);
/* "trace", "debug", "info", "warning"/"warn", "error", "critical", "off"; or E_INVALID. */
int log_level_parse(sv text, enum log_level *out);
const char *log_level_name(enum log_level level);
/* Appends to this file instead of standard error; NULL goes back. 0 or E_IO. */
int log_open(const char *path);
int log_reopen(void); /* after a rotation */

void log_line(const struct log_component *c, enum log_level level, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#define log_at(c, lvl, ...)                                                                        \
    do {                                                                                           \
        if ((int)(lvl) >= atomic_load_explicit(&(c)->level, memory_order_relaxed))                 \
            log_line((c), (lvl), __VA_ARGS__);                                                     \
    } while (0)
#define log_trace(c, ...) log_at(c, LOG_TRACE, __VA_ARGS__)
#define log_debug(c, ...) log_at(c, LOG_DEBUG, __VA_ARGS__)
#define log_info(c, ...)  log_at(c, LOG_INFO, __VA_ARGS__)
#define log_warn(c, ...)  log_at(c, LOG_WARNING, __VA_ARGS__)
#define log_error(c, ...) log_at(c, LOG_ERROR, __VA_ARGS__)

#endif
