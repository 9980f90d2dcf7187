"""What the program says to the mistakes that people make: what is wrong, why, and what to do next. One row each."""
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import BIND, CONNECT, SEALGRAM, free_port, run, socks_request, wait_for

FAILED, USAGE, CONFIG = 1, 2, 3
# root without capabilities is stopped by modes and low ports as anybody is
PLAIN = [word for word in (shutil.which('setpriv') or 'setpriv', '--bounding-set=-all', '--inh-caps=-all')
         if os.geteuid() == 0]


class Mistake:
    """A server's folder with an invite, and ways to run a command until it has said what is to be seen."""

    def __init__(self, lab):
        self.lab = lab
        self.folder, self.port, self.invite = lab.init()
        self.config = self.folder / 'server.yaml'

    def file(self, text, name='alice.invite'):
        path = self.lab.folder / name
        path.write_text(text + '\n')
        path.chmod(0o600)
        return path

    def command(self, *argv, prefix=(), env=None):
        done = subprocess.run([*prefix, SEALGRAM, *map(str, argv)], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL,
                              env={**os.environ, 'XDG_RUNTIME_DIR': str(self.lab.folder), **(env or {})})
        return done.returncode, done.stderr

    def client(self, invite, *options, prefix=()):
        return self.command('client', '--socks', '127.0.0.1:0', *options, f'@{self.file(invite)}', prefix=prefix)

    def waits(self, invite, text, *options, seconds=15):
        """A client that goes on trying: what it has said once text was there. It has ended by itself: None."""
        client = self.lab.client(invite, *options, ready=False)
        wait_for(lambda: text in client.err, seconds, f'{text!r} in what the client says: {client.err}')
        return None, client.err

    def server(self, *options, prefix=()):
        return self.command('server', '-c', self.config, *options, prefix=prefix)

    def add(self, text):
        self.lab.edit_config(self.folder, text)

    def full_listener(self):
        """A port where connections are neither taken nor refused: a firewall that drops looks like that."""
        listener = self.lab.open(socket.socket())
        listener.bind(('127.0.0.1', free_port()))
        listener.listen(0)
        for _ in range(4):
            other = self.lab.open(socket.socket())
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        return listener.getsockname()[1]


def server_down(m):
    return m.waits(m.invite, 'trying again')


def tcp_dropped(m):
    return m.waits(m.invite.replace(f':{m.port}', f':{m.full_listener()}'), 'still waiting')


def tcp_dropped_in_the_end(m):
    return m.waits(m.invite.replace(f':{m.port}', f':{m.full_listener()}'), 'trying again', seconds=60)


def tcp_dropped_doctor(m):
    return m.command('doctor', f"@{m.file(m.invite.replace(f':{m.port}', f':{m.full_listener()}'))}")


def mute_server(m):
    listener = m.lab.open(socket.create_server(('127.0.0.1', 0)))
    return m.waits(m.invite.replace(f':{m.port}', f':{listener.getsockname()[1]}'), 'still waiting')


def unknown_name(m):
    return m.waits(m.invite.replace('127.0.0.1', 'a' * 64 + '.example'), 'trying again')  # no name server is asked


def wrong_token(m):
    m.lab.server(m.folder)
    return m.client(re.sub('.{4}@', 'AAAA@', m.invite))


def revoked_invite(m):
    run('revoke', m.folder, 'alice')
    run('invite', m.folder, 'bob')
    m.lab.server(m.folder)
    return m.client(m.invite)


def wrong_password(m):
    m.lab.server(m.folder)
    return m.client(re.sub(':[^:@]+@', ':a-password@', m.invite))


def devices_that_cannot_be_written(m):
    invite = m.lab.invite(m.folder, 'bob', '--uses', '2')
    m.add(f'devices: {m.lab.folder}/closed/devices')
    (m.lab.folder / 'closed').mkdir()
    (m.lab.folder / 'closed').chmod(0o500)
    server = m.lab.start('server', 'server', '-c', m.config, prefix=PLAIN)
    server.ready()
    env = {**os.environ, 'STATE_DIRECTORY': str(m.lab.folder)}
    code, text = m.command('client', '--socks', '127.0.0.1:0', f'@{m.file(invite)}', env=env)
    return code, text + server.err


def in_the_servers_log(mistake):
    """What the log says that the client's message speaks of."""
    def make(m):
        code, text = mistake(m)
        server = next(program for program in m.lab.programs if program.name.startswith('server'))
        return code, text + server.err
    return make


def another_server(m):
    m.lab.server(m.folder)
    return m.client(re.sub('sha256:.*', 'sha256:' + 'A' * 43, m.invite))


def no_pin(m):
    m.lab.server(m.folder)
    return m.client(m.invite.split('?')[0])


def forgotten_at(m):
    return m.command('client', '--socks', '127.0.0.1:0', m.file(m.invite))


def no_invite_and_no_file(m):
    return m.command('client', '--socks', '127.0.0.1:0', 'alice.invite')


def truncated(length):
    def make(m):
        return m.client(m.invite[:length])
    return make


def refused_by(target, use):
    def make(m):
        m.lab.server(m.folder)
        client = m.lab.client(m.invite, '--forward', f'tcp:127.0.0.1:0={target}')
        use(m.lab, client, target)
        wait_for(lambda: 'server refused' in client.err, 10, 'the line')
        return None, client.err
    return make


def by_forward(lab, client, _):
    with pytest.raises(ConnectionResetError):
        lab.open(socket.create_connection(client.forwards[0])).recv(1)


def by_connect(lab, client, target):
    host, _, port = target.rpartition(':')
    sock, code, _ = socks_request(client.socks, CONNECT, host, int(port))
    lab.open(sock)
    assert code != 0


def by_bind(lab, client, target):
    sock, code, _ = socks_request(client.socks, BIND, target.partition(':')[0], 0)
    lab.open(sock)
    assert code != 0


def no_name_after_at(m):
    return m.command('client', '--socks', '127.0.0.1:0', '@')


def of_windows(m):
    path = m.lab.folder / 'windows.invite'
    path.write_bytes((m.invite + '\r\n').encode('utf-16'))
    path.chmod(0o600)
    return m.command('client', '--socks', '127.0.0.1:0', f'@{path}')


def no_run_directory(m):
    m.lab.server(m.folder)
    client = m.lab.client(m.invite, env={'XDG_RUNTIME_DIR': '/nonexistent'})
    return None, client.err


def udp_forward_for_all(m):
    m.lab.server(m.folder)
    client = m.lab.client(m.invite, '--forward', 'udp:0.0.0.0:0=192.0.2.1:53')
    return None, client.err


def tcp_forward_for_all(m):
    m.lab.server(m.folder)
    client = m.lab.client(m.invite, '--forward', 'tcp:0.0.0.0:0=192.0.2.1:53')
    return None, client.err


def taken(kind, *options):
    def make(m):
        sock = m.lab.open(socket.socket(socket.AF_INET, kind))
        sock.bind(('127.0.0.1', 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        at = f'127.0.0.1:{sock.getsockname()[1]}'
        return m.client(m.invite, *[word.format(at=at) for word in options])
    return make


def taken_of_server(m):
    m.lab.open(socket.create_server(('127.0.0.1', m.port)))
    return m.server()


def low_port(m):
    m.config.write_text(m.config.read_text().replace(f'127.0.0.1:{m.port}', '127.0.0.1:443'))
    return m.server(prefix=PLAIN)


def low_port_of_client(m):
    return m.client(m.invite, '--socks', '127.0.0.1:443', prefix=PLAIN)


def no_such_address(m):
    return m.client(m.invite, '--socks', '127.0.0.1:0', '--forward', 'udp:192.0.2.77:53=192.0.2.1:53')


def few_descriptors(*command):
    def make(m):
        said = set()
        for limit in range(8, 60, 3):
            code, text = m.command(*[word.format(config=m.config, invite=m.file(m.invite)) for word in command],
                                   prefix=['prlimit', f'--nofile={limit}:{limit}', *PLAIN])
            said.add((code, re.sub(r'only \d+ files', 'only N files', re.sub(r'^\S+ ', '', text))))
        assert len(said) == 1, said  # whatever it is that finds no file left
        return said.pop()
    return make


def typo(m):
    m.config.write_text(m.config.read_text().replace('\nlisten:', '\nlisen:'))
    m.add('metrix: {}\ntimeouts: {grace_secs: 5}')
    return m.server('--check')


def key_of_elsewhere(m):
    m.add('sessions_per_user: 5')
    return m.server('--check')


def listens_at(text):
    def make(m):
        m.config.write_text(m.config.read_text().replace(f'127.0.0.1:{m.port}', text))
        return m.server('--check')
    return make


def socks_at(text):
    return lambda m: m.command('client', '--socks', text, '-')


def exchanged(m):
    m.config.write_text(m.config.read_text().replace('key: key.pem', 'key: cert.pem'))
    (m.folder / 'cert.pem').chmod(0o600)
    return m.server('--check')


def certificate_is_a_key(m):
    m.config.write_text(m.config.read_text().replace('certificate: cert.pem', 'certificate: key.pem'))
    return m.server('--check')


def missing(key):
    def make(m):
        m.config.write_text(re.sub(f'^{key}: .*$', f'{key}: nosuch.pem', m.config.read_text(), flags=re.MULTILINE))
        return m.server('--check')
    return make


def invite_without_certificate(m):
    (m.folder / 'cert.pem').unlink()
    return m.command('invite', m.folder, 'bob')


def renewal_without_key(m):
    (m.folder / 'key.pem').unlink()
    return m.command('renew-cert', m.folder)


def files_of_another_user(*options):
    def make(m):
        if os.geteuid() != 0:
            pytest.skip('only root can give files away')
        for path in (m.folder, *m.folder.iterdir()):
            os.chown(path, 65534, 65534)
        m.folder.chmod(0o755)
        return m.server(*options)
    return make


def change_that_is_not_taken(m):
    if os.geteuid() != 0:
        pytest.skip('only root can give files away')
    m.lab.server(m.folder)
    os.chown(m.folder / 'users', 65534, 65534)
    return m.command('revoke', m.folder, 'alice')


def users_that_are_gone(m):
    server = m.lab.server(m.folder)
    (m.folder / 'users').rename(m.folder / 'users.old')
    wait_for(lambda: 'stay as they were' in server.err, 15, 'the line')
    (m.folder / 'users.old').rename(m.folder / 'users')
    wait_for(lambda: 'user file read again' in server.err, 15, 'the file that is back')
    assert server.err.count('stay as they were') == 1, server.err
    return None, server.err


def config_without_option(m):
    return m.command('server', m.config)


def status_of_another_user(m):
    m.lab.server(m.folder)
    (m.lab.folder / 'sealgram').chmod(0)
    try:
        return m.command('status', prefix=PLAIN)
    finally:
        (m.lab.folder / 'sealgram').chmod(0o700)


def closed_socket(m):
    m.lab.server(m.folder)
    path = next((m.lab.folder / 'sealgram').glob('server-*'))
    path.chmod(0)
    return m.command('status', '--socket', path, prefix=PLAIN)


def missing_socket(m):
    return m.command('status', '--socket', m.lab.folder / 'nope')


def socket_that_was_left(m):
    server = m.lab.server(m.folder)
    path = next((m.lab.folder / 'sealgram').glob('server-*'))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    return m.command('status', '--socket', path)


def status_socket_in_no_directory(m):
    return m.client(m.invite, '--status-socket', m.lab.folder / 'nope' / 'socket')


def status_socket_in_a_closed_directory(m):
    (m.lab.folder / 'closed').mkdir()
    (m.lab.folder / 'closed').chmod(0o500)
    return m.client(m.invite, '--status-socket', m.lab.folder / 'closed' / 'socket', prefix=PLAIN)


ANEW = ('ask whoever runs the server for a new one', 'revoked or replaced', 'log says which')
MISTAKES = [
    (server_down, None, 'server 127.0.0.1:{port}: connection refused', 'is the server running', 'is {port} its port'),
    (tcp_dropped, None, 'server 127.0.0.1:', 'still waiting for a TCP connection', 'does a firewall drop packets to this port?'),
    (tcp_dropped_in_the_end, None, 'connection timed out|no answer in time', 'firewall drop'),
    (tcp_dropped_doctor, FAILED, 'doctor: still waiting for a session with the server: server 127.0.0.1:.*waiting for a TCP', 'no session with the server', 'waiting for a TCP connection', 'firewall'),
    (mute_server, None, 'still waiting for the TLS handshake', 'is a Sealgram server at this port?'),
    (unknown_name, None, 'name does not resolve', 'is it written right', "this machine's name server"),
    (wrong_token, FAILED, 'the invite was refused', *ANEW),
    (revoked_invite, FAILED, 'the invite was refused', *ANEW),
    (in_the_servers_log(wrong_token), FAILED, r'refused from \S+: it is the token of no user: revoked, replaced, or not of'),
    (in_the_servers_log(revoked_invite), FAILED, r'refused from \S+: it is the token of no user: revoked, replaced'),
    (in_the_servers_log(wrong_password), FAILED, r'refused from \S+: no such user, or another password'),
    (wrong_password, FAILED, 'user or password refused', 'sealgram passwd DIR USER'),
    (devices_that_cannot_be_written, FAILED, 'the invite was refused', 'log says which',
     'the list of devices cannot be written: Permission denied', '`devices` in server.yaml'),
    (another_server, FAILED, "server's key does not match the pin", 'made anew', 'ask .* for a new invite',
     'somebody stands between'),
    (no_pin, FAILED, 'not from a trusted CA', 'the invite has no pin .is it whole', '--ca FILE'),
    (forgotten_at, FAILED, 'is a file', '@.*alice.invite reads'),
    (no_name_after_at, FAILED, 'after @ stands the name of the file', '@alice.invite'),
    (of_windows, FAILED, 'windows.invite:1: it is UTF-16', 'save it as UTF-8'),
    (no_run_directory, None, 'no socket for `sealgram status`: /nonexistent/sealgram', '--status-socket'),
    (refused_by('10.0.0.1:81', by_forward), None, 'server refused a connection to 10.0.0.1:81: not allowed by the rules'),
    (refused_by('10.0.0.1:81', by_connect), None, 'server refused a connection to 10.0.0.1:81: not allowed by the rules'),
    (refused_by('10.0.0.1:81', by_bind), None, 'server refused a BIND for 10.0.0.1:0: not allowed by the rules'),
    (no_invite_and_no_file, FAILED, 'begins with sealgram://', '@FILE'),
    (truncated(5), FAILED, 'begins with sealgram://', 'is the line whole', 'new invite'),
    (truncated(30), FAILED, "ends before the '@'", 'is the line whole', 'new invite'),
    (truncated(-5), FAILED, 'the pin is not complete', 'is the line whole', 'new invite'),
    (udp_forward_for_all, None, 'not a loopback address', 'everyone who reaches it', '127.0.0.1', 'firewall'),
    (tcp_forward_for_all, None, 'not a loopback address', 'everyone who reaches it', '127.0.0.1', 'firewall'),
    (taken(socket.SOCK_STREAM, '--socks', '{at}'), FAILED, 'Address already in use', 'ss -tulpn', '--socks may name another'),
    (taken(socket.SOCK_STREAM, '--forward', 'tcp:{at}=a:1'), FAILED, 'Address already in use', 'ss -tulpn', '--forward may'),
    (taken(socket.SOCK_DGRAM, '--forward', 'udp:{at}=a:1'), FAILED, 'Address already in use', 'ss -tulpn', '--forward may'),
    (taken_of_server, FAILED, 'Address already in use', 'sport = :{port}', 'listen may name another'),
    (low_port, FAILED, 'Permission denied', 'below 1024', 'socket unit', 'listen may name another'),
    (low_port_of_client, FAILED, 'Permission denied', 'below 1024', 'socket unit', '--socks may name another'),
    (no_such_address, FAILED, 'Cannot assign requested address', 'no interface', 'ip address'),
    (few_descriptors('server', '-c', '{config}'), FAILED, 'only N files may be open', 'ulimit -n', 'LimitNOFILE='),
    (few_descriptors('server', '--check', '-c', '{config}'), FAILED, 'only N files may be open', 'ulimit -n'),
    (few_descriptors('client', '--socks', '127.0.0.1:0', '@{invite}'), FAILED, 'only N files may be open', 'ulimit -n'),
    (typo, CONFIG, r'server.yaml:\d+: lisen: unknown key .did you mean listen\?', r'line \d+: metrix: .*metrics\?',
     r'line \d+: grace_secs: .*grace_seconds\?'),
    (key_of_elsewhere, CONFIG, 'sessions_per_user: unknown key', 'belongs into limits'),
    (listens_at('127.0.0.1:99999'), CONFIG, 'server.yaml:', 'the port must be a number from 1 to 65535'),
    (listens_at('127.0.0.1'), CONFIG, 'has no port', 'as in 127.0.0.1:1443'),
    (listens_at('::1:1443'), CONFIG, 'IPv6 address stands in brackets', r'\[::1\]:1443'),
    (listens_at('example.org:1443'), CONFIG, 'with an IP address', 'as in 127.0.0.1:1443'),
    (socks_at('127.0.0.1:99999'), USAGE, '--socks 127.0.0.1:99999', 'the port must be a number from 1 to 65535'),
    (socks_at('::1:1080'), USAGE, 'stands in brackets'),
    (exchanged, CONFIG, 'cert.pem: holds a certificate and no private key', 'are `key` and `certificate` exchanged'),
    (certificate_is_a_key, CONFIG, 'key.pem: holds a private key and no certificate', 'are `key` and `certificate` exchanged'),
    (missing('certificate'), CONFIG, 'nosuch.pem: No such file or directory'),
    (missing('key'), CONFIG, 'nosuch.pem: No such file or directory'),
    (invite_without_certificate, CONFIG, 'cert.pem: No such file or directory'),
    (renewal_without_key, CONFIG, 'key.pem: No such file or directory'),
    (files_of_another_user(), FAILED, 'root without capabilities cannot read it again', 'user in .*server.yaml'),
    (files_of_another_user('--check'), 0, 'root without capabilities cannot read it again', 'no fault if its owner starts'),
    (change_that_is_not_taken, 0, 'a running server does not take the change', 'users: Permission denied'),
    (users_that_are_gone, None, 'users: No such file or directory: the users stay as they were'),
    (config_without_option, USAGE, 'the configuration is named with -c'),
    (status_of_another_user, FAILED, 'no running server or client of this user', 'sealgram is closed to this user', 'sudo'),
    (closed_socket, FAILED, 'Permission denied', "another user's", 'sudo'),
    (missing_socket, FAILED, 'No such file or directory', 'does the program run', 'status_socket'),
    (socket_that_was_left, FAILED, 'Connection refused', 'does not run any more'),
    (status_socket_in_no_directory, FAILED, 'No such file or directory', 'the directory must be there', '--status-socket'),
    (status_socket_in_a_closed_directory, FAILED, 'Permission denied', 'able to write to the directory', '--status-socket'),
]


@pytest.mark.parametrize('mistake, code, texts', [
    # under a sanitizer a program needs more descriptors than that, and does not say so
    pytest.param(mistake, code, texts, marks=[pytest.mark.no_sanitize] if mistake is few_descriptors else [])
    for mistake, code, *texts in MISTAKES])
def test_a_mistake_is_told_with_its_cause_and_the_next_step(lab, mistake, code, texts):
    m = Mistake(lab)
    found, said = mistake(m)
    assert found == code, said
    for text in texts:
        assert re.search(text.replace('{port}', str(m.port)), said), f'{text!r} is not in: {said}'
