#include "mesh/serve/monitor.h"

#define PAGE_MAX (256u << 20)

static void metric(struct strbuf *s, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    strbuf_addf(s, "# HELP %s %s\n# TYPE %s %s\n%s %lu\n", name, help, name, type, name, value);
}

static void count_problem(void *arg, const struct model_problem *p)
{
    uint64_t *n = arg;
    n[p->severity == MODEL_ERROR ? 0 : 1]++;
}

static void metrics(struct monitor *m, struct strbuf *s)
{
    const struct push_counters *c = push_counters(m->push);
    const struct model *model = push_model(m->push);
    uint64_t problems[2] = {0, 0};

    push_each_problem(m->push, count_problem, problems);
    metric(s, "pilot_xds", "gauge", "Proxies connected.", c->proxies);
    metric(s, "pilot_services", "gauge", "Services known.", model->n_services);
    metric(s, "pilot_xds_pushes", "counter", "Changes sent to proxies.", c->pushes);
    metric(s, "pilot_total_xds_rejects", "counter", "Responses refused by proxies.", c->nacks);
    metric(s, "pilot_xds_connects_total", "counter", "Discovery streams accepted.", c->connects);
    metric(s, "pilot_xds_refused_total", "counter", "Discovery streams refused.",
           c->refused_streams);
    metric(s, "pilot_push_build_microseconds", "gauge", "Time of the last build.",
           c->last_build_us);
    metric(s, "weft_config_errors", "gauge", "Errors in the configuration now.", problems[0]);
    metric(s, "weft_config_warnings", "gauge", "Warnings in the configuration now.", problems[1]);
    metric(s, "citadel_server_success_cert_issuance_count", "counter", "Certificates issued.",
           ca_service_signed(m->certificates));
    metric(s, "citadel_server_authentication_failure_count", "counter",
           "Certificate requests refused.", ca_service_refused(m->certificates));
    metric(s, "citadel_server_root_cert_expiry_timestamp", "gauge",
           "When the signing certificate expires, seconds since 1970.",
           (uint64_t)ca_info(m->ca)->not_after_s);
}

static void config_json(const struct monitor *m, struct strbuf *s)
{
    strbuf_add_ch(s, '{');
    push_progress_json(m->push, s);
    strbuf_add_c(s, ",\"files\":");
    if (m->files)
        file_source_status_json(m->files, s);
    else
        strbuf_add_c(s, "[]");
    strbuf_add_c(s, "}\n");
}

static void page(void *user, struct serve_request *r)
{
    struct monitor *m = user;
    struct strbuf s;
    const char *type = "application/json";

    if (!sv_eq_c(r->method, "GET") && !sv_eq_c(r->method, "HEAD")) {
        serve_reply_text(r, 405, "only GET is known here\n");
        return;
    }
    strbuf_init(&s, PAGE_MAX);
    if (sv_eq_c(r->path, "/debug/syncz")) {
        push_status_json(m->push, &s);
    } else if (sv_eq_c(r->path, "/debug/configz")) {
        config_json(m, &s);
    } else if (sv_eq_c(r->path, "/debug/registryz")) {
        push_registry_json(m->push, &s);
    } else if (sv_eq_c(r->path, "/debug/problems")) {
        push_problems_json(m->push, &s);
    } else if (sv_eq_c(r->path, "/metrics")) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        metrics(m, &s);
    } else if (sv_eq_c(r->path, "/ready") && !*m->ready) {
        strbuf_fini(&s);
        serve_reply_text(r, 503, "workloads that ran before are still registering anew\n");
        return;
    } else if (sv_eq_c(r->path, "/ready")) {
        type = "text/plain";
        strbuf_add_c(&s, "ready\n");
    } else if (sv_eq_c(r->path, "/")) {
        type = "text/plain";
        strbuf_add_c(&s, "weft control\n\n"
                         "/debug/syncz      every proxy: what it has, what it refused and why\n"
                         "/debug/configz    files that were read, proxies that applied them\n"
                         "/debug/registryz  services and their endpoints\n"
                         "/debug/problems   what is wrong with the configuration\n"
                         "/metrics          Prometheus\n"
                         "/ready            for probes\n");
    } else {
        strbuf_fini(&s);
        serve_reply_text(r, 404, "no such page; / lists them\n");
        return;
    }
    serve_reply_strbuf(r, 200, type, &s);
}

void monitor_init(struct monitor *m, const struct push *p, const struct ca *ca,
                  const struct ca_service *certificates, const struct file_source *files,
                  const bool *ready)
{
    *m = (struct monitor){
        .push = p, .ca = ca, .certificates = certificates, .files = files, .ready = ready};
    serve_http_init(&m->http, page, m);
}
