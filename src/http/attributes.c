#include "http/attributes.h"

#include "http/grpc_status.h"
#include "http/path.h"
#include "http/substitution_int.h"

/* X(id, name) of each root. */
#define ROOTS(X)                                                                                   \
    X(REQUEST, "request")                                                                          \
    X(RESPONSE, "response")                                                                        \
    X(CONNECTION, "connection")                                                                    \
    X(UPSTREAM, "upstream")                                                                        \
    X(SOURCE, "source")                                                                            \
    X(DESTINATION, "destination")                                                                  \
    X(METADATA, "metadata")                                                                        \
    X(FILTER_STATE, "filter_state")                                                                \
    X(XDS, "xds")
enum root {
#define X(id, name) ROOT_##id,
    ROOTS(X)
#undef X
        ROOT_COUNT
};

/* X(root, id, name) */
#define FIELDS(X)                                                                                  \
    X(REQUEST, REQ_PATH, "path")                                                                   \
    X(REQUEST, REQ_URL_PATH, "url_path")                                                           \
    X(REQUEST, REQ_HOST, "host")                                                                   \
    X(REQUEST, REQ_SCHEME, "scheme")                                                               \
    X(REQUEST, REQ_METHOD, "method")                                                               \
    X(REQUEST, REQ_HEADERS, "headers")                                                             \
    X(REQUEST, REQ_HEADERS_BYTES, "headers_bytes")                                                 \
    X(REQUEST, REQ_REFERER, "referer")                                                             \
    X(REQUEST, REQ_USERAGENT, "useragent")                                                         \
    X(REQUEST, REQ_TIME, "time")                                                                   \
    X(REQUEST, REQ_ID, "id")                                                                       \
    X(REQUEST, REQ_PROTOCOL, "protocol")                                                           \
    X(REQUEST, REQ_QUERY, "query")                                                                 \
    X(REQUEST, REQ_DURATION, "duration")                                                           \
    X(REQUEST, REQ_SIZE, "size")                                                                   \
    X(REQUEST, REQ_TOTAL_SIZE, "total_size")                                                       \
    X(RESPONSE, RESP_CODE, "code")                                                                 \
    X(RESPONSE, RESP_CODE_DETAILS, "code_details")                                                 \
    X(RESPONSE, RESP_FLAGS, "flags")                                                               \
    X(RESPONSE, RESP_GRPC_STATUS, "grpc_status")                                                   \
    X(RESPONSE, RESP_HEADERS, "headers")                                                           \
    X(RESPONSE, RESP_HEADERS_BYTES, "headers_bytes")                                               \
    X(RESPONSE, RESP_TRAILERS, "trailers")                                                         \
    X(RESPONSE, RESP_SIZE, "size")                                                                 \
    X(RESPONSE, RESP_TOTAL_SIZE, "total_size")                                                     \
    X(RESPONSE, RESP_LATENCY, "backend_latency")                                                   \
    X(CONNECTION, CONN_ID, "id")                                                                   \
    X(CONNECTION, CONN_MTLS, "mtls")                                                               \
    X(CONNECTION, CONN_SNI, "requested_server_name")                                               \
    X(CONNECTION, CONN_TERMINATION, "termination_details")                                         \
    X(CONNECTION, CONN_FAILURE, "transport_failure_reason")                                        \
    X(UPSTREAM, UP_ADDRESS, "address")                                                             \
    X(UPSTREAM, UP_PORT, "port")                                                                   \
    X(UPSTREAM, UP_LOCAL_ADDRESS, "local_address")                                                 \
    X(UPSTREAM, UP_FAILURE, "transport_failure_reason")                                            \
    X(UPSTREAM, UP_ATTEMPTS, "request_attempt_count")                                              \
    X(UPSTREAM, UP_POOL_READY, "cx_pool_ready_duration")                                           \
    X(SOURCE, SRC_ADDRESS, "address")                                                              \
    X(SOURCE, SRC_PORT, "port")                                                                    \
    X(DESTINATION, DST_ADDRESS, "address")                                                         \
    X(DESTINATION, DST_PORT, "port")                                                               \
    X(METADATA, META_FILTER, "filter_metadata")                                                    \
    X(XDS, XDS_CLUSTER_NAME, "cluster_name")                                                       \
    X(XDS, XDS_CLUSTER_METADATA, "cluster_metadata")                                               \
    X(XDS, XDS_ROUTE_NAME, "route_name")                                                           \
    X(XDS, XDS_ROUTE_METADATA, "route_metadata")                                                   \
    X(XDS, XDS_VHOST_NAME, "virtual_host_name")                                                    \
    X(XDS, XDS_VHOST_METADATA, "virtual_host_metadata")                                            \
    X(XDS, XDS_HOST_METADATA, "upstream_host_metadata")
/* Of connection and of upstream. */
#define TLS_FIELDS(X)                                                                              \
    X(TLS_VERSION, "tls_version")                                                                  \
    X(TLS_LOCAL_SUBJECT, "subject_local_certificate")                                              \
    X(TLS_PEER_SUBJECT, "subject_peer_certificate")                                                \
    X(TLS_LOCAL_URI, "uri_san_local_certificate")                                                  \
    X(TLS_PEER_URI, "uri_san_peer_certificate")                                                    \
    X(TLS_LOCAL_DNS, "dns_san_local_certificate")                                                  \
    X(TLS_PEER_DNS, "dns_san_peer_certificate")                                                    \
    X(TLS_PEER_DIGEST, "sha256_peer_certificate_digest")
/* Envoy's, of which nothing is kept. */
#define NOT_KEPT(X)                                                                                \
    X(UPSTREAM, "locality")                                                                        \
    X(UPSTREAM, "num_endpoints")                                                                   \
    X(METADATA, "typed_filter_metadata")                                                           \
    X(XDS, "node")                                                                                 \
    X(XDS, "upstream_host_locality_metadata")                                                      \
    X(XDS, "filter_chain_name")                                                                    \
    X(XDS, "listener_metadata")                                                                    \
    X(XDS, "listener_direction")

enum field {
#define X(root, id, name) F_##id,
    FIELDS(X)
#undef X
#define X(id, name) F_##id,
        TLS_FIELDS(X)
#undef X
            F_COUNT
};

static const sv root_names[] = {
#define X(id, name) SV_INIT(name),
    ROOTS(X)
#undef X
};
struct field_def {
    sv name;
    uint8_t root, id;
};
static const struct field_def field_defs[] = {
#define X(root, id, name) {SV_INIT(name), ROOT_##root, F_##id},
    FIELDS(X)
#undef X
#define X(id, name)                                                                                \
    {SV_INIT(name), ROOT_CONNECTION, F_##id}, {SV_INIT(name), ROOT_UPSTREAM, F_##id},
        TLS_FIELDS(X)
#undef X
};
static const struct field_def not_kept[] = {
#define X(root, name) {SV_INIT(name), ROOT_##root, 0},
    NOT_KEPT(X)
#undef X
};

static int find_root(sv name)
{
    for (int i = 0; i < ROOT_COUNT; i++)
        if (sv_eq(root_names[i], name))
            return i;
    return -1;
}

static const struct field_def *find_field(const struct field_def *v, size_t n, int root, sv name)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].root == root && sv_eq(v[i].name, name))
            return &v[i];
    return NULL;
}
#define FIND(table, root, name) find_field(table, sizeof(table) / sizeof(table[0]), root, name)

int attributes_check(sv name, sv field, struct error *err)
{
    int root = find_root(name);
    if (sv_eq(name, SV("upstream_filter_state")))
        return error_set(err, E_UNSUPPORTED,
                         "'upstream_filter_state' is not supported: no filter here sets any");
    if (root < 0)
        return error_set(err, E_INVALID,
                         "there is no '%.*s' (there are request, response, connection, upstream, "
                         "source, destination, metadata, filter_state, xds)",
                         SV_ARG(name));
    if (!field.p || root == ROOT_FILTER_STATE || FIND(field_defs, root, field))
        return 0;
    if (FIND(not_kept, root, field))
        return error_set(err, E_UNSUPPORTED, "'%.*s.%.*s' is not supported: it is not kept",
                         SV_ARG(name), SV_ARG(field));
    return error_set(err, E_INVALID, "'%.*s' has no '%.*s'", SV_ARG(name), SV_ARG(field));
}

/* ---- values ---- */

typedef const struct substitution_ctx *ctx;

static bool string(sv v, struct cel_value *out)
{
    *out = cel_string(v);
    return true;
}

static bool if_any(sv v, struct cel_value *out)
{
    return v.n && string(v, out);
}

static bool port(sv address, struct cel_value *out)
{
    uint64_t n;
    if (sv_to_u64(stream_addr_port(address), &n) != 0)
        return false;
    *out = cel_int((int64_t)n);
    return true;
}

static bool integer(uint64_t n, struct cel_value *out)
{
    *out = cel_int((int64_t)n);
    return true;
}

static bool between(uint64_t from, uint64_t to, struct cel_value *out)
{
    if (!from || to < from)
        return false;
    *out = cel_duration_ns((int64_t)(to - from));
    return true;
}

static bool object(ctx c,
                   bool (*get)(const struct cel_map *, const struct cel_value *, struct arena *,
                               struct cel_value *),
                   const void *arg, uint32_t tag, uint32_t n, struct cel_value *out)
{
    struct cel_map *m = arena_new(c->si->arena, struct cel_map);
    *m = (struct cel_map){.get = get, .arg = arg, .tag = tag, .n = n};
    *out = (struct cel_value){.type = CEL_MAP, .map = m};
    return true;
}

/* ---- fields of heads ---- */

static bool get_header(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                       struct cel_value *out)
{
    const struct http_head *h = m->arg;
    if (!h || key->type != CEL_STRING || !key->s.n)
        return false;
    sv name = arena_lower(a, key->s), v = http_headers_joined(&h->h, name, a);
    if (!v.p)
        v = http_head_get(h, name, a);
    return v.p && string(v, out);
}

static bool get_trailer(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                        struct cel_value *out)
{
    const struct http_headers *h = m->arg;
    if (!h || key->type != CEL_STRING)
        return false;
    sv v = http_headers_joined(h, arena_lower(a, key->s), a);
    return v.p && string(v, out);
}

static bool headers(ctx c, const struct http_head *h, struct cel_value *out)
{
    return object(c, get_header, h, 0, http_head_size(h).n, out);
}

static bool named(const struct http_head *h, enum http_name id, struct cel_value *out)
{
    sv v = h ? http_headers_get(&h->h, id) : (sv){0};
    return v.p && string(v, out);
}

static const struct http_head *request_of(ctx c)
{
    return c->req ? c->req : c->si->req;
}

static const struct http_head *response_of(ctx c)
{
    return c->resp ? c->resp : c->si->resp;
}

static const struct http_headers *trailers_of(ctx c)
{
    return c->resp_trailers ? c->resp_trailers : c->si->resp_trailers;
}

static bool request_size(ctx c, const struct http_head *h, struct cel_value *out)
{
    uint64_t n;
    sv length = h ? http_headers_get(&h->h, HTTP_H_CONTENT_LENGTH) : (sv){0};
    if (!length.p)
        return integer(c->si->bytes_received, out);
    return sv_to_u64(length, &n) == 0 && n <= INT64_MAX && integer(n, out);
}

static bool request(ctx c, enum field f, struct cel_value *out)
{
    const struct stream_info *si = c->si;
    const struct http_head *h = request_of(c);
    static const struct http_head none;
    const struct http_head *head = h ? h : &none;
    sv query = {0};
    switch (f) {
    case F_REQ_PATH:
        return if_any(head->path, out);
    case F_REQ_URL_PATH:
        return h && string(path_only(h->path), out);
    case F_REQ_QUERY:
        if (h)
            path_split(h->path, NULL, &query);
        return h && string(query, out);
    case F_REQ_HOST:
        return if_any(head->authority, out);
    case F_REQ_SCHEME:
        return if_any(head->scheme, out);
    case F_REQ_METHOD:
        return if_any(head->method, out);
    case F_REQ_HEADERS:
        return headers(c, h, out);
    case F_REQ_HEADERS_BYTES:
        return integer(http_head_size(h).bytes, out);
    case F_REQ_REFERER:
        return named(h, HTTP_H_REFERER, out);
    case F_REQ_USERAGENT:
        return named(h, HTTP_H_USER_AGENT, out);
    case F_REQ_ID:
        return named(h, HTTP_H_X_REQUEST_ID, out);
    case F_REQ_TIME:
        *out = cel_timestamp_ns(si->start_wall_ns);
        return true;
    case F_REQ_PROTOCOL:
        return h && string(sv_of(http_protocol_text(si->protocol)), out);
    case F_REQ_DURATION:
        return between(si->start_ns, si->request_end_ns, out);
    case F_REQ_SIZE:
        return request_size(c, h, out);
    default: /* F_REQ_TOTAL_SIZE */
        return integer(si->bytes_received + http_head_size(h).bytes, out);
    }
}

/* Envoy's numbers of the flags: as ours, but URX stands behind DC. */
static int64_t flag_bits(uint64_t flags)
{
    uint64_t before = (1u << (STREAM_FLAG_BIT_DC + 1)) - 1;
    return (int64_t)((flags & ~before) | (flags & before) >> 1 |
                     (flags & STREAM_FLAG_URX) << STREAM_FLAG_BIT_DC);
}

static bool response(ctx c, enum field f, struct cel_value *out)
{
    const struct stream_info *si = c->si;
    const struct http_head *h = response_of(c);
    const struct http_headers *t = trailers_of(c);
    uint64_t status, trailer_bytes = t ? http_headers_bytes(t, false) : 0;
    switch (f) {
    case F_RESP_CODE:
        return si->response_code && integer(si->response_code, out);
    case F_RESP_CODE_DETAILS:
        return if_any(si->details, out);
    case F_RESP_FLAGS:
        *out = cel_int(flag_bits(si->flags));
        return true;
    case F_RESP_GRPC_STATUS:
        return substitution_answer_grpc_status(c, &status) && integer(status, out);
    case F_RESP_HEADERS:
        return headers(c, h, out);
    case F_RESP_HEADERS_BYTES:
        return integer(http_head_size(h).bytes, out);
    case F_RESP_TRAILERS:
        return object(c, get_trailer, t, 0, t ? t->n : 0, out);
    case F_RESP_SIZE:
        return integer(si->bytes_sent, out);
    case F_RESP_TOTAL_SIZE:
        return integer(si->bytes_sent + http_head_size(h).bytes + trailer_bytes, out);
    default: /* F_RESP_LATENCY */
        return between(si->upstream_first_tx_ns, si->upstream_last_rx_ns, out);
    }
}

/* ---- connections ---- */

static sv tls_text(ctx c, const struct stream_conn *conn, enum substitution_tls_field f)
{
    const struct substitution_hooks *hooks = substitution_get_hooks();
    return hooks && hooks->tls && conn->tls ? hooks->tls(conn->tls, f, c->si->arena) : (sv){0};
}

/* The first of several names. */
static sv first_name(sv names)
{
    sv first, rest;
    sv_cut(names, ',', &first, &rest);
    return first;
}

static bool tls(ctx c, const struct stream_conn *conn, enum field f, struct cel_value *out)
{
    if (!conn || !conn->tls)
        return false;
    switch (f) {
    case F_TLS_VERSION:
        return string(tls_text(c, conn, SUBSTITUTION_TLS_VERSION), out);
    case F_TLS_LOCAL_SUBJECT:
        return string(tls_text(c, conn, SUBSTITUTION_TLS_LOCAL_SUBJECT), out);
    case F_TLS_PEER_SUBJECT:
        return string(tls_text(c, conn, SUBSTITUTION_TLS_PEER_SUBJECT), out);
    case F_TLS_LOCAL_URI:
        return if_any(first_name(tls_text(c, conn, SUBSTITUTION_TLS_LOCAL_URI_SAN)), out);
    case F_TLS_PEER_URI:
        return if_any(first_name(tls_text(c, conn, SUBSTITUTION_TLS_PEER_URI_SAN)), out);
    case F_TLS_LOCAL_DNS:
        return if_any(first_name(tls_text(c, conn, SUBSTITUTION_TLS_LOCAL_DNS_SAN)), out);
    case F_TLS_PEER_DNS:
        return if_any(first_name(tls_text(c, conn, SUBSTITUTION_TLS_PEER_DNS_SAN)), out);
    default: /* F_TLS_PEER_DIGEST */
        return if_any(tls_text(c, conn, SUBSTITUTION_TLS_PEER_FINGERPRINT_256), out);
    }
}

static bool connection(ctx c, enum field f, struct cel_value *out)
{
    const struct stream_conn *d = c->si->down;
    switch (f) {
    case F_CONN_ID:
        *out = cel_uint(d ? d->id : 0);
        return d != NULL;
    case F_CONN_MTLS:
        *out = cel_bool(d && tls_text(c, d, SUBSTITUTION_TLS_PEER_FINGERPRINT_256).n);
        return true;
    case F_CONN_SNI:
        return string(d ? d->sni : (sv){0}, out);
    case F_CONN_TERMINATION:
        return if_any(c->si->termination_details, out);
    case F_CONN_FAILURE:
        return d && if_any(d->transport_failure, out);
    default:
        return tls(c, d, f, out);
    }
}

static bool upstream(ctx c, enum field f, struct cel_value *out)
{
    const struct stream_info *si = c->si;
    switch (f) {
    case F_UP_ADDRESS:
        return if_any(si->upstream_host, out);
    case F_UP_PORT:
        return port(si->upstream_host, out);
    case F_UP_LOCAL_ADDRESS:
        return si->up && if_any(si->up->local, out);
    case F_UP_FAILURE:
        return si->upstream_host.n && string(si->upstream_failure, out);
    case F_UP_ATTEMPTS:
        *out = cel_uint(si->attempts);
        return true;
    case F_UP_POOL_READY:
        return between(si->upstream_connect_start_ns, si->upstream_pool_ns, out);
    default:
        return tls(c, si->up, f, out);
    }
}

static bool peer(ctx c, enum field f, struct cel_value *out)
{
    const struct stream_conn *d = c->si->down;
    sv remote = d ? stream_info_remote(c->si) : c->si->remote;
    switch (f) {
    case F_SRC_ADDRESS:
        return if_any(remote, out);
    case F_SRC_PORT:
        return port(remote, out);
    case F_DST_ADDRESS:
        return d && if_any(d->local, out);
    default: /* F_DST_PORT */
        return d && port(d->local, out);
    }
}

/* ---- metadata ---- */

static struct cel_value of_meta(const struct stream_meta *m, struct arena *a)
{
    switch (m->kind) {
    case STREAM_META_STRING:
        return cel_string(m->text);
    case STREAM_META_NUMBER:
        return cel_double(m->number);
    case STREAM_META_BOOL:
        return cel_bool(m->boolean);
    default:
        return cel_from_json(m->text, a);
    }
}

/* A namespace of dynamic metadata, as a table. */
static bool dynamic(const struct stream_info *si, sv ns, struct arena *a, struct cel_value *out)
{
    uint32_t n = 0;
    for (const struct stream_meta *m = si->meta; m; m = m->next)
        n += sv_eq(m->ns, ns);
    if (!n)
        return false;
    struct cel_entry *v = arena_array(a, struct cel_entry, n);
    struct cel_map *map = arena_new(a, struct cel_map);
    *map = (struct cel_map){.v = v, .n = n};
    n = 0;
    for (const struct stream_meta *m = si->meta; m; m = m->next)
        if (sv_eq(m->ns, ns))
            v[n++] = (struct cel_entry){cel_string(m->key), of_meta(m, a)};
    *out = (struct cel_value){.type = CEL_MAP, .map = map};
    return true;
}

/* tag: enum substitution_metadata */
static bool get_namespace(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                          struct cel_value *out)
{
    ctx c = m->arg;
    const struct substitution_hooks *hooks = substitution_get_hooks();
    if (key->type != CEL_STRING)
        return false;
    if (m->tag == SUBSTITUTION_META_DYNAMIC)
        return dynamic(c->si, key->s, a, out);
    if (!hooks || !hooks->metadata)
        return false;
    sv json = hooks->metadata(c->si, (enum substitution_metadata)m->tag, key->s, NULL, 0, a);
    if (!json.p)
        return false;
    *out = cel_from_json(json, a);
    return true;
}

/* envoy.config.core.v3.Metadata: there is one field that is read. */
static bool get_metadata(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                         struct cel_value *out)
{
    (void)a;
    if (key->type != CEL_STRING || !sv_eq(key->s, SV("filter_metadata")))
        return false;
    return object(m->arg, get_namespace, m->arg, m->tag, 0, out);
}

static bool get_state(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                      struct cel_value *out)
{
    ctx c = m->arg;
    (void)a;
    const struct stream_state *s =
        key->type == CEL_STRING ? stream_info_state_get(c->si, key->s) : NULL;
    if (!s || !s->text.p)
        return false;
    *out = (struct cel_value){.type = CEL_BYTES, .s = s->text};
    return true;
}

static bool xds(ctx c, enum field f, struct cel_value *out)
{
    const struct stream_info *si = c->si;
    switch (f) {
    case F_XDS_CLUSTER_NAME:
        return if_any(si->upstream_cluster, out);
    case F_XDS_ROUTE_NAME:
        return si->route && string(si->route_name, out);
    case F_XDS_VHOST_NAME:
        return si->virtual_host && string(*si->virtual_host, out);
    case F_XDS_CLUSTER_METADATA:
        return si->cluster && object(c, get_metadata, c, SUBSTITUTION_META_CLUSTER, 1, out);
    case F_XDS_ROUTE_METADATA:
        return si->route && object(c, get_metadata, c, SUBSTITUTION_META_ROUTE, 1, out);
    case F_XDS_VHOST_METADATA:
        return si->virtual_host &&
               object(c, get_metadata, c, SUBSTITUTION_META_VIRTUAL_HOST, 1, out);
    default: /* F_XDS_HOST_METADATA */
        return si->upstream_endpoint &&
               object(c, get_metadata, c, SUBSTITUTION_META_UPSTREAM_HOST, 1, out);
    }
}

/* ---- names ---- */

static bool get_field(const struct cel_map *m, const struct cel_value *key, struct arena *a,
                      struct cel_value *out)
{
    (void)a;
    const struct field_def *d =
        key->type == CEL_STRING ? FIND(field_defs, (int)m->tag, key->s) : NULL;
    if (!d)
        return false;
    switch (d->root) {
    case ROOT_REQUEST:
        return request(m->arg, d->id, out);
    case ROOT_RESPONSE:
        return response(m->arg, d->id, out);
    case ROOT_CONNECTION:
        return connection(m->arg, d->id, out);
    case ROOT_UPSTREAM:
        return upstream(m->arg, d->id, out);
    case ROOT_XDS:
        return xds(m->arg, d->id, out);
    default:
        return peer(m->arg, d->id, out);
    }
}

static bool get_root(const struct cel_env *e, sv name, struct cel_value *out)
{
    ctx c = e->arg;
    int root = find_root(name);
    if (root < 0)
        return false;
    if (root == ROOT_METADATA)
        return object(c, get_metadata, c, SUBSTITUTION_META_DYNAMIC, 1, out);
    if (root == ROOT_FILTER_STATE)
        return object(c, get_state, c, 0, 0, out);
    return object(c, get_field, c, (uint32_t)root, 0, out);
}

struct cel_value attributes_eval(const struct cel *cel, const struct substitution_ctx *c)
{
    struct cel_env e = {.root = get_root, .arg = c, .arena = c->si->arena};
    return cel_eval(cel, &e);
}
