"""The command operators of docs/observability.md: which there are, what they take, and an access log of all of them.

`{operators}` in a corpus case is a file log with a field for every operator of the page's table, each with the arguments below; what is chance in any
proxy (times, ids, a temporary port) is told by its shape alone."""
import functools
import json
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs/observability.md"
ARGUMENTS = {"REQ": "(x?y):3", "REQ_WITHOUT_QUERY": "(x)", "QUERY_PARAM": "(x)", "RESP": "(x)", "TRAILER": "(x)", "COMMON_DURATION": "(DS_RX_BEG:DS_TX_END:us)",
             "DYNAMIC_METADATA": "(a:b)", "CLUSTER_METADATA": "(a:b)", "UPSTREAM_METADATA": "(a:b)", "METADATA": "(ROUTE:a:b)", "FILTER_STATE": "(a:PLAIN)",
             "ENVIRONMENT": "(HOME)", "CEL": "(request.path)", "TYPED_CEL": "(request.path)", "UPSTREAM_FILTER_STATE": "(a:PLAIN)", "PATH": "(NQ:ORIG)", "QUERY_PARAMS": "(DECODED)", "REQUEST_HEADER": "(x)", "RESPONSE_HEADER": "(x)", "RESPONSE_TRAILER": "(x)",
             "COALESCE": '({"operators":["PATH"]})'}
OURS = {"VIRTUAL_HOST_NAME"}  # Envoy has no such operator
EXTENSION = {"REQ_WITHOUT_QUERY"}  # Envoy: with its formatter extension only

FORMATTERS = [{"name": "envoy.formatter.req_without_query", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"}}]

# What is logged of an operator instead, where more is to be seen by it.
LOGGED = {"REQ": ["(x-log?:path):12", "(:METHOD)"], "REQ_WITHOUT_QUERY": ["(:PATH)"], "QUERY_PARAM": ["(x)"], "RESP": ["(x-backend)"], "TRAILER": ["(x-last)"], "REQUEST_HEADER": ["(:authority)"], "RESPONSE_HEADER": ["(:status)"], "RESPONSE_TRAILER": ["(x-last)"],
          "CLUSTER_METADATA": ["(log:text)", "(log)"], "UPSTREAM_METADATA": ["(log:text)", "(log:deep:n)"], "METADATA": ["(ROUTE:log:text)", "(VIRTUAL_HOST:log)", "(LISTENER:log:text)", "(LISTENER:log)"],
          "DYNAMIC_METADATA": ["(log:text)"], "FILTER_STATE": ["(log.state:PLAIN)"], "COMMON_DURATION": ["(DS_RX_BEG:DS_TX_END:us)", "(US_TX_BEG:US_RX_BEG:ns)"],
          "PATH": ["", "(NQ:ORIG)"], "QUERY_PARAMS": ["", "(DECODED)"], "START_TIME": ["", "(%s)"], "RESPONSE_CODE_DETAILS": ["", "(ALLOW_WHITESPACES)"],
          "GRPC_STATUS": ["", "(SNAKE_STRING)"], "DOWNSTREAM_PEER_CERT_V_START": ["(%Y)"], "UPSTREAM_PEER_CERT_V_START": ["(%Y)"]}
# Numbers and ids that are another's in every run; nothing is still nothing.
CHANCE = re.compile(r"DURATION|TIME|_ID$|_ID\(|CONNECTION_ID|REMOTE_PORT|UPSTREAM_LOCAL_PORT|IDS_ATTEMPTED|UPSTREAM_REMOTE_PORT|V_END|SESSION_ID|HOSTNAME|UNIQUE|CERT$")


@functools.cache
def table(head):
    rows = PAGE.read_text().partition(f"| {head} |")[2].partition("\n\n")[0]
    return re.findall(r"`([A-Z][A-Z0-9_]+)`", "\n".join(row.rpartition(" | ")[0] if head != "operators" else row for row in rows.splitlines()))


def call(name):
    return f"%{name}{ARGUMENTS.get(name, '')}%"


@functools.cache
def logged():
    """field -> format: all operators that Envoy has, too."""
    calls = {n: LOGGED.get(n, [ARGUMENTS.get(n, "")]) for n in table("operators") if n not in OURS}
    return {n + a: f"%{n}{a}%" for n, many in calls.items() for a in many}


def shape(value):
    return re.sub(r"[0-9]+", "N", re.sub(r"[0-9a-f]{8,}", "X", str(value))) if isinstance(value, str) else type(value).__name__


def comparable(line):
    plain = {k: v if v is None or not CHANCE.search(k) else shape(v) for k, v in json.loads(line).items()}
    for k in ("RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG"):  # their order says nothing
        plain[k] = ",".join(sorted(plain[k].split(",")))
    return plain


def differing(case, weft, envoy):
    """Of a line of one type and the same line of the other: fields that are not equal, but for those of the case's operators_differ."""
    weft, envoy = (sorted(lines, key=lambda x: x["ACCESS_LOG_TYPE"]) for lines in (weft, envoy))  # a listener's line may come early or late
    if len(weft) != len(envoy):
        return [f"weft has {len(weft)} lines, Envoy {len(envoy)}"]
    return [f"line {i} ({b.get('PATH')}): {k}: weft {a.get(k)!r}, Envoy {b[k]!r}" for i, (a, b) in enumerate(zip(weft, envoy)) for k in b
            if a.get(k) != b[k] and not any(re.fullmatch(p, k) for p in case.get("operators_differ", {}))]
