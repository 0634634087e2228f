/* weft-proxy: the data plane, with the workload's agent inside when --agent says so. Wiring only:
 * src/proxy and src/agent do the work, and do not know each other. */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "main/agent_inside.h"
#include "proxy/options.h"
#include "proxy/server.h"
#include "tls/tls_mem.h"

LOG_COMPONENT(main);

static int fail(const struct error *err)
{
    fprintf(stderr, "weft-proxy: %s\n", err->msg);
    return 1;
}

static int serve(const struct proxy_options *o, const struct proxy_agent *agent)
{
    struct error err = {0};
    mem_reserve_init();
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
    struct agent_inside in;
    agent_inside_init(&in, o->agent_path);
    struct proxy_agent agent = agent_inside_ops(&in);
    const struct proxy_agent *with = o->agent_path ? &agent : NULL;
    struct error err = {0};
    int status = 0;
    if (o->mode != PROXY_VALIDATE)
        status = serve(o, with);
    else if (proxy_server_validate(o, with, &err) < 0)
        status = fail(&err);
    else
        printf("configuration '%s' OK\n", o->config_path ? o->config_path : "--config-yaml");
    agent_inside_fini(&in);
    return status;
}

int main(int argc, char **argv)
{
    struct proxy_options o;
    tls_mem_init();
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
