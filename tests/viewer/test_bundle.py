"""What is committed in `static/` is what `scripts/build_viewer.sh` makes of `page/`, with all licences."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from viewing import without_browser

ROOT = Path(__file__).resolve().parents[2]
PAGE, STATIC = ROOT / "splat" / "viewer" / "page", ROOT / "splat" / "viewer" / "static"
SCRIPT = ROOT / "scripts" / "build_viewer.sh"


def lock() -> dict[str, dict]:
    packages = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    return {name.removeprefix("node_modules/"): about for name, about in packages.items() if name}


def test_the_bundle_is_of_the_present_sources() -> None:
    sources = b"".join(
        (PAGE / name).read_bytes() for name in sorted([*(p.name for p in PAGE.glob("*.js")), "package-lock.json"])
    )
    built = (STATIC / "sources.sha256").read_text().strip()
    assert hashlib.sha256(sources).hexdigest() == built, "run scripts/build_viewer.sh"
    for name in ("index.html", "style.css"):
        assert (STATIC / name).read_bytes() == (PAGE / name).read_bytes(), "run scripts/build_viewer.sh"


def test_the_lockfile_names_no_registry_and_pins_everything() -> None:
    text = (PAGE / "package-lock.json").read_text()
    assert '"resolved"' not in text and "http" not in text
    assert all(about["integrity"].startswith("sha512-") for about in lock().values())


def test_every_package_in_the_bundle_has_its_licence_beside_it() -> None:
    bundled = [name for name, about in lock().items() if not about.get("dev")]
    assert {name.split("/")[-1] for name in bundled} == {p.stem for p in (STATIC / "licenses").iterdir()}
    for path in (STATIC / "licenses").iterdir():
        assert "MIT" in path.read_text() and "Permission is hereby granted" in path.read_text()


def test_the_page_asks_no_other_server() -> None:
    for name in ("index.html", "style.css"):
        assert "//" not in (STATIC / name).read_text().replace("</", "")


def test_where_a_browser_is_required_its_absence_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLAT_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        without_browser("no browser")
    monkeypatch.setenv("SPLAT_REQUIRE_BROWSER", "0")
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        without_browser("no browser")
    assert "export SPLAT_REQUIRE_BROWSER=1" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.slow
def test_the_script_makes_the_committed_bundle(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm: install Node.js, which has it")
    done = subprocess.run(["bash", str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=300)
    if done.returncode and any(word in done.stderr for word in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    made = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    committed = {str(p.relative_to(STATIC)): p.read_bytes() for p in STATIC.rglob("*") if p.is_file()}
    assert made.keys() == committed.keys()
    assert all(made[name] == committed[name] for name in made), [n for n in made if made[n] != committed[n]]
