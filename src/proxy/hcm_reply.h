/* Local replies: answers that the proxy makes itself, and what local_reply_config changes in them.
 * Thread: built on main, used by workers. */
#ifndef WEFT_PROXY_HCM_REPLY_H
#define WEFT_PROXY_HCM_REPLY_H

#include "api/envoy.pb.h"
#include "base/arena.h"
#include "base/error.h"

struct hcm_reply_config;

/* Builds local_reply_config into `a`. `path` names the field. */
struct runtime;
int hcm_reply_build(const struct envoy_LocalReplyConfig *m, const char *path, struct runtime *rt,
                    struct arena *a, const struct hcm_reply_config **out,
                    struct error *err) MUST_CHECK;

#endif
