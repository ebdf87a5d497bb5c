import pytest
from pydantic import TypeAdapter, ValidationError

from common.address import HostPort, split

ADDRESS = TypeAdapter(HostPort)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7443", "127.0.0.1", 7443),
        ("kms.example:0", "kms.example", 0),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1]:1", "fe80::1", 1),
    ],
)
def test_an_address_comes_apart(text: str, host: str, port: int) -> None:
    assert split(ADDRESS.validate_python(text)) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:x", "host:65536", "::1:7443", "a b:1", "[::1]", "host:1:2", "host:-1"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        ADDRESS.validate_python(text)
