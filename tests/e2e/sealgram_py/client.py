"""A small blocking client (sections 3 to 5, 7 to 9): one thread, which works whenever its caller waits."""
import collections
import contextlib
import dataclasses
import errno
import ipaddress
import random
import re
import select
import socket
import struct
import time
from base64 import urlsafe_b64decode

from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from . import messages, record
from .messages import Control, Field

COMMAND_CHANNEL = 0xE8
SIZE_AT_FIRST, SIZE_PROBED = 512, 1264
PROBE_LENGTH = record.OVERHEAD + len(messages.Probe(0, 0, 0, 0).encode())
KEEPALIVE_SECONDS, PING_SECONDS, DEAD_SECONDS, ALIVE_SECONDS = 20, 15, 60, 60


class WrongPin(Exception):
    """The server is not the one that the invite names: nothing was said to it."""


class WrongCredentials(Exception):
    """The server looked at user and token, and they are wrong."""


class Refused(Exception):
    """No channel: code is the SOCKS5 reply, reason the REASON field or None."""

    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Ended(Exception):
    """The session ended: by CLOSE with this reason, or with the stream (None)."""

    def __init__(self, reason=None):
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Invite:
    user: str
    token: str
    host: str
    port: int
    pin: bytes
    addresses: tuple = ()  # of the host, where nobody knows its name

    @classmethod
    def parse(cls, text):
        """sealgram://USER:TOKEN@HOST:PORT/?pin=sha256:PIN, where PIN is base64url without padding; addr=ADDR,... may follow."""
        found = re.fullmatch(r'sealgram://([^:@/]+):([^:@/]+)@(\[[^]]+\]|[^:@/]+):(\d+)/\?pin=sha256:([\w-]{43})(?:&addr=([\d.,a-fA-F:]+))?',
                             text.strip())
        if not found:
            raise ValueError('not an invite')
        user, token, host, port, pin, addresses = found.groups()
        return cls(user, token, host.strip('[]'), int(port), urlsafe_b64decode(pin + '='), tuple((addresses or '').split(',')))


def now():
    return time.monotonic()


class Tls:
    """A TLS 1.3 connection to the server that has the key of the pin; reads and writes have deadlines."""

    def __init__(self, invite, timeout=10):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_alpn_protos([b'sealgram/1'])
        self.timeout = timeout
        self.sock = socket.create_connection((invite.host, invite.port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.ssl = SSL.Connection(context, self.sock)
        self.ssl.set_connect_state()
        try:
            self.attempt(self.ssl.do_handshake)
            self.check(invite.pin)
        except BaseException:
            self.sock.close()
            raise

    def check(self, pin):
        key = self.ssl.get_peer_certificate().to_cryptography().public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if record.spki_pin(key) != pin:
            raise WrongPin
        if self.ssl.get_alpn_proto_negotiated() != b'sealgram/1':
            raise ConnectionError('the server does not speak sealgram/1')

    def attempt(self, function, *arguments):
        """Calls it until it has what it waits for."""
        end = now() + self.timeout
        while True:
            try:
                return function(*arguments)
            except SSL.WantReadError:
                ready = select.select([self.sock], [], [], max(0, end - now()))
            except SSL.WantWriteError:
                ready = select.select([], [self.sock], [], max(0, end - now()))
            except SSL.ZeroReturnError as error:
                raise EOFError from error
            except SSL.Error as error:
                raise ConnectionError(str(error)) from error
            if not any(ready):
                raise TimeoutError

    def write(self, data):
        while data:
            data = data[self.attempt(self.ssl.send, data):]

    def read(self, count):
        data = b''
        while len(data) < count:
            data += self.attempt(self.ssl.recv, count - len(data))
        return data

    def close(self):
        with contextlib.suppress(SSL.Error, OSError):
            self.ssl.shutdown()
        self.sock.close()


def log_in(tls, user, token):
    """Greeting and RFC 1929, in one flight."""
    user, token = user.encode(), token.encode()
    tls.write(b'\5\1\2' + b'\1' + bytes([len(user)]) + user + bytes([len(token)]) + token)
    if tls.read(2) != b'\5\2':
        raise ConnectionError('no user and password wanted')
    if tls.read(2) != b'\1\0':
        raise WrongCredentials


def read_reply(tls):
    """(code, (host, port))"""
    head = tls.read(4)
    if head[0] != 5 or head[3] not in (1, 4):
        raise ConnectionError('not a SOCKS5 reply')
    address, _ = messages.parse_address(head[3:] + tls.read(6 if head[3] == 1 else 18))
    return head[1], address


def address_class(host):
    """Which of the classes that section 5 names an address is of; None for the others."""
    ip = ipaddress.ip_address(host)
    ip = getattr(ip, 'ipv4_mapped', None) or ip
    kinds = ('is_loopback', 'is_link_local', 'is_multicast', 'is_private')
    return next((kind for kind in kinds if getattr(ip, kind)), None)


def udp_endpoint(bound, peer):
    """Where records go, from BND.ADDR and BND.PORT and the address of the TCP peer."""
    host = peer[0] if ipaddress.ip_address(bound[0]).is_unspecified else bound[0]
    if address_class(host) not in (None, address_class(peer[0])):
        raise ConnectionError(f'the server names {host} for records')
    return host, bound[1] or peer[1]


@dataclasses.dataclass(frozen=True)
class Received:
    """A datagram down: over is 'udp' or 'stream'."""
    association: int
    data: bytes
    source: tuple
    over: str


class Client:
    """
    A session. What arrives while a method waits is kept: `received` has datagrams, `refused` and `closed` the server's
    messages of these names, `drops` counts by reason what was not accepted.
    """

    def __init__(self, invite, suites=record.SUITES, timeout=10, block=None):
        """block: of the request, if not the usual one."""
        invite = Invite.parse(invite) if isinstance(invite, str) else invite
        self.tls = Tls(invite, timeout)
        self.udp = None
        try:
            log_in(self.tls, invite.user, invite.token)
            self.open_channel(suites, block or messages.open_block(suites))
        except BaseException:
            self.close()
            raise
        self.received, self.refused, self.closed = collections.deque(), [], []
        self.pongs, self.drops = collections.deque(), collections.Counter()
        self.numbers, self.open_numbers = 0, set()
        self.n, self.choice, self.plpmtu = 0, messages.STREAM, SIZE_AT_FIRST
        self.probes = {}  # those of a size that have no answer, and when to repeat them
        self.heard = self.pinged = self.told_alive = self.sent_udp = now()
        self.keepalive_seconds = KEEPALIVE_SECONDS * random.uniform(0.9, 1)

    # --- the channel ---

    def open_channel(self, suites, block):
        self.tls.write(bytes([5, COMMAND_CHANNEL, 0]) + messages.address('0.0.0.0', 0) + block)
        code, bound = read_reply(self.tls)
        size = struct.unpack('!H', self.tls.read(2))[0]
        if size > messages.BLOCK_MAX:
            raise messages.Malformed('block')
        fields = messages.parse_reply_block(self.tls.read(size))
        if code != 0:
            raise Refused(code, fields.get(Field.REASON))
        self.fields, self.channel, self.suite = fields, fields[Field.CHANNEL], fields[Field.SUITE]
        senders = fields[Field.MAX_SENDERS]
        if self.suite not in suites or not 1 <= senders <= 16 or Field.HANDLE not in fields:
            raise messages.Malformed('reply to OPEN')
        secret = self.tls.ssl.export_keying_material(record.EXPORTER_LABEL, 32,
                                                     record.exporter_context(self.channel, self.suite))
        self.sender = record.Sender(self.suite, record.direction_key(secret, 'c2s'), self.channel, senders)
        self.receiver = record.Receiver(self.suite, record.direction_key(secret, 's2c'), self.channel, senders)
        self.open_socket(udp_endpoint(bound, self.tls.sock.getpeername()))

    def open_socket(self, endpoint):
        """Connected, so that only the server's datagrams come in; "don't fragment" set."""
        six = ':' in endpoint[0]
        self.udp = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        level, discover, probe = (socket.IPPROTO_IPV6, 23, 3) if six else (socket.IPPROTO_IP, 10, 3)
        self.udp.setsockopt(level, discover, probe)  # IP_MTU_DISCOVER or IPV6_MTU_DISCOVER: PMTUDISC_PROBE
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.udp.connect(endpoint)
        self.udp.setblocking(False)
        known = self.udp.getsockopt(level, 24 if six else 14)  # IPV6_MTU or IP_MTU
        self.kernel_size = min(known - (48 if six else 28), record.LONGEST)

    def close(self, reason='normal'):
        """Ends the session, and tells the server if it can still be told."""
        if self.udp:
            with contextlib.suppress(EOFError, OSError):
                self.say(messages.close(messages.REASONS[reason]))
            self.udp.close()
        self.tls.close()

    # --- sending ---

    def say(self, message):
        """On the control stream."""
        self.tls.write(message)

    def send_record(self, sealed):
        self.sent_udp = now()
        try:
            self.udp.send(sealed)
        except OSError as error:
            # a refusal that came by ICMP for an earlier record, or a record longer than the link: both as if lost
            if error.errno not in (errno.ECONNREFUSED, errno.EMSGSIZE, errno.EAGAIN):
                raise

    def send_session(self, message, length=0):
        """A session message as a record, padded to this length."""
        plaintext = message.encode()
        plaintext += bytes(max(0, length - record.OVERHEAD - len(plaintext)))
        with contextlib.suppress(record.SendersUsedUp):
            self.send_record(self.sender.seal(plaintext))

    def probe(self, size=PROBE_LENGTH, number=None):
        """A PROBE in a record of this size; its id, which is a new one unless told."""
        number = random.getrandbits(32) if number is None else number
        self.send_session(messages.Probe(self.n, self.choice, number, size), size)
        return number

    def associate(self):
        """The number of a new association; the server hears of it by its first datagram."""
        self.numbers += 1
        self.open_numbers.add(self.numbers)
        return self.numbers

    def dissociate(self, *numbers, reason='normal'):
        self.open_numbers -= set(numbers)
        self.say(messages.closed(messages.REASONS[reason], *numbers))

    def send(self, number, data, target, over=None):
        """A datagram to (host or name, port), over what is in use unless told: 'udp' or 'stream'. Returns which."""
        plaintext = messages.Datagram(number, target, data).encode()
        fits = len(plaintext) + record.OVERHEAD <= self.plpmtu
        over = over or ('udp' if self.choice == messages.UDP and fits else 'stream')
        if over == 'udp':
            try:
                self.send_record(self.sender.seal(plaintext))
            except record.SendersUsedUp:
                over = 'stream'
        if over == 'stream':
            self.say(messages.control(Control.DATAGRAM, plaintext))
        return over

    # --- receiving ---

    def step(self, seconds):
        """Works off one message or record, or waits so long for one."""
        self.tick()
        if self.tls.ssl.pending():
            ready = [self.tls.sock]
        else:
            ready, _, _ = select.select([self.tls.sock, self.udp], [], [], max(0, seconds))
        if self.udp in ready:
            with contextlib.suppress(ConnectionRefusedError):
                self.take_record(self.udp.recv(65536))
        if self.tls.sock in ready:
            self.take_message()

    def tick(self):
        """What is due by time (sections 7, 8.7 and 9)."""
        time_now = now()
        if time_now - self.heard >= DEAD_SECONDS:
            self.close('timeout')
            raise Ended(messages.REASONS['timeout'])
        if time_now - max(self.heard, self.pinged) >= PING_SECONDS:
            self.pinged = time_now
            self.say(messages.control(Control.PING, bytes(8)))
        if time_now - self.told_alive >= ALIVE_SECONDS:
            self.told_alive = time_now
            numbers = sorted(self.open_numbers)
            for start in range(0, len(numbers), messages.NUMBERS_MAX):
                self.say(messages.alive(*numbers[start:start + messages.NUMBERS_MAX]))
        for number, (due, size) in list(self.probes.items()):
            if time_now >= due:
                del self.probes[number]
                self.probe(size, number)
        if self.choice == messages.UDP and time_now - self.sent_udp >= self.keepalive_seconds:
            self.send_session(messages.Keepalive())

    def take_record(self, sealed):
        plaintext, reason = self.receiver.open(sealed)
        if reason:
            self.drops[reason] += 1
            return
        try:
            message = messages.parse_plaintext(plaintext, up=False)
        except messages.Malformed:
            self.drops['malformed'] += 1
            return
        if isinstance(message, messages.Datagram):
            self.take_datagram(message, 'udp')
        elif isinstance(message, messages.Token):
            self.send_session(messages.Token(message.token, response=True))
            self.probe()
        elif isinstance(message, messages.Probe) and not message.answer:
            self.send_session(messages.Probe(message.n, message.choice, message.id, len(sealed), answer=True))
        elif isinstance(message, messages.Probe):
            self.take_probe_answer(message)

    def take_probe_answer(self, answer):
        if self.choice != messages.UDP:
            self.use(messages.UDP)
            for size in (SIZE_PROBED, self.kernel_size):
                self.probes[self.probe(size)] = (now() + 0.25, size)
        self.probes.pop(answer.id, None)
        self.plpmtu = max(self.plpmtu, answer.size)

    def use(self, choice):
        """Sends data on UDP or on the stream from now on, and tells the server to."""
        self.n, self.choice = self.n + 1, choice
        path = messages.Path(self.n, choice)
        self.say(messages.control(Control.PATH, path.body()))
        self.send_session(path)

    def take_datagram(self, datagram, over):
        if datagram.association in self.open_numbers:
            self.received.append(Received(datagram.association, datagram.data, datagram.address, over))
        else:
            self.drops['assoc_closed'] += 1

    def take_message(self):
        """One message of the control stream."""
        try:
            head = self.tls.read(4)
            body = self.tls.read(int.from_bytes(head[1:], 'big'))
        except (EOFError, ConnectionError) as error:
            raise Ended from error
        self.heard = now()
        kind = head[0]
        if kind == Control.DATAGRAM:
            try:
                message = messages.parse_plaintext(body, up=False)
                if not isinstance(message, messages.Datagram):
                    raise messages.Malformed('a session message as DATAGRAM')
                self.take_datagram(message, 'stream')
            except messages.Malformed:
                self.drops['malformed'] += 1
        elif kind == Control.PING:
            self.say(messages.control(Control.PONG, body))
        elif kind == Control.PONG:
            self.pongs.append(body)
        elif kind == Control.CLOSE:
            raise Ended(messages.parse_close(body))
        elif kind == Control.CLOSED:
            reason, numbers = messages.parse_closed(body)
            self.closed.append((reason, numbers))
            self.open_numbers -= set(numbers)
        elif kind == Control.REFUSED:
            self.refused.append(messages.parse_refused(body))

    def wait(self, condition, seconds=5, every=None):
        """Works until condition() is true and returns what it gave. every() is called when it asked to be, if given."""
        end = now() + seconds
        due = every() if every else end
        while not (value := condition()):
            if now() >= end:
                raise TimeoutError
            if now() >= due:
                due = every()
            self.step(min(end, due) - now())
        return value

    def validate(self, seconds=5):
        """Probes until the server has answered: then UDP is in use."""
        delays = iter([0.25, 0.25, 0.5, *(min(1 << power, 60) for power in range(32))])

        def probe():
            self.probe()
            return now() + next(delays)
        self.wait(lambda: self.choice == messages.UDP, seconds, probe)
        return self

    def receive(self, seconds=5):
        """The next datagram."""
        self.wait(lambda: self.received, seconds)
        return self.received.popleft()

    def ping(self, seconds=5):
        """Returns when all that was said on the stream before was worked off."""
        token = random.randbytes(8)
        self.say(messages.control(Control.PING, token))
        self.wait(lambda: token in self.pongs, seconds)
