#include "main/agent_inside.h"

#include <stdio.h>

#define AGENT_CONFIG_MAX (4u << 20)

static int read_file(struct agent_inside *in, struct error *err)
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
    struct agent_inside *in = self;
    int rc = in->text.n ? 0 : read_file(in, err);
    if (rc < 0)
        return rc;
    struct agent_opts o = {.loop = l, .config = strbuf_sv(&in->text), .file = in->file};
    in->agent = agent_new(&o, err);
    return in->agent ? 0 : err->code ? err->code : E_INVALID;
}

static void agent_stop(void *self)
{
    struct agent_inside *in = self;
    agent_free(in->agent);
    in->agent = NULL;
}

static bool agent_ready(void *self)
{
    struct agent_inside *in = self;
    return identity_ready(agent_identity(in->agent));
}

/* Also asked when the agent does not run (--mode validate): its names are the same. */
static bool agent_has(void *self, sv name)
{
    struct agent_inside *in = self;
    return agent_has_secret(in->agent, name);
}

static void agent_wanted(void *self, struct tls_secret_store *st, sv name, sv config)
{
    struct agent_inside *in = self;
    agent_want(in->agent, st, name, config);
}

static void agent_unwanted(void *self, struct tls_secret_store *st, sv name, sv config)
{
    struct agent_inside *in = self;
    agent_unwant(in->agent, st, name, config);
}

static bool agent_names(void *self)
{
    struct agent_inside *in = self;
    return agent_wants_names(in->agent);
}

static int agent_names_came(void *self, sv packed, struct error *err)
{
    struct agent_inside *in = self;
    return agent_set_names(in->agent, packed, err);
}

static void agent_tell(void *self, struct strbuf *out)
{
    struct agent_inside *in = self;
    agent_metrics(in->agent, out);
}

void agent_inside_init(struct agent_inside *in, const char *file)
{
    *in = (struct agent_inside){.file = file};
    strbuf_init(&in->text, AGENT_CONFIG_MAX);
}

void agent_inside_fini(struct agent_inside *in)
{
    strbuf_fini(&in->text);
}

struct proxy_agent agent_inside_ops(struct agent_inside *in)
{
    return (struct proxy_agent){.start = agent_start,
                                .stop = agent_stop,
                                .ready = agent_ready,
                                .has_secret = agent_has,
                                .want = agent_wanted,
                                .unwant = agent_unwanted,
                                .wants_names = agent_names,
                                .set_names = agent_names_came,
                                .metrics = agent_tell,
                                .self = in};
}
