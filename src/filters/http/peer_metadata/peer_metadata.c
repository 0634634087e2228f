#include "filters/http/peer_metadata/peer_metadata.h"

#include "api/envoy.pb.h"
#include "api/google.pb.h"
#include "api/io.pb.h"
#include "telemetry/istio_metrics.h"
#include "upstream/upstream.h"

static const sv header = SV_INIT(ISTIO_PEER_HEADER);
static const sv id_header = SV_INIT(ISTIO_PEER_ID_HEADER);

struct config {
    bool read_request, read_response; /* discovery by headers */
    bool introduce, answer;           /* propagation to the upstream, to the downstream */
    bool skip_external;
    sv value, id; /* what introduces this node */
};

struct peer {
    struct http_filter f;
    const struct config *cfg;
    struct istio_book *book; /* NULL until something was looked up */
    bool asked;              /* the client wants to know who we are */
    bool mesh_upstream;      /* the attempt's connection ends at a proven workload */
};

/* ---- configuration ---- */

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    const struct io_PeerMetadata *m;
    int rc = filter_decode(x, &io_PeerMetadata_pb, packed, (const void **)&m, err);
    if (rc < 0)
        return rc;
    struct config *c = arena_new(x->arena, struct config);
    for (uint32_t i = 0; i < m->downstream_discovery.n; i++)
        c->read_request |= m->downstream_discovery.v[i]->istio_headers != NULL;
    for (uint32_t i = 0; i < m->upstream_discovery.n; i++)
        c->read_response |= m->upstream_discovery.v[i]->istio_headers != NULL;
    c->answer = m->downstream_propagation.n > 0;
    c->introduce = m->upstream_propagation.n > 0;
    for (uint32_t i = 0; i < m->upstream_propagation.n; i++)
        if (m->upstream_propagation.v[i]->istio_headers)
            c->skip_external |= m->upstream_propagation.v[i]->istio_headers->skip_external_clusters;
    c->value = istio_peer_value(x->node ? x->node->metadata : NULL, x->arena);
    c->id = x->node ? x->node->id : (sv){NULL, 0};
    *config = c;
    return 0;
}

/* ---- the stream ---- */

static struct peer *of(struct http_filter *f)
{
    return container_of(f, struct peer, f);
}

static sv trust_domain(sv id)
{
    ptrdiff_t at = sv_starts(id, SV("spiffe://")) ? sv_find_sv(id, SV("/ns/")) : -1;
    return at < 0 ? (sv){NULL, 0} : sv_first(id, (size_t)at);
}

/* Both ends have proved at the handshake to be workloads of one mesh. A server outside may well
 * have a SPIFFE name; it is of another trust domain, or was shown no certificate of ours. */
static bool of_one_mesh(const struct stream_conn *c)
{
    sv domain = trust_domain(c->peer_id);
    return domain.n && sv_eq(domain, trust_domain(c->local_id));
}

static void strip(struct http_headers *h)
{
    http_headers_remove(h, header);
    http_headers_remove(h, id_header);
}

/* A peer is believed what its certificate does not contradict. */
static void learn(struct peer *p, const struct http_headers *h, const struct stream_conn *from,
                  const char *key)
{
    sv value = http_headers_get_sv(h, header), peer_id = from->peer_id;
    if (!value.n || !of_one_mesh(from))
        return;
    if (!p->book)
        p->book = istio_worker_book(filter_worker_istio(p->f.host->worker));
    const struct istio_peer *who = istio_peer_of_header(p->book, value);
    sv ns = istio_principal_namespace(peer_id);
    if (!who || (ns.n && !sv_eq(ns, who->ns)))
        return;
    stream_info_state_set(p->f.host->info, sv_of(key), who, who->workload);
}

static enum http_filter_status decode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct peer *p = of(f);
    const struct stream_conn *down = f->host->info->down;
    p->asked = of_one_mesh(down) && http_headers_get_sv(&head->h, id_header).p;
    if (p->cfg->read_request)
        learn(p, &head->h, down, ISTIO_DOWNSTREAM_PEER);
    strip(&head->h); /* whoever sent it: it is between proxies */
    return HTTP_FILTER_CONTINUE;
}

static bool external(const struct peer *p, const struct stream_info *si)
{
    const struct google_Struct *s =
        si->cluster ? istio_metadata_find(upstream_cluster_metadata(si->cluster), SV("istio"))
                    : NULL;
    for (uint32_t i = 0; s && i < s->fields.n; i++) {
        const struct google_Struct_FieldsEntry *e = s->fields.v[i];
        bool outside = p->cfg->skip_external && sv_eq(e->key, SV("external"));
        if ((outside || sv_eq(e->key, SV("disable_mx"))) &&
            e->value->which_kind == google_Value_bool_value_tag && e->value->bool_value)
            return true;
    }
    return false;
}

/* Only workloads of the mesh are told who we are. */
static void on_upstream(struct http_filter *f, struct http_head *head)
{
    struct peer *p = of(f);
    const struct stream_info *si = f->host->info;
    p->mesh_upstream = si->up && of_one_mesh(si->up);
    if (!p->cfg->introduce)
        return;
    if (p->mesh_upstream && p->cfg->value.n && !external(p, si))
        http_headers_set(&head->h, header, p->cfg->value);
    else
        http_headers_remove(&head->h, header);
}

static enum http_filter_status encode_head(struct http_filter *f, struct http_head *head, bool end)
{
    struct peer *p = of(f);
    const struct stream_info *si = f->host->info;
    if (p->cfg->read_response && p->mesh_upstream && si->up)
        learn(p, &head->h, si->up, ISTIO_UPSTREAM_PEER);
    strip(&head->h);
    if (p->cfg->answer && p->asked) {
        http_headers_set(&head->h, header, p->cfg->value);
        http_headers_set(&head->h, id_header, p->cfg->id);
    }
    return HTTP_FILTER_CONTINUE;
}

static void on_destroy(struct http_filter *f)
{
    struct peer *p = of(f);
    istio_book_unref(p->book);
    p->book = NULL;
}

static const struct http_filter_ops ops = {
    .name = "istio.metadata_exchange",
    .decode_head = decode_head,
    .on_upstream = on_upstream,
    .encode_head = encode_head,
    .on_destroy = on_destroy,
};

static struct http_filter *make(const void *config, struct http_filter_host *host)
{
    struct peer *p = arena_new(host->arena, struct peer);
    p->f.ops = &ops;
    p->cfg = config;
    return &p->f;
}

const struct http_filter_type http_peer_metadata_type = {
    .name = "istio.metadata_exchange",
    .config_type = "io.istio.http.peer_metadata.Config",
    .parse = parse,
    .make = make,
};
