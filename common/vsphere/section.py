"""What every ``[vcenter]`` section says: address, login and trust."""

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from common.config import ConfigPath, Section
from common.errors import Fault

if TYPE_CHECKING:
    from common.vsphere.settings import VCenterSettings


class AccessSection(Section):
    """``side`` is the site that the vCenter stands in."""

    side: ClassVar[Fault] = Fault.SOURCE

    host: str = Field(min_length=1)
    port: int = Field(default=443, gt=0, lt=1 << 16)
    user: str = Field(min_length=1)
    password_file: ConfigPath
    ca_file: ConfigPath | None = None
    certificate_sha256: str | None = Field(default=None, pattern=r"^(?:[0-9A-Fa-f]{2}:?){32}$")
    timeout_seconds: float = Field(default=60.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _one_kind_of_trust(self) -> Self:
        if (self.ca_file is None) == (self.certificate_sha256 is None):
            raise ValueError("set exactly one of ca_file and certificate_sha256")
        return self

    @property
    def settings(self) -> "VCenterSettings":
        """For a session."""
        # Not above: commands that ask no vCenter need no HTTP client.
        from common.vsphere.settings import VCenterSettings  # noqa: PLC0415

        return VCenterSettings(
            host=self.host,
            port=self.port,
            user=self.user,
            password_file=self.password_file,
            ca_file=self.ca_file,
            certificate_sha256=self.certificate_sha256,
            timeout_seconds=self.timeout_seconds,
            side=self.side,
        )
