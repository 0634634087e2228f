/* A test's door to the runtime (tests/protos compares it with another implementation); not shipped.
 *
 *   pb_tool recode|tojson|fromjson
 *
 * Reads records until end of file: a line "full.type.Name LENGTH\n" and LENGTH bytes. Answers each
 * with a line "ok|error LENGTH\n" and LENGTH bytes: the packed form, the JSON, or the sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/pb.h"

static void answer(const char *word, sv v)
{
    printf("%s %zu\n", word, v.n);
    fwrite(v.p, 1, v.n, stdout);
    fflush(stdout);
}

static int convert(const char *mode, const struct pb_message *m, sv in, struct arena *a,
                   struct strbuf *out, struct error *err)
{
    const struct pb_json_opts json = {.snake_case = true};
    void *msg;
    int rc = strcmp(mode, "fromjson") == 0 ? pb_from_text(m, in, "input", a, NULL, &msg, err)
                                           : pb_decode(m, in, a, NULL, &msg, err);
    if (rc < 0)
        return rc;
    if (strcmp(mode, "tojson") == 0)
        pb_to_json(m, msg, &json, out);
    else
        pb_encode(m, msg, out);
    return 0;
}

int main(int argc, char **argv)
{
    char type[256];
    size_t n;
    while (argc == 2 && scanf("%255s %zu", type, &n) == 2 && getchar() == '\n') {
        struct error err = {0};
        struct arena a;
        struct strbuf out;
        char *in = malloc(n + 1);
        if (!in || fread(in, 1, n, stdin) != n)
            return 1;
        arena_init_malloc(&a);
        strbuf_init(&out, (size_t)1 << 28);
        const struct pb_message *m = pb_find(sv_of(type));
        if (!m)
            answer("error", SV("no such type"));
        else if (convert(argv[1], m, sv_make(in, n), &a, &out, &err) < 0)
            answer("error", sv_of(err.msg));
        else
            answer("ok", strbuf_sv(&out));
        strbuf_fini(&out);
        arena_free(&a);
        free(in);
    }
    return argc != 2;
}
