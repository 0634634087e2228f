/* The agent of one workload: identity, secrets, names. It runs inside weft-proxy (--agent FILE), or
 * in a process of its own beside an Envoy (`weft agent --config FILE`).
 *
 *   certificate service --identity--> secret store of this process, SDS socket of another
 *   control plane ------NDS--------> DNS of the workload
 *
 * Inside weft-proxy names arrive on the proxy's own ADS stream: it subscribes to NDS when
 * agent_wants_names() and passes them on with agent_set_names(). Beside an Envoy the agent has an
 * ADS stream of its own (opts.own_ads). Thread: main (owning loop). */
#ifndef WEFT_AGENT_AGENT_H
#define WEFT_AGENT_AGENT_H

#include "agent/dns_proxy.h"
#include "agent/identity.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "net/loop.h"
#include "tls/tls_secret.h"

struct agent;

struct agent_opts {
    struct loop *loop;
    sv config;        /* weft.v1.AgentConfig as JSON */
    const char *file; /* where it was read, for errors */
    bool own_ads;
    /* The first certificate is in force. May be NULL. */
    void (*on_ready)(void *arg);
    void *arg;
};

/* NULL + a sentence with the field's path. */
struct agent *agent_new(const struct agent_opts *o, struct error *err);
void agent_free(struct agent *a); /* NULL is fine; before the stores it supplies */

/* ---- secrets, inside weft-proxy ---- */
/* Does the agent have secrets of this name ("default", "ROOTCA")? */
bool agent_has_secret(const struct agent *a, sv name);
/* Keeps (name, config) of the store supplied from now on: for tls_secret_source.want/unwant. */
void agent_want(struct agent *a, struct tls_secret_store *st, sv name, sv config);
void agent_unwant(struct agent *a, struct tls_secret_store *st, sv name, sv config);

/* ---- names ---- */
bool agent_wants_names(const struct agent *a);
/* A packed NameTable. On error the last good one stays. */
int agent_set_names(struct agent *a, sv packed, struct error *err) MUST_CHECK;

const struct identity *agent_identity(const struct agent *a);
/* Prometheus text of the agent's own metrics, appended (for the merged stats page). */
void agent_metrics(const struct agent *a, struct strbuf *out);

#endif
