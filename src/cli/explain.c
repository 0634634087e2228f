/* weft explain: what would happen to a request, and what happened to one that failed. */
#include "cli/explain.h"

#include <stdio.h>
#include "cli/cli.h"
#include "cli/live.h"

#define HEADERS_MAX 256
#define PAGE_MAX    (64u << 20)

struct settings {
    const char *config, *ns, *from, *method, *live, *control;
    bool json;
    sv headers[HEADERS_MAX];
    uint32_t n_headers;
};

static int add_header(void *arg, const char *value, struct error *err)
{
    struct settings *s = arg;

    if (s->n_headers == HEADERS_MAX)
        return error_set(err, E_LIMIT, "more than %d headers", HEADERS_MAX);
    s->headers[s->n_headers++] = sv_of(value);
    return 0;
}

static int ask(const struct settings *s, const char *url, struct error *err)
{
    const struct explain_request q = {.from = sv_of(s->from ? s->from : s->ns),
                                      .url = sv_of(url),
                                      .method = sv_of(s->method),
                                      .headers = s->headers,
                                      .n_headers = s->n_headers};
    struct route_table *table = NULL;
    struct explained x;
    struct offline o;
    struct strbuf out;
    int rc = offline_load(&o, &s->config, 1, sv_of(s->ns), err);

    rc = rc ? rc : explain(&o, &q, &x, &table, err);
    if (!rc) {
        strbuf_init(&out, PAGE_MAX);
        (s->json ? explain_json : explain_text)(&x, &out);
        fwrite(out.p, 1, out.n, stdout);
        strbuf_fini(&out);
    }
    route_table_unref(table);
    offline_free(&o);
    return rc;
}

int cmd_explain(int argc, char **argv)
{
    struct settings s = {.ns = "default", .method = "GET"};
    const struct cli_option options[] = {
        {"--config", "DIR", "the configuration (a directory or file)", &s.config},
        {"--from", "NS/WHO", "client: NAMESPACE, with /WORKLOAD or /LABEL=VALUE,…", &s.from},
        {"--method", "METHOD", "of the request (GET)", &s.method},
        {"-H", "NAME:VALUE", "a header of the request; may repeat", .many = add_header, .arg = &s},
        {"--namespace", "NS", "of objects that name none, and of the client (default)", &s.ns},
        {"--live", "LINE", "instead: an access log line of a failed request; '-': standard input",
         &s.live},
        {"--control", "ADDR", "with --live: problems that this control plane reports", &s.control},
        {"--json", NULL, "for programs", .flag = &s.json},
    };
    struct error err = {0};
    int first,
        rc = cli_options("weft explain --config DIR --from NAMESPACE/WORKLOAD URL\n"
                         "       weft explain --live LINE [--config DIR|--control ADDR]",
                         options, sizeof options / sizeof *options, argc, argv, &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    if (!rc && s.live && first < argc)
        rc = error_set(&err, E_INVALID, "--live asks about its line, not about '%s'", argv[first]);
    if (!rc && !s.live && !s.config)
        rc = error_set(&err, E_INVALID, "--config DIR is missing");
    if (!rc && !s.live && first + 1 != argc)
        rc = error_set(&err, E_INVALID, "say one URL, behind the options");
    if (!rc && s.live)
        rc = live_command(s.live, s.config, s.control, s.ns, s.json, &err);
    else if (!rc)
        rc = ask(&s, argv[first], &err);
    if (rc)
        fprintf(stderr, "weft explain: %s\n", err.msg);
    return !rc ? 0 : rc == E_INVALID || rc == E_NOT_FOUND ? 2 : 1;
}
