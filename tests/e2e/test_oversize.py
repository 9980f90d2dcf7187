"""Datagrams that are too long for one record travel inside TCP: the log and the status say so, once, with what would fit."""
import re
import socket

import pytest

from harness import SocksUdp, UdpEcho, wait_for
from network import CLIENT, SERVER

LONG = 65500  # fits a UDP datagram, and no record beside its address


def lines(program, text='too long for one record'):
    return [line for line in program.err.splitlines() if text in line]


def forwarded(client, count=1):
    """Applications of a forward."""
    apps = []
    for _ in range(count):
        app = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        app.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        app.settimeout(10)
        app.connect(client.forwards[0])
        apps.append(app)
    return apps


def ask(app, size):
    app.send(b'x' * size)
    assert len(app.recv(65536)) == size


def settled(client):
    wait_for(lambda: client.status()['path'] == 'udp' and client.status()['record_max'] > 9000, 10, 'the longest record')


def test_a_datagram_that_fits_no_record_is_told_of_once_for_each_flow(lab, echo):
    server, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    settled(client)
    first, second = map(lab.open, forwarded(client, 2))
    for _ in range(3):
        ask(first, LONG)
    fits = client.status()['datagram_max_ipv4']
    up, down = wait_for(lambda: len(lines(client)) == 2 and lines(client), 5, 'a line for each way')
    assert f'datagrams of {LONG} bytes to 127.0.0.1:{echo.address[1]} are too long for one record: they go inside TLS over TCP' in up
    assert f'Up to {fits} bytes fit: ' in up and 'mtu, mssfix' in up and 'udp-only:' in up
    assert f'datagrams of {LONG} bytes from 127.0.0.1:{echo.address[1]} are too long' in down and f'Up to {fits} bytes' in down
    ask(second, LONG)
    wait_for(lambda: len(lines(client)) == 4, 5, 'lines for the other flow')
    ask(second, fits)
    assert client.status()['up']['oversized'] == client.status()['down']['oversized'] == 4
    assert len(lines(client)) == 4 and server.status()['down']['oversized'] == 4
    assert len(lines(server)) == 2, 'the server: once for each association'


def test_udp_only_says_what_it_drops(lab, echo):
    _, client = lab.pair('--forward', f'udp-only:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    settled(client)
    app, = map(lab.open, forwarded(client))
    app.send(b'x' * LONG)
    line, = wait_for(lambda: lines(client), 5, 'the line')
    assert 'they are dropped, since the forward is udp-only' in line and 'mtu, mssfix' in line
    assert re.search(r'Up to \d+ bytes fit', line)
    assert client.status()['up']['oversized'] == client.status()['up']['drops']['too_big'] == 1


def test_an_association_and_masked_addresses(lab, echo):
    _, client = lab.pair('--log-addresses', 'masked')
    settled(client)
    app = lab.open(SocksUdp(client.socks))
    app.udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    app.ask(b'x' * 65490, echo.address)
    assert 'to 127.0.0.0:' in wait_for(lambda: lines(client), 5, 'the line')[0] and '127.0.0.1' not in lines(client)[0]


def test_nothing_is_said_while_all_travels_inside_tls(lab, echo):
    """Without UDP the size is not the reason."""
    folder, _, invite = lab.init()
    lab.edit_config(folder, 'advertise: "127.0.0.1:9"')
    lab.server(folder)
    client = lab.client(invite)
    assert client.words['path'] == 'stream'
    app = lab.open(SocksUdp(client.socks))
    app.udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    app.ask(b'x' * 65490, echo.address)
    assert client.status()['up']['streamed'] == 1 and client.status()['up']['oversized'] == 0 and not lines(client)


@pytest.mark.netns
def test_classes_of_sizes_on_an_ordinary_path(network):
    """What OpenVPN sends by default is an Ethernet frame; a longer one is another class."""
    _, invite, _ = network.server()
    echo = network.call(SERVER, UdpEcho)
    network.lab.open(echo)
    client = network.client(invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    wait_for(lambda: client.status()['record_max'] == 1472, 20, 'the longest record')
    app, = map(network.lab.open, network.call(CLIENT, forwarded, client))
    fits = client.status()['datagram_max_ipv4']

    def said():
        return [int(re.search(r'datagrams of (\d+) bytes to', line)[1]) for line in lines(client) if ' bytes to ' in line]
    for size in fits, fits + 1, 1472, 1471, 4000, 4001, 20000, 20001, fits + 1:
        ask(app, size)
    wait_for(lambda: said() == [fits + 1, 4000, 20000], 5, f'one line a class: {said()}')
    assert all(f'Up to {fits} bytes fit' in line for line in lines(client) if ' bytes to ' in line)
    assert client.status()['up']['oversized'] == 8
