from pathlib import Path

import pytest

from common.config import load
from common.errors import ConfigError
from target_appliance.config import ApplianceConfig

MINIMAL = """
state_dir = "state"
store_dir = "/srv/store"
trust_domain = "keysapart.lab"
[listen]
data = "0.0.0.0:7443"
health = "127.0.0.1:7444"
names = ["target.example"]
[kms]
driver = "kmip"
[kms.kmip]
endpoints = ["kms1.example:5696", "[::1]:5696"]
ca_file = "kms/ca.crt"
certificate_file = "kms/client.crt"
key_file = "kms/client.key"
"""


def read(folder: Path, text: str) -> ApplianceConfig:
    path = folder / "appliance.toml"
    path.write_text(text)
    return load(path, ApplianceConfig)


def test_a_minimal_file_gives_defaults_and_paths_beside_it(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert config.state_dir == tmp_path / "state"
    assert config.store_dir == Path("/srv/store")
    assert config.authority_dir == tmp_path / "state" / "authority"
    assert config.catalog == f"sqlite:///{tmp_path}/state/catalog.sqlite"
    assert config.kms.kmip is not None
    assert config.kms.kmip.ca_file == tmp_path / "kms" / "ca.crt"
    assert config.kms.kmip.server_name is None
    assert (config.limits.streams_per_tenant, config.limits.idle_seconds) == (16, 60)


def test_another_catalog_is_one_url_away(tmp_path: Path) -> None:
    config = read(tmp_path, 'catalog_url = "postgresql+psycopg://appliance@db/keysapart"\n' + MINIMAL)
    assert config.catalog == "postgresql+psycopg://appliance@db/keysapart"


EMBEDDED = MINIMAL.split("[kms]", maxsplit=1)[0] + '[kms]\ndriver = "embedded"\n[kms.embedded]\nfile = "k"\n'


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("state_dir", "sate_dir", "unknown key sate_dir"),
        ('state_dir = "state"\n', "", "key state_dir is missing"),
        ("endpoints", "endpoint", "unknown key kms.kmip.endpoint"),
        ('"kms1.example:5696"', '"kms1.example"', "key kms.kmip.endpoints.0: should be host:port"),
        ('names = ["target.example"]', "names = []", "key listen.names"),
        ("names =", 'metrics = "0.0.0.0:7446"\nnames =', "key listen.metrics: should be on loopback"),
        ("names =", 'metrics = "[::]:7446"\nnames =', "key listen.metrics: should be on loopback"),
        ("names =", 'metrics = "target.example:7446"\nnames =', "key listen.metrics: should be on loopback"),
        ("keysapart.lab", "Keysapart Lab", "key trust_domain: should be a SPIFFE trust domain"),
        ('driver = "kmip"', 'driver = "vault"', "key kms.driver"),
        ('driver = "kmip"', 'driver = "embedded"', "should have a table [kms.embedded]"),
        ("[kms]", "[limits]\nstreams_per_tenant = 0\n[kms]", "key limits.streams_per_tenant"),
        ("[kms]", "[limits]\nidle_seconds = 0\n[kms]", "key limits.idle_seconds"),
        ("[kms]", '[log]\nlevel = "loud"\n[kms]', "key log.level"),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, MINIMAL.replace(old, new, 1))
    assert sentence in refused.value.message
    assert str(tmp_path / "appliance.toml") in refused.value.message


@pytest.mark.parametrize("source", ["", 'passphrase_file = "p"\ncredential = "c"\n'])
def test_the_embedded_kms_has_exactly_one_passphrase(tmp_path: Path, source: str) -> None:
    with pytest.raises(ConfigError, match="exactly one of passphrase_file and credential"):
        read(tmp_path, EMBEDDED + source)


@pytest.mark.parametrize("source", ['passphrase_file = "p"\n', 'credential = "kms-passphrase"\n'])
def test_either_passphrase_will_do(tmp_path: Path, source: str) -> None:
    assert read(tmp_path, EMBEDDED + source).kms.embedded is not None


def test_a_credential_is_a_name_and_no_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kms\.embedded\.credential"):
        read(tmp_path, EMBEDDED + 'credential = "../../etc/shadow"\n')
