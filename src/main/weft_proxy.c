/* weft-proxy: the data plane. Wiring only: src/proxy does the work. */
#include <stdio.h>

#include "base/log.h"
#include "proxy/options.h"
#include "proxy/server.h"

LOG_COMPONENT(main);

static int fail(const struct error *err)
{
    fprintf(stderr, "weft-proxy: %s\n", err->msg);
    return 1;
}

static int serve(const struct proxy_options *o)
{
    struct error err = {0};
    struct proxy_server *s = proxy_server_new(&(struct proxy_server_opts){.cli = o}, &err);
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
    if (o.mode != PROXY_VALIDATE)
        return serve(&o);
    if (proxy_server_validate(&o, &err) < 0)
        return fail(&err);
    printf("configuration '%s' OK\n", o.config_path ? o.config_path : "--config-yaml");
    return 0;
}
