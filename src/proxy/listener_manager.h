/* Listeners by name: static ones of the bootstrap and dynamic ones of LDS.
 *
 *   put ──build──> warming ──routes and secrets are there──> active ──> workers
 *                  (the active one of that name serves on)
 *   remove / another version ──> draining on the workers, until connections end or drain time is up
 *
 * Equal bytes: nothing happens. A new version with the same addresses keeps the sockets, and drains
 * only connections of filter chains that changed; one with other addresses binds first, then lets
 * the old sockets go. Listeners start to accept when the manager is opened (clusters are warm).
 * Thread: main. */
#ifndef WEFT_PROXY_LISTENER_MANAGER_H
#define WEFT_PROXY_LISTENER_MANAGER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "net/addr.h"
#include "proxy/config_source.h"

struct proxy_server;
struct worker;
struct stats;
struct pb_opts;
struct listener_manager;

struct listener_manager *listener_manager_new(struct proxy_server *srv,
                                              struct worker *const *workers, uint32_t n_workers);
/* After the workers stopped. */
void listener_manager_free(struct listener_manager *m);

/* Adds or replaces. Validated and bound before anything changes. */
int listener_manager_put(struct listener_manager *m, sv packed, bool is_static, sv version,
                         const struct pb_opts *pb, struct error *err) MUST_CHECK;
/* E_NOT_FOUND; static ones cannot be removed: E_DENIED. The removal happens in
 * listener_manager_reap(): a listener of another name that is put in between on the same addresses
 * takes over the sockets, so that no connection is refused. */
int listener_manager_remove(struct listener_manager *m, sv name);
void listener_manager_reap(struct listener_manager *m);
/* From now on active listeners accept. */
void listener_manager_open(struct listener_manager *m);
/* A secret or a route table arrived: what was waiting may go on. */
void listener_manager_check_warm(struct listener_manager *m);
/* Nothing is warming. */
bool listener_manager_warm(const struct listener_manager *m);
/* POST /drain_listeners: stop accepting. graceful: first connections are told, for the drain time,
 * then (unless skip_exit) accepting stops. */
void listener_manager_drain(struct listener_manager *m, bool inbound_only, bool graceful,
                            bool skip_exit);

enum listener_state { LISTENER_ACTIVE, LISTENER_WARMING };
struct listener_view {
    sv name, packed, version;
    bool is_static;
    enum listener_state state;
    uint64_t updated_wall_ns;
    const struct addr *addrs; /* as bound, with the port they got */
    uint32_t n_addrs;
    const char *error; /* why the last update was refused, or NULL */
    sv error_version;
    uint64_t error_wall_ns;
};
/* Every listener and state, by name (config_dump, /listeners). */
void listener_manager_each(struct listener_manager *m,
                           void (*fn)(void *arg, const struct listener_view *v), void *arg);
/* Remembers a refusal for config_dump. */
void listener_manager_refused(struct listener_manager *m, sv name, sv version, const char *why);
/* Every TLS context in use. */
struct tls_slot;
void listener_manager_each_tls(struct listener_manager *m,
                               void (*fn)(void *arg, sv listener, struct tls_slot *slot),
                               void *arg);

#endif
