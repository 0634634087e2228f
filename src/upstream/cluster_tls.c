/* TLS of a cluster: its contexts are made on main, when a worker first needs one, so that clusters
 * that nobody talks to cost no context. */
#include "upstream/cluster.h"

#include <stdio.h>
#include "base/mem.h"
#include "upstream/tls_options.h"

static int options(const struct cluster_config *cfg, uint32_t i, struct tls_secret_store *secrets,
                   struct arena *a, struct tls_slot_opts *out, struct error *err)
{
    const struct cluster_transport *t = &cfg->transports[i];
    const char *path =
        arena_printf(a, "cluster '%.*s': %s.typed_config", SV_ARG(cfg->name), t->path).p;
    int rc = tls_options_upstream(t->tls, path, a, out, err);
    if (rc)
        return rc;
    if (!secrets && (out->n_certs || out->validation.name.n))
        return error_set(err, E_UNSUPPORTED,
                         "%s.common_tls_context: secrets by SDS are not "
                         "supported here",
                         path);
    out->store = secrets;
    for (size_t k = 0; rc == 0 && k < out->n_certs; k++)
        rc = tls_secret_store_check(secrets, out->certs[k].name, out->certs[k].config, err);
    if (rc == 0 && out->validation.name.n)
        rc = tls_secret_store_check(secrets, out->validation.name, out->validation.config, err);
    if (rc)
        error_prefix(err, "%s.common_tls_context: ", path);
    return rc;
}

void cluster_tls_secrets(const struct cluster_config *cfg,
                         void (*fn)(void *arg, const struct tls_secret_name *name), void *arg)
{
    struct arena a;
    arena_init(&a);
    for (uint32_t i = 0; i < cfg->n_transports; i++) {
        struct tls_slot_opts o;
        if (!cfg->transports[i].tls ||
            tls_options_upstream(cfg->transports[i].tls, "", &a, &o, NULL) != 0)
            continue;
        for (size_t k = 0; k < o.n_certs; k++)
            fn(arg, &o.certs[k]);
        if (o.validation.name.n)
            fn(arg, &o.validation);
    }
    arena_free(&a);
}

int cluster_tls_check(const struct cluster_config *cfg, struct tls_secret_store *secrets,
                      struct error *err)
{
    struct arena a;
    int rc = 0;
    arena_init(&a);
    for (uint32_t i = 0; rc == 0 && i < cfg->n_transports; i++) {
        struct tls_slot_opts o;
        if (!cfg->transports[i].tls)
            continue;
        rc = options(cfg, i, secrets, &a, &o, err);
        if (rc || !tls_options_has_inline(&o))
            continue;
        /* Only what the message holds is tried; secrets may not have come yet. */
        o.store = NULL;
        o.n_certs = 0;
        o.validation.name = (sv){0};
        struct tls_slot *slot = tls_slot_new(&o, err);
        if (!slot) {
            rc = err ? err->code : E_INVALID;
            error_prefix(err, "cluster '%.*s': %s: ", SV_ARG(cfg->name), cfg->transports[i].path);
        }
        tls_slot_free(slot);
    }
    arena_free(&a);
    return rc;
}

void cluster_tls_make(struct cluster *c, uint32_t transport)
{
    struct cluster_rt *rt = cluster_rt(c);
    struct cluster_tls *t = &rt->tls[transport];
    struct tls_slot_opts o;
    struct error err = {0};
    struct arena a;
    if (atomic_load_explicit(&t->slot, memory_order_relaxed))
        return;
    arena_init(&a);
    struct tls_slot *slot = options(rt->cfg, transport, c->env->secrets, &a, &o, &err) == 0
                                ? tls_slot_new(&o, &err)
                                : NULL;
    arena_free(&a);
    if (slot) {
        atomic_store_explicit(&t->slot, slot, memory_order_release);
        return;
    }
    snprintf(t->error, sizeof t->error, "TLS_error:%.200s", err.msg);
    atomic_store_explicit(&t->failed, true, memory_order_release);
}

/* ---- asking main ---- */

struct tls_wish {
    struct mail mail;
    struct cluster *cluster;
    uint32_t transport;
};

static void wish_free(struct mail *m)
{
    struct tls_wish *w = (struct tls_wish *)m;
    cluster_unref(w->cluster);
    free(w);
}

static void wish_run(struct mail *m)
{
    struct tls_wish *w = (struct tls_wish *)m;
    cluster_manager_tls_wanted(w->cluster, w->transport);
    wish_free(m);
}

static void ask_main(struct cluster *c, struct cluster_tls *t, uint32_t transport)
{
    pthread_mutex_lock(&c->lock);
    bool first = !t->asked;
    t->asked = true;
    pthread_mutex_unlock(&c->lock);
    if (!first)
        return;
    struct tls_wish *w = mem_new(struct tls_wish);
    w->mail.run = wish_run;
    w->mail.drop = wish_free;
    w->cluster = cluster_ref(c);
    w->transport = transport;
    mailbox_send(c->env->main, &w->mail);
}

enum cluster_tls_state cluster_tls_get(struct cluster *c, uint32_t transport, struct tls_ctx **ctx,
                                       sv *why)
{
    struct cluster_tls *t = &cluster_rt(c)->tls[transport];
    struct tls_slot *slot = atomic_load_explicit(&t->slot, memory_order_acquire);
    if (slot) {
        *ctx = tls_slot_get(slot);
        *why = SV("TLS_error:Secret is not supplied by SDS");
        return *ctx ? CLUSTER_TLS_READY : CLUSTER_TLS_NOT_READY;
    }
    if (atomic_load_explicit(&t->failed, memory_order_acquire)) {
        *why = sv_of(t->error);
        return CLUSTER_TLS_NOT_READY;
    }
    ask_main(c, t, transport);
    return CLUSTER_TLS_WAIT;
}
