#include "given.h"

#include <stdio.h>
#include <stdlib.h>
#include "api/envoy.pb.h"
#include "base/mem.h"

static void note(struct given *g, char sign, enum config_type t, sv name)
{
    static const char *const types[] = {
#define X(id, type, stats) #id,
        CONFIG_TYPES(X)
#undef X
    };
    strbuf_addf(&g->log, "%c%s %.*s ", sign, types[t], SV_ARG(name));
}

static void subscribe(void *self, enum config_type t, sv name)
{
    ((struct given *)self)->wanted |= 1u << t;
    note(self, '+', t, name);
}

static void unsubscribe(void *self, enum config_type t, sv name)
{
    note(self, '-', t, name);
}

static void start(void *self, const struct config_sink *sink)
{
    ((struct given *)self)->sink = *sink;
}

static void nothing(void *self)
{
}

void given_init(struct given *g)
{
    static const struct config_source_ops ops = {subscribe, unsubscribe, start, nothing};
    *g = (struct given){.src = {&ops, g}};
    strbuf_init(&g->log, 1u << 20);
    strbuf_add_c(&g->log, " ");
}

void given_fini(struct given *g)
{
    strbuf_fini(&g->log);
}

const char *given_put(struct given *g, enum config_type t, const char *name, const char *yaml)
{
    static const struct pb_message *const types[] = {
        [CONFIG_CDS] = &envoy_Cluster_pb,      [CONFIG_EDS] = &envoy_ClusterLoadAssignment_pb,
        [CONFIG_LDS] = &envoy_Listener_pb,     [CONFIG_RDS] = &envoy_RouteConfiguration_pb,
        [CONFIG_VHDS] = &envoy_VirtualHost_pb,
    };
    static char why[1024];
    struct arena a;
    struct error err = {0};
    void *m;
    arena_init(&a);
    if (pb_from_text(types[t], sv_of(yaml), "test", &a, NULL, &m, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    struct config_resource r = {
        .name = sv_of(name), .version = SV("1"), .packed = pb_encode_arena(types[t], m, &a)};
    struct config_update u = {.type = t, .version = SV("1"), .v = &r, .n = 1};
    g->sink.update(g->sink.self, &u);
    snprintf(why, sizeof why, "%s", r.refused.code ? r.refused.msg : "");
    arena_free(&a);
    return why;
}

void given_remove(struct given *g, enum config_type t, const char *name)
{
    sv removed = sv_of(name);
    struct config_update u = {.type = t, .version = SV("2"), .removed = &removed, .n_removed = 1};
    g->sink.update(g->sink.self, &u);
}
