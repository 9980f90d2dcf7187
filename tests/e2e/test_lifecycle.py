"""The command line as it is documented, from `init` to the last datagram: every form, run as a user would type it."""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from harness import (CONNECT, MARKER, SEALGRAM, SocksUdp, TcpServer, free_port, run, socks_request, sum_ledger,
                     wait_for)


def write_secret(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def ask_udp(address, data, seconds=5):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.sendto(data, address)
        return sock.recv(65536)


def test_from_init_to_answers(lab, echo, tcp_echo):
    """init, server --check, server, client with all listeners, datagrams and connections, status, and the end."""
    folder, port = lab.folder / 'etc', free_port()
    made = run('init', folder, '--listen', f'127.0.0.1:{port}', '--host', '127.0.0.1', '--allow', '127.0.0.0/8',
               '--user', 'alice')
    assert made.returncode == 0 and made.stdout.count('\n') == 1 and made.stdout.startswith('sealgram://alice:sgt1_')
    assert f'sealgram server -c {folder}/server.yaml' in made.stderr, 'the next command to type'
    invite = write_secret(lab.folder / 'alice.invite', made.stdout)
    config = folder / 'server.yaml'
    assert run('server', '-c', config, '--check').stdout == f'configuration ok: {config}\n'

    server = lab.start('server', 'server', '-c', config)
    assert server.ready()['line'] == f'ready 127.0.0.1:{port}'
    client = lab.start('client', 'client', '--socks', '127.0.0.1:0',
                       '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}',
                       '--forward', f'tcp:127.0.0.1:0=127.0.0.1:{tcp_echo.address[1]}', f'@{invite}')
    line = client.ready()['line']
    found = re.fullmatch(r'ready socks=127\.0\.0\.1:(\d+) forward=udp:127\.0\.0\.1:(\d+) '
                         r'forward=tcp:127\.0\.0\.1:(\d+) path=udp', line)
    assert found, line
    socks, udp, tcp = (('127.0.0.1', int(number)) for number in found.groups())

    assert ask_udp(udp, MARKER) == MARKER
    with socket.create_connection(tcp, 5) as sock:
        sock.sendall(MARKER)
        assert sock.recv(64) == MARKER
    app, code, _ = socks_request(socks, CONNECT, *tcp_echo.address)
    with app:
        assert code == 0
    association = lab.open(SocksUdp(socks))
    assert association.ask(MARKER, echo.address) == (MARKER, echo.address)

    for program, role in ((server, 'server'), (client, 'client')):
        status = program.status()
        assert status['role'] == role and status['tls_handshakes'] >= 1 and status['associations'] == 2
        for ledger in status['up'], status['down']:
            assert ledger['forwarded'] >= 2 and ledger['forwarded_bytes'] >= 32 and ledger['received_bytes'] >= 32
            assert sum_ledger(ledger) == ledger['received']
            assert {'forged', 'replayed', 'policy', 'junk'} <= set(ledger['drops'])
    assert server.status()['sessions'] == 1 and server.status()['suites'] == {'XAES-256-GCM': 1}
    assert (client.status()['path'], client.status()['suite']) == ('udp', 'XAES-256-GCM')

    client.stop(signal.SIGINT)
    wait_for(lambda: server.status()['sessions'] == 0, 5, 'CLOSE')
    server.stop(signal.SIGTERM)
    assert server.out == f'ready 127.0.0.1:{port}\n' and client.out == line + '\n', 'one line on standard output'


@pytest.mark.parametrize('form', ['argument', 'file', 'several in a file', 'standard input'])
def test_each_way_to_give_an_invite(lab, echo, form):
    folder, _, invite = lab.init()
    lab.server(folder)
    wrong = invite.replace('alice', 'nobody')
    path = write_secret(lab.folder / 'invites', {'several in a file': f'# mine\n{wrong}\n\n{invite}\n'}.get(form, invite))
    forward = ['--no-socks', '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}']
    with open(path, encoding='ascii') as file:
        client = lab.start('client', 'client', *forward,
                           {'argument': invite, 'standard input': '-'}.get(form, f'@{path}'),
                           stdin=file if form == 'standard input' else None)
        address = client.ready()['forward'][0].removeprefix('udp:')
    assert ask_udp(('127.0.0.1', int(address.rpartition(':')[2])), MARKER) == MARKER
    assert ('@FILE' in client.err) == (form == 'argument'), 'an argument shows in ps: the hint says how not to'


def test_revoking_ends_the_user_s_sessions_within_a_second(lab, echo):
    folder, _, invite = lab.init()
    server = lab.server(folder)
    bob = lab.invite(folder, 'bob')
    wait_for(lambda: 'user file read again: 2 users' in server.err, 2, 'reload')
    clients = [lab.client(text, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}') for text in (invite, bob)]
    assert all(ask_udp(client.forwards[0], MARKER) == MARKER for client in clients)
    assert run('revoke', folder, 'bob').returncode == 0
    start = time.monotonic()
    wait_for(lambda: server.status()['sessions'] == 1, 3, 'the end of the session')
    assert time.monotonic() - start < 1.2
    assert run('users', folder).stdout.split()[0] == 'alice'
    wait_for(lambda: 'the invite was refused' in clients[1].err, 5, 'the reason, in its log')
    assert socks_request(clients[1].socks, CONNECT, '127.0.0.1', 9)[1] == 1, 'told at once'
    assert ask_udp(clients[0].forwards[0], MARKER) == MARKER


def test_a_renewed_certificate_needs_no_new_invite(lab, echo):
    folder, _, invite = lab.init()
    before = (folder / 'cert.pem').read_bytes()
    assert run('renew-cert', folder).returncode == 0
    assert (folder / 'cert.pem').read_bytes() != before
    lab.server(folder)
    client = lab.client(invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    assert ask_udp(client.forwards[0], MARKER) == MARKER


def test_a_certificate_of_a_ca_works_without_a_pin(lab, echo):
    folder, port, invite = lab.init()
    ca, key = lab.folder / 'ca.pem', lab.folder / 'ca.key'

    def openssl(*words):
        subprocess.run(['openssl', *map(str, words)], check=True, capture_output=True)
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', ca, '-days', '2',
            '-subj', '/CN=test CA')
    openssl('req', '-new', '-key', folder / 'key.pem', '-subj', '/CN=server', '-out', lab.folder / 'csr')
    (lab.folder / 'ext').write_text('subjectAltName=IP:127.0.0.1\n')
    openssl('x509', '-req', '-in', lab.folder / 'csr', '-CA', ca, '-CAkey', key, '-CAcreateserial', '-days', '1',
            '-extfile', lab.folder / 'ext', '-out', folder / 'cert.pem')
    lab.server(folder)
    client = lab.client(invite.split('?')[0], '--ca', ca, '--forward',
                        f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    assert ask_udp(client.forwards[0], MARKER) == MARKER and port


class TcpOnly:
    """Passes TCP on to a server's port, and nothing else: what a network that blocks UDP does."""

    def __init__(self, lab, port):
        self.port = port
        self.server = lab.open(TcpServer(self.handle))

    def handle(self, connection):
        with socket.create_connection(('127.0.0.1', self.port)) as far:
            threads = [threading.Thread(target=self.copy, args=pair, daemon=True)
                       for pair in ((connection, far), (far, connection))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    @staticmethod
    def copy(source, to):
        try:
            source.settimeout(None)
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_where_udp_is_blocked_datagrams_go_inside_tls_after_one_warning(lab, echo):
    folder, port, invite = lab.init()
    server = lab.server(folder)
    middle = TcpOnly(lab, port)
    seen = middle.server.address[1]
    start = time.monotonic()
    client = lab.client(invite.replace(f':{port}/', f':{seen}/'), '--forward',
                        f'udp:127.0.0.1:0=127.0.0.1:{echo.address[1]}')
    assert client.words['path'] == 'stream' and 2.5 < time.monotonic() - start < 6
    warnings = [line for line in client.err.splitlines() if 'warning' in line]
    assert len(warnings) == 1, client.err
    assert f'127.0.0.1:{seen}' in warnings[0] and 'firewall' in warnings[0] and 'UDP' in warnings[0]
    for size in 1, 1400, 60000:
        data = os.urandom(size)
        assert ask_udp(client.forwards[0], data) == data
    assert client.status()['path'] == 'stream'
    assert server.status()['up']['streamed'] == 3 and server.status()['down']['streamed'] == 3


def test_control_sockets_are_private_and_one_for_each_program(lab):
    folder, _, invite = lab.init()
    server = lab.server(folder)
    clients = [lab.client(invite) for _ in range(2)]
    sockets = sorted((lab.folder / 'sealgram').glob('*.sock'))
    assert [path.name for path in sockets] == sorted(
        [f'server-{server.process.pid}.sock', *(f'client-{client.process.pid}.sock' for client in clients)])
    for path in sockets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        shown = run('status', '--socket', path, folder=lab.folder)
        assert shown.returncode == 0 and re.search(r'^role: (server|client)$', shown.stdout, re.M)
        assert json.loads(run('status', '--json', '--socket', path, folder=lab.folder).stdout)['role'] in shown.stdout
    clients[0].stop()
    assert not list((lab.folder / 'sealgram').glob(f'client-{clients[0].process.pid}.sock')), 'taken away at the end'


def test_quiet_and_verbose(lab):
    folder, _, invite = lab.init()
    path = write_secret(lab.folder / 'invite', invite)
    server = lab.start('server', 'server', '-q', '-c', folder / 'server.yaml')
    server.ready()
    logs = {}
    for option in '-q', '-v':
        client = lab.start('client', 'client', option, '--socks', '127.0.0.1:0', f'@{path}')
        client.ready()
        client.stop()
        logs[option] = client.err
    assert logs['-q'] == '' and server.err == ''
    assert 'sealgram: info: path: udp\n' in logs['-v']


@pytest.mark.slow
def test_the_demonstration(lab):
    start = time.monotonic()
    done = subprocess.run([SEALGRAM, 'demo', '--seed', '7'], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, 'XDG_RUNTIME_DIR': str(lab.folder)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - start < 20
    for label in 'sent', 'delivered', 'replays refused', 'forgeries refused':
        assert re.search(rf'{label}\D+[1-9]\d*', done.stdout, re.I), (label, done.stdout)
    assert re.search(r'payloads seen in clear on the wire\D+0\b', done.stdout), done.stdout
    for label in 'indicator', 'channel', 'sender', 'counter', 'tag':
        assert label in done.stdout, done.stdout
