"""The catalog's connection: engine, transactions, and what database errors mean. All that is SQLite's own stands here.

SQLite runs with a rollback journal and full synchronisation: several versions in the field can lose pages under
write-ahead logging with two connections, and the catalog writes a few rows per sync.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from common.errors import ConfigError, StoreError, StoreFullError

BUSY_TIMEOUT_SECONDS = 10.0
_WRITES = "keysapart_writes"


class Database:
    """Transactions on the catalog's database, from any thread."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sqlalchemy.make_url(url)
            self._sqlite = parsed.get_backend_name() == "sqlite"
            arguments = {"timeout": BUSY_TIMEOUT_SECONDS} if self._sqlite else {}
            # Health checks and every stream of every tenant may ask at once; waiting for ever would hide a failure.
            self._engine = sqlalchemy.create_engine(
                parsed, connect_args=arguments, pool_size=8, max_overflow=24, pool_timeout=BUSY_TIMEOUT_SECONDS
            )
        except (SQLAlchemyError, ModuleNotFoundError) as error:
            raise ConfigError(
                f"catalog_url cannot be used ({type(error).__name__}: {error})",
                subject="config catalog_url",
                next_step="give an SQLAlchemy URL and install the driver that it names",
            ) from None
        self.shown = parsed.render_as_string(hide_password=True)
        if self._sqlite:
            _set_up_sqlite(self._engine)
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state and writes nothing."""
        with self._meaning(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end of the block, and serialised with all other writers.

        On SQLite by taking the write lock at once; elsewhere by an isolation under which a conflict fails one side.
        """
        with self._meaning(), self._writer.begin() as connection:
            if not self._sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4907041)")
            yield connection

    def compact(self) -> None:
        """Leave nothing of deleted rows in the database's file, where it is SQLite's."""
        if self._sqlite:
            with self._meaning():
                raw = self._engine.raw_connection()
                try:
                    raw.cursor().execute("VACUUM")  # not possible within a transaction
                finally:
                    raw.close()

    def close(self) -> None:
        """Drop all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _meaning(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._translate(error) from error
        except SQLAlchemyError as error:
            raise self._failed(str(error)) from error

    def _translate(self, error: DBAPIError) -> StoreError | StoreFullError:
        text = str(error.orig)
        if isinstance(error.orig, sqlite3.Error):
            code = getattr(error.orig, "sqlite_errorname", "")
            if code.startswith("SQLITE_FULL"):
                return StoreFullError(
                    f"the catalog {self.shown} has no room ({text})",
                    subject="catalog",
                    next_step="free space on its volume; committed points are untouched",
                )
            if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                return StoreError(
                    f"the catalog {self.shown} is damaged ({text})",
                    subject="catalog",
                    next_step="stop the appliance, move the file away and run target-appliance catalog rebuild",
                )
        return self._failed(text)

    def _failed(self, text: str) -> StoreError:
        return StoreError(
            f"the catalog {self.shown} does not work ({text})",
            subject="catalog",
            next_step="check its volume or database server, then try again",
        )


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _entry: ConnectionPoolEntry) -> None:
        # The driver must not start transactions by itself: BEGIN is ours, see below.
        raw.isolation_level = None
        cursor = raw.cursor()
        for pragma in ("journal_mode = DELETE", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
