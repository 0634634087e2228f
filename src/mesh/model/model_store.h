/* Inside of the store, shared by its files and nobody else. */
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

#endif
