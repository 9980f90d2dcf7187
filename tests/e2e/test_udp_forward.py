"""UDP forwards: unmodified programs reach ordinary servers, each source as an association of its own."""
import socket
import subprocess

from harness import UdpEcho, free_port, sum_ledger, wait_for


def start_dns(lab, program, *records):
    """A real DNS server with these records; its port."""
    port = free_port()
    process = subprocess.Popen([program('dnsmasq'), '--keep-in-foreground', f'--port={port}', '--listen-address=127.0.0.1',
                                '--bind-interfaces', '--no-resolv', '--no-hosts', '--pid-file=',
                                *[f'--address={record}' for record in records]],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    class Closer:
        @staticmethod
        def close():
            process.terminate()
            process.wait()
    lab.open(Closer)

    def answers():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.sendto(b'\0\1\1\0\0\1\0\0\0\0\0\0\4test\0\0\1\0\1', ('127.0.0.1', port))
            try:
                return probe.recv(512)
            except OSError:
                return None
    wait_for(answers, 10, 'dnsmasq')
    return port


def test_dig_through_a_forward_reaches_a_real_dns_server(lab, program):
    dns = start_dns(lab, program, '/sealed.test/192.0.2.77')
    server, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{dns}')
    done = subprocess.run([program('dig'), '+short', '+time=3', '+tries=1', '-p', str(client.forwards[0][1]), '@127.0.0.1',
                           'sealed.test'], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == '192.0.2.77\n'
    status = server.status()
    assert status['sessions'] == 1 and status['sessions_on_udp'] == 1
    assert status['up']['forwarded'] == 1 and status['down']['forwarded'] == 1


def test_each_source_is_an_association_with_a_port_of_its_own(lab, echo):
    server, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    sockets = [lab.open(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(5)]
    for number, sock in enumerate(sockets):
        sock.settimeout(5)
        sock.sendto(b'%d' % number, client.forwards[0])
    for number, sock in enumerate(sockets):
        assert sock.recv(100) == b'%d' % number
    assert len(echo.sources) == 5
    assert server.status()['associations'] == 5


def test_a_forward_to_a_name_and_over_ipv6(lab, echo6):
    _, client = lab.pair('--forward', f'udp:[::1]:0=[::1]:{echo6.address[1]}',
                         '--forward', f'udp:127.0.0.1:0=localhost:{echo6.address[1]}')
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b'six', client.forwards[0])
        assert sock.recv(100) == b'six'


def test_sizes_from_nothing_to_the_largest(lab, echo):
    """Above the path's size datagrams go inside TLS; none is cut."""
    server, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for size in (0, 1, 1159, 1160, 1400, 9000, 65000, 65455, 65456, 65507):
            data = bytes(range(256)) * 256
            sock.sendto(data[:size], client.forwards[0])
            assert sock.recv(65536) == data[:size]
    for ledger in (server.status()['up'], server.status()['down'], client.status()['up'], client.status()['down']):
        assert ledger['received'] == sum_ledger(ledger)
        assert sum(ledger['drops'].values()) == 0


def test_a_forward_whose_datagrams_never_take_the_stream(lab, echo):
    """What fits into a record arrives, a byte more is too_big there, and goes by the stream from an ordinary forward."""
    target = f'127.0.0.1:{echo.address[1]}'
    server, client = lab.pair('--forward', f'udp-only:127.0.0.1:0={target}', '--forward', f'udp:127.0.0.1:0={target}')
    wait_for(lambda: client.status()['record_max'] == 65507 and server.status()['sessions_on_udp'] == 1, 5, 'the size')
    longest = client.status()['datagram_max_ipv4']
    assert longest == 65507 - 41 - 4 - 7 and client.status()['datagram_max_ipv6'] == longest - 12
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as only, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_way:
        only.connect(client.forwards[0])
        any_way.connect(client.forwards[1])
        for sock in only, any_way:
            sock.settimeout(5)
            sock.send(bytes(longest))
            assert len(sock.recv(65536)) == longest
        before = client.status()['up']
        assert before['drops'].get('too_big', 0) == 0
        only.send(bytes(longest + 1))
        any_way.send(bytes(longest + 1))
        assert len(any_way.recv(65536)) == longest + 1
        after = client.status()['up']
        assert after['drops']['too_big'] == 1 and after['streamed'] == before['streamed'] + 1
        only.send(b'and on')
        assert only.recv(100) == b'and on'


def test_it_is_dropped_while_there_is_no_udp(lab, echo):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:  # nobody reads there
        closed.bind(('127.0.0.1', 0))
        _, client = lab.pair('--forward', f'udp-only:127.0.0.1:0=127.0.0.1:{echo.address[1]}',
                             config=f'advertise: 127.0.0.1:{closed.getsockname()[1]}')
        assert client.words['path'] == 'stream'
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as app:
            app.sendto(b'x', client.forwards[0])
            wait_for(lambda: client.status()['up']['drops'].get('no_path') == 1, 5, 'the drop')
    status = client.status()
    assert status['up']['streamed'] == 0 and echo.count == 0
    assert (status['datagram_max_ipv4'], status['datagram_max_ipv6']) == (None, None)
