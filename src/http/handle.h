/* Handles with a generation: how work that completes later names what it works for (rule of life
 * 3). DNS answers, JWKS, authorization calls and Wasm hold a number, never a pointer; when the
 * object has died in between, handle_get says NULL and the answer is dropped.
 *
 *   handle = generation << 32 | slot        a slot's generation grows each time it is freed
 *
 * The table belongs to the thread: a handle that travels to another thread (loop_post) is only
 * looked up after it came back. Thread: the one that made the handle. */
#ifndef WEFT_HTTP_HANDLE_H
#define WEFT_HTTP_HANDLE_H

#include <stdint.h>

typedef uint64_t handle; /* 0 is never valid */

/* A handle for obj (not NULL), valid until handle_drop. O(1). */
handle handle_new(void *obj);
/* The object, or NULL when the handle was dropped (or is 0). O(1). */
void *handle_get(handle h);
/* Ends the handle; dropping 0 or one that is gone does nothing. */
void handle_drop(handle h);
/* Live handles of this thread (leak checks); frees the table when there are none. */
uint32_t handle_count(void);
void handle_trim(void);

#endif
