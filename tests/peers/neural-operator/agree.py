"""agree.py FOLDER: outputs and gradient of an operator in double precision, for the parameters and fields in FOLDER."""

import json
import sys
from pathlib import Path

import numpy
import torch

import fno
import st_fno

folder = Path(sys.argv[1])
case = json.loads((folder / "case.json").read_text())
read = lambda name: torch.tensor(numpy.load(folder / f"{name}.npy"))
flat = read("parameters").requires_grad_()
if case["kind"] == "fno":
    tucker = case.get("tucker")
    sizes = fno.shapes(*[case[key] for key in ("input", "output", "width", "layers", "modes", "projection")], tucker)
    parts = fno.split(flat, sizes)
    out = fno.operator(parts, read("inputs"), case["layers"], case["modes"], case["padding"], tucker)
else:
    known = [case[key] for key in ("width", "layers", "modes")]
    parts = fno.split(flat, st_fno.shapes(*known))
    out = st_fno.operator(parts, read("inputs"), *known, *[case[key] for key in ("latent", "growth", "output")])
(out * read("slopes")).sum().backward()
numpy.save(folder / "outputs.npy", out.detach().numpy())
numpy.save(folder / "gradient.npy", flat.grad.numpy())
