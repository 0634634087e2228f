#include "proxy/cluster_channel.h"

#include <stdlib.h>

#include "base/mem.h"
#include "upstream/upstream.h"

struct channel {
    struct serve_channel c;
    struct upstream_worker *w;
    char *cluster, *authority;
    struct list waiting; /* struct waiter.link */
};

/* One wish under way: owned by the channel, since serve_open has no room for it. */
struct waiter {
    struct list link;
    struct channel *ch;
    struct serve_open *o;
    struct upstream_open *open;
    struct upstream_cluster *cluster;
    struct upstream_ctx ctx;
    bool opening, over;
};

static void end_waiter(struct waiter *w)
{
    list_del(&w->link);
    upstream_cluster_unref(w->cluster);
    if (w->opening)
        w->over = true;
    else
        free(w);
}

static void on_ready(void *user, struct http_stream *s, struct upstream_host *host,
                     const struct conn *conn)
{
    struct waiter *w = user;
    struct serve_open *o = w->o;
    list_del(&o->link);
    end_waiter(w);
    o->fn(o, s, HTTP_RESET_NONE, NULL);
}

static void on_fail(void *user, enum upstream_fail why, struct upstream_host *host, sv details)
{
    struct waiter *w = user;
    struct serve_open *o = w->o;
    list_del(&o->link);
    end_waiter(w);
    o->fn(o, NULL,
          why == UPSTREAM_FAIL_CONNECT_TIMEOUT ? HTTP_RESET_TIMEOUT : HTTP_RESET_CONN_FAILURE,
          upstream_fail_text(why));
}

static const struct upstream_http_cb cb = {on_ready, on_fail};

static void channel_open(struct serve_channel *c, struct serve_open *o)
{
    struct channel *ch = container_of(c, struct channel, c);
    struct upstream_cluster *cl = upstream_find(ch->w, sv_of(ch->cluster));
    list_init(&o->link);
    if (!cl) {
        o->fn(o, NULL, HTTP_RESET_CONN_FAILURE, "no such cluster");
        return;
    }
    struct waiter *w = mem_new(struct waiter);
    w->ch = ch;
    w->o = o;
    w->cluster = cl;
    w->ctx.downstream_protocol = HTTP_2;
    w->ctx.sni_override = c->authority;
    w->opening = true;
    list_push(&ch->waiting, &w->link);
    struct upstream_open *open = upstream_http_open(cl, &w->ctx, &cb, w);
    w->opening = false;
    if (w->over)
        free(w);
    else
        w->open = open;
}

static void channel_cancel(struct serve_channel *c, struct serve_open *o)
{
    struct channel *ch = container_of(c, struct channel, c);
    list_each_safe (it, &ch->waiting) {
        struct waiter *w = container_of(it, struct waiter, link);
        if (w->o != o)
            continue;
        if (w->open)
            upstream_cancel(w->open);
        end_waiter(w);
        return;
    }
}

static const struct serve_channel_ops ops = {channel_open, channel_cancel};

struct serve_channel *cluster_channel_new(struct upstream_worker *w, struct loop *l, sv cluster,
                                          sv authority)
{
    struct channel *ch = mem_new(struct channel);
    ch->w = w;
    ch->cluster = sv_dup(cluster);
    ch->authority = sv_dup(authority.n ? authority : cluster);
    list_init(&ch->waiting);
    ch->c = (struct serve_channel){
        .ops = &ops, .loop = l, .scheme = SV("http"), .authority = sv_of(ch->authority)};
    return &ch->c;
}

void cluster_channel_free(struct serve_channel *c)
{
    if (!c)
        return;
    struct channel *ch = container_of(c, struct channel, c);
    while (!list_empty(&ch->waiting)) {
        struct waiter *w = container_of(list_first(&ch->waiting), struct waiter, link);
        if (w->open)
            upstream_cancel(w->open);
        end_waiter(w);
    }
    free(ch->cluster);
    free(ch->authority);
    free(ch);
}
