/* What the checks of the kinds share; translate_check() runs them all. */
#ifndef WEFT_MESH_TRANSLATE_CHECK_H
#define WEFT_MESH_TRANSLATE_CHECK_H

#include "mesh/translate/internal.h"

struct checking {
    const struct model *m;
    struct arena *a;
    void (*emit)(void *arg, const struct model_problem *p);
    void *arg;
    const struct model_object *o;
};

/* A problem of c->o. */
void check_report(struct checking *c, enum model_severity severity, const char *code, sv field,
                  sv text);

/* ---- VirtualServices: check_virtual.c ---- */
/* Destinations of one; rules that are never reached; faults without a share. */
void check_virtual_service(struct checking *c);
/* Hosts that several route, delegates that none names. */
void check_virtual_hosts(struct checking *c);

#endif
