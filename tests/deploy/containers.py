"""Containers of an image that buildah has built: its files, read-only, and its settings, in namespaces of their own.

No engine is needed, only root: `unshare` makes the namespaces of mounts and processes, and `setpriv` of the image takes
every right away. The network is the machine's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The image's root is read-only, and so is all below it but the volume and what every container has of its own.
ENTER = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount --bind "$2" "$1$3"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/dev/shm"
root=$1 user=$4
shift 4
exec chroot "$root" /usr/bin/setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all "$@"
"""


@dataclass(frozen=True)
class Image:
    """An image: the folder of its files, and its configuration as Docker writes it."""

    root: Path
    config: dict[str, Any]

    def command(
        self, volume: Path, arguments: Sequence[str] = (), entrypoint: Sequence[str] | None = None, **settings: str
    ) -> list[str]:
        """The command line that runs a container with that folder as its volume; arguments replace the image's."""
        (mounted,) = self.config["Volumes"]
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        first = self.config["Entrypoint"] if entrypoint is None else entrypoint
        given = [*first, *(arguments or self.config["Cmd"])]
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, "enter"),
            *(str(self.root), str(volume), mounted, self.config["User"]),
            *("env", "-i", *variables, *given),
        ]

    def run(self, volume: Path, *arguments: str, entrypoint: Sequence[str] | None = None, **settings: str) -> str:
        """Run a container to its end, which must be a good one, and return its output."""
        command = self.command(volume, arguments, entrypoint, **settings)
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout


class Store:
    """A store of images and containers in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def buildah(self, *arguments: str | Path) -> str:
        options = ["--root", self.folder / "root", "--runroot", self.folder / "run", "--storage-driver", "overlay"]
        done = subprocess.run(["buildah", *options, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout.strip()

    def import_base(self, tar: Path, name: str) -> None:
        """Make an image of a tar of a root file system."""
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, tar, "/")
        self.buildah("commit", "--quiet", "--rm", container, name)

    def image(self, name: str) -> Image:
        container = self.buildah("from", name)
        inspected = json.loads(self.buildah("inspect", "--type", "image", name))
        return Image(Path(self.buildah("mount", container)), inspected["Docker"]["config"])

    def remove(self) -> None:
        self.buildah("umount", "--all")
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
