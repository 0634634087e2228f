#include <stdlib.h>
#include "api/istio.pb.h"
#include "api/pb.h"
#include "base/log.h"
#include "base/mem.h"
#include "mesh/serve/services.h"

LOG_COMPONENT(ca);

#define PEM_MAX 65536u

struct ca_service {
    const struct ca *ca;
    struct loop *loop;
    uint64_t n_signed, n_refused;
};

static void refuse(struct ca_service *s, struct grpc_call *c, enum grpc_code code,
                   const struct error *err)
{
    s->n_refused++;
    log_warn(&log_ca, "certificate request refused: %s", err->msg);
    grpc_finish(c, code, sv_of(err->msg), NULL);
}

/* The answer is the leaf, what stands between it and the root, and the roots last: Istio's order.
 */
static void answer(struct ca_service *s, struct grpc_call *c, sv leaf)
{
    struct istio_IstioCertificateResponse r = {0};
    struct arena *a = grpc_call_arena(c);
    sv chain = ca_chain_pem(s->ca), roots = ca_roots_pem(s->ca);
    sv *list = arena_array(a, sv, 3);

    list[r.cert_chain.n++] = leaf;
    if (chain.n)
        list[r.cert_chain.n++] = chain;
    list[r.cert_chain.n++] = roots;
    r.cert_chain.v = list;
    grpc_respond(c, pb_encode_arena(&istio_IstioCertificateResponse_pb, &r, a));
}

static void create_certificate(void *user, struct grpc_call *c, sv request)
{
    struct ca_service *s = user;
    struct ca_caller caller = service_caller(c);
    const struct istio_IstioCertificateRequest *r;
    int64_t now = (int64_t)(loop_wall_ns(s->loop) / 1000000000u), not_after;
    struct ca_identity who;
    struct error err = {0};
    struct strbuf pem;
    void *msg;
    int rc;

    if (ca_authenticate(s->ca, &caller, now, &who, &err)) {
        refuse(s, c, GRPC_UNAUTHENTICATED, &err);
        return;
    }
    if (pb_decode(&istio_IstioCertificateRequest_pb, request, grpc_call_arena(c),
                  &(struct pb_opts){.allow_unknown = true}, &msg, &err)) {
        refuse(s, c, GRPC_INVALID_ARGUMENT, &err);
        return;
    }
    r = msg;
    strbuf_init(&pem, PEM_MAX);
    rc = ca_sign(s->ca, r->csr, &who, r->validity_duration, now, &pem, &not_after, &err);
    if (rc) {
        refuse(s, c, rc == E_DENIED ? GRPC_PERMISSION_DENIED : GRPC_INVALID_ARGUMENT, &err);
    } else {
        s->n_signed++;
        log_info(&log_ca, "certificate issued namespace=%s account=%s seconds=%ld", who.ns, who.sa,
                 not_after - now);
        answer(s, c, strbuf_sv(&pem));
    }
    strbuf_fini(&pem);
}

struct ca_service *ca_service_new(struct grpc_server *g, const struct ca *ca, struct loop *l)
{
    struct ca_service *s = mem_new(struct ca_service);

    s->ca = ca;
    s->loop = l;
    grpc_server_add_unary(g, istio_IstioCertificateService_CreateCertificate_PATH,
                          create_certificate, s);
    return s;
}

void ca_service_free(struct ca_service *s)
{
    free(s);
}

uint64_t ca_service_signed(const struct ca_service *s)
{
    return s->n_signed;
}

uint64_t ca_service_refused(const struct ca_service *s)
{
    return s->n_refused;
}
