"""Node.js and pinned packages of npm, for tests that let programs in another language judge."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
MAJOR = 20  # what the pinned packages need
# npm's words for "no registry was reached", which is not the fault of anything here.
_OFFLINE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ENOTCACHED")


def node() -> Path:
    """Node.js; the test is skipped where there is none that is new enough."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < MAJOR:
        pytest.skip(f"Node.js {version} is too old; {MAJOR} or newer is needed")
    return Path(found)


def node_modules(sources: Path) -> Path:
    """What package-lock.json in `sources` pins, kept in .cache for as long as that file stays."""
    lock = (sources / "package-lock.json").read_bytes()
    home = CHECKOUT / ".cache" / f"{sources.name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (home / "complete").exists():
        home.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(sources / name, home)
        npm = shutil.which("npm")
        assert npm is not None
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
        if done.returncode != 0 and _OFFLINE.search(done.stderr):
            pytest.skip(f"npm reaches no registry, and the packages of {sources.name} are not in .cache yet")
        assert done.returncode == 0, done.stderr
        (home / "complete").touch()
    return home / "node_modules"
