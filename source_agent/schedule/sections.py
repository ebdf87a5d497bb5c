"""The parts of agent.toml that say what is protected, when, and how fast."""

from datetime import time
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from common.address import HostPort
from common.config import Section
from common.duration import Duration
from source_agent.schedule.decide import Limits
from source_agent.schedule.policy import Policy
from source_agent.schedule.vm import Pace
from source_agent.schedule.week import DAYS, Week, Window

_MBIT = 1_000_000 / 8
"""Bytes."""


class ProtectSection(Section):
    """``[[protect]]``: some VMs, by conditions that must all be met, and their policy. The first that fits counts."""

    vms: tuple[str, ...] = ()
    folder: str | None = Field(default=None, pattern=r"^/.*[^/]$")
    attribute: str | None = Field(default=None, pattern=r"^[^=]+=.+$")
    tag: str | None = Field(default=None, pattern=r"^[^:]+:.+$")
    rpo: Duration | None = None
    exclude: bool = False
    compare_every: Duration | None = None
    priority: int = Field(default=0, ge=0, le=9)

    @model_validator(mode="after")
    def _rpo_or_exclude(self) -> Self:
        if (self.rpo is None) != self.exclude:
            raise ValueError("set rpo, or exclude = true")
        return self

    def policy(self) -> Policy:
        """The same for the scheduler."""
        name, _, pattern = (self.attribute or "").partition("=")
        return Policy(
            rpo=self.rpo or 0.0,
            compare_every=self.compare_every,
            priority=self.priority,
            vms=self.vms,
            folder=self.folder,
            attribute=(name.strip(), pattern.strip()) if self.attribute else None,
            tag=self.tag,
            exclude=self.exclude,
        )


class ScheduleSection(Section):
    """``[schedule]``: how much at once, and how patiently."""

    syncs: int = Field(default=4, ge=1, le=64)
    per_host: int = Field(default=2, ge=1, le=64)
    per_datastore: int = Field(default=2, ge=1, le=64)
    inventory_every: Duration = 120.0
    retry_first: Duration = 60.0
    retry_most: Duration = 3600.0
    stop_grace: Duration = 240.0

    def limits(self) -> Limits:
        """The same for the scheduler."""
        return Limits(self.syncs, self.per_host, self.per_datastore, Pace(self.retry_first, self.retry_most))


class WindowSection(Section):
    """``[[bandwidth.window]]``: a limit for some hours of some days."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = DAYS  # type: ignore[assignment]  # the same words
    begin: time
    end: time
    mbit_per_second: float = Field(ge=1)


class BandwidthSection(Section):
    """``[bandwidth]``: how fast frames may leave, all syncs of this process together."""

    timezone: str = "UTC"
    mbit_per_second: float | None = Field(default=None, ge=1)
    window: tuple[WindowSection, ...] = ()

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError('should be a name of the time zone database, such as "Europe/Berlin"') from None
        return name

    def week(self) -> Week:
        """The same for the bucket."""
        windows = tuple(
            Window(frozenset(one.days), one.begin, one.end, one.mbit_per_second * _MBIT) for one in self.window
        )
        otherwise = None if self.mbit_per_second is None else self.mbit_per_second * _MBIT
        return Week(ZoneInfo(self.timezone), windows, otherwise)


class ObserveSection(Section):
    """``[observe]``: where ``run`` answers probes; nothing listens where nothing is set."""

    metrics: HostPort | None = None
    health: HostPort | None = None
