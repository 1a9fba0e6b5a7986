# /// script
# requires-python = ">=3.11"
# dependencies = ["confluent-kafka==2.16.1", "numpy==2.4.6", "onnxruntime==1.32.0"]
# ///
"""What a stream is compared with: a consumer with onnxruntime that takes what has come, as people write it.

    stream_loop.py iris GRAPH BROKER IN OUT COUNT
    stream_loop.py file-type GRAPH BROKER IN OUT COUNT      features as Magika's client makes them; labels by their numbers

Offsets are committed after the answers are delivered.
"""

import json
import sys

import numpy
import onnxruntime
from confluent_kafka import Consumer, Producer

# Those of plugins/iris/src/scaler.rs.
MEAN = numpy.array([5.890476, 3.0695238, 3.8028572, 1.2066667], dtype=numpy.float32)
SCALE = numpy.array([0.8569629, 0.44553313, 1.8107855, 0.7787984], dtype=numpy.float32)
SPECIES = ["setosa", "versicolor", "virginica"]

model, graph, broker, source, target, count = sys.argv[1:]
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def iris(messages):
    values = [json.loads(message.value()) for message in messages]
    x = numpy.array([[value[name] for name in "abcd"] for value in values], dtype=numpy.float32)
    [probabilities] = session.run(["probabilities"], {"X": (x - MEAN) / SCALE})
    for row in probabilities:
        yield {"species": SPECIES[row.argmax()], "probabilities": row.tolist()}


def features(content, size=1024, none=256):
    content = content.strip()
    begin, end = content[:size], content[-size:]
    return list(begin) + [none] * (size - len(begin)) + [none] * (size - len(end)) + list(end)


def file_type(messages):
    x = numpy.array([features(message.value()) for message in messages], dtype=numpy.int32)
    [scores] = session.run(["target_label"], {"bytes": x})
    for row in scores:
        yield {"label": int(row.argmax()), "score": float(row.max())}


answer = iris if model == "iris" else file_type
consumer = Consumer(
    {"bootstrap.servers": broker, "group.id": target, "auto.offset.reset": "earliest", "enable.auto.commit": False}
)
consumer.subscribe([source])
producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "linger.ms": 5})
done = 0
while done < int(count):
    messages = [message for message in consumer.consume(512, 0.1) if message.error() is None]
    if not messages:
        continue
    for message, value in zip(messages, answer(messages), strict=True):
        producer.produce(target, json.dumps(value), key=message.key(), partition=message.partition())
    producer.flush()
    consumer.commit(asynchronous=True)
    done += len(messages)
