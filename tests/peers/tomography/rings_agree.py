"""Algotom's answers to a test of tests/peers.rs: `rings_agree.py FOLDER`.

Reads sinogram.npy, line integrals [angles, columns]; writes NAME.npy, what each algorithm of Vo (2018) makes of their transmissions, as line
integrals.
"""

import sys
from pathlib import Path

import numpy as np
from algotom.prep import removal


def main(folder: Path) -> None:
    transmissions = np.exp(-np.load(folder / "sinogram.npy"))
    answers = {
        "sorting": removal.remove_stripe_based_sorting(transmissions, 21),
        "large": removal.remove_large_stripe(transmissions, 3.0, 51),
        "dead": removal.remove_dead_stripe(transmissions, 3.0, 51),
        "all": removal.remove_all_stripe(transmissions, 3.0, 51, 21),
    }
    for name, answer in answers.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(-np.log(np.float32(answer))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
