#include "mesh/mesh_testlib.h"

#include <unistd.h>

void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[200];
    FILE *out;
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

void remove_file(struct fixture *f, const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    unlink(path);
}

char *books(void)
{
    static char text[16384];
    FILE *in = fopen(WEFT_SRC "/mesh/testdata/books/books.yaml", "r");
    size_t n;
    assert_non_null(in);
    n = fread(text, 1, sizeof text - 1, in);
    text[n] = 0;
    fclose(in);
    return text;
}

void rebuild(struct fixture *f)
{
    struct model *prev = f->m;
    file_source_refresh(f->files);
    f->m = model_store_build(f->store, prev, &f->delta);
    model_free(prev);
}

void rebuild_accepted(struct fixture *f)
{
    rebuild(f);
    if (f->m->n_problems)
        fail_msg("%.*s", SV_ARG(f->m->problems[0].text));
}

void expect_refused(struct fixture *f, size_t i, const char *yaml, const char *words)
{
    sv first = {0};

    write_file(f, "bad.yaml", yaml);
    rebuild(f);
    if (f->m->n_problems)
        first = f->m->problems[0].text;
    if (f->m->n_problems != 1 || sv_find_sv(first, sv_of(words)) < 0)
        fail_msg("case %zu: %u problems, first: %.*s", i, f->m->n_problems, SV_ARG(first));
}

int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    struct translate_options o = {.access_log_path = SV("/dev/stdout")};

    strcpy(f->dir, "/tmp/weft-mesh-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    write_file(f, "books.yaml", books());
    f->store = model_store_new(SV("cluster.local"), SV("cluster.local"));
    f->files = file_source_new(NULL, f->dir, SV("default"), f->store, NULL, NULL, &err);
    assert_non_null(f->files);
    f->t = translate_new(&o, &err);
    if (!f->t)
        fail_msg("%s", err.msg);
    arena_init(&f->a);
    strbuf_init(&f->json, 1 << 22);
    f->proxy = (struct translate_proxy){.ns = SV("books"),
                                        .workload = SV("client"),
                                        .ip = SV("10.0.0.9"),
                                        .outbound_port = 15001,
                                        .inbound_port = 15006};
    rebuild(f);
    *state = f;
    return 0;
}

int teardown(void **state)
{
    struct fixture *f = *state;
    char cmd[100];
    strbuf_fini(&f->json);
    arena_free(&f->a);
    translate_free(f->t);
    model_free(f->m);
    file_source_free(f->files);
    model_store_free(f->store);
    snprintf(cmd, sizeof cmd, "rm -rf %s", f->dir);
    assert_int_equal(system(cmd), 0);
    free(f);
    return 0;
}

void emit(void *arg, sv name, sv packed)
{
    struct fixture *f = arg;
    struct error err = {0};
    void *msg;
    if (pb_decode(f->type, packed, &f->a, NULL, &msg, &err))
        fail_msg("%.*s: %s", SV_ARG(name), err.msg);
    strbuf_addf(&f->json, "%.*s ", SV_ARG(name));
    pb_to_json(f->type, msg, &(struct pb_json_opts){.snake_case = true}, &f->json);
    strbuf_add_ch(&f->json, '\n');
}

bool has(struct fixture *f, const char *text)
{
    return f->json.p && strstr(f->json.p, text) != NULL;
}

void expect(const char *json, const char *part)
{
    if (!strstr(json, part))
        fail_msg("%s\nis not in\n%s", part, json);
}

void expect_not(const char *json, const char *part)
{
    if (strstr(json, part))
        fail_msg("%s\nis in\n%s", part, json);
}

void clusters(struct fixture *f)
{
    strbuf_reset(&f->json);
    f->type = &envoy_Cluster_pb;
    translate_clusters_outbound(f->t, f->m, &f->proxy, &f->a, emit, f);
    translate_clusters_inbound(f->t, f->m, &f->proxy, &f->a, emit, f);
}

void listeners(struct fixture *f)
{
    strbuf_reset(&f->json);
    f->type = &envoy_Listener_pb;
    translate_listeners_outbound(f->t, f->m, &f->proxy, &f->a, emit, f);
    translate_listeners_inbound(f->t, f->m, &f->proxy, &f->a, emit, f);
}

void routes(struct fixture *f, const char *name)
{
    sv packed;
    strbuf_reset(&f->json);
    f->type = &envoy_RouteConfiguration_pb;
    assert_true(translate_routes(f->t, f->m, &f->proxy, sv_of(name), &f->a, &packed));
    emit(f, sv_of(name), packed);
}

bool endpoints(struct fixture *f, const char *name)
{
    sv packed;
    strbuf_reset(&f->json);
    f->type = &envoy_ClusterLoadAssignment_pb;
    if (!translate_endpoints(f->t, f->m, &f->proxy, sv_of(name), &f->a, &packed))
        return false;
    emit(f, sv_of(name), packed);
    return true;
}

void note(void *arg, const struct model_problem *p)
{
    struct fixture *f = arg;
    strbuf_addf(&f->json, "%.*s/%.*s %.*s: %.*s\n", SV_ARG(p->ns), SV_ARG(p->name), SV_ARG(p->code),
                SV_ARG(p->text));
}

void names(struct fixture *f)
{
    strbuf_reset(&f->json);
    f->type = &istio_NameTable_pb;
    emit(f, SV("names"), translate_names(f->t, f->m, &f->proxy, &f->a));
}

void problems(struct fixture *f)
{
    strbuf_reset(&f->json);
    for (uint32_t i = 0; i < f->m->n_problems; i++)
        note(f, &f->m->problems[i]);
    translate_check(f->m, &f->a, note, f);
}

const char *line_of(struct fixture *f, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = f->json.p; p && *p; p = strchr(p, '\n') + 1) {
        if (strncmp(p, name, n) == 0 && p[n] == ' ')
            return arena_printf(&f->a, "%.*s", (int)strcspn(p + n + 1, "\n"), p + n + 1).p;
    }
    fail_msg("there is no '%s' in\n%.*s", name, (int)f->json.n, f->json.p);
    return NULL;
}

void only_services(struct fixture *f)
{
    char *text = strdup(books());
    *strstr(text, "apiVersion: networking.istio.io/v1alpha3") = 0;
    write_file(f, "books.yaml", text);
    free(text);
}
