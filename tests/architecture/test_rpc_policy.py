"""Every RPC of every service has its row of policy, and no row lacks its RPC."""

import importlib
import pkgutil

from google.protobuf.descriptor import MethodDescriptor

import common.wire.v1
from target_appliance.server.rpc_policy import POLICY


def methods() -> dict[str, MethodDescriptor]:
    found = {}
    for module in pkgutil.iter_modules(common.wire.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"common.wire.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
    return found


def test_rows_and_rpcs_are_the_same_set():
    assert set(methods()) == set(POLICY)
    assert methods()


def test_a_stream_counts_as_one():
    streaming = {path for path, method in methods().items() if method.client_streaming or method.server_streaming}

    assert {path for path, row in POLICY.items() if row.streams} == streaming
