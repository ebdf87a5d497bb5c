"""Command line of the lab."""

import argparse
import contextlib
import json
import signal
import sys
import threading
from pathlib import Path

from tests.lab import build, door
from tests.lab.errors import LabError
from tests.lab.guest import GuestDisk


def main() -> int:
    """Run one command; failures are one sentence."""
    options = _parser().parse_args()
    try:
        options.run(options)
    except (LabError, OSError) as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Both sites on one machine.")
    commands = parser.add_subparsers(required=True)

    up = commands.add_parser("up", help="start a lab, until interrupted; says ready when it is")
    up.add_argument("dir", type=Path)
    up.add_argument("--disk-mib", type=int, default=64, help="size of the first disk of web01 and plain01")
    up.add_argument("--vms", type=int, default=0, help="so many small VMs more, called many001 and on")
    up.add_argument("--target-vcenter", action="store_true", help="the target site has a vCenter, to fail over to")
    up.set_defaults(run=_up)

    guest = commands.add_parser("guest", help="read and write a VM's disk as its guest would")
    guest.add_argument("dir", type=Path)
    guest.add_argument("vm")
    guest.add_argument("key", type=int, help="device key of the disk")
    actions = guest.add_subparsers(dest="action", required=True)
    actions.add_parser("write", help="write standard input").add_argument("offset", type=int)
    for name, text in (("read", "to standard output"), ("discard", "trim"), ("touch", "report a change that is none")):
        action = actions.add_parser(name, help=text)
        action.add_argument("offset", type=int)
        action.add_argument("length", type=int)
    actions.add_parser("image", help="copy the live disk as a raw file").add_argument("out", type=Path)
    actions.add_parser("load", help="replace the content by a raw file").add_argument("file", type=Path)
    guest.set_defaults(run=_guest)

    control = commands.add_parser("control", help="give an order to a running lab; --help lists them")
    control.add_argument("dir", type=Path)
    control.add_argument("words", nargs=argparse.REMAINDER, metavar="order …")
    control.set_defaults(run=_control)

    made = commands.add_parser("build", help="build the vCenter and the VDDKs whose sources changed")
    made.set_defaults(run=_build)
    bao = commands.add_parser("openbao", help="build OpenBao if its sources changed; only tests of its driver need it")
    bao.set_defaults(run=lambda _: print(build.openbao()))
    return parser


def _build(_: argparse.Namespace) -> None:
    build.binary()
    for release in ("6.5", "6.7", "8.0"):
        build.vddk(release)


def _up(options: argparse.Namespace) -> None:
    # Here and not above: a guest's write should not wait for the libraries of a whole site.
    from tests.lab.site import Lab
    from tests.lab.target_site import TargetSite

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with contextlib.ExitStack() as held:
        lab = held.enter_context(Lab(options.dir, options.disk_mib, options.vms))
        if options.target_vcenter:
            held.enter_context(TargetSite(lab.folder / "target")).join(lab.appliance_toml)
        print("ready", flush=True)
        over.wait()


def _guest(options: argparse.Namespace) -> None:
    disk = GuestDisk(options.dir / "disks" / options.vm / str(options.key))
    match options.action:
        case "write":
            disk.write(options.offset, sys.stdin.buffer.read())
        case "read":
            sys.stdout.buffer.write(disk.read(options.offset, options.length))
        case "image":
            disk.image(options.out)
        case "load":
            disk.load(options.file)
        case _:
            getattr(disk, options.action)(options.offset, options.length)


def _control(options: argparse.Namespace) -> None:
    if options.words in ([], ["--help"], ["-h"]):
        from tests.lab import control

        control.parser().print_help()
        return
    answer = door.give(options.dir, options.words)
    if answer is not None:
        print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    sys.exit(main())
