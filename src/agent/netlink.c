#include "agent/netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
    struct nlmsghdr h;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg addr;
        struct rtmsg route;
    };
    char attrs[512];
};

static void start(struct request *r, uint16_t type, uint16_t flags, size_t body)
{
    memset(r, 0, sizeof *r);
    r->h.nlmsg_type = type;
    r->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    r->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
    r->h.nlmsg_seq = 1;
}

static struct rtattr *attr(struct request *r, uint16_t type, const void *p, size_t n)
{
    struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->h.nlmsg_len));

    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(n);
    if (n)
        memcpy(RTA_DATA(a), p, n);
    r->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->h.nlmsg_len) + RTA_ALIGN(a->rta_len));
    return a;
}

static void attr_end(struct request *r, struct rtattr *nest)
{
    nest->rta_len = (uint16_t)((char *)r + r->h.nlmsg_len - (char *)nest);
}

/* Sends and waits for the acknowledgement: 0 or -errno. */
static int talk(struct request *r)
{
    char answer[4096];
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), rc = -EIO;
    ssize_t n;

    if (fd < 0)
        return -errno;
    if (sendto(fd, r, r->h.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0) {
        rc = -errno;
    } else if ((n = recv(fd, answer, sizeof answer, 0)) >= (ssize_t)NLMSG_LENGTH(sizeof(int))) {
        const struct nlmsghdr *h = (const void *)answer;
        if (h->nlmsg_type == NLMSG_ERROR)
            rc = ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
    }
    close(fd);
    return rc;
}

static int result(int rc, struct error *err, const char *what, const char *name)
{
    if (rc == 0)
        return 0;
    return error_set(err, error_from_errno(-rc), "%s '%s': %s", what, name, strerror(-rc));
}

static int index_of(const char *name, int *out, struct error *err)
{
    unsigned i = if_nametoindex(name);
    if (!i)
        return error_set(err, E_NOT_FOUND, "network link '%s' does not exist", name);
    *out = (int)i;
    return 0;
}

int netlink_up(const char *name, struct error *err)
{
    struct request r;
    int index = 0, rc = index_of(name, &index, err);

    if (rc)
        return rc;
    start(&r, RTM_NEWLINK, 0, sizeof r.link);
    r.link.ifi_index = index;
    r.link.ifi_flags = r.link.ifi_change = IFF_UP;
    return result(talk(&r), err, "bring up link", name);
}

int netlink_bridge(const char *name, const uint8_t mac[6], struct error *err)
{
    struct request r;
    struct rtattr *info;

    start(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof r.link);
    attr(&r, IFLA_IFNAME, name, strlen(name) + 1);
    attr(&r, IFLA_ADDRESS, mac, 6);
    info = attr(&r, IFLA_LINKINFO, NULL, 0);
    attr(&r, IFLA_INFO_KIND, "bridge", 6);
    attr_end(&r, info);
    return result(talk(&r), err, "make bridge", name);
}

int netlink_veth(const char *name, const char *peer_name, int peer_ns_fd, struct error *err)
{
    struct request r;
    struct rtattr *info, *data, *peer;
    struct ifinfomsg peer_link = {0};
    uint32_t ns = (uint32_t)peer_ns_fd;

    start(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof r.link);
    attr(&r, IFLA_IFNAME, name, strlen(name) + 1);
    info = attr(&r, IFLA_LINKINFO, NULL, 0);
    attr(&r, IFLA_INFO_KIND, "veth", 4);
    data = attr(&r, IFLA_INFO_DATA, NULL, 0);
    peer = attr(&r, VETH_INFO_PEER, &peer_link, sizeof peer_link);
    attr(&r, IFLA_IFNAME, peer_name, strlen(peer_name) + 1);
    attr(&r, IFLA_NET_NS_FD, &ns, sizeof ns);
    attr_end(&r, peer);
    attr_end(&r, data);
    attr_end(&r, info);
    return result(talk(&r), err, "make veth pair", name);
}

int netlink_enslave(const char *name, const char *bridge, struct error *err)
{
    struct request r;
    int index = 0, master = 0, rc = index_of(name, &index, err);

    rc = rc ? rc : index_of(bridge, &master, err);
    if (rc)
        return rc;
    start(&r, RTM_NEWLINK, 0, sizeof r.link);
    r.link.ifi_index = index;
    attr(&r, IFLA_MASTER, &master, sizeof master);
    return result(talk(&r), err, "put under the bridge link", name);
}

int netlink_address(const char *name, const struct addr *a, uint8_t prefix, struct error *err)
{
    struct request r;
    bool v4 = a->sa.sa_family == AF_INET;
    const void *ip = v4 ? (const void *)&a->in4.sin_addr : (const void *)&a->in6.sin6_addr;
    size_t n = v4 ? 4 : 16;
    int index = 0, rc = index_of(name, &index, err);

    if (rc)
        return rc;
    start(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof r.addr);
    r.addr.ifa_family = (uint8_t)a->sa.sa_family;
    r.addr.ifa_prefixlen = prefix;
    r.addr.ifa_index = (uint32_t)index;
    attr(&r, IFA_LOCAL, ip, n);
    attr(&r, IFA_ADDRESS, ip, n);
    return result(talk(&r), err, "give an address to link", name);
}

int netlink_default_route(const struct addr *gateway, struct error *err)
{
    struct request r;
    bool v4 = gateway->sa.sa_family == AF_INET;
    const void *ip =
        v4 ? (const void *)&gateway->in4.sin_addr : (const void *)&gateway->in6.sin6_addr;

    start(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof r.route);
    r.route.rtm_family = (uint8_t)gateway->sa.sa_family;
    r.route.rtm_table = RT_TABLE_MAIN;
    r.route.rtm_protocol = RTPROT_BOOT;
    r.route.rtm_scope = RT_SCOPE_UNIVERSE;
    r.route.rtm_type = RTN_UNICAST;
    attr(&r, RTA_GATEWAY, ip, v4 ? 4 : 16);
    return result(talk(&r), err, "add route", "default");
}
