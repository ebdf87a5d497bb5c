"""Orders to a running lab, as words: what ``python -m tests.lab control DIR …`` and tests give alike."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from tests.lab.errors import ControlError

if TYPE_CHECKING:
    from tests.lab.kmip import KmipSite
    from tests.lab.site import Lab


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process: orders also come in over HTTP."""

    def error(self, message: str) -> NoReturn:
        raise ControlError(f"{self.prog}: {message}")


def parser() -> argparse.ArgumentParser:
    """All orders."""
    top = _Parser(prog="control", description=__doc__)
    orders = top.add_subparsers(dest="order", required=True, parser_class=_Parser)

    def order(name: str, text: str, *arguments: str) -> argparse.ArgumentParser:
        made = orders.add_parser(name, help=text, description=text)
        for argument in arguments:
            made.add_argument(argument, type={"key": int, "bytes": int, "seconds": float}.get(argument))
        return made

    order("reset-cbt", "void all change ids of a VM, as a host does after a crash", "vm")
    fault = order("fault", "make calls of a method fail", "method")
    fault.add_argument("fault", help="a vSphere fault's type, drop, drop-after or http-NNN")
    fault.add_argument("--call", action="store_true", help="fail the call itself where else the task would")
    _frequency(fault)
    _frequency(order("delay", "make calls of a method slow", "method", "seconds"), delay=False)
    order("clear-faults", "end all faults and delays")
    deny = order("deny", "take a privilege from a user", "privilege")
    deny.add_argument("--user", default="", help="from everybody if left out")
    deny.add_argument("--hidden", action="store_true", help="checks go on to say that it is there")
    order("allow", "give all privileges back")
    disabled = order("disable-method", "lock a method of a VM, or unlock it", "vm", "name")
    disabled.add_argument("--off", dest="on", action="store_false")
    tools = order("tools", "start VMware Tools in a guest, or stop them", "vm")
    tools.add_argument("--off", dest="on", action="store_false")
    answers = order("answers", "make change queries answer badly")
    answers.add_argument("how", choices=["well", "stuck", "elsewhere", "unsorted", "outside", "beyond"])
    order("tracking-unit", "how finely changes are tracked; 65536 at first", "bytes")
    order("orphans", "disks of other VMs that are attached to the agent's VM")
    order("snapshots", "snapshots of a VM", "vm")
    order("snapshot", "take a snapshot that is none of ours", "vm", "name")
    order("revert", "go back to the newest snapshot of a VM", "vm")
    order("drop-snapshots", "remove all snapshots of a VM", "vm")
    order("relocate", "put a disk's file elsewhere, as a storage vMotion does", "vm", "key")
    order("replace", "put another disk in a disk's place, with its key and file name", "vm", "key")
    untracked = order("untrack", "leave a disk out of change tracking from the next snapshot on, or not", "vm", "key")
    untracked.add_argument("on", metavar="on|off", type="on".__eq__)
    order("migrate", "move a running VM to another host, as DRS does", "vm", "host")
    upgraded = order("host", "upgrade all hosts, or one, to a version and build", "name", "bytes")
    door = order("host-door", "open or shut the port at which a host hands out the data of disks", "host")
    _of_hosts(upgraded, door)
    order("grow", "make a disk larger", "vm", "key", "bytes")
    needed = order("consolidation-needed", "set what vCenter says about a VM", "vm")
    needed.add_argument("state", choices=["on", "off"])
    order("plug-delay", "how long a guest takes to see a disk come or go", "seconds")
    order("certificate", "replace the vCenter's, which then lasts so many days", "days")
    order("expire-sessions", "end all sessions of the vCenter")
    _tags(order)
    order("calls", "how often each method was called")
    order("vcenter", "make it go away, or come back").add_argument("action", choices=["stop", "start"])
    order("source-site", "make vCenter and KMS of the source go away, or come back").add_argument(
        "action", choices=["stop", "start"]
    )
    for name, whose in (("kms", "target"), ("source-kms", "source")):
        kms = order(name, f"the {whose} site's key server")
        kms.add_argument("action", choices=["stop", "start", "pause", "resume", "list", *_KEY_ACTIONS])
        kms.add_argument("id", nargs="?", help="of the key")
    return top


def _of_hosts(upgraded: argparse.ArgumentParser, door: argparse.ArgumentParser) -> None:
    upgraded.add_argument("--host", default="", help="all of them if left out")
    door.add_argument("on", metavar="open|shut", type="open".__eq__)


_KEY_ACTIONS = ("state", "deactivate", "compromise", "destroy")


def _tags(order: Callable[..., argparse.ArgumentParser]) -> None:
    for name, text in (
        ("tag", "give a VM a tag, which is made with its category where it is not there"),
        ("untag", "take a tag from a VM; without a VM, delete it, and its category with the last one"),
    ):
        tag = order(name, text)
        tag.add_argument("vm", nargs="?", default="")
        tag.add_argument("name", metavar="CATEGORY/TAG")
    api = order("tag-api", "which of the vCenter's APIs for tags are there")
    api.add_argument("name", choices=["both", "old", "new", "none"])


def _frequency(made: argparse.ArgumentParser, *, delay: bool = True) -> None:
    made.add_argument("--count", type=int, default=0, help="how often; for ever if left out")
    made.add_argument("--skip", type=int, default=0, help="how many calls pass first")
    if delay:
        made.add_argument("--delay", type=float, default=0.0, help="seconds before it")


def run(lab: "Lab", words: list[str]) -> Any:  # noqa: C901, PLR0911 - one line an order
    """Carry an order out; the result can be written as JSON.

    Raises:
        ControlError: it cannot be, the message says why.
    """
    o = parser().parse_args(words)
    vcenter = lab.vcenter
    match o.order:
        case "fault":
            arguments = {name: getattr(o, name) for name in ("method", "fault", "call", "count", "skip", "delay")}
            return vcenter.order("fault", **arguments)
        case "delay":
            return vcenter.order("fault", method=o.method, delay=o.seconds, count=o.count, skip=o.skip)
        case "answers":
            return vcenter.order("answers", name="" if o.how == "well" else o.how)
        case "consolidation-needed":
            return vcenter.order("consolidation", vm=o.vm, on=o.state == "on")
        case "certificate":
            return vcenter.show_certificate(int(o.days))
        case "expire-sessions":
            return vcenter.order("expire")
        case "vcenter":
            return vcenter.order(o.action)
        case "source-site":
            vcenter.order(o.action)
            return _kms(lab, lab.source_kms, o.action, None)
        case "kms":
            return _kms(lab, lab.kms, o.action, o.id)
        case "source-kms":
            return _kms(lab, lab.source_kms, o.action, o.id)
        case _:
            # Left are the orders whose words are the door's own.
            return vcenter.order(o.order, **{k: v for k, v in vars(o).items() if k != "order"})


def _kms(lab: "Lab", site: "KmipSite", action: str, key: str | None) -> Any:
    if action == "list":
        return [asdict(one) for one in site.list_keys()]
    if action in _KEY_ACTIONS:
        if key is None:
            raise ControlError(f"{action} needs the key's id")
        return getattr(site, action)(key)
    getattr(site, action)()
    lab.describe()
    return None
