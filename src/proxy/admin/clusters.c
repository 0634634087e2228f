/* /clusters */
#include "proxy/admin/admin.h"

#include "proxy/server.h"
#include "upstream/upstream.h"

void admin_clusters(struct proxy_server *s, struct serve_request *r)
{
    struct strbuf b;
    bool json = sv_eq(serve_query(r, SV("format")), SV("json"));
    strbuf_init(&b, ADMIN_TEXT_MAX);
    if (json)
        cluster_manager_dump_json(proxy_server_clusters(s), &b);
    else
        cluster_manager_dump_text(proxy_server_clusters(s), &b);
    serve_reply_strbuf(r, 200, json ? ADMIN_JSON : ADMIN_TEXT, &b);
}
