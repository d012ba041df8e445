"""RTK's answers to a test of tests/peers.rs, on the CPU: `cone_agree.py FOLDER`.

Reads case.json, volume.npy [nz, ny, nx] and projections.npy [rows, views, cols]. Writes fdk.npy (RTK's FDK of the
projections on a circle), and for a helix and for views with every offset and angle that RTK's geometry has: joseph-NAME.npy
(its projections of the volume), back-NAME.npy (what its adjoint makes of the projections) and NAME.xml (the geometry, as RTK writes it).
Writes parker.npy and displaced.npy too: its weights of rays that a short scan, or a displaced detector, measures twice, [views, columns].

RTK turns about its y: its (X, Y, Z) is our (x, z, -y). Keep every filter in a variable: ITK's Python frees what has none.
"""

import json
import sys
from pathlib import Path

import itk
import numpy as np

try:
    from itk import RTK as rtk
except ImportError:
    sys.exit(77)


def main(folder: Path) -> None:
    case = json.loads((folder / "case.json").read_text())
    volume = np.load(folder / "volume.npy")
    projections = np.load(folder / "projections.npy")
    circle = geometry(case, [{} for _ in case["degrees"]])
    np.save(folder / "fdk.npy", fdk(case, circle, projections, volume.shape))
    n = len(case["degrees"])
    rise = [{"source": (0.0, z), "detector": (0.0, z)} for z in np.linspace(-1, 1, n) * case["rise"]]
    random = np.random.default_rng(3)
    anything = [
        {
            "source": tuple(random.uniform(-3, 3, 2)),
            "detector": tuple(random.uniform(-3, 3, 2)),
            "out_of_plane": random.uniform(-20, 20),
            "in_plane": random.uniform(-30, 30),
        }
        for _ in range(n)
    ]
    for name, views in [("helix", rise), ("anything", anything)]:
        scan = geometry(case, views)
        writer = rtk.ThreeDCircularProjectionGeometryXMLFileWriter.New()
        writer.SetFilename(str(folder / f"{name}.xml"))
        writer.SetObject(scan)
        writer.WriteFile()
        np.save(folder / f"joseph-{name}.npy", joseph(case, scan, volume, projections.shape))
        np.save(folder / f"back-{name}.npy", joseph_back(case, scan, projections, volume.shape))
    short = geometry({**case, "degrees": case["short_degrees"]}, [{} for _ in case["short_degrees"]])
    np.save(folder / "parker.npy", weights(rtk.ParkerShortScanImageFilter, case, short, len(case["short_degrees"]), projections.shape))
    shift = [{"source": (0.0, 0.0), "detector": (case["shift"], 0.0)} for _ in case["degrees"]]
    shifted = geometry(case, shift)
    np.save(folder / "displaced.npy", weights(rtk.DisplacedDetectorImageFilter, case, shifted, n, projections.shape))


def geometry(case, views):
    scan = rtk.ThreeDCircularProjectionGeometry.New()
    for degrees, view in zip(case["degrees"], views):
        source, detector = view.get("source", (0.0, 0.0)), view.get("detector", (0.0, 0.0))
        scan.AddProjection(
            case["source_to_axis"],
            case["source_to_detector"],
            degrees,
            detector[0],
            detector[1],
            view.get("out_of_plane", 0.0),
            view.get("in_plane", 0.0),
            source[0],
            source[1],
        )
    return scan


def image(values: np.ndarray, spacing: list):
    """An ITK image that is centred about the origin; the last axis of the array is ITK's first."""
    made = itk.image_from_array(np.ascontiguousarray(values, dtype=np.float32))
    made.SetSpacing(spacing)
    made.SetOrigin([-(n - 1) / 2 * s for n, s in zip(values.shape[::-1], spacing)])
    return made


def stack(case, projections: np.ndarray):
    """[rows, views, cols] as RTK's [views, rows, cols]."""
    pixel = case["pixel"]
    made = image(projections.transpose(1, 0, 2), [pixel, pixel, 1.0])
    origin = list(made.GetOrigin())
    made.SetOrigin([origin[0], origin[1], 0.0])
    return made


def to_rtk(volume: np.ndarray) -> np.ndarray:
    """[z, y, x] as [Z, Y, X] with Z = -y and Y = z."""
    return volume.transpose(1, 0, 2)[::-1]


def from_rtk(volume: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(volume[::-1].transpose(1, 0, 2))


def fdk(case, scan, projections, shape):
    data = stack(case, projections)
    empty = image(to_rtk(np.zeros(shape, np.float32)), [case["voxel"]] * 3)
    kind = itk.Image[itk.F, 3]
    filter = rtk.FDKConeBeamReconstructionFilter[kind].New()
    filter.SetInput(0, empty)
    filter.SetInput(1, data)
    filter.SetGeometry(scan)
    filter.GetRampFilter().SetTruncationCorrection(0.0)
    filter.GetRampFilter().SetHannCutFrequency(0.0)
    filter.Update()
    return from_rtk(itk.array_from_image(filter.GetOutput()))


def joseph(case, scan, volume, shape):
    data = image(to_rtk(volume), [case["voxel"]] * 3)
    empty = stack(case, np.zeros(shape, np.float32))
    kind = itk.Image[itk.F, 3]
    filter = rtk.JosephForwardProjectionImageFilter[kind, kind].New()
    filter.SetInput(0, empty)
    filter.SetInput(1, data)
    filter.SetGeometry(scan)
    filter.Update()
    return np.ascontiguousarray(itk.array_from_image(filter.GetOutput()).transpose(1, 0, 2))


def joseph_back(case, scan, projections, shape):
    data = stack(case, projections)
    empty = image(to_rtk(np.zeros(shape, np.float32)), [case["voxel"]] * 3)
    kind = itk.Image[itk.F, 3]
    filter = rtk.JosephBackProjectionImageFilter[kind, kind].New()
    filter.SetInput(0, empty)
    filter.SetInput(1, data)
    filter.SetGeometry(scan)
    filter.Update()
    return from_rtk(itk.array_from_image(filter.GetOutput()))


def weights(filter, case, scan, n_views, shape):
    """What a filter multiplies ones with, of the middle row: [views, columns]; columns that it adds are left out."""
    data = stack(case, np.ones((shape[0], n_views, shape[2]), np.float32))
    kind = itk.Image[itk.F, 3]
    weigh = filter[kind].New()
    weigh.SetInput(data)
    weigh.SetGeometry(scan)
    weigh.Update()
    output = weigh.GetOutput()
    values = itk.array_from_image(output)[:, shape[0] // 2, :]
    # A displaced detector is widened; the columns that were there begin where their origin is.
    first = round((data.GetOrigin()[0] - output.GetOrigin()[0]) / case["pixel"]) - output.GetLargestPossibleRegion().GetIndex()[0]
    return np.ascontiguousarray(values[:, first : first + shape[2]])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
