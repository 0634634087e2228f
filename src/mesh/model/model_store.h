/* Inside of the store, shared by its files and nobody else. Thread: main. */
#ifndef WEFT_MESH_MODEL_STORE_H
#define WEFT_MESH_MODEL_STORE_H

#include "mesh/model/model.h"

struct stored {
    struct model_object *object;
    const char *source; /* static or interned by the caller for the life of the store */
    char *key;
};

struct stored_problem {
    char *source;
    struct model_problem p; /* strings are in `arena` */
    struct arena arena;
};

struct model_store {
    sv trust_domain, domain_suffix;
    struct map objects[MODEL_KINDS]; /* "ns/name" -> struct stored */
    struct stored_problem **problems;
    uint32_t n_problems, cap_problems;
    uint64_t generation;
};

/* ---- parts of the building of a snapshot ---- */
/* Called in order of precedence; host is resolved. */
void model_rules_add(struct model *m, const struct model_object *o, sv host);
/* A host of a ServiceEntry as a service; vip is left to the caller. Lives in a. */
struct model_service *model_entry_service(struct arena *a, const struct model_object *o, sv host);
/* Ports, addresses and endpoints of a younger ServiceEntry of the same host, where both are alike
 * otherwise: namespace, resolution, workloadSelector and exportTo. */
bool model_entry_merge(struct arena *a, struct model_service *into, struct model_service *part);
/* A younger ServiceEntry of the same host in another namespace, where both say the same of it. */
bool model_entry_repeats(struct arena *a, struct model_service *of, struct model_service *again);
/* The same names, in whatever order. */
bool model_same_names(const sv *a, uint32_t na, const sv *b, uint32_t nb);
/* An endpoint from what a WorkloadEntry says, for one port; name, namespace and labels are the
 * caller's. */
void model_entry_endpoint(const struct istio_WorkloadEntry *w, const struct model_port *port,
                          struct model_endpoint *e);
/* The VirtualServices of a snapshot whose objects and services are there: see model.h. */
void model_virtual_build(struct model *m);

#endif
