"""What a protocol is: data that fixes everything a published figure depends on, except method, preset and seed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from splat.bench.cells import Value
from splat.bench.protocols.layouts import Layout, other_split
from splat.core.errors import SplatError
from splat.core.foreign import shown


@dataclass(frozen=True)
class Scene:
    """One scene of a protocol, found in a data folder."""

    name: str
    source: Path
    """What `splat reconstruct` is given."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags that belong to this scene."""


@dataclass(frozen=True)
class SceneData:
    """What a scene of a protocol must consist of."""

    name: str
    layout: Layout
    folders: tuple[str, ...] = ()
    """Where it may lie below the data folder, besides in a folder of its name."""
    photos: int | None = None
    """Its number of photos as published."""
    overrides: Mapping[str, Value] = field(default_factory=dict)

    def find(self, data: Path) -> Path | None:
        return next((data / f for f in (self.name, *self.folders) if (data / f).is_dir()), None)


@dataclass(frozen=True)
class Published:
    """A row of a published table."""

    method: str
    values: Mapping[str, float]
    """psnr, ssim, lpips; also minutes and gaussians."""
    source: str
    """Who measured it and where it is printed."""
    scene: str = ""
    """Empty: the mean over all scenes of the protocol; else a scene, or a group of `Protocol.groups`."""
    differs: str = ""
    """In what its protocol differs from the one that is run here; shown as a footnote."""


@dataclass(frozen=True)
class Missing:
    """Something that the data lack."""

    scene: str
    what: str


@dataclass(frozen=True)
class Protocol:
    """A named way to measure."""

    name: str
    about: str
    """One line."""
    scenes: tuple[SceneData, ...] = ()
    """The published list; empty where every folder with data is a scene."""
    where: str = ""
    """Where the authors publish the data."""
    split: str = ""
    """Which photos are held out, and which of the others are trained on."""
    resolution: str = ""
    truth: str = ""
    """The files that renders are compared with."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags of every scene."""
    compare: Mapping[str, str] = field(default_factory=dict)
    """Published metric -> our figure of the same definition (`--figures`), where it is not psnr, ssim or lpips."""
    published: tuple[Published, ...] = ()
    differs: str = ""
    """In what a run here differs from what is published, whatever the row."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Scenes whose means are published apart."""
    any_scene: Callable[[Path], list[Scene]] | None = None
    """All scenes of a data folder, where `scenes` is empty."""
    any_layout: Layout | None = None
    """Their form, where it is checked."""
    needed: str = "a folder with photos or a video"
    """What a scene consists of, for a message."""

    def found(self, data: Path) -> list[Scene]:
        """The scenes that a data folder holds, in the order of the protocol."""
        if self.any_scene is not None:
            return [Scene(s.name, s.source, {**self.overrides, **s.overrides}) for s in self.any_scene(data)]
        out = []
        for scene in self.scenes:
            folder = scene.find(data)
            if folder is not None:
                flags = {**self.overrides, **scene.layout.overrides, **scene.overrides}
                out.append(Scene(scene.name, scene.layout.source(folder), flags))
        return out

    def select(self, data: Path, names: list[str]) -> list[Scene]:
        """The named scenes, or all where none is named. Raises SplatError for names and folders that are not there."""
        if not data.is_dir():
            raise SplatError(f"{data} is not a folder: give --data the folder that has one folder per scene.")
        scenes = {s.name: s for s in self.found(data)}
        if not scenes:
            needs = f"one of {', '.join(s.name for s in self.scenes)}" if self.scenes else self.needed
            raise SplatError(f"{data} has no scene: {self.name} needs {needs}.")
        unknown = [n for n in names if n not in scenes]
        if unknown:
            raise SplatError(f"{data} has no scene {unknown[0]!r}: it has {', '.join(scenes)}.")
        return [scenes[n] for n in names] if names else list(scenes.values())

    def absent(self, data: Path) -> list[str]:
        """Scenes of the published list that a data folder does not hold."""
        return [s.name for s in self.scenes if s.find(data) is None]

    def check(self, data: Path, names: list[str] | None = None) -> list[Missing]:
        """What is missing or damaged, of the named scenes or of all."""
        if not data.is_dir():
            return [Missing("", f"{data} is not a folder")]
        if self.any_scene is not None:
            return self._check_any(data, names)
        out = []
        for scene in self.scenes:
            if names and scene.name not in names:
                continue
            folder = scene.find(data)
            if folder is None:
                out.append(Missing(scene.name, "its folder is not there"))
                continue
            every = self.overrides.get("test-every")
            other = other_split(folder, scene.layout.images, every) if isinstance(every, int) else None
            faults = [*scene.layout.faults(folder, scene.photos), *([other] if other else [])]
            out += [Missing(scene.name, what) for what in faults]
        return out

    def _check_any(self, data: Path, names: list[str] | None) -> list[Missing]:
        scenes = self.found(data)
        if not scenes:
            return [Missing("", f"{data} holds no scene: each is {self.needed}")]
        if self.any_layout is None:
            return []
        chosen = [s for s in scenes if not names or s.name in names]
        folders = [(s.name, s.source if s.source.is_dir() else s.source.parent) for s in chosen]
        return [Missing(name, what) for name, folder in folders for what in self.any_layout.faults(folder, None)]

    def describe(self) -> str:
        """What is fixed, one line each."""
        lines = {"scenes": ", ".join(s.name for s in self.scenes) or f"every folder: {self.needed}"}
        lines |= {"split": self.split, "resolution": self.resolution, "truth": self.truth, "differs": self.differs}
        lines |= {"compared": ", ".join(f"{k} as {v}" for k, v in self.compare.items()), "published": self.where}
        return "\n".join([f"{self.name}: {self.about}", *(f"  {k}: {v}" for k, v in lines.items() if v)])


def scene_name(folder: Path, data: Path) -> str:
    """What the scene of a folder below `data` is called: as its path from there, joined by underscores, with escapes
    (`\\xe9`) for bytes that are not UTF-8 and for line breaks, which no table can hold."""
    name = folder.relative_to(data).as_posix().replace("/", "_")
    return "".join(shown(c) if unicodedata.category(c) in {"Cc", "Cs"} else c for c in name)


def figures(*names: str) -> dict[str, Value]:
    """The flag that asks for these figures."""
    return {"figures": list(names)}


def psnr_ssim_lpips(method: str, psnr: float, ssim: float | None, lpips: float | None, source: str) -> Published:
    """A row that has these three, or some of them."""
    given = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
    return Published(method, {k: v for k, v in given.items() if v is not None}, source)
