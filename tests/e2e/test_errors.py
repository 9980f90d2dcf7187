"""What a user reads when it does not work: the whole of standard error, and the exit code."""
import datetime
import os
import re
import socket
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import SEALGRAM, free_port, run, wait_for, without_times

FAILED, CONFIG = 1, 3
INVITE = ('sealgram: error: server 127.0.0.1:{port}: the invite was refused: it has expired, was revoked or replaced, or as '
          'many devices as may have used it; ask whoever runs the server for a new one (its log says which it was)\n')
PASSWORD = ('sealgram: error: server 127.0.0.1:{port}: user or password refused; whoever runs the server can set a new one '
            'with `sealgram passwd DIR USER`\n')
PIN = ("sealgram: error: server 127.0.0.1:{port}: server's key does not match the pin in the invite: if the server was made "
       'anew, ask whoever runs it for a new invite; if it was not, somebody stands between you and it\n')

TAKEN = "Address already in use: `ss -tulpn 'sport = :{}'` shows which program has the port; {} may name another\n"


@pytest.fixture
def served(lab):
    """(folder, port, invite) of a running server."""
    folder, port, invite = lab.init()
    lab.server(folder)
    return folder, port, invite


def refused(lab, invite, *options):
    """Standard error of a client that has to end by itself."""
    path = lab.folder / 'an invite'
    path.write_text(invite + '\n')
    path.chmod(0o600)
    done = run('client', '--socks', '127.0.0.1:0', *options, f'@{path}', folder=lab.folder)
    assert (done.returncode, done.stdout) == (FAILED, '')
    return done.stderr


@pytest.mark.parametrize('pattern, replacement, text', [
    ('.{4}@', 'AAAA@', INVITE),
    (':[^:@]+@', ':a-password@', PASSWORD),
    ('alice', 'nobody', INVITE),
    ('sha256:.*', 'sha256:' + 'A' * 43, PIN)])
def test_whom_the_server_does_not_know_and_a_server_that_is_another(lab, served, pattern, replacement, text):
    _, port, invite = served
    assert refused(lab, re.sub(pattern, replacement, invite)) == text.format(port=port)


def write_expired(key_file, out, name):
    """A certificate of a CA for its own key that ended yesterday: not every openssl makes one."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()) \
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=2)) \
        .not_valid_after(now - datetime.timedelta(days=1)) \
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    out.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_an_expired_certificate_of_a_ca(lab):
    folder, port, invite = lab.init()
    ca, key, request = (lab.folder / name for name in ('ca.pem', 'ca.key', 'request'))
    (lab.folder / 'server.ext').write_text('subjectAltName=IP:127.0.0.1\n')
    key.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    write_expired(key, ca, 'a CA')
    for words in (['req', '-new', '-key', folder / 'key.pem', '-subj', '/CN=server', '-out', request],
                  ['x509', '-req', '-in', request, '-CA', ca, '-CAkey', key, '-CAcreateserial', '-days', '2',
                   '-extfile', lab.folder / 'server.ext', '-out', folder / 'cert.pem']):
        subprocess.run(['openssl', *map(str, words)], check=True, capture_output=True)
    lab.server(folder)
    assert refused(lab, invite.split('?')[0], '--ca', ca) == \
        f"sealgram: error: server 127.0.0.1:{port}: server's certificate has expired; `sealgram renew-cert DIR` on the server makes a " \
        'new one\n'


def test_an_expired_certificate_of_the_server(lab):
    folder, _, _ = lab.init()
    (folder / 'cert.pem').unlink()
    write_expired(folder / 'key.pem', folder / 'cert.pem', 'server')
    done = run('server', '-c', folder / 'server.yaml', folder=lab.folder)
    assert (done.returncode, done.stdout, done.stderr) == \
        (CONFIG, '', f'sealgram: error: {folder}/cert.pem: has expired: sealgram renew-cert DIR makes a new one with '
         'the same key\n')


def test_a_server_that_is_gone(lab):
    _, port, invite = lab.init()
    client = lab.client(invite, ready=False)
    wait_for(lambda: client.err.endswith('\n'), 5, 'the warning')
    assert client.err == f'sealgram: warning: server 127.0.0.1:{port}: connection refused (is the server running, and is {port} its ' \
        'port?); trying again\n'
    assert client.out == ''


def test_ports_in_use(lab, served):
    folder, port, invite = served
    done = run('server', '-c', folder / 'server.yaml', folder=lab.folder)
    assert (done.returncode, done.stdout, done.stderr) == \
        (FAILED, '', f'sealgram: error: cannot listen on TCP 127.0.0.1:{port} (listen): {TAKEN}'.format(port, 'listen'))
    taken = free_port()
    for options, kind, option in ((['--socks', f'127.0.0.1:{taken}'], socket.SOCK_STREAM, 'socks'),
                                  (['--forward', f'tcp:127.0.0.1:{taken}=a:1'], socket.SOCK_STREAM, 'forward'),
                                  (['--forward', f'udp:127.0.0.1:{taken}=a:1'], socket.SOCK_DGRAM, 'forward')):
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(('127.0.0.1', taken))
            if kind == socket.SOCK_STREAM:
                other.listen()
            proto = 'TCP' if kind == socket.SOCK_STREAM else 'UDP'
            assert refused(lab, invite, *options) == \
                f'sealgram: error: cannot listen on {proto} 127.0.0.1:{taken} (--{option}): ' + \
                TAKEN.format(taken, f'--{option}')


@pytest.mark.parametrize('added, text', [
    ('colour: blue', 'colour: unknown key'),
    ('workers: many', 'workers: must be a whole number'),
    ('limits:\n  sessions: [1]', 'sessions: must be a whole number'),
    ('plain_udp:\n  from: [everywhere]',
     "from: 'everywhere' is not a network: ADDRESS/BITS without host bits")])
def test_a_configuration_with_a_mistake(lab, added, text):
    folder, _, _ = lab.init()
    lines = len((folder / 'server.yaml').read_text().splitlines()) + 1 + len(added.splitlines())
    lab.edit_config(folder, added)
    done = run('server', '-c', folder / 'server.yaml', '--check', folder=lab.folder)
    assert (done.returncode, done.stdout) == (CONFIG, '')
    assert done.stderr == f'sealgram: error: {folder}/server.yaml:{lines}: {text}\n'


def test_a_key_that_others_may_read_or_nobody(lab):
    folder, _, _ = lab.init()
    key, config = folder / 'key.pem', folder / 'server.yaml'
    line = 1 + [text.partition(':')[0] for text in config.read_text().splitlines()].index('key')
    key.chmod(0o644)
    done = run('server', '-c', config, folder=lab.folder)
    assert (done.returncode, done.stderr) == \
        (CONFIG, f'sealgram: error: {config}:{line}: key: {key}: others may read or write it (mode 0644): '
         f'chmod 600 {key}\n')
    key.unlink()
    done = run('server', '-c', config, folder=lab.folder)
    assert (done.returncode, done.stderr) == \
        (CONFIG, f'sealgram: error: {config}:{line}: key: {key}: No such file or directory\n')


@pytest.mark.parametrize('name', ['key.pem', 'users'])
def test_a_secret_that_the_server_may_not_read(lab, program, name):
    folder, _, _ = lab.init()
    config = folder / 'server.yaml'
    line = next(number for number, text in enumerate(config.read_text().splitlines(), 1) if text.endswith(f': {name}'))
    (folder / name).chmod(0)
    # root without capabilities is stopped by the mode as anybody is
    prefix = [program('setpriv'), '--bounding-set=-all'] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, SEALGRAM, 'server', '-c', config], capture_output=True, text=True, timeout=20)
    key = name.removesuffix('.pem')
    assert (done.returncode, done.stdout, without_times(done.stderr)) == \
        (CONFIG, '', f'sealgram: error: {config}:{line}: {key}: {folder}/{name}: Permission denied\n')


@pytest.mark.parametrize('at', ['0.0.0.0', '[::]'])
def test_a_server_without_users_that_others_would_reach(lab, at):
    folder, _, _ = lab.init(user=None, listen=[f'{at}:{free_port()}'])
    done = run('server', '-c', folder / 'server.yaml', folder=lab.folder)
    assert (done.returncode, done.stdout, done.stderr) == \
        (CONFIG, '', f'sealgram: error: {folder}/users: there is no user, and the server would be reachable from other '
         'machines: `sealgram invite DIR USER` adds one (or, for a server open to everyone, '
         'allow_anyone_without_authentication: true)\n')


@pytest.mark.parametrize('mode, text, reason', [
    (0o640, 'pass\n', 'others may read it (mode 0640): chmod 600 {path}'),
    (0o600, '\n', 'the first line must be a password of 1 to 255 bytes'),
    (0o600, 'x' * 256 + '\n', 'the first line must be a password of 1 to 255 bytes'),
    (None, '', 'No such file or directory')])
def test_a_password_file_of_a_client(lab, mode, text, reason):
    _, _, invite = lab.init()
    path = lab.folder / 'password'
    if mode is not None:
        path.write_text(text)
        path.chmod(mode)
    assert refused(lab, invite, '--socks-user', 'joe', '--socks-password-file', path) == \
        f'sealgram: error: {path}: {reason.format(path=path)}\n'
