"""Tomography beside other programs, in one run.

Parallel beams of 256^3 voxels, 180 angles, 256 columns, then cone beams (cone_bench.py), whole jobs on threads and ranks and priors on k-space
(jobs_bench.py), stripes and priors of few views (examples bench_rings, bench_prior).

`bench.py --convoke target/release/convoke [--built DIR] [--quick] [--rounds N] [--json FILE]`, with
`cargo build --release -p convoke-kernels --example bench_projector` done before, and DIR holding the program that
`cargo build --release --manifest-path tests/peers/tomography/tomoxide/Cargo.toml` makes.

Counts CPU-seconds (user and system), which a loaded machine disturbs less than the clock. Each round measures every
program once, one after the other; figures are medians over the rounds, ratios medians of each round's ratio.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PEERS = {"ASTRA line": "astra-toolbox", "ASTRA linear": "astra-toolbox", "scikit-image": "scikit-image"}
# Its algorithms all make the same thing from the same data: FBP.
TOMOXIDE = "tomoxide"
WIDTH, N_ANGLES = 256, 180
# The page's best of LEAP (built by hand, it is not in the registries), GUPS per core.
LEAP = {"forward": 0.697, "back": 0.970}
JOB = """schema = 1
name = "fbp"
workload = "tomography"
[run]
threads = 1
device = "cpu"
[problem.phantom]
kind = "shepp-logan"
size = {width}
rows = {slices}
angles = {angles}
[problem.method]
algorithm = "fbp"
filter = "ram-lak"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--convoke", type=Path, required=True, help="the program, with examples/ beside it")
    parser.add_argument("--built", type=Path, metavar="DIR", help="has peers that cargo builds; without it, none")
    parser.add_argument("--quick", action="store_true", help="64 slices, one round")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--parallel-only", action="store_true", help="leave out what follows parallel beams")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every measurement of every round")
    arguments = parser.parse_args()
    slices = 64 if arguments.quick else 256
    n_rounds = arguments.rounds or (1 if arguments.quick else 3)
    # A round's share of the slices, scaled up: their cost is proportional to the slices.
    peer_slices = {peer: 2 if peer == "scikit-image" else -(-slices // n_rounds) for peer in PEERS}
    tomoxide = arguments.built and arguments.built / TOMOXIDE
    if tomoxide and not tomoxide.exists():
        sys.exit(f"{tomoxide} is not there: build it, or leave out --built")

    print(f"{slices} slices of {WIDTH}^2, {N_ANGLES} angles, {WIDTH} columns; one thread; {n_rounds} round(s)")
    for peer, package in PEERS.items():
        print(f"{peer}: {package} {importlib.metadata.version(package)}, {peer_slices[peer]} slices a round, scaled")
    if tomoxide:
        print(f"tomoxide: {tomoxide_version()}, all slices each round; built with the processor's own instructions")
    else:
        print("tomoxide: left out, it was not built")
    loads, rounds = [], []
    for number in range(n_rounds):
        loads.append(os.getloadavg()[0])
        print(f"round {number + 1}, load {loads[-1]:.1f}", file=sys.stderr)
        rounds.append(measure(arguments.convoke, slices, peer_slices, tomoxide))
    loads.append(os.getloadavg()[0])

    print(f"load average of a minute, before and after the rounds: {', '.join(f'{load:.1f}' for load in loads)}")
    tables(rounds, updates=slices * WIDTH**2 * N_ANGLES)
    hardware(rounds, slices)
    if arguments.json:
        arguments.json.write_text(json.dumps({"slices": slices, "loads": loads, "rounds": rounds}, indent=1))
    if not arguments.parallel_only:
        beyond(arguments.convoke, arguments.quick)


def beyond(convoke: Path, quick: bool) -> None:
    """The other benchmarks of tomography, each as a program of its own; what is not there is said."""
    examples = convoke.parent / "examples"
    few = ["--quick"] if quick else []
    sizes = ["--size", "96", "--views", "96", "--rounds", "1"] if quick else []
    objects = "2" if quick else "6"
    prior = ["objects=" + objects, "methods=dds,admm-tv", "data=matched"]
    for title, program, command in [
        ("cone beams", examples / "bench_cone", [sys.executable, "-B", HERE / "cone_bench.py", "--example", examples / "bench_cone", *sizes]),
        ("whole jobs", convoke, [sys.executable, "-B", HERE / "jobs_bench.py", "--convoke", convoke, *few]),
        ("stripes", examples / "bench_rings", [examples / "bench_rings"]),
        ("priors, 8 views", examples / "bench_prior", [examples / "bench_prior", *prior]),
    ]:
        print(f"\n# {title}", flush=True)
        if not program.exists():
            print(f"skipped: {program} was not built")
        elif title == "cone beams" and importlib.util.find_spec("itk") is None:
            print("skipped: this Python has no RTK (itk-rtk)")
        elif subprocess.run(command).returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed")


def tomoxide_version() -> str:
    lock = tomllib.loads((HERE / "tomoxide/Cargo.lock").read_text())
    return next(package["version"] for package in lock["package"] if package["name"] == "tomoxide")


def measure(convoke: Path, slices: int, peer_slices: dict, tomoxide: Path | None) -> dict:
    """One round: {code: {"cpu_seconds": {operation: seconds for all slices}, "peak_memory": bytes}}."""
    sizes = [str(n) for n in [slices, WIDTH, N_ANGLES]]
    example = convoke.parent / "examples" / "bench_projector"
    threads = [json.loads(line) for line in output([example, *sizes, "--json"]).splitlines()]
    seconds = {name: times["cpu_seconds"] for name, times in threads[0]["operations"].items()}
    memory = threads[0]["peak_memory"]
    results = {"threads": threads}
    for code, footprint in [("Convoke joseph", "joseph"), ("Convoke linear", "linear")]:
        own = {name: seconds[f"{footprint} {name}"] for name in ["forward", "back"]}
        results[code] = {"cpu_seconds": own, "peak_memory": memory}
    results["Convoke linear"]["cpu_seconds"]["fbp"] = seconds["fbp"]
    results["convoke run"] = whole_job(convoke, slices)
    for peer, n in peer_slices.items():
        command = [sys.executable, "-B", HERE / "peer.py", peer, *sizes[1:], str(n)]
        results[peer] = json.loads(output(command))
        times = results[peer]["cpu_seconds"]
        times.update({name: time * slices / n for name, time in times.items()})
    if tomoxide:
        measured = json.loads(output([tomoxide, *sizes[1:], sizes[0]]))
        for name, time in measured["cpu_seconds"].items():
            results[f"tomoxide {name}"] = {"cpu_seconds": {"fbp": time}, "peak_memory": measured["peak_memory"]}
    return results


def whole_job(convoke: Path, slices: int) -> dict:
    """`convoke run` from the job file to the result: makes exact projections, filters, back-projects, compares, writes."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "fbp.toml"
        job.write_text(JOB.format(width=WIDTH, slices=slices, angles=N_ANGLES))
        command = [convoke, "run", job, "--dir", Path(folder) / "run", "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(map(str, command))} failed")
    return {"cpu_seconds": {"fbp": usage.ru_utime + usage.ru_stime}, "peak_memory": usage.ru_maxrss * 1024}


def output(command: list) -> str:
    """Standard output of a command that runs on one thread unless it asks for more."""
    one = {name: "1" for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"]}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | one).stdout


def tables(rounds: list, updates: int) -> None:
    """A table for each operation; ours first, which the others' times are divided by."""
    own = {"forward": "Convoke joseph", "back": "Convoke joseph", "fbp": "Convoke linear"}
    for operation, ours in own.items():
        print(f"\n{operation:19}  CPU-s  GUPS per core  times ours  peak MB")
        for code in rounds[0]:
            if code == "threads" or operation not in rounds[0][code]["cpu_seconds"]:
                continue
            each = [r[code]["cpu_seconds"][operation] for r in rounds]
            ratio = median(r[code]["cpu_seconds"][operation] / r[ours]["cpu_seconds"][operation] for r in rounds)
            memory = median(r[code]["peak_memory"] for r in rounds) / 1e6
            seconds = median(each)
            print(f"{code:19} {seconds:6.2f} {updates / seconds / 1e9:14.3f} {ratio:11.2f} {memory:8.0f}")
        if operation in LEAP:
            gups = updates / median(r[ours]["cpu_seconds"][operation] for r in rounds) / 1e9
            print(f"ours / LEAP's {LEAP[operation]:.3f} GUPS (measured once, another day): {gups / LEAP[operation]:.1f}")


def hardware(rounds: list, slices: int) -> None:
    """Parts of the measured peaks on one thread, and two threads against one."""
    one, two = ([r["threads"][i] for r in rounds] for i in [0, 1])
    peak, bandwidth = (max(t[name] for t in one) for name in ["peak_flops", "bandwidth"])
    print(f"\none thread: multiply-adds at {peak / 1e9:.0f} Gflop/s, triad at {bandwidth / 1e9:.1f} GB/s")
    print("operation         % of peak  % of triad  two threads against one: clock  CPU time")
    # What the machine itself gains from a second thread, under the same load.
    for name, key in [("multiply-adds", "peak_flops"), ("triad", "bandwidth")]:
        print(f"{name:16} {'':22} {max(t[key] for t in two) / max(t[key] for t in one):31.2f}")
    # 2 samples per update, a multiply-add each; every array read or written once.
    flops = 4 * slices * WIDTH**2 * N_ANGLES
    image, sinogram = 4 * slices * WIDTH**2, 4 * slices * WIDTH * N_ANGLES
    traffic = {"ramp filter": 2 * sinogram, "fbp": 3 * sinogram + image}
    for name in one[0]["operations"]:
        cpu = [median(t["operations"][name]["cpu_seconds"] for t in runs) for runs in [one, two]]
        clock = [min(t["operations"][name]["seconds"] for t in runs) for runs in [one, two]]
        part = "" if "filter" in name else f"{100 * flops / cpu[0] / peak:.0f}"
        triad = 100 * traffic.get(name, image + sinogram) / cpu[0] / bandwidth
        # CPU time: the speed-up on two free cores if the threads' work is spread evenly.
        print(f"{name:16} {part:>10} {triad:11.0f} {clock[0] / clock[1]:31.2f} {2 * cpu[0] / cpu[1]:9.2f}")


if __name__ == "__main__":
    main()
