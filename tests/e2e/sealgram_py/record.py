"""Sealed records (sections 2, 5.1 and 6): suites, keys, senders, receivers, the detector."""
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl import bindings
from nacl.exceptions import CryptoError

XAES_256_GCM, XCHACHA20_POLY1305 = 1, 2
SUITES = (XAES_256_GCM, XCHACHA20_POLY1305)
INDICATOR = b'\x08'
HEADER, TAG = 25, 16
OVERHEAD = HEADER + TAG
SHORTEST = OVERHEAD + 5
LONGEST = 65507
WINDOW = 8192
RECORDS_PER_SENDER = 1 << 28
BLOCKS_PER_SENDER = 1 << 35
FAILURES_PER_KEY = 1 << 36


def xaes_key(key, nonce12):
    """The subkey of XAES-256-GCM (C2SP): CMAC as a KDF in counter mode, of two blocks."""
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    block = int.from_bytes(aes.update(bytes(16)), 'big')
    mask = (block << 1) & ((1 << 128) - 1) ^ (0x87 if block >> 127 else 0)

    def derive(number):
        text = int.from_bytes(bytes([0, number]) + b'X\0' + nonce12, 'big')
        return aes.update((text ^ mask).to_bytes(16, 'big'))
    return derive(1) + derive(2)


def seal(suite, key, nonce, plaintext, aad=INDICATOR):
    if suite == XAES_256_GCM:
        return AESGCM(xaes_key(key, nonce[:12])).encrypt(nonce[12:], plaintext, aad)
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, aad, nonce, key)


def unseal(suite, key, nonce, sealed, aad=INDICATOR):
    """The plaintext, or None if it was forged."""
    try:
        if suite == XAES_256_GCM:
            return AESGCM(xaes_key(key, nonce[:12])).decrypt(nonce[12:], sealed, aad)
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, aad, nonce, key)
    except (InvalidTag, CryptoError):
        return None


EXPORTER_LABEL = b'EXPORTER-sealgram-v1'


def exporter_context(channel, suite):
    return channel + suite.to_bytes(2, 'big')


def direction_key(secret, direction):
    """direction is 'c2s' or 's2c'."""
    return HKDFExpand(hashes.SHA256(), 32, b'sealgram1 ' + direction.encode()).derive(secret)


def detect(datagram):
    """'sealed', 'plain' or 'junk', for any bytes."""
    if datagram[:1] == INDICATOR:
        return 'sealed'
    return 'plain' if datagram[:2] == b'\0\0' else 'junk'


class SendersUsedUp(Exception):
    """No further record may be sealed under this key."""


class Sender:
    def __init__(self, suite, key, channel, max_senders=16, random=os.urandom):
        self.suite, self.key, self.channel, self.random = suite, key, channel, random
        self.ids_left, self.sender_id, self.counter, self.blocks = max_senders, None, 0, 0

    def renew(self):
        """Draws the next sender id."""
        if self.ids_left == 0:
            raise SendersUsedUp
        self.ids_left -= 1
        self.sender_id, self.counter, self.blocks = self.random(8), 0, 0

    def seal(self, plaintext):
        blocks = -(-len(plaintext) // 16)
        if self.sender_id is None or self.counter >= RECORDS_PER_SENDER or self.blocks + blocks > BLOCKS_PER_SENDER:
            self.renew()
        nonce = self.channel + self.sender_id + self.counter.to_bytes(8, 'big')
        self.counter += 1
        self.blocks += blocks
        return INDICATOR + nonce + seal(self.suite, self.key, nonce, plaintext)


class Window:
    """The counters of one sender id that were seen: bit n of seen is the counter highest - n."""

    def __init__(self):
        self.highest, self.seen = -1, 0

    def check(self, counter):
        if counter > self.highest:
            return None
        age = self.highest - counter
        if age >= WINDOW:
            return 'too_old'
        return 'replayed' if self.seen >> age & 1 else None

    def mark(self, counter):
        if counter > self.highest:
            shift = min(counter - self.highest, WINDOW)
            self.seen = self.seen << shift & (1 << WINDOW) - 1
            self.highest = counter
        self.seen |= 1 << self.highest - counter


class Receiver:
    def __init__(self, suite, key, channel, max_senders=16):
        self.suite, self.key, self.channel, self.max_senders = suite, key, channel, max_senders
        self.windows, self.failed = {}, 0

    def open(self, record):
        """(plaintext, None), or (None, the name of the reason)."""
        if detect(record) != 'sealed':
            return None, 'junk'
        if not SHORTEST <= len(record) <= LONGEST:
            return None, 'length'
        if record[1:9] != self.channel:
            return None, 'unknown_channel'
        sender, counter = record[9:17], int.from_bytes(record[17:25], 'big')
        window = self.windows.get(sender)
        if window is None and len(self.windows) >= self.max_senders:
            return None, 'sender_limit'
        reason = window.check(counter) if window else None
        if reason:
            return None, reason
        if self.failed >= FAILURES_PER_KEY:
            return None, 'key_limit'
        plaintext = unseal(self.suite, self.key, record[1:25], record[25:])
        if plaintext is None:
            self.failed += 1
            return None, 'forged'
        self.windows.setdefault(sender, Window()).mark(counter)
        return plaintext, None


def spki_pin(public_key_der):
    """What identifies a server (section 3)."""
    return hashlib.sha256(public_key_der).digest()
