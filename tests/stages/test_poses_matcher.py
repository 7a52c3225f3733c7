"""Which matcher stands beside SIFT in the poses stage, and what is said where there is none."""

from __future__ import annotations

import pytest
import street
from noting import Noting

import splat.ingest
from splat.core.capture import Capture
from splat.core.errors import SplatError
from splat.core.slots import Silent
from splat.poses import Fewer, Known, Sfm
from splat.priors.disk_lightglue import DiskLightGlue
from splat.priors.stereo import Stereo
from splat.stages.poses import _beside_sift, _matcher


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """Eight photos with poses and without points."""
    root = tmp_path_factory.mktemp("street")
    names = [p.name for p in street.write_photos(root / "images")]
    street.write_transforms(root, [f"images/{n}" for n in names])
    return splat.ingest.read(root, report=Silent())


@pytest.mark.parametrize("matches,expected", [("auto", True), ("disk", True), ("sift", False)])
def test_it_is_used_where_its_weights_are_found(
    capture: Capture, monkeypatch: pytest.MonkeyPatch, matches: str, expected: bool
) -> None:
    monkeypatch.setattr(DiskLightGlue, "unavailable", lambda self: None)
    monkeypatch.setattr(DiskLightGlue, "check", lambda self: None)
    report = Noting()
    assert isinstance(_matcher(capture, Known(matches=matches), report), DiskLightGlue) == expected
    assert isinstance(_matcher(capture, Sfm(matches=matches), report), DiskLightGlue) == expected
    sfm = Fewer(Sfm(matches=matches), 3, Known(matches="sift"))
    assert [type(b) for b in _beside_sift(capture, sfm, report)] == ([DiskLightGlue, Stereo] if expected else [])
    assert not report.lines and not report.warnings


def test_without_weights_auto_says_so_and_disk_is_an_error(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskLightGlue, "unavailable", lambda self: "weights are not found: install them.")
    report = Noting()
    assert _matcher(capture, Known(), report) is None
    assert report.lines == ["points come from SIFT alone: weights are not found: install them."]
    assert _beside_sift(capture, Sfm(), report) == () and len(report.lines) == 1  # said where photos are missing
    for poser in (Known(matches="disk"), Sfm(matches="disk"), Fewer(Sfm(matches="disk"), 3, Known())):
        with pytest.raises(SplatError, match="not found"):
            _matcher(capture, poser, report)


def test_weights_of_other_contents_are_a_warning(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: DiskLightGlue) -> None:
        raise SplatError("it is another file: remove it.")

    monkeypatch.setattr(DiskLightGlue, "unavailable", lambda self: None)
    monkeypatch.setattr(DiskLightGlue, "check", check)
    report = Noting()
    assert _matcher(capture, Known(), report) is None
    assert report.warnings == ["it is another file: remove it."]
    with pytest.raises(SplatError, match="another file"):
        _matcher(capture, Known(matches="disk"), report)
