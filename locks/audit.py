"""Known vulnerabilities of what the scorer is installed with (serve.txt), by pip-audit. Part of `make check`.

Fails where one is known. Where no index answers, or one that knows nothing of vulnerabilities, it says so and fails nothing.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent / "serve.txt"
LIMIT_S = 120
NOBODY_ANSWERED = ("requests.exceptions.", "pip_audit._service.interface.")


def main() -> int:
    """Print what was found; 1 where something is vulnerable, or could not be read."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "-r", str(LOCK), "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return _skipped(f"no answer within {LIMIT_S} s")
    return judged(ran.stdout, ran.stderr)


def judged(stdout: str, stderr: str) -> int:
    """What pip-audit's output means."""
    try:
        packages = json.loads(stdout)["dependencies"]
    except ValueError:
        last = (stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        if any(name in stderr for name in NOBODY_ANSWERED):
            return _skipped(last)
        print(f"audit: failed: {last}")
        return 1
    known = [one for one in packages if "skip_reason" not in one]
    if not known:
        return _skipped(f"the index knows nothing of the {len(packages)} packages of {LOCK.name}")
    bad = [(one, flaw) for one in known for flaw in one["vulns"]]
    for one, flaw in bad:
        print(f"audit: {one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version'}")
    print(f"audit: {len(known)} of {len(packages)} packages looked up, {len(bad)} known vulnerabilities")
    return 1 if bad else 0


def _skipped(reason: str) -> int:
    print(f"audit: SKIPPED, nothing was looked up: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
