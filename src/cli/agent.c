#include "agent/agent.h"

#include <signal.h>
#include <stdio.h>
#include "base/log.h"
#include "cli/cli.h"

#define CONFIG_MAX (4u << 20)

static void on_signal(int signo, void *arg)
{
    (void)signo;
    loop_stop(arg);
}

static int read_config(const char *path, struct strbuf *out, struct error *err)
{
    char chunk[65536];
    FILE *f = fopen(path, "re");
    size_t n;

    while (f && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        strbuf_add(out, chunk, n);
    if (!f || ferror(f))
        error_set(err, E_IO, "%s cannot be read", path);
    if (f)
        fclose(f);
    return err->code ? err->code : out->overflow ? E_LIMIT : 0;
}

int cmd_agent(int argc, char **argv)
{
    const char *config = NULL, *level_name = "info";
    const struct cli_option options[] = {
        {"--config", "FILE", "weft.v1.AgentConfig as JSON", &config},
        {"--log-level", "LEVEL", "trace, debug, info, warning, error", &level_name},
    };
    struct error err = {0};
    enum log_level level;
    struct strbuf text;
    struct agent *a = NULL;
    struct loop *l;
    int first, rc = cli_options("weft agent --config FILE [OPTIONS]", options, 2, argc, argv,
                                &first, &err);

    if (rc == E_CANCELLED)
        return 0;
    if (!rc && !config)
        rc = error_set(&err, E_INVALID, "--config FILE is missing");
    if (!rc && log_level_parse(sv_of(level_name), &level))
        rc = error_set(&err, E_INVALID, "--log-level: '%s' is no level", level_name);
    if (rc) {
        fprintf(stderr, "weft agent: %s\n", err.msg);
        return 2;
    }
    log_set_level(NULL, level);
    strbuf_init(&text, CONFIG_MAX);
    l = loop_new(NULL);
    rc = read_config(config, &text, &err);
    if (!rc) {
        a = agent_new(
            &(struct agent_opts){
                .loop = l, .config = strbuf_sv(&text), .file = config, .own_ads = true},
            &err);
        rc = a ? 0 : err.code;
    }
    if (!rc) {
        loop_on_signal(l, SIGTERM, on_signal, l);
        loop_on_signal(l, SIGINT, on_signal, l);
        signal(SIGPIPE, SIG_IGN);
        loop_run(l);
    }
    agent_free(a);
    loop_free(l);
    strbuf_fini(&text);
    if (rc)
        fprintf(stderr, "weft agent: %s\n", err.msg);
    return rc ? 1 : 0;
}
