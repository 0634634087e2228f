#include "upstream/address.h"

const struct envoy_Address *address_message(struct arena *a, const struct addr *from)
{
    struct envoy_Address *m = arena_new(a, struct envoy_Address);
    char text[ADDR_TEXT_MAX];
    if (from->sa.sa_family == AF_UNIX) {
        struct envoy_Pipe *p = arena_new(a, struct envoy_Pipe);
        p->path = arena_sv(a, addr_text(from, text));
        m->which_address = envoy_Address_pipe_tag;
        m->pipe = p;
        return m;
    }
    struct envoy_SocketAddress *s = arena_new(a, struct envoy_SocketAddress);
    s->address = arena_sv(a, addr_ip_text(from, text));
    s->which_port_specifier = envoy_SocketAddress_port_value_tag;
    s->port_value = addr_port(from);
    m->which_address = envoy_Address_socket_address_tag;
    m->socket_address = s;
    return m;
}
