"""Writes so many flowers to standard output, or to the topic `flowers` of a broker: produce.py COUNT [BROKER]"""

import json
import random
import sys

count, brokers = int(sys.argv[1]), sys.argv[2:]
chosen = random.Random(7)


def flower(number):
    ranges = {"sepal_length": (4, 8), "sepal_width": (2, 4.5), "petal_length": (1, 7), "petal_width": (0.1, 2.5)}
    values = {name: round(chosen.uniform(*ends), 1) for name, ends in ranges.items()}
    return json.dumps({"id": number, **values})


if not brokers:
    for number in range(count):
        print(flower(number))
else:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers[0], "queue.buffering.max.messages": 1_000_000})
    for number in range(count):
        producer.produce("flowers", flower(number), key=str(number % 100))
        producer.poll(0)
    producer.flush()
