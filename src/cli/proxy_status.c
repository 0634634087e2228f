#include <stdio.h>
#include "api/node.h"
#include "cli/cli.h"

#define PAGE_MAX (256u << 20)

static const char *const types[] = {"CDS", "LDS", "EDS", "RDS", "VHDS", "NDS"};
#define N_TYPES (sizeof types / sizeof *types)

static void print_proxies(const struct node *list)
{
    struct cli_table t;

    cli_table_init(&t, 2 + N_TYPES + 1);
    cli_table_add(&t, SV("NAME"));
    cli_table_add(&t, SV("IP"));
    for (size_t k = 0; k < N_TYPES; k++)
        cli_table_add(&t, sv_of(types[k]));
    cli_table_add(&t, SV("IDENTITY"));
    for (uint32_t i = 0; i < list->n; i++) {
        const struct node *p = list->v[i];
        struct arena a;
        arena_init(&a);
        cli_table_add(&t, arena_printf(&a, "%.*s.%.*s", SV_ARG(node_str(p, "name")),
                                       SV_ARG(node_str(p, "namespace"))));
        cli_table_add(&t, node_str(p, "ip"));
        for (size_t k = 0; k < N_TYPES; k++)
            cli_table_add(&t, node_str(node_get(p, types[k]), "state"));
        cli_table_add(&t, node_str(p, "identity"));
        arena_free(&a);
    }
    cli_table_print(&t);
    for (uint32_t i = 0; i < list->n; i++) {
        for (size_t k = 0; k < N_TYPES; k++) {
            sv nack = node_str(node_get(list->v[i], types[k]), "nack");
            if (nack.n)
                printf("\n%.*s refused %s: %.*s\n", SV_ARG(node_str(list->v[i], "name")), types[k],
                       SV_ARG(nack));
        }
    }
}

/* "Has my configuration arrived?" */
static void print_progress(const struct node *c)
{
    const struct node *files = node_get(c, "files");
    long refused = (long)node_int(c, "refused", 0);

    printf("\n%u configuration file%s read%s; applied by %ld of %ld proxies", files ? files->n : 0,
           files && files->n == 1 ? "" : "s",
           node_bool(c, "pending", false) ? ", a change is under way" : "",
           (long)node_int(c, "applied", 0), (long)node_int(c, "proxies", 0));
    if (refused)
        printf(", %ld of them refused a part", refused);
    printf("\n");
}

static void print_problems(const struct node *list)
{
    if (!list->n)
        return;
    printf("\n%u problem%s of the configuration:\n", list->n, list->n == 1 ? "" : "s");
    for (uint32_t i = 0; i < list->n; i++) {
        const struct node *p = list->v[i];
        printf("  %.*s %.*s %.*s/%.*s (%.*s:%ld): %.*s\n", SV_ARG(node_str(p, "severity")),
               SV_ARG(node_str(p, "kind")), SV_ARG(node_str(p, "namespace")),
               SV_ARG(node_str(p, "name")), SV_ARG(node_str(p, "file")),
               (long)node_int(p, "line", 0), SV_ARG(node_str(p, "text")));
    }
}

int cmd_proxy_status(int argc, char **argv)
{
    const char *address = "127.0.0.1:15014";
    bool json = false;
    const struct cli_option options[] = {
        {"--control", "ADDR", "monitoring address of the control plane (127.0.0.1:15014)",
         &address},
        {"--json", NULL, "as the control plane answers", .flag = &json},
    };
    struct error err = {0};
    struct node *proxies, *problems, *config;
    struct strbuf s;
    struct arena a;
    int first, rc = cli_options("weft proxy-status [OPTIONS]", options,
                                sizeof options / sizeof *options, argc, argv, &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    arena_init(&a);
    if (!rc && json) {
        strbuf_init(&s, PAGE_MAX);
        rc = cli_get(address, "/debug/syncz", &s, &err);
        if (!rc)
            fwrite(s.p, 1, s.n, stdout);
        strbuf_fini(&s);
    } else if (!rc) {
        rc = cli_get_node(address, "/debug/syncz", &a, &proxies, &err);
        rc = rc ? rc : cli_get_node(address, "/debug/configz", &a, &config, &err);
        rc = rc ? rc : cli_get_node(address, "/debug/problems", &a, &problems, &err);
        if (!rc) {
            print_proxies(proxies);
            print_progress(config);
            print_problems(problems);
        }
    }
    arena_free(&a);
    if (rc)
        fprintf(stderr, "weft proxy-status: %s\n", err.msg);
    return rc ? 1 : 0;
}
