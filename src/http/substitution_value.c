/* The value of each operator. */
#include <stdio.h>
#include "http/attributes.h"
#include "http/grpc_status.h"
#include "http/path.h"
#include "http/substitution_int.h"

static const struct substitution_hooks *hooks;

void substitution_set_hooks(const struct substitution_hooks *h)
{
    hooks = h;
}

const struct substitution_hooks *substitution_get_hooks(void)
{
    return hooks;
}

static const struct sub_value none;

static struct sub_value text(sv v)
{
    return v.n ? (struct sub_value){.kind = SUB_VALUE_TEXT, .text = v} : none;
}

static struct sub_value number(uint64_t n)
{
    return (struct sub_value){.kind = SUB_VALUE_NUMBER, .number = n};
}

static struct sub_value port(sv addr)
{
    uint64_t n;
    return sv_to_u64(stream_addr_port(addr), &n) == 0 ? number(n) : none;
}

static struct sub_value ip(sv addr)
{
    return text(stream_addr_ip(addr));
}

/* White space would split a line's fields. */
static sv underscored(sv v, struct arena *a)
{
    char *p = arena_cstr(a, v);
    for (size_t i = 0; i < v.n; i++)
        if (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r'))
            p[i] = '_';
    return sv_make(p, v.n);
}

/* ---- heads ---- */

static struct sub_value present(sv v)
{
    return v.p ? (struct sub_value){.kind = SUB_VALUE_TEXT, .text = v} : none;
}

static sv list_get(const struct http_headers *h, const struct sub_field *f)
{
    return f->id != HTTP_H_OTHER ? http_headers_get(h, f->id) : http_headers_get_sv(h, f->name);
}

static sv head_get(const struct http_head *h, const struct sub_field *f, struct arena *a)
{
    sv v;
    switch (f->part) {
    case SUB_FIELD:
        return list_get(&h->h, f);
    case SUB_METHOD:
        v = h->method;
        break;
    case SUB_PATH_PART:
        v = h->path;
        break;
    case SUB_AUTHORITY:
        v = h->authority;
        break;
    case SUB_SCHEME:
        v = h->scheme;
        break;
    default:
        v = http_head_get(h, f->name, a);
        break;
    }
    return v.n ? v : (sv){0};
}

static struct sub_value field(const struct http_head *h, const struct sub_op *op, struct arena *a)
{
    if (!h)
        return none;
    sv v = head_get(h, &op->field[0], a);
    if (!v.p && op->field[1].name.n)
        v = head_get(h, &op->field[1], a);
    return present(v);
}

static struct sub_value trailer(const struct substitution_ctx *c, const struct sub_op *op)
{
    const struct http_headers *t = c->resp_trailers ? c->resp_trailers : c->si->resp_trailers;
    if (!t)
        return none;
    sv v = list_get(t, &op->field[0]);
    if (!v.p && op->field[1].name.n)
        v = list_get(t, &op->field[1]);
    return present(v);
}

static struct sub_value trailers_bytes(const struct http_headers *h)
{
    return number(h ? http_headers_bytes(h, false) : 0);
}

static struct sub_value without_query(struct sub_value v)
{
    if (v.kind == SUB_VALUE_TEXT)
        v.text = path_only(v.text);
    return v;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* As Envoy decodes what it logs of a query: only what is visible then; the rest stays encoded. */
static sv visible_decoded(sv v, struct arena *a)
{
    size_t n = 0;
    if (!v.n || sv_find(v, '%') < 0)
        return v;
    char *out = arena_alloc(a, v.n);
    for (size_t i = 0; i < v.n; i++) {
        int hi = v.p[i] == '%' && i + 2 < v.n ? hex_digit(v.p[i + 1]) : -1;
        int lo = hi >= 0 ? hex_digit(v.p[i + 2]) : -1, c = hi * 16 + lo;
        bool decode = lo >= 0 && c > ' ' && c < 0x7f;
        out[n++] = decode ? (char)c : v.p[i];
        i += decode ? 2 : 0;
    }
    return sv_make(out, n);
}

static struct sub_value query_param(const struct http_head *req, sv name, struct arena *a)
{
    sv query;
    if (!req)
        return none;
    path_split(req->path, NULL, &query);
    return text(visible_decoded(path_query_get(query, name), a));
}

static struct sub_value query_params(const struct http_head *req, const struct sub_op *op,
                                     struct arena *a)
{
    sv query;
    if (!req)
        return none;
    path_split(req->path, NULL, &query);
    return present(op->format && query.n ? visible_decoded(query, a) : query);
}

static struct sub_value request_path(const struct http_head *req, const struct sub_op *op)
{
    if (!req)
        return none;
    sv original = http_headers_get(&req->h, HTTP_H_X_ENVOY_ORIGINAL_PATH);
    sv v = req->path;
    if (op->format & SUB_PATH_ORIGINAL_ONLY ||
        (original.n && !(op->format & SUB_PATH_NOT_ORIGINAL)))
        v = original;
    return v.n ? text(op->format & SUB_PATH_NO_QUERY ? path_only(v) : v) : none;
}

/* ---- times and durations ---- */

static struct sub_value ms_between(uint64_t from, uint64_t to)
{
    return from && to && to >= from ? number((to - from) / 1000000) : none;
}

static uint64_t point(const struct stream_info *si, uint8_t p)
{
    switch (p) {
    case SUB_POINT_DS_RX_BEG:
        return si->start_ns;
    case SUB_POINT_DS_RX_END:
        return si->request_end_ns;
    case SUB_POINT_US_CX_BEG:
        return si->upstream_connect_start_ns;
    case SUB_POINT_US_CX_END:
        return si->upstream_connect_done_ns;
    case SUB_POINT_US_HS_END:
        return si->upstream_handshake_done_ns;
    case SUB_POINT_US_TX_BEG:
        return si->upstream_first_tx_ns;
    case SUB_POINT_US_TX_END:
        return si->upstream_last_tx_ns;
    case SUB_POINT_US_RX_BEG:
        return si->upstream_first_rx_ns;
    case SUB_POINT_US_RX_END:
        return si->upstream_last_rx_ns;
    case SUB_POINT_DS_TX_BEG:
        return si->response_start_ns;
    default:
        return si->response_end_ns;
    }
}

static struct sub_value common_duration(const struct stream_info *si, const struct sub_op *op)
{
    uint64_t from = point(si, op->from), to = point(si, op->to);
    return from && to && to >= from ? number((to - from) / op->unit_ns) : none;
}

static struct sub_value duration(const struct stream_info *si, uint8_t id)
{
    switch (id) {
    case SUB_DURATION:
        return ms_between(si->start_ns, si->end_ns);
    case SUB_REQUEST_DURATION:
        return ms_between(si->start_ns, si->request_end_ns);
    case SUB_REQUEST_TX_DURATION:
        return ms_between(si->start_ns, si->upstream_last_tx_ns);
    case SUB_RESPONSE_DURATION:
        return ms_between(si->start_ns, si->upstream_first_rx_ns);
    case SUB_RESPONSE_TX_DURATION:
        return ms_between(si->upstream_first_rx_ns, si->response_end_ns);
    case SUB_UPSTREAM_CONNECTION_POOL_READY_DURATION:
        return ms_between(si->upstream_connect_start_ns, si->upstream_pool_ns);
    case SUB_DOWNSTREAM_HANDSHAKE_DURATION:
        return si->down ? ms_between(si->down->start_ns, si->down->handshake_done_ns) : none;
    default:
        return none; /* ROUNDTRIP: QUIC only */
    }
}

/* ---- identities ---- */

static struct sub_value tls(const struct substitution_ctx *c, const struct sub_op *op)
{
    const struct stream_conn *conn = op->upstream ? c->si->up : c->si->down;
    if (!hooks || !hooks->tls || !conn || !conn->tls)
        return none;
    sv v = hooks->tls(conn->tls, (enum substitution_tls_field)op->tls, c->si->arena);
    uint64_t seconds;
    if (op->id == SUB_TLS_DATE && sv_to_u64(v, &seconds) == 0 && seconds < 1ull << 34)
        v = substitution_time(op->a, seconds * 1000000000u, false, c->si->arena);
    return text(v);
}

static sv conn_field(const struct stream_info *si, enum substitution_conn_field f)
{
    return hooks && hooks->conn && si->down ? hooks->conn(si->down, f, si->arena) : (sv){0};
}

static struct sub_value json(sv v)
{
    if (v.n == 0 || sv_eq(v, SV("null")))
        return none;
    return (struct sub_value){.kind = SUB_VALUE_JSON, .text = v};
}

/* A whole namespace of dynamic metadata as one object. */
static sv namespace_json(const struct stream_info *si, sv ns)
{
    struct strbuf b;
    strbuf_init(&b, 65536);
    for (const struct stream_meta *m = si->meta; m; m = m->next) {
        if (!sv_eq(m->ns, ns))
            continue;
        strbuf_add_ch(&b, b.n ? ',' : '{');
        strbuf_add_json(&b, m->key);
        strbuf_add_ch(&b, ':');
        if (m->kind == STREAM_META_STRING)
            strbuf_add_json(&b, m->text);
        else
            strbuf_add_sv(&b, m->text);
    }
    if (b.n)
        strbuf_add_ch(&b, '}');
    sv v = b.n && !b.overflow ? arena_sv(si->arena, strbuf_sv(&b)) : (sv){0};
    strbuf_fini(&b);
    return v;
}

static struct sub_value dynamic_metadata(const struct stream_info *si, const struct sub_op *op)
{
    if (op->n_path == 0)
        return json(namespace_json(si, op->a));
    const struct stream_meta *m = stream_info_meta_get(si, op->a, op->path[0]);
    if (!m)
        return none;
    if (op->n_path > 1)
        return m->kind == STREAM_META_JSON
                   ? json(substitution_json_get(m->text, op->path + 1, op->n_path - 1))
                   : none;
    return m->kind == STREAM_META_STRING ? text(m->text) : json(m->text);
}

static struct sub_value metadata(const struct stream_info *si, const struct sub_op *op)
{
    if (op->meta == SUBSTITUTION_META_DYNAMIC)
        return dynamic_metadata(si, op);
    if (!hooks || !hooks->metadata)
        return none;
    return json(hooks->metadata(si, (enum substitution_metadata)op->meta, op->a, op->path,
                                op->n_path, si->arena));
}

static struct sub_value filter_state(const struct stream_info *si, sv key)
{
    const struct stream_state *s = stream_info_state_get(si, key);
    return s ? text(s->text) : none;
}

static bool is_hex(sv v)
{
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    return v.n > 0;
}

/* From W3C "00-TRACE-SPAN-FLAGS", B3 multi or single. */
static struct sub_value trace_id(const struct http_head *req)
{
    if (!req)
        return none;
    sv v = http_headers_get(&req->h, HTTP_H_TRACEPARENT);
    if (v.n >= 35 && v.p[2] == '-' && is_hex(sv_make(v.p + 3, 32)))
        return text(sv_make(v.p + 3, 32));
    v = http_headers_get_sv(&req->h, SV("x-b3-traceid"));
    if (is_hex(v) && v.n <= 32)
        return text(v);
    sv_cut(http_headers_get_sv(&req->h, SV("b3")), '-', &v, &(sv){0});
    return is_hex(v) && v.n <= 32 && v.n >= 16 ? text(v) : none;
}

/* A version-4 UUID from what makes the stream unique; the hash is seeded per process. */
static struct sub_value unique_id(const struct stream_info *si)
{
    uint64_t key[4] = {si->stream_id, si->start_wall_ns, si->start_ns, si->down ? si->down->id : 0};
    uint64_t a = sv_hash(sv_make((const char *)key, sizeof(key)));
    key[0] = ~key[0];
    uint64_t b = sv_hash(sv_make((const char *)key, sizeof(key)));
    return text(arena_printf(si->arena, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
                             (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
                             (unsigned)(b >> 48 & 0x3fff) | 0x8000,
                             (unsigned long long)(b & 0xffffffffffffull)));
}

/* ---- expressions ---- */

/* Printed, with its type lost; an empty text is one. */
static struct sub_value expression(const struct substitution_ctx *c, const struct sub_op *op)
{
    struct strbuf b;
    struct cel_value v = attributes_eval(op->cel, c);
    if (v.type == CEL_ERROR)
        return none;
    if (v.type == CEL_STRING || v.type == CEL_BYTES)
        return (struct sub_value){.kind = SUB_VALUE_TEXT, .text = v.s};
    strbuf_init(&b, 512);
    cel_print(&v, &b);
    sv text = arena_sv(c->si->arena, strbuf_sv(&b));
    strbuf_fini(&b);
    return (struct sub_value){.kind = SUB_VALUE_TEXT, .text = text};
}

bool substitution_typed(const struct sub_op *op, const struct substitution_ctx *c,
                        struct strbuf *out)
{
    struct cel_value v = attributes_eval(op->cel, c);
    if (v.type == CEL_STRING)
        v.s = sv_first(v.s, op->max);
    return cel_to_json(&v, out);
}

/* ---- results ---- */

static const struct {
    const char *camel, *snake;
} grpc_names[] = {
    {"OK", "OK"},
    {"Canceled", "CANCELLED"},
    {"Unknown", "UNKNOWN"},
    {"InvalidArgument", "INVALID_ARGUMENT"},
    {"DeadlineExceeded", "DEADLINE_EXCEEDED"},
    {"NotFound", "NOT_FOUND"},
    {"AlreadyExists", "ALREADY_EXISTS"},
    {"PermissionDenied", "PERMISSION_DENIED"},
    {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
    {"FailedPrecondition", "FAILED_PRECONDITION"},
    {"Aborted", "ABORTED"},
    {"OutOfRange", "OUT_OF_RANGE"},
    {"Unimplemented", "UNIMPLEMENTED"},
    {"Internal", "INTERNAL"},
    {"Unavailable", "UNAVAILABLE"},
    {"DataLoss", "DATA_LOSS"},
    {"Unauthenticated", "UNAUTHENTICATED"},
};

bool substitution_answer_grpc_status(const struct substitution_ctx *c, uint64_t *status)
{
    const struct stream_info *si = c->si;
    const struct http_head *resp = c->resp ? c->resp : si->resp;
    const struct http_headers *t = c->resp_trailers ? c->resp_trailers : si->resp_trailers;
    if (t && sv_to_u64(http_headers_get(t, HTTP_H_GRPC_STATUS), status) == 0)
        return true;
    if (resp && sv_to_u64(http_headers_get(&resp->h, HTTP_H_GRPC_STATUS), status) == 0)
        return true;
    if (!si->response_code)
        return false;
    *status = http_grpc_status(si->response_code);
    return true;
}

bool substitution_grpc_status(const struct substitution_ctx *c, uint64_t *status)
{
    const struct http_head *req = c->req ? c->req : c->si->req;
    return req && http_head_is_grpc(req) && substitution_answer_grpc_status(c, status);
}

static struct sub_value grpc_status(const struct substitution_ctx *c, const struct sub_op *op)
{
    uint64_t n;
    if (!substitution_grpc_status(c, &n))
        return none;
    if (op->id == SUB_GRPC_STATUS_NUMBER || op->format == SUB_GRPC_NUMBER ||
        n >= sizeof(grpc_names) / sizeof(grpc_names[0]))
        return number(n);
    return text(sv_of(op->format == SUB_GRPC_SNAKE ? grpc_names[n].snake : grpc_names[n].camel));
}

static struct sub_value flags(const struct stream_info *si, bool long_names)
{
    if (si->flags == 0)
        return text(SV("-"));
    struct strbuf b;
    strbuf_init(&b, 4096);
    stream_flags_text(si->flags, long_names, &b);
    sv v = arena_sv(si->arena, strbuf_sv(&b));
    strbuf_fini(&b);
    return text(v);
}

/* Is there HTTP at all, or is this the log of a TCP connection? */
static bool is_http(const struct substitution_ctx *c)
{
    const struct stream_info *si = c->si;
    return si->req || si->resp || si->response_code || c->req;
}

/* Hosts that connections were tried to: with TCP all, with HTTP (as in Envoy) that of the last
 * attempt, if it got one. */
static struct sub_value attempted(const struct stream_info *si, uint8_t id)
{
    bool names = id == SUB_UPSTREAM_HOST_NAMES_ATTEMPTED ||
                 id == SUB_UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT;
    bool bare = id == SUB_UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT ||
                id == SUB_UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT;
    struct stream_attempt last = {NULL, si->upstream_host, si->upstream_host_name};
    const struct stream_attempt *t = si->attempted ? si->attempted : si->up ? &last : NULL;
    struct strbuf b;
    strbuf_init(&b, 65536);
    for (; t; t = t->next ? t->next : t != &last && si->up ? &last : NULL) {
        strbuf_add_c(&b, b.n ? "," : "");
        strbuf_add_sv(&b, names && t->name.n ? t->name : bare ? stream_addr_ip(t->host) : t->host);
    }
    sv v = b.n ? arena_sv(si->arena, strbuf_sv(&b)) : (sv){0};
    strbuf_fini(&b);
    return text(v);
}

static struct sub_value upstream(const struct stream_info *si, uint8_t id)
{
    sv remote = !si->up ? (sv){0} : si->up->remote.n ? si->up->remote : si->upstream_host;
    sv local = si->up ? si->up->local : (sv){0};
    switch (id) {
    case SUB_UPSTREAM_HOST:
        return text(si->upstream_host);
    case SUB_UPSTREAM_HOST_NAME:
        return text(si->upstream_host_name.n ? si->upstream_host_name : si->upstream_host);
    case SUB_UPSTREAM_HOST_NAME_WITHOUT_PORT:
        return text(si->upstream_host_name.n ? si->upstream_host_name
                                             : stream_addr_ip(si->upstream_host));
    case SUB_UPSTREAM_CLUSTER:
        return text(si->upstream_cluster_alt.n ? si->upstream_cluster_alt : si->upstream_cluster);
    case SUB_UPSTREAM_CLUSTER_RAW:
        return text(si->upstream_cluster);
    case SUB_UPSTREAM_LOCAL_ADDRESS:
        return text(local);
    case SUB_UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT:
        return text(stream_addr_ip(local));
    case SUB_UPSTREAM_LOCAL_PORT:
        return port(local);
    case SUB_UPSTREAM_REMOTE_ADDRESS:
        return text(remote);
    case SUB_UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
        return text(stream_addr_ip(remote));
    case SUB_UPSTREAM_REMOTE_PORT:
        return port(remote);
    case SUB_UPSTREAM_CONNECTION_ID:
        return number(si->up ? si->up->id : 0);
    case SUB_UPSTREAM_CONNECTION_IDS_ATTEMPTED:
        return si->up ? text(arena_printf(si->arena, "%llu", (unsigned long long)si->up->id))
                      : none;
    case SUB_UPSTREAM_HOSTS_ATTEMPTED:
    case SUB_UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT:
    case SUB_UPSTREAM_HOST_NAMES_ATTEMPTED:
    case SUB_UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT:
        return attempted(si, id);
    case SUB_UPSTREAM_PROTOCOL:
        return si->has_upstream_protocol ? text(sv_of(http_protocol_text(si->upstream_protocol)))
                                         : none;
    case SUB_UPSTREAM_TRANSPORT_FAILURE_REASON:
        return text(underscored(si->upstream_failure, si->arena));
    case SUB_UPSTREAM_REQUEST_ATTEMPT_COUNT:
        return number(si->attempts);
    case SUB_UPSTREAM_WIRE_BYTES_RECEIVED:
        return number(si->up_wire_in);
    case SUB_UPSTREAM_WIRE_BYTES_SENT:
        return number(si->up_wire_out);
    case SUB_UPSTREAM_HEADER_BYTES_RECEIVED:
        return number(si->up_head_in);
    case SUB_UPSTREAM_HEADER_BYTES_SENT:
        return number(si->up_head_out);
    case SUB_UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED:
        return number(si->up_head_plain_in ? si->up_head_plain_in : si->up_head_in);
    default: /* UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT */
        return number(si->up_head_plain_out ? si->up_head_plain_out : si->up_head_out);
    }
}

static struct sub_value downstream(const struct stream_info *si, uint8_t id)
{
    static const struct stream_conn nowhere;
    const struct stream_conn *d = si->down ? si->down : &nowhere;
    sv remote = si->down ? stream_info_remote(si) : si->remote;
    sv direct = d->direct_remote.n ? d->direct_remote : d->remote;
    switch (id) {
    case SUB_DOWNSTREAM_REMOTE_ADDRESS:
        return text(remote);
    case SUB_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
        return text(si->remote_ip.n ? si->remote_ip : stream_addr_ip(remote));
    case SUB_DOWNSTREAM_REMOTE_PORT:
        return port(remote);
    case SUB_DOWNSTREAM_DIRECT_REMOTE_ADDRESS:
        return text(direct);
    case SUB_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT:
        return text(stream_addr_ip(direct));
    case SUB_DOWNSTREAM_DIRECT_REMOTE_PORT:
        return port(direct);
    case SUB_DOWNSTREAM_LOCAL_ADDRESS:
        return text(d->local);
    case SUB_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT:
        return text(stream_addr_ip(d->local));
    case SUB_DOWNSTREAM_LOCAL_PORT:
        return port(d->local);
    case SUB_DOWNSTREAM_DIRECT_LOCAL_ADDRESS:
        return text(conn_field(si, SUBSTITUTION_CONN_DIRECT_LOCAL));
    case SUB_DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT:
        return ip(conn_field(si, SUBSTITUTION_CONN_DIRECT_LOCAL));
    case SUB_DOWNSTREAM_DIRECT_LOCAL_PORT:
        return port(conn_field(si, SUBSTITUTION_CONN_DIRECT_LOCAL));
    case SUB_DOWNSTREAM_TRANSPORT_FAILURE_REASON:
        return text(underscored(d->transport_failure, si->arena));
    case SUB_REQUESTED_SERVER_NAME:
        return text(d->sni);
    case SUB_CONNECTION_ID:
        return si->down ? number(d->id) : none;
    case SUB_DOWNSTREAM_WIRE_BYTES_RECEIVED:
        return number(si->down_wire_in);
    case SUB_DOWNSTREAM_WIRE_BYTES_SENT:
        return number(si->down_wire_out);
    case SUB_DOWNSTREAM_HEADER_BYTES_RECEIVED:
        return number(si->down_head_in);
    case SUB_DOWNSTREAM_HEADER_BYTES_SENT:
        return number(si->down_head_out);
    case SUB_DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED:
        return number(si->down_head_plain_in ? si->down_head_plain_in : si->down_head_in);
    default: /* DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT */
        return number(si->down_head_plain_out ? si->down_head_plain_out : si->down_head_out);
    }
}

static struct sub_value stream(const struct substitution_ctx *c, const struct sub_op *op)
{
    const struct stream_info *si = c->si;
    switch (op->id) {
    case SUB_PROTOCOL:
        return is_http(c) ? text(sv_of(http_protocol_text(si->protocol))) : none;
    case SUB_RESPONSE_CODE:
        return number(si->response_code);
    case SUB_RESPONSE_CODE_DETAILS:
        return text(op->format ? si->details : underscored(si->details, si->arena));
    case SUB_RESPONSE_FLAGS:
        return flags(si, false);
    case SUB_RESPONSE_FLAGS_LONG:
        return flags(si, true);
    case SUB_CONNECTION_TERMINATION_DETAILS:
        return text(si->termination_details);
    case SUB_BYTES_RECEIVED:
        return number(si->bytes_received);
    case SUB_BYTES_SENT:
        return number(si->bytes_sent);
    case SUB_ROUTE_NAME:
        return text(si->route_name);
    case SUB_VIRTUAL_HOST_NAME:
        return si->virtual_host ? text(*si->virtual_host) : none;
    case SUB_VIRTUAL_CLUSTER_NAME:
        return text(si->virtual_cluster);
    case SUB_STREAM_ID:
        return si->request_id.n ? text(si->request_id) : is_http(c) ? none : unique_id(si);
    case SUB_CUSTOM_FLAGS:
        return present(SV("")); /* no filter here sets any */
    case SUB_TRACE_ID:
        return si->trace_id.n ? text(si->trace_id) : trace_id(c->req ? c->req : si->req);
    case SUB_SPAN_ID:
        return text(si->span_id);
    case SUB_UNIQUE_ID:
        return unique_id(si);
    case SUB_ACCESS_LOG_TYPE:
        return text(c->log_type ? sv_of(c->log_type) : SV("NotSet"));
    default:
        return none;
    }
}

struct sub_value substitution_value(const struct sub_op *op, const struct substitution_ctx *c)
{
    const struct stream_info *si = c->si;
    const struct http_head *req = c->req ? c->req : si->req;
    switch (op->id) {
    case SUB_REQ:
        return field(req, op, si->arena);
    case SUB_REQ_WITHOUT_QUERY:
        return without_query(field(req, op, si->arena));
    case SUB_RESP:
        return field(c->resp ? c->resp : si->resp, op, si->arena);
    case SUB_TRAILER:
        return trailer(c, op);
    case SUB_QUERY_PARAM:
        return query_param(req, op->a, si->arena);
    case SUB_QUERY_PARAMS:
        return query_params(req, op, si->arena);
    case SUB_PATH:
        return request_path(req, op);
    case SUB_METADATA:
        return metadata(si, op);
    case SUB_FILTER_STATE:
        return filter_state(si, op->a);
    case SUB_LOCAL_REPLY_BODY:
        return present(c->local_reply_body.p ? c->local_reply_body : SV(""));
    case SUB_REQUEST_HEADERS_BYTES:
        return number(http_head_size(req).bytes);
    case SUB_RESPONSE_HEADERS_BYTES:
        return number(http_head_size(c->resp ? c->resp : si->resp).bytes);
    case SUB_RESPONSE_TRAILERS_BYTES:
        return trailers_bytes(c->resp_trailers ? c->resp_trailers : si->resp_trailers);
    case SUB_START_TIME:
    case SUB_START_TIME_LOCAL:
        return text(
            substitution_time(op->a, si->start_wall_ns, op->id != SUB_START_TIME, si->arena));
    case SUB_EMIT_TIME:
    case SUB_EMIT_TIME_LOCAL:
        return text(substitution_time(
            op->a, si->start_wall_ns + (si->end_ns > si->start_ns ? si->end_ns - si->start_ns : 0),
            op->id != SUB_EMIT_TIME, si->arena));
    case SUB_COMMON_DURATION:
        return common_duration(si, op);
    case SUB_GRPC_STATUS:
    case SUB_GRPC_STATUS_NUMBER:
        return grpc_status(c, op);
    case SUB_TLS:
    case SUB_TLS_DATE:
        return tls(c, op);
    case SUB_CEL:
    case SUB_TYPED_CEL:
        return expression(c, op);
    case SUB_CONN:
        return text(conn_field(si, (enum substitution_conn_field)op->tls));
    default:
        break;
    }
    if (op->id >= SUB_DURATION && op->id <= SUB_ROUNDTRIP_DURATION)
        return duration(si, op->id);
    if (op->id == SUB_UPSTREAM_PROTOCOL ||
        (op->id >= SUB_UPSTREAM_WIRE_BYTES_RECEIVED &&
         op->id <= SUB_UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT) ||
        (op->id >= SUB_UPSTREAM_HOST && op->id <= SUB_UPSTREAM_REQUEST_ATTEMPT_COUNT))
        return upstream(si, op->id);
    if (op->id == SUB_CONNECTION_ID ||
        (op->id >= SUB_DOWNSTREAM_WIRE_BYTES_RECEIVED &&
         op->id <= SUB_DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT) ||
        (op->id >= SUB_DOWNSTREAM_TRANSPORT_FAILURE_REASON && op->id <= SUB_REQUESTED_SERVER_NAME))
        return downstream(si, op->id);
    return stream(c, op);
}
