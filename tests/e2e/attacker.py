"""A hostile user of a server: says over TLS, on the control stream and by UDP whatever a test wants said."""
import contextlib
import ctypes
import hashlib
import hmac
import os
import re
import socket
import struct
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl import bindings
from OpenSSL import SSL

from harness import TcpServer, receive, socks_address, sum_ledger

CHANNEL = 0xE8
SUITE = 2  # XChaCha20-Poly1305
DATAGRAM, PATH, PING, PONG, CLOSE, CLOSED, ALIVE, REFUSED, CONFIRM, RENEW = range(1, 11)
KEPT, LOST = 1, 2
PROBE, PROBE_ANSWER, CHALLENGE, RESPONSE, KEEPALIVE = range(0x10, 0x15)
libssl = ctypes.CDLL('libssl.so.3')
libssl.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
UPDATE_REQUESTED = 1
REASONS = {1: 'normal', 3: 'idle', 4: 'protocol', 5: 'unauthorized', 6: 'busy', 7: 'limit', 8: 'policy', 9: 'resolve_failed',
           12: 'too_big', 14: 'timeout', 15: 'assoc_closed', 16: 'suite', 17: 'not_offered', 22: 'draining'}


def credentials(invite):
    """(user, token) of an invite."""
    found = re.match(r'sealgram://([^:]+):([^@]+)@', invite)
    return found.group(1), found.group(2)


def login(user, password):
    """The RFC 1929 message."""
    user, password = (text if isinstance(text, bytes) else text.encode() for text in (user, password))
    return b'\1' + bytes([len(user)]) + user + bytes([len(password)]) + password


def request(command, host='0.0.0.0', port=0):
    return bytes([5, command, 0]) + socks_address(host, port)


def field(kind, value):
    return struct.pack('!HH', kind, len(value)) + value


def open_block(suites=(SUITE,), verb=1, extra=b''):
    data = field(0x8001, bytes([verb])) + field(0x8002, b''.join(struct.pack('!H', suite) for suite in suites)) + extra
    return struct.pack('!H', len(data)) + data


def control(kind, body=b''):
    return bytes([kind]) + len(body).to_bytes(3, 'big') + body


def plaintext(number, target, data):
    return struct.pack('!I', number) + socks_address(*target) + data


GROUPS = {'x25519': (29, 32), 'x448': (30, 56), 'P-256': (23, 65), 'P-384': (24, 97), 'P-521': (25, 133), 'ffdhe8192': (260, 1024)}
CURVES = {'P-256': ec.SECP256R1(), 'P-384': ec.SECP384R1(), 'P-521': ec.SECP521R1()}


def key_share(group):
    """One that a server would compute with; nobody has its secret."""
    if group in CURVES:
        return ec.generate_private_key(CURVES[group]).public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return b'\x01' + os.urandom(GROUPS[group][1] - 1)


def client_hello(*groups, extra=b'', alpn=b'\x0asealgram/1'):
    """A ClientHello of TLS 1.3 as a record, with a key share of each group; extra is one or more encoded extensions."""
    def extension(kind, value):
        return struct.pack('!HH', kind, len(value)) + value

    def vector(value):
        return struct.pack('!H', len(value)) + value
    shares = b''.join(struct.pack('!H', GROUPS[group][0]) + vector(key_share(group)) for group in groups)
    extensions = (extension(43, b'\2\3\4') + extension(10, vector(b''.join(struct.pack('!H', GROUPS[group][0]) for group in groups)))
                  + extension(13, vector(bytes.fromhex('0403 0804 0807 0401'))) + extension(51, vector(shares))
                  + extension(16, vector(alpn)) + extra)
    body = b'\3\3' + os.urandom(32) + b'\x20' + os.urandom(32) + b'\0\4\x13\1\x13\2' + b'\1\0' + vector(extensions)
    message = b'\1' + len(body).to_bytes(3, 'big') + body
    return b'\x16\3\1' + vector(message)


class Stream:
    """TLS over a socket; recv and sendall as of a socket with a timeout."""

    def __init__(self, context, sock, timeout):
        self.sock = sock
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.patience(timeout)
        self.ssl = SSL.Connection(context, self.sock)

    def patience(self, seconds):
        value = struct.pack('ll', int(seconds), int(seconds % 1 * 1e6))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.sock.setsockopt(socket.SOL_SOCKET, option, value)

    def sendall(self, data):
        try:
            self.ssl.sendall(data)
        except SSL.WantWriteError as late:
            raise TimeoutError from late
        except SSL.Error as error:
            raise ConnectionError(str(error)) from error

    def recv(self, count):
        """b'' at the end of the stream, by close_notify or not."""
        try:
            return self.ssl.recv(count)
        except SSL.WantReadError as late:
            raise TimeoutError from late
        except SSL.Error:
            return b''

    def receive(self, count):
        return receive(self, count)

    def close(self):
        with contextlib.suppress(SSL.Error, OSError):
            self.ssl.shutdown()
        self.sock.close()


class Tls(Stream):
    """A connection to a server."""

    def __init__(self, port, host='127.0.0.1', source='127.0.0.1', alpn=(b'sealgram/1',), timeout=10):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        self.secrets = {}
        context.set_keylog_callback(lambda _, line: self.secrets.update([(line.split()[0], bytes.fromhex(line.split()[2].decode()))]))
        if alpn:
            context.set_alpn_protos(list(alpn))
        super().__init__(context, socket.create_connection((host, port), timeout, source_address=(source, 0)), timeout)
        self.ssl.set_connect_state()
        self.ssl.do_handshake()

    def greet(self, invite):
        """Logs in with the token of an invite."""
        self.sendall(b'\5\1\2' + login(*credentials(invite)))
        assert self.receive(4) == b'\5\2\1\0'
        return self

    def reply(self):
        """(code, (host, port)) of a SOCKS reply."""
        head = self.receive(4)
        size = {1: 4, 4: 16}[head[3]]
        rest = self.receive(size + 2)
        host = socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, rest[:size])
        return head[1], (host, struct.unpack('!H', rest[size:])[0])

    def block(self):
        """The fields of the block that follows, by their type."""
        data = self.receive(struct.unpack('!H', self.receive(2))[0])
        fields = {}
        while data:
            kind, size = struct.unpack('!HH', data[:4])
            fields[kind & 0x7fff], data = data[4:4 + size], data[4 + size:]
        return fields


def update_keys(tls):
    """Our next record has fresh keys, and the peer is asked for the same (RFC 8446 section 4.6.3)."""
    from OpenSSL._util import ffi
    assert libssl.SSL_key_update(int(ffi.cast('uintptr_t', tls.ssl._ssl)), UPDATE_REQUESTED) == 1


class Records:
    """Writes the records of a TLS connection by itself, with whatever inside, once so many were sent; it is still read by
    OpenSSL."""
    APPLICATION, HANDSHAKE, ALERT = 23, 22, 21

    def __init__(self, tls, sent=0):
        assert tls.ssl.get_cipher_name() == 'TLS_AES_256_GCM_SHA384'
        self.tls = tls
        self.use(tls.secrets[b'CLIENT_TRAFFIC_SECRET_0'])
        self.count = sent

    def use(self, secret):
        self.secret, self.count = secret, 0
        self.key, self.iv = AESGCM(self.expand(b'key', 32)), self.expand(b'iv', 12)

    def expand(self, label, size):
        """HKDF-Expand-Label (RFC 8446 section 7.1) of up to one block."""
        info = struct.pack('!H', size) + bytes([6 + len(label)]) + b'tls13 ' + label + b'\0\1'
        return hmac.digest(self.secret, info, hashlib.sha384)[:size]

    def make(self, content, kind=APPLICATION):
        head = struct.pack('!BHH', 23, 0x303, len(content) + 17)
        nonce = (int.from_bytes(self.iv, 'big') ^ self.count).to_bytes(12, 'big')
        self.count += 1
        return head + self.key.encrypt(nonce, content + bytes([kind]), head)

    def make_key_update(self, wants_answer=False):
        record = self.make(b'\x18\0\0\1' + bytes([wants_answer]), self.HANDSHAKE)
        self.use(self.expand(b'traffic upd', 48))
        return record

    def sendall(self, content, kind=APPLICATION):
        self.tls.sock.sendall(self.make(content, kind))


class Refused(Exception):
    """The server did not open a channel: (reply code, reason)."""


class Channel:
    """An open channel: control messages by say and hear, records by send_udp and hear_udp."""

    def __init__(self, port, invite, source='127.0.0.1', handle=None, udp=None):
        """With a handle RESUME instead of OPEN; udp is a socket to go on with."""
        self.tls = Tls(port, source=source).greet(invite)
        self.tls.sendall(request(CHANNEL) + (open_block(verb=2, extra=field(0x8003, handle)) if handle else open_block()))
        code, _ = self.tls.reply()
        fields = self.tls.block()
        if code != 0:
            reason = struct.unpack('!H', fields[13])[0]
            self.tls.close()
            raise Refused(code, REASONS.get(reason, reason))
        self.id, self.handle = fields[5], fields[3]
        self.resumed = fields[14][0] if 14 in fields else None
        self.max_senders = struct.unpack('!H', fields[7])[0]
        secret = self.tls.ssl.export_keying_material(b'EXPORTER-sealgram-v1', 32, self.id + struct.pack('!H', SUITE))
        self.up, self.down, self.pass_key = (HKDFExpand(hashes.SHA256(), 32, label).derive(secret)
                                             for label in (b'sealgram1 c2s', b'sealgram1 s2c', b'sealgram1 pass'))
        self.sender, self.counter = os.urandom(8), 0
        self.udp = udp or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if not udp:
            self.udp.bind((source, 0))
            self.udp.connect(('127.0.0.1', port))
        self.udp.settimeout(5)

    def show_pass(self, number):
        """The extension of a ClientHello that shows it."""
        shown = self.id + number.to_bytes(8, 'big')
        return struct.pack('!HH', 0xff53, 32) + shown + hmac.digest(self.pass_key, shown, hashlib.sha256)[:16]

    def say(self, kind, body=b''):
        self.tls.sendall(control(kind, body))

    def hear(self):
        """(type, body) of the next control message; EOFError when the session has ended."""
        head = self.tls.receive(4)
        return head[0], self.tls.receive(int.from_bytes(head[1:], 'big'))

    def hear_only(self, kind):
        """The body of the next message of this type."""
        while True:
            heard, body = self.hear()
            if heard == kind:
                return body

    def sync(self):
        """Waits until all that was said on the stream was worked off."""
        token = os.urandom(8)
        self.say(PING, token)
        assert self.hear_only(PONG) == token

    def seal(self, text, sender=None, counter=None):
        if counter is None:
            counter, self.counter = self.counter, self.counter + 1
        nonce = self.id + (sender or self.sender) + counter.to_bytes(8, 'big')
        return b'\x08' + nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(text, b'\x08', nonce, self.up)

    def send_udp(self, text, **how):
        self.udp.send(self.seal(text, **how))

    def hear_udp(self, sock=None):
        """The plaintext of the next record of this channel."""
        while (record := (sock or self.udp).recv(65536))[1:9] != self.id:
            pass
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(record[25:], record[:1], record[1:25], self.down)

    def hear_datagram(self, sock=None):
        """The plaintext of the next record of an association."""
        while True:
            text = self.hear_udp(sock)
            if text[:4] != bytes(4):
                return text

    def validate(self):
        """Makes this socket's address the path, and UDP the choice."""
        self.send_udp(bytes(4) + bytes([KEEPALIVE]))
        token = self.hear_udp()
        assert token[:5] == bytes(4) + bytes([CHALLENGE])
        self.send_udp(bytes(4) + bytes([RESPONSE]) + token[5:])
        self.say(PATH, struct.pack('!IB', 1, 1))
        self.sync()
        return self

    def close(self):
        self.udp.close()
        self.tls.close()


class Target:
    """A server with one user: what a test starts it with, and what it must still do afterwards."""

    def __init__(self, lab):
        self.lab, self.folder, self.port, self.invite, self.server = lab, None, None, None, None

    def start(self, config=None, **options):
        self.folder, self.port, self.invite = self.lab.init(**options)
        if config:
            self.lab.edit_config(self.folder, config)
        self.server = self.lab.server(self.folder)
        return self

    def channel(self, invite=None, **options):
        return self.lab.open(Channel(self.port, invite or self.invite, **options))

    def tls(self, **options):
        return self.lab.open(Tls(self.port, **options))

    def status(self):
        return self.server.status()

    def still_serves(self, echo):
        """A well-behaved session works, and both ledgers add up."""
        channel = self.channel()
        channel.say(DATAGRAM, plaintext(1, echo.address, b'still here'))
        assert channel.hear_only(DATAGRAM) == plaintext(1, echo.address, b'still here')
        channel.close()
        status = self.status()
        for ledger in (status['up'], status['down']):
            assert ledger['received'] == sum_ledger(ledger)


def is_ended(tls):
    """True once the server ended the connection."""
    try:
        while tls.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def open_reply(code=0, bound=('0.0.0.0', 0), channel=bytes(8), leave_out=(), **values):
    """A server's answer to CHANNEL."""
    fields = {'channel': (0x8005, channel), 'handle': (0x8003, bytes(16)), 'suite': (0x8006, b'\0\2'),
              'senders': (0x8007, b'\0\x10'), 'idle': (9, struct.pack('!I', 120)), 'dns_idle': (10, struct.pack('!I', 17))}
    data = b''.join(field(kind, values.get(name, value)) for name, (kind, value) in fields.items() if name not in leave_out)
    data += values.get('extra', b'')
    return bytes([5, code, 0]) + socks_address(*bound) + struct.pack('!H', len(data)) + data


class HostileServer(TcpServer):
    """
    Has the key that an invite pins, lets everybody in, answers CHANNEL by the next of its scripts (the last stays), and
    CONNECT and BIND by `answer`, a byte every `pause` seconds if that is not 0, then the end.
    """

    def __init__(self, folder, port, *scripts):
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.set_min_proto_version(SSL.TLS1_3_VERSION)
        self.context.use_privatekey_file(str(folder / 'key.pem'))
        self.context.use_certificate_chain_file(str(folder / 'cert.pem'))
        self.context.set_alpn_select_callback(lambda _, offered: b'sealgram/1')
        self.scripts, self.channels, self.answer, self.pause = list(scripts), 0, b'', 0
        super().__init__(self.play, port=port)

    def play(self, sock):
        stream = Stream(self.context, sock, 20)
        stream.ssl.set_accept_state()
        with contextlib.suppress(SSL.Error, EOFError, ConnectionError, TimeoutError):
            stream.ssl.do_handshake()
            stream.receive(2 + stream.receive(2)[1] - 2)
            stream.receive(stream.receive(2)[1])
            stream.receive(stream.receive(1)[0])
            stream.sendall(b'\5\2\1\0')
            if stream.receive(10)[1] != CHANNEL:
                for piece in struct.unpack('c' * len(self.answer), self.answer) if self.pause else [self.answer]:
                    stream.sendall(piece)
                    time.sleep(self.pause)
                stream.close()
                return
            stream.receive(struct.unpack('!H', stream.receive(2))[0])
            self.channels += 1
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            script(stream)
            stream.close()


def serve_echo(stream, reply=None, wait=0):
    """A script: opens a channel and sends each datagram back, some time later if told."""
    stream.sendall(reply or open_reply())
    while True:
        head = stream.receive(4)
        body = stream.receive(int.from_bytes(head[1:], 'big'))
        if head[0] == DATAGRAM:
            time.sleep(wait)
            stream.sendall(head + body)
        elif head[0] == PING:
            stream.sendall(control(PONG, body))
