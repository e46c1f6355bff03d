#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_count.py REPORT WANT: the differential test that wrote REPORT ran WANT cases or more without a failure; 77 when it was skipped."""
import json
import pathlib
import sys


def main():
    path, want = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    if not path.exists():
        print(f"{path}: absent: the differential test did not come to its end")
        return 1
    report = json.loads(path.read_text(encoding="utf-8"))
    if "skipped" in report:
        print(f"SKIPPED: {report['skipped']}")
        return 77
    print(f"{report['cases']} cases, {report['failures']} failures, want {want} cases or more and no failure")
    return 0 if report["cases"] >= want and report["failures"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
