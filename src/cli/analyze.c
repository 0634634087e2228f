/* weft analyze: what is wrong with configuration, before anybody applies it. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/offline.h"

#define PAGE_MAX (256u << 20)

static const char *severity_name(enum model_severity s)
{
    return s == MODEL_ERROR ? "error" : s == MODEL_WARNING ? "warning" : "hint";
}

/* What a remedy begins with. */
static const char *const imperatives[] = {
    "add ",  "correct ", "define ", "did you mean ", "give ",   "indent ", "label ",
    "make ", "merge ",   "move ",   "name ",         "remove ", "rename ", "repeat ",
    "run ",  "say ",     "select ", "set ",          "use ",    "write ",
};

static bool is_imperative(sv v)
{
    for (size_t i = 0; i < sizeof imperatives / sizeof *imperatives; i++) {
        if (sv_starts_icase(v, sv_of(imperatives[i])))
            return true;
    }
    return false;
}

/* A problem's text is "FIELD: what is wrong. What to do", also with ": " or "; " in front of what
 * to do. Without such a part the problem itself says all there is. */
static void split(const struct model_problem *p, sv *what, sv *remedy)
{
    sv t = p->text;

    if (p->field.n && sv_starts(t, p->field) && sv_starts(sv_from(t, p->field.n), SV(": ")))
        t = sv_from(t, p->field.n + 2);
    *what = t;
    *remedy = (sv){NULL, 0};
    for (size_t i = 0; i + 2 < t.n; i++) {
        if ((t.p[i] != '.' && t.p[i] != ';' && t.p[i] != ':') || t.p[i + 1] != ' ' ||
            !is_imperative(sv_from(t, i + 2)))
            continue;
        *what = sv_first(t, i);
        *remedy = sv_from(t, i + 2);
        return;
    }
}

static void print_text(const struct offline *o)
{
    for (uint32_t i = 0; i < o->n_problems; i++) {
        const struct model_problem *p = &o->problems[i];
        sv what, remedy;
        split(p, &what, &remedy);
        printf("%.*s:%u: %s WEFT %.*s", SV_ARG(p->file), p->line, severity_name(p->severity),
               SV_ARG(p->code));
        if (p->has_object)
            printf(" %s %.*s/%.*s", model_kind_name(p->kind), SV_ARG(p->ns), SV_ARG(p->name));
        printf("%s%.*s: %.*s\n", p->field.n ? " " : "", SV_ARG(p->field), SV_ARG(what));
        if (remedy.n)
            printf("    %.*s\n", SV_ARG(remedy));
    }
}

static void print_json(const struct offline *o)
{
    struct strbuf s;

    strbuf_init(&s, PAGE_MAX);
    strbuf_add_ch(&s, '[');
    for (uint32_t i = 0; i < o->n_problems; i++) {
        const struct model_problem *p = &o->problems[i];
        sv what, remedy;
        split(p, &what, &remedy);
        const struct {
            const char *key;
            sv value;
        } texts[] = {{"severity", sv_of(severity_name(p->severity))},
                     {"code", p->code},
                     {"kind", p->has_object ? sv_of(model_kind_name(p->kind)) : SV("")},
                     {"namespace", p->ns},
                     {"name", p->name},
                     {"file", p->file},
                     {"field", p->field},
                     {"text", what},
                     {"remedy", remedy}};
        strbuf_add_c(&s, i ? ",\n {" : "\n {");
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            strbuf_addf(&s, "\"%s\":", texts[k].key);
            strbuf_add_json(&s, texts[k].value);
            strbuf_add_ch(&s, ',');
        }
        strbuf_addf(&s, "\"line\":%u}", p->line);
    }
    strbuf_add_c(&s, o->n_problems ? "\n]\n" : "]\n");
    fwrite(s.p, 1, s.n, stdout);
    strbuf_fini(&s);
}

static int analyze(const char *const *paths, uint32_t n, sv ns, bool json, bool strict)
{
    struct error err = {0};
    struct offline o;
    uint32_t count[3] = {0};
    int rc = offline_load(&o, paths, n, ns, &err);

    if (rc) {
        fprintf(stderr, "weft analyze: %s\n", err.msg);
        offline_free(&o);
        return 2;
    }
    offline_check(&o);
    for (uint32_t i = 0; i < o.n_problems; i++)
        count[o.problems[i].severity]++;
    if (json) {
        print_json(&o);
    } else {
        print_text(&o);
        fflush(stdout);
        fprintf(stderr, "%u error%s, %u warning%s, %u hint%s\n", count[0], count[0] == 1 ? "" : "s",
                count[1], count[1] == 1 ? "" : "s", count[2], count[2] == 1 ? "" : "s");
    }
    offline_free(&o);
    return count[MODEL_ERROR] || (strict && count[MODEL_WARNING]) ? 1 : 0;
}

int cmd_analyze(int argc, char **argv)
{
    const char *ns = "default";
    bool json = false, strict = false;
    const struct cli_option options[] = {
        {"--namespace", "NS", "of objects that name none (default)", &ns},
        {"--json", NULL, "an array of problems", .flag = &json},
        {"--strict", NULL, "exit code 1 also for warnings", .flag = &strict},
    };
    struct error err = {0};
    int first, rc = cli_options("weft analyze [OPTIONS] DIR|FILE...", options,
                                sizeof options / sizeof *options, argc, argv, &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    if (!rc && first == argc)
        rc = error_set(&err, E_INVALID, "say which directory or files");
    if (rc) {
        fprintf(stderr, "weft analyze: %s\n", err.msg);
        return 2;
    }
    return analyze((const char *const *)argv + first, (uint32_t)(argc - first), sv_of(ns), json,
                   strict);
}
