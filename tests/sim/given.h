/* Configuration that a test gives to a proxy piece by piece, instead of a control plane.
 * Thread: the simulation's. */
#ifndef WEFT_TESTS_SIM_GIVEN_H
#define WEFT_TESTS_SIM_GIVEN_H

#include "base/strbuf.h"
#include "proxy/config_source.h"

struct given {
    struct config_source src; /* for sidecar_opts and stage_start */
    struct config_sink sink;
    unsigned wanted;   /* types that were subscribed to, a bit each */
    struct strbuf log; /* " +RDS r1 -RDS r1 " */
};

void given_init(struct given *g);
void given_fini(struct given *g);
/* One resource, as YAML; the reason of a refusal, or "". Before the proxy started: aborts. */
const char *given_put(struct given *g, enum config_type t, const char *name, const char *yaml);
void given_remove(struct given *g, enum config_type t, const char *name);

#endif
