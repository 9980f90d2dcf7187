"""What the kernel drops because a program was too slow is counted, on every socket that datagrams come by."""
import signal
import socket

import pytest

from harness import SocksUdp, sum_ledger, wait_for

FLOOD = 20000  # of 1000 bytes: more than any buffer here holds


def flood(sock, target, held):
    """Sends more than fits while a program does not run."""
    held.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(FLOOD):
            sock.sendto(bytes(1000), target)
    finally:
        held.process.send_signal(signal.SIGCONT)


def check(program, way, poke):
    """Datagrams that come after a loss tell of it; the ledger holds."""
    def counted():
        poke()
        return program.status()[way]['drops'].get('kernel', 0) > 0
    wait_for(counted, 10, 'the loss')
    ledger = program.status()[way]
    assert ledger['received'] == sum_ledger(ledger)
    assert ledger['drops']['kernel'] < FLOOD


@pytest.fixture
def sock(lab):
    return lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def test_at_the_port_of_a_server(lab, sock):
    folder, port, _ = lab.init()
    server = lab.server(folder)
    flood(sock, ('127.0.0.1', port), server)
    check(server, 'up', lambda: sock.sendto(b'late', ('127.0.0.1', port)))


@pytest.fixture
def used(lab, echo):
    """Server, client, an application that had an answer through them, and where the target saw it."""
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'x', echo.address)[0] == b'x'
    return server, client, app, echo.sources[0]


def test_from_targets(used, echo):
    server, _, _, outside = used
    flood(echo.sock, outside, server)
    check(server, 'down', lambda: echo.sock.sendto(b'late', outside))


@pytest.mark.parametrize('way', ['forward', 'associate'])
def test_from_applications(lab, echo, sock, way):
    _, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'x', echo.address)[0] == b'x'
    relay = client.forwards[0] if way == 'forward' else app.relay
    flood(app.udp if way == 'associate' else sock, relay, client)
    check(client, 'up', lambda: sock.sendto(b'late', relay))


def test_from_the_server(used, echo):
    """The client's socket is connected, so that only the server can fill it."""
    _, client, app, outside = used
    flood(echo.sock, outside, client)
    check(client, 'down', lambda: app.send(b'late', echo.address))
