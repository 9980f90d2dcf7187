"""The attackers of bench/attack: each flood is a function that one process runs until it is told to stop.

A flood gets an `Attacker` and returns how many attempts it made. Attackers come from addresses of loopback of their own,
or are users with invites of their own; they speak the wire format of docs/protocol.md through tests/e2e/attacker.py.
"""
import contextlib
import dataclasses
import os
import pathlib
import selectors
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tests' / 'e2e'))
import attacker as wire  # noqa: E402

PATIENCE_SECONDS = 3  # an attacker gives up a connection that has not answered by then
CONNECTIONS = 64  # that one attacker of handshakes has open at a time
RECORDS_PER_SECOND = 30_000
GUESSED_USER = 'guessed'  # has a password
HELD = 1000  # half-open handshakes that one attacker holds
RESET = struct.pack('ii', 1, 0)  # SO_LINGER: close() sends RST, and no port waits

CURVES = {'p256': (23, ec.SECP256R1), 'p384': (24, ec.SECP384R1), 'p521': (25, ec.SECP521R1)}
OTHERS = {'x25519': (29, x25519.X25519PrivateKey), 'x448': (30, x448.X448PrivateKey)}
FINITE_FIELDS = {'ffdhe2048': (256, 2048), 'ffdhe3072': (257, 3072), 'ffdhe4096': (258, 4096), 'ffdhe6144': (259, 6144),
                 'ffdhe8192': (260, 8192)}
GROUPS = [*OTHERS, *CURVES, *FINITE_FIELDS]


@dataclasses.dataclass
class Attacker:
    """Who attacks what, until `stop` (a multiprocessing.Event) is set."""
    port: int
    address: str
    invite: str
    stop: object
    channel_id: bytes  # of a session of somebody else, as an onlooker sees it


# --- records ---

def forge_records(who):
    """Records of no channel, of a channel that there is but with a wrong tag, and records that are cut off."""
    kinds = [b'\x08' + os.urandom(24 + 300), b'\x08' + who.channel_id + os.urandom(16 + 300),
             b'\x08' + who.channel_id + os.urandom(20)]
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((who.address, 0))
        sock.connect(('127.0.0.1', who.port))
        start = time.monotonic()
        while not who.stop.is_set():
            for _ in range(min(300, int((time.monotonic() - start) * RECORDS_PER_SECOND) - sent)):
                with contextlib.suppress(OSError):
                    sock.send(kinds[sent % 3])
                sent += 1
            time.sleep(0.002)
    return sent


# --- TLS handshakes ---

def key_share(group):
    """(TLS number of the group, a public value that a server computes with)."""
    if group in CURVES:
        number, curve = CURVES[group]
        key = ec.generate_private_key(curve()).public_key()
        return number, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if group in OTHERS:
        number, kind = OTHERS[group]
        return number, kind.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    number, bits = FINITE_FIELDS[group]
    return number, b'\x7f' + os.urandom(bits // 8 - 1)  # the primes of RFC 7919 begin with 64 ones: any such value is below


def make_hello(group):
    """A whole ClientHello of TLS 1.3 (RFC 8446 section 4.1.2) that offers this group alone."""
    number, public = key_share(group)

    def extension(kind, body):
        return struct.pack('!HH', kind, len(body)) + body
    share = struct.pack('!HH', number, len(public)) + public
    protocol = b'sealgram/1'
    extensions = b''.join([
        extension(43, b'\2\3\4'), extension(10, struct.pack('!HH', 2, number)),
        extension(13, struct.pack('!HHHH', 6, 0x0403, 0x0804, 0x0807)), extension(51, struct.pack('!H', len(share)) + share),
        extension(16, struct.pack('!HB', len(protocol) + 1, len(protocol)) + protocol)])
    body = (b'\3\3' + os.urandom(32) + b'\x20' + os.urandom(32) + struct.pack('!HHH', 4, 0x1301, 0x1302) + b'\1\0' +
            struct.pack('!H', len(extensions)) + extensions)
    message = b'\1' + len(body).to_bytes(3, 'big') + body
    return b'\x16\3\1' + struct.pack('!H', len(message)) + message


def drop(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def begin(who, data):
    """A connection under way, `data` to be sent as soon as it stands; None when the system has no place."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind((who.address, 0))
        with contextlib.suppress(BlockingIOError):
            sock.connect(('127.0.0.1', who.port))
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            sock.send(data)
    except OSError:
        drop(sock)
        return None
    return sock


def flood_connections(who, data, count, wait_for_answer):
    """Holds `count` connections that sent `data`; each that ends (or, if asked, is answered) is replaced at once."""
    chosen, attempts = selectors.DefaultSelector(), 0
    while not who.stop.is_set():
        for _ in range(min(32, count - len(chosen.get_map()))):
            sock = begin(who, data)
            attempts += sock is not None
            if sock:
                chosen.register(sock, selectors.EVENT_READ, time.monotonic())
        for key, _ in chosen.select(0.01):
            answered = b''
            with contextlib.suppress(OSError):
                answered = key.fileobj.recv(4096)
            if wait_for_answer or not answered:
                chosen.unregister(key.fileobj)
                drop(key.fileobj)
        late = time.monotonic() - PATIENCE_SECONDS
        for key in [key for key in chosen.get_map().values() if wait_for_answer and key.data < late]:
            chosen.unregister(key.fileobj)
            drop(key.fileobj)
    for key in list(chosen.get_map().values()):
        drop(key.fileobj)
    return attempts


def hello_of(group):
    def flood(who):
        return flood_connections(who, make_hello(group), CONNECTIONS, True)
    flood.__doc__ = f'One recorded ClientHello with a key share of {group}, again and again.'
    return flood


def half_open(who):
    """Half a ClientHello, and silence."""
    return flood_connections(who, make_hello('x25519')[:100], HELD, False)


# --- logins ---

def guess(who):
    """Handshakes with a wrong password of a user that there is, one after the other."""
    attempts = 0
    while not who.stop.is_set():
        attempts += 1
        with contextlib.suppress(OSError, EOFError, SSL.Error), contextlib.closing(
                wire.Tls(who.port, source=who.address, timeout=PATIENCE_SECONDS)) as tls:
            tls.sendall(b'\5\1\2' + wire.login(GUESSED_USER, b'wrong %d' % attempts))
            tls.receive(4)
    return attempts


# --- users ---

def ask_names(who):
    """Datagrams to names that no name server answers for, each a name of its own."""
    channel, sent = wire.Channel(who.port, who.invite, source=who.address).validate(), 0
    while not who.stop.is_set():
        name = f'n{sent}.{os.getpid()}.example'
        channel.send_udp(struct.pack('!I', 1 + sent % 64) + wire.socks_address(name, 9) + b'x')
        sent += 1
        if sent % 64 == 0:
            time.sleep(0.005)
    channel.close()
    return sent


def wait_in_binds(who):
    """As many BINDs as the server grants; nobody connects to them, and the user sends all that is taken."""
    held, attempts, filler = [], 0, bytes(16384)
    while not who.stop.is_set():
        attempts += 1
        try:
            tls = wire.Tls(who.port, source=who.address, timeout=PATIENCE_SECONDS).greet(who.invite)
            tls.sendall(wire.request(2))
            granted = tls.reply()[0] == 0
        except (OSError, EOFError, SSL.Error, AssertionError):
            granted = False
        if not granted:
            time.sleep(0.05)
            continue
        tls.sock.settimeout(0)
        with contextlib.suppress(OSError, SSL.Error):
            for _ in range(64):
                tls.ssl.send(filler)
        held.append(tls)
    for tls in held:
        drop(tls.sock)
    return attempts


FLOODS = {'forged records': forge_records, **{f'ClientHello {group}': hello_of(group) for group in GROUPS},
          'half-open handshakes': half_open, 'wrong passwords': guess, 'look-ups': ask_names, 'waiting BINDs': wait_in_binds}
