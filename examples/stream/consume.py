"""Shows what comes on the topic `species` of a broker: consume.py BROKER"""

import sys

from confluent_kafka import Consumer

settings = {"group.id": "shows", "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
consumer = Consumer({"bootstrap.servers": sys.argv[1], **settings})
consumer.subscribe(["species"])
while True:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        headers = {name: value.decode() for name, value in message.headers()}
        print(headers["vespid-source"], headers["vespid-model"], message.value().decode())
