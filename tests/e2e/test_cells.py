"""Sealgram on networks that are bad in several ways at once: every pair of the values below stands in some cell. In each
nothing is altered, nothing comes twice, and every record is accounted for."""
import collections
import itertools
import random
import time

import pytest

from emulated import Emulated
from harness import SocksUdp, UdpEcho, sum_ledger, wait_for
from network import CLIENT, SERVER

pytestmark = [pytest.mark.netns, pytest.mark.slow]
SECONDS, EVERY_SECONDS, LONGEST = 8, 0.005, 1300

VALUES = {
    'loss': ['', 'loss 0.05', 'loss 0.3 udp'],
    'reorder': ['', 'reorder 0.2 100', 'reorder 0.05 2000'],
    'duplicate': ['', 'duplicate 0.3'],
    'corrupt': ['', 'corrupt 0.05 udp', 'corrupt 0.3 udp'],
    'delay': ['delay 10', 'delay 750'],
    'blackhole': ['', 'blackhole 1 6 udp', 'blackhole 2 3'],
    'rebind': ['', 'nat both 5 udp'],
    'mtu': ['mtu 576 icmp on', 'mtu 1280', 'mtu 1500', 'mtu 9000'],
}


def make_cells(values, seed=1):
    """Rows in which each pair of values of two columns occurs; each takes the most pairs that are left, of some tries."""
    names, draw = list(values), random.Random(seed)
    left = {(a, x, b, y) for a, b in itertools.combinations(range(len(names)), 2)
            for x in range(len(values[names[a]])) for y in range(len(values[names[b]]))}

    def pairs(row):
        return {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(row)), 2)}
    while left:
        a, x, b, y = min(left)
        tries = []
        for _ in range(200):
            row = [draw.randrange(len(values[name])) for name in names]
            row[a], row[b] = x, y
            tries.append(row)
        best = max(tries, key=lambda row: len(pairs(row) & left))
        left -= pairs(best)
        yield tuple(values[name][choice] for name, choice in zip(names, best, strict=True))


CELLS = list(make_cells(VALUES))


def test_there_are_cells_for_every_pair():
    assert len(CELLS) <= 40
    for (a, one), (b, two) in itertools.combinations(enumerate(VALUES), 2):
        for x, y in itertools.product(VALUES[one], VALUES[two]):
            assert any(cell[a] == x and cell[b] == y for cell in CELLS), (x, y)


class Traffic:
    """Datagrams of all sizes to an echo, each by itself recognisable."""

    def __init__(self, app, target, seed):
        self.app, self.target, self.draw = app, target, random.Random(seed)
        self.sent, self.got = {}, collections.Counter()
        app.udp.settimeout(0)

    def send(self):
        payload = len(self.sent).to_bytes(4, 'big') + self.draw.randbytes(self.draw.randrange(LONGEST))
        self.sent[len(self.sent)] = payload
        self.app.send(payload, self.target)

    def gather(self):
        try:
            while True:
                payload, _ = self.app.receive()
                number = int.from_bytes(payload[:4], 'big')
                assert self.sent.get(number) == payload, 'altered'
                self.got[number] += 1
                assert self.got[number] == 1, 'came twice'
        except BlockingIOError:
            pass

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send()
            time.sleep(EVERY_SECONDS)
            self.gather()


def settled(network, server, client):
    """Both ledgers agree with the network's on every record that arrived, at one moment."""
    ends = []
    for _ in range(100):
        before = network.ledger()
        ends = [('up', server.status()['up']), ('down', client.status()['down'])]
        if all(ledger['received'] - ledger['streamed'] == before[way]['udp']['delivered'] for way, ledger in ends) \
                and network.ledger() == before:
            return before, ends
        time.sleep(0.05)
    raise AssertionError(f'{before}\n{ends}')


@pytest.mark.parametrize('cell', CELLS, ids=[', '.join(filter(None, cell)) for cell in CELLS])
def test_cell(lab, cell):
    *commands, mtu = cell
    network = Emulated(lab, mtu=9000 if mtu == 'mtu 9000' else 1500)
    network.command(mtu)
    _, invite, server = network.server()
    client = network.client(invite)
    echo = lab.open(network.call(SERVER, UdpEcho, keep=True))
    app = lab.open(network.call(CLIENT, SocksUdp, client.socks))
    wait_for(lambda: client.status()['path'] == 'udp', 5, 'UDP')
    for command in filter(None, commands):
        network.command(command)

    traffic = Traffic(app, echo.address, seed=1)
    traffic.run(SECONDS)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        time.sleep(0.05)
        traffic.gather()

    assert len(echo.received) == len(set(echo.received)) and set(echo.received) <= set(traffic.sent.values())
    assert traffic.got, client.err
    _, ends = settled(network, server, client)
    for _, ledger in ends:
        assert ledger['received'] == sum_ledger(ledger)
    for ledger in server.status()['down'], client.status()['up']:
        assert ledger['received'] == sum_ledger(ledger)
    network.close()
    assert network.ended_well()
