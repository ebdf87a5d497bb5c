"""A tenant that leaves: nothing of it opens or is left, whatever copies somebody kept; the others notice nothing."""

import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    BusyError,
    KeyNotUsableError,
    KeysapartError,
    KmsUnavailableError,
    NotFoundError,
    PreconditionError,
)
from common.ids import AgentId, new_sync_id
from target_appliance.admission import Admission, opened
from target_appliance.catalog.model import Lease
from target_appliance.identity.signing import Signer
from target_appliance.keys.erase import Eraser, Marked
from target_appliance.keys.rotate import rotate_kek
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.port import KekState
from target_appliance.recovery import names, small_file
from target_appliance.recovery.vault import Vault
from target_appliance.retention.keeper import Keeper
from target_appliance.store.memory import MemoryStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, header, send, spec
from tests.faults.kms import FaultKms, KmsTrap
from tests.faults.store import FaultStore, Killed, Trap, killed
from tests.unit.target_appliance.cli.conftest import Site, fresh

OTHER = "globex"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An appliance with two tenants and nothing in its store."""
    site = fresh(tmp_path_factory.mktemp("erase"))
    site.done("init")
    for name in (TENANT, OTHER):
        site.done("tenants", "add", name, "--out", site.folder / name)
    return site


class Stage:
    """Two tenants with a replica each, over a store and a KMS in memory; the catalog is the site's own copy."""

    def __init__(self, site: Site, admission: Admission) -> None:
        self.site, self.admission, self.clock = site, admission, ManualClock()
        self.world = World(MemoryStore(), MemoryKms(), self.clock)
        self.world.sync({spec(): {0: grain_bytes(1)}})
        rotate_kek(self.world.vault, TENANT)
        staged = self.world.vault.syncs.begin(OTHER, REPLICA, new_sync_id(), header([spec()], 0))
        send(staged.disk(DISK), {0: grain_bytes(9)})
        staged.commit()
        for tenant in (TENANT, OTHER):
            row = self.world.vault.point(tenant, REPLICA, 1)
            admission.catalog.record_point(row, 1)
        self.sync = new_sync_id()
        self.staged = self.world.begin([spec()], sync=self.sync)  # under way

    def eraser(self, store: object = None, kms: object = None) -> Eraser:
        vault = Vault(store or self.world.store, kms or self.world.kms, self.clock)
        return Eraser(vault, self.admission, Signer(self.admission.authority, SystemClock()), SystemClock())

    @property
    def keks(self) -> list[str]:
        return list(self.world.kms._keks)


@pytest.fixture
def stage(made: Site, tmp_path: Path):
    shutil.copytree(made.folder, tmp_path / "site")
    site = Site(tmp_path / "site")
    with opened(site.config) as admission:
        yield Stage(site, admission)


def opens(stage: Stage, tenant: str) -> None:
    """Read a tenant's point with nothing kept in memory."""
    vault = Vault(stage.world.store, stage.world.kms, stage.clock)
    with vault.view(tenant, REPLICA, DISK, 1) as view:
        assert view.read(0, 1)[0]


def check_erased(stage: Stage, saved: list[dict], old: list[str]) -> None:
    store, kms = stage.world.store, stage.world.kms
    assert TENANT not in stage.world.vault.tenants()
    assert [kms.state(kek) for kek in old] == [KekState.DESTROYED] * 2
    opens(stage, OTHER)
    assert stage.admission.catalog.tenants() == (OTHER,)
    assert [row.tenant for row in stage.admission.catalog.replicas()] == [OTHER]
    left = b"".join(path.read_bytes() for path in (stage.site.folder / "state").rglob("*.sqlite*"))
    assert b"acme" not in left
    assert b"globex" in left
    assert not (stage.site.folder / "state" / "tenants" / "acme.json").exists()
    # Everything that ever lay on the disk, put back.
    for files in saved:
        store._files.update({path: bytearray(content) for path, content in files.items()})
        store._folders.update({path[:depth] for path in files for depth in range(1, len(path))})
        with pytest.raises(KeyNotUsableError):
            opens(stage, TENANT)
        with pytest.raises(KeyNotUsableError):
            Vault(store, kms, stage.clock).require_key(TENANT)


def files_of(stage: Stage) -> dict:
    return {path: bytes(content) for path, content in stage.world.store._files.items() if path[1] == TENANT}


def test_nothing_opens_afterwards_whatever_is_put_back(stage, tmp_path):
    saved, old = [files_of(stage)], stage.keks[:2]
    body = stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert (body["tenant"], body["replicas"], body["points"], body["data_keys"]) == (TENANT, 1, 1, 1)
    assert sorted(kek["kek"] for kek in body["keks"]) == sorted(old)
    assert {kek["state"] for kek in body["keks"]} == {"destroyed"}
    check_erased(stage, saved, old)
    with pytest.raises(NotFoundError):
        Eraser(
            Vault(MemoryStore(), stage.world.kms, stage.clock),
            stage.admission,
            Signer(stage.admission.authority, SystemClock()),
            SystemClock(),
        ).erase(TENANT, tmp_path / "another")


def test_killed_at_every_step_it_goes_on(made, tmp_path):
    step = 0
    while True:
        step += 1
        folder = tmp_path / f"site{step}"
        shutil.copytree(made.folder, folder)
        with ExitStack() as life:
            stage = Stage(Site(folder), life.enter_context(opened(Site(folder).config)))
            saved, old = [files_of(stage)], stage.keks[:2]
            receipt = folder / "receipt"
            trap = Trap(at=step, error=killed, for_good=True)
            try:
                stage.eraser(FaultStore(stage.world.store, trap)).erase(TENANT, receipt)
            except Killed:
                saved.append(files_of(stage))
                if stage.eraser().known(TENANT):
                    receipt = folder / "second"
                    stage.eraser().erase(TENANT, receipt)
                assert receipt.exists()
            else:
                break
            check_erased(stage, [files for files in saved if any(path[-1] == "tenant.json" for path in files)], old)
        shutil.rmtree(folder)
    assert step > 15


def test_a_kms_that_keeps_a_key_leaves_everything_and_the_tenant_suspended(stage, tmp_path):
    trap = KmsTrap(failing=True, only=("destroy_kek",))
    with pytest.raises(KmsUnavailableError):
        stage.eraser(kms=FaultKms(stage.world.kms, trap)).erase(TENANT, tmp_path / "receipt")
    assert not (tmp_path / "receipt").exists()
    assert stage.admission.catalog.tenant(TENANT).suspended
    opens(stage, TENANT)
    stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert TENANT not in stage.world.vault.tenants()


def test_no_key_is_destroyed_that_another_tenant_names(stage, tmp_path):
    files = stage.world.vault.keyring.files
    files.put_tenant(OTHER, files.tenant(TENANT))
    with pytest.raises(PreconditionError, match="globex's too"):
        stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert KekState.DESTROYED not in {stage.world.kms.state(kek) for kek in stage.keks}


def test_a_receipt_is_not_overwritten(stage, tmp_path):
    (tmp_path / "receipt").write_text("mine")
    with pytest.raises(AlreadyExistsError):
        stage.eraser().erase(TENANT, tmp_path / "receipt")
    opens(stage, TENANT)


def test_by_command_with_a_receipt_that_anybody_checks(stage):
    site = stage.site
    world = site.config
    receipt = site.folder / "receipt.json"
    assert site.run("tenants", "erase", TENANT, "--receipt", receipt).code == 3
    assert not receipt.exists()
    body = site.done("tenants", "erase", TENANT, "--receipt", receipt, "--yes")
    assert body["tenant"] == TENANT
    assert not (world.store_dir / "tenants" / TENANT).exists()
    assert [row["tenant"] for row in site.done("tenants", "list")["tenants"]] == [OTHER]
    assert site.done("catalog", "rebuild")["tenants"] == 1
    assert [row["tenant"] for row in site.done("tenants", "list")["tenants"]] == [OTHER]
    ca = site.folder / OTHER / "ca.crt"
    assert site.done("keys", "check-receipt", receipt, "--ca", ca)["tenant"] == TENANT
    assert "not altered since" in site.run("keys", "check-receipt", receipt, "--ca", ca).out
    altered = json.loads(receipt.read_text())
    altered["body"]["points"] = 17
    receipt.write_text(json.dumps(altered, sort_keys=True, separators=(",", ":")) + "\n")
    error = site.refused(6, "keys", "check-receipt", receipt, "--ca", ca)
    assert "signature does not fit" in error["message"]
    assert "tenants erase" in site.run("audit", "show", "--json").out


def test_a_key_that_is_not_shown_to_be_the_tenants_stays(stage: Stage, tmp_path: Path):
    keyring = stage.eraser().vault.keyring
    keys, others = keyring.files.tenant(TENANT), keyring.keks.chosen(OTHER)
    keyring.files.put_tenant(TENANT, replace(keys, chosen=others))
    stage.world.store.remove_tree(f"tenants/{OTHER}")
    with pytest.raises(PreconditionError, match="nothing shows that key"):
        stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert {stage.world.kms.state(kek) for kek in stage.keks} == {KekState.ACTIVE}
    # Nothing was noted that a key made since would not stand in.
    rotate_kek(Vault(stage.world.store, stage.world.kms, stage.clock), TENANT)
    body = stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert {kek for kek in stage.keks if stage.world.kms.state(kek) is KekState.ACTIVE} == {others.kek_id}
    assert others.kek_id not in {kek["kek"] for kek in body["keks"]}


def test_what_was_noted_is_not_believed(stage: Stage, tmp_path: Path):
    keyring = stage.eraser().vault.keyring
    others = keyring.keks.chosen(OTHER)
    noted = Marked(0, (others,), 1, 1, 1)
    small_file.replace(stage.world.store, f"tenants/{TENANT}", names.ERASE_FILE, noted.members())
    stage.world.store.remove_tree(f"tenants/{OTHER}")
    with pytest.raises(PreconditionError, match="nothing shows that key"):
        stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert stage.world.kms.state(others.kek_id) is KekState.ACTIVE


class Ticking(SystemClock):
    """Time that passes by itself does not; ``slept`` is called in place of waiting."""

    def __init__(self, slept: Callable[[], None]) -> None:
        self._slept = slept
        self._since = 0.0

    def monotonic(self) -> float:
        return self._since

    def sleep(self, seconds: float) -> None:
        self._since += seconds
        self._slept()


def leased(stage: Stage, sync: str) -> Lease:
    return stage.admission.catalog.take_lease(TENANT, REPLICA, AgentId(str(uuid.uuid4())), sync, 3600)


def test_a_sync_that_becomes_a_point_is_waited_for_and_goes_too(stage: Stage, tmp_path: Path) -> None:
    lease, waited = leased(stage, stage.sync), []
    send(stage.staged.disk(DISK), {1: grain_bytes(2)})

    def commit() -> None:
        stage.staged.commit()
        stage.admission.catalog.release(lease)

    body = replace(stage.eraser(), clock=Ticking(commit)).erase(TENANT, tmp_path / "receipt", waited.append)
    assert (waited, body["points"]) == ([1], 2)
    assert TENANT not in stage.world.vault.tenants()


def test_a_sync_that_does_not_end_keeps_the_tenant(stage: Stage, tmp_path: Path) -> None:
    leased(stage, stage.sync)
    with pytest.raises(BusyError, match="1 syncs of tenant acme do not end"):
        replace(stage.eraser(), clock=Ticking(lambda: None)).erase(TENANT, tmp_path / "receipt")
    assert stage.admission.catalog.tenant(TENANT).suspended
    opens(stage, TENANT)
    with pytest.raises(AccessDeniedError):  # so that no sync begins behind the wait
        leased(stage, new_sync_id())


def test_a_sync_whose_lease_ran_out_becomes_no_point_while_keys_go(stage: Stage, tmp_path: Path) -> None:
    send(stage.staged.disk(DISK), {1: grain_bytes(2)})
    tried = []

    class Trying(FaultKms):
        def destroy_kek(self, kek_id: str) -> None:
            if not tried:
                with pytest.raises(PreconditionError, match="is being erased"):
                    stage.staged.commit()
            with pytest.raises(PreconditionError, match="is being erased"):
                stage.world.begin([spec()])
            tried.append(kek_id)
            super().destroy_kek(kek_id)

    stage.eraser(kms=Trying(stage.world.kms)).erase(TENANT, tmp_path / "receipt")
    assert len(tried) == 2
    assert TENANT not in stage.world.vault.tenants()


def test_a_sync_whose_lease_ran_out_becomes_no_point_after_the_receipt(stage: Stage, tmp_path: Path) -> None:
    send(stage.staged.disk(DISK), {1: grain_bytes(2)})
    stage.eraser().erase(TENANT, tmp_path / "receipt")
    with pytest.raises(KeysapartError):
        stage.staged.commit()
    stage.staged.discard()
    assert TENANT not in stage.world.vault.tenants()


def test_a_tenant_with_a_locked_point_is_not_erased_until_the_lock_is_over(stage, tmp_path):
    vault = stage.world.vault
    Keeper(vault).set_tenant(TENANT, None, 30)
    stage.staged.discard()
    stage.world.sync({spec(): {0: grain_bytes(2)}})
    Keeper(vault).set_tenant(TENANT, None, 0)
    before = files_of(stage)
    for _ in range(100):
        with pytest.raises(PreconditionError, match=r"point 2 of replica .* until 2026-12-24 12:00 UTC"):
            stage.eraser().erase(TENANT, tmp_path / "receipt")
    assert files_of(stage) == before
    opens(stage, TENANT)
    assert stage.admission.catalog.tenant(TENANT).suspended is None

    stage.clock.advance(30 * 86400)
    vault.time.save()  # as the serving process does
    assert stage.eraser().erase(TENANT, tmp_path / "receipt")["points"] == 2
