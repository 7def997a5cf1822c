"""One message, one transaction: what FastStream's documentation shows first, made at-least-once as it says.

The pages a choice follows are named beside it; README.md lists them with what each says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from faststream import AckPolicy, Context, ContextRepo, FastStream
from faststream.confluent import KafkaBroker
from sqlalchemy import Engine

from benchmarks.peers.job import Job, Settings, opened
from benchmarks.peers.wire import Arrival, EventCodec, Schemas


def build(settings: Settings, job: Job, schemas: Schemas) -> FastStream:
    broker = KafkaBroker(
        settings.bootstrap,
        # "Topic Configuration": topics are provisioned by somebody else.
        allow_auto_create_topics=False,
        # "Application and Access Logging": no line for each message; errors are still logged.
        log_level=logging.DEBUG,
        # "Subscription Basics": no pydantic casting of what the codec has decoded; Context still works.
        serializer=None,
    )

    # "Lifespan Context Manager": what starts before the broker and ends after it.
    @asynccontextmanager
    async def lifespan(context: ContextRepo) -> AsyncGenerator[None]:
        engine = opened(settings)
        context.set_global("engine", engine)
        yield
        engine.dispose()

    @broker.subscriber(
        *settings.topics,
        group_id=settings.name,
        auto_offset_reset="earliest",
        # "Consuming Acknowledgements": at least once; after an error the offset is sought, so the order of a key is kept.
        ack_policy=AckPolicy.NACK_ON_ERROR,
        # "Custom Codec": takes the place of `decoder=`.
        codec=EventCodec(schemas),
        no_reply=True,
        # "Concurrency": max_workers is left at 1. It "is only compatible with ACK_FIRST", which is at most once.
    )
    # "Subscription Basics": the domain is synchronous, so the handler is too: it runs in a thread, off the event loop.
    def decided(arrival: Arrival, engine: Annotated[Engine, Context()]) -> None:
        job.done(engine, [arrival])

    return FastStream(broker, lifespan=lifespan)


if __name__ == "__main__":
    chosen = Settings.read("peer-per-message")
    known = Schemas(chosen.registry)
    work = Job(chosen, known)
    asyncio.run(build(chosen, work, known).run())
    print(work.counts.printed())
