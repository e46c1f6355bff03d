# SPDX-License-Identifier: Apache-2.0
"""Boots the lab: a real Xen 4.17 and its PV dom0 in an emulated machine, in which one command is run."""
import contextlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "psp/emulator/machine"))
import boot  # noqa: E402
import virtual_machine  # noqa: E402
from boot import NEVER  # noqa: E402,F401
from debian import Trouble  # noqa: E402

MEMORY_MIB = 3072
NOT_PRODUCT = ("test_", "corpus_", "bench_", "fuzz_")
FOR_DOM0 = ("bench_xen_capture", "bench_xen_predict")


class Machine(boot.Boot):
    """One boot, with the product's programs of a build folder in dom0."""

    def __init__(self, build, timeout_s=600, console=None, stdout=None, stderr=None):
        super().__init__(share=ROOT, timeout_s=timeout_s, console=console, stdout=stdout, stderr=stderr)
        self.build = build

    @contextlib.contextmanager
    def ready(self):
        source = pathlib.Path(self.build) / "bin"
        programs = [path for path in source.iterdir() if path.name in FOR_DOM0 or not path.name.startswith(NOT_PRODUCT)] if source.is_dir() else []
        if not boot.stage(programs, self.folder / "lab/bin"):
            raise Trouble(f"{source}: holds no programs of the product: build them first")
        qemu, image = virtual_machine.emulator(), virtual_machine.disk(xen=True)
        yield qemu, image / "dom0.img", ["-machine", "q35", "-cpu", boot.XEN_CPU, "-smp", "1", "-m", MEMORY_MIB, *boot.under_xen(image)], []
