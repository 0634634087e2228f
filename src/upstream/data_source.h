/* envoy.config.core.v3.DataSource: a file, the configuration itself, or the environment.
 * Thread: main. */
#ifndef WEFT_UPSTREAM_DATA_SOURCE_H
#define WEFT_UPSTREAM_DATA_SOURCE_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"

/* The bytes, in the arena or as a view into the message; empty when d is NULL. Files larger than
 * max_bytes are refused, and so are files and variables that are not there. */
int data_source_read(const struct envoy_DataSource *d, size_t max_bytes, const char *path,
                     struct arena *a, sv *out, struct error *err) MUST_CHECK;
/* A whole file in the arena. */
int data_source_file(sv filename, size_t max_bytes, const char *path, struct arena *a, sv *out,
                     struct error *err) MUST_CHECK;

#endif
