"""Stands in for another trainer: a COLMAP model in, a PLY of large faint Gaussians at its points out.

stand_in_program.py MODEL PLY ITERATIONS [well|fails|silent]
"""

import sys
import time
from pathlib import Path

import numpy as np
import pycolmap

model, out, iterations, how = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
photos = sorted(p.name for p in (model / "images").iterdir())
scene = pycolmap.Reconstruction(model / "sparse" / "0")
assert sorted(i.name for i in scene.images.values()) == photos
print("photos", *photos)
if how == "fails":
    print("CUDA is not there", file=sys.stderr)
    sys.exit(3)
if how == "silent":
    sys.exit(0)
block = np.ones(30_000_000)  # 240 MB
time.sleep(0.4)
points = np.array([p.xyz for p in scene.points3D.values()])
colours = np.array([p.color for p in scene.points3D.values()]) / 255
names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
names += [f"rot_{i}" for i in range(4)]
n = len(points)
rest = [np.full((n, 1), 2.0), np.full((n, 3), -3.0), np.tile([1.0, 0, 0, 0], (n, 1))]
rows = np.concatenate([points, (colours - 0.5) / 0.28209479, *rest], 1).astype("<f4")
head = f"ply\nformat binary_little_endian 1.0\nelement vertex {n}\n"
head += "".join(f"property float {name}\n" for name in names) + "end_header\n"
out.write_bytes(head.encode() + rows.tobytes())
print("steps", iterations, float(block[:10].sum()))
