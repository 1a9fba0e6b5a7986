"""Sends a recording in pieces to the topic `audio` of a broker: produce_audio.py FILE.wav BROKER [SPEAKER]"""

import pathlib
import sys
import wave

from confluent_kafka import Producer

file, brokers, *speaker = sys.argv[1:]
with wave.open(file) as audio:
    if (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) != (1, 2, 16000):
        sys.exit(f"{file} is not 16-bit PCM, mono, 16 kHz")
    # A tenth of a second each.
    pieces = list(iter(lambda: audio.readframes(1600), b""))

producer = Producer({"bootstrap.servers": brokers})
key = speaker[0] if speaker else pathlib.Path(file).stem
for number, piece in enumerate(pieces, 1):
    # The last piece ends a segment that is open, and what is kept of the speaker.
    headers = {"vespid-session": "end"} if number == len(pieces) else {}
    producer.produce("audio", piece, key=key, headers=headers)
producer.flush()
