"""One poll of everything, and its progress."""

import asyncio
from collections import Counter

import pytest

from exporter.app.once import poll_once
from exporter.polling.progress import PollStep
from tests.drivers.support import config

pytestmark = pytest.mark.process


@pytest.mark.parametrize("discovers", [True, False])
def test_progress_covers_follow_ups_and_never_exceeds_what_there_is(cloud, discovers):
    done: Counter[PollStep] = Counter()
    total: Counter[PollStep] = Counter()

    def follow(step, more_done, more):
        done[step] += more_done
        total[step] += more
        assert done[step] <= total[step]

    own = cloud.project(pipelines=[]) if discovers else cloud.project()
    exporter, _ = asyncio.run(poll_once(config(own, metrics={"details": "jobs"}), None, follow))
    assert exporter.pollers[0].up
    assert total[PollStep.LIST] == 30
    # The list of CodeArts includes latest runs, so listed pipelines are not queried again.
    assert total[PollStep.POLL] <= 30
    assert total[PollStep.FOLLOW_UP] >= 20
    assert done == total


def test_progress_ends_where_a_cloud_does_not_answer(cloud):
    seen: Counter[PollStep] = Counter()

    def follow(step, done, more):
        seen[step] += more - done

    own = cloud.project(endpoint="http://127.0.0.1:9")
    exporter, _ = asyncio.run(poll_once(config(own, poll={"timeout": "1s"}), None, follow))
    assert not exporter.pollers[0].up
    assert seen == Counter({PollStep.POLL: 0})
