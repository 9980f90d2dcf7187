"""Rules that are exchanged while the server runs: datagrams, relays and requests under way are held to the new ones."""
import signal
import socket

import pytest

from harness import (BIND, CONNECT, SocksUdp, TcpServer, echo_stream, read_reply, receive, socks_address,
                     socks_request, wait_for)
from test_policy import Site, adds_up, drops, permitted, refused, rules_of


def turn_to(site, *rules, config=''):
    """Other rules, while the server runs."""
    site.folder.joinpath('server.yaml').write_text(site.before + '\n' + config + '\n' + rules_of(*rules) + '\n')
    lines = site.server.err.count('configuration read again: ')
    site.server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: site.server.err.count('configuration read again: ') > lines, what='the reload')
    site.server.status()  # asked of each worker, after its letter with the policy


@pytest.fixture
def reloaded(lab):
    def start(*rules):
        folder, port, invite = lab.init()
        site = Site.__new__(Site)
        site.lab, site.folder, site.port, site.invites = lab, folder, port, {'alice': invite}
        site.before = (folder / 'server.yaml').read_text()
        lab.edit_config(folder, rules_of(*rules))
        site.server = lab.server(folder)
        return site
    return start


def test_datagrams_are_judged_by_new_rules_as_they_come(reloaded, lab, echo):
    port = echo.address[1]
    site = reloaded('action: allow')
    app = lab.open(SocksUdp(site.client().socks))
    for _ in range(3):
        permitted(app, echo.address)
        turn_to(site, f'port: {port}, action: deny', 'action: allow')
        refused(site.server, app, echo.address)
        before = drops(site.server, 'down')
        echo.sock.sendto(b'late answer', echo.sources[0])
        wait_for(lambda before=before: drops(site.server, 'down') == before + 1, what='a drop inward')
        turn_to(site, 'group: staff, action: allow', config='groups: {staff: [alice]}')
    permitted(app, echo.address)
    assert len(echo.sources) == 1 and site.server.status()['sessions_opened'] == 1
    adds_up(site.server)


def test_names_are_judged_by_new_rules_as_they_come(reloaded, lab, echo):
    port = echo.address[1]
    site = reloaded('host: localhost, to: 127.0.0.0/8, action: allow')
    app = lab.open(SocksUdp(site.client().socks))
    for _ in range(2):
        for _ in range(2):
            app.send(b'named', ('localhost', port))
            assert app.receive() == (b'named', echo.address)
        turn_to(site, f'port: {port}, action: deny')
        for way in ('down', 'up'):
            before = drops(site.server, way)
            if way == 'up':
                app.send(b'refused', ('localhost', port))
            else:
                echo.sock.sendto(b'late answer', echo.sources[0])
            wait_for(lambda before=before, way=way: drops(site.server, way) == before + 1, what=f'a drop {way}')
        turn_to(site, 'host: localhost, action: allow')
    adds_up(site.server)


def joined(lab, site, address):
    sock, code, _ = socks_request(site.client().socks, CONNECT, *address)
    assert code == 0
    lab.open(sock).sendall(b'x')
    assert receive(sock, 1) == b'x'
    return sock


def has_ended(sock):
    sock.settimeout(10)
    try:
        return sock.recv(1) == b''
    except ConnectionResetError:
        return True


def test_relays_end_that_new_rules_deny_and_others_stay(reloaded, lab, tcp_echo):
    other = lab.open(TcpServer(echo_stream))
    site = reloaded('action: allow')
    ends, stays = joined(lab, site, tcp_echo.address), joined(lab, site, other.address)
    turn_to(site, f'port: {tcp_echo.address[1]}, action: deny', 'action: allow')
    assert has_ended(ends)
    stays.sendall(b'still here')
    assert receive(stays, 10) == b'still here'
    turn_to(site, 'action: allow', config='plain_udp: {from: []}')
    stays.sendall(b'still here')
    assert receive(stays, 10) == b'still here'
    site.before = site.before.replace('  - "127.0.0.0/8"', '  - "127.0.0.2/32"')
    turn_to(site, 'action: allow')
    assert has_ended(stays)


def test_a_connection_that_new_rules_deny_is_not_joined(reloaded, lab):
    """The target answers only when its queue has room again: by then it is denied."""
    target = lab.open(socket.create_server(('127.0.0.1', 0), backlog=0))
    target.settimeout(10)
    for _ in range(3):
        waiting = lab.open(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(target.getsockname())
    site = reloaded('host: localhost, to: 127.0.0.0/8, action: allow')
    app = lab.open(socket.create_connection(site.client().socks, 10))
    app.sendall(b'\5\1\0\5\1\0' + socks_address('localhost', target.getsockname()[1]))
    assert receive(app, 2) == b'\5\0'
    wait_for(lambda: site.server.status()['tcp']['relays'] == 1, what='the request')
    turn_to(site, 'to: 127.0.0.0/8, action: deny, reply: 6', 'action: allow')
    assert site.server.status()['tcp']['relays'] == 1, 'which address it will be is not known'
    for _ in range(2):
        lab.open(target.accept()[0])
    assert read_reply(app) == (6, ('0.0.0.0', 0)) and has_ended(app)


def test_binds_end_that_new_rules_deny(reloaded, lab):
    site = reloaded('action: allow')
    client = site.client()
    waiting, code, _ = socks_request(client.socks, BIND, '0.0.0.0', 0)
    assert code == 0
    app, code, bound = socks_request(client.socks, BIND, '127.0.0.1', 0)
    assert code == 0
    with lab.open(waiting), lab.open(app), socket.create_connection(bound, 5) as peer:
        assert read_reply(app) == (0, peer.getsockname())
        turn_to(site, 'command: bind, to: 127.0.0.1, action: deny', 'action: allow')
        assert has_ended(app) and has_ended(peer)
        assert site.server.status()['tcp']['relays'] == 1
        turn_to(site, 'command: bind, action: deny, reply: 6', 'action: allow')
        assert read_reply(waiting) == (6, ('0.0.0.0', 0)) and has_ended(waiting)


def test_rules_with_a_fault_change_nothing(reloaded, lab, echo):
    site = reloaded('action: allow')
    app = lab.open(SocksUdp(site.client().socks))
    permitted(app, echo.address)
    path = site.folder / 'server.yaml'
    path.write_text(site.before + '\nrules:\n  - {name: a, action: deny, port: 0}\n')
    site.server.process.send_signal(signal.SIGHUP)
    line = site.before.count('\n') + 3
    fault = f"{path}:{line}: port: '0' is neither a port nor FIRST-LAST, from 1 to 65535"
    wait_for(lambda: fault in site.server.err, what='the fault')
    permitted(app, echo.address)
