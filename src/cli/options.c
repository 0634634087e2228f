#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

static void usage(const char *text, const struct cli_option *o, size_t n)
{
    printf("usage: %s\n\n", text);
    for (size_t i = 0; i < n; i++) {
        char left[80];
        snprintf(left, sizeof left, "%s%s%s", o[i].name, o[i].value ? " " : "",
                 o[i].value ? o[i].value : "");
        printf("  %-28s %s\n", left, o[i].help);
    }
}

static int take(const struct cli_option *o, const char *value, struct error *err)
{
    if (o->many)
        return o->many(o->arg, value, err);
    *o->text = value;
    return 0;
}

int cli_options(const char *text, const struct cli_option *o, size_t n, int argc, char **argv,
                int *first, struct error *err)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *eq = strchr(argv[i], '=');
        size_t len = eq ? (size_t)(eq - argv[i]) : strlen(argv[i]), k = 0;
        int rc;
        if (!strcmp(argv[i], "--")) {
            i++;
            break;
        }
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            usage(text, o, n);
            return E_CANCELLED;
        }
        while (k < n && (strlen(o[k].name) != len || strncmp(o[k].name, argv[i], len) != 0))
            k++;
        if (k == n)
            return error_set(err, E_INVALID, "there is no option '%.*s' (--help lists them)",
                             (int)len, argv[i]);
        if (!o[k].value) {
            if (eq)
                return error_set(err, E_INVALID, "%s takes no value", o[k].name);
            *o[k].flag = true;
            continue;
        }
        if (!eq && i + 1 == argc)
            return error_set(err, E_INVALID, "%s needs a value: %s", o[k].name, o[k].value);
        rc = take(&o[k], eq ? eq + 1 : argv[++i], err);
        if (rc)
            return rc;
    }
    *first = i;
    return 0;
}

int cli_port(const char *text, uint16_t *out, struct error *err)
{
    uint64_t v;
    if (sv_to_u64(sv_of(text), &v) || v < 1 || v > 65535)
        return error_set(err, E_INVALID, "'%s' is no port (1 to 65535)", text);
    *out = (uint16_t)v;
    return 0;
}

int cli_percent(const char *text, const char *what, double *out, struct error *err)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0 && v <= 100))
        return error_set(err, E_INVALID, "%s: '%s' is no percentage (0 to 100)", what, text);
    *out = v;
    return 0;
}

int cli_u32(const char *text, const char *what, uint32_t *out, struct error *err)
{
    uint64_t v;
    if (sv_to_u64(sv_of(text), &v) || v > UINT32_MAX)
        return error_set(err, E_INVALID, "%s: '%s' is no number", what, text);
    *out = (uint32_t)v;
    return 0;
}
