/* The bootstrap: text in JSON or YAML -> envoy.config.bootstrap.v3.Bootstrap, checked.
 * Thread: main. */
#ifndef WEFT_PROXY_BOOTSTRAP_H
#define WEFT_PROXY_BOOTSTRAP_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"
#include "proxy/options.h"
#include "upstream/bind_source.h"

/* Reads --config-path and merges --config-yaml over it (messages field by field, lists appended,
 * as protobuf merges). Errors name file, line and field. Results live in `a`. */
int bootstrap_load(const struct proxy_options *o, struct arena *a,
                   const struct envoy_Bootstrap **out, struct error *err) MUST_CHECK;
/* The same from a text. */
int bootstrap_parse(sv text, const char *file, bool allow_unknown, struct arena *a,
                    const struct envoy_Bootstrap **out, struct error *err) MUST_CHECK;
/* What is accepted by the schema but not supported is refused by its name. */
int bootstrap_check(const struct envoy_Bootstrap *b, struct error *err) MUST_CHECK;
/* cluster_manager.upstream_bind_config's addresses. */
struct bind_source bootstrap_bind(const struct envoy_Bootstrap *b);
/* SO_MARK of upstream sockets: cluster_manager.upstream_bind_config's only option that is
 * supported; 0: none. */
uint32_t bootstrap_socket_mark(const struct envoy_Bootstrap *b);

#endif
