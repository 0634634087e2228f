/* weft-proxy: the data plane, with the workload's agent inside when --agent says so. Wiring only:
 * src/proxy and src/agent do the work, and do not know each other. */
#include <stdio.h>

#include "agent/agent.h"
#include "base/log.h"
#include "proxy/options.h"
#include "proxy/server.h"

LOG_COMPONENT(main);

#define AGENT_CONFIG_MAX (4u << 20)

/* ---- the agent, as the proxy sees one ---- */

struct inside {
    const char *file;
    struct strbuf text;
    struct agent *agent;
};

static int read_file(struct inside *in, struct error *err)
{
    char chunk[16384];
    size_t n;
    FILE *f = fopen(in->file, "re");
    if (!f)
        return error_set(err, E_IO, "--agent: %s cannot be read", in->file);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        strbuf_add(&in->text, chunk, n);
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad || in->text.overflow)
        return error_set(err, E_IO, "--agent: %s cannot be read to its end", in->file);
    return 0;
}

static int agent_start(void *self, struct loop *l, struct error *err)
{
    struct inside *in = self;
    int rc = read_file(in, err);
    if (rc < 0)
        return rc;
    struct agent_opts o = {.loop = l, .config = strbuf_sv(&in->text), .file = in->file};
    in->agent = agent_new(&o, err);
    return in->agent ? 0 : err->code ? err->code : E_INVALID;
}

static void agent_stop(void *self)
{
    struct inside *in = self;
    agent_free(in->agent);
    in->agent = NULL;
}

static bool agent_ready(void *self)
{
    struct inside *in = self;
    return identity_ready(agent_identity(in->agent));
}

/* Also asked when the agent does not run (--mode validate): its names are the same. */
static bool agent_has(void *self, sv name)
{
    struct inside *in = self;
    return agent_has_secret(in->agent, name);
}

static void agent_wanted(void *self, struct tls_secret_store *st, sv name, sv config)
{
    struct inside *in = self;
    agent_want(in->agent, st, name, config);
}

static void agent_unwanted(void *self, struct tls_secret_store *st, sv name, sv config)
{
    struct inside *in = self;
    agent_unwant(in->agent, st, name, config);
}

static bool agent_names(void *self)
{
    struct inside *in = self;
    return agent_wants_names(in->agent);
}

static int agent_names_came(void *self, sv packed, struct error *err)
{
    struct inside *in = self;
    return agent_set_names(in->agent, packed, err);
}

static void agent_tell(void *self, struct strbuf *out)
{
    struct inside *in = self;
    agent_metrics(in->agent, out);
}

/* ---- the program ---- */

static int fail(const struct error *err)
{
    fprintf(stderr, "weft-proxy: %s\n", err->msg);
    return 1;
}

static int serve(const struct proxy_options *o, const struct proxy_agent *agent)
{
    struct error err = {0};
    struct proxy_server *s =
        proxy_server_new(&(struct proxy_server_opts){.cli = o, .agent = agent}, &err);
    if (!s)
        return fail(&err);
    int status;
    if (o->mode == PROXY_INIT_ONLY)
        status = 0;
    else if (proxy_server_start(s, &err) < 0)
        status = fail(&err);
    else
        status = proxy_server_run(s);
    proxy_server_free(s);
    return status;
}

static int run(const struct proxy_options *o)
{
    struct inside in = {.file = o->agent_path};
    struct proxy_agent agent = {.start = agent_start,
                                .stop = agent_stop,
                                .ready = agent_ready,
                                .has_secret = agent_has,
                                .want = agent_wanted,
                                .unwant = agent_unwanted,
                                .wants_names = agent_names,
                                .set_names = agent_names_came,
                                .metrics = agent_tell,
                                .self = &in};
    const struct proxy_agent *with = o->agent_path ? &agent : NULL;
    struct error err = {0};
    strbuf_init(&in.text, AGENT_CONFIG_MAX);
    int status = 0;
    if (o->mode != PROXY_VALIDATE)
        status = serve(o, with);
    else if (proxy_server_validate(o, with, &err) < 0)
        status = fail(&err);
    else
        printf("configuration '%s' OK\n", o->config_path ? o->config_path : "--config-yaml");
    strbuf_fini(&in.text);
    return status;
}

int main(int argc, char **argv)
{
    struct proxy_options o;
    struct error err = {0};
    proxy_options_default(&o);
    int rc = proxy_options_parse(&o, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (rc == 0)
        rc = proxy_options_apply_logging(&o, &err);
    if (rc < 0)
        return fail(&err);
    return run(&o);
}
