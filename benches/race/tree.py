"""What is asked for: files of known sizes, a manifest that names them, and one in ActiveUpdate's own grammar.

Invariant: the same sizes make the same bytes, and no two files have the same.
"""

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

SMALL_BYTES, MANY_BYTES, MEDIUM_BYTES, RANGE_BYTES = 2 << 10, 8 << 10, 64 << 10, 1 << 20


@dataclass
class Tree:
    """A folder with two trees, `race/` and `activeupdate/`."""

    folder: Path
    many: int
    large_bytes: int

    def write(self, binary):
        files = self.files()
        (self.folder / "race/p").mkdir(parents=True)
        lines = ["[PATTERN]"]
        for number, (path, size) in enumerate(files.items()):
            (self.folder / path).write_bytes(random.Random(number).randbytes(size))
            lines.append(f"P.{number}={path.removeprefix('race/')},1000,{size}")
        (self.folder / "race/server.ini").write_text("\r\n".join(lines) + "\r\n")
        subprocess.run([binary, "fixture", self.folder / "activeupdate"], check=True, stdout=subprocess.DEVNULL)

    def files(self):
        """Paths below the folder, with their sizes."""
        named = {SMALL: SMALL_BYTES, MEDIUM: MEDIUM_BYTES, LARGE: self.large_bytes}
        return named | {f"race/p/{number:04}.zip": MANY_BYTES for number in range(self.many)}

    def bytes_of(self, path):
        return (self.folder / path).read_bytes()


SMALL, MEDIUM, LARGE = "race/p/small.zip", "race/p/medium.zip", "race/p/large.zip"
# The first of the many.
EIGHT = "race/p/0000.zip"
MANIFEST = "activeupdate/server.ini"
