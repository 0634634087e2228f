/* The admin endpoint: Envoy's paths, on the address that the bootstrap gives. One file an endpoint
 * (or a few that belong together); the table is in admin.c. Whatever changes something wants POST.
 * Thread: main. */
#ifndef WEFT_PROXY_ADMIN_ADMIN_H
#define WEFT_PROXY_ADMIN_ADMIN_H

#include "base/error.h"
#include "net/addr.h"
#include "serve/serve_http.h"

struct proxy_server;
struct admin;

/* Binds the address of bootstrap.admin; *out stays NULL when there is none. */
int admin_new(struct proxy_server *s, struct admin **out, struct error *err) MUST_CHECK;
/* Tells --admin-address-path. */
void admin_start(struct admin *a);
void admin_free(struct admin *a); /* NULL is fine */
const struct addr *admin_addr(const struct admin *a);

/* ---- endpoints ---- */
typedef void (*admin_fn)(struct proxy_server *s, struct serve_request *r);

void admin_certs(struct proxy_server *s, struct serve_request *r);
void admin_clusters(struct proxy_server *s, struct serve_request *r);
void admin_config_dump(struct proxy_server *s, struct serve_request *r);
void admin_drain_listeners(struct proxy_server *s, struct serve_request *r);
void admin_healthcheck_fail(struct proxy_server *s, struct serve_request *r);
void admin_healthcheck_ok(struct proxy_server *s, struct serve_request *r);
void admin_help(struct proxy_server *s, struct serve_request *r);
void admin_home(struct proxy_server *s, struct serve_request *r);
void admin_hot_restart_version(struct proxy_server *s, struct serve_request *r);
void admin_listeners(struct proxy_server *s, struct serve_request *r);
void admin_logging(struct proxy_server *s, struct serve_request *r);
void admin_memory(struct proxy_server *s, struct serve_request *r);
void admin_quit(struct proxy_server *s, struct serve_request *r);
void admin_ready(struct proxy_server *s, struct serve_request *r);
void admin_reopen_logs(struct proxy_server *s, struct serve_request *r);
void admin_reset_counters(struct proxy_server *s, struct serve_request *r);
void admin_runtime(struct proxy_server *s, struct serve_request *r);
void admin_runtime_modify(struct proxy_server *s, struct serve_request *r);
void admin_server_info(struct proxy_server *s, struct serve_request *r);
void admin_stats(struct proxy_server *s, struct serve_request *r);

/* ---- for endpoints ---- */
#define ADMIN_TEXT_MAX (512u << 20) /* of one answer */
#define ADMIN_JSON     "application/json"
#define ADMIN_TEXT     "text/plain; charset=UTF-8"
#define ADMIN_HTML     "text/html; charset=UTF-8"

/* Is there a parameter of that name (with or without a value)? */
bool admin_has_param(const struct serve_request *r, sv key);
/* Appends a message as pretty JSON with proto names, secrets redacted. */
struct pb_message;
void admin_json(const struct pb_message *m, const void *msg, struct strbuf *out);
struct google_Timestamp;
struct google_Timestamp *admin_time(struct arena *a, uint64_t wall_ns);
struct envoy_Address;
/* The table, for /help. */
void admin_each(void (*fn)(void *arg, const char *path, bool mutates, const char *help), void *arg);

#endif
