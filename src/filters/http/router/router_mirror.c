/* Mirroring: the complete request goes to other clusters as well; what they answer is thrown away.
 * A copy does not depend on the stream it was made from: it has an arena of its own, and shares the
 * body's blocks. */
#include "filters/http/router/router_private.h"

struct router_mirrors {
    uint32_t n;
    const struct route_mirror *v[];
};

struct shadow {
    struct arena arena;
    struct loop *loop;
    struct upstream_cluster *cluster;
    struct upstream_open *open;
    struct http_stream *s;
    struct upstream_ctx ctx;
    struct http_head head;
    struct buf body;
    struct http_headers *trailers;
    struct addr original_dst, client;
    struct timer timer;
    struct deferred freeing;
    uint64_t start_ns;
    bool over;
};

void router_mirror_init(struct router *r)
{
    const struct route *rt = r->route;
    struct router_mirrors *m = arena_zalloc(
        router_host(r)->arena, sizeof *m + sizeof(struct route_mirror *) * rt->n_mirrors);
    for (uint32_t i = 0; i < rt->n_mirrors; i++) {
        const struct route_mirror *p = &rt->mirrors[i];
        if (!p->has_fraction || fraction_hit(&p->fraction, rand_u64(loop_rand(r->w->loop))))
            m->v[m->n++] = p;
    }
    if (!m->n)
        return;
    r->mirrors = m;
    r->holding = true;
}

/* ---- one copy ---- */

static void free_shadow(struct deferred *d)
{
    struct shadow *sh = container_of(d, struct shadow, freeing);
    struct arena a;
    arena_take(&a, &sh->arena);
    arena_free(&a);
}

static void end(struct shadow *sh)
{
    if (sh->over)
        return;
    sh->over = true;
    timer_cancel(&sh->timer);
    buf_reset(&sh->body);
    upstream_cluster_unref(sh->cluster);
    loop_defer(sh->loop, &sh->freeing, free_shadow);
}

static void on_close(void *user)
{
    end(user);
}

/* The answer is thrown away, but counted. */
static void on_head(void *user, struct http_head *head, bool last)
{
    struct shadow *sh = user;
    upstream_count_response(sh->cluster, head->status,
                            (loop_stamp_ns(sh->loop) - sh->start_ns) / 1000u, true);
}

static const struct http_stream_events events = {.on_head = on_head, .on_close = on_close};
static const struct http_stream_events no_events;

static void on_ready(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn)
{
    struct shadow *sh = user;
    sh->open = NULL;
    sh->s = s;
    http_stream_set_user(s, &events, sh);
    bool alone = !sh->body.len && !sh->trailers;
    if (s->ops->send_head(s, &sh->head, alone) < 0) {
        s->ops->reset(s, HTTP_RESET_LOCAL);
        return;
    }
    if (!sh->over && sh->body.len)
        s->ops->send_data(s, &sh->body, !sh->trailers);
    if (!sh->over && sh->trailers)
        s->ops->send_trailers(s, sh->trailers);
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct shadow *sh = user;
    sh->open = NULL;
    end(sh);
}

static void on_timeout(struct timer *t)
{
    struct shadow *sh = container_of(t, struct shadow, timer);
    if (sh->open)
        upstream_cancel(sh->open);
    if (sh->s) {
        http_stream_set_user(sh->s, &no_events, NULL);
        sh->s->ops->reset(sh->s, HTTP_RESET_TIMEOUT);
    }
    end(sh);
}

static const struct upstream_http_cb open_cb = {on_ready, on_fail};

/* "host:80" -> "host-shadow:80" */
static sv shadow_host(struct arena *a, sv host)
{
    ptrdiff_t colon = sv_rfind(host, ':');
    if (colon < 0 || sv_ends(host, SV("]")))
        return arena_printf(a, "%.*s-shadow", SV_ARG(host));
    return arena_printf(a, "%.*s-shadow%.*s", (int)colon, host.p,
                        SV_ARG(sv_from(host, (size_t)colon)));
}

static void copy_head(struct shadow *sh, const struct router *r, const struct route_mirror *p)
{
    struct arena *a = &sh->arena;
    const struct http_head *from = r->req;
    http_head_init(&sh->head, a);
    http_headers_copy(&sh->head.h, &from->h, a);
    sh->head.method = arena_sv(a, from->method);
    sh->head.scheme = arena_sv(a, from->scheme);
    sh->head.path = arena_sv(a, from->path);
    sh->head.authority = p->host_rewrite.n ? p->host_rewrite
                         : p->keep_host    ? arena_sv(a, from->authority)
                                           : shadow_host(a, from->authority);
    sh->head.protocol = from->protocol;
    sh->head.content_length = from->content_length;
    sh->head.large_host = from->large_host;
}

static void start_one(struct router *r, const struct route_mirror *p)
{
    sv name = p->cluster.n ? p->cluster : http_headers_get_sv(&r->req->h, p->cluster_header);
    struct upstream_cluster *c = name.n ? upstream_find(r->w->upstream, name) : NULL;
    if (!c)
        return;
    struct arena a;
    arena_init(&a);
    struct shadow *sh = arena_new(&a, struct shadow);
    arena_take(&sh->arena, &a);
    sh->loop = r->w->loop;
    sh->start_ns = loop_stamp_ns(sh->loop);
    sh->cluster = c;
    copy_head(sh, r, p);
    buf_init(&sh->body);
    buf_share(&sh->body, &r->body, 0, r->body.len);
    if (r->trailers) {
        sh->trailers = arena_new(&sh->arena, struct http_headers);
        http_headers_init(sh->trailers, &sh->arena);
        http_headers_copy(sh->trailers, r->trailers, &sh->arena);
    }
    sh->ctx = (struct upstream_ctx){.priority = r->ctx.priority,
                                    .has_hash = r->ctx.has_hash,
                                    .hash = r->ctx.hash,
                                    .request = &sh->head,
                                    .sni_override = sh->head.authority,
                                    .downstream_protocol = r->ctx.downstream_protocol};
    if (r->ctx.original_dst) {
        sh->original_dst = *r->ctx.original_dst;
        sh->ctx.original_dst = &sh->original_dst;
    }
    if (r->ctx.client) {
        sh->client = *r->ctx.client;
        sh->ctx.client = &sh->client;
    }
    timer_init(&sh->timer, sh->loop, on_timeout);
    if (r->timeout_ms)
        timer_set(&sh->timer, r->timeout_ms);
    struct upstream_open *o = upstream_http_open(c, &sh->ctx, &open_cb, sh);
    if (o && !sh->over)
        sh->open = o;
}

void router_mirror_go(struct router *r)
{
    struct router_mirrors *m = r->mirrors;
    r->mirrors = NULL;
    for (uint32_t i = 0; i < m->n; i++)
        start_one(r, m->v[i]);
    if (r->retry.on || !r->cur)
        return;
    r->holding = false;
    buf_drain(&r->body, r->cur->sent);
    r->cur->sent = 0;
}
