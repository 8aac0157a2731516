"""`glassformer bench`"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Run the benchmarks against the peers (in a checkout); arguments are passed on to them."""

    passes_on: ClassVar[str] = "everything"


def run(_: Bench, arguments: list[str]) -> int:
    """Run `python -m benchmarks` in the checkout that this package comes from, or stands in."""
    import glassformer

    for checkout in (Path(glassformer.__file__).parents[2], Path.cwd()):
        if (checkout / "benchmarks" / "__main__.py").is_file():
            return subprocess.run(
                [sys.executable, "-m", "benchmarks", *arguments], cwd=checkout, check=False
            ).returncode
    raise FileNotFoundError(
        "the benchmarks are not in the installed package: clone Glassformer, and run 'make bench' there"
    )
