"""A user among forgers, and a newcomer among those who only fill the door."""
import contextlib
import multiprocessing
import os
import random
import socket
import struct
import time

import pytest

from attacker import Target, plaintext
from harness import SocksUdp, sum_ledger, wait_for

SECONDS = float(os.environ.get('SG_FLOOD_SECONDS', '12'))
FORGED_RATE, RATE = 30_000, 3_000

pytestmark = pytest.mark.slow


def forge(port, channel_id, seconds, result):
    """30 000 forged records a second from a process of its own: how many were sent, and what came back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(('127.0.0.1', port))
        kinds = [b'\x08' + os.urandom(24 + 300),  # of no channel
                 b'\x08' + channel_id + os.urandom(16 + 300),  # of one that there is, with a wrong tag
                 b'\x08' + channel_id + os.urandom(20)]  # cut off
        start, sent, refused = time.monotonic(), 0, 0
        while (now := time.monotonic() - start) < seconds:
            for _ in range(min(300, int(now * FORGED_RATE) - sent)):
                try:
                    sock.send(kinds[sent % 3])
                except OSError:
                    refused += 1
                sent += 1
            time.sleep(0.002)
        sock.setblocking(False)
        heard = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += len(sock.recv(65536))
        result.put((sent, refused, heard))


def resident(program):
    """Bytes."""
    with open(f'/proc/{program.process.pid}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def talk(app, echo, seconds):
    """3000 numbered datagrams a second; how many were sent and came back."""
    sent, answers, start = 0, set(), time.monotonic()
    app.udp.setblocking(False)

    def take():
        with contextlib.suppress(BlockingIOError):
            while True:
                answers.add(app.receive()[0])
    while (now := time.monotonic() - start) < seconds:
        for _ in range(min(50, int(now * RATE) - sent)):
            app.send(b'%d' % sent, echo.address)
            sent += 1
        take()
        time.sleep(0.001)
    end = time.monotonic() + 2
    while len(answers) < sent and time.monotonic() < end:
        take()
        time.sleep(0.01)
    return sent, len(answers)


@pytest.mark.no_sanitize
def test_forged_records_do_not_keep_users_out(lab, echo):
    """Ten to one: at least 99 % come back, forgers hear nothing, and the server grows by less than a megabyte."""
    target = Target(lab).start()
    client = lab.client(target.invite)
    app = lab.open(SocksUdp(client.socks))
    known = target.channel().validate()  # its id is what a forger on the path would see
    assert app.ask(b'warm', echo.address)[0] == b'warm'
    context = multiprocessing.get_context('fork')
    result = context.Queue()
    warm = context.Process(target=forge, args=(target.port, known.id, 1, result))
    warm.start()
    talk(app, echo, 1)
    result.get(timeout=20)
    warm.join()
    before, drops = resident(target.server), target.status()['up']['drops']
    forger = context.Process(target=forge, args=(target.port, known.id, SECONDS, result))
    forger.start()
    sent, came_back = talk(app, echo, SECONDS)
    forged, _, heard = result.get(timeout=20)
    forger.join()
    assert forged > 0.8 * FORGED_RATE * SECONDS and sent > 0.8 * RATE * SECONDS, 'the machine was too slow for the attack'
    assert came_back >= 0.99 * sent, f'{came_back} of {sent}'
    assert heard == 0
    assert resident(target.server) - before < 1 << 20
    up = target.status()['up']
    assert up['received'] == sum_ledger(up)
    counted = sum(up['drops'].get(reason, 0) - drops.get(reason, 0)
                  for reason in ('unknown_channel', 'forged', 'length', 'kernel', 'sender_limit', 'key_limit'))
    assert counted >= 0.99 * forged
    known.send_udp(plaintext(1, echo.address, b'its own records still open'))
    assert known.hear_datagram() == plaintext(1, echo.address, b'its own records still open')


def test_a_newcomer_gets_in_while_the_door_is_full(lab, echo):
    """2000 connections that say nothing and 1000 handshakes that never end, from many addresses: ready within 2 s."""
    target = Target(lab).start('limits:\n  handshake_seconds: 10\n')
    chance = random.Random(1)
    addresses = ['127.%d.%d.%d' % (chance.randrange(1, 255), chance.randrange(256), chance.randrange(1, 255))
                 for _ in range(300)]
    waiting = []
    hello = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(32)  # the beginning of a ClientHello of 512 bytes
    for number in range(3000):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.bind((addresses[number % len(addresses)], 0))
        with contextlib.suppress(BlockingIOError, OSError):
            sock.connect(('127.0.0.1', target.port))
        waiting.append(sock)
        if number % 100 == 0:
            time.sleep(0.01)
    for sock in waiting[:1000]:
        with contextlib.suppress(OSError):
            sock.send(hello)
    wait_for(lambda: target.status()['tcp']['accepted'] >= 2900, 20, 'the crowd')
    start = time.monotonic()
    client = lab.client(target.invite)
    took = time.monotonic() - start
    for sock in waiting:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        sock.close()
    assert took < 2, took
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'in', echo.address)[0] == b'in'
