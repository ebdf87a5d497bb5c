from datetime import UTC, datetime

import pytest

from common.config import load
from common.errors import ConfigError
from source_agent.config import AgentConfig
from tests.architecture.tree import TOP

HEAD = (TOP / "deploy/agent/example.toml").read_text().partition('# What "source-agent run"')[0]
MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.fixture
def loaded(tmp_path):
    def read(text):
        path = tmp_path / "agent.toml"
        path.write_text(HEAD + text)
        return load(path, AgentConfig)

    return read


def test_a_policy_is_what_was_written(loaded):
    config = loaded(
        '[[protect]]\nvms = ["db*"]\nfolder = "/a/vm/b"\nattribute = "Tier = one=gold*"\nrpo = "15m"\n'
        'compare_every = "7d"\npriority = 3\n[[protect]]\nrpo = "1d"\n'
    )
    first, second = (section.policy() for section in config.protect)
    assert (first.rpo, first.compare_every, first.priority) == (900, 604800, 3)
    assert (first.vms, first.folder, first.attribute) == (("db*",), "/a/vm/b", ("Tier", "one=gold*"))
    assert (second.rpo, second.vms, second.folder, second.attribute) == (86400, (), None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[protect]]\nrpo = "1h"\ntag = "gold"', "protect.0.tag"),
        ('[[protect]]\nrpo = "1h"\ntag = ":gold"', "protect.0.tag"),
        ('[[protect]]\nrpo = "1h"\ntag = "Tier:"', "protect.0.tag"),
        ('[[protect]]\nrpo = "1h"\nname = "db*"', "unknown key protect.0.name"),
        ('[[protect]]\nvms = ["db*"]', "key protect.0: set rpo, or exclude = true"),
        ('[[protect]]\nrpo = "1h"\nexclude = true', "key protect.0: set rpo, or exclude = true"),
        ("[[protect]]\nrpo = 900", "key protect.0.rpo: should be a number and s, m, h or d"),
        ('[[protect]]\nrpo = "1h"\nfolder = "vm/prod"', "protect.0.folder"),
        ('[[protect]]\nrpo = "1h"\nattribute = "gold"', "protect.0.attribute"),
        ("[schedule]\nsyncs = 0", "schedule.syncs"),
        ('[bandwidth]\ntimezone = "Berlin"', "key bandwidth.timezone: should be a name of the time zone database"),
        ("[bandwidth]\nmbit_per_second = 0", "bandwidth.mbit_per_second"),
        ('[[bandwidth.window]]\ndays = ["monday"]\nbegin = 08:00:00\nend = 09:00:00\nmbit_per_second = 5', "days"),
        ('[observe]\nmetrics = "7446"', "key observe.metrics: should be host:port"),
    ],
)
def test_what_is_refused_is_named(loaded, text, said):
    with pytest.raises(ConfigError) as refused:
        loaded(text)
    assert said in refused.value.message


def test_nothing_is_protected_limited_or_served_unless_it_was_asked_for(loaded):
    config = loaded("")
    assert config.protect == ()
    assert config.bandwidth.week().rate(MONDAY) is None
    assert (config.observe.metrics, config.observe.health) == (None, None)


def test_rates_are_megabits(loaded):
    config = loaded(
        "[bandwidth]\nmbit_per_second = 100\n"
        "[[bandwidth.window]]\nbegin = 08:00:00\nend = 18:00:00\nmbit_per_second = 8\n"
    )
    week = config.bandwidth.week()
    assert week.rate(MONDAY) == 1_000_000
    assert week.rate(MONDAY.replace(hour=19)) == 12_500_000
