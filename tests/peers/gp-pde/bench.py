"""gp-pde beside Chebyshev collocation and the published method's objective: error off the grid, CPU-seconds, memory.

`bench.py --convoke target/release/convoke [--quick] [--only NAME...] [--gp-hm-iterations N] [--markdown FILE]
[--json FILE]`

Every job file that comes with the program, and one of them larger on 1 and 2 ranks. Both baselines are ours:
`chebyshev.py`, collocation on as many points, and `gp_hm.py`, what GP-HM (ICLR 2024) minimises, on that paper's
problems. All are compared with the exact solution at points that no grid has. One thread each. "-" is what a baseline
does not cover, said below the table.
"""

import os

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

import argparse
import json
import math
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from pathlib import Path
from statistics import median

import h5py

# The checkout stays as it was.
sys.dont_write_bytecode = True

import chebyshev
import gp_hm

JOBS = Path(__file__).resolve().parents[3] / "jobs" / "gp_pde"
# Errors that the published method's problems are to reach on its grids, each within so many CPU-seconds.
DUE_SECONDS = 5
DUE = {
    "poisson-1d-sin": 1e-8,
    "poisson-1d-mix": 1e-8,
    "poisson-1d-sin-cos": 1e-8,
    "poisson-1d-x-sin": 1e-8,
    "poisson-1d-sin-parabola": 1e-8,
    "allen-cahn-1d-sin": 1e-8,
    "allen-cahn-1d-sin-cos": 1e-8,
    "poisson-2d-sin-sin": 1e-10,
    "poisson-2d-additive": 1e-9,
    "allen-cahn-2d-mix": 1e-9,
    "advection": 1e-7,
}
# Titles and widths; what a title starts with says whose figure it is.
COLUMNS = [("problem", 23), ("points", 11), ("error", 7), ("residual", 8), ("CPU-s", 6), ("MB", 5), ("Chebyshev", 9),
           ("CPU-s", 6), ("GP-HM", 7), ("steps", 5), ("CPU-s", 6), ("published steps", 15), ("calculated CPU-s", 16),
           ("logged", 7), ("less error", 10), ("due", 16)]
RANKS_COLUMNS = [("3-D Allen-Cahn", 16), ("points", 11), ("seconds", 7), ("times faster", 12), ("each run", 20),
                 ("CPU-s", 6), ("MB, rank 0", 10), ("error", 7)]
NOTES = f"""CPU-s of ours are the whole program's, from its start to its result on disk; of the others the solve's
alone. "residual" is the equation's between the nodes. "due" is the error to reach, in {DUE_SECONDS} CPU-s."""
GP_HM_NOTE = """"GP-HM" is the least error of {checkpoints} checkpoints, as the published code reports it: early stopping
by an oracle, since it needs the exact solution. Kernel StM, that paper's equidistant grids, a {share} of the published
steps at most; the exact solution is given on all sides, also for advection, where ours and Chebyshev know initial and
inflow data alone. "calculated CPU-s" is CPU-s times published steps over steps, not run. "logged" is the least
error in the result logs that come with the published code, for this kernel, domain and number of steps. "less error"
counts the smaller of "GP-HM" and "logged"."""
RANKS_NOTE = """Seconds are the run's own clock, without the start of the program, medians of {repeats}; CPU-s are those
of all ranks with the launcher. One thread each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--convoke", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few steps of GP-HM, small grid on the ranks, once")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these job files, and no ranks")
    parser.add_argument("--gp-hm-iterations", type=int, metavar="N", help="half of it in 2-D; default: 1000")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables for docs/benchmarks.md")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    iterations = arguments.gp_hm_iterations or (40 if arguments.quick else 1000)
    loads = [os.getloadavg()[0]]
    print(f"load {loads[0]:.1f}; gradient of GP-HM's objective against differences: {gp_hm.check():.0e} of its size")

    table, rows, missing = Table(COLUMNS), [], []
    for path in sorted(JOBS.glob("*.toml"), key=lambda p: (p.stem not in DUE, p.stem)):
        if arguments.only and path.stem not in arguments.only:
            continue
        rows.append(measure(arguments.convoke, path, iterations, missing))
        table.add(cells(rows[-1]))
        loads.append(os.getloadavg()[0])
    texts = [*map(plain, missing), wins(rows)]
    texts = [plain(NOTES), *[plain(text) for text in [of_gp_hm(rows)] if text], *texts]
    say(texts)
    ranks, after, of_ranks = [], [], Table(RANKS_COLUMNS)
    if not arguments.only:
        size, repeats = (64, 1) if arguments.quick else (128, 3)
        ranks = measure_ranks(arguments.convoke, size, repeats, of_ranks)
        after = [plain(RANKS_NOTE.format(repeats=repeats))]
        say(after)
        kernels = of_kernels(arguments.convoke)
        if kernels:
            print(kernels)
            after.append(f"```text\n{kernels}\n```")
    loads.append(os.getloadavg()[0])
    load = (f"Load of a minute {loads[0]:.1f} before, {loads[-1]:.1f} after, up to {max(loads):.1f} between, "
            f"on {os.cpu_count()} cores.")
    print(load)
    if arguments.markdown:
        parts = [load, table.markdown(), *texts, of_ranks.markdown(), *after]
        arguments.markdown.write_text("\n\n".join(part for part in parts if part) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"load": load, "rows": rows, "ranks": ranks}, indent=1))


def of_kernels(convoke: Path) -> str:
    """Rates of the mode products beside the machine's own, where the example is built beside the program."""
    example = convoke.parent / "examples" / "bench_kronecker"
    if not example.exists():
        return ""
    return subprocess.run([example], check=True, capture_output=True, text=True).stdout.strip()


def measure(convoke: Path, path: Path, iterations: int, missing: list) -> dict:
    """One job file by all that can solve it; reasons of the others go to `missing`."""
    job = tomllib.loads(path.read_text())["problem"]
    row = {"problem": path.stem, "points": [axis["points"] for axis in job["axes"]]}

    def attempt(who: str, solve) -> dict | None:
        try:
            return solve()
        except chebyshev.NotCovered as error:
            missing.append(f"{path.stem}: {who} does not cover {error}.")
        except Exception as error:  # One problem that fails is a line, not the end of the others.
            missing.append(f"{path.stem}: {who} failed: {str(error) or repr(error)}.")
        return None

    row["ours"] = attempt("convoke", lambda: run(convoke, path.read_text()))
    row["chebyshev"] = attempt("Chebyshev collocation", lambda: chebyshev.solve(job))
    row["gp_hm"] = None
    if path.stem in gp_hm.PUBLISHED:
        scale, steps, logged = gp_hm.PUBLISHED[path.stem]
        own = max(1, iterations // len(row["points"]))
        row["gp_hm"] = attempt("GP-HM", lambda: gp_hm.solve(job, scale, own))
        if row["gp_hm"]:
            done = max(1, row["gp_hm"]["iterations"])
            row["gp_hm"] |= {"published": steps, "logged": logged,
                             "calculated_cpu": row["gp_hm"]["cpu"] / done * steps}
            if done < own:
                missing.append(f"{path.stem}: GP-HM ended after {done} steps, its covariance not positive definite.")
    row["due"] = due(path.stem, row["ours"])
    row["less_error"] = less_error(row)
    return row


def run(convoke: Path, job: str, ranks: int = 1) -> dict:
    """The whole program, one thread a rank."""
    with tempfile.TemporaryDirectory() as scratch:
        file, directory = Path(scratch) / "job.toml", Path(scratch) / "run"
        file.write_text(job)
        command = [convoke, "run", file, "--dir", directory, "-n", str(ranks), "--threads", "1", "--quiet", "--json"]
        with (Path(scratch) / "out").open("w+") as out, (Path(scratch) / "message").open("w+") as message:
            child = subprocess.Popen(command, stdout=out, stderr=message)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            for stream in [out, message]:
                stream.seek(0)
            if status:
                raise RuntimeError(message.read().strip().replace(f"{scratch}/", ""))
            summary = json.load(out)
        with h5py.File(directory / "result.h5") as result:
            figures = dict(result["result"].attrs)
    return {
        "error": number(figures.get("relative_error")),
        "residual": number(figures.get("held_out_residual")),
        "cpu": usage.ru_utime + usage.ru_stime,
        "seconds": summary["seconds"],
        "memory": summary["peak_memory"],
    }


def number(value) -> float | None:
    return None if value is None else float(value)


def due(name: str, ours: dict | None) -> str:
    if name not in DUE:
        return ""
    exact = ours and ours["error"] is not None and ours["error"] <= DUE[name]
    fast = ours and ours["cpu"] <= DUE_SECONDS
    return scientific(DUE[name], 0) + (" met" if exact else " MISSED") + ("" if fast else f", {DUE_SECONDS} s MISSED")


def less_error(row: dict) -> str:
    names = {"ours": "ours", "Chebyshev": "chebyshev", "GP-HM": "gp_hm"}
    errors = {name: row[key]["error"] for name, key in names.items() if row[key] and row[key]["error"] is not None}
    errors = {name: error for name, error in errors.items() if math.isfinite(error)}
    if row["gp_hm"]:
        errors["GP-HM"] = min(errors.get("GP-HM", math.inf), row["gp_hm"]["logged"])
    return min(errors, key=errors.get) if len(errors) > 1 else "-"


def cells(row: dict) -> list:
    ours, peer, published = (row[key] or {} for key in ["ours", "chebyshev", "gp_hm"])
    return [row["problem"], "×".join(map(str, row["points"])), scientific(ours.get("error")),
            scientific(ours.get("residual")), fixed(ours.get("cpu")), fixed(ours.get("memory"), 0, 1e-6),
            scientific(peer.get("error")), fixed(peer.get("cpu")),
            scientific(published.get("error")), fixed(published.get("iterations"), 0), fixed(published.get("cpu"), 1),
            scientific(published.get("published"), 0), scientific(published.get("calculated_cpu")),
            scientific(published.get("logged")), row["less_error"], row["due"]]


def scientific(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def fixed(value: float | None, digits: int = 2, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value * unit:.{digits}f}"


def of_gp_hm(rows: list) -> str:
    """What its figures are, with the largest share of the published steps, rounded up to a power of ten."""
    shares = [row["gp_hm"]["iterations"] / row["gp_hm"]["published"] for row in rows if row["gp_hm"]]
    if not any(shares):
        return ""
    share = f"{10 ** math.floor(-math.log10(max(shares))):.0f}th"
    return GP_HM_NOTE.format(checkpoints=gp_hm.CHECKPOINTS, share=share)


def wins(rows: list) -> str:
    """Where Chebyshev has less error, and where it takes less time."""
    both = [row for row in rows if row["ours"] and row["chebyshev"] and row["ours"]["error"] is not None]
    ratio = {row["problem"]: row["ours"]["error"] / row["chebyshev"]["error"] for row in both}
    faster = [row["problem"] for row in both if row["chebyshev"]["cpu"] < row["ours"]["cpu"]]
    less = [f"{name} ({times(r)})" for name, r in sorted(ratio.items(), key=lambda item: -item[1]) if r > 1]
    more = [f"{name} ({times(1 / r)})" for name, r in sorted(ratio.items(), key=lambda item: item[1]) if r < 1]
    return plain(f"Chebyshev has less error than ours in {len(less)} of {len(both)}: {', '.join(less) or 'none'}; "
                 f"ours has less in {len(more)}: {', '.join(more) or 'none'}. "
                 f"Chebyshev takes fewer CPU-seconds in {len(faster)}: {', '.join(faster) or 'none'}.")


def times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 1000 else f"{scientific(ratio)} times"


def measure_ranks(convoke: Path, size: int, repeats: int, table: "Table") -> list:
    """Seconds by the run's own clock, medians of runs one after the other on 1 and 2 ranks; collocation once."""
    job = (JOBS / "allen-cahn-3d.toml").read_text()
    problem = tomllib.loads(job)["problem"]
    for axis in problem["axes"]:
        job = job.replace(f"points = {axis['points']}\n", f"points = {size}\n")
        axis["points"] = size
    runs, points = {1: [], 2: []}, "×".join([str(size)] * 3)
    for _ in range(repeats):
        for ranks, of_ranks in runs.items():
            try:
                of_ranks.append(run(convoke, job, ranks))
            except RuntimeError as error:
                say([f"{ranks} rank(s): convoke failed: {error}"])
    if not runs[1]:
        return []
    rows, first = [], median(r["seconds"] for r in runs[1])
    for ranks, of_ranks in runs.items():
        if not of_ranks:
            continue
        seconds = median(r["seconds"] for r in of_ranks)
        rows.append({"ranks": ranks, "seconds": seconds, "times_one": first / seconds, "runs": of_ranks})
        table.add([f"ours, {ranks} rank{'s' * (ranks > 1)}", points, fixed(seconds), fixed(first / seconds),
                   ", ".join(fixed(r["seconds"]) for r in of_ranks), fixed(median(r["cpu"] for r in of_ranks)),
                   fixed(max(r["memory"] for r in of_ranks), 0, 1e-6), scientific(of_ranks[-1]["error"])])
    peer = chebyshev.solve(problem)
    table.add(["Chebyshev", points, "-", "-", "-", fixed(peer["cpu"]), "-", scientific(peer["error"])])
    return [*rows, {"chebyshev": peer}]


class Table:
    """Printed row by row as figures come; in Markdown at the end."""

    def __init__(self, columns: list) -> None:
        self.columns, self.rows = columns, []

    def add(self, row: list) -> None:
        if not self.rows:
            self.line([title for title, _ in self.columns])
        self.rows.append(row)
        self.line(row)

    def line(self, row: list) -> None:
        first, *others = ((cell, width) for cell, (_, width) in zip(row, self.columns))
        print(f"{first[0]:{first[1]}} " + " ".join(f"{cell:>{width}}" for cell, width in others), flush=True)

    def markdown(self) -> str:
        titles = [title for title, _ in self.columns]
        rows = [[f"`{row[0]}`" if (JOBS / f"{row[0]}.toml").exists() else row[0], *row[1:]] for row in self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows]) if rows else ""


def plain(text: str) -> str:
    """Lines as wide as the page's."""
    return textwrap.fill(" ".join(text.split()), 140, break_long_words=False, break_on_hyphens=False)


def say(texts: list) -> None:
    for text in texts:
        print(text)
    print(flush=True)


if __name__ == "__main__":
    main()
