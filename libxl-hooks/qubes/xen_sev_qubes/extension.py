# SPDX-License-Identifier: Apache-2.0
"""The extension of qubesd: asks sevd about a qube between its creation, paused, and its first instruction.

Start of a qube in qubesd: domain-pre-start, (created paused), domain-spawn, domain-pre-unpaused (R4.3 and later), resume. An exception in any of these handlers kills
the qube before it runs. The question is asked once for each Xen domain, at the last of these events that the release has; every later pause and resume of the
same domain is none of our business.
"""
import asyncio
import functools

import qubes.exc
import qubes.ext
import qubes.vm.qubesvm

from xen_sev_qubes import gate, reference, settings


def resume_is_announced():
    """Whether this qubesd fires domain-pre-unpaused before it resumes a new domain. Said by the constants of the function that fires it, so that no version has to be known."""
    code = getattr(qubes.vm.qubesvm.QubesVM.start, "__code__", None)
    return code is not None and "domain-pre-unpaused" in code.co_consts


class Start:
    """One Xen domain of a qube, from its creation to its end."""

    def __init__(self, xid, wanted):
        self.xid, self.wanted = xid, wanted
        self.task = None  # the question, asked once; whoever comes later waits for the same answer
        self.gone = asyncio.get_running_loop().create_future()  # done when the domain is


class SevExtension(qubes.ext.Extension):
    """See the module."""

    def __init__(self):
        super().__init__()
        if not hasattr(self, "starts"):  # a singleton, but qubesd may ask for it again
            self.pending = {}  # uuid of a qube → Wanted, from domain-pre-start to domain-spawn
            self.starts = {}  # uuid of a qube → Start
            self.tagging = False

    # settings

    @qubes.ext.handler("domain-feature-pre-set:sev.*")
    def on_feature_pre_set(self, vm, event, feature, value, **kwargs):
        """A value that means nothing is not stored."""
        # pylint: disable=unused-argument
        try:
            settings.check_feature(feature, value)
        except settings.Refused as refusal:
            raise qubes.exc.QubesValueError(str(refusal)) from None

    # the tag that says "attested", which nobody else gives

    def _untag(self, vm):
        if settings.TAG in vm.tags:
            vm.tags.discard(settings.TAG)

    def _tag(self, vm):
        self.tagging = True
        try:
            vm.tags.add(settings.TAG)
        finally:
            self.tagging = False

    @qubes.ext.handler("domain-tag-add:" + settings.TAG)
    def on_tag_add(self, vm, event, **kwargs):
        """Cloning a qube copies its tags; a person may add one. Neither attests anything."""
        # pylint: disable=unused-argument
        if not self.tagging:
            vm.log.warning("sev: the tag %s is given after attestation alone: taken away again", settings.TAG)
            self._untag(vm)

    @qubes.ext.handler("domain-load")
    def on_load(self, vm, event, **kwargs):
        """A tag that outlived its domain, because dom0 went down with it."""
        # pylint: disable=unused-argument
        if settings.TAG not in vm.tags:
            return
        try:
            running = vm.is_running()
        except Exception:  # pylint: disable=broad-except
            running = False  # libvirt does not say: then it is not known to be attested
        if not running:
            self._untag(vm)

    # the start

    def _wanted(self, vm):
        try:
            return settings.Wanted(vm)
        except settings.Refused as refusal:
            raise qubes.exc.QubesVMError(vm, f"{vm.name} cannot start: {refusal}") from None

    @qubes.ext.handler("domain-pre-start")
    async def on_pre_start(self, vm, event, **kwargs):
        """Refuses what could not be attested later, before anything is built."""
        # pylint: disable=unused-argument
        self._forget(vm)
        wanted = self._wanted(vm)
        if wanted.once is not None:
            del vm.features[settings.ONCE]  # good for this start alone, however it ends
        if not wanted.active:
            return
        self.pending[vm.uuid] = wanted
        found = settings.problems(vm, wanted)
        if wanted.relay is not None and wanted.relay not in vm.app.domains:
            found.append(settings.Problem(f"sev.relay names the qube {wanted.relay}, which does not exist", f"qvm-features {vm.name} sev.relay QUBE"))
        if found and wanted.mode == "measure":
            for problem in found:
                vm.log.warning("sev: it will not be measured whole: %s", problem)
            return
        if found:
            more = f" (and {len(found) - 1} more; 'qvm-sev enable {vm.name}' lists them)" if len(found) > 1 else ""
            raise qubes.exc.QubesVMError(vm, f"{vm.name} cannot be attested: {found[0]}{more}")
        if wanted.mode == "required":
            try:
                await gate.present()
            except gate.Failed as failure:
                raise qubes.exc.QubesVMError(vm, f"{vm.name} cannot be attested: {failure}") from None

    @qubes.ext.handler("domain-spawn")
    async def on_spawn(self, vm, event, **kwargs):
        """The domain exists, paused. On R4.2 this is the last word before it runs."""
        # pylint: disable=unused-argument
        wanted = self.pending.pop(vm.uuid, None) or self._wanted(vm)
        self.starts[vm.uuid] = Start(vm.xid, wanted)
        if not resume_is_announced():
            await self._ask(vm, self.starts[vm.uuid])

    @qubes.ext.handler("domain-pre-unpaused")
    async def on_pre_unpaused(self, vm, event, **kwargs):
        """The last word before a new domain runs; and every later resume, of which we say nothing."""
        # pylint: disable=unused-argument
        start = self.starts.get(vm.uuid)
        if start is None or start.xid != vm.xid:
            # made before this qubesd was started: it has run, or its start was cut off and it still has to be asked about
            if vm.get_cputime() > 0:
                return
            start = self.starts[vm.uuid] = Start(vm.xid, self._wanted(vm))
        await self._ask(vm, start)

    async def _ask(self, vm, start):
        if not start.wanted.active:
            return
        if start.task is None:
            start.task = asyncio.ensure_future(self._attest(vm, start))
        await asyncio.wait({start.task, start.gone}, return_when=asyncio.FIRST_COMPLETED)
        if not start.task.done():
            start.task.cancel()  # never awaited again: qubesd takes a cancelled handler for its own end
        if start.gone.done():
            raise qubes.exc.QubesVMError(vm, f"{vm.name} went away while it was being attested")
        start.task.result()

    async def _attest(self, vm, start):
        if start.wanted.mode == "measure":
            await self._log_measurement(vm, start)
        elif start.wanted.mode == "capture":
            await self._capture(vm, start)
        else:
            await self._require(vm, start)

    async def _require(self, vm, start):
        try:
            outcome = await gate.attest(vm.name, vm.uuid, start.xid, start.wanted)
        except gate.Failed as failure:
            vm.log.error("sev: refused, xid %d: %s", start.xid, failure)
            raise qubes.exc.QubesVMError(vm, f"{vm.name} was not started: {failure}") from None
        vm.log.info("sev: xid %d: %s", start.xid, outcome)
        if not outcome.trusted:
            raise qubes.exc.QubesVMError(vm, f"{vm.name} was not started: {outcome}")
        if start.gone.done() or vm.xid != start.xid:
            raise qubes.exc.QubesVMError(vm, f"{vm.name} went away while it was being attested")
        self._tag(vm)

    async def _log_measurement(self, vm, start):
        try:
            measured = reference.measured(await gate.measure(vm.uuid, start.xid, start.wanted.timeout_s))
        except (gate.Failed, reference.Malformed) as failure:
            vm.log.warning("sev: not measured, xid %d: %s", start.xid, failure)
            return
        say = vm.log.info if measured.equal else vm.log.warning
        say("sev: xid %d: launch digest %s, %s", start.xid, measured.digest, measured)

    async def _capture(self, vm, start):
        """For `qvm-sev measure`: leaves sevctl's account where qvm-sev finds it, and never lets the qube run."""
        try:
            try:
                account = await gate.measure(vm.uuid, start.xid, start.wanted.timeout_s)
            except gate.Failed:
                await gate.keep_acpi(start.xid, start.wanted.timeout_s)
                account = await gate.measure(vm.uuid, start.xid, start.wanted.timeout_s)
            measured = reference.measured(account)
            await asyncio.get_running_loop().run_in_executor(None, functools.partial(reference.Account().write, vm.name, start.xid, account))
        except (gate.Failed, reference.Malformed, OSError) as failure:
            raise qubes.exc.QubesVMError(vm, f"{vm.name} was not measured: {settings.printable(failure)}") from None
        raise qubes.exc.QubesVMError(vm, f"{vm.name} was measured and, as asked, not started: {measured}")

    def _forget(self, vm):
        self.pending.pop(vm.uuid, None)
        start = self.starts.pop(vm.uuid, None)
        if start is not None and not start.gone.done():
            start.gone.set_result(None)
        self._untag(vm)

    @qubes.ext.handler("domain-start-failed", "domain-stopped")
    def on_end(self, vm, event, **kwargs):
        """The domain is gone, or never was."""
        # pylint: disable=unused-argument
        self._forget(vm)
