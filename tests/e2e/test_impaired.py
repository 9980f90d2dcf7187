"""A bad network between client and server: each datagram stands for itself, and what the network makes up is refused."""
import json
import random
import socket
import time

import pytest

from harness import MARKER, SocksUdp, UdpEcho, address, sum_ledger

ON_ITS_WAY = 8
REPLAYS = ('replayed', 'too_old')
FORGERIES = ('forged', 'unknown_channel', 'junk', 'length', 'sender_limit', 'plain_refused')


class BadNetwork:
    """`sealgram impair` in front of a server; invite leads through it."""

    def __init__(self, lab, port, invite, **rates):
        options = [word for name, rate in rates.items() for word in (f'--{name}', rate)]
        self.program = lab.start('impair', 'impair', '--listen', '127.0.0.1:0', '--to', f'127.0.0.1:{port}',
                                 '--marker', MARKER.hex(), *options)
        bound = address(self.program.ready()['plain'][0])
        self.invite = invite.replace(f':{port}/', f':{bound[1]}/')

    def ledgers(self):
        """Ends the network; what it did."""
        self.program.stop()
        return json.loads(self.program.out.splitlines()[-1])


def through(lab, **rates):
    folder, port, invite = lab.init()
    server = lab.server(folder)
    network = BadNetwork(lab, port, invite, **rates)
    return server, network, lab.client(network.invite)


def exchange(app, target, count, seed):
    """Sends numbered payloads of many sizes and gathers what comes back; nothing is sent twice."""
    draw = random.Random(seed)
    sent = {}
    got = []
    app.udp.settimeout(0)

    def gather():
        while True:
            try:
                got.append(app.receive()[0])
            except BlockingIOError:
                return
    for number in range(count):
        payload = MARKER + number.to_bytes(4, 'big') + draw.randbytes(draw.randrange(0, 1100))
        sent[number] = payload
        app.send(payload, target)
        if number % 4 == 3:
            time.sleep(0.002)
            gather()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        time.sleep(0.02)
        gather()
    return sent, got


@pytest.mark.slow
@pytest.mark.parametrize('rates', [
    {'seed': 11, 'loss': 300},
    {'seed': 12, 'loss': 300, 'reorder': 200, 'duplicate': 100, 'corrupt': 100, 'replay': 100},
    {'seed': 13, 'corrupt': 300, 'replay': 300},
], ids=['loss', 'everything', 'attacks'])
def test_whatever_arrives_is_what_was_sent_and_arrives_once(lab, rates):
    echo = lab.open(UdpEcho(keep=True))
    server, network, client = through(lab, **rates)
    app = lab.open(SocksUdp(client.socks))
    sent, got = exchange(app, echo.address, 1500, rates['seed'])
    numbers = [int.from_bytes(payload[16:20], 'big') for payload in got]
    assert len(numbers) == len(set(numbers)), 'a datagram was delivered twice'
    assert all(sent[number] == payload for number, payload in zip(numbers, got, strict=True)), 'a datagram was altered'
    assert len(set(echo.received)) == len(echo.received) and set(echo.received) <= set(sent.values())
    assert len(got) > 300

    up, down = server.status()['up'], client.status()['down']
    ledgers = network.ledgers()
    made = sum(ledgers[way][kind] for way in ('up', 'down') for kind in ('duplicated', 'replayed', 'corrupted'))
    refused = sum(ledger['drops'][reason] for ledger in (up, down) for reason in REPLAYS + FORGERIES)
    # four times a second the client asks whether the path is alive: what that brings while we look is on its way
    assert 0 <= made - refused <= ON_ITS_WAY
    assert sum(ledger['drops'][reason] for ledger in (up, down) for reason in REPLAYS) \
        >= sum(ledgers[way][kind] for way in ('up', 'down') for kind in ('duplicated', 'replayed')) - ON_ITS_WAY
    for ledger in (up, down):
        assert ledger['received'] == sum_ledger(ledger)
    assert ledgers['up']['clear'] == ledgers['down']['clear'] == ledgers['tcp_clear'] == 0


def test_the_network_would_see_a_payload_in_the_clear(lab, echo):
    """The marker check can fail: a plain datagram through the same network is counted."""
    program = lab.start('impair', 'impair', '--listen', '127.0.0.1:0', '--to', f'127.0.0.1:{echo.address[1]}',
                        '--marker', MARKER.hex())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b'...' + MARKER, address(program.ready()['plain'][0]))
        assert sock.recv(100) == b'...' + MARKER
    program.stop()
    ledgers = json.loads(program.out.splitlines()[-1])
    assert ledgers['up']['clear'] == 1 and ledgers['down']['clear'] == 1


def test_a_path_is_found_through_heavy_loss(lab, echo):
    """With half of all datagrams lost UDP is found all the same; the warning may come first."""
    server, _, client = through(lab, seed=5, loss=500)
    app = lab.open(SocksUdp(client.socks))
    _, got = exchange(app, echo.address, 200, 5)
    answered = len(got)
    assert answered > 5
    assert server.status()['sessions'] == 1
