/* An ADS stream of the agent's own, for one type: the name table (NDS) of a workload whose proxy is
 * an Envoy, which does not pass it on. Reconnects with back-off (0.5 s doubling to 30 s, jittered).
 * Thread: main (owning loop). */
#ifndef WEFT_AGENT_NAMES_CLIENT_H
#define WEFT_AGENT_NAMES_CLIENT_H

#include "agent/identity.h"

struct weft_AgentConfig;

struct names_client;

struct names_client_opts {
    struct loop *loop;
    const struct identity *identity; /* shows who we are; ready when names_client_new is called */
    sv discovery_address;            /* "IP:PORT" */
    sv node_id, ns, service_account;
    const struct weft_AgentConfig *config; /* for the labels; outlives the client */
    uint32_t mark;
    /* A packed NameTable; an error refuses it (NACK with the sentence). */
    int (*on_names)(void *arg, sv packed, struct error *err);
    void *arg;
};
/* Copies the options. Never NULL. */
struct names_client *names_client_new(const struct names_client_opts *o);
void names_client_free(struct names_client *n); /* NULL is fine */

#endif
