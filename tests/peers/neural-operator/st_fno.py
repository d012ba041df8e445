"""The spatiotemporal Fourier neural operator in PyTorch, with parameters in the order of Convoke."""

import torch
from torch.nn.functional import gelu, group_norm

from fno import mix


def shapes(width, layers, modes):
    h, kept = width, 4 * modes[0] * modes[1] * modes[2]
    yield from ((h,), (h,), (h, h), (h,))
    for l in range(layers):
        yield from ((kept, 2, h, h), (4 * h, h), (4 * h,), (h, 4 * h), (h,))
        if l > 0:
            yield from ((h, h), (h,))
    yield from ((1, h), (1,), (kept, 2, 1, 1), (4 * modes[0] * modes[1], 2, modes[2]))


def spectral(weight, modes, x, times, bias=None):
    """Kept modes of x, each times its matrix, at other times; the bias is added to them."""
    mx, my, mt = modes
    nx, ny = x.shape[2:4]
    spectrum = torch.fft.rfftn(x, dim=(2, 3, 4))
    made = torch.zeros(x.shape[0], weight.shape[3], nx, ny, times // 2 + 1, dtype=spectrum.dtype)
    matrices = torch.complex(weight[:, 0], weight[:, 1]).reshape(2 * mx, 2 * my, mt, *weight.shape[2:])
    if bias is not None:
        bias = torch.complex(bias[:, 0], bias[:, 1]).reshape(2 * mx, 2 * my, mt)
    for ix, x_part in enumerate((slice(0, mx), slice(nx - mx, nx))):
        for iy, y_part in enumerate((slice(0, my), slice(ny - my, ny))):
            here = (slice(ix * mx, (ix + 1) * mx), slice(iy * my, (iy + 1) * my))
            place = (slice(None), slice(None), x_part, y_part, slice(0, mt))
            made[place] = torch.einsum("bixyt,xytio->boxyt", spectrum[place], matrices[here])
            if bias is not None:
                made[place] = made[place] + 0.1 * bias[here]
    return torch.fft.irfftn(made, s=(nx, ny, times), dim=(2, 3, 4))


def feed(parts, x):
    return mix(parts[2], parts[3], gelu(mix(parts[0], parts[1], x)))


def encoding(width, growth, nx, ny, times, dtype):
    x = torch.linspace(0, 1, nx, dtype=dtype).reshape(-1, 1, 1)
    y = torch.linspace(0, 1, ny, dtype=dtype).reshape(1, -1, 1)
    t = (torch.arange(1, times + 1, dtype=dtype) / 100).reshape(1, 1, -1)
    waves = [(torch.sin, torch.cos)[k % 2](torch.pi * (k + 1) * t) * torch.exp(growth * t) for k in range(width - 3)]
    return torch.stack([part.expand(nx, ny, times) for part in (x, y, t, *waves)])


def operator(parts, w, width, layers, modes, latent, growth, after):
    """Snapshots [sample, t, x, y] after those of w."""
    w = w.permute(0, 2, 3, 1)
    parts = list(parts)
    take = lambda count: [parts.pop(0) for _ in range(count)]
    v = w[:, None] + encoding(width, growth, *w.shape[1:], w.dtype)
    scale, shift, weight, bias = take(4)
    v = mix(weight, bias, group_norm(v, 1, scale, shift, 1e-7))
    for l in range(layers):
        matrices, *network = take(5)
        made = feed(network, spectral(matrices, modes, v, latent))
        v = gelu(made + (v[..., -1:] if l == 0 else mix(*take(2), v)))
    reduced = mix(*take(2), v)
    z = torch.cat([w[:, None, ..., -1:], reduced], -1)
    z = torch.nn.functional.pad(z, (latent + 1, 0))
    matrices, bias = take(2)
    q = spectral(matrices, modes, z, after + latent + 2, bias)[:, 0, ..., -after:]
    return (w[..., -1:] + q).permute(0, 3, 1, 2)
