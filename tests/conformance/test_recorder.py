"""The recorder passes the abstract suites that the ``eventsourcing`` library ships."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from eventsourcing.persistence import ProgrammingError, StoredEvent
from eventsourcing.tests.persistence import (
    AggregateRecorderTestCase,
    ApplicationRecorderTestCase,
    NonInterleavingNotificationIDsBaseCase,
    ProcessRecorderTestCase,
    TrackingRecorderTestCase,
)

from events.errors import EngineError
from events.store.heads import acquire
from events.store.recorder import ShardRecorder, open_datastore


class _OnPostgres:
    """Gives the library's suites a fresh database each."""

    INITIAL_VERSION = 0
    recorder_class = ShardRecorder
    recorder: ShardRecorder
    url: str

    @pytest.fixture(autouse=True)
    def _database(self, database_url: str) -> Iterator[None]:
        type(self).url = database_url
        datastore = open_datastore(database_url, "suite", pool_size=10)
        self.recorder = self.recorder_class(datastore, service="suite", upstream="upstream_app")
        self.recorder.create_table()
        yield
        self.recorder.datastore.close()

    def create_recorder(self) -> ShardRecorder:
        return self.recorder

    def new_originator_id(self) -> uuid.UUID:
        return uuid.uuid4()


class _WithoutPositions(ShardRecorder):
    """What the library calls an aggregate recorder: the same writes, but nobody is told the positions."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class TestAggregateRecorder(_OnPostgres, AggregateRecorderTestCase):
    recorder_class = _WithoutPositions


class TestApplicationRecorder(_OnPostgres, ApplicationRecorderTestCase):
    def test_insert_subscribe(self) -> None:
        """By design there is no NOTIFY subscription: consumers tail the events topic."""
        with pytest.raises(ProgrammingError):
            self.recorder.subscribe()
        assert self.recorder.max_notification_id() is None


class TestTrackingRecorder(_OnPostgres, TrackingRecorderTestCase):
    pass


class TestProcessRecorder(_OnPostgres, ProcessRecorderTestCase):
    pass


class TestNonInterleaving(_OnPostgres, NonInterleavingNotificationIDsBaseCase):
    pass


# The bases are suites to inherit, not to run.
del AggregateRecorderTestCase, ApplicationRecorderTestCase, TrackingRecorderTestCase, ProcessRecorderTestCase
del NonInterleavingNotificationIDsBaseCase


def test_acquiring_a_shard_that_does_not_exist_is_refused(database_url: str) -> None:
    recorder = ShardRecorder(open_datastore(database_url, "suite"), service="suite")
    recorder.create_table()
    with pytest.raises(EngineError, match="no head row"):
        acquire(recorder, [0, 7], "me")
    recorder.datastore.close()
