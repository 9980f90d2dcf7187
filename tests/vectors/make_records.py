#!/usr/bin/python3
"""Writes records.json: sealed records of both suites and records that must be refused, by the second implementation.

usage: tests/vectors/make_records.py

All values are hex, but names, directions, reasons and the number of the suite. Everything comes from fixed seeds, so
the file is the same each time. `records` are opened and sealed again; `refused` go to a receiver that has the keys of
secret, suite and channel, and saw nothing before, for records of this direction.
"""
import hashlib
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / 'e2e'))
from sealgram_py import messages, record  # noqa: E402

PLAINTEXTS = {
    'keepalive': messages.Keepalive().encode(),
    'challenge': messages.Token(bytes(range(8))).encode(),
    'padded probe': messages.Probe(7, messages.UDP, 0x01020304, 1264).encode().ljust(1264 - record.OVERHEAD, b'\0'),
    'empty datagram': messages.Datagram(1, ('192.0.2.7', 53), b'').encode(),
    'datagram by IPv6': messages.Datagram(2, ('2001:db8::7', 443), bytes(range(256)) * 4).encode(),
    'datagram by name': messages.Datagram(2**32 - 1, ('name.example', 65535), b'by name').encode(),
    'odd length': messages.Datagram(3, ('192.0.2.7', 9), b'x' * 1371).encode(),
}
COUNTERS = (0, 1, 255, 8192, 2**28 - 1, 2**32, 2**64 - 1)


def fixed(count, *words):
    """So many bytes, of which each set of words has its own."""
    return hashlib.shake_128(' '.join(map(str, words)).encode()).digest(count)


class Case:
    """A channel with keys: what seals a record and what a receiver has."""

    def __init__(self, suite, direction, *words):
        self.suite, self.direction = suite, direction
        self.secret, self.channel = fixed(32, 'secret', suite, *words), fixed(8, 'channel', suite, *words)
        self.key = record.direction_key(self.secret, direction)

    def seal(self, plaintext, counter, sender_id, aad=record.INDICATOR):
        nonce = self.channel + sender_id + counter.to_bytes(8, 'big')
        return record.INDICATOR + nonce + record.seal(self.suite, self.key, nonce, plaintext, aad)

    def entry(self, name, sealed, **more):
        values = {'name': name, 'suite': self.suite, 'direction': self.direction, 'secret': self.secret,
                  'key': self.key, 'channel': self.channel, **more, 'record': sealed}
        return {key: value.hex() if isinstance(value, bytes) else value for key, value in values.items()}


def records(suite):
    """What must open."""
    for number, (name, plaintext) in enumerate(PLAINTEXTS.items()):
        for direction in ('c2s', 's2c'):
            case = Case(suite, direction, number)
            sender_id, counter = fixed(8, 'sender', suite, direction, number), COUNTERS[number]
            sealed = case.seal(plaintext, counter, sender_id)
            yield case.entry(name, sealed, sender_id=sender_id, counter=counter.to_bytes(8, 'big'), plaintext=plaintext)


def refused(suite):
    """What must not, each with its reason."""
    case, other = Case(suite, 'c2s', 'good'), Case(suite, 'c2s', 'other')
    sender_id, plaintext = fixed(8, 'sender'), messages.Datagram(1, ('192.0.2.7', 53), b'never seen').encode()
    good = case.seal(plaintext, 5, sender_id)
    for name, place in (('indicator', 0), ('channel id', 8), ('sender id', 9), ('counter', 24), ('association', 25),
                        ('address', 30), ('data', len(good) - 17), ('first byte of the tag', len(good) - 16),
                        ('last byte of the tag', len(good) - 1)):
        flipped = bytearray(good)
        flipped[place] ^= 1
        yield f'bit flip: {name}', case, bytes(flipped), {0: 'junk', 8: 'unknown_channel'}.get(place, 'forged')
    back = Case(suite, 's2c', 'good')
    yield 'wrong direction', back, good, 'forged'
    yield 'wrong channel', other, good, 'unknown_channel'
    moved = good[:1] + other.channel + good[9:]
    yield 'moved to another channel', other, moved, 'forged'
    nonce = good[1:record.HEADER]
    yield 'wrong suite', case, good[:record.HEADER] + record.seal(3 - suite, case.key, nonce, plaintext), 'forged'
    yield 'wrong associated data', case, case.seal(plaintext, 5, sender_id, b'\0'), 'forged'
    yield 'no associated data', case, case.seal(plaintext, 5, sender_id, b''), 'forged'
    yield 'truncation by one byte', case, good[:-1], 'forged'
    yield 'truncation by the tag', case, good[:-16], 'forged'
    yield 'truncation below header and tag', case, good[:record.OVERHEAD - 1], 'length'
    yield 'the indicator alone', case, good[:1], 'length'
    yield 'extension by one byte', case, good + b'\0', 'forged'
    yield 'extension in front of the tag', case, good[:-16] + b'\0' + good[-16:], 'forged'


def refused_entries(suite):
    for name, case, sealed, reason in refused(suite):
        assert record.Receiver(case.suite, case.key, case.channel).open(sealed) == (None, reason), name
        yield case.entry(name, sealed, reason=reason)


def make(suite):
    return {'records': list(records(suite)), 'refused': list(refused_entries(suite))}


def main():
    lines = []
    for kind in ('records', 'refused'):
        entries = [json.dumps(entry) for suite in record.SUITES for entry in make(suite)[kind]]
        lines.append(f'"{kind}": [\n  ' + ',\n  '.join(entries) + '\n]')
    (FOLDER / 'records.json').write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
    main()
