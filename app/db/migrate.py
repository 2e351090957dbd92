"""Bring a database to the schema of this version; the migrations travel with the installed package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.db.session import make_poolless_engine, sqlalchemy_url

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration without an ini file: where the migrations lie, and the database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    # the parser of ini files gives % a meaning
    url = sqlalchemy_url(database_url).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(database_url: str) -> None:
    """Run the migrations that the database lacks. Several processes may call it at once; one does the work."""
    command.upgrade(alembic_config(database_url), "head")


def is_current(database_url: str) -> bool:
    """Whether the database has every migration of this version."""
    with make_poolless_engine(database_url).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == _head()


@lru_cache(maxsize=1)
def _head() -> str | None:
    """The newest migration of this version; its files do not change while the process runs."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config).get_current_head()
