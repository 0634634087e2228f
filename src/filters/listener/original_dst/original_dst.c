#include "filters/listener/original_dst/original_dst.h"

#include "api/envoy.pb.h"
#include "filters/context.h"

static int parse(const struct filter_ctx *x, sv packed, const void **config, struct error *err)
{
    return filter_decode(x, &envoy_OriginalDst_pb, packed, config, err);
}

/* Without a redirect the connection goes on with the address it came to (TPROXY keeps it there). */
static enum listener_status on_accept(const void *config, struct listener_accept *a)
{
    if (a->conn->local.sa.sa_family == AF_UNIX)
        return LISTENER_CONTINUE;
    if (conn_original_dst(a->conn) == 0 && !addr_eq(&a->conn->original_dst, conn_local(a->conn)))
        a->restored_dst = true;
    return LISTENER_CONTINUE;
}

const struct listener_filter_type listener_original_dst_type = {
    .name = "envoy.filters.listener.original_dst",
    .config_type = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    .parse = parse,
    .on_accept = on_accept,
};
