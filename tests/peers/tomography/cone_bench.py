"""Cone beams beside RTK, in one run: `cone_bench.py [--size N] [--views N] [--rounds N] --example target/release/examples/bench_cone`.

CPU-seconds (user and system) of one thread, medians over the rounds. The peer is RTK's FDK of the whole scan, and its
filtered back projection and Joseph's projection of 60 views. Keep every filter in a variable: ITK's Python frees what has none.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from cone_agree import geometry, image, stack, to_rtk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--example", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=360)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="only RTK's part, as a process of its own")
    arguments = parser.parse_args()
    size, views = arguments.size, arguments.views
    if arguments.peer:
        print(json.dumps(peer(size, views)))
        return
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        own = subprocess.run([arguments.example, str(size), str(views), "--json"], check=True, capture_output=True, text=True)
        threads = [json.loads(line) for line in own.stdout.splitlines()]
        command = [sys.executable, "-B", __file__, *sys.argv[1:], "--peer"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        rounds.append({"threads": threads, "rtk": json.loads(answer)})
    print(f"{size}^3 voxels, {views} views of {size}^2 pixels, one thread, {arguments.rounds} round(s)")
    print(f"load average of a minute after the rounds: {os.getloadavg()[0]:.1f}")
    peak = max(r["threads"][0]["peak_flops"] for r in rounds)
    print(f"multiply-adds at {peak / 1e9:.0f} Gflop/s, triad at {max(r['threads'][0]['bandwidth'] for r in rounds) / 1e9:.1f} GB/s")
    print("operation         CPU-s   GUPS per core  two threads against one (clock)  RTK GUPS  times RTK")
    peers = {"fdk": "fdk", "back linear": "back", "forward shadow": "forward"}
    for name in rounds[0]["threads"][0]["operations"]:
        one = [r["threads"][0]["operations"][name] for r in rounds]
        two = [r["threads"][1]["operations"][name] for r in rounds]
        gups = [t["updates"] / t["cpu_seconds"] / 1e9 for t in one]
        speedup = min(t["seconds"] for t in one) / min(t["seconds"] for t in two)
        line = f"{name:16} {median(t['cpu_seconds'] for t in one):6.2f} {median(gups):12.2f} {speedup:20.2f}"
        if name in peers:
            theirs = [r["rtk"][peers[name]] for r in rounds]
            line += f"{'':15} {median(theirs):8.3f} {median(g / t for g, t in zip(gups, theirs)):10.1f}"
        print(line)


def peer(size: int, views: int) -> dict:
    """GUPS per CPU-second of RTK on one thread."""
    import itk
    from itk import RTK as rtk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(1)
    kind = itk.Image[itk.F, 3]
    random = np.random.default_rng(1)

    def case(n):
        degrees = [360 * i / n for i in range(n)]
        return {"degrees": degrees, "source_to_axis": 4.0 * size, "source_to_detector": 6.0 * size, "pixel": 1.68, "voxel": 1.0}

    def timed(filter, n):
        start = time.process_time()
        filter.Update()
        return size**3 * n / (time.process_time() - start) / 1e9

    scans, results = {n: geometry(case(n), [{}] * n) for n in {views, min(views, 60)}}, {}
    n = min(views, 60)

    # These filters work in place: each has inputs of its own.
    def volume():
        return image(to_rtk(random.random((size,) * 3, dtype=np.float32)), [1.0] * 3)

    def data(n):
        return stack(case(n), random.random((size, n, size), dtype=np.float32))

    back_volume, back_data = volume(), data(n)
    back = rtk.FDKBackProjectionImageFilter[kind, kind].New()
    back.SetInput(0, back_volume)
    back.SetInput(1, back_data)
    back.SetGeometry(scans[n])
    results["back"] = timed(back, n)
    joseph_volume, joseph_data = volume(), data(n)
    joseph = rtk.JosephForwardProjectionImageFilter[kind, kind].New()
    joseph.SetInput(0, joseph_data)
    joseph.SetInput(1, joseph_volume)
    joseph.SetGeometry(scans[n])
    results["forward"] = timed(joseph, n)
    fdk_volume, whole = volume(), data(views)
    fdk = rtk.FDKConeBeamReconstructionFilter[kind].New()
    fdk.SetInput(0, fdk_volume)
    fdk.SetInput(1, whole)
    fdk.SetGeometry(scans[views])
    fdk.GetRampFilter().SetTruncationCorrection(0.0)
    fdk.GetRampFilter().SetHannCutFrequency(0.0)
    results["fdk"] = timed(fdk, views)
    return results


if __name__ == "__main__":
    main()
