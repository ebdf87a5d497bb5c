"""Each way to the outside has one door: files of the store, the environment, the clock, standard output.

Read from the syntax trees, so that a call shows wherever it hides. A module that may use a door stands here with its
reason.
"""

import ast

import pytest

from tests.architecture.tree import called, modules

# Faults, traces and the power-loss model hook into the store: what goes round it escapes them.
STORE = "target_appliance/store/"
FILES_ELSEWHERE = {
    "target_appliance/admission.py": "what the catalog must not forget, in state_dir",
    "target_appliance/appliance.py": "the lock of state_dir",
    "target_appliance/audit/": "the audit log, in state_dir",
    "target_appliance/drill/": "memory that a guest writes to, the socket of its view, results in state_dir",
    "target_appliance/evidence/": "everything that is held, only read",
    "target_appliance/identity/": "the authority's key and certificates, in state_dir",
    "target_appliance/kms/embedded.py": "the sealed key file",
    "target_appliance/kms/secret.py": "passphrase and PIN",
    "target_appliance/native/journal.py": "what is known of failovers, in state_dir",
    "target_appliance/native/writer.py": "devices of disks that are attached to the appliance's VM",
    "target_appliance/present/callers.py": "what TLS shows, in memory",
    "target_appliance/present/listen.py": "the socket that a view's clients are given",
    "target_appliance/seed/source_file.py": "images that the operator brought, only read",
    "target_appliance/tenant_trust.py": "the bundle that the operator brought, only read",
    "target_appliance/server/enrollment.py": "the socket behind its door, in state_dir",
    "target_appliance/set_up.py": "init and tenants add: state_dir and the agent's files",
}
FILE_FUNCTIONS = {"open", "os", "shutil", "tempfile", "io"}
FILE_METHODS = {
    "chmod",
    "hardlink_to",
    "mkdir",
    "read_bytes",
    "read_text",
    "rmdir",
    "symlink_to",
    "unlink",
    "write_bytes",
    "write_text",
}
NO_FILE = {"io.BufferedReader", "os.cpu_count", "os.getpid", "os.setpriority", "os.urandom", "os.fspath"}

ENVIRONMENT = {"environ", "environb", "getenv", "putenv"}
ENVIRONMENT_ALLOWED = {
    "source_agent/daemon/notify.py": "systemd says there where it listens",
    "target_appliance/kms/secret.py": "systemd says there where credentials are",
}

CLOCKS = {"time.time", "time.monotonic", "time.sleep", "datetime.now", "datetime.utcnow", "datetime.datetime.now"}
CLOCKS_ALLOWED = {"common/clock.py": "the door"}


def calls(*packages):
    for path, module in modules(*packages):
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                yield path, node.lineno, called(node)


def touches_files(call: str) -> bool:
    first, last = call.partition(".")[0], call.rpartition(".")[2]
    return call not in NO_FILE and (first in FILE_FUNCTIONS or ("." in call and last in FILE_METHODS))


def is_behind(path: str, doors) -> bool:
    return any(path == door or (door.endswith("/") and path.startswith(door)) for door in doors)


def test_the_appliance_reaches_the_medium_through_the_store_only():
    found = [
        f"{path}:{line}: {call}"
        for path, line, call in calls("target_appliance")
        if touches_files(call) and not is_behind(path, {STORE, *FILES_ELSEWHERE})
    ]

    assert found == []


def test_nothing_reads_the_environment():
    found = [
        f"{path}:{node.lineno}"
        for path, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in ENVIRONMENT
        and path not in ENVIRONMENT_ALLOWED
    ]

    assert found == []


def test_points_are_dropped_where_locks_and_holds_are_looked_at():
    found = {path for path, _, call in calls() if call.endswith("vault.drop")}

    assert found == {"target_appliance/retention/drop.py"}


def test_time_is_injected():
    found = [f"{path}:{line}: {call}" for path, line, call in calls() if call in CLOCKS and path not in CLOCKS_ALLOWED]

    assert found == []


def test_only_the_command_lines_write_to_standard_output():
    found = [
        f"{path}:{line}: {call}"
        for path, line, call in calls()
        if call in {"print", "sys.stdout.write"} and "cli" not in path
    ]

    assert found == []


@pytest.mark.parametrize("doors", [FILES_ELSEWHERE, ENVIRONMENT_ALLOWED, CLOCKS_ALLOWED])
def test_exceptions_are_still_needed(doors):
    """A door that nobody uses any more is closed."""
    paths = {path for path, _ in modules()}

    assert [door for door in doors if not any(is_behind(path, {door}) for path in paths)] == []


@pytest.mark.parametrize("source", ["open(x)", "os.rename(a, b)", "Path(x).write_text(y)", "shutil.rmtree(x)"])
def test_a_way_round_the_store_would_be_found(source):
    assert next(touches_files(called(node)) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


@pytest.mark.parametrize("source", ["store.open(x)", "vault.rename(a, b)", "catalog.read(x)"])
def test_the_stores_own_calls_are_not_taken_for_files(source):
    (call,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))

    assert not touches_files(called(call))
