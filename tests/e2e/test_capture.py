"""What a listener on the wire sees: records and TLS, no payload, name, user or token; and a firewall on the wire."""
import os
import socket
import subprocess

import pytest

from direct import credentials
from harness import (CONNECT, MARKER, SEALGRAM, SocksUdp, TcpServer, UdpEcho, echo_stream, receive, socks_request,
                     sum_ledger, wait_for)
from network import CLIENT, HOSTS, HOSTS_6, PORT, SERVER, Capture, tls_records

pytestmark = pytest.mark.netns
NAME = 'secret-name.invalid'
COUNT = 20
WARNING = f'no answer from {HOSTS[SERVER]}:{PORT} by UDP within 3 s: datagrams travel inside TLS; ' \
          f'does a firewall block UDP port {PORT}?'


class Targets:
    """An echo for UDP and one for TCP, on the server's own loopback."""

    def __init__(self, network, host='127.0.0.1'):
        self.udp = network.lab.open(network.call(SERVER, UdpEcho, host))
        self.tcp = network.lab.open(network.call(SERVER, TcpServer, echo_stream, host))


@pytest.fixture
def targets(network):
    return Targets(network)


def payload(size=200):
    return MARKER * (size // len(MARKER) + 1)


def udp_socket(network):
    sock = network.lab.open(network.call(CLIENT, socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
    sock.settimeout(5)
    return sock


def start(network, targets, host=HOSTS[SERVER]):
    """(token, server, client), the client with a forward of each kind."""
    _, invite, server = network.server()
    invite = invite.replace(HOSTS[SERVER], host)
    client = network.client(invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{targets.udp.address[1]}',
                            '--forward', f'tcp:127.0.0.1:0=127.0.0.1:{targets.tcp.address[1]}')
    return credentials(invite)[1], server, client


def exchange_markers(network, targets, client):
    """Payloads full of markers both ways, by every way that there is."""
    sock = udp_socket(network)
    app = network.lab.open(network.call(CLIENT, SocksUdp, client.socks))
    for size in [16, 200, 1000] * COUNT + [3000, 30000, 60000]:  # the last ones are too long for a record here
        data = payload(size)
        sock.sendto(data, client.forwards[0])
        assert sock.recv(65536) == data
        assert app.ask(data, targets.udp.address)[0] == data
    app.send(payload(), (NAME, 53))
    tcp, code, _ = network.call(CLIENT, socks_request, client.socks, CONNECT, *targets.tcp.address)
    assert code == 0
    for stream in (tcp, network.call(CLIENT, socket.create_connection, client.forwards[1], 10)):
        with stream:
            stream.sendall(payload(50_000))
            assert receive(stream, len(payload(50_000))) == payload(50_000)


def check_nothing_is_seen(capture, token):
    for carried in capture.everything():
        for secret in (MARKER, NAME.encode(), token.encode(), b'alice', b'secret-name'):
            assert secret not in carried, secret


def check_streams(capture, count):
    """All TCP is TLS to its last byte: one stream each way for the control stream, and for each CONNECT."""
    assert len(capture.streams) == 2 * count
    for stream in capture.streams.values():
        records = tls_records(stream)
        assert records[0][0] == 22 and {kind for kind, _ in records[1:]} <= {20, 21, 23}


@pytest.mark.parametrize('host', [HOSTS[SERVER], f'[{HOSTS_6[SERVER]}]'])
def test_no_marker_is_seen_on_the_wire(network, targets, host):
    capture = Capture(network)
    token, server, client = start(network, targets, host)
    assert client.words['path'] == 'udp'
    exchange_markers(network, targets, client)
    wait_for(lambda: server.status()['up']['drops'].get('resolve_failed') == 1, what='drop resolve_failed')
    capture.stop()
    check_nothing_is_seen(capture, token)
    check_streams(capture, 3)
    assert all(PORT in ports and data[0] == 8 and len(data) >= 46 for *ports, data in capture.udp)
    for which in (0, 1):
        assert sum(datagram[which] == PORT and len(datagram[2]) > 200 for datagram in capture.udp) >= 4 * COUNT
    assert capture.before_udp > 1000, 'UDP before the handshake'
    nonces = [data[1:25] for *_, data in capture.udp]
    assert len(set(nonces)) == len(nonces), 'a nonce was used twice'
    assert targets.udp.count == 2 * (3 * COUNT + 3)


@pytest.mark.parametrize('wrong', ['token', 'pin'])
def test_nothing_is_sent_by_udp_without_a_login(lab, network, wrong):
    _, invite, _ = network.server()
    token, pin = credentials(invite)[1], invite.partition('sha256:')[2]
    right = {'token': token, 'pin': pin}[wrong]
    invite = invite.replace(right, right[:8] + ('A' if right[8] != 'A' else 'B') + right[9:])
    path = lab.folder / 'wrong.invite'
    path.write_text(invite + '\n')
    path.chmod(0o600)
    capture = Capture(network)
    done = subprocess.run([*network.prefix(CLIENT), SEALGRAM, 'client', '--socks', '127.0.0.1:0', f'@{path}'],
                          env={**os.environ, 'XDG_RUNTIME_DIR': str(lab.folder)}, timeout=20, check=False,
                          capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == '', done.stderr
    capture.stop()
    connections = {'token': 3, 'pin': 1}[wrong]  # a refusal is tried again twice
    assert capture.udp == [] and len(capture.streams) == 2 * connections
    check_nothing_is_seen(capture, credentials(invite)[1])


def test_no_marker_is_seen_where_udp_is_blocked(network, targets):
    network.block_udp(SERVER)
    capture = Capture(network)
    token, server, client = start(network, targets)
    assert client.words['path'] == 'stream'
    exchange_markers(network, targets, client)
    assert server.status()['sessions_on_udp'] == 0
    capture.stop()
    check_nothing_is_seen(capture, token)
    check_streams(capture, 3)
    assert capture.udp and all(data[0] == 8 for *_, data in capture.udp), 'probes only'
    assert all(source != PORT and len(data) < 200 for source, _, data in capture.udp)


def test_the_capture_would_see_a_marker(network):
    """The check can fail: the same payloads without Sealgram are seen, in datagrams and in streams."""
    targets = Targets(network, HOSTS[SERVER])
    capture = Capture(network)
    sock = udp_socket(network)
    sock.sendto(payload(), targets.udp.address)
    assert sock.recv(1000) == payload()
    with network.call(CLIENT, socket.create_connection, targets.tcp.address, 10) as stream:
        stream.sendall(payload(50_000))
        assert receive(stream, len(payload(50_000))) == payload(50_000)
    capture.stop()
    assert MARKER in capture.raw
    with pytest.raises(AssertionError, match=MARKER.decode()):
        check_nothing_is_seen(capture, NAME)
    assert [data for *_, data in capture.udp] == [payload()] * 2
    assert list(capture.streams.values()) == [payload(50_000)] * 2
    for stream in capture.streams.values():
        with pytest.raises(AssertionError, match='no TLS'):
            tls_records(stream)


@pytest.mark.parametrize('side', [SERVER, CLIENT], ids=['questions blocked', 'answers blocked'])
def test_datagrams_inside_tls_where_udp_is_blocked(network, targets, side):
    """Said once; and UDP is used as soon as it gets through."""
    network.block_udp(side)
    _, server, client = start(network, targets)
    assert client.words['line'].endswith(' path=stream')
    app = network.lab.open(network.call(CLIENT, SocksUdp, client.socks))
    for number in range(COUNT):
        data = b'%d' % number + bytes(number * 500)
        assert app.ask(data, targets.udp.address) == (data, targets.udp.address)
    assert server.status()['sessions_on_udp'] == 0
    network.unblock_udp(side)
    wait_for(lambda: server.status()['sessions_on_udp'] == 1, 20, 'the path by UDP')
    assert app.ask(b'by UDP', targets.udp.address) == (b'by UDP', targets.udp.address)
    assert [line for line in client.err.splitlines() if 'warning' in line] == [f'sealgram: warning: {WARNING}']
    assert client.out.count('\n') == 1, 'ready is said once'
    for status in (server.status(), client.status()):
        for way in ('up', 'down'):
            assert status[way]['received'] == sum_ledger(status[way])
