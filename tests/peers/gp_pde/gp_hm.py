"""The published method's objective (GP-HM with Student-t mixtures, ICLR 2024) for u_xx = f in one axis, in our own words.

The values U at the nodes, the mixture's weights w, lengths a and frequencies mu, and two precisions are all moved by Adam.
The prior's covariance C and its second derivative K'' depend on distances only (Toeplitz), so gradients need their sums
over diagonals: one entry per lag. The reference works on all pairs with automatic differentiation, hundreds of times
slower per step, to the same loss.
"""

import functools
import time

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, toeplitz

JITTER, BOUNDARY, STEP, MIXTURE = 1e-6, 200.0, 1e-2, 30


def solve(n: int, length: float, exact, right, frequency_scale: float, iterations: int) -> dict:
    """Last error, and the least of 20 checkpoints (which the publication reports: it needs the truth)."""
    start = time.process_time()
    x = np.linspace(0, length, n)
    f, ends, bound = right(x), [0, n - 1], exact(x[[0, -1]])
    at = length * (np.arange(1999) + (5**0.5 - 1) / 2) / 1999
    q = MIXTURE
    # U, log w, log a / sqrt 5, mu, log precisions of the boundary and of the equation.
    p = np.concatenate([np.zeros(n), np.full(q, -np.log(q)), np.zeros(q), np.linspace(0, 1, q) * frequency_scale, [0, 0]])
    m, v, errors, done = np.zeros_like(p), np.zeros_like(p), [], 0
    checkpoints = set(np.linspace(iterations / 20, iterations, 20).astype(int))
    for step in range(1, iterations + 1):
        try:
            _, slope, alpha = objective(p, x, f, ends, bound)
        except LinAlgError:
            break  # C is no longer positive definite in double precision
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        done = step
        if step in checkpoints:
            values = kernel(np.abs(at[:, None] - x).ravel(), *np.split(p[n:-2], 3))[0].reshape(len(at), n) @ alpha
            errors.append(float(np.linalg.norm(values - exact(at)) / np.linalg.norm(exact(at))))
        p = p - STEP * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return {"error": errors[-1], "best": min(errors), "iterations": done, "cpu": time.process_time() - start}


def objective(p, x, f, ends, bound):
    """Negative log posterior, its gradient, and C^-1 U."""
    n = len(x)
    u, mixture, (boundary, precision) = p[:n], np.split(p[n:-2], 3), np.exp(p[-2:])
    lags, second, by_lags, by_second = kernel(x - x[0], *mixture, slopes=True)
    factor = cho_factor(toeplitz(lags) + JITTER * np.eye(n), lower=True)
    inverse = cho_solve(factor, np.eye(n))
    curve = toeplitz(second)
    alpha = cho_solve(factor, u)
    miss, off = curve @ alpha - f, u[ends] - bound
    beta = cho_solve(factor, curve @ miss)
    loss = (np.log(np.diag(factor[0])).sum() + u @ alpha / 2 + precision / 2 * miss @ miss - n / 2 * p[-1]
            - BOUNDARY * (len(ends) / 2 * p[-2] - boundary / 2 * off @ off))
    to_u = alpha + precision * beta
    to_u[ends] += BOUNDARY * boundary * off
    to_lags = diagonals(inverse) / 2 - products(alpha, alpha) / 2 - precision * products(beta, alpha)
    to_second = precision * products(miss, alpha)
    to_mixture = [a @ to_lags + b @ to_second for a, b in zip(by_lags, by_second)]
    to_boundary = -BOUNDARY * (len(ends) / 2 - boundary / 2 * off @ off)
    to_precision = precision / 2 * miss @ miss - n / 2
    return loss, np.concatenate([to_u, *to_mixture, [to_boundary, to_precision]]), alpha


def kernel(z, log_w, log_a, mu, slopes=False):
    """k and k'' at distances z >= 0; with slopes also their derivatives by log w, log a, mu, one row per component."""
    w, a, m = np.exp(log_w)[:, None], np.sqrt(5) * np.exp(log_a)[:, None], 2 * np.pi * mu[:, None]
    s = a * z
    decay, cos = np.exp(-s), np.cos(m * z)
    g = (1 + s + s**2 / 3) * decay
    if not slopes:
        return (w * g * cos).sum(axis=0), None
    sin = np.sin(m * z)
    # With s = a z: g' = a p, g'' = a^2 r, and their derivatives by s.
    p, r, r_s = -(s + s**2) / 3 * decay, -(1 + s - s**2) / 3 * decay, (3 * s - s**2) / 3 * decay
    g1, g2 = a * p, a**2 * r
    k, k2 = w * g * cos, w * (g2 * cos - 2 * m * g1 * sin - m**2 * g * cos)
    by_lags = [k, w * s * p * cos, -2 * np.pi * w * z * g * sin]
    by_second = [
        k2,
        w * ((2 * g2 + a**2 * s * r_s) * cos - 2 * m * (g1 + a * s * r) * sin - m**2 * s * p * cos),
        2 * np.pi * w * (-z * g2 * sin - 2 * g1 * sin - 2 * m * z * g1 * cos - 2 * m * g * cos + m**2 * z * g * sin),
    ]
    return k.sum(axis=0), k2.sum(axis=0), by_lags, by_second


def diagonals(matrix):
    """Sums over |i - j| = 0, 1, ... of a matrix."""
    return np.bincount(distances(len(matrix)), matrix.ravel(), minlength=len(matrix))


@functools.cache
def distances(n):
    return np.abs(np.arange(n)[:, None] - np.arange(n)).ravel()


def products(a, b):
    """Sums over |i - j| = 0, 1, ... of a_i b_j."""
    both = np.correlate(a, b, "full")
    n = len(a)
    sums = both[n - 1:].copy()
    sums[1:] += both[:n - 1][::-1]
    return sums
