"""Makes flowers, as JSON: produce.py COUNT [BROKERS]. Without brokers they are lines of standard output.

With brokers they go to the topic iris-flowers; topics that are missing are made. That wants confluent-kafka.
"""

import json
import random
import sys

MEANS = {"sepal_length": 5.84, "sepal_width": 3.06, "petal_length": 3.76, "petal_width": 1.20}


def flowers(count: int):
    for number in range(count):
        flower = {name: round(max(0.1, random.gauss(mean, mean / 4)), 1) for name, mean in MEANS.items()}
        yield {"id": number, "place": random.choice(["Gaspe", "Innsbruck", "Kyoto"]), **flower}


def send(count: int, brokers: str) -> None:
    from topics import create, producer

    create(brokers, ["iris-flowers", "iris-species", "iris-failed"])
    with producer(brokers) as send:
        for flower in flowers(count):
            send("iris-flowers", json.dumps(flower), key=flower["place"])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        send(int(sys.argv[1]), sys.argv[2])
    else:
        for flower in flowers(int(sys.argv[1])):
            print(json.dumps(flower))
