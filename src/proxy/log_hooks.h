/* What access logs and header values may say about TLS and metadata: the answers to
 * substitution_hooks of http/substitution.h, from the rooms that know. Thread: the answers are
 * given on the worker that owns the stream. */
#ifndef WEFT_PROXY_LOG_HOOKS_H
#define WEFT_PROXY_LOG_HOOKS_H

/* Main, before any worker runs. Calling it again does nothing. */
void log_hooks_install(void);

#endif
