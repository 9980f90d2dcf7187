"""What the end-to-end tests share: programs with a `ready` line, echo targets, a SOCKS5 client, the status of a program."""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALONE = ROOT / 'tools' / 'alone'
SEALGRAM = os.environ.get('SEALGRAM', str(ROOT / 'build' / 'sealgram'))
CONNECT, BIND, ASSOCIATE = 1, 2, 3
MARKER = b'PLAINTEXT-MARKER'  # 16 bytes that must never be seen on the wire


def free_port(family=socket.AF_INET):
    """A port that is free for TCP and UDP: below those that the kernel gives out, and of this test process alone."""
    host = '::1' if family == socket.AF_INET6 else '127.0.0.1'
    first = 10_000 + 2000 * int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    for port in (first + random.randrange(2000) for _ in range(100)):
        with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                tcp.bind((host, port))
                udp.bind((host, port))
                return port
    raise RuntimeError('no port is free')


def wait_for(condition, seconds=10, what='condition'):
    """Waits until condition() is true and returns what it gave."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f'{what}: not within {seconds} s'
        time.sleep(0.02)


def without_times(text):
    """Lines of a log without the time that each begins with."""
    return re.sub(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?=sealgram: )', '', text, flags=re.M)


class Program:
    """A program of ours that runs until the test ends it, its output in files."""

    def __init__(self, folder, name, argv, stdin=None, env=None, prefix=()):
        self.folder, self.name = folder, name
        self.out_path, self.err_path = folder / f'{name}.out', folder / f'{name}.err'
        self.env = {**os.environ, 'XDG_RUNTIME_DIR': str(folder), 'XDG_STATE_HOME': str(folder / 'state'), **(env or {})}
        with open(self.out_path, 'wb') as out, open(self.err_path, 'wb') as err:
            self.process = subprocess.Popen([*prefix, SEALGRAM, *argv], stdin=stdin or subprocess.DEVNULL, stdout=out,
                                            stderr=err, env=self.env)

    @property
    def out(self):
        return self.out_path.read_text()

    @property
    def err(self):
        return without_times(self.err_path.read_text())

    def ready(self, seconds=20):
        """The `ready` line, as a dictionary of its key=value words (lists where a key comes twice)."""
        def line():
            assert self.process.poll() is None, f'{self.name} ended ({self.process.returncode}): {self.err}'
            return next((text for text in self.out.splitlines(True)
                         if text.startswith('ready') and text.endswith('\n')), None)
        text = wait_for(line, seconds, f'{self.name} ready; its log:\n{self.err}')
        words = {'line': text.rstrip('\n'), 'plain': []}
        for word in text.split()[1:]:
            key, equals, value = word.partition('=')
            if not equals:
                words['plain'].append(word)
            elif key == 'forward':
                words.setdefault(key, []).append(value)
            else:
                words[key] = value
        return words

    @property
    def control(self):
        """The path of its control socket, in the directory that it makes by default."""
        return next((self.folder / 'sealgram').rglob(f'*-{self.process.pid}.sock'))

    def status(self):
        done = subprocess.run([SEALGRAM, 'status', '--json', '--socket', str(self.control)], capture_output=True, text=True,
                              timeout=20, env=self.env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kill(self):
        """As a crash or a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, sig=signal.SIGTERM, expected=0):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f'{self.name} did not end after {sig.name}: {self.err}') from None
        elif self.process.returncode == -signal.SIGKILL:
            return
        assert self.process.returncode == expected, f'{self.name}: exit {self.process.returncode}: {self.err}'
        assert 'Sanitizer' not in self.err and 'runtime error' not in self.err, self.err


def open_files(program):
    """How many files a program has open. It is not dumpable: another process of its user may not look."""
    try:
        return len(os.listdir(f'/proc/{program.process.pid}/fd'))
    except PermissionError:
        return pytest.skip('only root can look at the files of a process that is not dumpable')


def run(*argv, folder=None, stdin=None, env=None, timeout=60):
    """Runs one command of ours to its end."""
    base = {**os.environ, **({'XDG_RUNTIME_DIR': str(folder)} if folder else {}), **(env or {})}
    done = subprocess.run([SEALGRAM, *map(str, argv)], input=stdin, capture_output=True, text=True, timeout=timeout, env=base)
    done.stderr = without_times(done.stderr)
    assert 'Sanitizer' not in done.stderr and 'runtime error' not in done.stderr, done.stderr
    return done


class Lab:
    """One test's folder and everything that runs in it; whatever is left at the end is stopped and checked."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix='sg-'))
        self.programs, self.closers, self.count = [], [], 0

    def name(self, kind):
        self.count += 1
        return f'{kind}{self.count}'

    def init(self, *options, user='alice', port=None, host='127.0.0.1', listen=None, allow=('127.0.0.0/8', '::1/128')):
        """`sealgram init` for loopback; returns folder, port and the first user's invite."""
        folder = self.folder / self.name('server')
        port = port or free_port()
        listen = [f'127.0.0.1:{port}'] if listen is None else listen
        done = run('init', folder, *[word for at in listen for word in ('--listen', at)], '--host', host,
                   *[word for net in allow for word in ('--allow', net)], *(['--user', user] if user else []), *options)
        assert done.returncode == 0, done.stderr
        return folder, port, done.stdout.strip()

    def invite(self, folder, user, *options):
        done = run('invite', folder, user, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def edit_config(self, folder, text):
        """Adds lines to server.yaml."""
        path = folder / 'server.yaml'
        path.write_text(path.read_text() + '\n' + text + '\n')

    def start(self, kind, *argv, **options):
        program = Program(self.folder, self.name(kind), [str(word) for word in argv], **options)
        self.programs.append(program)
        return program

    def server(self, folder, *options):
        program = self.start('server', 'server', '-c', folder / 'server.yaml', '-v', *options)
        program.ready()
        return program

    def client(self, invite, *options, socks=True, ready=True, **keywords):
        """A client with a SOCKS server on a free port; program.socks is (host, port), program.forwards the addresses."""
        path = self.folder / self.name('invite')
        path.write_text(invite + '\n')
        path.chmod(0o600)
        listen = ['--socks', '127.0.0.1:0'] if socks else ['--no-socks']
        program = self.start('client', 'client', *listen, *options, f'@{path}', **keywords)
        if ready:
            words = program.ready()
            program.words = words
            if socks:
                host, _, port = words['socks'].rpartition(':')
                program.socks = (host, int(port))
            program.forwards = [address(text.partition(':')[2]) for text in words.get('forward', [])]
        return program

    def pair(self, *options, server_options=(), config=None):
        """A server and a client of it, ready."""
        folder, _, invite = self.init(*server_options)
        if config:
            self.edit_config(folder, config)
        return self.server(folder), self.client(invite, *options)

    def open(self, thing):
        """Something with close(), closed at the end."""
        self.closers.append(thing)
        return thing

    def close(self):
        errors = []
        for thing in reversed(self.closers):
            with contextlib.suppress(OSError):
                thing.close()
        for program in reversed(self.programs):
            try:
                program.stop()
            except AssertionError as error:
                errors.append(str(error))
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not errors, '\n'.join(errors)


def address(text):
    """'127.0.0.1:53' or '[::1]:53' as a pair."""
    host, _, port = text.rpartition(':')
    return host.strip('[]'), int(port)


class Thread:
    """A socket served by a thread until close()."""

    def __init__(self, sock):
        self.sock, self.error = sock, None
        self.address = sock.getsockname()[:2]
        self.running = True
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        self.sock.settimeout(0.03)
        while self.running:
            try:
                self.step()
            except TimeoutError:
                continue
            except OSError:
                break

    def close(self):
        self.running = False
        self.thread.join(5)
        self.sock.close()


class UdpEcho(Thread):
    """Sends every datagram back; remembers the sources, and the payloads if asked. The host :: takes IPv4 too."""

    def __init__(self, host='127.0.0.1', port=0, keep=False):
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if host == '::':
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        self.sources, self.received, self.keep, self.count = [], [], keep, 0
        super().__init__(sock)

    def step(self):
        data, source = self.sock.recvfrom(65536)
        self.count += 1
        if self.keep:
            self.received.append(data)
        if source not in self.sources:
            self.sources.append(source)
        self.sock.sendto(data, source)


class TcpServer(Thread):
    """Runs handler(connection) in a thread for each connection. It waits for its peer without a limit of its own: a
    target that hung up after a while would look as if the relay had ended. close() ends the connections too."""

    def __init__(self, handler, host='127.0.0.1', port=0):
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family)
        self.handler, self.connections = handler, set()
        super().__init__(sock)

    def step(self):
        connection, _ = self.sock.accept()
        self.connections.add(connection)
        threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with connection, contextlib.suppress(OSError):
            self.handler(connection)
        self.connections.discard(connection)

    def close(self):
        super().close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def echo_stream(connection):
    """A TCP handler that sends back what comes, and ends when the other side has ended."""
    while data := connection.recv(65536):
        connection.sendall(data)


def receive(sock, count):
    data = b''
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise EOFError(f'{len(data)} of {count} bytes')
        data += chunk
    return data


def reset(sock):
    """Closes a TCP connection by a reset, as a program does that is ended with input unread."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


def socks_address(host, port):
    with contextlib.suppress(OSError):
        return b'\1' + socket.inet_pton(socket.AF_INET, host) + struct.pack('!H', port)
    with contextlib.suppress(OSError):
        return b'\4' + socket.inet_pton(socket.AF_INET6, host) + struct.pack('!H', port)
    return b'\3' + bytes([len(host)]) + host.encode() + struct.pack('!H', port)


def parse_address(data):
    """A SOCKS address at the start of data: ((host, port), the rest)."""
    size = {1: 4, 4: 16}[data[0]]
    host = socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, data[1:1 + size])
    return (host, struct.unpack('!H', data[1 + size:3 + size])[0]), data[3 + size:]


def read_reply(sock):
    """(code, address) of a SOCKS5 reply."""
    head = receive(sock, 4)
    rest = receive(sock, {1: 6, 4: 18}[head[3]])
    return head[1], parse_address(head[3:] + rest)[0]


def socks_request(proxy, command, host, port, timeout=15, raw_address=None):
    """A SOCKS5 request without authentication: (connection, code, address)."""
    sock = socket.create_connection(proxy, timeout)
    sock.settimeout(timeout)
    sock.sendall(b'\5\1\0')
    assert receive(sock, 2) == b'\5\0'
    sock.sendall(bytes([5, command, 0]) + (raw_address or socks_address(host, port)))
    code, bound = read_reply(sock)
    return sock, code, bound


class SocksUdp:
    """A UDP ASSOCIATE of one application."""

    def __init__(self, proxy, timeout=5):
        self.tcp, code, self.relay = socks_request(proxy, ASSOCIATE, '0.0.0.0', 0)
        assert code == 0, f'UDP ASSOCIATE: {code}'
        family = socket.AF_INET6 if ':' in self.relay[0] else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.udp.settimeout(timeout)
        self.udp.connect(self.relay)

    def send(self, data, target, frag=0):
        self.udp.send(b'\0\0' + bytes([frag]) + socks_address(*target) + data)

    def receive(self):
        """(payload, source)"""
        packet = self.udp.recv(65536)
        assert packet[:3] == b'\0\0\0'
        source, data = parse_address(packet[3:])
        return data, source

    def ask(self, data, target, tries=1):
        """Sends and waits for an answer; further tries where the network may lose."""
        for left in reversed(range(tries)):
            self.send(data, target)
            try:
                return self.receive()
            except TimeoutError:
                if left == 0:
                    raise
        return None

    def close(self):
        self.udp.close()
        self.tcp.close()


def sum_ledger(ledger):
    """What a ledger accounts for: equals received."""
    return ledger['forwarded'] + ledger['session'] + ledger['queued'] + sum(ledger['drops'].values())
