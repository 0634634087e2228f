"""Runs a program inside a workload and says how it ended."""
import subprocess


def run(argv, timeout=100):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout)
    return {"code": p.returncode, "output": p.stdout[-8000:]}
