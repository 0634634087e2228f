#include "tls/tls_slot.h"

#include "base/arena.h"
#include "base/mem.h"
#include "tls/tls_opts.h"
#include "tls/tls_priv.h"

struct slot_user {
    struct tls_secret_user user;
    struct tls_slot *slot;
    struct tls_secret *value; /* referenced, NULL: not there yet */
};

struct tls_slot {
    struct arena arena;
    struct tls_ctx_opts opts; /* copies */
    struct slot_user *certs;
    size_t n_certs;
    struct slot_user *validation; /* NULL: none is named */
    struct slot_user *ticket_keys;
    void (*on_change)(struct tls_slot *s, void *arg);
    void *arg;
    pthread_mutex_t lock; /* of `current` only */
    struct tls_ctx *current;
    uint64_t generation;
    struct error error;
};

/* ---- building ---- */

static bool complete(const struct tls_slot *s)
{
    for (size_t i = 0; i < s->n_certs; i++)
        if (!s->certs[i].value)
            return false;
    return (!s->validation || s->validation->value) && (!s->ticket_keys || s->ticket_keys->value);
}

static int kind_error(const struct tls_secret *v, enum tls_secret_kind want, struct error *err)
{
    return error_set(err, E_INVALID, "secret \"%.*s\" is a %s, a %s was expected", SV_ARG(v->name),
                     tls_secret_kind_name(v->kind), tls_secret_kind_name(want));
}

static struct tls_ctx *build(struct tls_slot *s, struct error *err)
{
    struct arena a;
    struct tls_ctx_opts o = s->opts;
    struct tls_validation merged;
    struct tls_ctx *ctx = NULL;
    arena_init(&a);
    struct tls_cert_opts *certs =
        arena_array(&a, struct tls_cert_opts, s->opts.n_certs + s->n_certs + 1);
    if (s->opts.n_certs)
        memcpy(certs, s->opts.certs, s->opts.n_certs * sizeof *certs);
    for (size_t i = 0; i < s->n_certs; i++) {
        const struct tls_secret *v = s->certs[i].value;
        if (v->kind != TLS_SECRET_CERT) {
            kind_error(v, TLS_SECRET_CERT, err);
            goto out;
        }
        certs[o.n_certs++] = v->cert;
    }
    o.certs = certs;
    if (s->validation) {
        const struct tls_secret *v = s->validation->value;
        static const struct tls_validation nothing;
        if (v->kind != TLS_SECRET_VALIDATION) {
            kind_error(v, TLS_SECRET_VALIDATION, err);
            goto out;
        }
        tls_validation_merge(&a, &merged, o.validation ? o.validation : &nothing, &v->validation);
        o.validation = &merged;
    }
    if (s->ticket_keys) {
        const struct tls_secret *v = s->ticket_keys->value;
        if (v->kind != TLS_SECRET_TICKET_KEYS) {
            kind_error(v, TLS_SECRET_TICKET_KEYS, err);
            goto out;
        }
        o.ticket_keys = v->ticket_keys;
        o.n_ticket_keys = v->n_ticket_keys;
    }
    ctx = tls_ctx_new(&o, err);
out:
    arena_free(&a);
    return ctx;
}

static int rebuild(struct tls_slot *s, struct error *err)
{
    struct tls_ctx *ctx = build(s, err), *old;
    if (!ctx)
        return E_INVALID;
    pthread_mutex_lock(&s->lock);
    old = s->current;
    s->current = ctx;
    pthread_mutex_unlock(&s->lock);
    tls_ctx_unref(old);
    s->generation++;
    return 0;
}

static void on_secret(struct tls_secret_user *u, struct tls_secret *now)
{
    struct slot_user *su = container_of(u, struct slot_user, user);
    struct tls_slot *s = su->slot;
    tls_secret_unref(su->value);
    su->value = tls_secret_ref(now);
    if (!complete(s))
        return;
    struct error e = {0};
    rebuild(s, &e);
    s->error = e;
    if (s->on_change)
        s->on_change(s, s->arg);
}

/* What is inline must be right even while secrets are still missing. */
static int check_inline(const struct tls_slot *s, struct error *err)
{
    struct tls_ctx_opts o = s->opts;
    struct tls_validation v;
    o.server = false;
    if (s->validation && o.validation) {
        v = *o.validation; /* names without roots: the roots will come */
        v.n_sans = 0;
        o.validation = &v;
    }
    struct tls_ctx *probe = tls_ctx_new(&o, err);
    tls_ctx_unref(probe);
    return probe ? 0 : E_INVALID;
}

/* ---- life ---- */

static void subscribe(struct tls_slot *s, struct slot_user *u, struct tls_secret_store *store,
                      const struct tls_secret_name *name)
{
    u->slot = s;
    u->user.on_change = on_secret;
    struct tls_secret *now = tls_secret_subscribe(store, name->name, name->config, &u->user);
    if (now)
        u->value = tls_secret_ref(now);
}

static int check_names(const struct tls_slot_opts *o, struct error *err)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < o->n_certs; i++)
        code = tls_secret_store_check(o->store, o->certs[i].name, o->certs[i].config, err);
    if (code == 0 && o->validation.name.n)
        code = tls_secret_store_check(o->store, o->validation.name, o->validation.config, err);
    if (code == 0 && o->ticket_keys.name.n)
        code = tls_secret_store_check(o->store, o->ticket_keys.name, o->ticket_keys.config, err);
    return code;
}

static struct slot_user *subscribe_one(struct tls_slot *s, const struct tls_slot_opts *o,
                                       const struct tls_secret_name *name)
{
    if (name->name.n == 0)
        return NULL;
    struct slot_user *u = arena_new(&s->arena, struct slot_user);
    subscribe(s, u, o->store, name);
    return u;
}

static void user_fini(struct slot_user *u)
{
    if (!u)
        return;
    tls_secret_unsubscribe(&u->user);
    tls_secret_unref(u->value);
}

struct tls_slot *tls_slot_new(const struct tls_slot_opts *o, struct error *err)
{
    bool named = o->n_certs || o->validation.name.n || o->ticket_keys.name.n;
    if (named && !o->store) {
        sv n = o->n_certs ? o->certs[0].name : o->validation.name;
        error_set(err, E_UNSUPPORTED, "secret \"%.*s\" is named, but there is no source of secrets",
                  SV_ARG(n));
        return NULL;
    }
    if (named && check_names(o, err))
        return NULL;
    struct tls_slot *s = mem_new(struct tls_slot);
    arena_init_malloc(&s->arena);
    pthread_mutex_init(&s->lock, NULL);
    int code = tls_ctx_opts_copy(&s->arena, &s->opts, &o->ctx, err);
    if (code == 0) {
        s->certs = arena_array(&s->arena, struct slot_user, o->n_certs + 1);
        for (; s->n_certs < o->n_certs; s->n_certs++)
            subscribe(s, &s->certs[s->n_certs], o->store, &o->certs[s->n_certs]);
        s->validation = subscribe_one(s, o, &o->validation);
        s->ticket_keys = subscribe_one(s, o, &o->ticket_keys);
        code = complete(s) ? rebuild(s, err) : check_inline(s, err);
    }
    if (code) {
        tls_slot_free(s);
        return NULL;
    }
    s->on_change = o->on_change;
    s->arg = o->arg;
    return s;
}

void tls_slot_free(struct tls_slot *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_certs; i++)
        user_fini(&s->certs[i]);
    user_fini(s->validation);
    user_fini(s->ticket_keys);
    tls_ctx_unref(s->current);
    pthread_mutex_destroy(&s->lock);
    arena_free(&s->arena);
    free(s);
}

bool tls_slot_ready(const struct tls_slot *s)
{
    return s->generation > 0;
}

struct tls_ctx *tls_slot_get(struct tls_slot *s)
{
    pthread_mutex_lock(&s->lock);
    struct tls_ctx *c = tls_ctx_ref(s->current);
    pthread_mutex_unlock(&s->lock);
    return c;
}

uint64_t tls_slot_generation(const struct tls_slot *s)
{
    return s->generation;
}

const char *tls_slot_error(const struct tls_slot *s)
{
    return s->error.msg;
}
