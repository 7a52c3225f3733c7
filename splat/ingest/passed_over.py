"""What lies beside the photos and is not read: named once, so that nothing is missing without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from splat.core.foreign import shown
from splat.core.slots import Reporter
from splat.ingest.folders import RAW_SUFFIXES, list_photos_deep, normal
from splat.ingest.names import some_of
from splat.ingest.video import VIDEO_SUFFIXES

_UNREAD = frozenset(
    {".jxl", ".psd", ".exr", ".hdr", ".dds", ".svg", ".insp", ".ai", ".eps", ".pdf", ".zip", ".7z", ".rar"}
)


def report_passed_over(root: Path, folder: Path, photos: list[Path], report: Reporter) -> None:
    """Say what of `root` is no part of the capture of `photos`, which lie in `folder`: photos of other folders, raw
    files without a photo of their name, clips, pictures of formats that are not read."""
    taken = set(photos)
    others = Counter(p.parent for p in list_photos_deep(root) if p not in taken)
    if others:
        some = ", ".join(f"{shown(d.relative_to(root))} ({n})" for d, n in others.most_common(4))
        more = ", ..." if len(others) > 4 else ""
        report.info(
            f"Using the {len(photos)} photos of {shown(folder)}; not those of {some}{more}: --images names others."
        )
    beside = [p for d in {p.parent for p in photos} for p in d.iterdir() if p.is_file() and not p.name.startswith(".")]
    stems = {normal(p.stem) for p in photos}
    raw = [p for p in beside if p.suffix.lower() in RAW_SUFFIXES and normal(p.stem) not in stems]
    clips = [p for p in beside if p.suffix.lower() in VIDEO_SUFFIXES and normal(p.stem) not in stems]
    unread = [p for p in beside if p.suffix.lower() in _UNREAD and normal(p.stem) not in stems]
    for files, what, fix in (
        (raw, "raw files are", "export them as JPEG"),
        (clips, "clips are", "give a clip by itself, or put them into a folder of their own"),
        (unread, "files of other formats are", "save them as JPEG or PNG"),
    ):
        if files:
            report.warn(f"{len(files)} {what} not read ({some_of([p.name for p in sorted(files)])}): {fix}.")
