"""Whole jobs of `convoke run`: threads and ranks for FDK and total variation, and priors on k-space.

`jobs_bench.py --convoke target/release/convoke [--quick] [--rounds N]`. Seconds are those of the run's own clock, the least of the rounds;
the number of threads and ranks that a machine can show is that of its cores.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONE = """schema = 1
name = "fdk"
workload = "tomography"
[run]
device = "cpu"
[problem.phantom]
kind = "shepp-logan"
size = {n}
angles = {n}
arc_degrees = 360.0
[problem.geometry]
kind = "circular"
source_to_axis_mm = {axis}
source_to_detector_mm = {detector}
pixel_mm = 1.68
[problem.volume]
voxel_mm = 1.0
[problem.method]
"""
FDK = CONE + 'algorithm = "fdk"\n'
CGLS = CONE + 'algorithm = "cgls"\niterations = 20\nprojector = "{projector}"\n'
TV = """schema = 1
name = "tv"
workload = "tomography"
[run]
device = "cpu"
[problem.phantom]
kind = "foam"
size = {n}
rows = {slices}
angles = 60
photons = 1e4
[problem.method]
algorithm = "admm-tv"
iterations = 10
[problem.method.variation]
weight = 3e-4
"""
MRI = """schema = 1
name = "mri"
workload = "mri"
seed = 7
[run]
device = "cpu"
[problem.phantom]
kind = "ellipsoids"
size = 64
slices = 16
parts = 8
[problem.sampling]
kind = "random"
acceleration = 6.0
centre_fraction = 0.08
[problem.method]
"""
PRIORS = {
    "zero-filled": 'algorithm = "zero-filled"\n',
    "admm-tv": 'algorithm = "admm-tv"\niterations = 200\n[problem.method.variation]\nweight = {weight}\n',
    "dds": 'algorithm = "dds"\n[problem.method.diffusion]\nscale = 1.0\n',
}
# Total variation gets the best of these.
WEIGHTS = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--convoke", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--only", choices=["scaling", "pairs", "mri"], help="one part alone")
    arguments = parser.parse_args()
    parts = [arguments.only] if arguments.only else ["scaling", "pairs", "mri"]
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    if "scaling" in parts:
        scaling(arguments.convoke, 96 if arguments.quick else 256, rounds)
    if "pairs" in parts:
        pairs(arguments.convoke, 48 if arguments.quick else 128)
    if "mri" in parts:
        mri(arguments.convoke)


def run(convoke: Path, text: str, threads: int, ranks: int) -> tuple[dict, dict]:
    """The summary of a run, and the figures of its result."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        job, out = Path(folder) / "job.toml", Path(folder) / "run"
        job.write_text(text.replace("[run]\n", f"[run]\nthreads = {threads}\n"))
        command = [convoke, "run", job, "--dir", out, "--quiet", "--json", "-n", str(ranks)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
        with h5py.File(out / "result.h5") as file:
            figures = {name: float(value) for name, value in file["result"].attrs.items() if name == "psnr_db"}
        return json.loads(done.stdout), figures


def cone(n: int, text: str, **more) -> str:
    return text.format(n=n, axis=4.0 * n, detector=6.0 * n, **more)


def scaling(convoke: Path, n: int, rounds: int) -> None:
    cores = len(os.sched_getaffinity(0))
    counts = [k for k in [1, 2, 4, 8, 16, 32] if k <= cores]
    ways = [(threads, 1) for threads in counts]
    if shutil.which("mpirun"):
        ways += [(1, ranks) for ranks in counts[1:]]
    print(f"\nthreads and ranks on {cores} core(s); seconds of the run's clock, least of {rounds}; load {os.getloadavg()[0]:.1f}")
    print("job                                threads  ranks  seconds  times one")
    slices = n // 2
    for name, text in [
        (f"FDK, {n}^3, {n} views", cone(n, FDK)),
        (f"TV (ADMM), {slices} x {n}^2, 60 views", TV.format(n=n, slices=slices)),
    ]:
        alone = None
        for threads, ranks in ways:
            seconds = min(run(convoke, text, threads, ranks)[0]["seconds"] for _ in range(rounds))
            alone = alone or seconds
            print(f"{name:34} {threads:7} {ranks:6} {seconds:8.2f} {alone / seconds:10.2f}", flush=True)


def pairs(convoke: Path, n: int) -> None:
    print(f"\nCGLS-20 of exact cone projections of the head, {n}^3, {n} views, by both pairs of projectors")
    for projector in ["linear", "joseph"]:
        summary, figures = run(convoke, cone(n, CGLS, projector=projector), len(os.sched_getaffinity(0)), 1)
        print(f"{projector:8} {figures['psnr_db']:6.2f} dB {summary['seconds']:8.1f} s", flush=True)


def mri(convoke: Path) -> None:
    print("\nk-space of 16 slices of 64^2 of a head, a sixth of its lines: PSNR, dB, on the same data")
    threads = len(os.sched_getaffinity(0))
    for name, method in PRIORS.items():
        best = None
        for weight in WEIGHTS if "{weight}" in method else [None]:
            _, figures = run(convoke, MRI + method.format(weight=weight), threads, 1)
            best = max(best or (figures["psnr_db"], weight), (figures["psnr_db"], weight), key=lambda pair: pair[0])
        note = f"  (weight {best[1]:g}, the best of {len(WEIGHTS)})" if best[1] else ""
        print(f"{name:12} {best[0]:6.2f}{note}", flush=True)


if __name__ == "__main__":
    main()
