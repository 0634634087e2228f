/* The table: response flags, details and TLS failures -> what happened, and what to do. The first
 * row that fits holds, so rows with more conditions stand first. */
#include <string.h>
#include "cli/live.h"

#define AT "{where}"

static const struct failure table[] = {
    /* ---- TLS, before what it caused ---- */
    {"", "", "CERTIFICATE_VERIFY_FAILED", "outside",
     "the certificate of " AT " was not accepted ({transport}): nobody whom the sidecar trusts has "
     "issued it, it is of another name, or it has expired",
     "set caCertificates (a file that the sidecar can read), sni and subjectAltNames of tls in the "
     "DestinationRule of {host}: openssl s_client -connect {upstream} -servername {host} shows the "
     "certificate"},
    {"", "", "verify SAN list", "outside",
     "the certificate of " AT " is of another name than the one that was expected ({transport})",
     "set sni and subjectAltNames of tls in the DestinationRule of {host}: openssl s_client "
     "-connect {upstream} -servername {host} shows the certificate"},
    /* between sidecars */
    {"", "", "certificate has expired", "",
     "the certificate of " AT " has ended: its sidecar could not renew it in time, because the "
     "control plane was out of its reach or the machine slept",
     "is the control plane up, and does it know that workload (weft proxy-status)? The sidecar's "
     "log says why it gets no certificate; once it does, it goes on by itself"},
    {"", "", "CERTIFICATE_EXPIRED", "",
     AT " refused the certificate of this sidecar, which has ended: it could not be renewed in "
        "time, because the control plane was out of reach or the machine slept",
     "is the control plane up? This sidecar's log says why it gets no certificate; once it does, "
     "it goes on by itself"},
    {"", "", "CERTIFICATE_VERIFY_FAILED", "",
     "the certificate of " AT " was not accepted ({transport}): its identity is none of those that "
     "may answer for {host}, or it is of another root or has expired",
     "compare the identity of that workload (weft proxy-config secret) with subjectAltNames of the "
     "DestinationRule of {host} and with the service accounts of its workloads"},
    {"", "", "verify SAN list", "",
     "the certificate of " AT " names another identity than those that may answer for {host}",
     "compare the workload's service account with subjectAltNames of the DestinationRule of "
     "{host}; if the workload moved to another account, its endpoint must have arrived at the "
     "client: weft proxy-status"},
    {"", "", "WRONG_VERSION_NUMBER", "",
     "the sidecar spoke TLS to " AT ", which answered in plain text",
     "that workload has no sidecar, or the port is left out of interception: set tls mode DISABLE "
     "in the DestinationRule of {host}, or give the workload a sidecar"},
    {"", "", "CERTIFICATE_REQUIRED", "", AT " wants a client certificate, and got none",
     "set tls mode ISTIO_MUTUAL (or MUTUAL with certificates) in the DestinationRule of {host}"},
    {"", "", "TLS error", "", "the TLS handshake with " AT " failed: {transport}",
     "look at tls of the DestinationRule of {host}, and whether the other side speaks TLS"},
    /* ---- no way to go ---- */
    {"NR", "filter_chain_not_found", "", "",
     "no filter chain of the listener takes this connection: neither its address, its server name "
     "nor its protocol fits",
     "is plain text sent where mTLS is strict? Otherwise compare the server name with the hosts of "
     "tls rules: weft proxy-config listeners"},
    {"NR", "", "", "inbound",
     "the server's sidecar has no route for '{authority}{path}' on this port",
     "is the port part of a Service that selects this workload? weft proxy-config listeners"},
    {"NR", "", "", "",
     "no route matches {method} {authority}{path}: the VirtualService of that host has rules, but "
     "none without conditions at its end, and none of them fits",
     "add a last rule without match, or correct the conditions: weft explain --config DIR shows "
     "which condition failed"},
    {"NC", "", "", "",
     "route {route} leads to {cluster}, which the sidecar does not have: host or subset is not "
     "defined",
     "define the Service, or the subset{subset_q} in the DestinationRule of {host}, or correct "
     "the VirtualService: weft analyze DIR"},
    {"UH", "", "", "BlackHoleCluster",
     "no Service or ServiceEntry that the sidecar knows takes a connection to {wanted}, and the "
     "outbound policy is REGISTRY_ONLY: it was closed",
     "add a ServiceEntry (for TLS with the server name as its host), or see whether egress.hosts "
     "of the Sidecar leave the host out; ALLOW_ANY lets everything through"},
    {"UH", "", "", "outside",
     "{service} has no endpoint that may be used: its name has no address, nothing is selected, or "
     "outlier detection has ejected all of them",
     "does the name resolve on this machine (getent hosts {host})? Compare endpoints and "
     "workloadSelector of the ServiceEntry: weft proxy-config endpoints"},
    {"UH", "", "", "",
     "{service} has no endpoint that may be used: none exists with the labels of the subset, none "
     "is ready, or outlier detection has ejected all of them",
     "start a workload with these labels, see why the ones there are not ready (weft proxy-config "
     "endpoints), or ease outlierDetection"},
    {"DF", "", "", "", "the name of {service} could not be resolved",
     "correct the host of the ServiceEntry, or the DNS server of the workload"},
    /* ---- limits ---- */
    {"UO", "", "", "",
     "{service} is at the limit of its connection pool (connections, pending requests, requests or "
     "retries), so the sidecar refused the request at once",
     "raise connectionPool of the DestinationRule of {host}, add endpoints, or call less"},
    {"RL", "", "", "", "a rate limit refused the request",
     "raise the limit of this route, or call less often"},
    {"RLSE", "", "", "",
     "the rate limit service did not answer, and without it requests are refused",
     "see to the rate limit service, or let requests pass when it fails"},
    {"OM", "", "", "", "the sidecar itself is short of memory or connections and sheds load",
     "raise its limits, or add replicas of the workload"},
    {"DO", "", "", "", "{service} drops a share of its requests, as its load assignment says",
     "this is intended overload protection: add endpoints or lower the share"},
    {"UDO", "", "", "", "{service} drops all requests, as its load assignment says",
     "remove the drop from the load assignment"},
    /* ---- time ---- */
    {"UT", "upstream_per_try_timeout", "", "",
     AT " did not answer within the time of one try (perTryTimeout), after {duration} ms in all",
     "raise retries.perTryTimeout of route {route}, or see why {service} is slow"},
    {"UT", "", "", "", AT " did not answer in time: the route gave up after {duration} ms",
     "raise timeout of route {route}, or see why {service} is slow"},
    {"UMSDR", "", "", "", "the request lasted longer than streams to {service} may",
     "raise maxStreamDuration or connectionPool.http.maxConnectionDuration"},
    {"DT", "", "", "", "the request or its connection lasted longer than allowed",
     "raise the maximum duration, or answer sooner"},
    {"SI", "", "", "", "nothing was sent or received for longer than the idle timeout",
     "raise the idle timeout for streams that are quiet, or send something"},
    /* ---- connections ---- */
    {"UF", "", "", "made-up",
     "{upstream} is the address that the mesh gave to a service, and that service has no {port}",
     "call one of its ports, or add this one to the Service or ServiceEntry: weft proxy-config "
     "listeners shows which port has which address"},
    {"UF", "", "", "PassthroughCluster",
     "no service of the mesh has the address {upstream}, so the connection was let through as it "
     "was, and was not accepted there {cause}",
     "is anything reachable there from this machine? A service of the mesh is called by its name "
     "and a port of its Service"},
    {"UF", "", "", "inbound",
     "the sidecar could not connect to its own application at " AT " {cause}",
     "is the application running, and does it listen on this port on the workload's address or on "
     "all of them (not only on 127.0.0.1)?"},
    {"UF", "", "Connection refused", "", "nobody listens at " AT ": the connection was refused",
     "is the application running, and is {port} the port it listens on? Compare targetPort of "
     "the Service with the application"},
    /* the same as an error number, as Envoy writes it */
    {"UF", "", "connect error: 111", "", "nobody listens at " AT ": the connection was refused",
     "is the application running, and is {port} the port it listens on? Compare targetPort of "
     "the Service with the application"},
    {"UF", "upstream_reset_before_response_started{connection_timeout", "", "",
     "no connection to " AT " within connectTimeout",
     "is the workload reachable (network policy, node)? Raise "
     "connectionPool.tcp.connectTimeout if it is just slow"},
    {"UF", "", "", "", "no connection to " AT " could be made {cause}",
     "is that workload running, and reachable on {port}? weft proxy-config endpoints shows its "
     "health; outlierDetection would take it out after a few failures"},
    {"UC", "", "", "", AT " closed the connection while the request was under way {cause}",
     "did the application end, crash or reach its keep-alive limit? Retries on reset,"
     "connect-failure hide this for requests that may be repeated"},
    {"UR", "", "", "", AT " reset the request {cause}",
     "see the application's log at that time; retryOn: reset repeats it"},
    {"LR", "", "", "", "the sidecar reset the request to " AT " {cause}",
     "see the sidecar's log; with HTTP/2 this may be a limit of streams or of headers"},
    {"UPE", "", "", "", AT " answered something that is not valid HTTP {cause}",
     "does the port speak the protocol that its name or appProtocol says?"},
    {"URX", "", "", "",
     "all tries were used up: {service} failed each time, the last one at " AT " {cause}",
     "see why its endpoints fail; more attempts only help against failures that pass"},
    /* ---- who called ---- */
    {"DC", "", "", "",
     "the client closed its connection after {duration} ms, before the answer was complete",
     "is the client's own time limit shorter than the time that {service} needs?"},
    {"DR", "", "", "", "the client reset the request after {duration} ms",
     "is the client's own time limit shorter than the time that {service} needs?"},
    {"DPE", "", "", "", "the client sent something that is not valid HTTP ({details})",
     "correct the client; if the port carries another protocol, name it so (appProtocol: tcp)"},
    {"IH", "", "", "", "a header x-envoy-… of the request has a value that is not valid",
     "correct or remove it"},
    /* ---- what was asked for ---- */
    {"FI", "", "", "", "route {route} has a fault that aborted the request on purpose",
     "remove fault.abort from that rule when the test is over"},
    {"UAEX", "", "", "", "the authorization service refused the request",
     "see what that service logged about it"},
    {"", "rbac_access_denied", "", "",
     "an authorization policy does not allow this request ({details})",
     "allow the client's identity, method and path in the policy that the details name"},
    {"", "jwt_authn", "", "", "the token of the request was not accepted ({details})",
     "send a token of the right issuer and audience that has not expired"},
    {"NFCF", "", "", "", "the configuration of a filter has not arrived",
     "see what was refused: weft proxy-status"},
    {"LH", "", "", "", "the sidecar fails its own health check and takes no requests",
     "see its log and /server_info"},
    /* ---- without a flag ---- */
    {"", "route_not_found", "", "", "no route matches {method} {authority}{path}",
     "add a last rule without match to its VirtualService: weft explain --config DIR"},
    {"", "misdirected_request", "", "",
     "{authority} has a TLS configuration of its own, and the connection was opened for another "
     "host",
     "the client must open a connection with the server name (SNI) of the host that it asks for"},
    {"", "cluster_not_found", "", "", "the sidecar has no cluster {cluster}",
     "define its host and subset: weft analyze DIR"},
    {"", "direct_response", "", "block_all",
     "no Service or ServiceEntry that the sidecar knows is '{authority}' on this port, and the "
     "outbound policy is REGISTRY_ONLY",
     "add a ServiceEntry with this host and port, or see whether egress.hosts of the Sidecar leave "
     "it out; ALLOW_ANY lets everything through"},
    {"", "direct_response", "", "", "route {route} itself answers {code}: nobody was asked",
     "this is what directResponse of that rule says"},
    {"", "request_payload", "", "", "the body of the request is larger than allowed",
     "raise the limit, or send less"},
    {"", "http1.", "", "", "the request is not valid HTTP/1.1 ({details})", "correct the client"},
    {"", "http2.", "", "", "the request is not valid HTTP/2 ({details})", "correct the client"},
    {"", "via_upstream", "", "503",
     "503 came from " AT ": the application there answered so, or the sidecar before it could not "
     "reach the application",
     "explain the line of that sidecar's log with request id {request_id}; without one it was the "
     "application. To try another endpoint on such answers, add retries.retryOn to the rule"},
    {"", "via_upstream", "", "",
     "the application at " AT " itself answered {code}: the mesh carried the request well",
     "look at the log of the application; to try another endpoint on such answers, add "
     "retries.retryOn to the rule"},
    {"", "", "", "", "the request ended with {code} ({details}, flags {flags})",
     "see the sidecar's log at that time"},
};

static bool has_flag(sv flags, sv want)
{
    sv one;

    while (flags.n) {
        sv_cut(flags, ',', &one, &flags);
        if (sv_eq(one, want))
            return true;
    }
    return false;
}

/* Part of v, in any case; log formats write '_' for a space. */
static bool contains(sv v, sv part)
{
    for (size_t i = 0; i + part.n <= v.n; i++) {
        size_t k = 0;
        while (k < part.n && (sv_eq_icase(sv_make(v.p + i + k, 1), sv_make(part.p + k, 1)) ||
                              (part.p[k] == ' ' && v.p[i + k] == '_')))
            k++;
        if (k == part.n)
            return true;
    }
    return false;
}

static bool stands(const char *where, const struct live_line *l)
{
    if (strcmp(where, "inbound") == 0)
        return sv_eq_c(l->direction, where);
    if (strcmp(where, "outside") == 0)
        return l->host.n && !contains(l->host, SV(".svc."));
    if (strcmp(where, "made-up") == 0)
        return sv_eq_c(l->cluster, "PassthroughCluster") && sv_starts(l->upstream, SV("240.240."));
    return sv_eq_c(l->cluster, where) || sv_eq_c(l->route, where) || sv_eq_c(l->code, where);
}

static bool fits(const struct failure *f, const struct live_line *l)
{
    return (!*f->flag || has_flag(l->flags, sv_of(f->flag))) &&
           (!*f->details || sv_starts(l->details, sv_of(f->details))) &&
           (!*f->transport || contains(l->transport, sv_of(f->transport)) ||
            contains(l->details, sv_of(f->transport))) &&
           (!*f->where || stands(f->where, l));
}

const struct failure *failure_find(const struct live_line *l)
{
    const struct failure *f = table;

    while (!fits(f, l))
        f++;
    return f;
}

bool live_is_http(const struct live_line *l)
{
    return l->method.n || !sv_eq_c(l->code, "0");
}

bool live_succeeded(const struct live_line *l)
{
    if (!live_is_http(l))
        return !l->flags.n && !l->details.n;
    return (!l->flags.n || sv_eq_c(l->flags, "DI")) && l->code.n == 3 && l->code.p[0] < '4' &&
           l->code.p[0] > '0';
}

/* ---- fields ---- */

/* Line breaks and escapes of a peer's text do not reach the terminal. */
static void add_clean(struct strbuf *out, sv v)
{
    for (size_t i = 0; i < v.n; i++)
        strbuf_add_ch(out, (unsigned char)v.p[i] < ' ' || v.p[i] == 127 ? '?' : v.p[i]);
}

static void add_or(struct strbuf *out, sv v, const char *otherwise)
{
    add_clean(out, v.n ? v : sv_of(otherwise));
}

static void add_service(struct strbuf *out, const struct live_line *l)
{
    if (!l->host.n) {
        add_or(out, l->cluster.n ? l->cluster : l->authority, "the service");
        return;
    }
    if (l->subset.n) {
        strbuf_add_c(out, "subset '");
        add_clean(out, l->subset);
        strbuf_add_c(out, "' of ");
    }
    add_clean(out, l->host);
}

static void add_field(sv name, const struct live_line *l, struct strbuf *out)
{
    sv cause = l->transport.n ? l->transport : l->details;

    if (sv_eq_c(name, "where")) {
        if (l->upstream.n) {
            strbuf_add_c(out, "endpoint ");
            add_clean(out, l->upstream);
            strbuf_add_c(out, " of ");
        }
        add_service(out, l);
    } else if (sv_eq_c(name, "service")) {
        add_service(out, l);
    } else if (sv_eq_c(name, "cause")) {
        strbuf_add_ch(out, '(');
        add_or(out, cause, "no details");
        strbuf_add_ch(out, ')');
    } else if (sv_eq_c(name, "subset_q")) {
        strbuf_addf(out, "%s", l->subset.n ? " '" : "");
        add_clean(out, l->subset);
        strbuf_addf(out, "%s", l->subset.n ? "'" : "");
    } else if (sv_eq_c(name, "port")) {
        ptrdiff_t colon = sv_rfind(l->upstream, ':');
        strbuf_add_c(out, "port ");
        add_or(out, colon < 0 ? (sv){NULL, 0} : sv_from(l->upstream, (size_t)colon + 1),
               "of the endpoint");
    } else {
        const struct {
            const char *name, *otherwise;
            sv value;
        } fields[] = {
            {"host", "the service", l->host.n ? l->host : l->authority},
            {"cluster", "a cluster", l->cluster},
            {"route", "(without name)", l->route},
            {"method", "", l->method},
            {"authority", "", l->authority},
            {"upstream", "the endpoint", l->upstream},
            {"wanted", "that address", l->sni.n ? l->sni : l->wanted},
            {"request_id", "(none)", l->request_id},
            {"path", "", l->path},
            {"code", "no status", l->code},
            {"details", "no details", l->details},
            {"flags", "none", l->flags},
            {"transport", "no reason given", l->transport.n ? l->transport : l->details},
            {"duration", "?", l->duration},
        };
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            if (sv_eq_c(name, fields[i].name))
                add_or(out, fields[i].value, fields[i].otherwise);
        }
    }
}

void failure_text(const char *text, const struct live_line *l, struct strbuf *out)
{
    while (*text) {
        size_t n = strcspn(text, "{");
        const char *end = text[n] ? strchr(text + n, '}') : NULL;
        strbuf_add(out, text, n);
        text += n;
        if (!end)
            break;
        add_field(sv_make(text + 1, (size_t)(end - text - 1)), l, out);
        text = end + 1;
    }
}
