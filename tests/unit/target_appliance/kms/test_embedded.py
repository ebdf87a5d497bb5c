import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import (
    AlreadyExistsError,
    ConfigError,
    KeyNotUsableError,
    KmsUnavailableError,
    PreconditionError,
)
from target_appliance.config import EmbeddedSettings, KmsSettings
from target_appliance.kms import registry
from target_appliance.kms.embedded import EmbeddedKms
from target_appliance.kms.lazy import LazyKms
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.port import KekState
from target_appliance.kms.secret import read_passphrase
from target_appliance.kms.software import SoftwareKek

PASSPHRASE = b"correct horse battery staple"
DEK = bytes(range(32))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> bytes:
    """An empty key file: made once, because making one is dear on purpose."""
    file = tmp_path_factory.mktemp("embedded") / "kms.json"
    EmbeddedKms.create(file, PASSPHRASE)
    return file.read_bytes()


@pytest.fixture
def file(tmp_path: Path, fresh: bytes) -> Path:
    path = tmp_path / "kms.json"
    path.write_bytes(fresh)
    path.chmod(0o600)
    return path


@pytest.fixture
def kms(file: Path) -> EmbeddedKms:
    return EmbeddedKms.open(file, PASSPHRASE)


def test_keys_outlive_the_process_and_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "kms.json"
    EmbeddedKms.create(file, PASSPHRASE)
    kms = EmbeddedKms.open(file, PASSPHRASE)
    wrapped = kms.wrap(kms.create_kek("acme"), DEK, b"bound")
    assert EmbeddedKms.open(file, PASSPHRASE).unwrap(wrapped, b"bound") == DEK
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_it_is_loud_about_what_it_is(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kms = EmbeddedKms.open(file, PASSPHRASE)
    assert "keys on this machine" in kms.name
    assert "keys lie on this machine beside what they protect" in "".join(capfd.readouterr())


def test_the_file_shows_no_key_and_not_even_whose(file: Path, kms: EmbeddedKms) -> None:
    kek = kms.create_kek("acme")
    text = file.read_text()
    assert kek not in text
    assert "acme" not in text
    assert sorted(json.loads(text)) == ["format", "nonce", "scrypt", "sealed"]


def test_every_rewrite_uses_a_fresh_nonce(file: Path, kms: EmbeddedKms) -> None:
    nonces = set()
    for _ in range(5):
        kms.create_kek("acme")
        nonces.add(json.loads(file.read_text())["nonce"])
    assert len(nonces) == 5


def test_a_destroyed_key_leaves_the_file_and_stays_destroyed(kms: EmbeddedKms) -> None:
    kek = kms.create_kek("acme")
    kms.set_state(kek, KekState.DESTROYED)
    assert kms.state(kek) is KekState.DESTROYED
    assert kms._keks()[kek].value == b""
    with pytest.raises(KeyNotUsableError, match="does not exist"):
        kms.set_state("nobody's", KekState.DEACTIVATED)


def test_a_wrong_passphrase_opens_nothing(file: Path) -> None:
    with pytest.raises(ConfigError, match="passphrase does not open it") as refused:
        EmbeddedKms.open(file, b"incorrect horse battery")
    assert "horse" not in str(refused.value)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(PreconditionError, match="has no file") as refused:
        EmbeddedKms.open(tmp_path / "kms.json", PASSPHRASE)
    assert "backup" in refused.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_never_replaced(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(AlreadyExistsError):
        EmbeddedKms.create(file, PASSPHRASE)
    assert file.read_bytes() == before


def changed(file: Path, **members: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | members))


@pytest.mark.parametrize(
    "members",
    [
        {"format": "something else"},
        {"scrypt": {"salt": "00", "n": 1 << 30, "r": 8, "p": 1}},
        {"scrypt": {"salt": "00", "n": 0, "r": 8, "p": 1}},
        {"scrypt": {"salt": "zz", "n": 16, "r": 8, "p": 1}},
        {"scrypt": {"n": 16}},
        {"scrypt": None},
        {"nonce": "00"},
        {"nonce": 7},
        {"sealed": "AAAA"},
        {"sealed": "not base64!"},
    ],
    ids=str,
)
def test_an_altered_file_is_refused_with_its_name(file: Path, members: dict[str, object]) -> None:
    changed(file, **members)
    with pytest.raises(ConfigError, match=r"kms\.json"):
        EmbeddedKms.open(file, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff\xfe"])
def test_what_is_no_key_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="not a key file"):
        EmbeddedKms.open(file, PASSPHRASE)


def test_a_file_that_vanishes_or_breaks_later_makes_the_kms_unavailable(file: Path, kms: EmbeddedKms) -> None:
    kek = kms.create_kek("acme")
    good = file.read_bytes()
    for breakage in (b"", good.replace(b'"sealed"', b'"healed"'), good[:-20]):
        file.write_bytes(breakage)
        for use in (kms.probe, lambda: kms.state(kek), lambda: kms.wrap(kek, DEK, b""), lambda: kms.create_kek("x")):
            with pytest.raises(KmsUnavailableError, match=r"kms\.json"):
                use()
        assert file.read_bytes() == breakage, "what cannot be read is not written over"
    file.unlink()
    with pytest.raises(KmsUnavailableError, match="No such file"):
        kms.probe()
    file.write_bytes(good)
    assert kms.state(kek) is KekState.ACTIVE


def test_two_processes_adding_keys_lose_none(file: Path, kms: EmbeddedKms) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom target_appliance.kms.embedded import EmbeddedKms\n"
        "kms = EmbeddedKms.open(Path(sys.argv[1]), sys.argv[2].encode())\n"
        "print('\\n'.join(kms.create_kek('globex') for _ in range(20)))"
    )
    command = [sys.executable, "-c", code, file, PASSPHRASE.decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        own = [kms.create_kek("acme") for _ in range(20)]
        theirs = other.communicate(timeout=120)[0].split()[-20:]
    assert {kms.state(kek) for kek in own + theirs} == {KekState.ACTIVE}
    assert len(kms._keks()) == 40


def test_a_folder_that_takes_no_files_makes_creation_unavailable_and_changes_nothing(
    tmp_path: Path, file: Path, kms: EmbeddedKms
) -> None:
    before = file.read_bytes()
    (tmp_path / "kms.json.lock").symlink_to("/nowhere")  # what may not be followed
    with pytest.raises(KmsUnavailableError):
        kms.create_kek("acme")
    assert file.read_bytes() == before


def test_a_kek_prints_without_its_value() -> None:
    kek = SoftwareKek("1", "keysapart/acme", KekState.ACTIVE, b"secret value")
    assert repr(kek) == "SoftwareKek(1, active)"


# Where the passphrase comes from.


def settings(**source: object) -> EmbeddedSettings:
    return EmbeddedSettings.model_validate({"file": "kms.json", **source})


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_end_of_the_line_is_no_part_of_the_passphrase(tmp_path: Path, end: bytes) -> None:
    path = written(tmp_path / "passphrase", PASSPHRASE + end)
    assert read_passphrase(settings(passphrase_file=str(path))) == PASSPHRASE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_passphrase_that_others_may_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "passphrase", PASSPHRASE, mode)
    with pytest.raises(ConfigError, match="may be read by others") as refused:
        read_passphrase(settings(passphrase_file=str(path)))
    assert f"chmod 600 {path}" in refused.value.next_step


def test_a_short_or_missing_passphrase_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "passphrase", b"hunter2\n")
    with pytest.raises(ConfigError, match="fewer than 12") as refused:
        read_passphrase(settings(passphrase_file=str(path)))
    assert "hunter2" not in str(refused.value)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_passphrase(settings(passphrase_file=str(path)))


def test_a_systemd_credential_is_read_from_its_folder(tmp_path: Path) -> None:
    written(tmp_path / "kms-passphrase", PASSPHRASE + b"\n", 0o440)
    credential = settings(credential="kms-passphrase")
    assert read_passphrase(credential, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == PASSPHRASE
    with pytest.raises(ConfigError, match="handed no credentials") as refused:
        read_passphrase(credential, {})
    assert "LoadCredential=kms-passphrase:" in refused.value.next_step


# From configuration to driver.


def test_the_registry_prepares_once_and_opens(tmp_path: Path) -> None:
    written(tmp_path / "passphrase", PASSPHRASE)
    chosen = KmsSettings.model_validate(
        {
            "driver": "embedded",
            "embedded": {"file": str(tmp_path / "kms.json"), "passphrase_file": str(tmp_path / "passphrase")},
        }
    )
    with pytest.raises(PreconditionError):
        registry.create(chosen, SystemClock())
    registry.prepare(chosen)
    before = (tmp_path / "kms.json").read_bytes()
    registry.prepare(chosen)
    assert (tmp_path / "kms.json").read_bytes() == before
    assert isinstance(registry.create(chosen, SystemClock()), EmbeddedKms)


def test_the_registry_makes_kmip_without_asking_the_server(tmp_path: Path) -> None:
    from tests.lab.pki import Authority

    issued = Authority("any", tmp_path / "ca.crt").issue_client(tmp_path / "own", "own")
    chosen = KmsSettings.model_validate(
        {
            "driver": "kmip",
            "kmip": {
                "endpoints": ["127.0.0.1:1"],
                "ca_file": str(tmp_path / "ca.crt"),
                "certificate_file": str(issued.certificate_file),
                "key_file": str(issued.key_file),
            },
        }
    )
    registry.prepare(chosen)
    kms = registry.create(chosen, SystemClock())
    assert kms.name == "kmip 127.0.0.1:1"
    kms.close()


def test_a_driver_without_its_table_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        registry.create(KmsSettings.model_construct(driver="kmip", kmip=None, embedded=None), SystemClock())


def test_a_lazy_kms_is_made_at_the_first_question_only() -> None:
    made = []

    def make() -> MemoryKms:
        made.append(MemoryKms())
        return made[-1]

    kms = LazyKms(make)
    kms.close()
    assert made == []
    kms.probe()
    kms.create_kek("acme")
    assert len(made) == 1
