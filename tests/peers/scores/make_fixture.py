"""What published score networks make of one image, with parameters that are a formula: the fixtures of jobs/prior/foreign.

    python make_fixture.py NCSNPP GUIDED DIRECTORY

NCSNPP is a checkout of github.com/HJ-harry/DiffusionMBIR, GUIDED one of github.com/openai/guided-diffusion; nothing of them is kept.
Parameter i of tensor k, and point i of the image, are 2 frac((i + 1) g + (k + 1) h) - 1 with g = 0.6180339887498949, h = 0.7548776662466927,
times sqrt(3 / fan-in) for matrices and kernels, times 0.2 (plus 1 for weights of normalisations) for vectors; the image is tensor -1, halved,
plus 1/2.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch


def formula(k, shape):
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    u = (i + 1) * 0.6180339887498949 + (k + 1) * 0.7548776662466927
    return (2 * (u - np.floor(u)) - 1).reshape(shape)


def fill(model):
    """Sets every tensor; their names and shapes in order."""
    names, state = [], {}
    for k, (name, old) in enumerate(model.state_dict().items()):
        u, shape = formula(k, old.shape), list(old.shape)
        if len(shape) > 1:
            fan = shape[0] if name.endswith(".W") else int(np.prod(shape[1:]))
            u *= np.sqrt(3 / fan)
        else:
            norm = name.endswith("weight") or name.endswith("sigmas")
            u = 0.2 * u + (1 if norm else 0)
        names.append([name, shape])
        state[name] = torch.tensor(u, dtype=torch.float32)
    model.load_state_dict(state)
    return names


def image(points):
    return torch.tensor(0.5 + 0.5 * formula(-1, (1, 1, points, points)), dtype=torch.float32)


def keep(path, card, names, cases):
    out = {"card": card, "tensors": names, "cases": cases}
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


def ncsnpp(checkout, directory):
    """The network of the published CT prior, small."""
    sys.path.insert(0, checkout)
    # The package of compiled operators cannot be built here; its plain PyTorch function can be used.
    text = (Path(checkout) / "op" / "upfirdn2d.py").read_text()
    plain = types.ModuleType("op")
    exec("import torch\nimport torch.nn.functional as F\n" + text[text.index("def upfirdn2d_native"):], plain.__dict__)
    plain.upfirdn2d = lambda x, k, up=1, down=1, pad=(0, 0): plain.upfirdn2d_native(
        x, k, up, up, down, down, pad[0], pad[1], pad[0], pad[1])
    sys.modules["op"] = plain
    ns = types.SimpleNamespace
    config = ns(
        model=ns(nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(16,), dropout=0.0, resamp_with_conv=True, conditional=True,
                 fir=True, fir_kernel=[1, 3, 3, 1], skip_rescale=True, resblock_type="biggan", progressive="none",
                 progressive_input="residual", embedding_type="fourier", init_scale=0.0, fourier_scale=16, progressive_combine="sum",
                 nonlinearity="swish", normalization="GroupNorm", scale_by_sigma=True, sigma_min=0.01, sigma_max=378, num_scales=10),
        data=ns(image_size=16, num_channels=1, centered=False), training=ns(continuous=True))
    from models import ncsnpp as module
    torch.manual_seed(0)
    model = module.NCSNpp(config).eval()
    names = fill(model)
    cases = []
    with torch.no_grad():
        for sigma in [0.05, 3.0]:
            score = model(image(16), torch.tensor([sigma]))
            denoised = image(16) + sigma**2 * score
            cases.append({"sigma": sigma, "denoised": denoised.flatten().tolist()})
    keep(directory / "ncsnpp.json", {"layout": "ncsnpp", "points": 16}, names, cases)


def guided(checkout, directory):
    """ADM networks: with blocks that halve and double, and with convolutions that do."""
    sys.path.insert(0, checkout)
    for name in ["guided_diffusion", "guided_diffusion.fp16_util"]:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["guided_diffusion"].__path__ = [str(Path(checkout) / "guided_diffusion")]
    sys.modules["guided_diffusion.fp16_util"].convert_module_to_f16 = None
    sys.modules["guided_diffusion.fp16_util"].convert_module_to_f32 = None
    from guided_diffusion.unet import UNetModel
    betas = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    for file, blocks, new_order, channels in [("guided.json", True, False, 2), ("guided-convolutions.json", False, True, 1)]:
        model = UNetModel(image_size=16, in_channels=1, model_channels=32, out_channels=channels, num_res_blocks=1,
                          attention_resolutions=(2,), channel_mult=(1, 2), num_head_channels=32, use_scale_shift_norm=blocks,
                          resblock_updown=blocks, use_new_attention_order=new_order).eval()
        names = fill(model)
        cases = []
        with torch.no_grad():
            for time in [40, 700]:
                sigma = float(np.sqrt((1 - kept[time]) / kept[time]))
                # Values between 0 and 1 are -1 to 1 for the network, and sigma is in its units.
                x = 2 * image(16) - 1
                noise = model(x * float(np.sqrt(kept[time])), torch.tensor([float(time)]))[:, :1]
                denoised = (x - sigma * noise + 1) / 2
                cases.append({"sigma": sigma / 2, "denoised": denoised.flatten().tolist()})
        card = {"layout": "guided-diffusion", "blocks": 1, "levels": 2, "resampling_blocks": blocks, "head_channels": 32,
                "new_attention_order": new_order, "points": 16, "scale": 2.0, "offset": -1.0}
        keep(directory / file, card, names, cases)


if __name__ == "__main__":
    directory = Path(sys.argv[3])
    ncsnpp(sys.argv[1], directory)
    guided(sys.argv[2], directory)
