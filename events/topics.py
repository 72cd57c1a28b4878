"""Kafka topics of NexaFi: names, partition counts, and the check that they match the stores."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from events.errors import ShardCountError
from events.migrations import SERVICES
from nexafi.settings import Settings

REPLIES = "nexafi.replies"
#: Signed chain heads, outside the database; compacted.
HEADS = "nexafi.heads"


def commands_topic(service: str) -> str:
    """Topic from which the service's writer reads; partition = shard."""
    return f"{service}.commands"


def events_topic(service: str) -> str:
    """Topic to which the service's relay publishes; partition = shard."""
    return f"{service}.events"


def topic_plan(
    settings: Settings, services: tuple[str, ...] = SERVICES
) -> dict[str, tuple[int, dict[str, str]]]:
    """Every topic with its partition count and configuration.

    Commands and events are kept for good (``retention.ms=-1``): rebuilding a projection reads them from the
    beginning. Replies are hints and live for ten minutes.
    """
    keep = {"retention.ms": "-1", "cleanup.policy": "delete", "max.message.bytes": "4194304"}
    plan: dict[str, tuple[int, dict[str, str]]] = {}
    for service in services:
        plan[commands_topic(service)] = (settings.shard_count(service), keep)
        plan[events_topic(service)] = (settings.shard_count(service), keep)
    plan[REPLIES] = (settings.reply_partitions, {"retention.ms": "600000", "max.message.bytes": "4194304"})
    plan[HEADS] = (1, {"cleanup.policy": "compact", "retention.ms": "-1"})
    return plan


async def ensure_topics(settings: Settings, services: tuple[str, ...] = SERVICES) -> list[str]:
    """Create the topics that are absent, with ``settings.kafka_replication`` copies; names of those made.

    A wrong partition count is refused.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        plan = topic_plan(settings, services)
        existing = set(await admin.list_topics())
        described = {
            t["topic"]: len(t["partitions"])
            for t in await admin.describe_topics(sorted(existing & set(plan)))
        }
        for name, count in described.items():
            if count != plan[name][0]:
                raise ShardCountError(f"topic {name} has {count} partitions, settings say {plan[name][0]}")
        missing = [name for name in plan if name not in existing]
        if missing:
            await admin.create_topics(
                [
                    NewTopic(name, plan[name][0], settings.kafka_replication, topic_configs=plan[name][1])
                    for name in missing
                ]
            )
        return missing
    finally:
        await admin.close()


async def check_partitions(settings: Settings, topic: str, expected: int) -> None:
    """Refuse a topic whose partition count is not the recorded number of shards."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        described = await admin.describe_topics([topic])
    finally:
        await admin.close()
    count = len(described[0]["partitions"])
    if count != expected:
        raise ShardCountError(f"topic {topic} has {count} partitions, its store has {expected} shards")
