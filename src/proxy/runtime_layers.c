/* layered_runtime: static layers are read into a flat table that GET /runtime shows. Fractions and
 * flags of the configuration use their default values: no key of Envoy's runtime overrides them.
 * Some keys are settings of their own: overload.global_downstream_max_connections,
 * envoy.resource_limits.listener.NAME.connection_limit (listener_conf.c), and when spans leave
 * (filters/trace_export.h). */
#include <stdlib.h>

#include "api/google.pb.h"
#include "base/strbuf.h"
#include "proxy/server_private.h"

#define VALUE_MAX 4096

static void put(struct proxy_server *s, sv key, const struct google_Value *v)
{
    struct strbuf b;
    strbuf_init(&b, VALUE_MAX);
    switch (v->which_kind) {
    case google_Value_number_value_tag:
        strbuf_addf(&b, "%g", v->number_value);
        break;
    case google_Value_bool_value_tag:
        strbuf_add_c(&b, v->bool_value ? "true" : "false");
        break;
    case google_Value_string_value_tag:
        strbuf_add_sv(&b, v->string_value);
        break;
    default:
        strbuf_fini(&b);
        return;
    }
    free(map_put(&s->runtime, key, strbuf_steal(&b, NULL)));
}

/* {a: {b: 1}} is the key "a.b". */
static void flatten(struct proxy_server *s, const struct google_Struct *m, sv prefix, int depth)
{
    for (uint32_t i = 0; depth < 16 && i < m->fields.n; i++) {
        sv key = prefix.n ? arena_printf(&s->arena, "%.*s.%.*s", SV_ARG(prefix),
                                         SV_ARG(m->fields.v[i]->key))
                          : m->fields.v[i]->key;
        const struct google_Value *v = m->fields.v[i]->value;
        if (v && v->which_kind == google_Value_struct_value_tag && v->struct_value)
            flatten(s, v->struct_value, key, depth + 1);
        else if (v)
            put(s, key, v);
    }
}

void proxy_runtime_load(struct proxy_server *s)
{
    const struct envoy_LayeredRuntime *r = s->bootstrap->layered_runtime;
    for (uint32_t i = 0; r && i < r->layers.n; i++)
        if (r->layers.v[i]->which_layer_specifier == envoy_RuntimeLayer_static_layer_tag &&
            r->layers.v[i]->static_layer)
            flatten(s, r->layers.v[i]->static_layer, (sv){NULL, 0}, 0);
    s->max_connections =
        proxy_runtime_number(s, SV("overload.global_downstream_max_connections"), UINT64_MAX);
}

uint64_t proxy_runtime_number(const struct proxy_server *s, sv key, uint64_t otherwise)
{
    return filter_runtime_number(&s->runtime, key, otherwise);
}

void proxy_runtime_fini(struct proxy_server *s)
{
    map_each (e, &s->runtime)
        free(e->val);
    map_fini(&s->runtime);
}
