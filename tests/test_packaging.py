"""What is installed: exactly the package, under `remotemedia`, from a checkout whose links point right."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
DATA = {"py.typed", "page.html", "page.css", "page.js"}
LINKS = {"workers": "remotemedia.workers", "ipc": "remotemedia.ipc"}


def source_files() -> dict[str, Path]:
    """The files of the package in the checkout, by the path at which they must be installed."""
    found = {}
    for folder in ("remotemedia", *LINKS):
        prefix = LINKS.get(folder, folder).replace(".", "/")
        for path in (ROOT / folder).rglob("*"):
            inner = path.relative_to(ROOT / folder)
            linked = folder == "remotemedia" and inner.parts[0] in LINKS
            if not linked and (path.suffix == ".py" or path.name in DATA):
                found[f"{prefix}/{inner.as_posix()}"] = path
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout, so that the build leaves nothing here."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in ("remotemedia", *LINKS):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "__init__.py").touch()  # must not be picked up
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_links_point_to_the_folders():
    for name in LINKS:
        link = ROOT / "remotemedia" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
        assert link.resolve() == ROOT / name


def test_every_package_is_listed():
    listed = SETTINGS["tool"]["setuptools"]["packages"]
    there = {str(Path(name).parent).replace("/", ".") for name in source_files()}
    assert sorted(listed) == sorted(there)


def test_every_package_outside_remotemedia_is_mapped():
    listed = SETTINGS["tool"]["setuptools"]["packages"]
    linked = {name: folder for folder, name in LINKS.items()}
    expected = {"remotemedia": "remotemedia"}
    for name in listed:
        base = next((package for package in linked if name == package or name.startswith(package + ".")), None)
        if base is not None:
            expected[name] = linked[base] + name.removeprefix(base).replace(".", "/")
    assert SETTINGS["tool"]["setuptools"]["package-dir"] == expected


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    code = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert code == set(source_files())
    assert {"remotemedia/py.typed", "remotemedia/status/page.js"} <= code
    for name, path in source_files().items():
        assert wheel.read(name) == path.read_bytes(), name


@pytest.mark.slow
def test_the_wheel_tells_what_it_needs(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    for requirement in SETTINGS["project"]["dependencies"]:
        assert f"Requires-Dist: {requirement.split('>')[0]}" in text
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "remotemedia = remotemedia.cli:main" in wheel.read(entry_points).decode()


def test_what_scripts_point_to_exists():
    for target in SETTINGS["project"]["scripts"].values():
        module, _, function = target.partition(":")
        __import__(module)
        assert callable(getattr(sys.modules[module], function))
