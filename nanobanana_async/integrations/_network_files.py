"""Whether a file would lie on a network: SQLite's write-ahead log and file locks work on one host's disks only."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(r"nfs|cifs|smb|sshfs|9p|afs|ceph|gluster|lustre|gpfs|beegfs|davfs|gfs|ocfs|vboxsf|vmhgfs|drvfs")


def is_on_network(path: Path, mounts: Path | None = None) -> bool:
    """Ask the mount table, where the system has one; otherwise hope."""
    try:
        lines = (mounts or MOUNTS).read_text(errors="replace").splitlines()
    except OSError:
        return False
    place, kind, best = path.expanduser().resolve(), "", -1
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), right.split()[0]
    return _NETWORK.search(kind) is not None
