"""The folder of bundles as it is: <folder>/<model>/<version>/. A link that leads out of it is not there."""

from pathlib import Path

from store.bundle import versions


def models_in(folder: Path) -> list[str]:
    """Names of the folders that may hold versions."""
    return sorted(path.name for path in folder.glob("*") if not path.name.startswith(".") and _is_inside(path, folder))


def versions_in(folder: Path, model: str) -> list[str]:
    """Versions of a model, oldest first, finished or not; `model` is one of `models_in`."""
    return [version for version in versions(folder / model) if _is_inside(folder / model / version, folder)]


def bundles_in(folder: Path) -> list[tuple[str, str]]:
    """(model, version) of every bundle, newest first."""
    found = [(version, model) for model in models_in(folder) for version in versions_in(folder, model)]
    return [(model, version) for version, model in sorted(found, reverse=True)]


def newest_in(folder: Path) -> dict[str, str]:
    """The newest version of each model."""
    return {model: there[-1] for model in models_in(folder) if (there := versions_in(folder, model))}


def led_out(folder: Path) -> list[str]:
    """What has the place of a model or a version, and is a link that leads out."""
    links = [path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.is_symlink() and path.is_dir()]
    return sorted(str(path.relative_to(folder)) for path in links if not _is_inside(path, folder))


def mark_of(path: Path) -> tuple[int, int] | None:
    """What tells one content of a file from another; None: there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether it is a folder, and a part of another one wherever links lead; what holds it is."""
    return path.is_dir() and (not path.is_symlink() or path.resolve().is_relative_to(folder.resolve()))
