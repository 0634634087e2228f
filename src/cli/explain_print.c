/* struct explained for people and for programs. */
#include "cli/explain.h"

/* ---- text ---- */

static void place(struct strbuf *s, const struct explain_place *p)
{
    strbuf_addf(s, "%.*s %.*s/%.*s", SV_ARG(p->kind), SV_ARG(p->ns), SV_ARG(p->name));
    if (p->file.n)
        strbuf_addf(s, " (%.*s:%u)", SV_ARG(p->file), p->line);
}

static void client(struct strbuf *s, const struct explained *x)
{
    strbuf_addf(s, "from          %.*s", SV_ARG(x->proxy.ns));
    if (x->proxy.workload.n)
        strbuf_addf(s, "/%.*s", SV_ARG(x->proxy.workload));
    for (uint32_t i = 0; i < x->proxy.labels.n; i++)
        strbuf_addf(s, "%s%.*s=%.*s", i ? "," : " with labels ", SV_ARG(x->proxy.labels.v[i].key),
                    SV_ARG(x->proxy.labels.v[i].value));
    if (x->proxy.workload.n && !x->proxy_found)
        strbuf_add_c(s, " (no such workload in these files: rules for its labels are not applied)");
    strbuf_add_ch(s, '\n');
}

static void trail(struct strbuf *s, sv lines)
{
    sv line;

    while (lines.n) {
        sv_cut(lines, '\n', &line, &lines);
        strbuf_addf(s, "              %.*s\n", SV_ARG(line));
    }
}

static void decision(struct strbuf *s, const struct explained *x)
{
    strbuf_add_c(s, "service       ");
    if (x->service.kind.n)
        place(s, &x->service);
    else
        strbuf_addf(s, "none has the host '%.*s'", SV_ARG(x->host));
    strbuf_addf(s, "\nlistener      %.*s\n", SV_ARG(x->listener));
    if (x->trail.n) {
        strbuf_addf(s, "routes        %.*s\n", SV_ARG(x->route_config));
        trail(s, x->trail);
    } else if (x->tcp) {
        strbuf_add_c(s, "routes        none: the sidecar sees a connection here, not requests\n");
    }
    if (x->virtual_service.kind.n) {
        strbuf_add_c(s, "decided by    ");
        place(s, &x->virtual_service);
        strbuf_addf(s, "\nrule          %.*s", SV_ARG(x->route));
        if (x->rule.file.n)
            strbuf_addf(s, ": %.*s (%.*s:%u)", SV_ARG(x->rule_field), SV_ARG(x->rule.file),
                        x->rule.line);
        strbuf_add_ch(s, '\n');
    } else if (x->route.n) {
        strbuf_add_c(s, x->service.kind.n
                            ? "decided by    no VirtualService: the default of the service\n"
                            : "decided by    the outbound policy: no object has this host\n");
    }
    strbuf_addf(s, "action        %.*s\n", SV_ARG(x->action));
    if (x->filters.n)
        strbuf_addf(s, "filters       %.*s\n", SV_ARG(x->filters));
}

static void retry_words(struct strbuf *s, uint32_t on)
{
    static const char *const words[] = {
#define X(id, text) text,
        ROUTE_RETRY_ON(X)
#undef X
    };
    bool any = false;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!(on & (1u << i)))
            continue;
        strbuf_addf(s, "%s%s", any ? "," : "", words[i]);
        any = true;
    }
}

static void limits(struct strbuf *s, const struct explained *x)
{
    const struct route *r = x->found;

    if (x->kind != ROUTE_FORWARD || !r)
        return;
    strbuf_add_c(s, "timeout       ");
    if (r->timeout_ms)
        strbuf_addf(s, "%llu ms", (unsigned long long)r->timeout_ms);
    else
        strbuf_add_c(s, "none");
    strbuf_add_c(s, "\nretries       ");
    if (r->retry) {
        strbuf_addf(s, "%u on ", r->retry->has_num_retries ? r->retry->num_retries : 1);
        retry_words(s, r->retry->retry_on);
        if (r->retry->per_try_timeout_ms)
            strbuf_addf(s, ", %llu ms each", (unsigned long long)r->retry->per_try_timeout_ms);
    } else {
        strbuf_add_c(s, "none");
    }
    strbuf_add_ch(s, '\n');
}

static void endpoint(struct strbuf *s, const struct explained_endpoint *e)
{
    strbuf_addf(s, "  endpoint    %.*s %.*s", SV_ARG(e->address), SV_ARG(e->health));
    if (e->workload.n)
        strbuf_addf(s, " %.*s", SV_ARG(e->workload));
    if (e->locality.n)
        strbuf_addf(s, " in %.*s", SV_ARG(e->locality));
    if (e->priority)
        strbuf_addf(s, " priority %u", e->priority);
    strbuf_addf(s, "%s\n", e->mtls ? " (sidecar)" : " (no sidecar)");
}

static void destination(struct strbuf *s, const struct explained_destination *d)
{
    strbuf_addf(s, "%s %.*s  %.4g %%\n", d->mirror ? "mirror       " : "to           ",
                SV_ARG(d->cluster), d->percent);
    if (!d->known)
        strbuf_add_c(s, "  problem     the sidecar has no such cluster: 503 (NC)\n");
    if (d->rule.kind.n) {
        strbuf_add_c(s, "  rule        ");
        place(s, &d->rule);
        if (d->subset_at.kind.n)
            strbuf_addf(s, ", subset '%.*s' at %.*s:%u", SV_ARG(d->subset),
                        SV_ARG(d->subset_at.file), d->subset_at.line);
        strbuf_add_ch(s, '\n');
    }
    if (d->tls.n)
        strbuf_addf(s, "  TLS         %.*s\n", SV_ARG(d->tls));
    for (uint32_t i = 0; i < d->n_identities; i++)
        strbuf_addf(s, "  expects     %.*s\n", SV_ARG(d->identities[i]));
    for (uint32_t i = 0; i < d->n_endpoints; i++)
        endpoint(s, &d->endpoints[i]);
    if (d->listed && !d->n_endpoints)
        strbuf_add_c(
            s, "  problem     no endpoint in these files: 503 (UH) as long as none registers\n");
}

void explain_text(const struct explained *x, struct strbuf *s)
{
    strbuf_addf(s, "request       %.*s %.*s://%.*s:%u%.*s\n", SV_ARG(x->method), SV_ARG(x->scheme),
                SV_ARG(x->host), x->port, SV_ARG(x->path));
    client(s, x);
    decision(s, x);
    limits(s, x);
    for (uint32_t i = 0; i < x->n_destinations; i++)
        destination(s, &x->destinations[i]);
}

/* ---- JSON ---- */

static void key(struct strbuf *s, const char *name)
{
    char last = s->n ? s->p[s->n - 1] : '{';

    if (last != '{' && last != '[')
        strbuf_add_ch(s, ',');
    strbuf_addf(s, "\"%s\":", name);
}

static void text(struct strbuf *s, const char *name, sv v)
{
    key(s, name);
    strbuf_add_json(s, v);
}

static void number(struct strbuf *s, const char *name, double v)
{
    key(s, name);
    strbuf_addf(s, "%.10g", v);
}

static void flag(struct strbuf *s, const char *name, bool v)
{
    key(s, name);
    strbuf_add_c(s, v ? "true" : "false");
}

static void place_json(struct strbuf *s, const char *name, const struct explain_place *p)
{
    key(s, name);
    if (!p->kind.n) {
        strbuf_add_c(s, "null");
        return;
    }
    strbuf_add_ch(s, '{');
    text(s, "kind", p->kind);
    text(s, "namespace", p->ns);
    text(s, "name", p->name);
    text(s, "file", p->file);
    number(s, "line", p->line);
    strbuf_add_ch(s, '}');
}

static void endpoints_json(struct strbuf *s, const struct explained_destination *d)
{
    key(s, "endpoints");
    strbuf_add_ch(s, '[');
    for (uint32_t i = 0; i < d->n_endpoints; i++) {
        const struct explained_endpoint *e = &d->endpoints[i];
        strbuf_add_c(s, i ? ",{" : "{");
        text(s, "address", e->address);
        text(s, "workload", e->workload);
        text(s, "health", e->health);
        text(s, "locality", e->locality);
        number(s, "priority", e->priority);
        number(s, "weight", e->weight);
        flag(s, "sidecar", e->mtls);
        strbuf_add_ch(s, '}');
    }
    strbuf_add_ch(s, ']');
}

static void destination_json(struct strbuf *s, const struct explained_destination *d)
{
    strbuf_add_c(s, s->p[s->n - 1] == '[' ? "{" : ",{");
    text(s, "cluster", d->cluster);
    text(s, "host", d->host);
    number(s, "port", d->port);
    text(s, "subset", d->subset);
    number(s, "percent", d->percent);
    flag(s, "mirror", d->mirror);
    flag(s, "known", d->known);
    place_json(s, "destinationRule", &d->rule);
    place_json(s, "subsetAt", &d->subset_at);
    text(s, "tls", d->tls);
    key(s, "identities");
    strbuf_add_ch(s, '[');
    for (uint32_t i = 0; i < d->n_identities; i++) {
        if (i)
            strbuf_add_ch(s, ',');
        strbuf_add_json(s, d->identities[i]);
    }
    strbuf_add_ch(s, ']');
    endpoints_json(s, d);
    strbuf_add_ch(s, '}');
}

static void limits_json(struct strbuf *s, const struct route *r)
{
    number(s, "timeoutMs", (double)r->timeout_ms);
    key(s, "retries");
    if (!r->retry) {
        strbuf_add_c(s, "null");
        return;
    }
    strbuf_add_ch(s, '{');
    number(s, "attempts", r->retry->has_num_retries ? r->retry->num_retries : 1);
    key(s, "on");
    strbuf_add_ch(s, '"');
    retry_words(s, r->retry->retry_on);
    strbuf_add_ch(s, '"');
    number(s, "perTryTimeoutMs", (double)r->retry->per_try_timeout_ms);
    strbuf_add_ch(s, '}');
}

static void trail_json(struct strbuf *s, sv lines)
{
    sv line;

    key(s, "steps");
    strbuf_add_ch(s, '[');
    for (bool first = true; lines.n; first = false) {
        sv_cut(lines, '\n', &line, &lines);
        if (!first)
            strbuf_add_ch(s, ',');
        strbuf_add_json(s, line);
    }
    strbuf_add_ch(s, ']');
}

void explain_json(const struct explained *x, struct strbuf *s)
{
    strbuf_add_ch(s, '{');
    text(s, "method", x->method);
    text(s, "scheme", x->scheme);
    text(s, "host", x->host);
    number(s, "port", x->port);
    text(s, "path", x->path);
    text(s, "namespace", x->proxy.ns);
    text(s, "workload", x->proxy.workload);
    flag(s, "workloadFound", x->proxy_found);
    place_json(s, "service", &x->service);
    text(s, "listener", x->listener);
    text(s, "routeConfiguration", x->route_config);
    trail_json(s, x->trail);
    place_json(s, "virtualService", &x->virtual_service);
    text(s, "route", x->route);
    place_json(s, "rule", &x->rule);
    text(s, "field", x->rule_field);
    text(s, "action", x->action);
    text(s, "filters", x->filters);
    if (x->kind == ROUTE_FORWARD && x->found)
        limits_json(s, x->found);
    key(s, "destinations");
    strbuf_add_ch(s, '[');
    for (uint32_t i = 0; i < x->n_destinations; i++)
        destination_json(s, &x->destinations[i]);
    strbuf_add_c(s, "]}\n");
}
