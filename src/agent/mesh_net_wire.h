/* Between the holder and its users: datagrams on a SOCK_SEQPACKET Unix socket, one answer a
 * request, descriptors beside them (SCM_RIGHTS). Private to mesh_net*.c. */
#ifndef WEFT_AGENT_MESH_NET_WIRE_H
#define WEFT_AGENT_MESH_NET_WIRE_H

#include "net/addr.h"

enum mesh_net_op { MESH_NET_HELLO = 1, MESH_NET_ADDRESS, MESH_NET_LISTEN };

struct mesh_net_request {
    int op;
    struct addr addr;
};
struct mesh_net_answer {
    int code; /* 0 or a weft error */
    struct addr addr;
    char text[200];
};

/* Runs the holder in this process until its last user is gone. ready_fd gets one byte once it
 * listens, or a sentence. Does not return. */
void mesh_net_holder_run(const char *dir, int ready_fd) __attribute__((noreturn));

int mesh_net_send(int fd, const void *p, size_t n, const int *fds, int n_fds);
/* Returns bytes, 0 at the end, or -errno; fds gets at most max descriptors (-1 for the rest). */
ssize_t mesh_net_recv(int fd, void *p, size_t n, int *fds, int max);

#define MESH_NET_BRIDGE "weft0"
#define MESH_NET_PREFIX 16
#define MESH_NET_BASE   "10.97.0.1"
/* The bridge's, the same for ever: locally administered, the address above in it. */
#define MESH_NET_BRIDGE_MAC                                                                        \
    {                                                                                              \
        0x02, 0x00, 0x0a, 0x61, 0x00, 0x01                                                         \
    }

#endif
