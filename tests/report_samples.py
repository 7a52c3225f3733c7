"""Reports of made-up runs, and a strict reader of their pages."""

import math
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import torch

from splat.core.camera import Camera
from splat.core.capture import Capture, PointCloud, View
from splat.core.geometry import Rigid
from splat.report.data import ReportData, ViewScore

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that every tag is closed in order, and collects what a reader sees, a browser fetches and a link opens."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetches: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.images = 0
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.tags.append((tag, tuple(key for key, _ in attrs)))
        for key, value in attrs:
            if key == "aria-label":
                self.labels.append(value or "")
            if key in {"src", "srcset", "data"} or (key == "href" and tag == "link"):
                self.fetches.append(value or "")
            elif key == "href":
                self.links.append(value or "")
            assert not key.startswith("on"), "no scripts"
        assert tag not in {"script", "iframe", "object"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(self.text)


def ring(azimuths: list[float], height: float = 1.0) -> Capture:
    camera = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    up, views = torch.tensor([0.0, 0, 1]), []
    for i, degrees in enumerate(azimuths):
        a = math.radians(degrees)
        eye = torch.tensor([3 * math.cos(a), 3 * math.sin(a), height + 0.9 * (i % 2)])
        pose = Rigid.look_at(eye, torch.zeros(3), up)
        views.append(View(f"{i:02d}.jpg", Path("x"), (640, 480), camera, pose, "test" if i % 8 == 7 else "train"))
    return Capture(tuple(views), points=PointCloud(torch.randn(40, 3) * 0.3, torch.rand(40, 3)))


def picture(seed: int, blur: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise


def full() -> ReportData:
    capture = ring([i * 24.0 for i in range(15)])
    scores = tuple(
        ViewScore(v.name, v.role, 30.0 - i / 4, 0.9, 31.0, None, picture(i), picture(i + 50))
        for i, v in enumerate(capture.views)
    )
    return ReportData(
        title="a <b>garden</b> & more",
        registered=(15, 17),
        unregistered={'x"><script>.jpg': "only 12 matches <with> others", "99.jpg": "this file cannot be read"},
        warnings=("Resolution lowered to <800> px.",),
        views=scores,
        psnr=27.123,
        ssim=0.8,
        lpips=0.2,
        lpips_title="ST-LPIPS",
        cc_psnr=28.0,
        method="points",
        num_gaussians=123456,
        seconds={"poses": 61.0, "train": 200.5, "total": 261.5},
        peak_memory_mb=2048,
        resolution=(800, 600),
        photo_size=(4000, 3000),
        loss=tuple((s, 0.3 / (1 + s)) for s in range(0, 3000, 10)),
        train_psnr=tuple((s, 10 + s / 300) for s in range(0, 3000, 10)),
        heldout_psnr=((1000, 15.0), (2990, 18.0)),
        gaussian_counts=((0, 1000), (2990, 123456)),
        capture=capture,
        stills=(("orbit", picture(7)),),
        files=(("the splat", "export/my splat.ply"),),
        settings={"command": "splat reconstruct <photos>", "seed": 0},
    )
