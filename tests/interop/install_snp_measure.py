#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""install_snp_measure.py FOLDER: installs sev-snp-measure into a virtual environment, once; 77 when it cannot be had."""
import pathlib
import subprocess
import sys
import venv

PACKAGE = "sev-snp-measure==0.0.13"


def install(folder):
    """Path of the peer; None, and why, when it cannot be had."""
    program = pathlib.Path(folder) / "bin" / "sev-snp-measure"
    if program.exists():
        return program, ""
    try:
        venv.create(folder, with_pip=True, clear=True)
        pip = [pathlib.Path(folder) / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
        done = subprocess.run([*pip, PACKAGE], capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    if done.returncode != 0 or not program.exists():
        return None, (done.stderr.strip() or "pip failed").splitlines()[-1]
    return program, ""


def main():
    program, why = install(sys.argv[1])
    print(program or f"SKIPPED: {PACKAGE} cannot be had: {why}")
    return 0 if program else 77


if __name__ == "__main__":
    sys.exit(main())
