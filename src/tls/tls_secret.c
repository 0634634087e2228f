#include "tls/tls_secret.h"

#include "base/map.h"
#include "base/mem.h"
#include "tls/tls_opts.h"
#include "tls/tls_priv.h"

struct storage {
    struct arena arena;
    unsigned char hash[32];
    char *wiped; /* ticket keys */
    size_t n_wiped;
};

struct entry {
    struct tls_secret_store *store;
    sv key; /* name NUL config, owned by the store's map */
    size_t name_n;
    struct tls_secret *value; /* NULL: not ready */
    struct list users;
    uint32_t busy; /* calls out of here that are under way: the entry must stay */
    bool wanted;   /* the source was asked for it */
};

struct tls_secret_store {
    const struct tls_secret_source *source;
    struct map entries;
    uint64_t versions;
};

const char *tls_secret_kind_name(enum tls_secret_kind k)
{
    static const char *const names[] = {"tls_certificate", "validation_context",
                                        "session_ticket_keys"};
    return (unsigned)k < 3 ? names[k] : "?";
}

/* ---- values ---- */

static struct tls_secret *secret_new(enum tls_secret_kind kind, sv name, int64_t now_s)
{
    struct tls_secret *s = mem_new(struct tls_secret);
    struct storage *st = mem_new(struct storage);
    arena_init_malloc(&st->arena);
    refcount_init(&s->ref);
    s->kind = kind;
    s->storage = st;
    s->name = arena_sv(&st->arena, name);
    s->updated_s = now_s;
    return s;
}

struct tls_secret *tls_secret_ref(struct tls_secret *s)
{
    refcount_get(&s->ref);
    return s;
}

void tls_secret_unref(struct tls_secret *s)
{
    if (!s || !refcount_put(&s->ref))
        return;
    struct storage *st = s->storage;
    tls_wipe(st->wiped, st->n_wiped);
    free(st->wiped);
    arena_free(&st->arena);
    free(st);
    free(s);
}

/* ---- entries ---- */

static sv entry_name(const struct entry *e)
{
    return sv_first(e->key, e->name_n);
}

static sv entry_config(const struct entry *e)
{
    return sv_from(e->key, e->name_n + 1);
}

static char *make_key(sv name, sv config, size_t *n)
{
    char *k = mem_alloc(name.n + config.n + 1);
    if (name.n)
        memcpy(k, name.p, name.n);
    k[name.n] = '\0';
    if (config.n)
        memcpy(k + name.n + 1, config.p, config.n);
    *n = name.n + config.n + 1;
    return k;
}

static struct entry *find(const struct tls_secret_store *st, sv name, sv config)
{
    size_t n;
    char *k = make_key(name, config, &n);
    struct entry *e = map_get(&st->entries, sv_make(k, n));
    free(k);
    return e;
}

static struct entry *find_or_add(struct tls_secret_store *st, sv name, sv config)
{
    struct entry *e = find(st, name, config);
    if (e)
        return e;
    size_t n;
    char *k = make_key(name, config, &n);
    e = mem_new(struct entry);
    e->store = st;
    e->key = sv_make(k, n);
    e->name_n = name.n;
    list_init(&e->users);
    map_put(&st->entries, e->key, e);
    return e;
}

static void drop_if_unused(struct entry *e)
{
    if (e->value || e->busy || !list_empty(&e->users))
        return;
    map_del(&e->store->entries, e->key);
    free((void *)(uintptr_t)e->key.p);
    free(e);
}

/* Tells the source when users appear and when the last is gone. May free the entry. */
static void settle_want(struct entry *e)
{
    const struct tls_secret_source *src = e->store->source;
    bool want = !list_empty(&e->users);
    if (e->busy)
        return;
    if (want != e->wanted && src) {
        e->wanted = want;
        e->busy++;
        if (want && src->want)
            src->want(src->self, entry_name(e), entry_config(e));
        else if (!want && src->unwant)
            src->unwant(src->self, entry_name(e), entry_config(e));
        e->busy--;
    }
    drop_if_unused(e);
}

/* Takes over the reference. Users may come and go while they are told. */
static void publish(struct entry *e, struct tls_secret *s)
{
    struct list waiting;
    tls_secret_unref(e->value);
    e->value = s;
    s->version = ++e->store->versions;
    tls_secret_ref(s);
    list_init(&waiting);
    while (!list_empty(&e->users)) {
        struct list *l = list_first(&e->users);
        list_del(l);
        list_push(&waiting, l);
    }
    e->busy++;
    while (!list_empty(&waiting)) {
        struct list *l = list_first(&waiting);
        list_del(l);
        list_push(&e->users, l);
        struct tls_secret_user *u = container_of(l, struct tls_secret_user, link);
        u->on_change(u, s);
    }
    e->busy--;
    tls_secret_unref(s);
    settle_want(e);
}

/* Publishes unless the value has not changed. */
static int settle(struct tls_secret_store *st, sv name, sv config, struct tls_secret *s)
{
    struct entry *e = find_or_add(st, name, config);
    const struct storage *new = s->storage, *old = e->value ? e->value->storage : NULL;
    if (old && e->value->kind == s->kind && memcmp(new->hash, old->hash, 32) == 0)
        tls_secret_unref(s);
    else
        publish(e, s);
    return 0;
}

/* ---- the store ---- */

struct tls_secret_store *tls_secret_store_new(const struct tls_secret_source *source)
{
    struct tls_secret_store *st = mem_new(struct tls_secret_store);
    st->source = source;
    map_init_borrow(&st->entries);
    return st;
}

void tls_secret_store_free(struct tls_secret_store *st)
{
    if (!st)
        return;
    map_each (m, &st->entries) {
        struct entry *e = m->val;
        tls_secret_unref(e->value);
        free((void *)(uintptr_t)e->key.p);
        free(e);
    }
    map_fini(&st->entries);
    free(st);
}

int tls_secret_store_set_cert(struct tls_secret_store *st, sv name, sv config,
                              const struct tls_cert_opts *c, int64_t now_s, struct error *err)
{
    struct tls_secret *s = secret_new(TLS_SECRET_CERT, name, now_s);
    struct storage *to = s->storage;
    struct tls_cert_opts named = *c;
    struct tls_own_cert probe = {0};
    char *text = sv_dup(name);
    named.name = text;
    int code = tls_own_cert_load(&probe, &named, 0, err);
    if (code == 0)
        code = tls_cert_opts_copy(&to->arena, &s->cert, &named, err);
    tls_own_cert_fini(&probe);
    free(text);
    if (code) {
        tls_secret_unref(s);
        return code;
    }
    tls_cert_opts_hash(&s->cert, to->hash);
    return settle(st, name, config, s);
}

/* The names may be given without roots: they are then the half of a combined context. */
static int check_validation(const struct tls_validation *v, struct error *err)
{
    struct tls_validation part = *v;
    if (!part.ca_pem.n)
        part.n_sans = 0;
    struct tls_ctx *probe = tls_ctx_new(&(struct tls_ctx_opts){.validation = &part}, err);
    tls_ctx_unref(probe);
    return probe ? 0 : E_INVALID;
}

int tls_secret_store_set_validation(struct tls_secret_store *st, sv name, sv config,
                                    const struct tls_validation *v, int64_t now_s,
                                    struct error *err)
{
    struct tls_validation named = *v;
    char *text = sv_dup(name);
    named.name = text;
    int code = check_validation(&named, err);
    if (code == 0) {
        struct tls_secret *s = secret_new(TLS_SECRET_VALIDATION, name, now_s);
        struct storage *to = s->storage;
        tls_validation_copy(&to->arena, &s->validation, &named);
        tls_validation_hash(&s->validation, to->hash);
        code = settle(st, name, config, s);
    }
    free(text);
    return code;
}

int tls_secret_store_set_ticket_keys(struct tls_secret_store *st, sv name, sv config,
                                     const sv *keys, size_t n, int64_t now_s, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (keys[i].n != TLS_TICKET_KEY)
            return error_set(err, E_INVALID,
                             "%.*s: session_ticket_keys.keys[%zu]: has %zu bytes and must have %d",
                             SV_ARG(name), i, keys[i].n, TLS_TICKET_KEY);
    if (n == 0)
        return error_set(err, E_INVALID, "%.*s: session_ticket_keys: has no keys", SV_ARG(name));
    struct tls_secret *s = secret_new(TLS_SECRET_TICKET_KEYS, name, now_s);
    struct storage *to = s->storage;
    sv *views = arena_array(&to->arena, sv, n);
    to->n_wiped = n * TLS_TICKET_KEY;
    to->wiped = mem_alloc(to->n_wiped);
    for (size_t i = 0; i < n; i++) {
        memcpy(to->wiped + i * TLS_TICKET_KEY, keys[i].p, TLS_TICKET_KEY);
        views[i] = sv_make(to->wiped + i * TLS_TICKET_KEY, TLS_TICKET_KEY);
    }
    s->ticket_keys = views;
    s->n_ticket_keys = n;
    EVP_Digest(to->wiped, to->n_wiped, to->hash, NULL, EVP_sha256(), NULL);
    return settle(st, name, config, s);
}

void tls_secret_store_remove(struct tls_secret_store *st, sv name, sv config)
{
    struct entry *e = find(st, name, config);
    if (!e)
        return;
    tls_secret_unref(e->value);
    e->value = NULL;
    drop_if_unused(e);
}

int tls_secret_store_check(struct tls_secret_store *st, sv name, sv config, struct error *err)
{
    const struct tls_secret_source *src = st->source;
    if (!src || !src->check || tls_secret_store_get(st, name, config))
        return 0;
    return src->check(src->self, name, config, err);
}

struct tls_secret *tls_secret_store_get(struct tls_secret_store *st, sv name, sv config)
{
    struct entry *e = find(st, name, config);
    return e ? e->value : NULL;
}

void tls_secret_store_each(struct tls_secret_store *st,
                           void (*fn)(void *arg, sv name, sv config, struct tls_secret *s),
                           void *arg)
{
    map_each (m, &st->entries) {
        struct entry *e = m->val;
        fn(arg, entry_name(e), entry_config(e), e->value);
    }
}

/* ---- users ---- */

static void not_yet(struct tls_secret_user *u, struct tls_secret *now)
{
}

struct tls_secret *tls_secret_subscribe(struct tls_secret_store *st, sv name, sv config,
                                        struct tls_secret_user *u)
{
    struct entry *e = find_or_add(st, name, config);
    u->entry = e;
    /* An answer from inside want() is returned, not told: the user is not told of it before it
     * has got the value from here. */
    void (*tell)(struct tls_secret_user *, struct tls_secret *) = u->on_change;
    u->on_change = not_yet;
    list_push(&e->users, &u->link);
    settle_want(e);
    u->on_change = tell;
    return e->value;
}

void tls_secret_unsubscribe(struct tls_secret_user *u)
{
    struct entry *e = u->entry;
    if (!e)
        return;
    u->entry = NULL;
    list_del(&u->link);
    settle_want(e);
}
