"""Reads what `convoke analyse export` wrote, with the libraries that its users have.

usage: read.py FOLDER    with volume.npz, volume-mu.csv, … of mu[z, y, x] = 100 z + 10 y + x (4 × 5 × 6) and u[x, t]
"""

import csv
import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np

folder = Path(sys.argv[1])
z, y, x = np.mgrid[0:4, 0:5, 0:6]
mu = (100 * z + 10 * y + x).astype("f4")
u = np.add.outer(10.0 * np.arange(4), np.arange(3))  # [x, t]

npz = np.load(folder / "volume-arrays.npz")
assert sorted(npz) == ["history-residual", "mu"], sorted(npz)
assert npz["mu"].dtype == np.float32 and np.array_equal(npz["mu"], mu)
assert np.array_equal(npz["history-residual"], [1.0, 0.1, 0.01])

with open(folder / "volume-mu.csv", newline="") as file:
    rows = list(csv.reader(file))
assert rows[0] == ["z", "y", "x", "mu [1/m]"], rows[0]
table = np.array(rows[1:], dtype=float)
assert np.array_equal(table[:, 3], mu.ravel())
assert np.array_equal(table[:, 0], -3.0 + 2.0 * z.ravel()) and np.array_equal(table[:, 2], 0.5 * x.ravel())

with h5py.File(folder / "volume-the-well.hdf5") as file:
    assert list(file["t0_fields"].attrs["field_names"]) == ["mu"] and list(file["t1_fields"].attrs["field_names"]) == []
    assert list(file["dimensions"].attrs["spatial_dims"]) == ["z", "y", "x"] and file.attrs["n_spatial_dims"] == 3
    field = file["t0_fields/mu"]
    assert field.shape == (file.attrs["n_trajectories"], 1, 4, 5, 6) and field.dtype == np.float32
    assert all(field.attrs["dim_varying"]) and not field.attrs["time_varying"] and np.array_equal(field[0, 0], mu)
    for name, n in [("time", 1), ("z", 4), ("y", 5), ("x", 6)]:
        assert file["dimensions"][name].shape == (n,)

with h5py.File(folder / "field-u.pdebench.h5") as file:
    assert np.array_equal(file["tensor"][0], u.T), file["tensor"][:]
    assert np.array_equal(file["t-coordinate"], [1.0, 1.25, 1.5]) and np.array_equal(file["x-coordinate"], 0.5 * np.arange(4))

if importlib.util.find_spec("vtk"):
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(folder / "volume-mu.vtkhdf"))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetDimensions() == (6, 5, 4) and image.GetSpacing() == (0.5, 0.5, 2.0), image
    assert np.array_equal(vtk_to_numpy(image.GetPointData().GetArray("mu")).reshape(4, 5, 6), mu)

    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(folder / "plane-w.vtkhdf"))  # w[t, y, x] = 100 t + 10 y + x
    reader.UpdateInformation()
    assert reader.GetNumberOfSteps() == 3, reader.GetNumberOfSteps()
    for step in range(3):
        reader.SetStep(step)
        reader.Update()
        image = reader.GetOutput()
        assert image.GetDimensions() == (6, 5, 1)
        values = vtk_to_numpy(image.GetPointData().GetArray("w")).reshape(5, 6)
        assert np.array_equal(values, (100 * step + 10 * y + x)[0]), (step, values)

    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(folder / "flat-v.vtkhdf"))  # one sample along z
    reader.Update()
    image = reader.GetOutput()
    assert np.array_equal(vtk_to_numpy(image.GetPointData().GetArray("v")).reshape(5, 6), (10 * y + x)[0])
    print("vtk agrees")
print("numpy and h5py agree")
