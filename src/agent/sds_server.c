#include "agent/sds_server.h"

#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api/envoy.pb.h"
#include "base/mem.h"
#include "grpc/grpc.h"
#include "serve/serve_server.h"
#include "tls/tls_key.h"
#include "xds/ads_server.h"

#define SECRET_MAX (4u << 20)
#define NAMES_MAX  64

/* One stream of a proxy. */
struct sds_stream {
    struct list link;
    struct sds_server *s;
    struct grpc_call *call;
    struct ads_session *session;
    bool waiting; /* paused: there is no certificate yet */
};

#define TYPES_OF_SECRETS (1u << XDS_SDS)

struct sds_server {
    struct serve_server *http;
    struct grpc_server *grpc;
    struct ads_source source;
    struct xds_names *names;
    struct xds_blob *cert, *roots; /* NULL: not ready */
    struct list streams;
    uint32_t n_streams;
    char *path;
};

/* ---- secrets as resources ---- */

static struct xds_blob *pack(struct xds_names *names, sv name, const struct envoy_Secret *secret)
{
    struct strbuf out;
    strbuf_init(&out, SECRET_MAX);
    pb_encode(&envoy_Secret_pb, secret, &out);
    struct xds_blob *b = xds_blob_new(names, XDS_SDS, name, strbuf_sv(&out));
    tls_wipe(out.p, out.n);
    strbuf_fini(&out);
    return b;
}

static struct envoy_DataSource inline_bytes(sv v)
{
    return (struct envoy_DataSource){.which_specifier = envoy_DataSource_inline_bytes_tag,
                                     .inline_bytes = v};
}

static struct xds_blob *find(void *self, struct ads_session *session, enum xds_type t, uint32_t id,
                             sv name)
{
    const struct sds_server *s = self;
    if (t != XDS_SDS)
        return NULL;
    return sv_eq_c(name, SDS_CERT_NAME) ? s->cert : sv_eq_c(name, SDS_ROOTS_NAME) ? s->roots : NULL;
}

/* Nobody subscribes to all secrets. */
static void list_all(void *self, struct ads_session *session, enum xds_type t,
                     void (*add)(void *arg, struct xds_blob *b), void *arg)
{
}

static int hello(void *self, struct ads_session *session, const struct envoy_Node *node,
                 struct error *err)
{
    return 0;
}

static void nacked(void *self, struct ads_session *session, enum xds_type t, sv sentence)
{
}

/* ---- streams ---- */

static void stream_free(struct sds_stream *x)
{
    list_del(&x->link);
    x->s->n_streams--;
    ads_session_free(x->session);
    free(x);
}

static void send_message(void *arg, struct buf *message)
{
    struct sds_stream *x = arg;
    (void)!grpc_send_buf(x->call, message);
}

static void on_message(void *user, struct buf *msg, sv bytes)
{
    struct sds_stream *x = user;
    struct error e = {0};
    if (ads_session_receive(x->session, bytes, &e))
        grpc_finish(x->call, GRPC_INVALID_ARGUMENT, sv_of(e.msg), NULL);
}

static void on_half_close(void *user)
{
    struct sds_stream *x = user;
    grpc_finish(x->call, GRPC_OK, sv_make(NULL, 0), NULL);
}

static void on_done(void *user, const struct grpc_result *r)
{
    stream_free(user);
}

static const struct grpc_call_events EVENTS = {
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_done = on_done,
};

static void on_stream(struct sds_server *s, struct grpc_call *c, bool delta)
{
    struct sds_stream *x = mem_new(struct sds_stream);
    x->s = s;
    x->call = c;
    x->session = ads_session_new(&(struct ads_session_opts){.delta = delta,
                                                            .source = &s->source,
                                                            .names = s->names,
                                                            .send = send_message,
                                                            .arg = x,
                                                            .max_names = NAMES_MAX,
                                                            .control_plane = SV("weft-agent")});
    ads_session_set_user(x->session, x);
    list_push(&s->streams, &x->link);
    s->n_streams++;
    grpc_call_set_events(c, &EVENTS, x);
    if (!s->cert) {
        /* A secret that is not there yet would be answered as one that does not exist. */
        x->waiting = true;
        grpc_pause(c, true);
    }
}

static void on_delta(void *user, struct grpc_call *c)
{
    on_stream(user, c, true);
}

static void on_sotw(void *user, struct grpc_call *c)
{
    on_stream(user, c, false);
}

/* ---- life ---- */

/* The mode is set before the socket has a name: it is ours alone from its first moment on. */
static int listen_on(const char *path, struct error *err)
{
    struct addr a;
    struct sockaddr_storage ss;
    if (addr_unix(&a, sv_of(path)))
        return error_set(err, E_LIMIT, "SDS socket %s: the path is too long", path), -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(path);
    if (fd >= 0 && fchmod(fd, 0600) == 0 &&
        bind(fd, (struct sockaddr *)&ss, addr_sockaddr(&a, &ss)) == 0 && listen(fd, 64) == 0)
        return fd;
    error_set(err, error_from_errno(errno), "SDS socket %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

struct sds_server *sds_server_new(struct loop *l, const char *path, struct error *err)
{
    int fd = listen_on(path, err);
    if (fd < 0)
        return NULL;
    struct sds_server *s = mem_new(struct sds_server);
    list_init(&s->streams);
    s->names = xds_names_new();
    s->path = sv_dup(sv_of(path));
    s->source = (struct ads_source){
        .list = list_all, .find = find, .hello = hello, .nacked = nacked, .self = s};
    s->grpc = grpc_server_new(1u << 20);
    grpc_server_add_method(s->grpc, envoy_SecretDiscoveryService_DeltaSecrets_PATH, on_delta, s);
    grpc_server_add_method(s->grpc, envoy_SecretDiscoveryService_StreamSecrets_PATH, on_sotw, s);
    s->http = serve_server_new(&(struct serve_server_opts){.loop = l, .protocol = SERVE_HTTP2});
    serve_server_add(s->http, grpc_server_accept, s->grpc);
    if (serve_server_listen_fd(s->http, fd, err)) {
        sds_server_free(s);
        return NULL;
    }
    return s;
}

void sds_server_free(struct sds_server *s)
{
    if (!s)
        return;
    grpc_server_free(s->grpc); /* cancels: no on_done */
    list_each_safe (it, &s->streams)
        stream_free(container_of(it, struct sds_stream, link));
    serve_server_free(s->http);
    unlink(s->path);
    xds_blob_unref(s->cert);
    xds_blob_unref(s->roots);
    xds_names_free(s->names);
    free(s->path);
    free(s);
}

void sds_server_set(struct sds_server *s, sv chain_pem, sv key_pem, sv roots_pem)
{
    static const sv names[] = {SV_INIT(SDS_CERT_NAME), SV_INIT(SDS_ROOTS_NAME)};
    struct envoy_DataSource chain = inline_bytes(chain_pem), key = inline_bytes(key_pem);
    struct envoy_DataSource roots = inline_bytes(roots_pem);
    struct envoy_TlsCertificate cert = {.certificate_chain = &chain, .private_key = &key};
    struct envoy_CertificateValidationContext validation = {.trusted_ca = &roots};
    struct envoy_Secret own = {
        .name = names[0], .which_type = envoy_Secret_tls_certificate_tag, .tls_certificate = &cert};
    struct envoy_Secret trust = {.name = names[1],
                                 .which_type = envoy_Secret_validation_context_tag,
                                 .validation_context = &validation};
    struct xds_blob *old[] = {s->cert, s->roots}; /* they keep the numbers of the names */
    s->cert = pack(s->names, names[0], &own);
    s->roots = pack(s->names, names[1], &trust);
    xds_blob_unref(old[0]);
    xds_blob_unref(old[1]);
    const uint32_t ids[] = {s->cert->id, s->roots->id};
    list_each_safe (it, &s->streams) {
        struct sds_stream *x = container_of(it, struct sds_stream, link);
        if (x->waiting) {
            x->waiting = false;
            grpc_pause(x->call, false);
        } else {
            ads_session_mark(x->session, XDS_SDS, ids, 2);
            ads_session_push(x->session, TYPES_OF_SECRETS);
        }
    }
}

uint32_t sds_server_streams(const struct sds_server *s)
{
    return s->n_streams;
}
