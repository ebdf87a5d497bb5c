"""TOML files to frozen models. An unknown key is an error that names it; relative paths belong to the file's folder."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from common.errors import ConfigError

FOLDER = "folder"


class Section(BaseModel):
    """Base of every table in a configuration file: closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


M = TypeVar("M", bound=Section)


def _resolve(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a path in quotes")
    folder: Path = (info.context or {}).get(FOLDER, Path())
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:
        raise ValueError("names the home folder of a user who has none") from None


ConfigPath = Annotated[Path, BeforeValidator(_resolve)]
"""A path in a configuration file; relative ones are resolved against the file's folder."""


def load(path: Path, model: type[M]) -> M:
    """The configuration in ``path``.

    Raises:
        ConfigError: the file cannot be read or parsed, a key is unknown or missing, or a value is wrong; one sentence
            names the file and the key.
    """
    subject = f"config {path}"
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path} ({error.strerror})",
            subject=subject,
            next_step="give the file's path with --config",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not valid TOML ({error})", subject=subject, next_step="correct the file at that place"
        ) from error
    try:
        return model.model_validate(values, context={FOLDER: path.resolve().parent})
    except ValidationError as error:
        raise ConfigError(
            f"{'; '.join(_describe(item) for item in error.errors())} (in {path})",
            subject=subject,
            next_step="correct it; the example.toml under deploy/ explains every option",
        ) from None


def _describe(item: Any) -> str:
    """One pydantic complaint in our words; never shows the refused value, which may be a secret."""
    key = ".".join(str(part) for part in item["loc"]) or "the file"
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key {key}"
        case "missing":
            return f"key {key} is missing"
        case _:
            message = str(item["msg"]).removeprefix("Value error, ")
            return f"key {key}: {message[:1].lower()}{message[1:]}"
