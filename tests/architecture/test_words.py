"""One word per thing: DESIGN.md section 1, held in the wire and on the command line."""

import re
from pathlib import Path

import pytest

from tests.architecture.tree import TOP

# What people call it elsewhere → our word.
SYNONYMS = {
    "account": "tenant",
    "backup": "point",
    "block": "grain",
    "blocks": "grain",
    "checkpoint": "point",
    "checksum": "digest",
    "cluster": "grain",
    "customer": "tenant",
    "cycle": "sync",
    "image": "disk or point",
    "job": "sync",
    "organization": "tenant",
    "restore": "export",
    "sector": "extent",
    "segment": "extent",
    "session": "sync",
    "volume": "disk",
}

PROTOS = sorted((TOP / "proto").rglob("*.proto"))


def names_in(proto: Path) -> set[str]:
    """Names of messages, enums, values, services, RPCs and fields."""
    text = re.sub(r"//[^\n]*", "", proto.read_text())
    found = re.findall(r"\b(?:message|enum|service|rpc|oneof)\s+(\w+)", text)
    found += re.findall(r"\b(\w+)\s*=\s*\d+\s*[;\[]", text)
    return set(found)


def words_of(identifier: str) -> set[str]:
    """GrainBatch, grain_batch and GRAIN_BATCH all consist of grain and batch."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_the_wire_uses_our_words(proto):
    names = names_in(proto)

    assert len(names) > 3
    assert [f"{name}: say {SYNONYMS[word]}" for name in names for word in words_of(name) & SYNONYMS.keys()] == []


def test_a_synonym_would_be_found():
    assert words_of("ChangedBlockList") & SYNONYMS.keys() == {"block"}
    assert words_of("backup_id") & SYNONYMS.keys() == {"backup"}
    assert words_of("BACKUP_KIND") & SYNONYMS.keys() == {"backup"}
