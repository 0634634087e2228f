"""Which stats of weft-proxy and Envoy are held against each other, and which are not, with the reason."""
import re

SCOPES = ("cluster.", "listener.", "http.", "tcp.", "http_filter_name.", "vhost.", "http1.", "http2.", "tls_inspector.", "proxy_proto.", "listener_manager.",
          "cluster_manager.")
NOT_COMPARED = {
    r"^http\.admin\.|^listener\.admin\.": "how often the test asks",
    r"\.default\.total_match_count$": "a counter of Envoy's resource managers, in no documentation",
    r"\.(up|down)stream_cx_[rt]x_bytes_(total|buffered)$": "compressed headers have other lengths, buffers other bounds",
    r"\.upstream_flow_control_|\.downstream_flow_control_": "buffers have other bounds",
    r"^cluster_manager\.(cluster_updated|cluster_updated_via_merge|update_out_of_merge_window)$": "Envoy's merging of updates",
    r"\.remaining_cx_pools$": "of a limit that nobody set: numbers of other sizes",
    r"^http2\.goaway_sent$": "how many frames announce the end",
    r"\.rq_reset_after_downstream_response_started$": "Envoy counts gRPC alone",
    r"\.lb_healthy_panic$": "counted when a host is asked for, by Envoy also within subsets that are not used",
    r"\.lb_subsets_(active|created)$": "Envoy's main thread has the subsets, too (tests/e2e/test_balance.py counts them)",
    r"\.max_host_weight$": "Envoy leaves it 0 where endpoints are static",
    r"\.membership_change$": "Envoy counts each priority of a change",
    r"\.ssl\.certificate\.": "Envoy's own names of certificates",
    r"\.ssl\.ciphers\.": "of equal ciphers each library prefers another",
    r"nghttp2_(up|down)stream_connections$": "the name of Envoy's library",
    r"^http1\.(framing_error|trailers|invalid_header|smuggling_rejected)$|\.http[12]\.(framing_error|trailers)$": "weft-proxy alone has them",
    r"^http\.async-client\.": "Envoy's mirrors pass through a router of their own",
    r"\.downstream_cx_(destroy_(local|remote)|delayed_close_timeout)$": "client and proxy both close: who is first differs",
}
# weft-proxy builds a cluster on its first use (docs/life-of-a-config-change.md): before, it has no members and no stats.
UNUSED = re.compile(r"^(cluster\.[^.]+\.)membership_")


def compared(name, more=()):
    return name.startswith(SCOPES) and not any(re.search(p, name) for p in (*NOT_COMPARED, *more))


def unused(name, weft):
    m = UNUSED.match(name)
    return m and not any(n.startswith(m[1]) for n in weft)


def differing(case, weft, envoy):
    """Values at the end of a case; what a proxy does not show is 0."""
    more = case.get("stats_differ", {})
    return [f"{n}: weft {weft.get(n, 0)}, Envoy {envoy.get(n, 0)}" for n in sorted({*weft, *envoy})
            if compared(n, more) and weft.get(n, 0) != envoy.get(n, 0) and not unused(n, weft)]
