"""Whether time tells a foreign object from one that is not there: ``python -m benchmarks.isolation [--calls N]``.

Each RPC that names something is called for both in turn, over mutual TLS on this machine; medians are compared.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from target_appliance.identity.names import Role
from target_appliance.server.rpc_policy import POLICY, TenantRule
from target_appliance.store.memory import MemoryStore
from tests.fakes.served import served
from tests.isolation.calls import METHODS
from tests.isolation.site import Site, absent

BAR = 0.05


def main() -> int:
    """Measure, print a table, and say by the exit code whether every difference is below the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="of each kind for each RPC")
    calls = parser.parse_args().calls
    worst = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), store=MemoryStore()) as serving,
        Site.opened_at(serving) as site,
    ):
        print(f"{'RPC':44} {'foreign us':>10} {'absent us':>10} {'difference':>10}")
        for path in sorted(path for path in METHODS if _names_something(path)):
            (role,) = POLICY[path].roles
            foreign, missing = _measured(site, role, path, calls)
            difference = foreign / missing - 1
            worst = max(worst, abs(difference))
            print(f"{path:44} {foreign * 1e6:10.0f} {missing * 1e6:10.0f} {difference:+10.1%}")
    print(f"largest difference {worst:.1%}, bar {BAR:.0%}")
    return int(worst >= BAR)


def _names_something(path: str) -> bool:
    """BeginSync does not count: of whatever it names it makes something, and finds it the second time."""
    return POLICY[path].tenant_rule is not TenantRule.TENANT and not path.endswith("/BeginSync")


def _measured(site: Site, role: Role, path: str, calls: int) -> tuple[float, float]:
    """Median seconds of calls for a foreign object, and for one that is not there."""
    foreign = site.names("rival")
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for kind, names in enumerate((foreign, absent())):
            began = time.perf_counter()
            site.ask(f"{role} of acme", path, names)
            seconds[kind].append(time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


if __name__ == "__main__":
    sys.exit(main())
