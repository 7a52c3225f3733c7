"""`.html`: one file that opens in a browser from the disk, offline: the viewer's page, the splat, its cameras.

The page is that of `splat view` (`geometry.page`). The splat is inside as the planes that the viewer sends, rounded to
what a screen can show, in Morton order, with the bytes of each plane sorted by significance (as HDF5's shuffle filter
does), compressed by gzip.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splat.core.capture import View
from splat.core.errors import SplatError
from splat.core.files import write_atomic
from splat.core.gaussians import SH_C0, Gaussians, with_surroundings
from splat.core.geometry import Similarity
from splat.core.slots import Reporter
from splat.export.deliverable import Deliverable, Direction, Scene
from splat.geometry import page
from splat.geometry.compositing import composite_photo
from splat.geometry.morton import morton_order

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob: 'wasm-unsafe-eval'; worker-src blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""Nothing is fetched from anywhere; scripts are those inside the file."""
LICENSES = ("spark", "three", "fflate")
_STEPS = {"means": 2.0**-16, "colours": 2.0**-8, "log_scales": 2.0**-6, "quats": 2.0**-9, "harmonics": 2.0**-7}
"""What values are rounded to; means relative to the radius of the scene."""
_QUALITY = 80
_LARGE_MB = 100


@dataclass(frozen=True)
class HtmlDeliverable(Deliverable):
    """A page to send to somebody. The fields are flags of `splat export`."""

    suffixes = (".html",)
    about = "one file for any browser, offline: the viewer with the splat and its cameras inside"

    cameras: bool = True
    """Draw the cameras of the photos as frusta, held-out ones by their PSNR."""
    photos: int = 0
    """Put the photos inside too, with this long side in px, to compare with; 0: none."""

    def write(self, path: Path, scene: Scene, report: Reporter) -> list[Path]:
        if self.photos < 0 or self.photos > 4096:
            raise SplatError(f"--html.photos {self.photos} must be from 0 (none) to 4096 px.")
        gaussians, hello = _shown(scene)
        if self.cameras and scene.trained is not None:
            hello["cameras"] = self._cameras(scene, report)
        write_atomic(path, one_file(hello, gaussians).encode())
        size = path.stat().st_size / 1e6
        if size > _LARGE_MB:
            report.warn(f"{path.name} has {size:.0f} MB, which phones may refuse: lower --sh-degree, or use --crop.")
        return [path]

    def _cameras(self, scene: Scene, report: Reporter) -> list[dict[str, Any]]:
        assert scene.trained is not None
        trained, figures = scene.trained, page.measured_psnr(scene.trained.root)
        views = [v for v in trained.capture.views if v.world_from_cam is not None]
        rows: list[dict[str, Any]] = []
        lost: list[str] = []
        for view in views:
            row = page.camera(len(rows), view, figures.get(view.name))
            if self.photos:
                if view.name in trained.lost:
                    lost.append(view.name)
                else:
                    row["photo"] = _jpeg(view, trained.background, self.photos)
            rows.append(row)
        if lost:
            report.warn(f"{len(lost)} photos are not where they were and are left out: {', '.join(lost[:3])}.")
        return rows


def one_file(hello: dict[str, Any], gaussians: Gaussians) -> str:
    """The page with everything inside. `hello`: see `geometry.page.hello`, with `cameras` and, in each of them, `photo`
    (a data URI) where there is one."""
    shell = page.bundled("index.html").decode()
    style, script = page.bundled("style.css").decode(), page.bundled("viewer.js").decode()
    licenses = "\n\n".join(page.bundled(f"licenses/{name}.txt").decode().replace("--", "- -") for name in LICENSES)
    about = hello | {"count": len(gaussians), "sh_degree": gaussians.sh_degree}
    data = [
        f'<script type="application/json" id="embedded-scene">{_data(json.dumps(about, allow_nan=False))}</script>',
        f'<script type="text/plain" id="embedded-splats">{base64.b64encode(packed(gaussians)).decode()}</script>',
    ]
    head = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    changes = {
        '<meta charset="utf-8">': f'<meta charset="utf-8">\n  {head}',
        "<title>splat</title>": f"<title>{html.escape(str(hello['name']))}</title>",
        '<link rel="stylesheet" href="style.css?token=__TOKEN__">': f"<style>\n{style}</style>",
        '<script type="module" src="viewer.js?token=__TOKEN__"></script>': "\n".join(
            [*data, f'<script type="module">{_script(script)}</script>']
        ),
        "<!doctype html>": f"<!doctype html>\n<!-- Inside this file, under the MIT licence:\n\n{licenses}\n-->",
    }
    for old, new in changes.items():
        before, found, after = shell.partition(old)
        if not found:
            raise RuntimeError(f"the bundled page has no {old}: scripts/build_viewer.sh and export/html.py disagree")
        shell = before + new + after
    return shell


def packed(gaussians: Gaussians) -> bytes:
    """The Gaussians as the page reads them: gzip of the planes of `page.pack_splats`, rounded and shuffled."""
    g = rounded(gaussians[morton_order(gaussians.means)])
    n, at, parts = len(g), 0, []
    planes = np.frombuffer(page.pack_splats(g), np.uint8)
    for columns, width in page.planes_of(g.sh_degree):
        plane = planes[at : at + n * columns * width].reshape(n, columns * width)
        parts.append(plane.T.copy())  # column by column, byte by byte
        at += plane.size
    return gzip.compress(b"".join(p.tobytes() for p in parts), 9, mtime=0)


def rounded(gaussians: Gaussians) -> Gaussians:
    """With values on grids that are finer than what a screen shows, which compress well."""
    g = gaussians.map(lambda t: t.detach().cpu().float())
    step = 2.0 ** round(np.log2(_STEPS["means"] * page.extent(g).radius))
    quats = torch.nn.functional.normalize(g.quats_wxyz, dim=1)
    quats = quats * torch.where(quats[:, :1] < 0, -1.0, 1.0)
    colours = _to(0.5 + SH_C0 * g.sh[:, :1], _STEPS["colours"]).sub(0.5) / SH_C0
    return Gaussians(
        _to(g.means, step),
        _to(quats, _STEPS["quats"]),
        _to(g.log_scales, _STEPS["log_scales"]),
        torch.logit(_to(g.opacities, _STEPS["colours"]).clamp(2.0**-9, 1 - 2.0**-11)),
        torch.cat([colours, _to(g.sh[:, 1:], _STEPS["harmonics"])], 1),
    )


def _to(values: Float[Tensor, "..."], step: float) -> Float[Tensor, "..."]:
    return (values / step).round() * step


def _shown(scene: Scene) -> tuple[Gaussians, dict[str, Any]]:
    """The Gaussians in a frame in which the scene is about one in size, and what the page is told of it."""
    background, ball = (0.0, 0.0, 0.0), None
    if scene.trained is not None:
        surfaces, up = scene.trained.gaussians, _unit(scene.trained.file_from_world.inverse(), scene.up)
        gaussians, around = with_surroundings(surfaces, scene.trained.surroundings), page.extent(surfaces)
        ball = page.ball_within(scene.trained.surroundings)
        r, g, b = (float(v) for v in scene.trained.background)
        background = (r, g, b)
        units = float(scene.trained.file_from_world.scale)
    else:
        around = page.extent(scene.gaussians)
        centre = torch.tensor(around.centre, dtype=torch.float64)
        gaussians = scene.gaussians.transformed(
            Similarity(1 / around.radius, torch.eye(3, dtype=torch.float64), -centre / around.radius)
        )
        up, units, around = scene.up, around.radius, page.extent(gaussians)
    antialiased = scene.settings.mode == "antialiased"
    about = page.hello(scene.name, up, background, antialiased, units, around, ball)
    return gaussians, about | {"editable": False, "cameras": []}


def _unit(similarity: Similarity, direction: Sequence[float]) -> Direction:
    x, y, z = (float(v) for v in similarity.rotation @ torch.tensor(direction, dtype=torch.float64))
    return (x, y, z)


def _jpeg(view: View, background: Float[Tensor, "3"], side: int) -> str:
    rgb = (composite_photo(view.load(quick=True), background.cpu()).clamp(0, 1) * 255).round().byte().numpy()
    factor = min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
    bgr = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _data(text: str) -> str:
    """JSON that cannot end the element that it stands in."""
    return text.replace("<", "\\u003c")


def _script(text: str) -> str:
    for word in ("</script", "<!--"):
        if word in text.lower():
            raise RuntimeError(f"the bundled script holds {word}, which cannot stand inside a page")
    return text
