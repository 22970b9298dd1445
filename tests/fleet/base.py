"""The root file system that every host starts from: Debian, built once a machine.

Bare Python runs this (``python3 -m tests.fleet base``) before there is any environment: the standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.fleet.once import once

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "netbase", "finger", "logrotate"),
    *("python3", "python3-apt", "python3-packaging"),
)
# What a host without a network can install from its own folder of packages.
INSTALLABLE = ("haproxy", "redis-server", "prometheus")

# Neither documents nor translations, neither now nor when a host installs more; and no waiting for the disk.
_AFTER_EXTRACTING = r"""
set -eu
for folder in doc info locale man; do
  rm -rf "$1/usr/share/$folder"/*
  echo "path-exclude=/usr/share/$folder/*"
done > "$1/etc/dpkg/dpkg.cfg.d/fleet"
echo force-unsafe-io >> "$1/etc/dpkg/dpkg.cfg.d/fleet"
"""
# The packages for later become the only ones that apt knows of.
_AFTER_INSTALLING = r"""
set -eu
rm -f "$1"/var/cache/apt/archives/*.deb
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --quiet --yes --download-only install $INSTALLABLE
mkdir "$1/srv/packages"
mv "$1"/var/cache/apt/archives/*.deb "$1/srv/packages"
cd "$1/srv/packages"
for deb in *.deb; do
  dpkg-deb --field "$deb"
  echo "Filename: ./$deb"
  echo "Size: $(stat --format=%s "$deb")"
  echo "SHA256: $(sha256sum "$deb" | cut --delimiter=' ' --fields=1)"
  echo
done > Packages
echo 'deb [trusted=yes] file:/srv/packages ./' > "$1/etc/apt/sources.list"
rm -rf "$1"/var/lib/apt/lists/*
chroot "$1" apt-get --quiet update
ln -s /dev/null "$1/etc/systemd/system/apt-daily.timer"
ln -s /dev/null "$1/etc/systemd/system/apt-daily-upgrade.timer"
install -D --mode=600 "$PUBLIC_KEY" "$1/root/.ssh/authorized_keys"
"""
# In memory until it is whole: twice as fast. The mount is the script's own, so nothing of it outlives the script.
_BUILD = r"""
set -eu
cd "$1"
ssh-keygen -q -t ed25519 -N '' -C fleet -f id
mkdir build
mount -t tmpfs tmpfs build
export PUBLIC_KEY="$1/id.pub"
mmdebstrap --variant=apt --include="$PACKAGES" --skip=cleanup/apt/lists --dpkgopt=force-unsafe-io \
  --aptopt='Acquire::Languages "none"' \
  --extract-hook="$AFTER_EXTRACTING" --customize-hook="$AFTER_INSTALLING" "$SUITE" build/root "$MIRROR"
rm -f build/root/var/lib/dbus/machine-id
: > build/root/etc/machine-id  # each host has its own
cp --archive build/root root
umount build
rmdir build
"""
_RECIPE = {
    "SUITE": SUITE,
    "MIRROR": MIRROR,
    "PACKAGES": ",".join(PACKAGES),
    "INSTALLABLE": " ".join(INSTALLABLE),
    "AFTER_EXTRACTING": _AFTER_EXTRACTING,
    "AFTER_INSTALLING": _AFTER_INSTALLING,
}


def base() -> Path:
    """Build the base, or wait until another process has, if there is none of this recipe yet.

    :return: the folder: ``root`` is the file system; ``id`` the key that its root user lets in by ssh.
    :raises RuntimeError: if it cannot be built; the message has the end of what the build printed.
    """
    return once("base", [_BUILD, _RECIPE], _build)


def _build(folder: Path) -> None:
    print(f"building the hosts' base in {folder}, about 40 s", file=sys.stderr, flush=True)
    command = ["unshare", "--mount", "sh", "-c", _BUILD, "sh", str(folder)]
    built = subprocess.run(
        command, env=os.environ | _RECIPE, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if built.returncode:
        raise RuntimeError(f"the hosts' base could not be built; mmdebstrap ended with:\n{built.stderr[-3000:]}")
