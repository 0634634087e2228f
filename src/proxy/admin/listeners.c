/* /listeners, POST /drain_listeners */
#include "proxy/admin/admin.h"
#include "upstream/address.h"

#include "api/envoy.pb.h"
#include "proxy/listener_manager.h"
#include "proxy/server.h"

static void text_line(void *arg, const struct listener_view *v)
{
    char text[ADDR_TEXT_MAX];
    if (v->state != LISTENER_ACTIVE)
        return;
    for (uint32_t i = 0; i < v->n_addrs; i++)
        strbuf_addf(arg, "%.*s::%.*s\n", SV_ARG(v->name), SV_ARG(addr_text(&v->addrs[i], text)));
}

struct json {
    struct arena a;
    struct envoy_Listeners m;
    uint32_t cap;
};

static void json_one(void *arg, const struct listener_view *v)
{
    struct json *j = arg;
    if (v->state != LISTENER_ACTIVE)
        return;
    struct envoy_ListenerStatus *st = arena_new(&j->a, struct envoy_ListenerStatus);
    st->name = arena_sv(&j->a, v->name);
    st->local_address = address_message(&j->a, &v->addrs[0]);
    if (v->n_addrs > 1) {
        st->additional_local_addresses.v =
            arena_array(&j->a, const struct envoy_Address *, v->n_addrs);
        for (uint32_t i = 1; i < v->n_addrs; i++)
            st->additional_local_addresses.v[st->additional_local_addresses.n++] =
                address_message(&j->a, &v->addrs[i]);
    }
    if (j->m.listener_statuses.n == j->cap) {
        const struct envoy_ListenerStatus **old = j->m.listener_statuses.v;
        j->cap = j->cap ? j->cap * 2 : 16;
        j->m.listener_statuses.v = arena_array(&j->a, const struct envoy_ListenerStatus *, j->cap);
        for (uint32_t i = 0; i < j->m.listener_statuses.n; i++)
            j->m.listener_statuses.v[i] = old[i];
    }
    j->m.listener_statuses.v[j->m.listener_statuses.n++] = st;
}

void admin_listeners(struct proxy_server *s, struct serve_request *r)
{
    struct strbuf b;
    strbuf_init(&b, ADMIN_TEXT_MAX);
    if (!sv_eq(serve_query(r, SV("format")), SV("json"))) {
        listener_manager_each(proxy_server_listeners(s), text_line, &b);
        serve_reply_strbuf(r, 200, ADMIN_TEXT, &b);
        return;
    }
    struct json j = {0};
    arena_init(&j.a);
    listener_manager_each(proxy_server_listeners(s), json_one, &j);
    admin_json(&envoy_Listeners_pb, &j.m, &b);
    arena_free(&j.a);
    serve_reply_strbuf(r, 200, ADMIN_JSON, &b);
}

void admin_drain_listeners(struct proxy_server *s, struct serve_request *r)
{
    bool inbound = admin_has_param(r, SV("inboundonly"));
    bool graceful = admin_has_param(r, SV("graceful"));
    if (admin_has_param(r, SV("skip_exit")) && !graceful) {
        serve_reply_text(r, 400, "skip_exit requires graceful\n");
        return;
    }
    listener_manager_drain(proxy_server_listeners(s), inbound, graceful,
                           admin_has_param(r, SV("skip_exit")));
    serve_reply_text(r, 200, "OK\n");
}
