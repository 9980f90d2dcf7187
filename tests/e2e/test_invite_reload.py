"""SIGHUP makes a client read its invites again; it never ends one."""
import os
import signal

import pytest

from harness import CONNECT, SocksUdp, run, socks_request, wait_for


def client_of(lab, *invites, options=(), **keywords):
    """A client whose invites are in a file, client.file."""
    path = lab.folder / lab.name('invites')
    path.write_text('\n'.join(invites) + '\n')
    path.chmod(0o600)
    client = lab.start('client', 'client', '--socks', '127.0.0.1:0', *options, f'@{path}', **keywords)
    host, _, port = client.ready()['socks'].rpartition(':')
    client.file, client.socks = path, (host, int(port))
    return client


def hang_up(client, says):
    count = client.err.count(says)
    client.process.send_signal(signal.SIGHUP)
    wait_for(lambda: client.err.count(says) > count, 10, says)


def test_the_same_invites_change_nothing(lab, echo, tcp_echo):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), client_of(lab, invite)
    app = lab.open(SocksUdp(client.socks))
    relay, code, _ = socks_request(client.socks, CONNECT, *tcp_echo.address)
    lab.open(relay)
    for _ in range(5):
        hang_up(client, 'read again: 1 invites')
        assert app.ask(b'x', echo.address)[0] == b'x'
    relay.sendall(b'still here')
    assert code == 0 and relay.recv(100) == b'still here'
    status = server.status()
    assert (status['sessions'], status['sessions_opened'], status['sessions_resumed']) == (1, 1, 0)


@pytest.mark.parametrize('workers', [1, 3])
def test_another_server_takes_over(lab, echo, workers):
    """The session of an invite that is gone ends when another has been opened: nothing is lost in between."""
    folders = [lab.init() for _ in range(2)]
    first, second = (lab.server(folder) for folder, _, _ in folders)
    client = client_of(lab, folders[0][2], options=('--workers', workers))
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'x', echo.address)[0] == b'x'
    client.file.write_text(folders[1][2] + '\n')
    hang_up(client, 'read again: 1 invites')
    wait_for(lambda: (first.status()['sessions'], second.status()['sessions']) == (0, workers), 10, 'the change')
    app = lab.open(SocksUdp(client.socks))
    assert app.ask(b'y', echo.address, tries=3)[0] == b'y'
    assert client.status()['server'].endswith(f':{folders[1][1]}')
    client.file.write_text('\n'.join(invite for _, _, invite in folders) + '\n')
    hang_up(client, 'read again: 2 invites')
    assert app.ask(b'z', echo.address)[0] == b'z' and second.status()['sessions_opened'] == workers, 'it stays where it is'
    second.stop()
    wait_for(lambda: first.status()['sessions'] == workers, 20, 'the other of the list')


def test_a_new_token_brings_a_client_back(lab, echo):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), client_of(lab, invite)
    fresh = run('invite', '--replace', folder, 'alice', folder=lab.folder).stdout
    wait_for(lambda: server.status()['sessions'] == 0 and 'refused' in client.err, 20, 'the end of the old token')
    client.file.write_text(fresh)
    hang_up(client, 'read again: 1 invites')
    wait_for(lambda: server.status()['sessions'] == 1, 5, 'the session of the new one')
    assert lab.open(SocksUdp(client.socks)).ask(b'x', echo.address, tries=3)[0] == b'x'


def test_what_is_wrong_changes_nothing(lab, echo):
    folder, _, invite = lab.init()
    server, client = lab.server(folder), client_of(lab, invite, options=('-v',))
    app = lab.open(SocksUdp(client.socks))
    path, kept = client.file, client.file.with_suffix('.kept')

    def stays(why):
        hang_up(client, 'SIGHUP: the invites stay as they were')
        assert why in client.err and app.ask(b'x', echo.address)[0] == b'x'
    for text, why in ('', 'no invite in it'), ('nonsense\n', f'{path}:1: an invite begins with sealgram://'), \
            (invite + '\n' + invite[:-5] + '\n', f'{path}:2: the pin is not complete'):
        path.write_text(text)
        stays(why)
    path.rename(kept)
    stays('')
    os.mkfifo(path, 0o600)
    stays(f'{path}: ')
    path.unlink()
    kept.rename(path)
    if 'sandbox: this build has none' not in client.err:
        path.write_text(invite.replace('sgt1_', 'sgd1_') + '\n')  # counts devices, and this one has no key yet
        stays("the invite counts devices, and this one's key cannot be kept in ")
    path.write_text(invite + '\n')
    hang_up(client, 'read again: 1 invites')
    assert server.status()['sessions_opened'] == 1
    client.stop()
    assert not list((lab.folder / 'sealgram').glob('client-*'))


def test_an_invite_from_elsewhere(lab, echo):
    folder, _, invite = lab.init()
    lab.server(folder)
    client = lab.start('client', 'client', '--socks', '127.0.0.1:0', invite)
    host, _, port = client.ready()['socks'].rpartition(':')
    hang_up(client, 'the invites are not from a file that could be read again')
    assert lab.open(SocksUdp((host, int(port)))).ask(b'x', echo.address)[0] == b'x'
    client.stop()
    assert not list((lab.folder / 'sealgram').glob('client-*'))


def test_a_client_that_never_got_in(lab, echo):
    """Its server is away, and the file names another then."""
    (away, _, invite), (folder, _, other) = lab.init(), lab.init()
    lab.server(folder)
    path = lab.folder / 'invites'
    path.write_text(invite + '\n')
    path.chmod(0o600)
    client = lab.start('client', 'client', '--socks', '127.0.0.1:0', f'@{path}')
    wait_for(lambda: 'connection refused' in client.err, 10, 'the first attempt')
    path.write_text(other + '\n')
    hang_up(client, 'read again: 1 invites')
    host, _, port = client.ready()['socks'].rpartition(':')
    assert lab.open(SocksUdp((host, int(port)))).ask(b'x', echo.address)[0] == b'x' and away
