/* Where log lines go: files, standard output, standard error.
 *
 *   worker: line -> [writer's buffer of that sink] --64 KB or tick--> [sink's queue]
 *   flush thread:                                     one writev(2) a batch ──> file (O_APPEND)
 *
 * Workers never wait for a disk or a pipe: a full buffer is handed over, and when more than
 * ACCESS_LOG_QUEUE_MAX waits for a sink that does not keep up, whole buffers are dropped and
 * counted (filesystem.write_dropped) instead of stopping traffic. Lines are never torn.
 * The thread exists once the first sink is open. Envoy's counters: filesystem.write_buffered,
 * write_completed, write_failed, flushed_by_timer, reopen_failed, write_total_buffered.
 * Thread: said at each function. */
#ifndef WEFT_TELEMETRY_ACCESS_LOG_FILE_H
#define WEFT_TELEMETRY_ACCESS_LOG_FILE_H

#include <stdint.h>
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

struct stats;
struct access_log_sinks;
struct runtime;
struct access_log_sink;
struct access_log_writer;

#define ACCESS_LOG_FLUSH_BYTES 65536
#define ACCESS_LOG_QUEUE_MAX   (16 << 20)

/* Main. stats may be NULL. */
struct access_log_sinks *access_log_sinks_new(struct stats *s);
/* Main, after every writer was freed: writes what is queued, ends the thread, closes. References
 * on sinks may still be out: the object goes with the last of them. */
/* Whose keys the filters of logs follow; it outlives the logs. NULL: none. */
void access_log_sinks_set_runtime(struct access_log_sinks *s, struct runtime *rt);
struct runtime *access_log_sinks_runtime(const struct access_log_sinks *s); /* s may be NULL */
void access_log_sinks_free(struct access_log_sinks *s);

/* Main. The sink of that file, opened for appending (made with mode 0644) unless it is open;
 * "/dev/stdout" and "/dev/stderr" are the descriptors 1 and 2. One reference for the caller.
 * E_IO with the system's reason. */
int access_log_sink_open(struct access_log_sinks *s, sv path, struct access_log_sink **out,
                         struct error *err) MUST_CHECK;
/* Any thread. */
void access_log_sink_ref(struct access_log_sink *k);
void access_log_sink_unref(struct access_log_sink *k);

/* One per worker (made and freed on any thread while the worker does not run). */
struct access_log_writer *access_log_writer_new(struct access_log_sinks *s);
void access_log_writer_free(struct access_log_writer *w); /* hands over what it holds */
/* Worker. The buffer to append whole lines to; then access_log_writer_done. */
struct strbuf *access_log_writer_buf(struct access_log_writer *w, struct access_log_sink *k);
/* Worker: a line was added; hands the buffer over when it is full. */
void access_log_writer_done(struct access_log_writer *w, struct access_log_sink *k);
/* Worker: hands everything over. Call it every --file-flush-interval-msec (10 s). Costs nothing
 * when nothing was logged. */
void access_log_writer_flush(struct access_log_writer *w);

/* Any thread: reopen all files at the next write (SIGUSR1, POST /reopen_logs). */
void access_log_sinks_reopen(struct access_log_sinks *s);
/* Any thread: waits until what was handed over is written (drain, tests). */
void access_log_sinks_sync(struct access_log_sinks *s);

#endif
