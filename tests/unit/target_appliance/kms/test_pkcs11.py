"""The PKCS#11 driver on a real token, and on one that loses its login, hides keys, hangs or cheats."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pkcs11
import pytest
from pkcs11 import Attribute, GCMParams, KeyType

from common.clock import SystemClock
from common.errors import ConfigError, KeyNotUsableError, KmsUnavailableError
from target_appliance.config import KmsSettings, Pkcs11Settings
from target_appliance.kms import registry
from target_appliance.kms.pkcs11.driver import CALL_SECONDS, Pkcs11Kms
from target_appliance.kms.port import KekState
from tests.lab import softhsm

DEK = bytes(range(32))


class Trap:
    """Stands before a library. ``before`` is called with each call's name; what it raises comes out of the call."""

    def __init__(self):
        self.before = lambda _name: None
        self.hidden = False
        self.no_associated_data = False
        self.logins = 0

    def load(self, path):
        return _Library(pkcs11.lib(path), self)


class _Library:
    def __init__(self, inner, trap):
        self._inner, self._trap = inner, trap

    def get_token(self, **wanted):
        self._trap.before("get_token")
        return _Token(self._inner.get_token(**wanted), self._trap)


class _Token:
    def __init__(self, inner, trap):
        self._inner, self._trap = inner, trap

    def open(self, **how):
        self._trap.before("open")
        self._trap.logins += "user_pin" in how
        return _Session(self._inner.open(**how), self._trap)


class _Session:
    def __init__(self, inner, trap):
        self._inner, self._trap = inner, trap

    def get_objects(self, wanted):
        self._trap.before("get_objects")
        return [] if self._trap.hidden else [_Key(key, self._trap) for key in self._inner.get_objects(wanted)]

    def generate_key(self, *arguments, **named):
        self._trap.before("generate_key")
        return self._inner.generate_key(*arguments, **named)

    def close(self):
        self._inner.close()


class _Key:
    def __init__(self, inner, trap):
        self._inner, self._trap = inner, trap

    def __getitem__(self, attribute):
        return self._inner[attribute]

    def _how(self, name, how):
        self._trap.before(name)
        if self._trap.no_associated_data:
            how["mechanism_param"] = GCMParams(how["mechanism_param"].nonce, b"")
        return how

    def encrypt(self, data, **how):
        return self._inner.encrypt(data, **self._how("encrypt", how))

    def decrypt(self, data, **how):
        return self._inner.decrypt(data, **self._how("decrypt", how))

    def destroy(self):
        self._trap.before("destroy")
        self._inner.destroy()


@pytest.fixture
def hsm():
    return softhsm.of_process()


@pytest.fixture
def trap():
    return Trap()


def settings(hsm, **changes):
    values = {"module": str(hsm.module), "token_label": softhsm.LABEL, "pin_file": str(hsm.pin_file)}
    return Pkcs11Settings.model_validate(values | changes)


@pytest.fixture
def connect(hsm, trap):
    made = []

    def make(pin=lambda: softhsm.PIN, seconds=CALL_SECONDS, **changes):
        made.append(Pkcs11Kms(settings(hsm, **changes), pin, seconds, trap.load))
        return made[-1]

    yield make
    trap.before = lambda _name: None
    for kms in made:
        kms.close()


@pytest.fixture
def kms(connect):
    return connect()


def raising(error, times, *names):
    """Before a call of one of ``names`` raise ``error``, so many times."""
    left = [times]

    def before(name):
        if name in names and left[0] > 0:
            left[0] -= 1
            raise error

    return before


def reason(use):
    with pytest.raises(KmsUnavailableError) as refused:
        use()
    assert "\n" not in str(refused.value)
    return refused.value.message


def test_a_kek_stays_in_the_token_and_serves_nothing_but_encryption(hsm, kms):
    (key,) = hsm.keys(kms.create_kek("acme"))
    assert key.label == "keysapart/acme"
    assert (key[Attribute.VALUE_LEN], key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE]) == (32, True, False)
    for use in (Attribute.WRAP, Attribute.UNWRAP, Attribute.SIGN, Attribute.VERIFY):
        assert not key[use]
    with pytest.raises(pkcs11.PKCS11Error):
        _ = key[Attribute.VALUE]


@pytest.mark.parametrize("use", [Attribute.ENCRYPT, Attribute.DECRYPT])
def test_a_key_that_may_do_one_of_the_two_only_is_not_active(hsm, kms, use):
    kek = kms.create_kek("acme")
    (key,) = hsm.keys(kek)
    key[use] = False
    assert kms.state(kek) is KekState.DEACTIVATED
    with pytest.raises(KeyNotUsableError, match="deactivated"):
        kms.wrap(kek, DEK, b"")
    key[use] = True
    assert kms.state(kek) is KekState.ACTIVE


def test_an_id_of_several_keys_is_of_no_use_and_destroyed_whole(hsm, kms):
    kek = kms.create_kek("acme")
    (key,) = hsm.keys(kek)
    key.session.generate_key(KeyType.AES, 256, id=bytes.fromhex(kek), store=True)
    assert "2 keys bear this id" in reason(lambda: kms.wrap(kek, DEK, b""))
    kms.destroy_kek(kek)
    assert kms.state(kek) is KekState.ABSENT


def test_the_trial_key_is_made_once(hsm, connect):
    for _ in range(2):
        connect().probe()
    assert len(hsm.keys(b"keysapart trial.".hex())) == 1


def test_a_token_that_ignores_associated_data_is_never_used(trap, kms):
    trap.no_associated_data = True
    for use in (kms.probe, lambda: kms.create_kek("acme"), lambda: kms.state("00")):
        assert "decrypts although the associated data was altered" in reason(use)


# Sessions.


@pytest.mark.parametrize("error", [pkcs11.SessionHandleInvalid, pkcs11.UserNotLoggedIn, pkcs11.DeviceRemoved])
def test_a_lost_session_is_opened_again_once_per_call(trap, kms, error):
    wrapped = kms.wrap(kms.create_kek("acme"), DEK, b"")
    trap.before = raising(error(), 1, "decrypt")
    assert kms.unwrap(wrapped, b"") == DEK
    trap.before = raising(error(), 2, "decrypt")
    assert f"lost its session again at once ({error.__name__})" in reason(lambda: kms.unwrap(wrapped, b""))
    assert kms.unwrap(wrapped, b"") == DEK


# python-pkcs11 also prints that the search which lost its session cannot be ended.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_restarted_client_library_is_logged_in_to_again(hsm, kms):
    wrapped = kms.wrap(kms.create_kek("acme"), DEK, b"")
    hsm.library.reinitialize()
    assert kms.unwrap(wrapped, b"") == DEK


def test_a_login_that_somebody_else_holds_or_ends_is_no_hindrance(connect):
    first, second = connect(), connect()
    wrapped = first.wrap(first.create_kek("acme"), DEK, b"")
    assert second.unwrap(wrapped, b"") == DEK
    first.close()  # logs the whole process out
    assert second.unwrap(wrapped, b"") == DEK
    assert first.unwrap(wrapped, b"") == DEK


def test_keys_that_are_hidden_are_not_gone(trap, kms):
    kek = kms.create_kek("acme")
    trap.hidden = True
    uses = (kms.probe, lambda: kms.state(kek), lambda: kms.wrap(kek, DEK, b""), lambda: kms.destroy_kek(kek))
    for use in uses:
        assert "does not show its keys" in reason(use)
    trap.hidden = False
    assert kms.state(kek) is KekState.ACTIVE


def test_a_key_that_the_token_keeps_is_not_believed_to_be_destroyed(trap, kms):
    kek = kms.create_kek("acme")
    trap.before = raising(pkcs11.FunctionRejected(), 1, "destroy")
    assert f"does not destroy key {kek} (FunctionRejected)" in reason(lambda: kms.destroy_kek(kek))
    assert kms.state(kek) is KekState.ACTIVE


def test_a_token_that_decrypts_nothing_has_not_found_an_altered_key(trap, kms):
    kek = kms.create_kek("acme")
    wrapped = kms.wrap(kek, DEK, b"")
    trap.before = raising(pkcs11.GeneralError(), 9, "decrypt")
    assert f"does not decrypt under key {kek} (GeneralError)" in reason(lambda: kms.unwrap(wrapped, b""))


def test_a_hiccup_is_not_an_altered_key(trap, kms):
    kek = kms.create_kek("acme")
    wrapped = kms.wrap(kek, DEK, b"")
    trap.before = raising(pkcs11.DeviceMemory(), 1, "decrypt")
    assert kms.unwrap(wrapped, b"") == DEK


def test_a_user_who_may_not_make_keys_is_told(trap, kms):
    kms.probe()
    trap.before = raising(pkcs11.TokenWriteProtected(), 1, "generate_key")
    assert "does not make key" in reason(lambda: kms.create_kek("acme"))


# Hanging.


def test_the_deadline_of_the_product():
    assert CALL_SECONDS == 10


def test_a_hanging_library_costs_a_deadline_then_nothing_until_it_comes_back(trap, connect):
    kms = connect(seconds=0.3)
    kms.probe()
    released = threading.Event()
    trap.before = lambda _name: released.wait(60)
    assert "does not answer in time" in reason(kms.probe)
    began = time.monotonic()
    for _ in range(4):
        assert "does not come back from an earlier call" in reason(kms.probe)
    assert time.monotonic() - began < 5
    left = [thread for thread in threading.enumerate() if thread.name == "pkcs11"]
    released.set()
    for thread in left:
        thread.join()
    kms.probe()


def test_whoever_waits_for_a_hanging_call_waits_no_longer_than_a_deadline(trap, connect):
    kms = connect(seconds=0.3)
    kms.probe()
    released = threading.Event()
    trap.before = lambda _name: released.wait(60)
    told = []
    threads = [threading.Thread(target=lambda: told.append(reason(kms.probe))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    released.set()
    assert len(told) == 3


def test_two_tokens_of_a_library_are_not_used_at_once(trap, connect):
    """Two threads in a library at once end the process, or leave it in no state that it comes out of."""
    inside, most, lock = 0, 0, threading.Lock()

    def before(_name):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)  # a chance for another to come in
        with lock:
            inside -= 1

    made = [connect(), connect(), connect(token_label=softhsm.OTHER_LABEL)]
    trap.before = before
    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(one.probe) for _ in range(10) for one in made]
    for one in done:
        one.result()
    assert most == 1


def test_of_two_trial_keys_one_is_left(hsm, connect):
    connect().probe()
    trial = b"keysapart trial."
    session = hsm.library.get_token(token_label=softhsm.LABEL).open(rw=True)
    session.generate_key(KeyType.AES, 256, id=trial, label="made by another process", store=True)
    assert len(hsm.keys(trial.hex())) == 2
    connect().probe()
    assert len(hsm.keys(trial.hex())) == 1


# What is not there, and the PIN.


def test_a_wrong_pin_is_tried_once_until_it_is_changed(trap, connect, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    pins = ["wrong-pin-7"]
    # The other token: where this process is logged in already, no PIN is looked at.
    kms = connect(pin=lambda: pins[0], token_label=softhsm.OTHER_LABEL)
    assert "refuses the PIN (PinIncorrect)" in reason(kms.probe)
    for _ in range(5):
        assert "not tried again until it is changed" in reason(kms.probe)
    assert trap.logins == 1
    pins[0] = softhsm.PIN
    kms.probe()
    seen = caplog.text + "".join(capfd.readouterr()) + repr(kms) + kms.name
    assert "wrong-pin-7" not in seen
    assert softhsm.PIN not in seen


def test_a_token_that_is_not_there_or_cannot_be_read(trap, connect):
    assert "no slot shows a token of this label" in reason(connect(token_label="nobody's").probe)
    kms = connect()
    trap.before = raising(pkcs11.GeneralError(), 1, "get_token")
    assert "takes no login (GeneralError)" in reason(kms.probe)
    kms.probe()


def test_a_token_of_another_label_holds_other_keys(connect):
    kek = connect().create_kek("acme")
    assert connect(token_label=softhsm.OTHER_LABEL).state(kek) is KekState.ABSENT


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_module_that_cannot_be_loaded_is_a_configuration_error(tmp_path, connect, content):
    module = tmp_path / "libhsm.so"
    if content is not None:
        module.write_bytes(content)
    with pytest.raises(ConfigError, match=r"libhsm\.so cannot be loaded"):
        connect(module=str(module)).probe()


# From configuration to driver.


def chosen(hsm, **changes):
    return KmsSettings.model_construct(driver="pkcs11", kmip=None, embedded=None, pkcs11=settings(hsm, **changes))


def test_the_registry_reads_the_pin_at_login(hsm, tmp_path):
    pin_file = tmp_path / "pin"
    kms = registry.create(chosen(hsm, pin_file=str(pin_file)), SystemClock())
    assert kms.name == f"pkcs11 token keysapart of {hsm.module.name}"
    with pytest.raises(ConfigError, match="cannot be read"):
        kms.probe()
    for content, mode, told in (
        (softhsm.PIN.encode(), 0o644, "may be read by others"),
        (b"\n", 0o600, "is empty"),
        (b"\xff\xfe", 0o600, "is not text"),
    ):
        pin_file.write_bytes(content)
        pin_file.chmod(mode)
        with pytest.raises(ConfigError, match=told):
            kms.probe()
    pin_file.write_text(softhsm.PIN + "\n")
    kms.probe()
    kms.close()


def test_without_the_package_the_registry_names_the_cure(hsm, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("target_appliance.kms.pkcs11")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigError, match="needs the package python-pkcs11") as refused:
        registry.create(chosen(hsm), SystemClock())
    assert "keysapart[pkcs11]" in refused.value.next_step
