"""Pushes files to a registry, or pulls an artifact's, with the Python client of ORAS.

    oras_client.py push HOST/REPOSITORY:TAG CONFIG:TYPE FILE:TYPE...
    oras_client.py pull HOST/REPOSITORY:TAG FOLDER

Both in the folder with the files, and by plain HTTP.
"""

import sys

import oras.client

client = oras.client.OrasClient(insecure=True)
match sys.argv[1:]:
    case ["push", target, config, *files]:
        client.push(target=target, files=files, manifest_config=config)
    case ["pull", target, folder]:
        for file in client.pull(target=target, outdir=folder):
            print(file)
    case _:
        sys.exit(__doc__)
