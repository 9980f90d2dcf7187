"""Bursts that travel as one packet (GSO): what one datagram of them is allowed, or where it goes, holds for no other."""
import contextlib
import random
import socket

import pytest

from harness import SocksUdp, UdpEcho, parse_address, socks_address, sum_ledger, wait_for

UDP_SEGMENT = 103
COUNT = 40


def send_burst(sock, datagrams):
    """All of one length, but the last, which may be shorter, in one packet."""
    length = len(datagrams[0])
    assert all(len(datagram) == length for datagram in datagrams[:-1]) and len(datagrams[-1]) <= length
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, length)
    sock.send(b''.join(datagrams))
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)


def take_all(sock, count):
    """(payload, source) of so many answers."""
    found = []
    for _ in range(count):
        packet = sock.recv(65536)
        assert packet[:3] == b'\0\0\0'
        source, data = parse_address(packet[3:])
        found.append((data, source[:2]))
    return found


@pytest.fixture
def echoes(lab):
    """Three targets: two at one address, one at another."""
    return [lab.open(UdpEcho(host, keep=True)) for host in ('127.0.0.1', '127.0.0.1', '127.0.0.2')]


def payload(number):
    return b'%04d' % number + random.Random(number).randbytes(60)


@pytest.mark.parametrize('seed', range(4))
def test_each_datagram_of_a_burst_goes_to_its_own_target(lab, echoes, seed):
    draw = random.Random(seed)
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'warm', echoes[0].address)[0] == b'warm'
    sent = []
    for burst in range(10):
        # runs and single ones, in any mixture; headers of one length
        way = [echo for echo in draw.choices(echoes, k=12) for _ in range(draw.choice((1, 1, 2, 5)))][:COUNT]
        send_burst(app.udp, [b'\0\0\0' + socks_address(*echo.address) + payload(100 * burst + number)
                             for number, echo in enumerate(way)])
        expected = [(payload(100 * burst + number), echo.address) for number, echo in enumerate(way)]
        assert sorted(take_all(app.udp, len(way))) == sorted(expected)
        sent += expected
    for echo in echoes:
        mine = [data for data, target in sent if target == echo.address]
        assert [data for data in echo.received if data != b'warm'] == mine, 'in order, and nothing of the others'
    for end in (server, client):
        for way in ('up', 'down'):
            ledger = end.status()[way]
            assert ledger['received'] == sum_ledger(ledger) and not ledger['drops'].get('malformed')


def test_a_burst_may_mix_good_and_bad(lab, echoes):
    """What is refused in the middle of a burst is refused for itself: a fragment, another family, a closed target."""
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    good = socks_address(*echoes[0].address)
    assert app.ask(b'warm', echoes[0].address)[0] == b'warm'
    before = client.status()['up']
    private = socks_address('10.9.8.7', 5)
    parts = []
    for number in range(COUNT):
        head = {3: b'\0\0\1' + good, 4: b'\0\0\0\x09' + good[1:], 5: b'\0\1\0' + good, 6: b'\0\0\0' + private}
        parts.append(head.get(number % 10, b'\0\0\0' + good) + payload(number))
    send_burst(app.udp, [part.ljust(max(map(len, parts)), b'.') for part in parts])
    passed = [number for number in range(COUNT) if number % 10 not in (3, 4, 5, 6)]
    assert sorted(data[:64] for data, _ in take_all(app.udp, len(passed))) == sorted(payload(number) for number in passed)
    assert [data[:64] for data in echoes[0].received[1:]] == [payload(number) for number in passed]
    drops = client.status()['up']['drops']
    assert drops['fragment'] == COUNT // 10 and drops['malformed'] == 2 * COUNT // 10
    assert client.status()['up']['received'] - before['received'] == COUNT
    wait_for(lambda: server.status()['up']['drops'].get('policy') == COUNT // 10, 5, 'private targets refused')
    ledger = server.status()['up']
    assert ledger['received'] == sum_ledger(ledger)


def test_the_last_of_a_burst_may_end_anywhere(lab):
    """Also within the header that those before it had; ever shorter, and with no answers, so that what was cut off still
    lies in the buffer."""
    _, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    target = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    target.bind(('127.0.0.1', 0))
    target.settimeout(5)
    whole = b'\0\0\0' + socks_address(*target.getsockname())
    for cut in range(len(whole) + 2, 0, -1):
        send_burst(app.udp, [whole + payload(1), whole + payload(2), (whole + payload(3))[:cut]])
        expected = [payload(1), payload(2)] + [payload(3)[:cut - len(whole)]] * (cut >= len(whole))
        assert [target.recv(100) for _ in expected] == expected
    ledger = client.status()['up']
    assert ledger['drops']['malformed'] == len(whole) - 1 and ledger['received'] == sum_ledger(ledger)


def test_the_source_of_each_answer_is_its_own(lab):
    """Two targets answer through one socket of the server at a time, and what nobody asked for comes in between."""
    _, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    targets = [lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
    stranger = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    stranger.bind(('127.0.0.3', 0))
    for target in targets:
        target.bind(('127.0.0.1', 0))
        target.settimeout(5)
        app.send(b'hello', target.getsockname())
    outside = [target.recvfrom(100)[1] for target in targets]
    assert outside[0] == outside[1], 'one port for all targets'
    for target in targets:
        target.connect(outside[0])
    stranger.connect(outside[0])
    for number in range(20):
        send_burst(targets[number % 2], [payload(100 * number + i) for i in range(5)])
        send_burst(stranger, [payload(7)] * 3)
    found = take_all(app.udp, 100)
    assert sorted(found) == sorted((payload(100 * number + i), targets[number % 2].getsockname())
                                   for number in range(20) for i in range(5))


def test_a_limit_in_the_middle_of_a_burst(lab, echoes):
    """The datagrams of a burst are paid for one by one."""
    server, client = lab.pair(config='user_limits:\n  alice:\n    datagrams_per_second: 20\n')
    app = lab.open(SocksUdp(client.socks))
    send_burst(app.udp, [b'\0\0\0' + socks_address(*echoes[0].address) + payload(number) for number in range(COUNT)])
    wait_for(lambda: (up := server.status()['up'])['received'] - up['session'] == COUNT, 5, 'the burst')
    ledger = server.status()['up']
    assert ledger['received'] == sum_ledger(ledger)
    assert 0 < ledger['drops']['rate'] < COUNT and ledger['forwarded'] == COUNT - ledger['drops']['rate']
    wait_for(lambda: len(echoes[0].received) == ledger['forwarded'], 5, 'the others')
    assert echoes[0].received == [payload(number) for number in range(ledger['forwarded'])], 'the first ones'


def test_sources_at_a_forward_keep_apart(lab, echo):
    """A forward's socket brings bursts of several sources at once."""
    _, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(6)]
        for sock in sources:
            sock.settimeout(5)
            sock.connect(client.forwards[0])
            sock.send(b'warm')
            assert sock.recv(100) == b'warm'
        for turn in range(5):
            for number, sock in enumerate(sources):
                send_burst(sock, [payload(1000 * number + 100 * turn + i) for i in range(10)])
        for number, sock in enumerate(sources):
            found = [sock.recv(200) for _ in range(50)]
            assert sorted(found) == sorted(payload(1000 * number + 100 * turn + i) for turn in range(5) for i in range(10))
