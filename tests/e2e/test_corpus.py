"""One corpus of Envoy bootstraps; what a client and the backends observe, what is logged and what is counted must be the
same through a real Envoy and through weft-proxy. A case is a document of corpus/*.yaml; see corpus/README.md."""
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import yaml
from meshtest import certs, corpus, corpus_stats, operators
from meshtest.scenario import differences

CASES = [c for f in sorted((Path(__file__).parent / "corpus").glob("*.yaml"))
         for c in yaml.safe_load_all(f.read_text()) if c]
for case in CASES:  # what a case does not say, the one that it is `like` does
    case.update({k: v for other in CASES if other["name"] == case.get("like") for k, v in other.items() if k not in case})
# Cases wait more than they work. On a busy machine, fewer at once.
AT_ONCE = int(os.environ.get("WEFT_CORPUS_AT_ONCE", "10"))


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = certs.Pki(tmp_path_factory.mktemp("pki"))
    for name in ("one", "two", "client", "backend"):
        made.leaf(name, dns=[f"{name}.test"], alt=["IP:10.9.8.7", f"email:{name}@test"])
    made.leaf("expired", days=0)
    made.crl("root", made.leaf("revoked"))
    other = certs.Pki(made.dir / "other", "another root")
    other.leaf("stranger")
    other.crl("root")
    made.names = {**made.pins("backend"), **made.pins("client"), "pki": str(made.dir)}
    return made


@pytest.fixture(scope="module")
def runs(request, pki, tmp_path_factory):
    """What came of a case through both; `again`: anew, for the so-manieth time. All chosen cases are under way from the start, any other runs when it is asked for."""
    folder = tmp_path_factory.mktemp("corpus")
    chosen = [i.callspec.params["case"] for i in request.session.items if getattr(i, "originalname", "") == "test_same_as_envoy"]
    chosen.sort(key=lambda c: not c.get("slow"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        first = {c["name"]: pool.submit(corpus.play, c, folder, pki) for c in chosen}

        def result(case, again):
            if again:  # by itself, when the others are through
                wait(first.values())
                return corpus.play(case, folder / f"again-{again}", pki)
            if case["name"] not in first:
                first[case["name"]] = pool.submit(corpus.play, case, folder, pki)
            return first[case["name"]].result()
        yield result
        pool.shutdown(cancel_futures=True)


def differing(a, b, path=""):
    """The paths at which two observations differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in sorted({*a, *b}) for d in differing(a.get(k), b.get(k), f"{path}.{k}" if path else k)]
    return [] if a == b else [f"{path}: weft {a!r}, Envoy {b!r}"]


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_same_as_envoy(case, runs):
    """Two proxies on a busy machine now and then differ by chance (a connection that came too late to be used again): what
    the configuration makes different is there again each time. What ends a run early is not asked twice."""
    bad = judged(case, *runs(case, again=False))
    for again in range(2):
        if not bad:
            break
        warnings.warn(f"{case['name']} was played again: " + "\n".join(bad), stacklevel=1)  # to be seen, also when it passes
        bad = judged(case, *runs(case, again=again + 1))
    assert not bad, "\n".join(["the third time:", *bad])


def judged(case, envoy, weft):
    requests, bad = case.get("requests", [{}]), []
    for r, want, got in zip(requests, envoy["steps"], weft["steps"]):
        if not r.get("differs"):  # a difference with its reason, kept in docs/differences.md
            bad += [f"{json.dumps(r)}: {d}" for d in differing(got, want)]
    if not any(r.get("differs") for r in requests) and not case.get("differs"):
        bad += [f"log: {d}" for d in logs_differ(case, weft["log"], envoy["log"])]
        bad += [f"access log: {d}" for d in differing(weft["access_log"], envoy["access_log"])]
        bad += [f"operators: {d}" for d in operators.differing(case, weft["operators"], envoy["operators"])]
        bad += [f"stats: {d}" for d in corpus_stats.differing(case, weft["stats"], envoy["stats"])]
    bad += problems(case, requests, envoy["steps"])
    return bad + [weft["output"][-2000:]] if bad else []


def logs_differ(case, weft, envoy):
    drop = set(case.get("log_differs", []))
    plain = {"flags": lambda v: sorted(v.split(","))}  # their order says nothing
    weft, envoy = ([{k: plain.get(k, str)(v) for k, v in line.items() if k not in drop} for line in lines] for lines in (weft, envoy))
    if case.get("unordered") or any({"parallel", "times"} & set(r) for r in case.get("requests", [])):
        weft, envoy = (sorted(lines, key=json.dumps) for lines in (weft, envoy))
    if len(weft) != len(envoy):
        return [f"weft {weft}, Envoy {envoy}"]
    return [f"line {i}: {d}" for i, (a, b) in enumerate(zip(weft, envoy)) for d in differing(a, b)]


def problems(case, requests, steps):
    """What is wrong about the case itself: Envoy does not do what it says."""
    out = [f"{json.dumps(r)}: Envoy: {s}" for r, s in zip(requests, steps) if not r.get("differs") and
           isinstance(s, dict) and (s.get("until", "came") != "came" or s.get("shares") or "takes" in s)]
    out += [f"{json.dumps(r)}: docs/differences.md has no entry {r['differs']}" for r in [*requests, case]
            if r.get("differs") and r["differs"] not in differences()]
    return out


# Of the table in docs/observability.md; no case makes these more than nothing.
NEVER = {"CUSTOM_FLAGS": "no filter sets any", "ROUNDTRIP_DURATION": "HTTP/3 only", "LOCAL_REPLY_BODY": "of the formats of local replies",
         "CONNECTION_TERMINATION_DETAILS": "in the plain log of all cases", "TRACE_ID": "test_access_log_operators.py", "SPAN_ID": "there, too",
         "DYNAMIC_METADATA": "substitution_test.c", "FILTER_STATE": "there, too", "DOWNSTREAM_TRANSPORT_FAILURE_REASON": "a TLS library's own words",
         "DOWNSTREAM_TLS_SESSION_ID": "resumption is by tickets", "UPSTREAM_TLS_SESSION_ID": "TLS 1.3"}


def test_every_operator_has_a_value(runs):
    """Every operator that is documented has a value in some case that logs them all (Envoy's value, to which weft's is compared above)."""
    cases = [c for c in CASES if "{operators}" in json.dumps(c)]
    seen = {k.partition("(")[0] for c in cases for line in runs(c, again=False)[0]["operators"] for k, v in line.items() if v not in (None, "", 0)}
    without = set(operators.table("operators")) - operators.OURS - seen
    assert without == set(NEVER), " ".join(sorted(without ^ set(NEVER)))


def test_corpus_is_large_enough():
    assert len(CASES) >= 40
    assert len({c["name"] for c in CASES}) == len(CASES)
