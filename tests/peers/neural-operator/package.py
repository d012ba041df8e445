"""package.py FOLDER: outputs and gradient of an FNO of the package neuraloperator in double precision, for the parameters and fields in
FOLDER, whose parameters are in the order of Convoke."""

import json
import sys
from pathlib import Path

import numpy
import torch
from neuralop.models import FNO
from torch.func import functional_call

folder = Path(sys.argv[1])
case = json.loads((folder / "case.json").read_text())
torch.set_default_dtype(torch.float64)
# Its spectral layers compute in single precision whatever they are given.
torch.cfloat = torch.complex128
width, modes, mlp, tucker = case["width"], case["modes"], case["channel_mlp"], case.get("tucker")
model = FNO(
    n_modes=[2 * m for m in modes[:-1]] + [2 * modes[-1] - 2],
    in_channels=case["input"],
    out_channels=case["output"],
    hidden_channels=width,
    n_layers=case["layers"],
    lifting_channel_ratio=case["lifting"] / width,
    projection_channel_ratio=case["projection"] / width,
    channel_mlp_expansion=mlp["channels"] / width,
    channel_mlp_skip=mlp["skip"],
    **({"factorization": "Tucker", "rank": tucker} if tucker else {}),
)
read = lambda name: torch.tensor(numpy.load(folder / f"{name}.npy"))
flat, at = read("parameters").requires_grad_(), 0
inputs, complex = read("inputs"), lambda pairs: torch.complex(pairs[..., 0], pairs[..., 1])
given = case["input"] + len(modes)


def take(*shape):
    global at
    count = int(numpy.prod(shape))
    at += count
    return flat[at - count : at].reshape(shape)


def mix(key, to, source):
    return {f"{key}.weight": take(to, source)[..., None], f"{key}.bias": take(to)}


state = mix("lifting.fcs.0", case["lifting"], given)
# Coordinates are i/n there and i/(n - 1) here.
ends = [(n - 1) / n for n in inputs.shape[2:]]
state["lifting.fcs.0.weight"] = state["lifting.fcs.0.weight"] / torch.tensor([1.0] * case["input"] + ends)[:, None]
state |= mix("lifting.fcs.1", width, case["lifting"])
for l in range(case["layers"]):
    blocks = "fno_blocks."
    key = f"{blocks}convs.{l}.weight"
    # Modes 0 … m − 1, −m … −1 are in the order of frequencies there.
    outer, axes = [2 * m for m in modes[:-1]], list(range(len(modes) - 1))
    if tucker:
        state[f"{key}.core"] = complex(take(*tucker, 2))
        for axis, (n, r) in enumerate(zip([width, width, *outer, modes[-1]], tucker)):
            factor = complex(take(n, r, 2))
            if 2 <= axis < len(modes) + 1:
                factor = torch.fft.fftshift(factor, 0)
            state[f"{key}.factors.factor_{axis}"] = factor
    else:
        weight = take(*outer, modes[-1], 2, width, width)
        weight = torch.complex(weight.select(-3, 0), weight.select(-3, 1))
        state[f"{key}.tensor"] = torch.fft.fftshift(weight, axes).movedim((-2, -1), (0, 1)) if axes else weight.movedim(0, -1)
    state[f"{blocks}fno_skips.{l}.conv.weight"] = take(width, width)[..., None]
    state[f"{blocks}convs.{l}.bias"] = take(width).reshape(-1, *[1] * len(modes))
    state |= mix(f"{blocks}channel_mlp.{l}.fcs.0", mlp["channels"], width)
    state |= mix(f"{blocks}channel_mlp.{l}.fcs.1", width, mlp["channels"])
    if mlp["skip"] == "linear":
        state[f"{blocks}channel_mlp_skips.{l}.conv.weight"] = take(width, width)[..., None]
    else:
        state[f"{blocks}channel_mlp_skips.{l}.weight"] = take(width).reshape(1, -1, *[1] * len(modes))
state |= mix("projection.fcs.0", case["projection"], width)
state |= mix("projection.fcs.1", case["output"], case["projection"])
assert at == flat.numel()
known = {key: value.shape for key, value in model.named_parameters()}
assert known == {key: value.shape for key, value in state.items()}, "other parameters"
out = functional_call(model, state, (inputs,))
(out * read("slopes")).sum().backward()
numpy.save(folder / "outputs.npy", out.detach().numpy())
numpy.save(folder / "gradient.npy", flat.grad.numpy())
