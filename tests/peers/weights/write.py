"""write.py FOLDER: an operator of another program with random weights in double precision: weights.safetensors, inputs.npy, outputs.npy."""

import json
import sys
import types
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

folder = Path(sys.argv[1])
case = json.loads((folder / "case.json").read_text())
torch.manual_seed(5)
torch.set_default_dtype(torch.float64)


def neuraloperator():
    from neuralop.models import FNO

    # Its spectral layers compute in single precision whatever they are given.
    torch.cfloat = torch.complex128
    model = FNO(
        n_modes=tuple(case["n_modes"]),
        in_channels=case["input"],
        out_channels=case["output"],
        hidden_channels=case["width"],
        n_layers=case["layers"],
        lifting_channel_ratio=case.get("lifting", 0) / case["width"],
        projection_channel_ratio=case["projection"] / case["width"],
        use_channel_mlp="skip" in case,
        channel_mlp_expansion=case.get("expansion", 0.5),
        channel_mlp_skip=case.get("skip", "soft-gating"),
        **({"factorization": "Tucker", "rank": case["rank"]} if "rank" in case else {}),
    )
    for conv in model.fno_blocks.convs:
        for weight in conv.weight.parameters():
            weight.data = weight.data.to(torch.complex128)
    return model, lambda x: model(x)


class Spectral(torch.nn.Module):
    """The spectral layer of the first Fourier neural operators."""

    def __init__(self, width, modes):
        super().__init__()
        self.modes = modes
        for g in range(2 ** (len(modes) - 1)):
            weights = torch.rand(width, width, *modes, dtype=torch.complex128) / width**2
            self.register_parameter(f"weights{g + 1}", torch.nn.Parameter(weights))

    def forward(self, x):
        axes = tuple(range(2, x.dim()))
        spectrum = torch.fft.rfftn(x, dim=axes)
        out = torch.zeros_like(spectrum)
        for g in range(2 ** (len(self.modes) - 1)):
            negative = [g >> axis & 1 == 1 for axis in range(len(self.modes))]
            corner = [slice(-m, None) if minus else slice(0, m) for m, minus in zip(self.modes, negative)]
            place = (slice(None), slice(None), *corner)
            weights = getattr(self, f"weights{g + 1}")
            out[place] = torch.einsum("bi...,io...->bo...", spectrum[place], weights)
        return torch.fft.irfftn(out, s=x.shape[2:], dim=axes)


def first():
    """As github.com/zongyi-li/fourier_neural_operator and PDEBench write it."""
    width, layers, d = case["width"], case["layers"], len(case["modes"])
    conv = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[d - 1]
    model = torch.nn.Module()
    model.fc0 = torch.nn.Linear(case["input"] + d, width)
    for l in range(layers):
        setattr(model, f"conv{l}", Spectral(width, case["modes"]))
        setattr(model, f"w{l}", conv(width, width, 1))
    model.fc1 = torch.nn.Linear(width, case["projection"])
    model.fc2 = torch.nn.Linear(case["projection"], case["output"])

    def forward(x):
        grid = torch.meshgrid(*[torch.linspace(0, 1, n) for n in x.shape[2:]], indexing="ij")
        x = torch.cat([x, torch.stack(grid).expand(x.shape[0], *[-1] * (d + 1))], 1)
        v = model.fc0(x.movedim(1, -1)).movedim(-1, 1)
        for l in range(layers):
            v = getattr(model, f"conv{l}")(v) + getattr(model, f"w{l}")(v)
            if l + 1 < layers:
                v = torch.nn.functional.gelu(v)
        return model.fc2(torch.nn.functional.gelu(model.fc1(v.movedim(1, -1)))).movedim(-1, 1)

    return model, forward


def renamed():
    """Without torch-cfd: the operator of ../neural-operator/st_fno.py, its parameters cut and named as torch-cfd does."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "neural-operator"))
    import st_fno

    width, layers, modes = (case[key] for key in ("width", "layers", "modes"))
    mx, my, mt = modes
    parts = [torch.nn.Parameter(torch.randn(shape) / 4) for shape in st_fno.shapes(width, layers, modes)]

    def corners(key, values, places):
        for g in range(4):
            x = slice(mx, None) if g & 1 else slice(0, mx)
            y = slice(my, None) if g & 2 else slice(0, my)
            yield f"{key}.{g}", places(values)[x, y].movedim((0, 1), (-4, -3))

    def names():
        rest = iter(parts)
        weights = lambda values: values.reshape(2 * mx, 2 * my, mt, 2, *values.shape[2:]).permute(0, 1, 4, 5, 2, 3)
        biases = lambda values: values.reshape(2 * mx, 2 * my, 2, mt).transpose(2, 3)
        mix = lambda key: [(f"{key}.weight", next(rest)), (f"{key}.bias", next(rest))]
        yield from mix("lifting_operator.norm") + mix("lifting_operator.proj")
        for l in range(layers):
            conv, mlp = (f"spectral_conv.{l - 1}", f"mlp.{l - 1}") if l else ("lifting_operator.sconv", "lifting_operator.mlp")
            yield from corners(f"{conv}.weight", next(rest), weights)
            yield from mix(f"{mlp}.linear1") + mix(f"{mlp}.linear2") + (mix(f"w.{l - 1}") if l else [])
        yield from mix("reduction")
        yield from corners("output_operator.conv.weight", next(rest), weights)
        yield from corners("output_operator.conv.bias", next(rest), biases)

    model = types.SimpleNamespace(parameters=lambda: parts, state_dict=lambda: {k: v.detach() for k, v in names()})
    more = (case["latent"], case["growth"], case["output"])
    return model, lambda w: st_fno.operator(parts, w, width, layers, modes, *more)


def torch_cfd():
    # Not in the package: the folder `fno` of its repository, on PYTHONPATH.
    try:
        from fno.sfno import SFNO
    except ImportError:
        return renamed()
    model = SFNO(
        *case["modes"],
        case["width"],
        num_spectral_layers=case["layers"],
        activation="GELU",
        latent_steps=case["latent"],
        beta=case["growth"],
    )
    return model, lambda w: model(w.permute(0, 2, 3, 1), out_steps=case["output"]).permute(0, 3, 1, 2)


model, forward = {"neuraloperator": neuraloperator, "fno": first, "torch-cfd": torch_cfd}[case["layout"]]()
with torch.no_grad():
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
        if case["complex"] == "single" and parameter.is_complex():
            parameter.copy_(parameter.to(torch.complex64))
    inputs = torch.randn(4, case["input"], *case["points"])
    outputs = forward(inputs)
state = {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
if case["complex"] == "pairs":
    state = {key: torch.view_as_real(value) if value.is_complex() else value for key, value in state.items()}
else:
    state = {key: value.to(torch.complex64) if value.is_complex() else value for key, value in state.items()}
save_file({key: value.contiguous() for key, value in state.items()}, folder / "weights.safetensors")
numpy.save(folder / "inputs.npy", inputs.numpy())
numpy.save(folder / "outputs.npy", outputs.numpy())
