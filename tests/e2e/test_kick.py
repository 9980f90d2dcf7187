"""`sealgram kick`: what a user has open on a running server ends, and nobody else's."""
import socket

from harness import CONNECT, SocksUdp, run, socks_request, wait_for


def is_over(sock):
    """Cut off, which a reset says better than an end that looks clean."""
    try:
        return sock.recv(1) == b''
    except ConnectionResetError:
        return True


def kick(server, *words):
    return run('kick', '--socket', server.control, *words)


def test_all_that_a_user_has_open_ends(lab, echo, tcp_echo):
    folder, port, alice = lab.init()
    lab.edit_config(folder, 'workers: 2\nplain_socks:\n  from: ["127.0.0.0/8"]')
    server = lab.server(folder)
    bob = lab.invite(folder, 'bob')
    wait_for(lambda: server.status()['users'] == 2, 5, 'bob')
    clients = [lab.client(text) for text in (alice, alice, bob)]
    relays = []
    for client in clients:
        assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address)[0] == b'x'
        relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
        assert code == 0
        relays.append(lab.open(relay))
    done = kick(server, 'alice')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == 'ended: sessions 2, relays 2, plain associations 0\n' and port
    assert 'sealgram: info: user alice was kicked: sessions 2, relays 2, plain associations 0\n' in server.err
    assert server.err.count('session of alice ended: ended by the operator; ') == 2
    for relay in relays[:2]:
        assert is_over(relay)
    relays[2].sendall(b'still here')
    assert relays[2].recv(100) == b'still here'
    for client in clients[:2]:
        wait_for(lambda client=client: 'session with the server ended: ended by the operator; connecting again\n' in client.err,
                 5, 'the reason, in the log of the client')
    wait_for(lambda: server.status()['sessions'] == 3, 10, 'who was kicked may come back')


def test_plain_associations_end(lab, echo):
    folder, port, _ = lab.init()
    lab.edit_config(folder, 'allow_anyone_without_authentication: true\nplain_socks:\n  from: ["127.0.0.0/8"]')
    server = lab.server(folder)
    run('passwd', folder, 'carol', stdin='secret word\n')
    wait_for(lambda: server.status()['users'] == 2, 5, 'carol')
    anonymous = lab.open(SocksUdp(('127.0.0.1', port)))
    app = lab.open(LoggedIn(('127.0.0.1', port), b'carol', b'secret word'))
    assert server.status()['plain_associations'] == 2
    assert kick(server, 'carol').stdout == 'ended: sessions 0, relays 0, plain associations 1\n'
    assert app.tcp.recv(1) == b''
    assert anonymous.ask(b'x', echo.address)[0] == b'x'
    assert kick(server, 'carol').stdout == 'ended: sessions 0, relays 0, plain associations 0\n'


class LoggedIn:
    """A UDP ASSOCIATE in the clear, with a password."""

    def __init__(self, proxy, user, password):
        self.tcp = socket.create_connection(proxy, 10)
        self.tcp.sendall(b'\5\1\2')
        assert self.tcp.recv(2) == b'\5\2'
        self.tcp.sendall(b'\1' + bytes([len(user)]) + user + bytes([len(password)]) + password)
        assert self.tcp.recv(2) == b'\1\0'
        self.tcp.sendall(b'\5\3\0\1\0\0\0\0\0\0')
        assert self.tcp.recv(10)[:2] == b'\5\0'

    def close(self):
        self.tcp.close()


def test_who_cannot_be_kicked(lab):
    folder, _, _ = lab.init()
    server = lab.server(folder)
    done = kick(server, 'mallory')
    assert (done.returncode, done.stdout, done.stderr) == (1, '', "sealgram: there is no user 'mallory'\n")
    done = kick(server, 'not a name')
    assert done.returncode == 2
    assert done.stderr == "sealgram: 'not a name' is not a user name (1 to 64 of letters, digits and . _ - @)\n"
    done = kick(server)
    assert done.returncode == 2 and 'USER is missing' in done.stderr
