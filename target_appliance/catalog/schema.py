"""Brings the catalog's schema up to this version's, and refuses one from the future."""

from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection

from common.errors import PreconditionError
from target_appliance.catalog.database import Database

HEAD = "0005"
"""Newest revision in ``migrations/versions``."""

REVISIONS = sqlalchemy.table("alembic_version", sqlalchemy.column("version_num"))
"""Where alembic notes the schema's revision."""


def upgrade(database: Database) -> None:
    """Run missing migrations in one transaction; a current schema costs one query.

    Raises:
        PreconditionError: a newer version of Keysapart wrote this catalog.
    """
    with database.reading() as connection:
        if current(connection) == HEAD:
            return
    with database.writing() as connection:
        found = current(connection)
        if found == HEAD:  # another process was faster
            return
        _migrate(connection, found)


def current(connection: Connection) -> str | None:
    """The revision of the schema; None for an empty database."""
    if not sqlalchemy.inspect(connection).has_table(REVISIONS.name):
        return None
    return connection.execute(sqlalchemy.select(REVISIONS.c.version_num)).scalar_one_or_none()


def _migrate(connection: Connection, found: str | None) -> None:
    # Imported only when there is something to do: alembic costs every command a tenth of a second.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise PreconditionError(
            f"the catalog has schema version {found}, and this version of Keysapart knows versions up to {HEAD}",
            subject="catalog",
            next_step="run the version of Keysapart that wrote it, or a newer one",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
