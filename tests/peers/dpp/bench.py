"""Samples of projection determinantal point processes: ours beside DPPy's, on the same features.

DPPy's finite sampler gets orthonormal features (its own decomposition is not counted); ours is counted with and without making them
so. CPU-seconds of one thread, least of several samples. Continuous: DPPy's multivariate Jacobi ensemble at a = b = 0, which is Legendre's,
in two variables with its own order of the functions; ours with total degree, of about as many.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import h5py
import numpy as np


def cpu(work, seconds):
    """Least CPU time of one call, of as many as fit into some seconds."""
    best, end = float("inf"), time.monotonic() + seconds
    while True:
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
        if time.monotonic() > end:
            return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--convoke", type=pathlib.Path, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    try:
        from dppy.finite_dpps import FiniteDPP
        from dppy.multivariate_jacobi_ope import MultivariateJacobiOPE
    except ImportError as error:
        sys.exit(f"skipped: {error}")
    ours = args.convoke.parent / "examples" / "bench_dpp"
    cases = [(10_000, 100)] if args.quick else [(10_000, 100), (100_000, 200), (100_000, 500)]
    print(f"load {open('/proc/loadavg').read().strip()}, numpy {np.__version__}")
    print(f"{'atoms':>8} {'m':>5} {'DPPy GS':>10} {'GS_bis':>10} {'QR':>8} {'ours':>10} {'QR':>8} {'ratio':>8}")
    random = np.random.default_rng(1)
    for atoms, m in cases:
        features = random.standard_normal((atoms, m))
        start = time.process_time()
        q, _ = np.linalg.qr(features)
        qr = time.process_time() - start
        times = []
        for mode in ["GS", "GS_bis"]:
            dpp = FiniteDPP("correlation", projection=True, K_eig_dec=(np.ones(m), q))
            times.append(cpu(lambda: dpp.sample_exact(mode=mode, random_state=1), 2))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pool.h5")
            with h5py.File(path, "w") as file:
                file["features"] = features
            said = json.loads(subprocess.run([ours, "--json", "--pool", path], check=True, capture_output=True).stdout)
        ortho, sample = (case["cpu_s"] for case in said["cases"])
        ratio = min(times) / sample
        print(f"{atoms:>8} {m:>5} {times[0]:>9.3f}s {times[1]:>9.3f}s {qr:>7.2f}s {sample:>9.5f}s {ortho:>7.2f}s {ratio:>7.0f}x")
    m = 100 if args.quick else 496
    ensemble = MultivariateJacobiOPE(m, np.zeros((2, 2)))
    peer = cpu(lambda: ensemble.sample(random_state=1), 2)
    said = json.loads(subprocess.run([ours, "--json", "--only", "d = 2"], check=True, capture_output=True).stdout)
    case = next(c for c in said["cases"] if c["case"].startswith("total degree, d = 2,"))
    print(f"continuous, two variables: DPPy {peer:.3f} s (m = {m}), ours {case['cpu_s']:.5f} s (m = {case['m']})")
    print(f"load {open('/proc/loadavg').read().strip()}")


if __name__ == "__main__":
    main()
