/* What the validators of the kinds share; one file a kind.
 *
 * Each kind's file opens with the table of the fields that weft reads but refuses, with the reason.
 * tools/api-coverage reads these tables: a row is {"Message", "jsonName", "reason"}. */
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
/* A host name; "*" and "*.suffix" too. */
int validate_host(struct validating *c, const char *path, sv host) MUST_CHECK;
/* 1 to 65535. */
int validate_port(struct validating *c, const char *path, uint32_t port) MUST_CHECK;

/* ---- the kinds ---- */
int validate_virtual_service(struct validating *c, const struct istio_VirtualService *vs);
int validate_destination_rule(struct validating *c, const struct istio_DestinationRule *r);
int validate_service_entry(struct validating *c, const struct istio_ServiceEntry *e);
int validate_workload_entry(struct validating *c, const struct istio_WorkloadEntry *w);

#endif
