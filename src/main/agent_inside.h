/* The agent inside a proxy's process, as the proxy sees one: src/proxy and src/agent do not know
 * each other, this wires them. Thread: main. */
#ifndef WEFT_MAIN_AGENT_INSIDE_H
#define WEFT_MAIN_AGENT_INSIDE_H

#include "agent/agent.h"
#include "proxy/server.h"

struct agent_inside {
    const char *file;   /* of the configuration, weft.v1.AgentConfig as JSON */
    struct strbuf text; /* what stands there; read when the agent starts, if it is empty */
    struct agent *agent;
};

/* file is borrowed. */
void agent_inside_init(struct agent_inside *in, const char *file);
void agent_inside_fini(struct agent_inside *in); /* after the proxy */
/* For proxy_server_opts.agent; valid as long as `in`. */
struct proxy_agent agent_inside_ops(struct agent_inside *in);

#endif
