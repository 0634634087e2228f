/* What the commands of `weft` share. One file a command; the table is in cli.c.
 * Messages for people go to standard error, results to standard output; exit code 0 is success, 1 a
 * failure that the message explains, 2 a wrong use. Thread: main. */
#ifndef WEFT_CLI_CLI_H
#define WEFT_CLI_CLI_H

#include <stdint.h>
#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

struct node;

#define CLI_MESH "default"

int cli_main(int argc, char **argv);

int cmd_control(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_proxy_status(int argc, char **argv);
int cmd_proxy_config(int argc, char **argv);
int cmd_analyze(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_agent(int argc, char **argv);

/* ---- options: "--name value", "--name=value", flags ---- */
struct cli_option {
    const char *name;  /* "--config" */
    const char *value; /* what stands for the value in the help; NULL: a flag */
    const char *help;
    const char **text;                                            /* where a value goes, or NULL */
    bool *flag;                                                   /* where a flag goes, or NULL */
    int (*many)(void *arg, const char *value, struct error *err); /* may repeat */
    void *arg;
};
/* Reads options until "--" or the first other word (kept in argv; *first is its index). E_INVALID
 * with a sentence; E_CANCELLED after --help was answered. */
int cli_options(const char *usage, const struct cli_option *o, size_t n, int argc, char **argv,
                int *first, struct error *err);
int cli_port(const char *text, uint16_t *out, struct error *err);
int cli_percent(const char *text, const char *what, double *out, struct error *err);
int cli_u32(const char *text, const char *what, uint32_t *out, struct error *err);

/* ---- HTTP GET of weft's own pages: blocking, bounded ---- */
/* "127.0.0.1:15014", path -> body (2xx), or a sentence. */
int cli_get(const char *address, const char *path, struct strbuf *body, struct error *err);
/* The same, a page of JSON, whose tree is the arena's. */
int cli_get_node(const char *address, const char *path, struct arena *a, struct node **out,
                 struct error *err);
int cli_request(const char *method, const char *address, const char *path, struct strbuf *body,
                struct error *err);

/* ---- tables: columns as wide as their widest cell ---- */
struct cli_table {
    struct arena a;
    sv *cells;
    size_t n, cap, columns;
};
void cli_table_init(struct cli_table *t, size_t columns);
void cli_table_add(struct cli_table *t, sv cell); /* copied */
void cli_table_print(struct cli_table *t);        /* and frees */

/* The path of a program beside this one ("weft-proxy"), in the arena; NULL if it is not there. */
const char *cli_sibling(const char *name, struct arena *a);

#endif
