"""Everything inside TLS and inside records (sections 5 to 9): blocks, control messages, plaintexts."""
import dataclasses
import enum
import ipaddress
import struct

REASONS = {name: code for code, name in enumerate(
    'none normal shutdown idle protocol unauthorized busy limit policy resolve_failed unreachable refused too_big '
    'no_socket timeout assoc_closed suite not_offered'.split())}
UDP, STREAM = 1, 2
OPEN, RESUME = 1, 2
BODY_MAX, BLOCK_MAX, NUMBERS_MAX = 66_000, 4096, 1024


class Field(enum.IntEnum):
    VERB = 1
    SUITES = 2
    HANDLE = 3
    AGENT = 4
    CHANNEL = 5
    SUITE = 6
    MAX_SENDERS = 7
    MAX_ASSOCIATIONS = 8
    ASSOC_IDLE = 9
    DNS_IDLE = 10
    RENEW = 11
    GRACE = 12
    REASON = 13
    RESUMED = 14


CRITICAL = {Field.VERB, Field.SUITES, Field.HANDLE, Field.CHANNEL, Field.SUITE, Field.MAX_SENDERS, Field.RESUMED}
REPLY_LENGTHS = {Field.HANDLE: 16, Field.CHANNEL: 8, Field.SUITE: 2, Field.MAX_SENDERS: 2, Field.MAX_ASSOCIATIONS: 4,
                 Field.ASSOC_IDLE: 4, Field.DNS_IDLE: 4, Field.RENEW: 4, Field.GRACE: 4, Field.REASON: 2, Field.RESUMED: 1}


class Control(enum.IntEnum):
    DATAGRAM = 1
    PATH = 2
    PING = 3
    PONG = 4
    CLOSE = 5
    CLOSED = 6
    ALIVE = 7
    REFUSED = 8


class Session(enum.IntEnum):
    PATH = 0x02
    PROBE = 0x10
    PROBE_ANSWER = 0x11
    CHALLENGE = 0x12
    RESPONSE = 0x13
    KEEPALIVE = 0x14


class Malformed(Exception):
    """Bytes that the protocol does not allow."""


def field(kind, value, critical=None):
    """One field; critical as the table says, unless told."""
    bit = kind in CRITICAL if critical is None else critical
    return struct.pack('!HH', kind | (0x8000 if bit else 0), len(value)) + value


def block(*fields):
    data = b''.join(fields)
    return struct.pack('!H', len(data)) + data


def open_block(suites, agent=b'sealgram_py/1'):
    ids = b''.join(struct.pack('!H', suite) for suite in suites)
    return block(field(Field.VERB, bytes([OPEN])), field(Field.SUITES, ids), field(Field.AGENT, agent))


def parse_reply_block(data):
    """The fields (without the length) of a reply as a dictionary: numbers, but HANDLE and CHANNEL as bytes."""
    fields, seen = {}, set()
    while data:
        if len(data) < 4:
            raise Malformed('field header')
        kind, size = struct.unpack('!HH', data[:4])
        critical, kind = kind >> 15, kind & 0x7fff
        value, data = data[4:4 + size], data[4 + size:]
        if len(value) < size or kind in seen:
            raise Malformed(f'field {kind}')
        seen.add(kind)
        if kind in REPLY_LENGTHS:
            if size != REPLY_LENGTHS[kind]:
                raise Malformed(f'length of field {kind}')
            fields[Field(kind)] = value if kind in (Field.HANDLE, Field.CHANNEL) else int.from_bytes(value, 'big')
        elif critical:
            raise Malformed(f'critical field {kind}')
    return fields


def address(host, port):
    """A SOCKS address: of an IP address, or else of a name."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        return b'\3' + bytes([len(name)]) + name + struct.pack('!H', port)
    return (b'\1' if ip.version == 4 else b'\4') + ip.packed + struct.pack('!H', port)


def parse_address(data):
    """((host, port), what follows)"""
    if not data:
        raise Malformed('address')
    start, size = {1: (1, 4), 4: (1, 16), 3: (2, data[1] if len(data) > 1 else 0)}.get(data[0], (0, 0))
    if size == 0 or len(data) < start + size + 2:
        raise Malformed('address')
    raw, port = data[start:start + size], struct.unpack('!H', data[start + size:start + size + 2])[0]
    host = raw.decode('latin-1') if data[0] == 3 else str(ipaddress.ip_address(raw))
    return (host, port), data[start + size + 2:]


@dataclasses.dataclass(frozen=True)
class Datagram:
    association: int
    address: tuple
    data: bytes

    def encode(self):
        return struct.pack('!I', self.association) + address(*self.address) + self.data


@dataclasses.dataclass(frozen=True)
class Probe:
    """A PROBE or, with answer, a PROBE_ANSWER."""
    n: int
    choice: int
    id: int
    size: int
    answer: bool = False

    def encode(self):
        return session(Session.PROBE_ANSWER if self.answer else Session.PROBE,
                       struct.pack('!IBIH', self.n, self.choice, self.id, self.size))


@dataclasses.dataclass(frozen=True)
class Token:
    """A CHALLENGE or, with response, a RESPONSE."""
    token: bytes
    response: bool = False

    def encode(self):
        return session(Session.RESPONSE if self.response else Session.CHALLENGE, self.token)


@dataclasses.dataclass(frozen=True)
class Path:
    n: int
    choice: int

    def body(self):
        return struct.pack('!IB', self.n, self.choice)

    def encode(self):
        return session(Session.PATH, self.body())


@dataclasses.dataclass(frozen=True)
class Keepalive:
    @staticmethod
    def encode():
        return session(Session.KEEPALIVE)


def session(kind, fields=b''):
    return bytes(4) + bytes([kind]) + fields


def parse_plaintext(data, up):
    """A Datagram, Probe, Token, Path or Keepalive; up tells which direction it came in."""
    if len(data) < 5:
        raise Malformed('plaintext')
    association = struct.unpack('!I', data[:4])[0]
    if association:
        source, rest = parse_address(data[4:])
        if not up and data[4] == 3:
            raise Malformed('a name for a source')
        return Datagram(association, source, rest)
    return parse_session(data[4], data[5:], up)


def parse_session(kind, rest, up):
    size = {Session.PROBE: 11, Session.PROBE_ANSWER: 11, Session.KEEPALIVE: 0,
            **({Session.PATH: 5, Session.RESPONSE: 8} if up else {Session.CHALLENGE: 8})}.get(kind)
    if size is None or len(rest) < size:
        raise Malformed(f'session message {kind}')
    if kind in (Session.PROBE, Session.PROBE_ANSWER):
        return Probe(*struct.unpack('!IBIH', rest[:size]), answer=kind == Session.PROBE_ANSWER)
    if kind in (Session.CHALLENGE, Session.RESPONSE):
        return Token(rest[:size], response=kind == Session.RESPONSE)
    if kind == Session.PATH:
        return Path(*struct.unpack('!IB', rest[:size]))
    return Keepalive()


def control(kind, body=b''):
    return bytes([kind]) + len(body).to_bytes(3, 'big') + body


def closed(reason, *numbers):
    return control(Control.CLOSED, struct.pack(f'!H{len(numbers)}I', reason, *numbers))


def alive(*numbers):
    return control(Control.ALIVE, struct.pack(f'!{len(numbers)}I', *numbers))


def close(reason):
    return control(Control.CLOSE, struct.pack('!H', reason))


def refused(association, scope, reason, size, target):
    return control(Control.REFUSED, struct.pack('!IBHH', association, scope, reason, size) + address(*target))


def parse_close(body):
    """The reason."""
    if len(body) != 2:
        raise Malformed('CLOSE')
    return struct.unpack('!H', body)[0]


def parse_closed(body):
    """(reason, numbers)"""
    if not 6 <= len(body) <= 2 + 4 * NUMBERS_MAX or len(body) % 4 != 2:
        raise Malformed('CLOSED')
    return struct.unpack('!H', body[:2])[0], [number for number, in struct.iter_unpack('!I', body[2:])]


def parse_refused(body):
    """(association, scope, reason, size, (host, port))"""
    if len(body) < 9:
        raise Malformed('REFUSED')
    target, rest = parse_address(body[9:])
    if rest:
        raise Malformed('REFUSED: bytes after the address')
    return (*struct.unpack('!IBHH', body[:9]), target)
