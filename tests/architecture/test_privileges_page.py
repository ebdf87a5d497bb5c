"""docs/privileges.md shows the table that the agent goes by."""

from source_agent.privileges import NEEDS, TRANSPORTS
from tests.architecture.tree import TOP


def row(need):
    of = [transport for transport in TRANSPORTS if transport in need.transports]
    transports = "all" if len(of) == len(TRANSPORTS) else ", ".join(of)
    purpose = need.purpose + (" (encrypted VMs)" if need.encrypted_only else "")
    return f"| `{need.privilege}` | {need.place.value} | {transports} | {purpose} |"


def test_every_privilege_and_no_other_is_on_the_page():
    lines = (TOP / "docs" / "privileges.md").read_text().splitlines()

    shown = [line for line in lines if line.startswith("| `")]

    assert shown == [row(need) for need in NEEDS]
