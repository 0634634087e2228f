#include "proxy/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

enum kind {
    K_TEXT,
    K_U32,
    K_BOOL,
    K_MODE,
    K_STRATEGY,
    K_IP,
    K_LEVEL,
    K_NONE_TEXT,
    K_NONE_BOOL,
    K_HELP,
    K_VERSION,
    K_HOT_VERSION
};

struct flag {
    const char *name; /* after "--" */
    char letter;
    uint8_t kind;
    uint16_t offset;
    const char *help; /* NULL: means nothing here */
};

#define AT(field) offsetof(struct proxy_options, field)

static const struct flag flags[] = {
    {"config-path", 'c', K_TEXT, AT(config_path), "configuration: a bootstrap in JSON or YAML"},
    {"config-yaml", 0, K_TEXT, AT(config_yaml), "a bootstrap in YAML, merged over --config-path"},
    {"concurrency", 0, K_U32, AT(concurrency), "worker threads (default: one a processor)"},
    {"log-level", 'l', K_LEVEL, AT(log_level),
     "trace, debug, info, warning, error, critical, off (default: info)"},
    {"component-log-level", 0, K_TEXT, AT(component_log_level),
     "levels of components: upstream:debug,config:trace"},
    {"log-path", 0, K_TEXT, AT(log_path), "log to this file instead of standard error"},
    {"service-node", 0, K_TEXT, AT(service_node), "node id, if the bootstrap has none"},
    {"service-cluster", 0, K_TEXT, AT(service_cluster), "node cluster, if the bootstrap has none"},
    {"service-zone", 0, K_TEXT, AT(service_zone), "zone, if the bootstrap has none"},
    {"mode", 0, K_MODE, AT(mode), "serve, validate (check the configuration and exit), init_only"},
    {"drain-time-s", 0, K_U32, AT(drain_time_s),
     "how long connections may take to end when a listener goes (default: 600)"},
    {"drain-strategy", 0, K_STRATEGY, AT(drain_immediately),
     "gradual (default) or immediate: whether peers are told one by one"},
    {"allow-unknown-static-fields", 0, K_BOOL, AT(allow_unknown_static),
     "let unknown fields of the bootstrap pass"},
    {"allow-unknown-fields", 0, K_BOOL, AT(allow_unknown_static), "the same"},
    {"reject-unknown-dynamic-fields", 0, K_BOOL, AT(reject_unknown_dynamic),
     "refuse unknown fields of dynamic resources (the default here)"},
    {"ignore-unknown-dynamic-fields", 0, K_BOOL, AT(ignore_unknown_dynamic),
     "let unknown fields of dynamic resources pass"},
    {"file-flush-interval-msec", 0, K_U32, AT(file_flush_ms),
     "how often access logs are written (default: 10000)"},
    {"local-address-ip-version", 0, K_IP, AT(local_address_v6), "v4 (default) or v6"},
    {"admin-address-path", 0, K_TEXT, AT(admin_address_path),
     "file that gets the address of the admin endpoint"},
    {"agent", 0, K_TEXT, AT(agent_path),
     "run the workload's agent as this file says (certificates, DNS; weft only)"},
    {"cpuset-threads", 0, K_BOOL, AT(cpuset_threads),
     "count only the processors this process may use (always so here)"},
    {"help", 'h', K_HELP, 0, "this text"},
    {"version", 0, K_VERSION, 0, "the version"},
    {"hot-restart-version", 0, K_HOT_VERSION, 0, "\"disabled\""},
    /* Accepted, so that what launches Envoy launches this; without meaning here. */
    {"base-id", 0, K_U32, AT(base_id), NULL},
    {"base-id-path", 0, K_NONE_TEXT, 0, NULL},
    {"use-dynamic-base-id", 0, K_BOOL, AT(use_dynamic_base_id), NULL},
    {"disable-hot-restart", 0, K_BOOL, AT(disable_hot_restart), NULL},
    {"restart-epoch", 0, K_U32, AT(restart_epoch), NULL},
    {"parent-shutdown-time-s", 0, K_U32, AT(parent_shutdown_time_s), NULL},
    {"skip-hot-restart-on-no-parent", 0, K_NONE_BOOL, 0, NULL},
    {"skip-hot-restart-parent-stats", 0, K_NONE_BOOL, 0, NULL},
    {"socket-path", 0, K_NONE_TEXT, 0, NULL},
    {"socket-mode", 0, K_NONE_TEXT, 0, NULL},
    {"log-format", 0, K_TEXT, AT(log_format), NULL},
    {"log-format-escaped", 0, K_BOOL, AT(log_format_escaped), NULL},
    {"log-stacktrace-single-entry", 0, K_NONE_BOOL, 0, NULL},
    {"enable-fine-grain-logging", 0, K_NONE_BOOL, 0, NULL},
    {"enable-mutex-tracing", 0, K_NONE_BOOL, 0, NULL},
    {"enable-core-dump", 0, K_NONE_BOOL, 0, NULL},
    {"skip-deprecated-logs", 0, K_NONE_BOOL, 0, NULL},
    {"file-flush-min-size-kb", 0, K_NONE_TEXT, 0, NULL},
};
#define N_FLAGS (sizeof flags / sizeof flags[0])

/* ---- help ---- */

static void print_help(void)
{
    printf("usage: weft-proxy -c FILE [flags]\n\nThe data plane of weft. Flags and configuration "
           "are Envoy's.\n\n");
    for (size_t i = 0; i < N_FLAGS; i++) {
        const struct flag *f = &flags[i];
        if (!f->help)
            continue;
        char name[64];
        if (f->letter)
            snprintf(name, sizeof name, "-%c, --%s", f->letter, f->name);
        else
            snprintf(name, sizeof name, "    --%s", f->name);
        printf("  %-36s %s\n", name, f->help);
    }
    printf("\nAccepted, and without meaning here:\n ");
    for (size_t i = 0; i < N_FLAGS; i++)
        if (!flags[i].help)
            printf(" --%s", flags[i].name);
    printf("\n");
}

/* ---- reading ---- */

void proxy_options_default(struct proxy_options *o)
{
    memset(o, 0, sizeof *o);
    o->log_level = LOG_INFO;
    o->log_level_text = "info";
    o->drain_time_s = 600;
    o->parent_shutdown_time_s = 900;
    o->file_flush_ms = 10000;
}

static const struct flag *find(const char *arg, const char **value)
{
    bool is_long = arg[1] == '-';
    const char *name = arg + (is_long ? 2 : 1), *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    *value = eq ? eq + 1 : NULL;
    for (size_t i = 0; i < N_FLAGS; i++)
        if (is_long ? strlen(flags[i].name) == n && !strncmp(flags[i].name, name, n)
                    : n == 1 && flags[i].letter == name[0])
            return &flags[i];
    return NULL;
}

static bool has_value(const struct flag *f)
{
    switch (f->kind) {
    case K_BOOL:
    case K_NONE_BOOL:
    case K_HELP:
    case K_VERSION:
    case K_HOT_VERSION:
        return false;
    default:
        return true;
    }
}

static int wrong(const struct flag *f, const char *value, struct error *err)
{
    return error_set(err, E_INVALID, "--%s: '%s' is not a value it can have", f->name, value);
}

static int store(struct proxy_options *o, const struct flag *f, const char *value,
                 struct error *err)
{
    char *at = (char *)o + f->offset;
    uint64_t n;
    switch (f->kind) {
    case K_TEXT:
        *(const char **)at = value;
        return 0;
    case K_U32:
        if (sv_to_u64(sv_of(value), &n) < 0 || n > UINT32_MAX)
            return wrong(f, value, err);
        *(uint32_t *)at = (uint32_t)n;
        return 0;
    case K_BOOL:
        *(bool *)at = true;
        return 0;
    case K_MODE:
        if (!strcmp(value, "serve"))
            o->mode = PROXY_SERVE;
        else if (!strcmp(value, "validate"))
            o->mode = PROXY_VALIDATE;
        else if (!strcmp(value, "init_only"))
            o->mode = PROXY_INIT_ONLY;
        else
            return wrong(f, value, err);
        return 0;
    case K_STRATEGY:
        if (strcmp(value, "gradual") && strcmp(value, "immediate"))
            return wrong(f, value, err);
        o->drain_immediately = value[0] == 'i';
        return 0;
    case K_IP:
        if (strcmp(value, "v4") && strcmp(value, "v6"))
            return wrong(f, value, err);
        o->local_address_v6 = value[1] == '6';
        return 0;
    case K_LEVEL:
        if (log_level_parse(sv_of(value), &o->log_level) < 0)
            return wrong(f, value, err);
        o->log_level_text = value;
        return 0;
    default:
        return 0;
    }
}

static int say(const struct flag *f)
{
    if (f->kind == K_HELP)
        print_help();
    else if (f->kind == K_VERSION)
        printf("weft-proxy  version: %s\n", WEFT_VERSION);
    else if (f->kind == K_HOT_VERSION)
        printf("disabled\n");
    else
        return 0;
    return 1;
}

int proxy_options_parse(struct proxy_options *o, int argc, char **argv, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        const char *value;
        if (argv[i][0] != '-' || !argv[i][1])
            return error_set(err, E_INVALID, "unexpected argument '%s' (see --help)", argv[i]);
        if (!strcmp(argv[i], "--"))
            return i + 1 < argc ? error_set(err, E_INVALID, "unexpected argument '%s'", argv[i + 1])
                                : 0;
        const struct flag *f = find(argv[i], &value);
        if (!f)
            return error_set(err, E_INVALID, "unknown flag '%s' (see --help)", argv[i]);
        if (say(f))
            return 1;
        if (!has_value(f)) {
            if (value && strcmp(value, "true"))
                return error_set(err, E_INVALID, "--%s takes no value", f->name);
        } else if (!value) {
            if (++i == argc)
                return error_set(err, E_INVALID, "--%s needs a value", f->name);
            value = argv[i];
        }
        int rc = store(o, f, value, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int proxy_options_apply_logging(const struct proxy_options *o, struct error *err)
{
    if (o->log_path && log_open(o->log_path) < 0)
        return error_set(err, E_IO, "--log-path: cannot open '%s'", o->log_path);
    log_set_level(NULL, o->log_level);
    sv rest = sv_of(o->component_log_level), one, name, level;
    while (rest.n) {
        enum log_level l;
        sv_cut(rest, ',', &one, &rest);
        if (!sv_cut(one, ':', &name, &level) || log_level_parse(level, &l) < 0)
            return error_set(err, E_INVALID, "--component-log-level: '%.*s' is not NAME:LEVEL",
                             SV_ARG(one));
        char *text = sv_dup(name);
        log_set_level(text, l); /* components of Envoy that are not here are no error */
        free(text);
    }
    return 0;
}
