/* What happens to a request between the codec and the first filter, in Envoy's order: version, host
 * and path checks, canonical forms, fields, route, upgrade; then the filters are made and run. */
#include "base/mem.h"
#include "base/code.h"
#include "http/path.h"
#include "proxy/hcm.h"
#include "proxy/hcm_headers.h"
#include "proxy/hcm_tracing.h"

static const sv no_text = {NULL, 0};

static void refuse(struct hcm_stream *s, uint16_t status, sv body, sv details)
{
    hcm_local_reply(s,
                    &(struct http_local_reply){.status = status, .body = body, .details = details});
}

/* ---- checks ---- */

/* What begins while memory is short is refused, so that what is under way can end (base/mem.h). */
static bool check_memory(struct hcm_stream *s)
{
    if (!mem_short())
        return true;
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_overload_close);
    hcm_local_reply(s, &(struct http_local_reply){.status = 503,
                                                  .body = SV("memory is short"),
                                                  .flags = STREAM_FLAG_OM,
                                                  .details = STREAM_RCD_OVERLOAD});
    return false;
}

static bool check_version(struct hcm_stream *s, struct http_head *head)
{
    if (head->protocol != HTTP_10)
        return true;
    if (!s->cfg->limits.allow_http10) {
        s->close_after = true;
        refuse(s, 426, no_text, STREAM_RCD_LOW_VERSION);
        return false;
    }
    if (!head->authority.n)
        head->authority = s->cfg->default_host;
    return true;
}

static bool check_target(struct hcm_stream *s, struct http_head *head)
{
    if (!head->authority.n) {
        refuse(s, 400, no_text, STREAM_RCD_MISSING_HOST);
        return false;
    }
    if (s->is_connect && !head->path.n)
        return true;
    if (!head->path.n) {
        refuse(s, 404, no_text, STREAM_RCD_MISSING_PATH);
        return false;
    }
    if (head->path.p[0] == '/') /* "*" of OPTIONS is nothing that could be routed */
        return true;
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_non_relative_path);
    refuse(s, 404, no_text, STREAM_RCD_ABSOLUTE_PATH);
    return false;
}

static bool check_connection(struct hcm_stream *s, struct http_head *head)
{
    if (head->protocol >= HTTP_2 || !http_headers_get(&head->h, HTTP_H_CONNECTION).p ||
        hcm_headers_nominated(&head->h))
        return true;
    refuse(s, 400, no_text, STREAM_RCD_HTTP1_CONNECTION_HEADER_REJECTED);
    return false;
}

static void add_location(struct http_head *head, void *arg)
{
    const sv *to = arg;
    http_headers_set_id(&head->h, HTTP_H_LOCATION, *to);
}

static bool normalize_path(struct hcm_stream *s, struct http_head *head)
{
    if (!head->path.n)
        return true;
    sv out;
    switch (path_canonical(head->path, &s->cfg->path, s->arena, &out)) {
    case PATH_OK:
        head->path = out;
        return true;
    case PATH_REDIRECT:
        if (!http_head_is_grpc(head)) {
            stat_inc(s->cfg->stats, hcm_stats_downstream_rq_redirected_with_normalized_path);
            hcm_local_reply(s, &(struct http_local_reply){
                                   .status = 307,
                                   .details = SV("path_normalization_failed"),
                                   .modify = add_location,
                                   .arg = &out,
                               });
            return false;
        }
        break;
    case PATH_REJECT:
        break;
    }
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_failed_path_normalization);
    refuse(s, 400, no_text, STREAM_RCD_PATH_NORMALIZATION_FAILED);
    return false;
}

static void normalize_host(struct hcm_stream *s, struct http_head *head)
{
    const struct hcm_config *c = s->cfg;
    struct authority a;
    bool strip = c->strip_port;
    if (!strip && c->strip_matching_port && authority_parse(head->authority, &a) == 0 && a.port)
        strip = a.port == addr_port(s->hc->nc->sc.local_addr);
    if (strip && !s->is_connect && authority_parse(head->authority, &a) == 0 && a.port) {
        ptrdiff_t colon = sv_rfind(head->authority, ':');
        head->authority = sv_first(head->authority, (size_t)colon);
    }
    if (c->strip_dot && authority_parse(head->authority, &a) == 0 && !a.is_ip6 &&
        sv_ends(a.host, SV("."))) {
        sv host = sv_first(a.host, a.host.n - 1);
        head->authority = a.port ? arena_printf(s->arena, "%.*s:%u", SV_ARG(host), a.port) : host;
    }
}

void hcm_request_canonical(struct hcm_stream *s, struct http_head *head)
{
    sv out;
    if (head->path.n && path_canonical(head->path, &s->cfg->path, s->arena, &out) == PATH_OK)
        head->path = out;
    normalize_host(s, head);
}

bool hcm_request_misdirected(struct hcm_stream *s, const struct http_head *head)
{
    struct network_conn *nc = s->hc->nc;
    return nc->ops->misdirected(nc, head->authority, s->arena);
}

/* Clients share a connection between hosts that its certificate names; a host whose own filter
 * chain has other certificates or demands is not served over this one. They try again over another.
 */
static bool check_direction(struct hcm_stream *s, const struct http_head *head)
{
    if (!hcm_request_misdirected(s, head))
        return true;
    stat_inc(s->cfg->stats, hcm_stats_downstream_rq_misdirected);
    refuse(s, 421, no_text, STREAM_RCD_MISDIRECTED);
    return false;
}

/* Unless the upstream is to decide, the client is told at once to send its body. */
static void answer_expect(struct hcm_stream *s, struct http_head *head)
{
    sv expect = http_headers_get(&head->h, HTTP_H_EXPECT);
    if (s->cfg->proxy_100_continue || !sv_eq_icase(expect, SV("100-continue")))
        return;
    http_headers_remove_id(&head->h, HTTP_H_EXPECT);
    struct http_head go;
    http_head_init(&go, s->arena);
    go.status = 100;
    go.protocol = head->protocol;
    hcm_stream_send_info(s, &go);
}

/* ---- upgrades ---- */

static const struct hcm_upgrade *find_upgrade(const struct hcm_config *c, sv type)
{
    for (uint32_t i = 0; i < c->n_upgrades; i++)
        if (sv_eq_icase(c->upgrades[i].type, type))
            return &c->upgrades[i];
    return NULL;
}

/* The chain for an upgrade of that type; false when it is not let through. What a route says goes
 * over what the manager says. */
static bool upgrade_chain(struct hcm_stream *s, sv type, const struct http_filter_conf **v,
                          uint32_t *n)
{
    const struct route_match *m = hcm_route(s);
    int by_route = m && m->route ? route_upgrade_allowed(m->route, type, NULL) : -1;
    const struct hcm_upgrade *u = find_upgrade(s->cfg, type);
    if (by_route == 0 || (by_route < 0 && (!u || !u->enabled)))
        return false;
    if (u && u->filters) {
        *v = u->filters;
        *n = u->n_filters;
    }
    return true;
}

static bool ignored_upgrade(const struct hcm_config *c, sv type)
{
    if (sv_eq_icase(type, SV("h2c")))
        return true; /* prior knowledge only, as Envoy */
    for (uint32_t i = 0; i < c->n_ignored_upgrades; i++)
        if (string_match(&c->ignored_upgrades[i], type))
            return true;
    return false;
}

/* ---- the request goes in ---- */

static void apply_route(struct hcm_stream *s, struct http_head *head)
{
    const struct route_match *m = hcm_route(s);
    if (!m || !m->route)
        return;
    const struct route *r = m->route;
    if (r->has_idle_timeout || r->new_timeouts)
        hcm_timeouts_route(s, r, head);
    if (r->has_body_limit)
        s->buffer_limit = r->body_limit > UINT32_MAX ? UINT32_MAX : (uint32_t)r->body_limit;
}

static void run_filters(struct hcm_stream *s, struct http_head *head, bool end)
{
    const struct http_filter_conf *v = s->cfg->filters;
    uint32_t n = s->cfg->n_filters;
    bool refused = false;
    sv type = s->is_connect && !head->upgrade ? SV("CONNECT") : head->connect_protocol;
    if (head->upgrade || s->is_connect)
        refused = !upgrade_chain(s, type, &v, &n);
    hcm_chain_make(s, v, n);
    if (s->recv_end)
        for (uint32_t i = 0; i < s->n_filters; i++)
            s->filters[i].host.request_ended = true;
    if (refused) {
        stat_inc(s->cfg->stats, hcm_stats_downstream_rq_ws_on_non_ws_route);
        refuse(s, 403, no_text, STREAM_RCD_UPGRADE_FAILED);
        return;
    }
    s->si.is_upgrade = head->upgrade;
    if (s->cfg->log_on_request)
        hcm_stream_log(s, "DownstreamStart");
    hcm_chain_head(s, HCM_DEC, 0, head, end);
}

HOT void hcm_request_head(struct hcm_stream *s, struct http_head *head, bool end)
{
    s->is_head = sv_eq(head->method, SV("HEAD"));
    s->is_connect = sv_eq(head->method, SV("CONNECT"));
    s->si.is_grpc = http_head_is_grpc(head);
    if (head->upgrade && ignored_upgrade(s->cfg, head->connect_protocol)) {
        head->upgrade = false;
        head->connect_protocol = no_text;
    }
    if (!s->again && (!check_memory(s) || !check_version(s, head)))
        return;
    if (!check_target(s, head) || !check_connection(s, head) || !normalize_path(s, head))
        return;
    normalize_host(s, head);
    if (!s->again) { /* what the client may say was looked at before the redirect, as was where
                      * that leads to (http/filter.h: route_for) */
        if (!check_direction(s, head))
            return;
        answer_expect(s, head);
        uint16_t status = hcm_headers_request(s, head);
        if (status) {
            stat_inc(s->cfg->stats, hcm_stats_downstream_rq_rejected_via_ip_detection);
            refuse(s, status, no_text, STREAM_RCD_IP_DETECTION_FAILED);
            return;
        }
    }
    apply_route(s, head);
    if (s->cfg->tracing)
        hcm_tracing_start(s, head);
    run_filters(s, head, end);
}
