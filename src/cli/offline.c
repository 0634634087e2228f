#include "cli/offline.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "mesh/source/file_source.h"
#include "mesh/translate/translate.h"

int offline_load(struct offline *o, const char *const *paths, uint32_t n, sv ns, struct error *err)
{
    memset(o, 0, sizeof *o);
    arena_init(&o->a);
    /* What the readers would log is in the snapshot, with more. */
    log_set_level(NULL, LOG_OFF);
    o->store = model_store_new(SV("cluster.local"), SV("cluster.local"));
    if (n > OFFLINE_SOURCES_MAX)
        return error_set(err, E_LIMIT, "more than %d files: give their directory",
                         OFFLINE_SOURCES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        struct file_source *f = file_source_new(NULL, paths[i], ns, o->store, NULL, NULL, err);
        if (!f)
            return error_set(err, E_NOT_FOUND, "there is no file or directory '%s'", paths[i]);
        o->sources[o->n_sources++] = f;
    }
    o->m = model_store_build(o->store, NULL, NULL);
    return 0;
}

static void take(void *arg, const struct model_problem *p)
{
    struct offline *o = arg;

    if (o->n_problems == o->cap_problems) {
        uint32_t cap = o->cap_problems ? o->cap_problems * 2 : 64;
        struct model_problem *v = arena_array(&o->a, struct model_problem, cap);
        if (o->n_problems)
            memcpy(v, o->problems, o->n_problems * sizeof *v);
        o->problems = v;
        o->cap_problems = cap;
    }
    o->problems[o->n_problems++] = *p;
}

static int by_place(const void *a, const void *b)
{
    const struct model_problem *x = a, *y = b;
    int c = sv_cmp(x->file, y->file);

    c = c ? c : x->line < y->line ? -1 : x->line > y->line;
    c = c ? c : sv_cmp(x->field, y->field);
    c = c ? c : sv_cmp(x->code, y->code);
    return c ? c : sv_cmp(x->text, y->text);
}

void offline_check(struct offline *o)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < o->m->n_problems; i++)
        take(o, &o->m->problems[i]);
    translate_check(o->m, &o->a, take, o);
    translate_hints(o->m, &o->a, take, o);
    if (o->n_problems > 1)
        qsort(o->problems, o->n_problems, sizeof *o->problems, by_place);
    for (uint32_t i = 0; i < o->n_problems; i++) {
        if (!kept || by_place(&o->problems[kept - 1], &o->problems[i]))
            o->problems[kept++] = o->problems[i];
    }
    o->n_problems = kept;
}

void offline_free(struct offline *o)
{
    model_free(o->m);
    for (uint32_t i = 0; i < o->n_sources; i++)
        file_source_free(o->sources[i]);
    model_store_free(o->store);
    arena_free(&o->a);
}
