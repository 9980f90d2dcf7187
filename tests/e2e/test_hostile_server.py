"""What a hostile server tries against its clients: they try again without hurry, and go on serving their applications."""
import os
import socket
import struct
import time

import pytest

from attacker import (ALIVE, CLOSE, CLOSED, DATAGRAM, PATH, PING, PONG, REFUSED, HostileServer, control, field, open_reply,
                      plaintext, request, serve_echo)
from harness import BIND, CONNECT, address, receive, sum_ledger, wait_for


@pytest.fixture
def hostile(lab):
    """hostile(script...): a HostileServer, and a client of it with a forward, not ready yet."""
    def start(*scripts):
        folder, port, invite = lab.init()
        server = lab.open(HostileServer(folder, port, *scripts))
        client = lab.client(invite, '--forward', 'udp:127.0.0.1:0=127.0.0.1:7', ready=False)
        return server, client
    return start


def echo_works(client):
    """Through the forward, once the client is ready; then the ledgers are checked."""
    forward = address(client.ready()['forward'][0].partition(':')[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)

        def answered():
            sock.sendto(b'echo', forward)
            try:
                return sock.recv(100) == b'echo'
            except TimeoutError:
                return False
        wait_for(answered, 15, f'an echo; log:\n{client.err}')
    status = client.status()
    for ledger in (status['up'], status['down']):
        assert ledger['received'] == sum_ledger(ledger)
    return status


def test_idle_times_that_make_no_sense_do_no_harm(hostile):
    """0 would end an association before its answer, or keep the client busy."""
    clients = []
    for idle in (0, 1, 0xffffffff):
        reply = open_reply(idle=struct.pack('!I', idle), dns_idle=struct.pack('!I', idle))
        clients.append(hostile(lambda stream, reply=reply: serve_echo(stream, reply, wait=0.05))[1])
    for client in clients:
        echo_works(client)


def test_sessions_that_end_at_once_are_not_tried_without_a_pause(hostile):
    server, _ = hostile(lambda stream: stream.sendall(open_reply() + control(CLOSE, b'\0\2')))
    wait_for(lambda: server.channels == 3, 5, 'attempts')
    time.sleep(3)
    assert server.channels <= 8


HOSTILE_REPLIES = [
    open_reply(leave_out=('channel',)), open_reply(leave_out=('handle',)), open_reply(leave_out=('suite',)),
    open_reply(leave_out=('senders',)), open_reply(suite=b'\0\x63'), open_reply(suite=b'\0'), open_reply(senders=b'\0\0'),
    open_reply(senders=b'\0\x11'), open_reply(extra=field(0x8005, bytes(8))), open_reply(extra=field(0x8777, b'')),
    open_reply()[:-1], open_reply()[:10] + b'\xff\xff' + bytes(65535), open_reply(code=1), open_reply(code=255),
    open_reply()[:3] + b'\2', b'\5\0\0\3\xff' + b'x' * 257 + bytes(2), os.urandom(70000),
    b'HTTP/1.1 400 Bad Request\r\n\r\n', b'',
]
ENDING = [  # each breaks the protocol on the control stream, or ends the session
    control(PATH, b'\0\0\0\1\1'), control(ALIVE, bytes(4)), control(PING, bytes(7)), control(CLOSED, b'\0\1'),
    control(CLOSED, bytes(2 + 4 * 1025)), control(REFUSED, bytes(9)), control(REFUSED, bytes(8) + b'\2' + bytes(8)),
    b'\1\xff\xff\xff' + bytes(1000), bytes([0x77]) + b'\xff\xff\xff', control(CLOSE, b''), control(CLOSE, b'\xff\xff'),
]
BORING = b''.join([  # changes nothing, and the session goes on
    control(0x77, bytes(66000)), control(0x0a), control(DATAGRAM, b''), control(DATAGRAM, bytes(66000)),
    control(DATAGRAM, plaintext(99, ('192.0.2.1', 7), b'x')), control(DATAGRAM, plaintext(0xffffffff, ('name', 7), b'x')),
    control(CLOSED, b'\0\1' + bytes(4 * 1024)), control(PONG, bytes(8)), control(PING, bytes(8)),
    control(REFUSED, struct.pack('!IBHH', 77, 1, 0xffff, 0) + b'\3\3a\n\x1b' + b'\0\1'),
    control(REFUSED, struct.pack('!IBHH', 0, 0, 11, 0) + b'\1' + bytes(6)),
])


def test_answers_that_break_the_protocol_only_cost_a_further_attempt(hostile):
    """Each client sees one hostile answer first, and works with the ordinary one that follows."""
    clients = []
    for attack in HOSTILE_REPLIES:
        clients.append(hostile(lambda stream, attack=attack: stream.sendall(attack), serve_echo)[1])
    for client in clients:
        echo_works(client)


def test_messages_that_break_the_protocol_end_the_session_only(hostile):
    clients = []
    for attack in ENDING:
        def script(stream, attack=attack):
            stream.sendall(open_reply() + attack)
            stream.recv(1000)
        clients.append(hostile(script, serve_echo)[1])
    for client in clients:
        assert echo_works(client)['sessions_opened'] >= 1


def test_messages_without_sense_change_nothing(hostile):
    """For ever so long: REFUSED for flows that are not there, unknown types, datagrams for nobody."""
    _, client = hostile(lambda stream: serve_echo(stream, open_reply() + BORING * 300))
    status = echo_works(client)
    assert status['sessions_opened'] == 1
    assert client.err.count('server refused a datagram to a??:1') in range(40, 130)


def test_records_go_to_no_endpoint_of_another_class(hostile):
    """The server is on loopback: it may name loopback addresses, and no others that are special."""
    clients = {}
    for host in ('127.0.0.1', '::1', '10.1.2.3', '169.254.169.254', '224.0.0.1', '255.255.255.255', 'fe80::1'):
        reply = open_reply(bound=(host, 9))
        clients[host] = hostile(lambda stream, reply=reply: serve_echo(stream, reply))[1]
    for host, client in clients.items():
        echo_works(client)
        refused = 'which is not of its own class of address: not used' in client.err
        assert refused == (host not in ('127.0.0.1', '::1')), host


REPLY = b'\5\0\0\1\x7f\0\0\1\0\x07'
TUNNEL_ANSWERS = [
    b'', b'\5', b'\4\0\0\1' + bytes(6), b'\5\0\1\1' + bytes(6), b'\5\0\0\2' + bytes(6), b'\5\0\0\3\0\0\0',
    b'\5\0\0\3\xff' + b'x' * 300, b'\5\1\0\1' + bytes(6), b'\5\xff\0\1' + bytes(6), b'\5\5\0\1' + bytes(100000),
    REPLY, REPLY + bytes(100000), REPLY[:-1], REPLY + b'\5\1\0\1' + bytes(6), REPLY + b'\4' + bytes(9), REPLY + REPLY,
    REPLY + REPLY + b'data', REPLY + REPLY[:5], REPLY + b'\5\0\0\3\xff' + b'x' * 300, os.urandom(50000),
]


def test_answers_to_connect_and_bind_that_make_no_sense(hostile):
    """The application gets a reply and an end, soon; the client and its session go on."""
    server, client = hostile(serve_echo)
    host, _, port = client.ready()['socks'].rpartition(':')
    for answer in TUNNEL_ANSWERS:
        server.answer = answer
        for command in (CONNECT, BIND):
            with socket.create_connection((host, int(port)), 5) as app:
                app.sendall(b'\5\1\0\5' + bytes([command]) + b'\0\1\x7f\0\0\1\0\x07')
                app.settimeout(5)
                said = b''
                try:
                    while chunk := app.recv(65536):
                        said += chunk
                except ConnectionResetError:
                    pass
                assert said[:3] == b'\5\0\5', answer
    status = client.status()
    assert (status['session'], status['sessions_opened'], status['tunnels']) == ('up', 1, 0)
    echo_works(client)


@pytest.mark.slow
def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_without_end(hostile):
    """A minute is for all of it, not for each byte."""
    server, client = hostile(serve_echo)
    host, _, port = client.ready()['socks'].rpartition(':')
    server.answer, server.pause = b'\5\0\0\3\xff' + b'x' * 257, 4
    with socket.create_connection((host, int(port)), 5) as app:
        app.settimeout(75)
        app.sendall(b'\5\1\0' + request(CONNECT, '127.0.0.1', 7))
        assert receive(app, 2 + 10)[2:4] == b'\5\1'
