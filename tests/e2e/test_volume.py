"""Many datagrams through one session: none lost, none changed, every one accounted for on both sides."""
import multiprocessing
import random
import socket

import pytest

from harness import SocksUdp, socks_address, sum_ledger

ASSOCIATIONS = 100
COUNT = 50000
WINDOW = 50  # datagrams on their way at a time: what the smallest socket buffer on the way holds


def echo_forever(sock):
    while True:
        data, source = sock.recvfrom(65536)
        sock.sendto(data, source)


@pytest.fixture
def echo_process(lab):
    """An echo target that does not share this process's interpreter; its address."""
    sock = lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(('127.0.0.1', 0))
    process = multiprocessing.get_context('fork').Process(target=echo_forever, args=(sock,), daemon=True)
    process.start()
    yield sock.getsockname()
    process.kill()
    process.join()


def exchange(apps, header, payloads):
    """Every payload through the associations in turn, a window at a time; the answers are compared, the source too."""
    for start in range(0, len(payloads), WINDOW):
        window = [(apps[number % len(apps)].udp, header + payloads[number])
                  for number in range(start, min(start + WINDOW, len(payloads)))]
        for sock, packet in window:
            sock.send(packet)
        for sock, packet in window:
            assert sock.recv(2048) == packet


def test_every_datagram_comes_back_as_it_was_and_is_accounted_for(lab, echo_process):
    seed = random.randrange(1 << 32)
    generator = random.Random(seed)
    server, client = lab.pair()
    assert client.words['path'] == 'udp'
    apps = [lab.open(SocksUdp(client.socks, timeout=10)) for _ in range(ASSOCIATIONS)]
    block = generator.randbytes(1 << 16)
    payloads = []
    for number in range(COUNT):
        size, offset = generator.randint(16, 1200), generator.randrange((1 << 16) - 1200)
        payloads.append(number.to_bytes(8, 'big') + block[offset:offset + size - 8])
    size = sum(map(len, payloads))
    exchange(apps, b'\0\0\0' + socks_address(*echo_process), payloads)

    status, own = server.status(), client.status()
    assert status['sessions'] == status['sessions_opened'] == status['sessions_on_udp'] == 1, f'seed {seed}'
    assert status['tls_handshakes'] == own['tls_handshakes'] == 1
    assert status['associations'] == ASSOCIATIONS
    for program, way in ((status, 'up'), (status, 'down'), (own, 'up'), (own, 'down')):
        ledger = program[way]
        assert ledger['received'] == sum_ledger(ledger), (program['role'], way, ledger)
        assert ledger['forwarded'] == COUNT, (program['role'], way, ledger)
        assert ledger['forwarded_bytes'] == size, (program['role'], way, ledger)
        assert set(ledger['drops'].values()) <= {0} and ledger['queued'] == 0, (program['role'], way, ledger)
        assert ledger['streamed'] == 0, (program['role'], way, ledger)
