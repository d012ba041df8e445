"""Fourier neural operators beside PyTorch: a forward pass and a step of training on 64 x 64 points, of an FNO (width 32, 12 modes, batches of
8) and of an ST-FNO (width 20, modes 12, 12, 5, ten snapshots to forty, batches of 4); a spectral convolution on
256 x 256 points; a step of the flow solver (double precision) beside torch-cfd.

Least times of several seconds, alternating with ours; on one thread and on two.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

import st_fno
from fno import shapes

arguments = argparse.ArgumentParser()
arguments.add_argument("--convoke", type=Path, required=True)
arguments.add_argument("--built", type=Path)
arguments.add_argument("--quick", action="store_true")
arguments.add_argument("--memory", action="store_true", help="peaks of memory alone")
arguments.add_argument("--memory-of", help="run this case alone, and print the peak of memory before and after")
options = arguments.parse_args()

MODES, WIDTH, LAYERS = [12, 12], 32, 4


def peer(threads, seconds):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    parts = [torch.nn.Parameter(0.05 * torch.rand(s)) for s in shapes(1, 1, WIDTH, LAYERS, MODES, 128)]
    optimiser = torch.optim.AdamW(parts, lr=1e-6)
    x = torch.randn(8, 1, 64, 64)

    # Blocks of modes at once, as the reference implementation has them: a loop over modes would be unfair.
    def spectral(weight, v):
        spectrum = torch.fft.rfft2(v)
        matrices = torch.view_as_complex(weight.reshape(24, 12, 2, WIDTH, WIDTH).permute(3, 4, 0, 1, 2).contiguous())
        made = torch.zeros_like(spectrum)
        made[:, :, :12, :12] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :12, :12], matrices[:, :, :12])
        made[:, :, -12:, :12] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -12:, :12], matrices[:, :, 12:])
        return torch.fft.irfft2(made, s=(64, 64))

    conv = lambda w, b, v: torch.nn.functional.conv2d(v, w[:, :, None, None], b)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, 64)] * 2, indexing="ij")).expand(8, 2, 64, 64)

    def forward():
        v = conv(parts[0], parts[1], torch.cat([x, grid], 1))
        for l in range(LAYERS):
            weight, w, b = parts[2 + 3 * l : 5 + 3 * l]
            v = spectral(weight, v) + conv(w, b, v)
            v = torch.nn.functional.gelu(v) if l + 1 < LAYERS else v
        return conv(parts[-2], parts[-1], torch.nn.functional.gelu(conv(parts[-4], parts[-3], v)))

    def step():
        optimiser.zero_grad()
        (forward() ** 2).sum().backward()
        optimiser.step()

    with torch.no_grad():
        passed = least(forward, seconds)
    return {"FNO forward": passed, "FNO step": least(step, seconds)}


def spatiotemporal(threads, seconds):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    known = (20, 4, [12, 12, 5])
    parts = [torch.nn.Parameter(0.05 * torch.rand(s)) for s in st_fno.shapes(*known)]
    optimiser = torch.optim.AdamW(parts, lr=1e-6)
    x = torch.randn(4, 10, 64, 64)
    forward = lambda: st_fno.operator(parts, x, *known, 10, 0.02, 40)

    def step():
        optimiser.zero_grad()
        (forward() ** 2).sum().backward()
        optimiser.step()

    with torch.no_grad():
        passed = least(forward, seconds)
    return {"ST-FNO forward": passed, "ST-FNO step": least(step, seconds)}


def convolution(threads, seconds):
    torch.set_num_threads(threads)
    x, w = torch.randn(1, 32, 256, 256), torch.randn(2, 32, 32, 16, 16, dtype=torch.cfloat)

    def run():
        spectrum = torch.fft.rfft2(x)
        made = torch.zeros_like(spectrum)
        made[:, :, :16, :16] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, :16, :16], w[0])
        made[:, :, -16:, :16] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, -16:, :16], w[1])
        return torch.fft.irfft2(made, s=(256, 256))

    with torch.no_grad():
        return {"convolution": least(run, seconds)}


def solver(threads, seconds):
    try:
        from torch_cfd.grids import Grid
        from torch_cfd.spectral import NavierStokes2DSpectral, RK4CrankNicolsonStepper
    except ImportError as error:
        print(f"skipped: the flow solver beside torch-cfd: {error}")
        return {}
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float64)
    grid = Grid((256, 256), domain=((0, 2 * torch.pi), (0, 2 * torch.pi)))
    equation = NavierStokes2DSpectral(viscosity=1e-3, grid=grid, step_fn=RK4CrankNicolsonStepper())
    state = [torch.fft.rfft2(torch.randn(1, 256, 256))]

    def run():
        state[0] = equation.step_fn(state[0], 1e-4, equation)

    with torch.no_grad():
        best = least(run, seconds)
    torch.set_default_dtype(torch.float32)
    return {"solver": best}


def least(run, seconds):
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best


def ours():
    program = options.convoke.parent / "examples" / "bench_operator"
    output = subprocess.run([program, "--json"], capture_output=True, text=True, check=True).stdout
    return {(case["case"], case["threads"]): case for case in json.loads(output)["cases"]}


def peak(process="self"):
    """Largest resident memory so far, MiB; what `getrusage` tells includes the program that started this one."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def alone(words):
    """Output of a program, and its peak of memory while somebody looked."""
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    most = 0.0
    while process.poll() is None:
        try:
            most = max(most, peak(process.pid))
        except (OSError, StopIteration):
            pass
        time.sleep(0.02)
    assert process.returncode == 0, words
    return process.stdout.read(), most


def memory():
    """Of processes that run one case each, on two threads, MiB."""
    program = options.convoke.parent / "examples" / "bench_operator"
    for name in ("FNO", "ST-FNO", "convolution", "solver"):
        _, here = alone([program, name, "--json"])
        words = [sys.executable, __file__, "--convoke", options.convoke, "--memory-of", name]
        before, after = map(float, alone(words)[0].split()[-2:])
        print(f"peak of memory, {name:<12} ours {here:>6.0f} MiB, PyTorch {after:>6.0f} MiB, {after - before:.0f} of them not its libraries")


if options.memory_of:
    before = peak()
    cases = {"FNO": peer, "ST-FNO": spatiotemporal, "convolution": convolution, "solver": solver}
    cases[options.memory_of](2, 1)
    print(before, peak())
    sys.exit()

if options.memory:
    memory()
    sys.exit()

load = Path("/proc/loadavg").read_text().split()[0]
rounds = 1 if options.quick else 3
best_ours, best_peer = {}, {}
for _ in range(rounds):
    for key, case in ours().items():
        if key not in best_ours or case["s"] < best_ours[key]["s"]:
            best_ours[key] = case
    for threads in (1, 2):
        time_each = 2 if options.quick else 4
        found = peer(threads, time_each) | spatiotemporal(threads, time_each) | convolution(threads, time_each) | solver(threads, time_each)
        for name, seconds in found.items():
            best_peer[name, threads] = min(seconds, best_peer.get((name, threads), float("inf")))
print(f"PyTorch {torch.__version__}, load {load} before and {Path('/proc/loadavg').read_text().split()[0]} after")
for (name, threads), case in best_ours.items():
    rate = case["flops"] / case["s"] / 1e9
    line = f"{name:<20} {threads} thread(s)  ours {1e3 * case['s']:8.2f} ms ({rate:6.1f} GF/s)"
    if (name, threads) in best_peer:
        other = best_peer[name, threads]
        line += f"  PyTorch {1e3 * other:8.2f} ms  {other / case['s']:.2f} times as fast"
    print(line)
memory()
