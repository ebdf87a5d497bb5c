"""``seed import``: a replica's first point from images brought by hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, configured

if TYPE_CHECKING:
    from common.ids import DiskKey

_MOST_NAME = 255
_seed = typer.Typer(no_args_is_help=True, help="Start a replica from images that were brought here by hand.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(_seed, name="seed")


@_seed.callback()
def _group() -> None:
    """Keep ``import`` a word of its own though it is alone."""


@_seed.command("import")
def _import(  # noqa: PLR0917  a command's options
    context: typer.Context,
    replica: Annotated[
        str, typer.Argument(metavar="VM-INSTANCE-UUID", help="Of the VM; source-agent inventory shows it.")
    ],
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose replica it will be.")],
    disk: Annotated[
        list[str],
        typer.Option("--disk", metavar="KEY=PATH", help="A disk's key and its image, raw or VMDK; once per disk."),
    ],
    vm_name: Annotated[
        str | None, typer.Option("--vm-name", metavar="NAME", help="Until the first sync tells it; default: the UUID.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Seal images as point 1 of a new replica. The VM's next sync compares, and sends what differs.

    The images are read in place, and not changed or removed.
    """
    with edge(as_json=as_json):
        from contextlib import ExitStack  # noqa: PLC0415

        from common.clock import SystemClock  # noqa: PLC0415
        from common.ids import parse_replica, parse_tenant  # noqa: PLC0415
        from common.progress import counted  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.seed.image import open_image  # noqa: PLC0415
        from target_appliance.seed.importer import Seed, import_seed  # noqa: PLC0415

        paths = dict(_disks(disk))
        owner, wanted = parse_tenant(tenant), parse_replica(replica)
        name = _name(vm_name or replica)
        with ExitStack() as life:
            images = {key: life.enter_context(open_image(path)) for key, path in sorted(paths.items())}
            capacity = sum(image.capacity_bytes for image in images.values())
            config = configured(context)
            told = life.enter_context(audited(config, "seed import", f"replica {wanted}", owner))
            held = life.enter_context(opened(config))
            progress = life.enter_context(counted(f"seed {name}", capacity))
            made = import_seed(held.vault, held.catalog, SystemClock(), Seed(owner, wanted, name, images), progress)
            told.facts.update(point=made.number, record_hash=made.record_hash.hex())
        result = {
            "tenant": owner,
            "replica": wanted,
            "vm": name,
            "point": made.number,
            "record_hash": made.record_hash.hex(),
            "stored_bytes": made.stored_bytes,
            "disks": [{"key": key, "capacity_bytes": image.capacity_bytes} for key, image in images.items()],
        }
        named = ", ".join(f"disk {key}" for key in images)
        lines = [
            f"replica {wanted}, point {made.number}: {named}, {capacity} bytes, {made.stored_bytes} stored",
            "next: sync the VM, which compares; then remove the images, which are in the clear",
        ]
        emit(result, lines, as_json=as_json)


def _name(text: str) -> str:
    from common.errors import InvalidInputError  # noqa: PLC0415

    if len(text) > _MOST_NAME or not text.isprintable():
        raise InvalidInputError(
            f"{text[:80]!a} is not a VM's name", subject="vm name", next_step="give at most 255 printable characters"
        )
    return text


def _disks(given: list[str]) -> "list[tuple[DiskKey, Path]]":
    from common.errors import InvalidInputError  # noqa: PLC0415
    from common.ids import parse_disk_key  # noqa: PLC0415

    found: list[tuple[DiskKey, Path]] = []
    for text in given:
        key, equals, path = text.partition("=")
        if not equals or not path or not key.isascii() or not key.isdigit():
            raise InvalidInputError(
                f"{text[:80]!a} is not KEY=PATH", subject="disk", next_step="give a disk as --disk 2000=/path/to/image"
            )
        found.append((parse_disk_key(int(key)), Path(path)))
        if len({one for one, _ in found}) < len(found):
            raise InvalidInputError(
                f"disk {key} is given twice", subject=f"disk {key}", next_step="give one image for each disk"
            )
    return found
