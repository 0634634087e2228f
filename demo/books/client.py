"""An ordinary HTTP client. It reads jobs from standard input, one JSON object a line, and answers each with a
line: {"url": …, "headers": {…}} for one request, {"url": …, "count": N, "threads": N} for many."""
import collections
import concurrent.futures
import json
import sys
import urllib.request


def call(url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as r:
        return r.status, json.loads(r.read())


def one(job):
    try:
        status, body = call(job["url"], job.get("headers", {}))
        return {"status": status, "body": body}
    except Exception as e:  # whatever went wrong is the answer
        return {"error": repr(e)}


def many(job):
    seen, failed = collections.Counter(), []

    def work(_):
        try:
            return call(job["url"], job.get("headers", {}))[1]["version"]
        except Exception as e:
            failed.append(repr(e))

    with concurrent.futures.ThreadPoolExecutor(job.get("threads", 4)) as pool:
        for version in pool.map(work, range(job["count"])):
            seen[version] += 1
    seen.pop(None, None)
    return {"count": job["count"], "v1": seen["v1"], "v2": seen["v2"], "failed": len(failed), "errors": failed[:3]}


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(many(job) if "count" in job else one(job)), flush=True)
