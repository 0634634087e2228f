/* What the checks of the kinds share; translate_check() runs them all. Thread: main. */
#ifndef WEFT_MESH_TRANSLATE_CHECK_H
#define WEFT_MESH_TRANSLATE_CHECK_H

#include "mesh/translate/internal.h"

struct checking {
    const struct model *m;
    struct arena *a;
    void (*emit)(void *arg, const struct model_problem *p);
    void *arg;
    const struct model_object *o;
    uint32_t line; /* where the field is, when the object does not know; 0: it does */
};

/* A problem of c->o. */
void check_report(struct checking *c, enum model_severity severity, const char *code, sv field,
                  sv text);

/* ---- workloads: check_hints.c ---- */
enum check_selected { CHECK_SELECTS_SOME, CHECK_SELECTS_NONE, CHECK_NO_WORKLOADS };
/* Whether the labels of a subset select one of the service's endpoints, ready or not. */
enum check_selected check_selected(const struct model *m, const struct model_service *svc,
                                   const struct istio_Subset *s);

/* ---- VirtualServices: check_virtual.c ---- */
/* Destinations of one; rules that are never reached; faults without a share. */
void check_virtual_service(struct checking *c);
/* Hosts that several route, delegates that none names. */
void check_virtual_hosts(struct checking *c);

/* ---- rules that are never reached: check_order.c ---- */
void check_order(struct checking *c, const struct istio_VirtualService *vs);

#endif
