/* What a line of an access log says, in a sentence that a person can act on.
 *
 *   line --live_parse--> fields --failure_find (table in failures.c)--> sentence, next action
 *                                     + objects behind route and cluster (files or control plane)
 *
 * Lines: Istio's text format, Envoy's default text format, and JSON with Istio's keys. A line is
 * data of strangers: bounded, printed with control characters taken out. Thread: main. */
#ifndef WEFT_CLI_LIVE_H
#define WEFT_CLI_LIVE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "base/sv.h"

/* "-" and what is missing is empty. Views of the line, or of the arena. */
struct live_line {
    sv start, method, path, protocol, code, flags, details, termination, transport, duration;
    sv authority, upstream, cluster, route, request_id;
    sv sni, wanted; /* whom the client wanted: server name, address */
    /* of the cluster's name "outbound|80|v1|host", or of the server name at the server's side */
    sv direction, subset, host;
    uint16_t port;
};

/* E_INVALID with a sentence for a line of another form. */
int live_parse(sv line, struct arena *a, struct live_line *out, struct error *err) MUST_CHECK;

/* One row of the table. What is empty in a row is not asked for. */
struct failure {
    const char *flag;      /* among the response flags */
    const char *details;   /* the response code details start so */
    const char *transport; /* part of the TLS or connect failure, in any case */
    /* "inbound": only at the server's own sidecar. "outside": of a host that is no Kubernetes
     * service. "made-up": to an address that the mesh gave to a service without one. Otherwise the
     * line's cluster, route or status code. */
    const char *where;
    const char *what, *todo; /* {field}s stand for the line's */
};
/* The first row that fits; never NULL: the last row takes what is left. */
const struct failure *failure_find(const struct live_line *l);
/* Nothing failed: 1xx to 3xx, or a connection that is no HTTP, without a flag that says otherwise.
 */
bool live_succeeded(const struct live_line *l);
bool live_is_http(const struct live_line *l);
/* Appends a text of the table with its fields. */
void failure_text(const char *text, const struct live_line *l, struct strbuf *out);

/* `weft explain --live`: line "-" reads standard input, each line. config, control: or NULL. */
int live_command(const char *line, const char *config, const char *control, const char *ns,
                 bool json, struct error *err);

#endif
