"""CONNECT and BIND through client and server: large transfers by an unmodified program, exact codes, ends of streams."""
import hashlib
import http.server
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import BIND, CONNECT, TcpServer, echo_stream, free_port, read_reply, receive, socks_request, wait_for

LARGE = 100_000_000
ABSENT = 'no-such-name.invalid'


class Blob(http.server.BaseHTTPRequestHandler):
    """GET gives the server's blob, PUT answers with the SHA-256 of what came."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.send_header('Content-Length', str(len(self.server.blob)))
        self.end_headers()
        self.wfile.write(self.server.blob)

    def do_PUT(self):  # noqa: N802
        left, digest = int(self.headers['Content-Length']), hashlib.sha256()
        while left > 0:
            data = self.rfile.read(min(left, 1 << 20))
            digest.update(data)
            left -= len(data)
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Web(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host, blob):
        self.address_family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self.blob = blob
        super().__init__((host, 0), Blob)
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


@pytest.fixture(scope='module')
def blob():
    data = random.randbytes(LARGE)
    return data, hashlib.sha256(data).hexdigest()


def curl(program, client, option, url, *more):
    return subprocess.run([program('curl'), '-q', '-sS', '--fail', '--noproxy', '', '--max-time', '90', option,
                           f'127.0.0.1:{client.socks[1]}', *more, url], capture_output=True, check=True, timeout=100)


@pytest.mark.parametrize('option, host, target', [
    ('--socks5', '127.0.0.1', '127.0.0.1'), ('--socks5', '::1', '[::1]'), ('--socks5-hostname', '127.0.0.1', 'localhost')])
def test_curl_fetches_a_large_file(lab, program, blob, option, host, target):
    _, client = lab.pair()
    web = lab.open(Web(host, blob[0]))
    path = lab.folder / 'fetched'
    curl(program, client, option, f'http://{target}:{web.server_port}/', '-o', path)
    with open(path, 'rb') as file:
        assert hashlib.file_digest(file, 'sha256').hexdigest() == blob[1]


def test_curl_sends_a_large_file(lab, program, blob):
    _, client = lab.pair()
    web = lab.open(Web('127.0.0.1', b''))
    path = lab.folder / 'sent'
    path.write_bytes(blob[0])
    done = curl(program, client, '--socks5-hostname', f'http://localhost:{web.server_port}/', '-T', path)
    assert done.stdout.decode() == blob[1]


@pytest.fixture
def echo_stream_6(lab):
    return lab.open(TcpServer(echo_stream, '::1'))


@pytest.fixture
def two_addresses(lab, with_hosts):
    """A server for whom both.test is ::1 and 127.0.0.1 and six.test is ::1; the client."""
    prefix = with_hosts('::1 both.test six.test\n127.0.0.1 both.test\n')
    folder, _, invite = lab.init()
    lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=prefix).ready()
    return lab.client(invite)


def test_of_a_name_with_two_addresses_the_one_that_listens_is_found(lab, two_addresses, tcp_echo, echo_stream_6):
    for name, target in (('both.test', tcp_echo), ('both.test', echo_stream_6), ('six.test', echo_stream_6)):
        sock, code, _ = socks_request(two_addresses.socks, CONNECT, name, target.address[1])
        lab.open(sock)
        assert code == 0
        sock.sendall(b'found')
        assert receive(sock, 5) == b'found'


def test_curl_fetches_a_large_file_from_a_name_over_ipv6(lab, program, two_addresses, blob):
    web = lab.open(Web('::1', blob[0]))
    path = lab.folder / 'fetched'
    curl(program, two_addresses, '--socks5-hostname', f'http://six.test:{web.server_port}/', '-o', path)
    with open(path, 'rb') as file:
        assert hashlib.file_digest(file, 'sha256').hexdigest() == blob[1]


def test_the_reply_tells_the_address_that_the_target_sees(lab):
    seen = []
    target = lab.open(TcpServer(lambda connection: seen.append(connection.getpeername()) or connection.recv(1)))
    _, client = lab.pair()
    sock, code, bound = socks_request(client.socks, CONNECT, *target.address)
    lab.open(sock)
    assert code == 0
    wait_for(lambda: seen, what='connection')
    assert bound == seen[0]


# --- codes ---

def code_of(client, command, host, port, **options):
    """The code, and that the connection ends after it."""
    sock, code, bound = socks_request(client.socks, command, host, port, **options)
    with sock:
        assert bound == ('0.0.0.0', 0)
        assert sock.recv(1) == b''
    return code


@pytest.mark.parametrize('command, target, code', [
    (CONNECT, 'closed', 5), (CONNECT, 'closed name', 5), (CONNECT, 'closed 6', 5), (CONNECT, 'absent', 4),
    (BIND, 'absent', 4), (0, 'closed', 7), (4, 'closed', 7), (0xE8, 'closed', 7), (0xFF, 'closed', 7),
    (CONNECT, 'port 0', 2), (CONNECT, 'special', 2), (CONNECT, 'mapped special', 2), (CONNECT, 'multicast', 2)])
def test_codes(lab, command, target, code):
    _, client = lab.pair()
    port = free_port()
    host, port = {'closed': ('127.0.0.1', port), 'closed name': ('localhost', free_port(socket.AF_INET6)),
                  'closed 6': ('::1', port), 'absent': (ABSENT, 80), 'port 0': ('127.0.0.1', 0), 'special': ('10.9.8.7', 80),
                  'mapped special': ('::ffff:10.9.8.7', 80), 'multicast': ('224.0.0.251', 80)}[target]
    assert code_of(client, command, host, port) == code


@pytest.mark.parametrize('address_type', [0, 2, 5, 255])
def test_code_of_an_unknown_address_type(lab, address_type):
    _, client = lab.pair()
    assert code_of(client, CONNECT, None, None, raw_address=bytes([address_type, 127, 0, 0, 1, 0, 80])) == 8


def test_codes_where_nothing_special_is_allowed(lab, tcp_echo):
    folder, _, invite = lab.init(allow=())
    lab.server(folder)
    client = lab.client(invite)
    for host in ('127.0.0.1', 'localhost', '::ffff:127.0.0.1', '169.254.169.254'):
        assert code_of(client, CONNECT, host, tcp_echo.address[1]) == 2, host


def test_code_while_the_server_is_away(lab, tcp_echo):
    server, client = lab.pair('--forward', f'tcp:127.0.0.1:0=127.0.0.1:{tcp_echo.address[1]}')
    server.kill()
    wait_for(lambda: client.status()['session'] == 'down', what='the end of UDP')
    for command in (CONNECT, BIND, 3):
        start = time.monotonic()
        assert code_of(client, command, *tcp_echo.address) == 1
        assert time.monotonic() - start < 0.5
    with pytest.raises(ConnectionResetError), socket.create_connection(client.forwards[0], 5) as sock:
        sock.recv(1)


# --- forwards ---

def test_tcp_forwards(lab, tcp_echo, echo_stream_6):
    _, client = lab.pair('--forward', f'tcp:127.0.0.1:0=127.0.0.1:{tcp_echo.address[1]}',
                         '--forward', f'tcp:[::1]:0=[::1]:{echo_stream_6.address[1]}',
                         '--forward', f'tcp:127.0.0.1:0=localhost:{tcp_echo.address[1]}')
    for at in client.forwards:
        with socket.create_connection(at, 10) as sock:
            data = random.randbytes(300_000)
            writer = threading.Thread(target=lambda sock=sock, data=data: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            writer.start()
            assert receive(sock, len(data)) == data
            assert sock.recv(1) == b''
            writer.join()


def test_a_forward_whose_target_refuses_is_reset(lab):
    _, client = lab.pair('--forward', f'tcp:127.0.0.1:0=127.0.0.1:{free_port()}')
    with pytest.raises(ConnectionResetError), socket.create_connection(client.forwards[0], 10) as sock:
        sock.recv(1)


# --- ends of streams ---

class Held:
    """A target that keeps each connection for the test."""

    def __init__(self, lab):
        self.listener = lab.open(socket.create_server(('127.0.0.1', 0)))
        self.listener.settimeout(10)
        self.address = self.listener.getsockname()

    def accept(self):
        sock, _ = self.listener.accept()
        sock.settimeout(10)
        return sock


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


@pytest.fixture
def joined(lab):
    """An application and a target joined: (application, target, server, client)."""
    server, client = lab.pair()
    held = Held(lab)
    app, code, _ = socks_request(client.socks, CONNECT, *held.address)
    assert code == 0
    target = lab.open(held.accept())
    return lab.open(app), target, server, client


def test_the_application_ends_first_and_still_hears_everything(joined):
    app, target, _, client = joined
    app.sendall(b'question')
    app.shutdown(socket.SHUT_WR)
    assert receive(target, 8) == b'question' and target.recv(1) == b''
    answer = random.randbytes(2_000_000)
    writer = threading.Thread(target=lambda: (target.sendall(answer), target.shutdown(socket.SHUT_WR)))
    writer.start()
    assert receive(app, len(answer)) == answer
    assert app.recv(1) == b''
    writer.join()
    wait_for(lambda: client.status()['tunnels'] == 0, what='the end of the tunnel')


def test_the_target_ends_first_and_still_hears_everything(joined):
    app, target, _, client = joined
    target.sendall(b'greeting')
    target.shutdown(socket.SHUT_WR)
    assert receive(app, 8) == b'greeting' and app.recv(1) == b''
    data = random.randbytes(2_000_000)
    writer = threading.Thread(target=lambda: (app.sendall(data), app.shutdown(socket.SHUT_WR)))
    writer.start()
    assert receive(target, len(data)) == data
    assert target.recv(1) == b''
    writer.join()
    wait_for(lambda: client.status()['tunnels'] == 0, what='the end of the tunnel')


def test_a_reset_of_the_target_resets_the_application(joined):
    app, target, _, client = joined
    target.sendall(b'half of it')
    assert receive(app, 10) == b'half of it'
    reset(target)
    with pytest.raises(ConnectionResetError):
        app.recv(1)
    wait_for(lambda: client.status()['tunnels'] == 0, what='the end of the tunnel')


def test_a_reset_of_the_application_resets_the_target(joined):
    app, target, _, _ = joined
    app.sendall(b'half of it')
    assert receive(target, 10) == b'half of it'
    reset(app)
    with pytest.raises(ConnectionResetError):
        target.recv(1)


def test_a_slow_reader_stops_the_sender_and_loses_nothing(joined):
    """At most some hundred KiB wait in each program, whatever the sender would like."""
    app, target, _, _ = joined
    target.setblocking(False)
    chunk, sent = bytes(65536), 0
    while select.select([], [target], [], 0.5)[1]:
        sent += target.send(chunk)
        assert sent < 64 << 20, 'the sender is never stopped'
    target.shutdown(socket.SHUT_WR)
    got = 0
    while data := app.recv(1 << 20):
        got += len(data)
    assert got == sent


class Middle:
    """Carries TCP between client and server, and can end it as a network or an attacker does: without close_notify."""

    def __init__(self, lab, port):
        self.port, self.cut = port, threading.Event()
        self.server = lab.open(TcpServer(self.carry))

    def carry(self, connection):
        with socket.create_connection(('127.0.0.1', self.port)) as onward:
            other = {connection: onward, onward: connection}
            while not self.cut.is_set():
                for sock in select.select(list(other), [], [], 0.02)[0]:
                    data = sock.recv(65536)
                    if not data:
                        return
                    other[sock].sendall(data)
            for sock in other:  # a clean end of TCP in the middle of TLS
                sock.shutdown(socket.SHUT_WR)
            for sock in other:  # closing with unread bytes would be a reset
                while sock.recv(65536):
                    pass


def test_a_truncated_tls_stream_is_a_reset_at_both_ends(lab):
    folder, port, invite = lab.init()
    lab.edit_config(folder, f'advertise: "127.0.0.1:{port}"')
    lab.server(folder)
    middle = Middle(lab, port)
    client = lab.client(invite.replace(f':{port}/', f':{middle.server.address[1]}/'))
    held = Held(lab)
    app, code, _ = socks_request(client.socks, CONNECT, *held.address)
    assert code == 0
    with app, held.accept() as target:
        target.sendall(b'half of it')
        assert receive(app, 10) == b'half of it'
        middle.cut.set()
        with pytest.raises(ConnectionResetError):
            app.recv(1)
        with pytest.raises(ConnectionResetError):
            target.recv(1)


# --- BIND ---

def test_bind_has_two_replies_and_then_carries_bytes(lab):
    _, client = lab.pair()
    app, code, bound = socks_request(client.socks, BIND, '127.0.0.1', 0)
    lab.open(app)
    assert code == 0 and bound[0] == '127.0.0.1' and bound[1] != 0
    with socket.create_connection(bound, 5) as peer:
        peer.settimeout(5)
        assert read_reply(app) == (0, peer.getsockname())
        peer.sendall(b'in')
        assert receive(app, 2) == b'in'
        app.sendall(b'out')
        assert receive(peer, 3) == b'out'
    assert app.recv(1) == b''
    with pytest.raises(ConnectionRefusedError):  # one peer only
        socket.create_connection(bound, 5)


def test_bind_takes_no_other_host_than_the_one_named(lab):
    _, client = lab.pair()
    app, code, bound = socks_request(client.socks, BIND, '127.0.0.2', 0)
    lab.open(app)
    assert code == 0
    with socket.create_connection(bound, 5, source_address=('127.0.0.3', 0)) as wrong:
        with pytest.raises((EOFError, ConnectionResetError)):
            receive(wrong, 1)
        assert not select.select([app], [], [], 0.1)[0], 'a stranger was announced'
    with socket.create_connection(bound, 5, source_address=('127.0.0.2', 0)) as right:
        assert read_reply(app) == (0, right.getsockname())
        right.sendall(b'hello')
        assert receive(app, 5) == b'hello'


def test_bind_for_anybody_and_for_a_name(lab):
    _, client = lab.pair()
    for host in ('0.0.0.0', 'localhost'):
        app, code, bound = socks_request(client.socks, BIND, host, 0)
        with app:
            assert code == 0
            with socket.create_connection(bound, 5) as peer:
                assert read_reply(app) == (0, peer.getsockname())


def test_an_application_that_leaves_takes_its_bind_with_it(lab):
    _, client = lab.pair()
    app, code, bound = socks_request(client.socks, BIND, '127.0.0.1', 0)
    assert code == 0
    app.close()

    def closed():
        try:
            socket.create_connection(bound, 5).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it was closed in between
            pass
        return False
    wait_for(closed, what='the end of listening')
