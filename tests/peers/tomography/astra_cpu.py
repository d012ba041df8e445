"""ASTRA's parallel-beam operators of one slice, on the CPU (ASTRA has no 3-D CPU projector and no CPU threads)."""

import astra
import numpy as np


class Astra:
    """`projector`: 'line' (Siddon) or 'linear' (Joseph)."""

    def __init__(self, projector: str, shape: tuple[int, int], angles_rad: np.ndarray, n_cols: int):
        volume = astra.create_vol_geom(*shape)
        detector = astra.create_proj_geom("parallel", 1.0, n_cols, angles_rad)
        self.projector = astra.create_projector(projector, detector, volume)
        self.volume = astra.data2d.create("-vol", volume)
        self.sinogram = astra.data2d.create("-sino", detector)
        data = {"ProjectorId": self.projector, "ProjectionDataId": self.sinogram}
        self.forward_algorithm = self._algorithm("FP", **data, VolumeDataId=self.volume)
        self.back_algorithm = self._algorithm("BP", **data, ReconstructionDataId=self.volume)
        # The ramp built in space, zero padding to the next power of two of 2 n_cols: the same as our RampFilter.
        self.fbp_algorithm = self._algorithm(
            "FBP", **data, ReconstructionDataId=self.volume, option={"FilterType": "ram-lak"}
        )

    def forward(self, image: np.ndarray) -> np.ndarray:
        """[n_rows, n_columns of the image] to [n_angles, n_cols]."""
        return self._run(self.forward_algorithm, self.volume, image, self.sinogram)

    def back(self, sinogram: np.ndarray) -> np.ndarray:
        """[n_angles, n_cols] to an image."""
        return self._run(self.back_algorithm, self.sinogram, sinogram, self.volume)

    def fbp(self, sinogram: np.ndarray) -> np.ndarray:
        """[n_angles, n_cols] to an image."""
        return self._run(self.fbp_algorithm, self.sinogram, sinogram, self.volume)

    @staticmethod
    def _algorithm(kind: str, **settings) -> int:
        return astra.algorithm.create(astra.astra_dict(kind) | settings)

    @staticmethod
    def _run(algorithm: int, source: int, values: np.ndarray, target: int) -> np.ndarray:
        astra.data2d.store(source, values)
        astra.data2d.store(target, 0)
        astra.algorithm.run(algorithm)
        return astra.data2d.get(target)
