/* What the validators of the kinds share; one file a kind.
 *
 * Each kind's file opens with the table of the fields that weft reads but refuses, with the reason.
 * tools/api-coverage reads these tables: a row is {"Message", "jsonName", "reason"}.
 * Thread: any. */
#ifndef WEFT_MESH_MODEL_VALIDATE_INTERNAL_H
#define WEFT_MESH_MODEL_VALIDATE_INTERNAL_H

#include "api/google.pb.h"
#include "api/istio.pb.h"
#include "api/pb.h"
#include "mesh/model/validate.h"

#define VALIDATE_PATH_BYTES 512

struct validating {
    const struct node *doc; /* may be NULL */
    struct arena *a;
    struct model_problem *p;
};

/* A field of the published API that is read but not carried out, and the reason or remedy in the
 * user's words. */
struct validate_refusal {
    const char *message, *field, *reason;
};

/* Fills the problem in; E_INVALID. */
int validate_bad(struct validating *c, const char *path, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Refuses by name the first field below msg that is set and has a row in the table. */
int validate_walk(struct validating *c, const struct validate_refusal *table, size_t n,
                  const struct pb_message *m, const void *msg, const char *path) MUST_CHECK;
/* "spec.http[0].match[1]" for messages, in the arena. */
const char *validate_path(struct validating *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The name of an object or a namespace: lower-case letters, digits, '-' and '.'. */
bool validate_dns_label(sv v);
/* A host name; "*" and "*.suffix" too. */
int validate_host(struct validating *c, const char *path, sv host) MUST_CHECK;
/* "*" alone, or "." and namespaces, each once; with `none` also "~" alone. */
int validate_export(struct validating *c, const sv *v, uint32_t n, bool none) MUST_CHECK;
/* A label that a selector asks for. */
int validate_label(struct validating *c, const char *path, sv key, sv value) MUST_CHECK;
#define VALIDATE_LABELS(c, path, map)                                                              \
    ({                                                                                             \
        int rc_ = 0;                                                                               \
        for (uint32_t i_ = 0; i_ < (map).n && !rc_; i_++)                                          \
            rc_ = validate_label((c), (path), (map).v[i_]->key, (map).v[i_]->value);               \
        rc_;                                                                                       \
    })
/* 1 to 65535. */
int validate_port(struct validating *c, const char *path, uint32_t port) MUST_CHECK;

/* An expression of RE2 that is not too large. */
int validate_regex(struct validating *c, const char *path, sv text) MUST_CHECK;
/* 1 ms or more; with `zero` also 0, which switches off. */
int validate_duration(struct validating *c, const char *path, const struct google_Duration *d,
                      bool zero) MUST_CHECK;
/* 0 to 100; NULL is fine. */
int validate_percent(struct validating *c, const char *path,
                     const struct istio_Percent *p) MUST_CHECK;
/* Host, port, weight of a destination at path. */
int validate_destination(struct validating *c, const char *path, const struct istio_Destination *d,
                         int32_t weight) MUST_CHECK;
/* "mesh", "NAME" or "NAMESPACE/NAME". */
int validate_gateways(struct validating *c, const char *path, const sv *v, uint32_t n) MUST_CHECK;
/* One HTTP rule; in a delegate it may not delegate further. */
int validate_http_route(struct validating *c, const char *path, const struct istio_HTTPRoute *r,
                        bool in_delegate) MUST_CHECK;

/* ---- the kinds ---- */
int validate_virtual_service(struct validating *c, const struct istio_VirtualService *vs);
int validate_destination_rule(struct validating *c, const struct istio_DestinationRule *r);
int validate_service_entry(struct validating *c, const struct istio_ServiceEntry *e);
int validate_sidecar(struct validating *c, const struct istio_Sidecar *s);
/* connectionPool, wherever it stands. */
int validate_pool(struct validating *c, const char *path,
                  const struct istio_ConnectionPoolSettings *p);
int validate_workload_entry(struct validating *c, const struct istio_WorkloadEntry *w);

#endif
