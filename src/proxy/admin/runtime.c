/* /runtime, POST /runtime_modify */
#include "base/runtime.h"
#include "http/path.h"
#include "proxy/admin/admin.h"
#include "proxy/server_private.h"

struct out {
    struct strbuf b;
    bool any;
};

static void add_entry(void *arg, sv key, sv value, const sv *of, unsigned layers)
{
    struct out *o = arg;
    strbuf_add_c(&o->b, o->any ? ",\n  " : "\n  ");
    o->any = true;
    strbuf_add_json(&o->b, key);
    strbuf_add_c(&o->b, ": {\"final_value\": ");
    strbuf_add_json(&o->b, value);
    strbuf_add_c(&o->b, ", \"layer_values\": [");
    for (unsigned i = 0; i < layers; i++) {
        strbuf_add_c(&o->b, i ? ", " : "");
        strbuf_add_json(&o->b, of[i].p ? of[i] : SV(""));
    }
    strbuf_add_c(&o->b, "]}");
}

void admin_runtime(struct proxy_server *s, struct serve_request *r)
{
    const struct envoy_LayeredRuntime *l = proxy_server_bootstrap(s)->layered_runtime;
    struct out o = {0};
    strbuf_init(&o.b, ADMIN_TEXT_MAX);
    strbuf_add_c(&o.b, "{\n \"layers\": [");
    for (uint32_t i = 0; l && i < l->layers.n; i++) {
        strbuf_add_c(&o.b, i ? ", " : "");
        strbuf_add_json(&o.b, l->layers.v[i]->name);
    }
    strbuf_add_c(&o.b, "],\n \"entries\": {");
    runtime_each(s->runtime, add_entry, &o);
    strbuf_add_c(&o.b, "\n }\n}\n");
    serve_reply_strbuf(r, 200, ADMIN_JSON, &o.b);
}

/* ?key1=value1&key2=value2; an empty value takes the admin's word back. */
void admin_runtime_modify(struct proxy_server *s, struct serve_request *r)
{
    sv rest = r->query, key, value;
    if (s->admin_layer < 0) {
        serve_reply_text(r, 503, "No admin layer specified");
        return;
    }
    if (!rest.n) {
        serve_reply_text(r, 400,
                         "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n"
                         "use an empty value to remove a previously added override\n");
        return;
    }
    while (path_query_next(&rest, &key, &value))
        if (key.n)
            proxy_runtime_modify(s, path_decode(key, true, r->arena),
                                 path_decode(value, true, r->arena));
    proxy_runtime_published(s);
    serve_reply_text(r, 200, "OK\n");
}
