/* The mesh of a world: a control plane on a host of its own, and proxies: sidecars with an agent
 * inside, which get certificates and configuration over simulated mTLS as in production, and plain
 * ones that run a bootstrap text.
 *
 * The control plane is put together from the same parts as `weft control` (push, discovery and
 * certificate services over gRPC); documents come from the test instead of a directory.
 * Randomness and time of OpenSSL come from the simulation, too (mesh_seed_tls): lengths of
 * signatures and contents of tickets would otherwise make each run another one. Thread: the
 * simulation's. */
#ifndef WEFT_TESTS_SIM_MESH_H
#define WEFT_TESTS_SIM_MESH_H

#include "base/strbuf.h"
#include "main/agent_inside.h"
#include "proxy/server.h"
#include "world.h"

#define MESH_CONTROL_IP "10.0.0.1"

struct plane;
struct push;

/* Before anything of a seed that uses TLS. */
void mesh_seed_tls(uint64_t seed);

/* ---- control plane ---- */
/* The CA is made once for the process, in a directory below /tmp that goes at exit. */
struct plane *plane_new(struct world *w);
void plane_free(struct plane *p);
/* Takes YAML documents; objects replace those of the same name. False: a problem was noted. */
bool plane_apply(struct plane *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void plane_delete(struct plane *p, const char *kind, const char *ns, const char *name);
/* The process dies and comes back with the same documents. */
void plane_crash(struct plane *p);
void plane_restart(struct plane *p);
bool plane_up(const struct plane *p);
const struct push *plane_push(const struct plane *p); /* NULL while it is down */
/* Appends, as JSON, the token and roots that a workload of this account begins with. */
void plane_token(struct plane *p, const char *ns, const char *account, struct strbuf *out);
sv plane_roots(const struct plane *p); /* PEM */

/* ---- proxies ---- */
struct sidecar {
    struct world *w;
    struct plane *plane;
    char name[32], ip[48], ns[32], labels[96]; /* "app=shop,version=v1" */
    struct loop *loop;
    struct proxy_server *server; /* NULL: down */
    struct proxy_agent agent_ops;
    struct agent_inside agent;
    struct resolver *resolver;
    unsigned certificate_s;
    struct proxy_options *cli;
    struct config_source *source;
    const char *const *hosts;
    size_t n_hosts;
};

struct sidecar_opts {
    const char *name, *ip;
    const char *labels;     /* may be NULL */
    struct plane *plane;    /* interception on the host begins; certificate and configuration come
                             * as simulated time passes */
    const char *bootstrap;  /* instead of a plane: YAML, without interception */
    unsigned certificate_s; /* life of its certificates; 0: the default */
    struct proxy_options *cli;    /* NULL: defaults; lives as long as the proxy */
    struct config_source *source; /* instead of xDS; may be NULL */
    const char *const *hosts;     /* what names resolve to: "name=address", static */
    size_t n_hosts;
};
/* The proxy starts at once. Texts are copied, except where said. */
struct sidecar *sidecar_new_opts(struct world *w, const struct sidecar_opts *o);
/* The same for most tests. */
struct sidecar *sidecar_new(struct world *w, struct plane *plane, const char *name, const char *ip,
                            const char *labels, const char *bootstrap);
void sidecar_free(struct sidecar *s);
/* After sim_crash_host: its remains go; sidecar_start makes a new process. */
void sidecar_died(struct sidecar *s);
void sidecar_start(struct sidecar *s, const char *bootstrap);
bool sidecar_ready(const struct sidecar *s);
/* A counter or gauge by its full name; 0 when it is not there. */
uint64_t sidecar_stat(const struct sidecar *s, const char *name);
/* The sum over all whose name begins and ends so. */
uint64_t sidecar_stat_sum(const struct sidecar *s, const char *begin, const char *end);

#endif
