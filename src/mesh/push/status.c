/* What people ask the control plane: JSON for /debug and for the command line. */
#include "mesh/push/push_internal.h"

static void type_json(const struct push_stream *s, enum xds_type t, struct strbuf *out)
{
    struct ads_type_status st;
    const char *state;

    ads_session_status(s->session, t, &st);
    state = !st.subscribed ? "NOT SENT" : st.nack.n ? "NACK" : st.in_sync ? "SYNCED" : "STALE";
    strbuf_addf(out,
                "\"%s\":{\"state\":\"%s\",\"resources\":%u,\"sent\":%lu,\"acked\":%lu,"
                "\"nacked\":%lu",
                xds_type_short(t), state, st.resources, st.sent, st.acked, st.nacked);
    if (st.nack.n) {
        strbuf_add_c(out, ",\"nack\":");
        strbuf_add_json(out, st.nack);
    }
    strbuf_add_ch(out, '}');
}

static bool subscribed(const struct push_stream *s, enum xds_type t)
{
    struct ads_type_status st;
    ads_session_status(s->session, t, &st);
    return st.subscribed;
}

/* The agent beside an Envoy has a stream of its own, for names alone: with the proxy's it is one.
 */
static bool only_names(const struct push_stream *s)
{
    for (int t = 0; t < XDS_TYPES; t++) {
        if (t != XDS_NDS && subscribed(s, (enum xds_type)t))
            return false;
    }
    return subscribed(s, XDS_NDS);
}

/* Another stream of the same node: the agent's of a proxy (names), or a proxy's of an agent. */
static const struct push_stream *companion(const struct push *p, const struct push_stream *s,
                                           bool names)
{
    list_each (it, (struct list *)&p->streams) {
        const struct push_stream *o = container_of(it, struct push_stream, link);
        if (o != s && o->greeted && sv_eq(o->node_id, s->node_id) && only_names(o) == names)
            return o;
    }
    return NULL;
}

void push_status_json(const struct push *p, struct strbuf *out)
{
    bool first = true;

    strbuf_add_ch(out, '[');
    list_each (it, (struct list *)&p->streams) {
        const struct push_stream *s = container_of(it, struct push_stream, link);
        if (!s->greeted || (only_names(s) && companion(p, s, false)))
            continue;
        strbuf_add_c(out, first ? "{\"proxy\":" : ",{\"proxy\":");
        first = false;
        strbuf_add_json(out, s->node_id);
        strbuf_add_c(out, ",\"name\":");
        strbuf_add_json(out, s->proxy.workload);
        strbuf_add_c(out, ",\"namespace\":");
        strbuf_add_json(out, s->proxy.ns);
        strbuf_add_c(out, ",\"ip\":");
        strbuf_add_json(out, s->proxy.ip);
        strbuf_add_c(out, ",\"identity\":");
        strbuf_add_json(out, s->identity);
        for (int t = 0; t < XDS_TYPES; t++) {
            const struct push_stream *agent =
                t == XDS_NDS && !subscribed(s, XDS_NDS) ? companion(p, s, true) : NULL;
            strbuf_add_ch(out, ',');
            type_json(agent ? agent : s, (enum xds_type)t, out);
        }
        strbuf_add_ch(out, '}');
    }
    strbuf_add_c(out, "]\n");
}

static bool applied(const struct push_stream *s)
{
    return (s->step == STEP_NONE || s->step == STEP_LINGER) && ads_session_settled(s->session, ~0u);
}

bool push_applied(const struct push *p)
{
    bool all = !p->again;

    list_each (it, (struct list *)&p->streams) {
        const struct push_stream *s = container_of(it, struct push_stream, link);
        all = all && (!s->greeted || applied(s));
    }
    return all;
}

void push_progress_json(const struct push *p, struct strbuf *out)
{
    uint32_t total = 0, done = 0, refused = 0;

    list_each (it, (struct list *)&p->streams) {
        const struct push_stream *s = container_of(it, struct push_stream, link);
        bool nack = false;
        if (!s->greeted || (only_names(s) && companion(p, s, false)))
            continue;
        for (int t = 0; t < XDS_TYPES; t++) {
            struct ads_type_status st;
            ads_session_status(s->session, (enum xds_type)t, &st);
            nack |= st.nack.n > 0;
        }
        total++;
        refused += nack;
        done += applied(s);
    }
    strbuf_addf(out,
                "\"generation\":%lu,\"pending\":%s,\"proxies\":%u,\"applied\":%u,\"refused\":%u",
                p->m->generation, p->again ? "true" : "false", total, done, refused);
}

static void problem_json(void *arg, const struct model_problem *p)
{
    struct strbuf *out = arg;
    const struct {
        const char *key;
        sv value;
    } texts[] = {{"severity", p->severity == MODEL_ERROR ? SV("error") : SV("warning")},
                 {"kind", p->has_object ? sv_of(model_kind_name(p->kind)) : SV("")},
                 {"namespace", p->ns},
                 {"name", p->name},
                 {"file", p->file},
                 {"field", p->field},
                 {"code", p->code},
                 {"text", p->text}};

    strbuf_add_c(out, out->n > 1 ? ",{" : "{");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        strbuf_addf(out, "\"%s\":", texts[i].key);
        strbuf_add_json(out, texts[i].value);
        strbuf_add_ch(out, ',');
    }
    strbuf_addf(out, "\"line\":%u}", p->line);
}

void push_problems_json(const struct push *p, struct strbuf *out)
{
    strbuf_add_ch(out, '[');
    push_each_problem(p, problem_json, out);
    strbuf_add_c(out, "]\n");
}

static void endpoints_json(const struct model_endpoints *eps, struct strbuf *out)
{
    for (uint32_t i = 0; eps && i < eps->n; i++) {
        const struct model_endpoint *e = &eps->v[i];
        strbuf_add_c(out, i ? ",{\"address\":" : "{\"address\":");
        strbuf_add_json(out, e->address);
        strbuf_addf(out, ",\"port\":%u,\"healthy\":%s,\"tls\":%s,\"workload\":", e->port,
                    e->healthy ? "true" : "false", e->tls ? "true" : "false");
        strbuf_add_json(out, e->workload);
        strbuf_add_c(out, ",\"serviceAccount\":");
        strbuf_add_json(out, e->service_account);
        strbuf_add_c(out, ",\"labels\":{");
        for (uint32_t l = 0; l < e->labels.n; l++) {
            if (l)
                strbuf_add_ch(out, ',');
            strbuf_add_json(out, e->labels.v[l].key);
            strbuf_add_ch(out, ':');
            strbuf_add_json(out, e->labels.v[l].value);
        }
        strbuf_add_c(out, "}}");
    }
}

void push_registry_json(const struct push *p, struct strbuf *out)
{
    strbuf_add_ch(out, '[');
    for (uint32_t i = 0; i < p->m->n_services; i++) {
        const struct model_service *svc = p->m->service_list[i];
        strbuf_add_c(out, i ? ",{\"host\":" : "{\"host\":");
        strbuf_add_json(out, svc->host);
        strbuf_add_c(out, ",\"namespace\":");
        strbuf_add_json(out, svc->ns);
        strbuf_add_c(out, ",\"address\":");
        strbuf_add_json(out, svc->vip);
        strbuf_add_c(out, ",\"ports\":[");
        for (uint32_t k = 0; k < svc->spec->n_ports; k++) {
            const struct model_port *port = &svc->spec->ports[k];
            strbuf_addf(out, "%s{\"port\":%u,\"name\":", k ? "," : "", port->port);
            strbuf_add_json(out, port->name);
            strbuf_add_c(out, ",\"endpoints\":[");
            endpoints_json(model_endpoints_find(p->m, svc->host, port->port), out);
            strbuf_add_c(out, "]}");
        }
        strbuf_add_c(out, "]}");
    }
    strbuf_add_c(out, "]\n");
}
