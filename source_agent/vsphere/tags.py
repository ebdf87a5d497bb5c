"""Which VMs bear a tag: names are resolved anew in every reading, since tags may be renamed at any time.

A reading takes a call for each category, one for each tag of the categories that are wanted, and one for all VMs.
"""

from collections.abc import Collection
from typing import Any, Final

from common.errors import NotFoundError
from source_agent.vsphere.rest import Call, Rest

_WHAT: Final = "reading the tags"


def tagged(rest: Rest, wanted: Collection[str]) -> dict[str, frozenset[str]]:
    """See ``VSphere.tagged``.

    Raises:
        KeysapartError: as Rest.ask does.
    """
    if not wanted:
        return {}
    ids: dict[str, str] = {}
    for category in rest.ask(_WHAT, Call("category")) or []:
        name = _name(rest, "category", category)
        if name is None or not any(tag.startswith(f"{name}:") for tag in wanted):
            continue
        for tag in rest.ask(_WHAT, Call("tag", of=category, action="list-tags-for-category")) or []:
            text = f"{name}:{_name(rest, 'tag', tag)}"
            if text in wanted:
                ids[tag] = text
    found: dict[str, frozenset[str]] = {text: frozenset() for text in ids.values()}
    if not ids:
        return found
    asked = Call("tag-association", action="list-attached-objects-on-tags", body={"tag_ids": sorted(ids)})
    for one in rest.ask(_WHAT, asked) or []:
        found[ids[one["tag_id"]]] |= _machines(one)
    return found


def _name(rest: Rest, kind: str, of: str) -> str | None:
    """None for one that was deleted since it was listed."""
    try:
        return str(rest.ask(_WHAT, Call(kind, of=of))["name"])
    except NotFoundError:
        return None


def _machines(one: Any) -> frozenset[str]:
    return frozenset(each["id"] for each in one["object_ids"] or [] if each["type"] == "VirtualMachine")
