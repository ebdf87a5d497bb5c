"""What a user would run instead for a full copy: nbdcopy over mutual TLS into qemu-nbd, LUKS inside a VMDK.

The encryption is AES-256-XTS as qemu's LUKS does it; zeros are detected and discarded, as a thin target wants.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pki import write_pki
from benchmarks.process import Child, free_port, loopback, wait_for_port


@dataclass(frozen=True)
class NbdFigures:
    """One full copy."""

    seconds: float
    client_peak_bytes: int
    server_peak_bytes: int
    processor_seconds: float
    wire_bytes: int
    stored_bytes: int


# qemu-img times its key derivation by the processor time of its thread, and gives up where the machine's clock for
# that is too coarse: about every second attempt on some virtual machines.
_CREATE_ATTEMPTS = 20


def create_luks(luks: Path, size: str, secret: str, log: Path) -> None:
    """A new raw LUKS image of ``size`` bytes of payload; ``secret`` defines the object ``s``."""
    command = ["qemu-img", "create", "-q", "-f", "luks", "--object", secret, "-o", "key-secret=s,iter-time=200"]
    for _ in range(_CREATE_ATTEMPTS - 1):
        with suppress(RuntimeError):  # the last attempt says what is wrong
            Child([*command, str(luks), size], log).finish()
            return
    Child([*command, str(luks), size], log).finish()


def copy_full(disk: Path, work: Path) -> NbdFigures:
    """Copy ``disk`` once; files of the run stay in ``work``, which must be empty."""
    log = work / "log"
    write_pki(work)
    (work / "passphrase").write_text("bench")
    secret = f"secret,id=s,file={work / 'passphrase'}"
    size = str(disk.stat().st_size)
    luks, target = work / "luks.raw", work / "target.vmdk"
    create_luks(luks, size, secret, log)
    Child(["qemu-img", "convert", "-q", "-f", "raw", "-O", "vmdk", str(luks), str(target)], log).finish()
    luks.unlink()

    port = free_port()
    serve = ["qemu-nbd", "--persistent", f"--port={port}", "--bind=127.0.0.1", "--export-name=disk", "--shared=8"]
    serve += ["--cache=writeback", "--discard=unmap", "--detect-zeroes=unmap", "--tls-creds=tls", "--object", secret]
    serve += ["--object", f"tls-creds-x509,id=tls,endpoint=server,dir={work},verify-peer=yes"]
    serve += ["--image-opts", f"driver=luks,key-secret=s,file.driver=vmdk,file.file.filename={target}"]
    with Child(serve, log) as server:
        wait_for_port(port, server)
        url = f"nbds://localhost:{port}/disk?tls-certificates={work}"
        with loopback() as wire, Child(["nbdcopy", str(disk), url], log) as client:
            client.finish()
        server.stop()
        return NbdFigures(
            seconds=client.seconds,
            client_peak_bytes=client.peak_bytes,
            server_peak_bytes=server.peak_bytes,
            processor_seconds=client.processor_seconds + server.processor_seconds,
            wire_bytes=wire.sent,
            stored_bytes=target.stat().st_blocks * 512,
        )
