"""Prints what is on a topic, from its beginning, until Ctrl-C: consume.py TOPIC BROKERS. Wants confluent-kafka."""

import sys

from confluent_kafka import Consumer

topic, brokers = sys.argv[1:]
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": f"consume-{topic}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        # What a transaction holds is seen when it is committed.
        "isolation.level": "read_committed",
    }
)
consumer.subscribe([topic])
try:
    while True:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            print(message.error(), file=sys.stderr)
            continue
        key = (message.key() or b"").decode(errors="replace")
        headers = {name: (value or b"").decode(errors="replace") for name, value in message.headers() or []}
        print(key, message.value().decode(errors="replace"), headers, flush=True)
except KeyboardInterrupt:
    consumer.close()
