import pytest
from pydantic import BaseModel, ValidationError

from common.duration import Duration, spoken


class Model(BaseModel):
    time: Duration


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("4h", 14400), ("7d", 604800)])
def test_written(text, seconds):
    assert Model(time=text).time == seconds


@pytest.mark.parametrize("text", ["", "15", "0m", "-1m", "1.5h", "15 m", "1w", "1234567s", 900, None])
def test_refused(text):
    with pytest.raises(ValidationError, match='such as "15m"'):
        Model(time=text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (0.4, "0s"), (59.6, "1m"), (61, "1m 1s"), (7500, "2h 5m"), (90061, "1d 1h")]
)
def test_spoken(seconds, text):
    assert spoken(seconds) == text
