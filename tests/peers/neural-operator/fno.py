"""Fourier neural operators in PyTorch, with parameters in the order of Convoke."""

import torch


def shapes(inputs, outputs, width, layers, modes, projection, tucker=None):
    kept = modes[-1]
    for m in modes[:-1]:
        kept *= 2 * m
    yield (width, inputs + len(modes))
    yield (width,)
    extents = [width, width, *[2 * m for m in modes[:-1]], modes[-1]]
    for _ in range(layers):
        if tucker:
            yield from ((*tucker, 2), *[(n, r, 2) for n, r in zip(extents, tucker)])
        else:
            yield (kept, 2, width, width)
        yield from ((width, width), (width,))
    yield from ((projection, width), (projection,), (outputs, projection), (outputs,))


def split(flat, sizes):
    parts, at = [], 0
    for shape in sizes:
        count = 1
        for n in shape:
            count *= n
        parts.append(flat[at : at + count].reshape(shape))
        at += count
    assert at == flat.numel()
    return parts


def mix(weight, bias, x):
    y = torch.einsum("oi,bi...->bo...", weight, x)
    return y + bias.reshape(1, -1, *[1] * (x.dim() - 2))


def spectral(weight, modes, x):
    """Inverse real transform of the kept modes of x, each times its matrix, all others zero."""
    axes = tuple(range(2, x.dim()))
    points = x.shape[2:]
    spectrum = torch.fft.rfftn(x, dim=axes)
    outer = [torch.cat([torch.arange(m), torch.arange(n - m, n)]) for m, n in zip(modes[:-1], points[:-1])]
    place = (slice(None), slice(None), *(torch.meshgrid(*outer, indexing="ij") if outer else ()), slice(0, modes[-1]))
    matrices = torch.complex(weight[:, 0], weight[:, 1]).reshape(*[len(o) for o in outer], modes[-1], *weight.shape[2:])
    made = torch.zeros(x.shape[0], weight.shape[3], *spectrum.shape[2:], dtype=spectrum.dtype)
    letters = "xyz"[: len(points)]
    made[place] = torch.einsum(f"bi{letters},{letters}io->bo{letters}", spectrum[place], matrices)
    return torch.fft.irfftn(made, s=points, dim=axes)


def tensor(parts):
    """The matrices of the modes of a Tucker product: core, then a factor for each axis."""
    core, *factors = [torch.complex(part[..., 0], part[..., 1]) for part in parts]
    letters, ranks = "ioxyz"[: len(factors)], "abcde"[: len(factors)]
    factored = ",".join(n + r for n, r in zip(letters, ranks))
    w = torch.einsum(f"{ranks},{factored}->{letters[2:]}io", core, *factors).flatten(0, -3)
    return torch.stack([w.real, w.imag], 1)


def operator(parts, x, layers, modes, padding, tucker=None):
    parts = list(parts)
    if tucker:
        first, last, each = parts[:2], parts[-4:], len(tucker) + 3
        layer = lambda l: parts[2 + each * l : 2 + each * (l + 1)]
        parts = first + [p for l in range(layers) for p in (tensor(layer(l)[:-2]), *layer(l)[-2:])] + last
    points = x.shape[2:]
    grid = torch.meshgrid(*[torch.linspace(0, 1, n, dtype=x.dtype) for n in points], indexing="ij")
    grid = torch.stack(grid).expand(x.shape[0], *[-1] * (len(points) + 1))
    v = mix(parts[0], parts[1], torch.cat([x, grid], 1))
    behind = [n for p in reversed(padding) for n in (0, p)]
    v = torch.nn.functional.pad(v, behind)
    for l in range(layers):
        weight, w, b = parts[2 + 3 * l : 5 + 3 * l]
        v = spectral(weight, modes, v) + mix(w, b, v)
        if l + 1 < layers:
            v = torch.nn.functional.gelu(v)
    v = v[(slice(None), slice(None), *[slice(0, n) for n in points])]
    p = parts[-4:]
    return mix(p[2], p[3], torch.nn.functional.gelu(mix(p[0], p[1], v)))
