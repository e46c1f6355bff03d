# SPDX-License-Identifier: Apache-2.0
"""The commands of the pages for users: what a fence says after `sh` is where they belong. Nothing or `vm`: run in a clean Debian root with the packages; `dom0`: the same, with stand-ins
for Qubes' own tools (docs_test.py); `xen`: run in the lab's dom0, with the rest of their page (tests/xen/dom0/pages_test.py)."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ("owner.md", "qubes.md", "threat-model.md", "xen.md")
PLACES = {"owner.md": {""}, "qubes.md": {"dom0", "vm"}, "threat-model.md": set(), "xen.md": {"", "xen"}}  # what is run of each page
FENCE = re.compile(r"^```sh(?: (\w+))?\n(.*?)^```$", re.S | re.M)

SYSTEMCTL = r"""#!/bin/bash
# As much of systemctl as the pages use, without a systemd: what units say is read from them.
set -eu
start() {
    unit=/lib/systemd/system/$1.service
    [ -e "$unit" ] || { echo "no unit $1" >&2; exit 5; }
    get() { sed -n "s/^$1=//p" "$unit" | head -n 1; }
    for folder in $(get RuntimeDirectory); do install -d -m "$(get RuntimeDirectoryMode || :)" -o "$(get User || :)" "/run/$folder" 2>/dev/null || install -d "/run/$folder"; done
    for folder in $(get StateDirectory); do [ -d "/var/lib/$folder" ] || install -d -m 0700 "/var/lib/$folder"; done
    user=$(get User)
    [ "$(get LimitMEMLOCK)" != infinity ] || ulimit -l unlimited 2>/dev/null || unlocked=--unlocked-memory # where even root may not
    # as systemd does it: not through PAM, which would set other limits
    # shellcheck disable=SC2046 # a command line
    setpriv --reuid="${user:-root}" --regid="$(id -gn "${user:-root}")" --init-groups $(get ExecStart) ${unlocked:-} >"/tmp/$1.log" 2>&1 </dev/null &
    for _ in $(seq "${START_TENTHS:-100}"); do
        sleep 0.1
        kill -0 $! 2>/dev/null || { cat "/tmp/$1.log" >&2; exit 1; }
        case $1 in
        sevd) [ ! -S /run/xen-sev/sevd.sock ] || exit 0 ;;
        *) [ ! -S /run/xen-sev-owner/owner.sock ] || exit 0 ;;
        esac
    done
    cat "/tmp/$1.log" >&2
    exit 1
}
case "$*" in
"restart qubesd") ;;
"enable --now sev-owner") start sev-owner ;;
"enable --now sevd.socket sevd") mkdir -p /run/xen-sev; start sevd ;;
*) echo "systemctl: not in the stand-in: $*" >&2; exit 1 ;;
esac
"""


def text(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def blocks(page):
    """[(place, commands)] in the page's order."""
    return [(kind or "", commands) for kind, commands in FENCE.findall(text(page))]
