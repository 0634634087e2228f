/* What happens to one request, by configuration alone: which Service, which rule of which object,
 * where to, under which time limits, and with whom the sidecar would speak TLS.
 *
 *   snapshot --translate--> listeners, routes, clusters, endpoints (of this proxy)
 *                               | route_table: the code that the proxy runs
 *   request ------------------> match --> struct explained --> text or JSON
 *
 * Everything lives in the arena of the offline snapshot. Thread: main. */
#ifndef WEFT_CLI_EXPLAIN_H
#define WEFT_CLI_EXPLAIN_H

#include "api/envoy.pb.h"
#include "cli/offline.h"
#include "http/headers.h"
#include "mesh/translate/translate.h"
#include "route/route.h"

struct explain_place { /* an object of the configuration; kind.n == 0: none */
    sv kind, ns, name, file;
    uint32_t line;
};

struct explained_endpoint {
    sv address, workload, health, locality;
    uint32_t priority, weight;
    bool mtls;
};

struct explained_destination {
    sv cluster, host, subset;
    uint16_t port;
    double percent;
    bool mirror, known;             /* the sidecar has the cluster */
    struct explain_place rule;      /* the DestinationRule in force */
    struct explain_place subset_at; /* where the subset is defined */
    sv tls;                         /* in words */
    const sv *identities;           /* that may answer */
    uint32_t n_identities;
    struct explained_endpoint *endpoints;
    uint32_t n_endpoints;
    bool listed; /* endpoints come from the control plane, so that the list is all of them */
};

struct explained {
    /* the question */
    sv method, scheme, host, path;
    uint16_t port;
    struct translate_proxy proxy;
    bool proxy_found; /* a workload of the configuration */
    /* the way */
    struct explain_place service, virtual_service,
        rule; /* rule: line of http[i], maybe a delegate's */
    sv listener, route_config, route;
    sv rule_field; /* "spec.http[1]" */
    sv trail;      /* lines */
    sv action;     /* in words: "forward", "redirect to …" */
    enum route_action kind;
    bool tcp; /* no HTTP for the sidecar: no routes */
    const struct route *found;
    sv filters; /* names of what the rule adds: faults, CORS */
    struct explained_destination *destinations;
    uint32_t n_destinations;
};

struct explain_request {
    sv from, url, method;
    const sv *headers; /* "name:value" */
    uint32_t n_headers;
};

/* E_INVALID for a question that cannot be understood, with a sentence. *table is to be unreffed
 * when `out` is no longer used (NULL without HTTP). */
int explain(struct offline *o, const struct explain_request *q, struct explained *out,
            struct route_table **table, struct error *err) MUST_CHECK;
void explain_text(const struct explained *x, struct strbuf *out);
void explain_json(const struct explained *x, struct strbuf *out);

/* The rule (or one of its matches) goes by that name in route configurations and logs. */
bool explain_is_named(const struct model_http_rule *r, sv route, struct arena *a);

/* ---- explain_clusters.c ---- */
/* Fills everything of a destination but cluster, percent and mirror. */
void explain_destination(struct offline *o, const struct translate *t,
                         const struct translate_proxy *p, struct explained_destination *d);
struct explain_place explain_place_of(const struct model_object *o, sv field, struct arena *a);

#endif
