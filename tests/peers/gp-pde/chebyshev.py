"""Plain spectral collocation for the job files of gp-pde: the baseline that a learned spectrum has to beat.

`chebyshev.py JOB...` prints error, CPU-seconds and iterations of each job file; `bench.py` has them beside ours.

Each axis has as many points as the job says: Chebyshev-Lobatto, or evenly spaced with trigonometric interpolation if
periodic. Conditions are built in: of an axis's values, as many as it has conditions are expressed by the others, and
the equation holds at those others. The part of the equation with mean coefficients is a Kronecker sum: solved directly
in one axis, by eigenvectors among space axes, by Schur forms (Bartels-Stewart) with time. What is left is Newton with
GMRES. A job file with a feature that it has no part for is refused, and the feature named.
"""

import os

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

import itertools
import re
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import scipy.linalg
import sympy
from scipy.sparse.linalg import LinearOperator, gmres

TEST_POINTS = {1: 1999, 2: 307, 3: 61, 4: 23}
NEWTON_STEPS, GMRES_STEPS = 12, 300
# What a problem may say; the prior and the output are ours alone and change no problem.
KEYS = {"equation", "manufactured", "define", "axes", "conditions", "prior", "solver", "output"}
SOLVER_KEYS = {"tolerance", "newton", "sweeps"}
AXIS_KEYS = {"name", "from", "to", "points", "nodes", "periodic"}
CONDITION_KEYS = {"at", "equation"}


class NotCovered(Exception):
    """A feature of a job file that collocation has no part for."""


def solve(job: dict) -> dict:
    """Error off the grid and CPU-seconds of the solve (differentiation matrices included, the exact solution not)."""
    axes, exact, equation = read(job)
    if len(axes) > 2 and any(axis["name"] == "t" for axis in axes):
        raise NotCovered("time with more than one other axis")
    names, unknowns = [axis["symbol"] for axis in axes], equation["unknowns"]
    nodes = [points(axis) for axis in axes]
    right = on_grid(equation["right"], names, nodes)
    faces = face_data(axes, exact, nodes)
    coefficients = [sympy.diff(equation["left"], u) for u in unknowns.values()]
    evaluate = sympy.lambdify([*names, *unknowns.values()], [equation["left"], *coefficients], "numpy")
    linear = not any(c.has(*unknowns.values()) for c in coefficients)
    constant = linear and not any(c.has(*names) for c in coefficients)

    start = time.process_time()
    orders = [max((k for a, k in unknowns if a == i), default=0) for i in range(len(axes))]
    setting = [Axis(axis, x, order) for axis, x, order in zip(axes, nodes, orders)]
    lift = sum(sign * kron_apply([setting[i].lift if i in which else None for i in range(len(axes))], data)
               for which, sign, data in faces) if faces else np.zeros(right.shape)
    keep = np.ix_(*[axis.keep for axis in setting])
    known = {key: derivative(setting, lift, key, "full")[keep] for key in unknowns}
    coordinates = [x.reshape([-1 if i == j else 1 for j in range(len(axes))]) for i, x in
                   enumerate(x[axis.keep] for x, axis in zip(nodes, setting))]
    right = right[keep]
    v, inverse, used, steps, inner = np.zeros(right.shape), None, None, 0, 0
    for steps in range(1, NEWTON_STEPS + 1):
        values = [known[key] + derivative(setting, v, key, "inner") for key in unknowns]
        residual, *slopes = [np.broadcast_to(a, right.shape) for a in evaluate(*coordinates, *values)]
        residual = residual - right
        means = [float(np.mean(a)) for a in slopes]
        if used is None or not np.allclose(used, means, rtol=1e-12, atol=0):
            inverse, used = invertor(setting, dict(zip(unknowns, means)), inverse), means
        if constant:
            v = v - inverse(residual)
            break

        def system(z):
            z = inverse(z.reshape(right.shape))
            return sum(a * derivative(setting, z, key, "inner") for a, key in zip(slopes, unknowns)).ravel()

        count = []
        step, _ = gmres(LinearOperator((v.size,) * 2, dtype=float, matvec=system), residual.ravel(), rtol=1e-6,
                        restart=100, maxiter=GMRES_STEPS // 100, callback=count.append, callback_type="pr_norm")
        inner += len(count)
        step = inverse(step.reshape(right.shape))
        v = v - step
        if not np.isfinite(v).all() or np.linalg.norm(step) <= 1e-13 * np.linalg.norm(v):
            break
    u = lift + kron_apply([axis.extend for axis in setting], v)
    cpu = time.process_time() - start

    n = TEST_POINTS[len(axes)]
    off = [off_grid(axis, n) for axis in axes]
    u = kron_apply([interpolation(axis, x, at) for axis, x, at in zip(axes, nodes, off)], u)
    compare = on_grid(exact, names, off)
    error = float(np.linalg.norm(u - compare) / np.linalg.norm(compare))
    return {"error": error, "cpu": cpu, "newton": steps, "gmres": inner}


def read(job: dict) -> tuple:
    """Axes with their conditions, the exact solution, the equation with its right-hand side."""
    require_covered(job)

    def parse(text: str, extra: dict) -> sympy.Expr:
        return sympy.sympify(text.replace("^", "**"), locals=extra)

    axes = []
    for a in job["axes"]:
        start, end = (float(parse(str(a.get(key, 0)), {})) for key in ["from", "to"])
        axes.append({"name": a["name"], "symbol": sympy.Symbol(a["name"]), "start": start, "length": end - start,
                     "n": a["points"], "periodic": a.get("periodic", False), "conditions": []})
    names = {axis["name"]: axis["symbol"] for axis in axes}
    for line in job.get("define", []):
        name, value = line.split("=")
        names[name.strip()] = parse(value, names)
    exact = parse(job["manufactured"], names)

    unknowns, real = {}, {}
    for word in sorted(set(re.findall(r"\bu(?:_\w+)?\b", job["equation"]))):
        letters = word[2:]
        which = next((i for i, axis in enumerate(axes) if letters and letters[0] == axis["name"]), -1)
        if letters and (which < 0 or letters != letters[0] * len(letters)):
            raise NotCovered(f"`{word}`")
        symbol = sympy.Symbol(word)
        unknowns[which, len(letters)] = symbol
        real[symbol] = sympy.diff(exact, axes[which]["symbol"], len(letters)) if letters else exact
    left, *given = [parse(side, names | {str(s): s for s in real}) for side in job["equation"].split("=")]
    equation = {"left": left - given[0] if given else left, "unknowns": unknowns}
    equation["right"] = sympy.Integer(0) if given else left.subs(real)

    named = {c["at"].split("=")[0].strip() for c in job.get("conditions", [])}
    for condition in job.get("conditions", []):
        if "=" in condition["equation"]:
            raise NotCovered("a condition with a right side of its own")
        for axis in axes:
            at, _, value = condition["at"].partition("=")
            if at.strip() == axis["name"]:
                ends = [float(parse(value, {}))]
            elif at == "boundary" and axis["name"] not in named and not axis["periodic"]:
                ends = [axis["start"], axis["start"] + axis["length"]]
            else:
                continue
            symbols = [sympy.Symbol("u" + (f"_{axis['name'] * k}" if k else "")) for k in range(4)]
            form = parse(condition["equation"], {str(s): s for s in symbols})
            axis["conditions"] += [(end, [float(form.coeff(s)) for s in symbols]) for end in ends]
    return axes, exact, equation


def require_covered(job: dict) -> None:
    """Keys of later features are unknown here: none of them is left out in silence."""
    if "manufactured" not in job:
        raise NotCovered("a problem without `manufactured` solution")
    parts = [(job, KEYS), (job.get("solver", {}), SOLVER_KEYS)]
    parts += [(axis, AXIS_KEYS) for axis in job["axes"]] + [(c, CONDITION_KEYS) for c in job.get("conditions", [])]
    unknown = sorted({key for part, keys in parts for key in part if key not in keys})
    if unknown:
        raise NotCovered(", ".join(f"`{key}`" for key in unknown))


def points(axis: dict) -> np.ndarray:
    n = axis["n"]
    if axis["periodic"]:
        return axis["start"] + axis["length"] * np.arange(n) / n
    return axis["start"] + axis["length"] * np.sin(np.pi * np.arange(n) / (2 * (n - 1))) ** 2


def off_grid(axis: dict, n: int) -> np.ndarray:
    """Points to compare at, on no grid."""
    return axis["start"] + axis["length"] * (np.arange(n) + (5**0.5 - 1) / 2) / n


def on_grid(expression: sympy.Expr, names: list, nodes: list) -> np.ndarray:
    grid = np.meshgrid(*nodes, indexing="ij", sparse=True)
    values = sympy.lambdify(names, expression, "numpy")(*grid)
    return np.array(np.broadcast_to(values, [len(x) for x in nodes]), dtype=float)


def face_data(axes: list, exact: sympy.Expr, nodes: list) -> list:
    """Data of the conditions, of every set of axes together: terms of the boolean sum of all lifts."""
    terms = []
    bounded = [i for i, axis in enumerate(axes) if axis["conditions"]]
    names = [axis["symbol"] for axis in axes]
    for size in range(1, len(bounded) + 1):
        for which in itertools.combinations(bounded, size):
            shape = [len(axes[i]["conditions"]) if i in which else len(nodes[i]) for i in range(len(axes))]
            data = np.empty(shape)
            for chosen in itertools.product(*[range(shape[i]) for i in which]):
                face = exact
                for i, c in zip(which, chosen):
                    end, form = axes[i]["conditions"][c]
                    face = sum(a * sympy.diff(face, names[i], k) for k, a in enumerate(form)).subs(names[i], end)
                place = tuple(chosen[which.index(i)] if i in which else slice(None) for i in range(len(axes)))
                rest = [i for i in range(len(axes)) if i not in which]
                if rest:
                    data[place] = on_grid(face, [names[i] for i in rest], [nodes[i] for i in rest])
                else:
                    data[place] = float(face)
            terms.append((which, (-1) ** (size + 1), data))
    return terms


class Axis:
    """Matrices of one axis: `keep`, the values that remain; `extend`, all from these; `lift`, all from the conditions."""

    def __init__(self, axis: dict, x: np.ndarray, order: int) -> None:
        self.time, n = axis["name"] == "t", len(x)
        order = max([order] + [k for _, form in axis["conditions"] for k, a in enumerate(form) if a])
        if axis["periodic"]:
            self.full = [np.eye(n)] + [fourier(n, axis["length"], k) for k in range(1, order + 1)]
        else:
            first = differentiation(x)
            self.full = [np.eye(n)]
            for _ in range(order):
                self.full.append(first @ self.full[-1])
        at_start = [abs(end - axis["start"]) < axis["length"] / 2 for end, _ in axis["conditions"]]
        rows = np.array([sum(a * self.full[k][0 if first else -1] for k, a in enumerate(form) if a)
                         for first, (_, form) in zip(at_start, axis["conditions"])]).reshape(-1, n)
        n_first = sum(at_start) if len(rows) != 2 else 1
        gone = [*range(n_first), *range(n - len(rows) + n_first, n)]
        self.keep = np.setdiff1d(np.arange(n), gone)
        solve = np.linalg.inv(rows[:, gone])
        self.extend, self.lift = np.zeros((n, len(self.keep))), np.zeros((n, len(rows)))
        self.extend[self.keep] = np.eye(len(self.keep))
        self.extend[gone] = -solve @ rows[:, self.keep]
        self.lift[gone] = solve
        self.inner = [(m @ self.extend)[self.keep] for m in self.full]


def derivative(setting: list, u: np.ndarray, key: tuple, which: str) -> np.ndarray:
    axis, order = key
    return along(getattr(setting[axis], which)[order], u, axis) if order else u


def invertor(setting: list, means: dict, previous):
    """Inverse of the part with mean coefficients."""
    shift = means.get((-1, 0), 0.0)
    parts = [sum(c * axis.inner[k] for (a, k), c in means.items() if a == i) for i, axis in enumerate(setting)]
    if len(parts) == 1:
        factors = scipy.linalg.lu_factor(parts[0] + shift * np.eye(len(parts[0])))
        return lambda r: scipy.linalg.lu_solve(factors, r)
    if any(axis.time for axis in setting):
        (a, p), (b, q) = (scipy.linalg.schur(m, "complex") for m in [parts[0] + shift * np.eye(len(parts[0])), parts[1].T])

        def sylvester(r):
            x, scale, _ = scipy.linalg.lapack.ztrsyl(a, b, p.conj().T @ r @ q)
            return (p @ (x / scale) @ q.conj().T).real

        return sylvester
    cached = getattr(previous, "eigen", None)
    if cached is None or not all(np.array_equal(m, n) for m, n in zip(cached[0], parts)):
        values, vectors = zip(*[np.linalg.eig(m) for m in parts])
        cached = parts, values, vectors, [np.linalg.inv(w) for w in vectors]
    _, values, vectors, inverses = cached
    total = shift + sum(w.reshape([-1 if i == j else 1 for j in range(len(parts))]) for i, w in enumerate(values))

    def diagonal(r):
        return kron_apply(vectors, kron_apply(inverses, r) / total).real

    diagonal.eigen = cached
    return diagonal


def kron_apply(matrices: list, u: np.ndarray) -> np.ndarray:
    for axis, matrix in enumerate(matrices):
        u = u if matrix is None else along(matrix, u, axis)
    return u


def along(matrix: np.ndarray, u: np.ndarray, axis: int) -> np.ndarray:
    """The matrix times one mode of a tensor."""
    return np.moveaxis(np.tensordot(matrix, u, axes=(1, axis)), 0, axis)


def weights(n: int) -> np.ndarray:
    """Barycentric weights of Chebyshev-Lobatto points."""
    w = (-1.0) ** np.arange(n)
    w[[0, -1]] /= 2
    return w


def differentiation(x: np.ndarray) -> np.ndarray:
    """First derivative at Chebyshev points; distances from the points' angles, the diagonal makes constants vanish."""
    n, w = len(x), weights(len(x))
    half = np.pi * np.arange(n) / (2 * (n - 1))
    distance = (x[-1] - x[0]) * np.sin(half[:, None] + half) * np.sin(half[:, None] - half)
    np.fill_diagonal(distance, 1)
    d = w / w[:, None] / distance
    np.fill_diagonal(d, 0)
    return d - np.diag(d.sum(axis=1))


def fourier(n: int, length: float, order: int) -> np.ndarray:
    """Derivative of the trigonometric interpolant; odd ones of the highest frequency vanish."""
    factor = (2j * np.pi / length * np.fft.fftfreq(n, 1 / n)) ** order
    if order % 2 and n % 2 == 0:
        factor[n // 2] = 0
    return np.fft.ifft(factor[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real


def interpolation(axis: dict, x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """From values at the nodes to values at points that are no nodes."""
    n = len(x)
    if axis["periodic"]:
        angle = np.pi / axis["length"] * (at[:, None] - x)
        return np.sin(n * angle) / n / (np.tan(angle) if n % 2 == 0 else np.sin(angle))
    terms = weights(n) / (at[:, None] - x)
    return terms / terms.sum(axis=1, keepdims=True)


def main() -> None:
    for path in sys.argv[1:]:
        print(path, solve(tomllib.loads(Path(path).read_text())["problem"]))


if __name__ == "__main__":
    main()
