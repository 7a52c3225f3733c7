"""What pyproject.toml cannot say: two folders beside the package are installed inside it."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["splat", "splat.*"]), "splat.scenes", "splat.native.cuda"],
    package_dir={"splat.scenes": "scenes", "splat.native.cuda": "cuda"},
)
