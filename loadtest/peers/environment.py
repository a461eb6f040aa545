"""The environment of the systems we are compared with: .venv-peers, from exact versions. Their packages contradict ours."""

import subprocess
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"
REQUIREMENTS = ROOT / "loadtest/peers/requirements.txt"


class NoPeers(ValueError):
    """The environment cannot be made."""


def peer_python(folder: Path = FOLDER, requirements: Path = REQUIREMENTS) -> Path:
    """Its Python, installed if it is not there with these versions. Cost: 2 GB and some minutes, once.

    Raises:
        NoPeers: it cannot be installed; the text says why.
    """
    python, installed = folder / "bin/python", folder / "installed.txt"
    wanted = requirements.read_text()
    if installed.is_file() and installed.read_text() == wanted:
        return python
    Console(stderr=True).print(f"installing {requirements} into {folder}, once")
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, text=True)
        command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (subprocess.CalledProcessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise NoPeers(f"{folder}: pip cannot install {requirements}: {said[-1] if said else error}") from error
    installed.write_text(wanted)
    return python
