# SPDX-License-Identifier: Apache-2.0
"""qvm-sev, in dom0: marks qubes, shows what became of them, starts one attested, measures one without starting it, and keeps what was measured as a reference value.

Exit status as everywhere: 0 done or yes, 1 the answer is no, 2 trouble.
"""
import argparse
import asyncio
import json
import os
import sys

from xen_sev_qubes import gate, reference, sevd, settings, status

TROUBLE = 2
NOT_LOADED = "qubesd has not loaded xen-sev's extension: restart it (systemctl restart qubesd)"


class Failed(Exception):
    """What goes wrong, and what to do about it."""

    def __init__(self, text, hint=None):
        super().__init__(text)
        self.hint = hint


def qube(app, name):
    if not settings.QUBE.fullmatch(name) or name == "dom0" or name not in app.domains:
        raise Failed(f"there is no qube '{settings.printable(name, 40)}'", "qvm-ls lists them")
    return app.domains[name]


def confirmed(given, question):
    """Asks, unless --yes was given. Without a terminal there is nobody to ask."""
    if given.yes:
        return True
    if not sys.stdin.isatty():
        raise Failed("nobody can be asked: standard input is no terminal", "--yes says yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def show(given, text, value):
    """The result: JSON, or text for eyes."""
    if given.json:
        json.dump(value, sys.stdout, indent=2)
        print()
    elif text:
        print(text)


def wanted_of(vm):
    try:
        return settings.Wanted(vm)
    except settings.Refused as refusal:
        raise Failed(str(refusal), f"qvm-features --unset {vm.name} FEATURE takes one away") from None


def latest(name):
    try:
        return asyncio.run(status.latest(name))
    except (sevd.Absent, sevd.Trouble) as error:
        raise Failed(settings.printable(error), "systemctl status sevd.socket sevd.service") from None


# commands


def enable(given, app):
    """Sets the features, and lists what else stands in the way; with --fix changes that too."""
    vm = qube(app, given.vm)
    new = {"sev.mode": given.mode}
    new.update({f"sev.{key}": getattr(given, key) for key in ("owner", "policy", "profile", "relay", "timeout") if getattr(given, key) is not None})
    for feature, value in new.items():
        try:
            settings.check_feature(feature, value)
        except settings.Refused as refusal:
            raise Failed(str(refusal)) from None
    if given.relay is not None:
        qube(app, given.relay)
    for feature, value in new.items():
        vm.features[feature] = value
    found = settings.problems(vm, wanted_of(vm))
    fixes = [problem for problem in found if problem.fix]
    if given.fix and fixes:
        for problem in fixes:
            print(f"{problem.text}", file=sys.stderr)
        if confirmed(given, f"Change {len(fixes)} setting{'s' if len(fixes) > 1 else ''} of {vm.name}?"):
            for problem in fixes:
                kind, key, value = problem.fix
                if kind == "property":
                    setattr(vm, key, {"0": 0, "False": False}.get(value, value))
                else:
                    vm.features[key] = value
            found = settings.problems(vm, wanted_of(vm))
    lines = [f"{vm.name}: sev.mode is {given.mode}"]
    if found:
        lines.append("It cannot be attested as it is:" if given.mode == "required" else "It will not be measured whole:")
        lines += [f"  {problem}" for problem in found]
        if any(problem.fix for problem in found):
            lines.append(f"  'qvm-sev enable --fix {vm.name}' changes what can be changed.")
    show(given, "\n".join(lines), {"qube": vm.name, "features": new, "problems": [{"text": p.text, "command": p.command} for p in found]})
    return 1 if found else 0


def disable(given, app):
    vm = qube(app, given.vm)
    wanted_before = vm.features.get("sev.mode", None)
    vm.features["sev.mode"] = "off"  # and not unset: a template may require it
    show(given, f"{vm.name}: sev.mode is off (was {settings.printable(wanted_before, 20) if wanted_before else 'not set'}); its other features stay",
         {"qube": vm.name, "features": {"sev.mode": "off"}})
    return 0


def row(vm):
    """What is known of one qube."""
    try:
        wanted, trouble = settings.Wanted(vm), None
    except settings.Refused as refusal:
        wanted, trouble = None, str(refusal)
    out = {"qube": vm.name, "mode": wanted.mode if wanted else "invalid", "running": bool(vm.is_running()), "attested": settings.TAG in vm.tags}
    if trouble:
        out["trouble"] = trouble
    if wanted:
        out.update({key: getattr(wanted, key) for key in ("owner", "policy", "profile", "relay") if getattr(wanted, key) is not None})
    return out


def status_of(given, app):
    """One qube with its newest launch, or all that are marked."""
    if given.vm is None:
        rows = [row(vm) for vm in app.domains if vm.name != "dom0"]
        rows = [r for r in rows if r["mode"] != "off" or r["attested"]]
        width = max([4] + [len(r["qube"]) for r in rows])
        lines = [f"{'QUBE':{width}}  MODE      STATE    ATTESTED  OWNER"] if rows else ["no qube is marked: qvm-sev enable VM"]
        for r in rows:
            lines.append(f"{r['qube']:{width}}  {r['mode']:8}  {'running' if r['running'] else 'halted':7}  {'yes' if r['attested'] else 'no':8}  {r.get('owner', '-')}")
        show(given, "\n".join(lines), {"qubes": rows})
        return 0
    vm = qube(app, given.vm)
    one = row(vm)
    launch = latest(vm.name)
    lines = [f"{key}: {'yes' if value is True else 'no' if value is False else value}" for key, value in one.items()]
    if launch is None:
        lines.append("launch: none that sevd knows of")
    else:
        one["launch"] = launch
        told = status.told(vm.name, launch)
        lines += [f"launch {key}: {'yes' if told[key] is True else 'no' if told[key] is False else told[key]}" for key in ("state", "level", "emulated") if key in told]
        if isinstance(launch.get("reason"), str) and launch["reason"]:
            lines.append("launch reason: " + settings.printable(launch["reason"]))
        lines += ["failed check: " + line for line in gate.failed_checks(launch)]
    show(given, "\n".join(lines), one)
    return 0 if one["attested"] or one["mode"] == "off" else 1


def begin(vm, once):
    """Starts the qube with `once` said of this start alone. The exception of a start that was refused, or None."""
    import qubesadmin.exc  # pylint: disable=import-outside-toplevel

    if vm.is_running():
        raise Failed(f"{vm.name} runs already", f"qvm-shutdown --wait {vm.name}")
    vm.features[settings.ONCE] = once
    try:
        vm.start()
    except qubesadmin.exc.QubesException as error:
        return error
    finally:
        if settings.ONCE in vm.features:  # the start did not get as far as the extension
            del vm.features[settings.ONCE]
    return None


def start(given, app):
    vm = qube(app, given.vm)
    refused = begin(vm, "required")
    if refused is None and settings.TAG not in vm.tags:
        vm.kill()
        raise Failed(f"{vm.name} started, but nobody attested it: it was killed", NOT_LOADED)
    show(given, f"{vm.name}: attested and running" if refused is None else settings.printable(refused),
         {"qube": vm.name, "attested": refused is None, "reason": "" if refused is None else settings.printable(refused)})
    return 0 if refused is None else 1


def captured(vm):
    """Has the qube built, measured and thrown away, and returns what was measured."""
    accounts = reference.Account()
    before = accounts.read(vm.name)
    said = begin(vm, "capture")
    if said is None:
        vm.kill()
        raise Failed(f"{vm.name} started instead of being measured: it was killed", NOT_LOADED)
    account = accounts.read(vm.name)
    if account is None or account == before:
        raise Failed(settings.printable(said))
    return reference.measured(account[1])


def measure(given, app):
    """Predicts and captures, and shows the difference."""
    vm = qube(app, given.vm)
    measured = captured(vm)
    lines = [f"{vm.name}: launch digest {measured.digest}"]
    lines += [f"  {r['label']:16} {r['length']:>12}  {r['sha256']}" for r in measured.regions]
    lines += [f"  differs: {line}" for line in measured.differences]
    lines.append("What was built is what its configuration says." if measured.equal else "What was built is NOT what its configuration says.")
    lines.append("It was not started.")
    show(given, "\n".join(lines), {"qube": vm.name, "equal": measured.equal, "digest": measured.digest, "regions": measured.regions, "differences": measured.differences})
    return 0 if measured.equal else 1


def reference_update(given, app):
    """Measures the qube anew, shows what changed since its last reference value, asks, and keeps the new one."""
    vm = qube(app, given.vm)
    store = reference.Store(given.references)
    old = store.read(vm.name)
    new = captured(vm).value(vm.name)
    changes = reference.changes(old, new)
    print("\n".join(changes), file=sys.stderr)
    if old is not None and old["digest"] == new["digest"]:
        show(given, f"{vm.name}: unchanged, digest {new['digest']}", new)
        return 0
    if not confirmed(given, f"Keep this as the reference value of {vm.name}?"):
        return 1
    path = store.write(vm.name, new)
    show(given, f"{path}\nIts owner still has to be given it: see 'references' in the owner's policy, sev-owner(8).", new)
    return 0


def reference_show(given, app):
    vm = qube(app, given.vm)
    kept = reference.Store(given.references).read(vm.name)
    if kept is None:
        raise Failed(f"{vm.name} has no reference value", f"qvm-sev reference update {vm.name}")
    listed = reference.for_policy(kept)
    show(given, json.dumps(listed, indent=2), listed)
    return 0


def make_parser():
    """The whole command line; the completion and the manual are held against it by a test."""
    parser = argparse.ArgumentParser(prog="qvm-sev", description="Attested qubes: a marked qube runs only when its owner trusts what was built.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(into, name, function, text, vm="VM"):
        command = into.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("--json", action="store_true", help="print JSON")
        if vm:
            command.add_argument("vm", metavar="VM", nargs=None if vm == "VM" else "?", help="name of a qube")
        command.set_defaults(function=function)
        return command

    one = add(commands, "enable", enable, "mark a qube, and say what else keeps it from being attested")
    one.add_argument("--mode", choices=("required", "measure"), default="required", help="required: it runs only when trusted; measure: it runs, and the log says what was measured")
    for option, text in {"owner": "name of the guest owner in sevd.json", "policy": "which of the owner's policies is to judge", "profile": "file in /etc/xen-sev/profiles.d that says the others",
                         "relay": "qube that reaches the owner", "timeout": "seconds to wait for a verdict"}.items():
        one.add_argument(f"--{option}", metavar=option.upper(), help=text)
    one.add_argument("--fix", action="store_true", help="change the settings that stand in the way")
    one.add_argument("--yes", action="store_true", help="do not ask")
    add(commands, "disable", disable, "mark a qube as one that is not attested")
    add(commands, "status", status_of, "show the marked qubes, or one with its newest launch", vm="optional")
    add(commands, "start", start, "start a qube, this time only if it is trusted")
    add(commands, "measure", measure, "build a qube, compare it with what was predicted, and throw it away")
    group = commands.add_parser("reference", help="what a qube is expected to be", description="What a qube is expected to be.")
    kinds = group.add_subparsers(dest="kind", metavar="COMMAND", required=True)
    two = add(kinds, "update", reference_update, "measure a qube, show what changed, and keep the result if that is right")
    two.add_argument("--yes", action="store_true", help="do not ask")
    for command in (two, add(kinds, "show", reference_show, "print the kept reference value")):
        command.add_argument("--references", metavar="FOLDER", default=reference.FOLDER, help=f"where they are kept (default {reference.FOLDER})")
    return parser


def main(arguments=None, app=None):
    given = make_parser().parse_args(arguments)
    try:
        if app is None:
            import qubesadmin  # pylint: disable=import-outside-toplevel

            app = qubesadmin.Qubes()
        return given.function(given, app)
    except Failed as failed:
        text, hint = str(failed), failed.hint
    except reference.Malformed as malformed:
        text, hint = str(malformed), None
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        text, hint = settings.printable(f"{error.filename or 'system'}: {os.strerror(error.errno) if error.errno else error}"), None
    except Exception as error:  # pylint: disable=broad-except
        if not type(error).__module__.startswith("qubesadmin"):
            raise
        text, hint = settings.printable(error), None
    print(f"qvm-sev: error: {text}", file=sys.stderr)
    if hint:
        print(f"qvm-sev: hint: {hint}", file=sys.stderr)
    return TROUBLE
