"""``source-agent`` that tries a broken link again within half a second, however often it broke before: WORDS…"""

from source_agent import cli
from source_agent.stream import link

PAUSE_SECONDS = 0.5

if __name__ == "__main__":
    assert link._LONGEST_PAUSE > PAUSE_SECONDS
    link._LONGEST_PAUSE = PAUSE_SECONDS
    cli.main()
