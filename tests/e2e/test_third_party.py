"""Programs that know nothing of Sealgram: SOCKS5 over TLS and upgraded to it, SIP, QUIC, a browser."""
import contextlib
import hashlib
import http.server
import json
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from direct import ask, credentials, dial, dial_tls, log_in, login, trust
from harness import (CONNECT, ROOT, Lab, TcpServer, UdpEcho, free_port, read_reply, receive, run, socks_address,
                     sum_ledger, wait_for)

LARGE = 5_000_000
NOTHING = ('0.0.0.0', 0)
UNPACKED = ROOT / '.deps' / 'ngtcp2-server' / 'usr' / 'sbin' / 'gtlsserver'
V2RAY = ROOT / '.deps' / 'v2ray' / 'usr' / 'bin' / 'v2ray'
IN_THE_CLEAR = 'plain_socks:\n  from: ["127.0.0.1/32"]'


class Background:
    """A program of others that runs until the test ends."""

    def __init__(self, lab, name, argv, **options):
        self.path = lab.folder / f'{lab.name(name)}.log'
        with open(self.path, 'wb') as log:
            self.process = subprocess.Popen([str(word) for word in argv], cwd=lab.folder, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, **options)
        lab.open(self)

    @property
    def log(self):
        return self.path.read_text(errors='replace')

    def close(self):
        self.process.terminate()
        self.process.wait()


def wait_for_udp(port):
    """Until somebody has bound this UDP port."""
    pattern = re.compile(rf'^ *\d+: [0-9A-F]+:{port:04X} ', re.MULTILINE)

    def is_bound():
        with open('/proc/net/udp', encoding='ascii') as table:
            return pattern.search(table.read())
    wait_for(is_bound, what=f'a listener on UDP port {port}')


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def web(lab):
    """An HTTP server with a large file and a page that a script fills."""
    folder = lab.folder / 'web'
    folder.mkdir()
    (folder / 'large').write_bytes(random.randbytes(LARGE))
    (folder / 'page.html').write_text('<html><body><p id="x">before</p><script>'
                                      'document.getElementById("x").textContent = "made by " + "a script";'
                                      '</script></body></html>')

    class Web(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def close(self):
            self.shutdown()
            self.server_close()
    server = Web(('127.0.0.1', 0), lambda *words: Files(*words, directory=str(folder)))
    server.digest = hashlib.sha256((folder / 'large').read_bytes()).hexdigest()
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
    return lab.open(server)


def fetch(lab, program, option, proxy, url):
    """What curl says and the SHA-256 of what it fetched."""
    path = lab.folder / lab.name('fetched')
    done = subprocess.run([program('curl'), '-q', '-sS', '--fail', '--noproxy', '', '--max-time', '30', option, proxy,
                           '-o', str(path), url], capture_output=True, text=True, timeout=40, check=False)
    return done, hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


@pytest.fixture(scope='module')
def server():
    """Folder, port and invite of a server that many tests talk to."""
    lab = Lab()
    folder, port, invite = lab.init()
    lab.server(folder)
    yield folder, port, invite
    lab.close()


# --- SOCKS5 over TLS ---

def carrier(lab, program, kind, folder, port):
    """A local TCP port whose connections travel to the server inside TLS, the certificate verified; the port."""
    program('openssl')
    to = {'socat': f'OPENSSL:127.0.0.1:{port},verify=1,cafile={folder}/cert.pem,commonname=127.0.0.1',
          's_client': f'EXEC:"openssl s_client -quiet -verify_quiet -verify_return_error -verify_ip 127.0.0.1 '
                      f'-CAfile {folder}/cert.pem -connect 127.0.0.1\\:{port}"'}[kind]
    process = Background(lab, kind, [program('socat'), '-d', '-d', 'TCP-LISTEN:0,bind=127.0.0.1,fork,reuseaddr', to])
    return int(wait_for(lambda: re.search(r'listening on AF=2 127\.0\.0\.1:(\d+)', process.log), what='socat').group(1))


@pytest.mark.parametrize('kind', ['socat', 's_client'])
def test_curl_over_a_tls_carrier(lab, program, web, kind):
    folder, port, invite = lab.init()
    server = lab.server(folder)
    local = carrier(lab, program, kind, folder, port)
    user, token = credentials(invite)
    for option, host in (('--socks5', '127.0.0.1'), ('--socks5-hostname', 'localhost')):
        proxy = f'{user}:{token}@127.0.0.1:{local}'
        done, digest = fetch(lab, program, option, proxy, f'http://{host}:{web.server_port}/large')
        assert done.returncode == 0, done.stderr
        assert digest == web.digest
    wrong = f'{user}:{token[:-4]}AAAA@127.0.0.1:{local}'
    done, _ = fetch(lab, program, '--socks5', wrong, f'http://127.0.0.1:{web.server_port}/large')
    assert done.returncode == 97 and 'rejected by the SOCKS5 server' in done.stderr
    status = server.status()
    assert status['tls_handshakes'] == 3 and status['sessions'] == 0


def test_curl_with_a_password_that_is_no_token(lab, program, web):
    folder, port, _ = lab.init()
    lab.server(folder)
    assert run('passwd', folder, 'alice', stdin='correct-horse-battery\n').returncode == 0
    local = carrier(lab, program, 'socat', folder, port)
    url = f'http://127.0.0.1:{web.server_port}/large'

    def is_known():  # the server notices new credentials within a second
        done, digest = fetch(lab, program, '--socks5', f'alice:correct-horse-battery@127.0.0.1:{local}', url)
        return done.returncode == 0 and digest == web.digest
    wait_for(is_known, 5, 'the password')
    done, _ = fetch(lab, program, '--socks5', f'alice:wrong-horse-battery@127.0.0.1:{local}', url)
    assert done.returncode == 97 and 'rejected by the SOCKS5 server' in done.stderr


def check_library(socks, port, invite, tcp_echo, echo):
    user, token = credentials(invite)
    for kind, target in ((socket.SOCK_STREAM, tcp_echo), (socket.SOCK_DGRAM, echo)):
        with socks.socksocket(socket.AF_INET, kind) as sock:
            sock.set_proxy(socks.SOCKS5, '127.0.0.1', port, username=user, password=token)
            sock.settimeout(5)
            sock.connect(target.address)
            sock.send(b'through')
            assert sock.recv(100) == b'through'


def test_a_third_party_library_over_a_tls_carrier(lab, program, server, tcp_echo, echo):
    """CONNECT, and plain UDP, which policy allows from loopback."""
    socks = pytest.importorskip('socks')
    folder, port, invite = server
    local = carrier(lab, program, 'socat', folder, port)
    check_library(socks, local, invite, tcp_echo, echo)


@pytest.mark.parametrize('options, expected', [
    (['-alpn', 'socks5'], 'ALPN protocol: socks5'),
    (['-alpn', 'h2,socks5'], 'ALPN protocol: socks5'),
    ([], 'No ALPN negotiated'),
    (['-alpn', 'h2'], 'alert no application protocol'),
    (['-tls1_2'], 'alert protocol version')])
def test_what_tls_offers(program, server, options, expected):
    _, port, _ = server
    done = subprocess.run([program('openssl'), 's_client', '-connect', f'127.0.0.1:{port}', *options], input='',
                          capture_output=True, text=True, timeout=20, check=False)
    assert expected in done.stdout + done.stderr
    assert ('New, TLSv1.3' in done.stdout) == ('alert' not in expected)


def test_a_channel_needs_its_own_protocol(server):
    folder, port, invite = server
    with dial_tls(folder, port) as tls:
        log_in(tls, invite)
        assert ask(tls, 0xE8, '0.0.0.0', 0) == (7, NOTHING)
        assert tls.recv(1) == b''


# --- TLS after a method in the clear ---

def greet(port, methods, source=None):
    sock = dial(port, source=source)
    sock.sendall(bytes([5, len(methods), *methods]))
    return sock


def upgrade(sock, folder, certificate=None):
    return trust(folder, certificate).wrap_socket(sock, server_hostname='127.0.0.1')


@pytest.mark.parametrize('methods', [[0x82], [0, 2, 0x82], [0x80, 0x82], [0x82, 0x80, 2, 0, 1]])
def test_tls_and_password(server, tcp_echo, methods):
    folder, port, invite = server
    sock = greet(port, methods)
    assert receive(sock, 2) == b'\5\x82'
    with upgrade(sock, folder) as tls:
        tls.sendall(login(*credentials(invite)))
        assert receive(tls, 2) == b'\1\0'
        assert ask(tls, CONNECT, *tcp_echo.address)[0] == 0
        tls.sendall(b'upgraded')
        assert receive(tls, 8) == b'upgraded'


def test_login_and_request_in_one_flight_after_the_upgrade(server, tcp_echo):
    folder, port, invite = server
    sock = greet(port, [0x82])
    assert receive(sock, 2) == b'\5\x82'
    with upgrade(sock, folder) as tls:
        request = bytes([5, CONNECT, 0]) + socks_address(*tcp_echo.address)
        tls.sendall(login(*credentials(invite)) + request + b'at once')
        assert receive(tls, 2) == b'\1\0'
        assert read_reply(tls)[0] == 0
        assert receive(tls, 7) == b'at once'


def test_a_channel_after_the_upgrade(server):
    folder, port, invite = server
    context = trust(folder)
    context.set_alpn_protocols(['sealgram/1'])
    sock = greet(port, [0x82])
    assert receive(sock, 2) == b'\5\x82'
    with context.wrap_socket(sock, server_hostname='127.0.0.1') as tls:
        assert tls.selected_alpn_protocol() == 'sealgram/1'
        block = bytes.fromhex('800100010180020004 00010002')  # VERB OPEN, SUITES 1 and 2
        tls.sendall(login(*credentials(invite)) + b'\5\xe8\0\1' + bytes(6) + struct.pack('!H', len(block)) + block)
        assert receive(tls, 2) == b'\1\0'
        assert read_reply(tls)[0] == 0
        fields = receive(tls, struct.unpack('!H', receive(tls, 2))[0])
        assert b'\x80\3\0\x10' in fields, 'no handle'


def test_a_wrong_password_after_the_upgrade(server):
    folder, port, _ = server
    sock = greet(port, [0x82])
    assert receive(sock, 2) == b'\5\x82'
    with upgrade(sock, folder) as tls:
        tls.sendall(login('alice', 'sgt1_' + 43 * 'A'))
        assert receive(tls, 2) == b'\1\1'
        assert tls.recv(1) == b''


@pytest.mark.parametrize('early', [b'\x16', login('alice', 'secret'), b'\5\1\0\1\x7f\0\0\1\0\x50'])
def test_bytes_behind_the_greeting_end_an_upgrade(server, early):
    _, port, _ = server
    with dial(port) as sock:
        sock.sendall(b'\5\1\x82' + early)
        with pytest.raises((EOFError, ConnectionResetError)):
            receive(sock, 3)


@pytest.mark.parametrize('early', [b'\5\1\2' + login('alice', 'secret'), b'GET / HTTP/1.1\r\n\r\n'])
def test_no_going_on_in_the_clear_after_the_upgrade_was_agreed(server, early):
    _, port, _ = server
    with greet(port, [0x82]) as sock:
        assert receive(sock, 2) == b'\5\x82'
        sock.sendall(early)
        answer = b''
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(100):
                answer += data
        assert not answer or answer[0] == 0x15  # a TLS alert at most


@pytest.fixture
def certificates(lab, program):
    """A CA, and certificate and key of alice (known), bob (knows a token only) and eve (unknown)."""
    folder = lab.folder / 'ca'
    folder.mkdir()

    def openssl(*words):
        subprocess.run([program('openssl'), *words], cwd=folder, check=True, capture_output=True, timeout=20)
    key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
    openssl('req', '-x509', *key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test CA', '-days', '2')
    for user in ('alice', 'bob', 'eve'):
        openssl('req', *key, '-keyout', f'{user}.key', '-out', f'{user}.csr', '-subj', f'/CN={user}')
        openssl('x509', '-req', '-in', f'{user}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
                '-out', f'{user}.pem', '-days', '2')
    return folder


@pytest.fixture
def certified(lab, certificates):
    """A server that asks for certificates: (folder, port, bob's invite, certificate and key by user)."""
    folder, port, invite = lab.init(user='bob')
    assert run('invite', '--certificate', folder, 'alice').returncode == 0
    lab.edit_config(folder, f'client_ca: {certificates}/ca.pem')
    lab.server(folder)
    return folder, port, invite, lambda user: (certificates / f'{user}.pem', certificates / f'{user}.key')


@pytest.mark.parametrize('methods', [[0x80], [0x80, 0, 2]])
def test_tls_with_a_certificate_instead_of_a_password(certified, tcp_echo, methods):
    folder, port, _, certificate = certified
    sock = greet(port, methods)
    assert receive(sock, 2) == b'\5\x80'
    with upgrade(sock, folder, certificate('alice')) as tls:
        assert ask(tls, CONNECT, *tcp_echo.address)[0] == 0  # the request at once, no second greeting
        tls.sendall(b'certified')
        assert receive(tls, 9) == b'certified'


@pytest.mark.parametrize('user', [None, 'bob', 'eve'])
def test_tls_without_a_certificate_that_names_a_user(lab, certified, user):
    seen = []
    target = lab.open(TcpServer(seen.append))
    folder, port, _, certificate = certified
    sock = greet(port, [0x80])
    assert receive(sock, 2) == b'\5\x80'
    shown = certificate(user) if user else None
    with pytest.raises((EOFError, ConnectionError, ssl.SSLError)), upgrade(sock, folder, shown) as tls:
        ask(tls, CONNECT, *target.address)
    assert not seen


def test_a_password_where_certificates_are_known_too(certified, tcp_echo):
    """0x82 is preferred, and needs no certificate."""
    folder, port, invite, _ = certified
    sock = greet(port, [0x80, 0x82])
    assert receive(sock, 2) == b'\5\x82'
    with upgrade(sock, folder) as tls:
        tls.sendall(login(*credentials(invite)))
        assert receive(tls, 2) == b'\1\0'
        assert ask(tls, CONNECT, *tcp_echo.address)[0] == 0


def test_no_method_without_password_where_no_certificates_are_known(server):
    _, port, _ = server
    with greet(port, [0x80]) as sock:
        assert receive(sock, 2) == b'\5\xff'
        assert sock.recv(1) == b''


def test_a_certificate_inside_tls_needs_no_password(certified, tcp_echo):
    folder, port, _, certificate = certified
    for user, method in (('alice', 0), ('bob', 0xff), ('eve', 0xff), (None, 0xff)):
        context = trust(folder, certificate(user) if user else None)
        with context.wrap_socket(dial(port), server_hostname='127.0.0.1') as tls:
            tls.sendall(b'\5\1\0')
            assert receive(tls, 2) == bytes([5, method]), user
            if method == 0:
                assert ask(tls, CONNECT, *tcp_echo.address)[0] == 0


# --- SOCKS5 in the clear ---

@pytest.mark.parametrize('methods', [[0], [2], [0, 2], [0, 1, 2, 3, 0x80, 0xfe]])
def test_refused_in_the_clear_by_default(server, methods):
    _, port, _ = server
    with greet(port, methods) as sock:
        assert receive(sock, 2) == b'\5\xff'
        assert sock.recv(1) == b''


def test_curl_is_refused_in_the_clear_by_default(lab, program, server, web):
    _, port, invite = server
    user, token = credentials(invite)
    proxy = f'{user}:{token}@127.0.0.1:{port}'
    done, digest = fetch(lab, program, '--socks5', proxy, f'http://127.0.0.1:{web.server_port}/large')
    assert done.returncode == 97 and 'No authentication method was acceptable' in done.stderr
    assert digest is None


def test_curl_in_the_clear_by_policy(lab, program, web):
    folder, port, invite = lab.init()
    lab.edit_config(folder, IN_THE_CLEAR)
    server = lab.server(folder)
    user, token = credentials(invite)
    url = f'http://localhost:{web.server_port}/large'
    done, digest = fetch(lab, program, '--socks5-hostname', f'{user}:{token}@127.0.0.1:{port}', url)
    assert done.returncode == 0, done.stderr
    assert digest == web.digest
    assert server.status()['tls_handshakes'] == 0
    done, _ = fetch(lab, program, '--socks5-hostname', f'127.0.0.1:{port}', url)
    assert done.returncode == 97, 'nobody is let in without a password'


def test_a_third_party_library_in_the_clear_by_policy(lab, tcp_echo, echo):
    socks = pytest.importorskip('socks')
    folder, port, invite = lab.init()
    lab.edit_config(folder, IN_THE_CLEAR)
    server = lab.server(folder)
    check_library(socks, port, invite, tcp_echo, echo)
    assert server.status()['tls_handshakes'] == 0


def test_policy_in_the_clear_is_by_address(lab):
    folder, port, _ = lab.init()
    lab.edit_config(folder, IN_THE_CLEAR)
    lab.server(folder)
    for source, method in (('127.0.0.1', 2), ('127.0.0.2', 0xff)):
        with greet(port, [0, 2], source) as sock:
            assert receive(sock, 2) == bytes([5, method])
    with greet(port, [0, 2, 0x82]) as sock:
        assert receive(sock, 2) == b'\5\x82', 'TLS is preferred for a password'


def test_anyone_where_the_server_says_so(lab, program, web):
    folder, port, _ = lab.init()
    lab.edit_config(folder, IN_THE_CLEAR + '\nallow_anyone_without_authentication: true')
    lab.server(folder)
    done, digest = fetch(lab, program, '--socks5', f'127.0.0.1:{port}', f'http://127.0.0.1:{web.server_port}/large')
    assert done.returncode == 0, done.stderr
    assert digest == web.digest


# --- SIP ---

def test_sip_calls_through_a_udp_forward(lab, program):
    program('sipp')
    port = free_port()
    env = {**os.environ, 'TERM': 'dumb'}
    Background(lab, 'uas', ['sipp', '-sn', 'uas', '-i', '127.0.0.1', '-p', port, '-nostdin'], env=env)
    wait_for_udp(port)
    server, client = lab.pair('--forward', f'udp:127.0.0.1:0=127.0.0.1:{port}')
    done = subprocess.run(['sipp', '-sn', 'uac', f'127.0.0.1:{client.forwards[0][1]}', '-i', '127.0.0.1',
                           '-p', str(free_port()), '-m', '5', '-r', '20', '-d', '100', '-nostdin', '-timeout', '20'],
                          cwd=lab.folder, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.search(r'Successful call +\| +\d+ +\| +5 ', done.stdout)
    assert re.search(r'Failed call +\| +\d+ +\| +0 ', done.stdout)
    status = server.status()
    assert status['sessions_on_udp'] == 1 and status['up']['forwarded'] == 15  # INVITE, ACK, BYE
    assert status['down']['received'] == sum_ledger(status['down'])


# --- QUIC ---

def test_quic_through_a_udp_forward(lab, program):
    client_program = program('gtlsclient')
    server_program = UNPACKED if UNPACKED.exists() else program('gtlsserver')
    root, fetched = lab.folder / 'root', lab.folder / 'fetched'
    root.mkdir()
    fetched.mkdir()
    data = random.randbytes(LARGE)
    (root / 'blob').write_bytes(data)
    folder, _, invite = lab.init()
    server = lab.server(folder)
    port = free_port()
    Background(lab, 'quic', [server_program, '-q', '-d', root, '127.0.0.1', port, folder / 'key.pem',
                             folder / 'cert.pem'])
    wait_for_udp(port)
    client = lab.client(invite, '--forward', f'udp:127.0.0.1:0=127.0.0.1:{port}')
    done = subprocess.run([client_program, '-q', '--exit-on-all-streams-close', f'--download={fetched}', '127.0.0.1',
                           str(client.forwards[0][1]), f'https://localhost:{port}/blob'],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256((fetched / 'blob').read_bytes()).digest() == hashlib.sha256(data).digest()
    status = server.status()
    assert status['sessions_on_udp'] == 1 and status['associations'] == 1
    assert status['down']['forwarded_bytes'] >= LARGE
    for way in ('up', 'down'):
        assert status[way]['received'] == sum_ledger(status[way])


# --- a chain of proxies ---

def test_v2ray_sends_tcp_and_udp_through_its_socks_outbound(lab, program, tcp_echo):
    """In its UDP ASSOCIATE it names the target, not itself."""
    v2ray = V2RAY if V2RAY.exists() else program('v2ray')
    target = lab.open(UdpEcho('127.0.0.2'))
    server, client = lab.pair()
    ports = {'udp': free_port(), 'tcp': free_port()}
    targets = {'udp': target.address, 'tcp': tcp_echo.address}
    config = lab.folder / 'v2ray.json'
    config.write_text(json.dumps({
        'log': {'loglevel': 'info'},
        'inbounds': [{'listen': '127.0.0.1', 'port': ports[network], 'protocol': 'dokodemo-door',
                      'settings': {'address': host, 'port': port, 'network': network}}
                     for network, (host, port) in targets.items()],
        'outbounds': [{'protocol': 'socks', 'settings': {'servers': [
            {'address': client.socks[0], 'port': client.socks[1]}]}}]}))
    Background(lab, 'v2ray', [v2ray, '-config', config])
    wait_for_udp(ports['udp'])
    with socket.create_connection(('127.0.0.1', ports['tcp']), 20) as tcp:
        tcp.sendall(b'through tcp')
        assert receive(tcp, 11) == b'through tcp'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(20)
        udp.connect(('127.0.0.1', ports['udp']))
        for number in range(5):
            udp.send(b'through udp %d' % number)
            assert udp.recv(100) == b'through udp %d' % number
    assert client.status()['up']['drops'].get('plain_source', 0) == 0
    assert server.status()['up']['forwarded'] == target.count == 5


# --- a browser ---

def browse(lab, program, client, url):
    """The page that a browser made of url, as HTML."""
    root = ['--no-sandbox'] if os.geteuid() == 0 else []
    done = subprocess.run([program('chromium-headless-shell'), *root, '--disable-gpu', '--no-first-run',
                           '--disable-background-networking', '--disable-component-update', '--disable-sync',
                           f'--user-data-dir={lab.folder}/browser', '--proxy-bypass-list=<-loopback>',
                           f'--proxy-server=socks5://127.0.0.1:{client.socks[1]}', '--timeout=20000', '--dump-dom',
                           url],
                          env={**os.environ, 'HOME': str(lab.folder)}, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_through_socks(lab, program, web):
    server, client = lab.pair()
    page = browse(lab, program, client, f'http://127.0.0.1:{web.server_port}/page.html')
    assert '<p id="x">made by a script</p>' in page
    assert server.status()['tls_handshakes'] >= 2, 'the page did not come through the server'


def test_a_browser_asks_the_far_side_for_names(lab, program, web, with_hosts):
    """Only the server knows the name."""
    prefix = with_hosts('127.0.0.1 far.test\n')
    folder, _, invite = lab.init()
    lab.start('server', 'server', '-c', folder / 'server.yaml', prefix=prefix).ready()
    client = lab.client(invite)
    page = browse(lab, program, client, f'http://far.test:{web.server_port}/page.html')
    assert '<p id="x">made by a script</p>' in page
