"""Self-checking JSON: any changed byte shows."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_appliance.seal import selfcheck

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abz_", min_size=1, max_size=6), VALUES, min_size=1, max_size=5))
def test_what_was_encoded_decodes(members):
    content = selfcheck.encode(members)

    assert selfcheck.decode(content) == members
    assert content.endswith(b'"}\n')
    assert content.count(b"\n") == 1
    assert json.loads(content).keys() == {*members, "~blake3"}


def test_every_flipped_bit_shows():
    content = selfcheck.encode({"format": 1, "name": "web01"})

    for place in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[place] ^= 1 << bit
            with pytest.raises(selfcheck.SelfCheckError):
                selfcheck.decode(bytes(altered))


def test_every_cut_shows():
    content = selfcheck.encode({"format": 1})

    for length in range(len(content)):
        with pytest.raises(selfcheck.SelfCheckError):
            selfcheck.decode(content[:length])
    with pytest.raises(selfcheck.SelfCheckError):
        selfcheck.decode(content + b"\n")


@given(st.binary(max_size=400))
def test_garbage_is_refused(content):
    with pytest.raises(selfcheck.SelfCheckError):
        selfcheck.decode(content)


@pytest.mark.parametrize("body", [b"[1,2", b'{"a":', b"nonsense"])
def test_a_fitting_digest_does_not_make_json(body):
    from blake3 import blake3

    mark = blake3(body + b"}\n").hexdigest().encode()
    with pytest.raises(selfcheck.SelfCheckError):
        selfcheck.decode(body + b',"~blake3":"' + mark + b'"}\n')


def test_canonical_form_is_one():
    names = list("abcdefgh")
    random.Random(1).shuffle(names)

    assert selfcheck.canonical(dict.fromkeys(names, 1)) == selfcheck.canonical(dict.fromkeys(sorted(names), 1))
    assert selfcheck.canonical({"b": "ü\x7f", "a": [1, None, True]}) == b'{"a":[1,null,true],"b":"\\u00fc\\u007f"}'
