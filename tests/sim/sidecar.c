/* Proxies of a simulated mesh: see mesh.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "agent/bootstrap.h"
#include "agent/intercept.h"
#include "base/mem.h"
#include "mesh.h"
#include "net/resolver.h"
#include "telemetry/stats.h"

/* ---- texts ---- */

static uint32_t split_labels(const struct sidecar *s, struct bootstrap_label *v, uint32_t max)
{
    sv rest = sv_of(s->labels), one;
    uint32_t n = 0;
    while (rest.n && n < max) {
        if (!sv_cut(rest, ',', &one, &rest)) {
            one = rest;
            rest.n = 0;
        }
        if (sv_cut(one, '=', &v[n].key, &v[n].value))
            n++;
    }
    return n;
}

static void write_texts(struct sidecar *s, struct strbuf *boot)
{
    struct bootstrap_label labels[8];
    struct bootstrap b;
    strbuf_reset(&s->agent.text);
    strbuf_addf(&s->agent.text,
                "{\"ca_address\":\"" MESH_CONTROL_IP ":15012\",\"trust_domain\":\"cluster.local\","
                "\"namespace\":\"%s\",\"service_account\":\"%s\",\"socket_mark\":%u,",
                s->ns, s->name, INTERCEPT_MARK);
    if (s->certificate_s)
        strbuf_addf(&s->agent.text, "\"certificate_seconds\":%u,", s->certificate_s);
    plane_token(s->plane, s->ns, s->name, &s->agent.text);
    strbuf_add_ch(&s->agent.text, '}');
    bootstrap_init(&b);
    b.name = b.service_account = sv_of(s->name);
    b.ns = sv_of(s->ns);
    b.address = sv_of(s->ip);
    b.labels = labels;
    b.n_labels = split_labels(s, labels, 8);
    b.mesh = SV("sim");
    b.discovery_address = SV(MESH_CONTROL_IP ":15012");
    b.mark = INTERCEPT_MARK;
    b.roots = plane_roots(s->plane);
    bootstrap_json(&b, boot);
}

/* ---- life ---- */

void sidecar_start(struct sidecar *s, const char *bootstrap)
{
    static const uint16_t not_in[] = {15020, 15021, 15090, 0};
    struct error err = {0};
    struct strbuf boot;
    strbuf_init(&boot, 1 << 20);
    s->agent_ops = agent_inside_ops(&s->agent);
    s->loop = loop_new(sim_host(s->w->sim, s->ip));
    s->resolver = resolver_new_static(s->loop, s->hosts, s->n_hosts);
    if (s->plane) {
        sim_intercept(s->w->sim, s->ip, 15001, INTERCEPT_MARK, 15006, not_in);
        write_texts(s, &boot);
    } else {
        strbuf_add_c(&boot, bootstrap);
    }
    s->server =
        proxy_server_new(&(struct proxy_server_opts){.cli = s->cli,
                                                     .source = s->source,
                                                     .bootstrap = strbuf_sv(&boot),
                                                     .os = sim_host(s->w->sim, s->ip),
                                                     .loop = s->loop,
                                                     .concurrency = PROXY_NO_THREADS,
                                                     .resolver = s->resolver,
                                                     .agent = s->plane ? &s->agent_ops : NULL,
                                                     .no_signals = true},
                         &err);
    if (!s->server || proxy_server_start(s->server, &err) < 0) {
        fprintf(stderr, "proxy %s: %s\n", s->name, err.msg);
        abort();
    }
    strbuf_fini(&boot);
}

struct sidecar *sidecar_new_opts(struct world *w, const struct sidecar_opts *o)
{
    struct sidecar *s = mem_new(struct sidecar);
    s->w = w;
    s->plane = o->plane;
    s->certificate_s = o->certificate_s;
    s->cli = o->cli;
    s->source = o->source;
    s->hosts = o->hosts;
    s->n_hosts = o->n_hosts;
    snprintf(s->name, sizeof s->name, "%s", o->name);
    snprintf(s->ip, sizeof s->ip, "%s", o->ip);
    snprintf(s->ns, sizeof s->ns, "mesh");
    snprintf(s->labels, sizeof s->labels, "%s", o->labels ? o->labels : "");
    agent_inside_init(&s->agent, "agent.json");
    sidecar_start(s, o->bootstrap);
    return s;
}

struct sidecar *sidecar_new(struct world *w, struct plane *plane, const char *name, const char *ip,
                            const char *labels, const char *bootstrap)
{
    return sidecar_new_opts(
        w, &(struct sidecar_opts){
               .name = name, .ip = ip, .labels = labels, .plane = plane, .bootstrap = bootstrap});
}

static void drop_process(struct sidecar *s)
{
    proxy_server_free(s->server);
    s->server = NULL;
    resolver_free(s->resolver);
    world_bury(s->w, s->loop);
    s->loop = NULL;
}

/* The simulation turns the loop of a dead process no more; what the process held is freed in turns
 * of its own, which do not reach the network. */
void sidecar_died(struct sidecar *s)
{
    if (!s->server)
        return;
    proxy_server_stop(s->server);
    for (int i = 0; i < 20 && !proxy_server_ended(s->server); i++)
        loop_turn(s->loop, 0);
    loop_turn(s->loop, 0);
    drop_process(s);
}

static bool has_ended(void *arg)
{
    return proxy_server_ended(((struct sidecar *)arg)->server);
}

/* The end of a server takes some turns of its loop. */
static void end_well(struct sidecar *s)
{
    proxy_server_stop(s->server);
    if (!sim_run_while(s->w->sim, has_ended, s, 10 * SIM_SECOND))
        world_violation(s->w, "%s does not end", s->name);
    world_run_ms(s->w, 1);
    drop_process(s);
}

void sidecar_free(struct sidecar *s)
{
    if (!s)
        return;
    if (s->server)
        end_well(s);
    agent_inside_fini(&s->agent);
    free(s);
}

bool sidecar_ready(const struct sidecar *s)
{
    return s->server && proxy_server_ready(s->server);
}

/* ---- stats ---- */

uint64_t sidecar_stat(const struct sidecar *s, const char *name)
{
    uint64_t v = 0;
    return s->server && stats_find(proxy_server_stats(s->server), sv_of(name), &v) ? v : 0;
}

struct sum {
    sv begin, end;
    uint64_t v;
};

static void add_up(void *arg, enum stat_kind kind, sv name, uint64_t value, sv text, bool used)
{
    struct sum *m = arg;
    if (sv_starts(name, m->begin) && sv_ends(name, m->end))
        m->v += value;
}

uint64_t sidecar_stat_sum(const struct sidecar *s, const char *begin, const char *end)
{
    struct sum m = {sv_of(begin), sv_of(end), 0};
    if (s->server)
        stats_each(proxy_server_stats(s->server), add_up, &m);
    return m.v;
}
