"""What pyproject.toml cannot say: two folders beside the package are installed inside it; a wheel brings the kernels.

A wheel built on x86-64 Linux with a C++ compiler carries them compiled for each level of `splat.native.build.LEVELS`,
so that whoever installs it needs no compiler. Everywhere else, and in a checkout, they are compiled on first use.
"""

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, find_namespace_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path(__file__).resolve().parent / "splat" / "native"


def builder():
    """splat.native.build, without importing splat: its dependencies need not be here."""
    spec = importlib.util.spec_from_file_location("splat_native_build", NATIVE / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def ships_kernels() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64" and builder().compiler() is not None


class BuildPy(build_py):
    def run(self):
        super().run()
        if self.editable_mode or not ships_kernels():
            return
        build = builder()
        folder = Path(self.build_lib) / "splat" / "native" / "prebuilt"
        folder.mkdir(parents=True, exist_ok=True)
        for level in build.LEVELS:
            shutil.copy(build.build_level(level), folder / build.shipped_name(level))


class BinaryDistribution(Distribution):
    """There are no extension modules, but what is installed is for one platform all the same."""

    def has_ext_modules(self):
        return ships_kernels()


class BdistWheel(bdist_wheel):
    def get_tag(self):
        python, abi, system = super().get_tag()
        return (python, abi, system) if self.root_is_pure else ("py3", "none", system)  # ctypes: any Python


# The templates of splat.report and the page of splat.viewer are data (pyproject.toml), no packages.
DATA = ["splat.report.templates*", "splat.viewer.static*", "splat.viewer.page*"]
FOUND = find_namespace_packages(include=["splat", "splat.*"], exclude=DATA)

setup(
    packages=[*FOUND, "splat.scenes", "splat.native.cuda"],
    package_dir={"splat.scenes": "scenes", "splat.native.cuda": "cuda"},
    distclass=BinaryDistribution,
    cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel},
)
