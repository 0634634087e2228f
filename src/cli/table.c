#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "cli/cli.h"

void cli_table_init(struct cli_table *t, size_t columns)
{
    memset(t, 0, sizeof *t);
    arena_init(&t->a);
    t->columns = columns;
}

void cli_table_add(struct cli_table *t, sv cell)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cells = mem_realloc(t->cells, t->cap * sizeof *t->cells);
    }
    t->cells[t->n++] = arena_sv(&t->a, cell.n ? cell : SV("-"));
}

void cli_table_print(struct cli_table *t)
{
    size_t *width = arena_array(&t->a, size_t, t->columns);

    for (size_t i = 0; i < t->n; i++) {
        if (t->cells[i].n > width[i % t->columns])
            width[i % t->columns] = t->cells[i].n;
    }
    for (size_t i = 0; i < t->n; i++) {
        bool last = i % t->columns == t->columns - 1;
        printf("%-*.*s%s", last ? 0 : (int)width[i % t->columns], SV_ARG(t->cells[i]),
               last ? "\n" : "   ");
    }
    free(t->cells);
    arena_free(&t->a);
}

const char *cli_sibling(const char *name, struct arena *a)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash, *path;

    if (n < 0)
        return NULL;
    self[n] = 0;
    slash = strrchr(self, '/');
    path = (char *)arena_printf(a, "%.*s/%s", (int)(slash - self), self, name).p;
    return access(path, X_OK) == 0 ? path : NULL;
}
