"""How alembic reaches the catalog: only through the connection and the transaction that schema.py hands over."""

from alembic import context

from target_appliance.catalog.model import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
