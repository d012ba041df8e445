"""ASTRA's answers to a test of tests/peers.rs, on the CPU: `agree.py FOLDER`.

Reads volume.npy [n_slices, ny, nx], noise.npy and smooth.npy [n_slices, n_angles, n_cols] and angles.npy (radians);
writes forward.npy (A volume), back.npy (A^T noise), fbp-noise.npy and fbp-smooth.npy (filtered back projections).
"""

import sys
from pathlib import Path

import numpy as np

from astra_cpu import Astra


def main(folder: Path) -> None:
    volume, noise, smooth, angles = (np.load(folder / f"{name}.npy") for name in ["volume", "noise", "smooth", "angles"])
    astra = Astra("linear", volume.shape[1:], angles, noise.shape[2])

    def save(name, operation, slices):
        np.save(folder / f"{name}.npy", np.stack([operation(one) for one in slices]).astype(np.float32, order="C"))

    # ASTRA's row 0 is the top of the image (+y), ours the bottom.
    save("forward", lambda image: astra.forward(image[::-1]), volume)
    save("back", lambda sinogram: astra.back(sinogram)[::-1], noise)
    save("fbp-noise", lambda sinogram: astra.fbp(sinogram)[::-1], noise)
    save("fbp-smooth", lambda sinogram: astra.fbp(sinogram)[::-1], smooth)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
