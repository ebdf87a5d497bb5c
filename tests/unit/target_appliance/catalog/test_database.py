import os
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from common.errors import ConfigError, PreconditionError, StoreError, StoreFullError
from target_appliance.catalog import schema
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.database import Database
from target_appliance.catalog.model import metadata
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.catalog.rows import ACME, GLOBEX, VM1, point, record


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_migrations_make_the_tables_that_the_code_uses(catalog: Catalog, url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_newer_schema_is_refused_with_both_versions_named(catalog: Catalog, url: str, tmp_path: Path) -> None:
    catalog.close()
    raw = sqlite3.connect(tmp_path / "catalog.sqlite")
    with raw:
        raw.execute("UPDATE alembic_version SET version_num = '0999'")
    raw.close()
    before = (tmp_path / "catalog.sqlite").read_bytes()
    with pytest.raises(PreconditionError, match=rf"schema version 0999, .* up to {schema.HEAD}"):
        Catalog.open(url, ManualClock())
    assert (tmp_path / "catalog.sqlite").read_bytes() == before


def test_opening_from_many_sides_at_once_migrates_once(url: str) -> None:
    opened: list[Catalog] = []
    threads = [threading.Thread(target=lambda: opened.append(Catalog.open(url, ManualClock()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for catalog in opened:
        catalog.probe()
        catalog.close()


def test_sqlite_is_durable_and_keeps_references(url: str) -> None:
    database = Database(url)
    with database.reading() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert values == {"journal_mode": "delete", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_failed_block_changes_nothing(catalog: Catalog) -> None:
    with pytest.raises(StoreError):
        catalog.record_point(record(1, "web"), 1000)  # its tenant is not registered
    catalog.add_tenant(ACME)
    assert catalog.replicas() == ()


@pytest.mark.parametrize("url", ["nonsense", "sqlite+nodriver:///x", "nosuchdatabase://host/x"])
def test_an_unusable_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="catalog_url"):
        Catalog.open(url, ManualClock())


def test_a_missing_folder_is_a_store_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/catalog\.sqlite"):
        Catalog.open(f"sqlite:///{tmp_path / 'missing' / 'catalog.sqlite'}", ManualClock())


def test_a_damaged_file_is_named_with_the_cure(url: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(os.urandom(8192))
    with pytest.raises(StoreError, match="is damaged") as refused:
        Catalog.open(url, ManualClock())
    assert "catalog rebuild" in refused.value.next_step


def test_probe_fails_when_the_catalog_vanished(catalog: Catalog, tmp_path: Path) -> None:
    catalog.probe()
    (tmp_path / "catalog.sqlite").unlink()
    catalog.close()
    with pytest.raises(StoreError):
        catalog.probe()


def test_a_full_volume_is_told_apart(catalog: Catalog, url: str, tmp_path: Path) -> None:
    catalog.add_tenant(ACME)
    database = Database(url)

    def fill() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.exec_driver_sql("CREATE TABLE filler (x BLOB)")
            for _ in range(100):
                connection.exec_driver_sql("INSERT INTO filler VALUES (randomblob(4000))")

    with pytest.raises(StoreFullError, match="no room"):
        fill()
    database.close()
    assert catalog.tenants() == (ACME,)
    catalog.add_tenant(GLOBEX)
    catalog.record_point(record(1, "web"), 1000)
    assert catalog.points(ACME, VM1) == (point(1),)
