"""Quix Streams, exactly-once, with its RocksDB state and changelog.

Options: `bootstrap`, `events`, `out` (topics), `group`, `until_events`, `data_dir`, `commit_s`.
"""

from typing import Any

from quixstreams import Application

from benchmarks import meter, small_work


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Run the application until the log is read."""
    watch, done = meter.Meter(), 0
    app = Application(
        broker_address=given["bootstrap"], consumer_group=given["group"],
        auto_offset_reset="earliest", processing_guarantee="exactly-once",
        commit_interval=given["commit_s"], state_dir=given["data_dir"], loglevel="ERROR",
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        auto_create_topics=True,
    )  # fmt: skip
    source = app.topic(given["events"], key_deserializer="str", value_deserializer="bytes")
    out = app.topic(given["out"], key_serializer="str", value_serializer="bytes")

    def one(value: bytes, state: Any) -> bytes:
        nonlocal done
        watch.start()
        event = small_work.decode(value)
        count, ring = state.get("ring", (0, []))
        ring = [*ring, event.item_id][-small_work.RING :]
        state.set("ring", (count + 1, ring))
        done += 1
        if done % 100 == 0:
            watch.seen(done)
        if done >= given["until_events"]:
            watch.seen(done)
            app.stop()
        return small_work.answer(f"{event.user_id}-{count}", event.user_id, count + 1, ring)

    app.dataframe(source).apply(one, stateful=True).to_topic(out)
    app.run()
    return watch.figures()


if __name__ == "__main__":
    meter.report(work(meter.options()))
