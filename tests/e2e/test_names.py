"""The ways in which applications and people write a host: final dots, brackets, zones, localhost, wildcards, broadcasts."""
import contextlib
import pathlib
import socket

import pytest

import network as networks
from harness import CONNECT, SocksUdp, TcpServer, UdpEcho, echo_stream, free_port, receive, run, socks_request, wait_for

NO_SUCH_HOST = 4


def name(text, port):
    return b'\3' + bytes([len(text)]) + text.encode() + port.to_bytes(2, 'big')


@pytest.fixture
def everywhere(lab):
    """A TCP echo at one port of 127.0.0.1 and ::1."""
    port = free_port(socket.AF_INET6)
    lab.open(TcpServer(echo_stream, port=port))
    lab.open(TcpServer(echo_stream, '::1', port))
    return port


def test_names_as_applications_write_them(lab, everywhere):
    _, client = lab.pair()
    for text in 'localhost', 'localhost.', 'LocalHost.', '127.0.0.1', '127.0.0.1.', '::1', '[::1]', '::1%lo', '[::1%lo]':
        sock, code, _ = socks_request(client.socks, CONNECT, None, None, raw_address=name(text, everywhere))
        with sock:
            assert code == 0, f'{text}: reply {code}'
            sock.sendall(b'hello')
            assert receive(sock, 5) == b'hello', text
    for text in 'fe80::1%eth0', '[fe80::1%eth0]', '[127.0.0.1]', 'a:b', '127.0.0.1%lo':
        sock, code, _ = socks_request(client.socks, CONNECT, None, None, raw_address=name(text, everywhere))
        sock.close()
        assert code == NO_SUCH_HOST, f'{text}: reply {code}'


def test_datagrams_to_names_as_applications_write_them(lab):
    port = free_port(socket.AF_INET6)
    lab.open(UdpEcho(port=port))
    lab.open(UdpEcho('::1', port))
    _, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    for text in 'localhost.', '127.0.0.1.', '[::1]', '::ffff:127.0.0.1':
        app.udp.send(b'\0\0\0' + name(text, port) + text.encode())
        assert app.receive()[0] == text.encode()


def test_an_invite_and_a_target_with_a_final_dot(lab, named_echo):
    folder, _, invite = lab.init(host='localhost')
    lab.server(folder)
    client = lab.client(invite.replace('@localhost:', '@localhost.:'), '--forward',
                        f'udp:localhost:0=localhost.:{named_echo.address[1]}')
    assert client.forwards[0][0] == '127.0.0.1'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app:
        app.settimeout(10)
        app.sendto(b'hello', client.forwards[0])
        assert app.recv(99) == b'hello'


def test_a_zone_is_answered_with_what_to_do():
    for argv in (['client', '--socks', '[fe80::1%eth0]:1080', '-'], ['init', 'd', '--listen', '[fe80::1%eth0]:1443']):
        done = run(*argv)
        assert done.returncode == 2 and 'an address with a zone (%eth0) is not supported' in done.stderr


def test_a_wildcard_of_ipv6_takes_ipv4_too(lab, tcp_echo, echo):
    folder, _, invite = lab.init()
    lab.server(folder)
    password = lab.folder / 'password'
    password.write_text('secret\n')
    password.chmod(0o600)
    client = lab.start('client', 'client', '--socks', '[::]:0', '--socks-user', 'joe', '--socks-password-file', password,
                       '--forward', f'tcp:[::]:0=127.0.0.1:{tcp_echo.address[1]}',
                       '--forward', f'udp:[::]:0=127.0.0.1:{echo.address[1]}', invite)
    words = client.ready()
    port = int(words['socks'].rpartition(':')[2])
    forwards = [int(text.rpartition(':')[2]) for text in words['forward']]
    for host in '127.0.0.1', '::1':
        with socket.create_connection((host, port), 10) as sock:
            sock.sendall(b'\5\1\2' + b'\1\3joe\6secret')
            assert receive(sock, 4) == b'\5\2\1\0'
        with socket.create_connection((host, forwards[0]), 10) as sock:
            sock.sendall(b'hello')
            assert receive(sock, 5) == b'hello'
        with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            sock.sendto(b'hello', (host, forwards[1]))
            assert sock.recvfrom(99)[0] == b'hello'


@pytest.mark.netns
def test_a_wildcard_without_a_port_gets_one_that_both_families_have(lab, network):
    """Of twelve ports eight are taken for IPv4 alone."""
    def take(kind, port):
        sock = lab.open(socket.socket(socket.AF_INET, kind))
        sock.bind(('0.0.0.0', port))

    for port in range(40000, 40008):
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            network.call(networks.CLIENT, take, kind, port)
    _, invite, _ = network.server()
    ports = pathlib.Path('/proc/sys/net/ipv4/ip_local_port_range')
    network.call(networks.CLIENT, ports.write_text, '40000 40011')
    client = network.client(invite, '--forward', 'tcp:[::]:0=127.0.0.1:9', '--forward', 'udp:[::]:0=127.0.0.1:9', socks=False)
    for host, port in client.forwards:
        assert host == '::' and 40008 <= port <= 40011


def test_both_wildcards_may_be_named(lab):
    folder, _, invite = lab.init()
    lab.server(folder)
    port = free_port(socket.AF_INET6)
    client = lab.client(invite, '--forward', f'tcp:[::]:{port}=127.0.0.1:9', '--forward', f'tcp:0.0.0.0:{port}=127.0.0.1:9')
    assert [at[0] for at in client.forwards] == ['::', '0.0.0.0']


def test_a_broadcast_that_allow_opens_arrives(lab):
    """127.255.255.255 is the broadcast address of the loopback interface."""
    echo = lab.open(UdpEcho('0.0.0.0', keep=True))
    server, client = lab.pair()
    app = lab.open(SocksUdp(client.socks))
    app.send(b'to all', ('127.255.255.255', echo.address[1]))
    wait_for(lambda: echo.received == [b'to all'], 10, 'the broadcast')
    assert 'send_failed' not in {key for key, count in server.status()['up']['drops'].items() if count}


def test_a_broadcast_that_is_not_opened_does_not(lab):
    server, client = lab.pair(server_options=['--allow', '127.0.0.1/32'])
    app = lab.open(SocksUdp(client.socks))
    app.send(b'to all', ('255.255.255.255', 9))
    wait_for(lambda: server.status()['up']['drops'].get('policy') == 1, 10, 'the refusal')


@pytest.mark.parametrize('protocol, spoken', [
    ('HTTP', b'GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n'),
    ('HTTP', b'CONNECT example.org:443 HTTP/1.1\r\n\r\n'),
    ('TLS', bytes.fromhex('16030100050100000100')),
    ('SOCKS4', b'\4\1\0\x50\x7f\0\0\1\0'),
    ('no SOCKS5', b'hello\r\n')])
def test_other_protocols_at_the_socks_port_are_named_once(lab, protocol, spoken):
    _, client = lab.pair()
    for _ in range(3):
        with socket.create_connection(client.socks, 10) as sock:
            last = '{}:{}'.format(*sock.getsockname())
            sock.sendall(spoken)
            with contextlib.suppress(ConnectionResetError):  # as good an end
                assert sock.recv(99) == b''

    def lines():
        return [line for line in client.err.splitlines() if 'SOCKS5 only' in line]
    assert len(lines()) == 1 and last not in lines()[0]
    assert f' speaks {protocol} to ' in lines()[0] and 'set its proxy to socks5h://{}:{}'.format(*client.socks) in lines()[0]
