#include "mesh/model/model_store.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/mem.h"

struct model_store *model_store_new(sv trust_domain, sv domain_suffix)
{
    struct model_store *s = mem_new(struct model_store);
    char *t = sv_dup(trust_domain), *d = sv_dup(domain_suffix);

    s->trust_domain = sv_of(t);
    s->domain_suffix = sv_of(d);
    for (int k = 0; k < MODEL_KINDS; k++)
        map_init_borrow(&s->objects[k]);
    return s;
}

static void stored_free(struct stored *st)
{
    if (!st)
        return;
    model_object_unref(st->object);
    free(st->key);
    free(st);
}

static void problem_free(struct stored_problem *p)
{
    arena_free(&p->arena);
    free(p->source);
    free(p);
}

void model_store_free(struct model_store *s)
{
    if (!s)
        return;
    for (int k = 0; k < MODEL_KINDS; k++) {
        map_each (e, &s->objects[k])
            stored_free(e->val);
        map_fini(&s->objects[k]);
    }
    for (uint32_t i = 0; i < s->n_problems; i++)
        problem_free(s->problems[i]);
    free(s->problems);
    free((char *)s->trust_domain.p);
    free((char *)s->domain_suffix.p);
    free(s);
}

static char *key_of(sv ns, sv name)
{
    size_t n = ns.n + name.n + 2;
    char *k = mem_alloc(n);
    snprintf(k, n, "%.*s/%.*s", SV_ARG(ns), SV_ARG(name));
    return k;
}

static void conflict(struct model_store *s, const struct stored *first, const char *source,
                     const struct model_object *o)
{
    char text[512];
    struct model_problem p = {.severity = MODEL_ERROR,
                              .kind = o->kind,
                              .has_object = true,
                              .ns = o->ns,
                              .name = o->name,
                              .file = o->file,
                              .line = o->line,
                              .field = SV("metadata.name"),
                              .code = SV("Conflict")};
    sv where = first->object->file.n ? first->object->file : sv_of(first->source);
    snprintf(text, sizeof text,
             "an object of this name is already defined in %.*s, which stays in force: rename or "
             "remove one of the two",
             SV_ARG(where));
    p.text = sv_of(text);
    model_store_problem(s, source, &p);
}

enum model_put model_store_put(struct model_store *s, const char *source, struct model_object *o)
{
    char *key = key_of(o->ns, o->name);
    struct map *m = &s->objects[o->kind];
    struct stored *st = map_get(m, sv_of(key));

    if (!st) {
        st = mem_new(struct stored);
        st->object = o;
        st->source = source;
        st->key = key;
        map_put(m, sv_of(st->key), st);
        return MODEL_PUT_CHANGED;
    }
    free(key);
    /* Two files of one source, or two sources, that name the same object. */
    if (strcmp(st->source, source) != 0 || !sv_eq(st->object->file, o->file)) {
        conflict(s, st, source, o);
        model_object_unref(o);
        return MODEL_PUT_CONFLICT;
    }
    if (st->object->version == o->version && st->object->line == o->line) {
        model_object_unref(o);
        return MODEL_PUT_SAME;
    }
    /* Without a timestamp of its own an object keeps the time it was first seen. */
    bool changed = st->object->version != o->version;
    model_object_unref(st->object);
    st->object = o;
    return changed ? MODEL_PUT_CHANGED : MODEL_PUT_SAME;
}

bool model_store_del(struct model_store *s, const char *source, enum model_kind k, sv ns, sv name,
                     sv file)
{
    char *key = key_of(ns, name);
    struct stored *st = map_get(&s->objects[k], sv_of(key));
    bool gone = st && strcmp(st->source, source) == 0 && (!file.n || sv_eq(st->object->file, file));

    if (gone) {
        map_del(&s->objects[k], sv_of(key));
        stored_free(st);
    }
    free(key);
    return gone;
}

void model_store_problem(struct model_store *s, const char *source, const struct model_problem *p)
{
    struct stored_problem *sp = mem_new(struct stored_problem);

    arena_init_malloc(&sp->arena);
    sp->source = sv_dup(sv_of(source));
    sp->p = *p;
    sp->p.ns = arena_sv(&sp->arena, p->ns);
    sp->p.name = arena_sv(&sp->arena, p->name);
    sp->p.file = arena_sv(&sp->arena, p->file);
    sp->p.field = arena_sv(&sp->arena, p->field);
    sp->p.text = arena_sv(&sp->arena, p->text);
    sp->p.code = arena_sv(&sp->arena, p->code);
    if (s->n_problems == s->cap_problems) {
        s->cap_problems = s->cap_problems ? s->cap_problems * 2 : 16;
        s->problems = mem_realloc(s->problems, s->cap_problems * sizeof(*s->problems));
    }
    s->problems[s->n_problems++] = sp;
}

void model_store_clear_problems(struct model_store *s, const char *source, sv file)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_problems; i++) {
        struct stored_problem *p = s->problems[i];
        if (strcmp(p->source, source) == 0 && sv_eq(p->p.file, file))
            problem_free(p);
        else
            s->problems[kept++] = p;
    }
    s->n_problems = kept;
}
