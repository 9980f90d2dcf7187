"""Bytes that come before they are awaited: everything in one TLS record, with or without an end right behind it."""
import socket
import ssl
import threading
import urllib.parse

import pytest

from harness import CONNECT, TcpServer, read_reply, receive, socks_address

SIZES = [5, 4000, 12_000, 15_000, 100_000]


@pytest.fixture
def server(lab):
    """Address and invite of a running server."""
    folder, port, invite = lab.init()
    lab.server(folder)
    return ('127.0.0.1', port), urllib.parse.urlsplit(invite)


def flight(invite, target):
    """Greeting, credentials and request."""
    user, token = invite.username.encode(), invite.password.encode()
    return (b'\5\1\2' + b'\1' + bytes([len(user)]) + user + bytes([len(token)]) + token
            + bytes([5, CONNECT, 0]) + socks_address(*target))


def connect(lab, address):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return lab.open(context.wrap_socket(socket.create_connection(address, 10)))


def read_answers(tls):
    tls.settimeout(5)
    assert receive(tls, 2) == b'\5\2'
    assert receive(tls, 2) == b'\1\0'
    assert read_reply(tls)[0] == 0


@pytest.mark.parametrize('size', SIZES)
def test_early_data_behind_the_request_arrives(lab, server, tcp_echo, size):
    address, invite = server
    tls, data = connect(lab, address), b'early' * (size // 5)
    tls.sendall(flight(invite, tcp_echo.address) + data)
    read_answers(tls)
    assert receive(tls, len(data)) == data
    tls.sendall(b'late')
    assert receive(tls, 4) == b'late'


@pytest.mark.parametrize('size', SIZES)
def test_an_end_behind_early_data_is_passed_on_after_it(lab, server, size):
    seen, ended = [], threading.Event()

    def collect(connection):
        while data := connection.recv(65536):
            seen.append(data)
        connection.sendall(b'answer')
        ended.set()

    target = lab.open(TcpServer(collect))
    address, invite = server
    data = b'early' * (size // 5)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_bio(incoming, outgoing)
    sock = lab.open(socket.create_connection(address, 10))
    sock.settimeout(5)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
    tls.write(flight(invite, target.address) + data)
    with pytest.raises(ssl.SSLWantReadError):  # close_notify is written, the server's is awaited
        tls.unwrap()
    sock.sendall(outgoing.read())  # all of it in one write
    assert ended.wait(5), 'the target never saw the end'
    assert b''.join(seen) == data


def test_a_large_answer_and_its_end_reach_the_application(lab):
    """The target writes and closes at once; the client's side sees reply, data and close_notify together."""
    blob = bytes(range(256)) * 200

    def give(connection):
        connection.sendall(blob)

    target = lab.open(TcpServer(give))
    _, client = lab.pair('--forward', f'tcp:127.0.0.1:0=127.0.0.1:{target.address[1]}')
    for _ in range(20):
        with socket.create_connection(client.forwards[0], 5) as app:
            app.settimeout(5)
            received = b''
            while data := app.recv(65536):
                received += data
            assert received == blob


def test_echo_of_a_stream_that_begins_at_once(lab, tcp_echo):
    """Through the client: an application that does not wait for the reply to CONNECT."""
    _, client = lab.pair()
    data = b'x' * 200_000
    with socket.create_connection(client.socks, 5) as app:
        app.settimeout(10)
        sender = threading.Thread(target=app.sendall, daemon=True, args=(
            b'\5\1\0' + bytes([5, CONNECT, 0]) + socks_address(*tcp_echo.address) + data,))
        sender.start()
        assert receive(app, 2) == b'\5\0'
        assert read_reply(app)[0] == 0
        assert receive(app, len(data)) == data
        sender.join(5)


