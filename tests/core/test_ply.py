"""PLY files survive the round trip, and broken ones are named."""

from pathlib import Path

import numpy as np
import pytest

from splat.core.errors import SplatError
from splat.core.ply import read_ply, read_ply_header, write_ply

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]


def every_type(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.empty(n, [(f"p_{t}", t) for t in TYPES])
    for t in TYPES:
        if t[0] == "f":
            rows[f"p_{t}"] = rng.normal(size=n) * 10.0 ** rng.integers(-20, 20, n)
        else:
            info = np.iinfo(t)
            rows[f"p_{t}"] = rng.integers(info.min, info.max, n, endpoint=True)
    return rows


@pytest.mark.parametrize("binary", [True, False])
def test_a_written_file_reads_back_bit_for_bit(tmp_path: Path, binary: bool) -> None:
    faces = np.zeros(3, [("vertex_indices", "i4", (3,)), ("flags", "u1")])
    faces["vertex_indices"] = np.arange(9).reshape(3, 3)
    elements = {"vertex": every_type(50), "face": faces, "none": np.empty(0, [("x", "f4")])}
    write_ply(tmp_path / "a.ply", elements, ["by a test", "Vertical axis: y"], binary)
    back = read_ply(tmp_path / "a.ply")
    assert list(back) == list(elements)
    for name, rows in elements.items():
        assert back[name].dtype == rows.dtype
        np.testing.assert_array_equal(back[name], rows)
    assert read_ply_header(tmp_path / "a.ply").comments == ("by a test", "Vertical axis: y")


@pytest.mark.parametrize("binary", [True, False])
def test_values_that_are_not_finite_are_kept(tmp_path: Path, binary: bool) -> None:
    rows = np.array([(np.nan,), (np.inf,), (-np.inf,)], [("x", "f4")])
    write_ply(tmp_path / "a.ply", {"vertex": rows}, binary=binary)
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply")["vertex"]["x"], rows["x"])


def test_big_endian_and_lists_of_several_lengths_are_read(tmp_path: Path) -> None:
    header = (
        "ply\r\nformat binary_big_endian 1.0\r\ncomment hello  world\r\nelement face 2\r\n"
        "property list uint8 int32 i\r\nproperty float32 w\r\nend_header\r\n"
    )
    body = b"".join(
        [np.uint8(len(i)).tobytes() + np.array(i, ">i4").tobytes() + np.array(w, ">f4").tobytes()
         for i, w in (([1, 2, 3], 0.5), ([4, 5, 6, 7], -2.0))]
    )  # fmt: skip
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    face = read_ply(tmp_path / "a.ply")["face"]
    assert [list(i) for i in face["i"]] == [[1, 2, 3], [4, 5, 6, 7]]
    assert face["w"].tolist() == [0.5, -2.0]
    (tmp_path / "b.ply").write_bytes(
        b"ply\nformat ascii 1.0\nelement face 2\nproperty list uchar int i\nend_header\n3 1 2 3\n2 4 5\n"
    )
    assert [list(i) for i in read_ply(tmp_path / "b.ply")["face"]["i"]] == [[1, 2, 3], [4, 5]]


@pytest.mark.parametrize("binary", [True, False])
def test_a_file_cut_anywhere_in_its_data_is_refused_by_name(tmp_path: Path, binary: bool) -> None:
    write_ply(tmp_path / "a.ply", {"vertex": every_type(4)}, binary=binary)
    whole = (tmp_path / "a.ply").read_bytes()
    start = whole.index(b"end_header\n") + len(b"end_header\n")
    # ascii: the last number may lose digits and still be a number, so cut only up to its start
    end = len(whole) if binary else whole.rstrip().rindex(b" ") + 1
    for cut in [5, 40, start, *range(start + 1, end, 7)]:
        (tmp_path / "cut.ply").write_bytes(whole[:cut])
        with pytest.raises(SplatError, match=r"cut\.ply"):
            read_ply(tmp_path / "cut.ply")


@pytest.mark.parametrize(
    "text",
    ["", "not a ply", "ply\nend_header\n", "ply\nformat ascii 1.0\nproperty float x\nend_header\n",
     "ply\nformat ascii 1.0\nelement vertex many\nend_header\n",
     "ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n1\n",
     "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\none\n",
     "ply\nformat binary_little_endian 1.0\nelement vertex 99999999999999\nproperty float x\nend_header\nabcd"],
)  # fmt: skip
def test_what_is_no_ply_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.ply").write_text(text)
    with pytest.raises(SplatError, match=r"bad\.ply"):
        read_ply(tmp_path / "bad.ply")
    with pytest.raises(SplatError, match=r"gone\.ply"):
        read_ply(tmp_path / "gone.ply")


def test_files_of_other_programs_are_read(data_root: Path) -> None:
    guitar = read_ply(data_root / "splats" / "guitar.ply")["vertex"]
    assert len(guitar) == 90854 and np.isinf(guitar["opacity"]).sum() == 667
    packed = read_ply(data_root / "splats" / "guitar.compressed.ply")
    assert len(packed["vertex"]) == 90854 and len(packed["chunk"]) == -(-90854 // 256)
    points = read_ply(data_root / "nerfstudio_export" / "sparse_pc.ply")["vertex"]
    assert {"x", "y", "z", "red", "green", "blue"} <= set(points.dtype.names or ())
