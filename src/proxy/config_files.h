/* Resources that come from files: a DiscoveryResponse in YAML, JSON or (".pb") packed, read again
 * whenever the file changes or is moved into its place (or, with watched_directory, an entry of
 * that directory changes). Names that no file was said for go to the source behind it (ADS).
 *
 * A file that cannot be read or understood changes nothing: what was read before stays in force.
 * Clusters and listeners that are gone from their file are removed.
 * Thread: main. */
#ifndef WEFT_PROXY_CONFIG_FILES_H
#define WEFT_PROXY_CONFIG_FILES_H

#include "api/envoy.pb.h"
#include "proxy/config_source.h"

struct proxy_server;

/* `ads` may be NULL; it is owned from now on. */
struct config_source *config_files_new(struct proxy_server *s, struct config_source *ads);
/* path or path_config_source. */
bool config_files_is(const struct envoy_ConfigSource *src);
/* The file must be there when it is named, as Envoy asks. */
int config_files_check(const struct envoy_ConfigSource *src, struct error *err) MUST_CHECK;

#endif
