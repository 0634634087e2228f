/* /stats, /stats/prometheus, POST /reset_counters */
#include "proxy/admin/admin.h"

#include <stdio.h>

#include "proxy/server_private.h"
#include "telemetry/stats.h"

void admin_stats(struct proxy_server *s, struct serve_request *r)
{
    struct stats_query q;
    struct error err = {0};
    if (stats_query_parse(r->head->path, &q, &err) < 0) {
        serve_reply_text(r, 400, "%s", err.msg);
        return;
    }
    struct strbuf b;
    strbuf_init(&b, ADMIN_TEXT_MAX);
    proxy_server_stats_update(s);
    stats_render(proxy_server_stats(s), &q, &b);
    if (q.format == STATS_FORMAT_PROMETHEUS)
        proxy_server_agent_metrics(s, &b);
    char type[128];
    sv t = stats_content_type(&q);
    snprintf(type, sizeof type, "%.*s", SV_ARG(t));
    stats_query_fini(&q);
    serve_reply_strbuf(r, 200, type, &b);
}

void admin_reset_counters(struct proxy_server *s, struct serve_request *r)
{
    stats_reset_counters(proxy_server_stats(s));
    serve_reply_text(r, 200, "OK\n");
}
