"""The client towards local applications and a server that this test plays: reply codes, tunnels, errors, exact texts."""
import base64
import hashlib
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEALGRAM = os.environ.get('SEALGRAM', str(ROOT / 'build' / 'sealgram'))
TOKEN = 'sgt1_' + base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip('=')
CONNECT, BIND, ASSOCIATE, CHANNEL = 1, 2, 3, 0xE8
NOTHING = b'\0\1' + bytes(6)  # RSV, ATYP, 0.0.0.0:0


CA_CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost,IP:127.0.0.1
"""


def openssl(*arguments, **options):
    return subprocess.run(['openssl', *arguments], check=True, capture_output=True, **options).stdout


class Keys:
    """A key, a self-signed certificate of it (dates YYYYMMDD), and the pin."""

    def __init__(self, folder, first='20200101', last='20490101'):
        self.cert, self.key = str(folder / 'cert.pem'), str(folder / 'key.pem')
        (folder / 'index').write_text('')
        (folder / 'ca.cnf').write_text(CA_CONFIG.format(folder=folder))
        openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', self.key,
                '-out', str(folder / 'request.pem'), '-subj', '/CN=localhost')
        openssl('ca', '-batch', '-selfsign', '-notext', '-config', str(folder / 'ca.cnf'), '-keyfile', self.key,
                '-in', str(folder / 'request.pem'), '-out', self.cert,
                '-startdate', first + '000000Z', '-enddate', last + '000000Z')
        public = openssl('x509', '-in', self.cert, '-pubkey', '-noout')
        self.pin = hashlib.sha256(openssl('pkey', '-pubin', '-outform', 'der', input=public)).digest()


def field(number, value):
    return struct.pack('!HH', number, len(value)) + value


def channel_block():
    fields = (field(0x8003, bytes(16)) + field(0x8005, b'channel!') + field(0x8006, b'\0\1') + field(0x8007, b'\0\x10')
              + field(8, struct.pack('!I', 100)) + field(9, struct.pack('!I', 120)) + field(10, struct.pack('!I', 17))
              + field(11, bytes(4)) + field(12, bytes(4)))
    return struct.pack('!H', len(fields)) + fields


class Server:
    """SOCKS5 inside TLS as a Sealgram server speaks it, obeying the test: reply is the code for CONNECT and BIND."""

    def __init__(self, keys, alpn='sealgram/1', tls=True, password=None, client_ca=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(keys.cert, keys.key)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca)
        if alpn:
            self.context.set_alpn_protocols([alpn])
        self.keys, self.tls, self.reply = keys, tls, 0
        self.password = password or TOKEN.encode()
        self.requests, self.errors = [], []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        if not self.tls:
            connection.recv(100)
            connection.sendall(b'HTTP/1.0 400 Bad Request\r\n\r\n')
            connection.close()
            return
        try:
            with self.context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as stream:
                self.talk(stream)
        except (OSError, EOFError) as error:
            self.errors.append(error)

    def talk(self, stream):
        take = lambda count: read_exactly(stream, count)  # noqa: E731
        assert take(3) == b'\x05\x01\x02'
        stream.sendall(b'\x05\x02')
        assert take(1) == b'\x01'
        user, password = take(take(1)[0]), take(take(1)[0])
        good = user == b'bob' and password == self.password
        stream.sendall(b'\x01' + bytes([not good]))
        if not good:
            stream.unwrap()
            return
        _, command, _, kind = take(4)
        host = {1: lambda: socket.inet_ntoa(take(4)), 3: lambda: take(take(1)[0]).decode(),
                4: lambda: socket.inet_ntop(socket.AF_INET6, take(16))}[kind]()
        port, = struct.unpack('!H', take(2))
        if command == CHANNEL:
            take(struct.unpack('!H', take(2))[0])
            stream.sendall(b'\x05\0\0\1' + bytes(4) + struct.pack('!H', 9) + channel_block())
            while stream.recv(65536):
                pass
            return
        self.requests.append((command, host, port))
        if self.reply:
            stream.sendall(bytes([5, self.reply]) + NOTHING)
            stream.unwrap()
        elif command == CONNECT:
            target = socket.create_connection((host, port))
            stream.sendall(b'\x05\0\0\1' + endpoint('127.0.0.9', 99))
            join(stream, target)
        else:
            self.bind(stream)

    def bind(self, stream):
        listener = socket.create_server(('127.0.0.1', 0))
        stream.sendall(b'\x05\0\0\1' + endpoint(*listener.getsockname()))
        listener.settimeout(0.1)
        stream.settimeout(0.1)
        while True:
            try:
                target, peer = listener.accept()
                break
            except TimeoutError:
                pass
            try:
                if stream.recv(1) == b'':
                    raise EOFError('the client ended a BIND')
            except TimeoutError:
                pass
        stream.settimeout(None)
        target.settimeout(None)
        stream.sendall(b'\x05\0\0\1' + endpoint(*peer))
        join(stream, target)


def join(stream, target):
    """Both ways until the client's side has ended and then the target's."""
    def up():
        while data := stream.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=up, daemon=True)
    thread.start()
    while data := target.recv(65536):
        stream.sendall(data)
    thread.join()
    stream.unwrap()


def endpoint(host, port):
    return socket.inet_aton(host) + struct.pack('!H', port)


def read_exactly(stream, count):
    data = b''
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return data


def read_all(stream):
    data = b''
    while more := stream.recv(65536):
        data += more
    return data


def invite(port, pin, host='127.0.0.1'):
    query = 'pin=sha256:' + base64.urlsafe_b64encode(pin).decode().rstrip('=') if pin else ''
    return f'sealgram://bob:{TOKEN}@{host}:{port}/' + (f'?{query}' if query else '')


class Client:
    """A client process; its invite comes by standard input."""

    def __init__(self, line, *options):
        self.process = subprocess.Popen([SEALGRAM, 'client', '--socks', '127.0.0.1:0', *options, '-'],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.process.stdin.write(line + '\n')
        self.process.stdin.close()
        self.process.stdin = None
        self.ready = self.process.stdout.readline()
        self.ports = [int(word.rsplit(':', 1)[1]) for word in self.ready.split() if ':' in word]

    def socks(self, command=CONNECT, host='127.0.0.1', port=1, start=b'\x05\x01\x00', early=b''):
        stream = socket.create_connection(('127.0.0.1', self.ports[0]))
        stream.settimeout(20)
        try:
            address = b'\x01' + socket.inet_aton(host)
        except OSError:
            address = b'\x03' + bytes([len(host)]) + host.encode()
        stream.sendall(start + bytes([5, command, 0]) + address + struct.pack('!H', port) + early)
        return stream

    def end(self, code=0, number=signal.SIGTERM):
        if code == 0:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        assert self.process.returncode == code, err
        assert out == ''
        return err


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp('keys'))


@pytest.fixture(scope='module')
def pair(keys, tmp_path_factory):
    """One server and one client for all tests that only look at tunnels."""
    server = Server(keys)
    status = str(tmp_path_factory.mktemp('status') / 'status')
    target = echo_target()
    client = Client(invite(server.port, keys.pin), '--status-socket', status, '--forward',
                    'tcp:127.0.0.1:0=%s:%d' % target)
    client.status, client.target = status, target
    yield server, client
    client.end()
    assert not os.path.exists(status)


@pytest.fixture
def server(pair):
    pair[0].reply = 0
    pair[0].errors.clear()
    yield pair[0]
    assert not pair[0].errors


@pytest.fixture
def client(pair):
    return pair[1]


def echo_target():
    """Echoes until the end of input, then says bye."""
    listener = socket.create_server(('127.0.0.1', 0))

    def one(stream):
        while data := stream.recv(65536):
            stream.sendall(data)
        stream.sendall(b'bye')
        stream.close()

    def run():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()


def test_ready_line(server, client):
    words = client.ready.split()
    assert words[0] == 'ready' and words[1].startswith('socks=127.0.0.1:') and words[2].startswith('forward=tcp:127.0.0.1:')
    assert words[3:] == ['path=stream']


def test_connect_half_close_and_early_data(server, client):
    stream = client.socks(host=client.target[0], port=client.target[1], early=b'early')
    assert read_exactly(stream, 2) == b'\x05\x00'
    assert read_exactly(stream, 10) == b'\x05\0\0\1' + endpoint('127.0.0.9', 99)
    assert read_exactly(stream, 5) == b'early'
    data = os.urandom(3_000_000)
    threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown(socket.SHUT_WR))).start()
    assert read_all(stream) == data + b'bye'
    assert server.requests[-1] == (CONNECT, *client.target)


@pytest.mark.parametrize('reply', range(1, 9))
def test_reply_codes_pass_exactly(server, client, reply):
    server.reply = reply
    for command in (CONNECT, BIND):
        assert read_all(client.socks(command, 'name.test', 80)) == b'\x05\x00' + bytes([5, reply]) + NOTHING
        assert server.requests[-1] == (command, 'name.test', 80)


def test_unknown_command(server, client):
    assert read_all(client.socks(9)) == b'\x05\x00\x05\x07' + NOTHING


def test_bind_has_two_replies(server, client):
    stream = client.socks(BIND)
    first = read_exactly(stream, 12)[2:]
    assert first[:8] == b'\x05\0\0\1\x7f\0\0\1'
    time.sleep(0.2)
    outside = socket.create_connection(('127.0.0.1', struct.unpack('!H', first[8:])[0]))
    assert read_exactly(stream, 10) == b'\x05\0\0\1' + endpoint(*outside.getsockname())
    outside.sendall(b'hello')
    assert read_exactly(stream, 5) == b'hello'
    stream.sendall(b'world')
    assert read_exactly(outside, 5) == b'world'
    stream.shutdown(socket.SHUT_WR)
    assert read_all(outside) == b''
    outside.close()
    assert read_all(stream) == b''


def test_bind_ends_with_its_application(pair):
    server, client = pair
    server.reply = 0
    server.errors.clear()
    stream = client.socks(BIND)
    read_exactly(stream, 12)
    stream.close()
    deadline = time.time() + 5
    while not server.errors and time.time() < deadline:
        time.sleep(0.05)
    assert server.errors


def test_tcp_forward(server, client):
    stream = socket.create_connection(('127.0.0.1', client.ports[1]))
    stream.sendall(b'x' * 100_000)
    stream.shutdown(socket.SHUT_WR)
    assert read_all(stream) == b'x' * 100_000 + b'bye'
    server.reply = 5
    stream = socket.create_connection(('127.0.0.1', client.ports[1]))
    with pytest.raises(ConnectionResetError):
        stream.recv(1)


def test_status(server, client):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(client.status)
    stream.sendall(b'status\n')
    status = json.loads(read_all(stream))
    assert (status['role'], status['session'], status['path'], status['user']) == ('client', 'up', 'stream', 'bob')
    assert status['server'] == f'127.0.0.1:{server.port}'
    assert os.stat(client.status).st_mode & 0o777 == 0o600


def test_local_login(keys, tmp_path):
    password = tmp_path / 'password'
    password.write_text('pass\n')
    password.chmod(0o600)
    server = Server(keys)
    server.reply = 5
    client = Client(invite(server.port, keys.pin), '--socks-user', 'joe', '--socks-password-file', str(password))
    assert read_all(client.socks()) == b'\x05\xff'
    assert read_all(client.socks(start=b'\x05\x01\x02\x01\x03joe\x04pazz')) == b'\x05\x02\x01\x01'
    assert read_all(client.socks(start=b'\x05\x02\x00\x02\x01\x03joe\x04pass')) == b'\x05\x02\x01\x00\x05\x05' + NOTHING
    client.end(number=signal.SIGINT)


def test_wrong_pin(keys):
    server = Server(keys)
    error = Client(invite(server.port, bytes(32))).end(code=1)
    assert f"server 127.0.0.1:{server.port}: server's key does not match the pin in the invite: " in error


def test_expired_certificate(tmp_path):
    keys = Keys(tmp_path, last='20200201')
    server = Server(keys)
    error = Client(invite(server.port, None), '--ca', keys.cert).end(code=1)
    assert f"server 127.0.0.1:{server.port}: server's certificate has expired; " in error
    client = Client(invite(server.port, keys.pin))
    assert client.ready.startswith('ready')
    client.end()


def test_ca(keys):
    server = Server(keys)
    client = Client(invite(server.port, None, 'localhost'), '--ca', keys.cert)
    assert client.ready.startswith('ready')
    client.end()
    error = Client(invite(server.port, None, 'localhost')).end(code=1)
    assert f"server localhost:{server.port}: server's certificate is not from a trusted CA: " in error


def test_other_protocols(keys):
    server = Server(keys, alpn=None)
    error = Client(invite(server.port, keys.pin)).end(code=1)
    assert 'no common application protocol (ALPN sealgram/1)\n' in error
    server = Server(keys, tls=False)
    error = Client(invite(server.port, keys.pin)).end(code=1)
    assert 'peer does not speak TLS\n' in error


def test_wrong_token(keys):
    server = Server(keys, password=b'other')
    error = Client(invite(server.port, keys.pin)).end(code=1)
    assert f'server 127.0.0.1:{server.port}: ' in error and 'the invite was refused: ' in error


def test_own_certificate_refused(keys, tmp_path):
    other = Keys(tmp_path)
    server = Server(keys, client_ca=keys.cert)
    for _ in range(5):  # the alert must win against the reset that follows it
        error = Client(invite(server.port, keys.pin), '--cert', other.cert, '--key', other.key).end(code=1)
        assert f'server 127.0.0.1:{server.port}: own certificate refused by the peer (' in error


def test_next_invite_after_failure(keys):
    server = Server(keys)
    with socket.socket() as deaf:
        deaf.bind(('127.0.0.1', 0))
        port = deaf.getsockname()[1]
        client = Client(invite(port, keys.pin) + '\n' + invite(server.port, keys.pin))
    assert client.ready.startswith('ready')
    assert f'server 127.0.0.1:{port}: connection refused' in client.end()


def test_no_server_is_told_at_once(keys):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([SEALGRAM, 'client', '--socks', f'127.0.0.1:{port}', '-'], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(invite(1, keys.pin).encode())
    process.stdin.close()
    process.stdin = None
    deadline = time.time() + 10
    while True:
        try:
            socket.create_connection(('127.0.0.1', port)).close()
            break
        except ConnectionRefusedError:
            assert time.time() < deadline
            time.sleep(0.05)
    client = Client.__new__(Client)
    client.ports = [port]
    for command in (CONNECT, BIND, ASSOCIATE):
        assert read_all(client.socks(command)) == b'\x05\x00\x05\x01' + NOTHING
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == b''
    assert process.returncode == 0


def refused(*arguments, line=None):
    return subprocess.run([SEALGRAM, 'client', *arguments], input=line, capture_output=True, text=True, timeout=20)


def test_port_in_use(keys):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        done = refused('--socks', f'127.0.0.1:{port}', '-', line=invite(1, keys.pin))
        assert done.returncode == 1
        assert f'cannot listen on TCP 127.0.0.1:{port} (--socks): Address already in use: ' in done.stderr
        done = refused('--no-socks', '--forward', f'tcp:127.0.0.1:{port}=127.0.0.1:9', '-', line=invite(1, keys.pin))
        assert done.returncode == 1
        assert f'cannot listen on TCP 127.0.0.1:{port} (--forward): Address already in use: ' in done.stderr


@pytest.mark.parametrize('arguments, text', [
    ([], 'INVITE is missing'),
    (['--socks', '0.0.0.0:1080', '-'], '--socks 0.0.0.0:1080: not a loopback address'),
    (['--socks', 'nonsense', '-'], '--socks nonsense: must be ADDRESS:PORT'),
    (['--forward', 'sctp:127.0.0.1:1=h:2', '-'], 'must begin with udp:, udp-only: or tcp:'),
    (['--forward', 'udp:127.0.0.1:1', '-'], 'not of the form udp:LISTEN=TARGET'),
    (['--forward', 'udp:host:1=h:2', '-'], 'LISTEN: must be ADDRESS:PORT'),
    (['--forward', 'udp:127.0.0.1:1=h', '-'], 'TARGET is not of the form HOST:PORT'),
    (['--no-socks', '-'], '--no-socks goes with --forward'),
    (['--socks-user', 'joe', '-'], '--socks-user and --socks-password-file belong together'),
    (['--cert', 'x', '-'], '--cert and --key belong together'),
    (['a', 'b'], 'one INVITE is enough'),
    (['--nonsense', '-'], 'unrecognized option'),
])
def test_wrong_command_line(arguments, text):
    done = refused(*arguments, line='')
    assert done.returncode == 2
    assert text in done.stderr and done.stdout == ''


def test_bad_invites(tmp_path, keys):
    assert refused('nonsense').returncode == 1
    done = refused('@' + str(tmp_path / 'missing'))
    assert done.returncode == 1 and 'missing: No such file or directory\n' in done.stderr
    empty = tmp_path / 'empty'
    empty.write_text('# nothing\n\n')
    done = refused(f'@{empty}')
    assert done.returncode == 1 and 'empty: no invite in it\n' in done.stderr
    broken = tmp_path / 'broken'
    broken.write_text('# comment\nsealgram://\n')
    done = refused(f'@{broken}')
    assert done.returncode == 1 and 'broken:2: ' in done.stderr
