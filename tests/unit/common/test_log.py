import json
import logging

from common import log


def test_json_lines_without_secrets_or_bytes(capsys):
    log.configure(level="info", style="json")
    log.get("test").info("fixed words", tenant="acme", vcenter_password="hunter2", data=b"canary")
    log.get("test").debug("not shown")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    assert (found["event"], found["tenant"], found["part"], found["level"]) == ("fixed words", "acme", "test", "info")
    assert found["vcenter_password"] == "***"
    assert found["data"] == "<6 bytes>"


def test_vendor_chatter_is_kept_down(capsys):
    log.configure(level="debug", style="console")
    logging.getLogger("vendor").info("chatter")
    logging.getLogger("vendor").warning("trouble")
    log.get("test").info("hello", point=3)
    err = capsys.readouterr().err
    assert "chatter" not in err
    assert "trouble" in err
    assert "point=3" in err


def test_an_exception_keeps_its_text(capsys):
    log.configure(style="json")
    try:
        int("the cause")
    except ValueError:
        log.get("test").exception("failed")
    assert "the cause" in json.loads(capsys.readouterr().err)["exception"]
