"""CPU-seconds of one peer on one thread, as a process of its own: `peer.py PEER WIDTH N_ANGLES N_SLICES`.

Prints one line of JSON: CPU-seconds of each operation for all slices, and the process's peak memory in bytes.
Slices are looped over, as all these programs' users do; what a slice costs does not depend on its values.
"""

import json
import resource
import sys
import time

import numpy as np


def main(peer: str, width: int, n_angles: int, n_slices: int) -> None:
    random = np.random.default_rng(1)
    image = random.random((width, width), dtype=np.float32)
    sinogram = random.random((n_angles, width), dtype=np.float32)
    operations = scikit_image(image, sinogram) if peer == "scikit-image" else astra(peer, image, sinogram)
    seconds = {}
    for name, work in operations.items():
        work()  # plans and caches
        start = time.process_time()
        for _ in range(n_slices):
            work()
        seconds[name] = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"cpu_seconds": seconds, "peak_memory": memory}))


def astra(peer: str, image: np.ndarray, sinogram: np.ndarray) -> dict:
    from astra_cpu import Astra

    angles = np.arange(len(sinogram)) * np.pi / len(sinogram)
    astra = Astra(peer.removeprefix("ASTRA "), image.shape, angles, sinogram.shape[1])
    return {
        "forward": lambda: astra.forward(image),
        "back": lambda: astra.back(sinogram),
        "fbp": lambda: astra.fbp(sinogram),
    }


def scikit_image(image: np.ndarray, sinogram: np.ndarray) -> dict:
    from skimage.transform import iradon, radon

    degrees = np.arange(len(sinogram)) * 180 / len(sinogram)
    y, x = np.mgrid[: len(image), : len(image)] - len(image) // 2
    disc = np.where(x * x + y * y < (len(image) // 2 - 1) ** 2, image, 0)
    columns = np.ascontiguousarray(sinogram.T)
    return {
        "forward": lambda: radon(disc, degrees, circle=True),
        "back": lambda: iradon(columns, degrees, filter_name=None, circle=True),
        "fbp": lambda: iradon(columns, degrees, filter_name="ramp", circle=True),
    }


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
