"""Prime numbers, by the sieve of Eratosthenes."""

import argparse


def primes(limit: int) -> list[int]:
    """The primes below `limit`, in order."""
    composite = [False] * limit
    found = []
    for number in range(2, limit):
        if composite[number]:
            continue
        found.append(number)
        for multiple in range(number * number, limit, number):
            composite[multiple] = True
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("limit", type=int, nargs="?", default=100)
    print(*primes(parser.parse_args().limit))
