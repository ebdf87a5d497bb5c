"""What the VM is besides its disks: as its source told, else as the configuration says. Pure."""

from dataclasses import dataclass

from common.vm_configuration import VmConfiguration
from target_appliance.native.section import VCenterSection

_USUAL_CARD = "VirtualVmxnet3"


@dataclass(frozen=True, slots=True)
class Card:
    """A network card: its type's name, the network here, and whether it is connected at power on."""

    kind: str
    network: str
    connected: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """See above. Zeros and empty texts leave a thing to the vCenter."""

    cpus: int
    cores_per_socket: int
    memory_mib: int
    guest_id: str
    hardware_version: int
    firmware: str
    secure_boot: bool
    vtpm: bool
    """It had a TPM, and gets a new one."""
    cards: tuple[Card, ...]

    @property
    def networks(self) -> tuple[str, ...]:
        """Of its cards, in order."""
        return tuple(card.network for card in self.cards)


def shape(section: VCenterSection, told: VmConfiguration | None, *, test: bool) -> Shape:
    """The VM's shape.

    Args:
        section: networks, and what holds where the source told nothing.
        told: of the point; None where it holds none.
        test: all cards on the isolated network; none where there is no such network.
    """
    if told is None:
        usual = [(_USUAL_CARD, section.network, True)]
        return Shape(
            section.cpus,
            0,
            section.memory_mib,
            section.guest_id,
            0,
            section.firmware,
            secure_boot=False,
            vtpm=False,
            cards=_cards(section, usual, test=test),
        )
    named = [(nic.kind, section.networks.get(nic.network, section.network), nic.connected) for nic in told.nics]
    return Shape(
        told.cpus or section.cpus,
        told.cores_per_socket,
        told.memory_mib or section.memory_mib,
        told.guest_id or section.guest_id,
        told.hardware_version,
        told.firmware or section.firmware,
        told.secure_boot,
        told.vtpm,
        _cards(section, named, test=test),
    )


def _cards(section: VCenterSection, named: list[tuple[str, str, bool]], *, test: bool) -> tuple[Card, ...]:
    if not test:
        return tuple(Card(*one) for one in named)
    isolated = section.test_network
    return () if isolated is None else tuple(Card(kind, isolated, connected) for kind, _, connected in named)
