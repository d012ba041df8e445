"""Training in PyTorch by the recipe of a Convoke job: train.py JOB [--seeds 1 2 3]. Prints the test error of each seed.

Data, splits, normalisation, operator, loss, optimiser and schedule are those of the job file; first weights follow the same laws, their
numbers and the order of samples are PyTorch's own.
"""

import argparse
import math
import time
import tomllib
from pathlib import Path

import h5py
import torch

import fno

arguments = argparse.ArgumentParser()
arguments.add_argument("job", type=Path)
arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
arguments.add_argument("--threads", type=int, default=2)
options = arguments.parse_args()
torch.set_num_threads(options.threads)
problem = tomllib.loads(options.job.read_text())["problem"]
data, model, training = problem["data"], problem["model"], problem["training"]
assert model["kind"] == "fno" and training.get("schedule", "cosine") == "cosine"


def fields(path, first, samples, which):
    path = options.job.parent / path
    with h5py.File(path / "result.h5" if path.is_dir() else path) as file:
        array = file[data[which]["array"]]
        samples = samples or len(array) - first
        values = torch.tensor(array[first : first + samples])
    if values.dim() == data["dimension"] + 1:
        values = values[:, None]
    begin, end = data[which].get("channels", [0, values.shape[1]])
    return values[:, begin:end].float()


train = [fields(data["file"], 0, data.get("samples"), which) for which in ("input", "target")]
test = problem["test"][0]
test = [fields(test["file"], test.get("first", 0), test.get("samples"), which) for which in ("input", "target")]
axes = {"points": (0,), "channels": (0, *range(2, train[0].dim()))}.get(data.get("normalise", "channels"))
mean, deviation = zip(*[(x.mean(axes, keepdim=True), x.std(axes, keepdim=True) + 1e-7) for x in train])
encode = lambda x: (x - mean[0]) / deviation[0]
layers, modes, width = model.get("layers", 4), model["modes"], model["width"]
padding = model.get("padding", [0] * len(modes))
sizes = list(fno.shapes(train[0].shape[1], train[1].shape[1], width, layers, modes, model.get("projection", 128)))


def first_values(shape, previous):
    if len(shape) == 4:
        return torch.rand(shape) / width**2
    fan = (shape if len(shape) == 2 else previous)[-1]
    return (2 * torch.rand(shape) - 1) / math.sqrt(fan)


def relative(output, target):
    flat = lambda x: x.flatten(1).norm(dim=1)
    return (flat(output - target) / flat(target)).mean()


for seed in options.seeds:
    torch.manual_seed(seed)
    parts = [torch.nn.Parameter(first_values(s, p)) for s, p in zip(sizes, [None, *sizes])]
    predict = lambda x: fno.operator(parts, encode(x), layers, modes, padding) * deviation[1] + mean[1]
    optimiser = torch.optim.AdamW(parts, lr=training["rate"], weight_decay=training.get("weight_decay", 0.0))
    batch, samples = training["batch"], len(train[0])
    steps = training["epochs"] * math.ceil(samples / batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 0.5 * (1 + math.cos(math.pi * t / steps)))
    begun = time.perf_counter()
    for _ in range(training["epochs"]):
        for chosen in torch.randperm(samples).split(batch):
            optimiser.zero_grad()
            relative(predict(train[0][chosen]), train[1][chosen]).backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        pairs = zip(test[0].split(batch), test[1].split(batch))
        error = sum(relative(predict(x), y) * len(x) for x, y in pairs) / len(test[0])
    print(f"seed {seed}: test error {error:.5f}, {time.perf_counter() - begun:.1f} s", flush=True)
