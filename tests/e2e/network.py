"""Two hosts and the wire between them: network namespaces joined by a veth pair, captures of it, a firewall on it."""
import ctypes
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import threading

import pytest

from harness import wait_for

CLIENT, SERVER = 0, 1
HOSTS = ('10.77.0.1', '10.77.0.2')
HOSTS_6 = ('fd77::1', 'fd77::2')
PORT = 1443
DISCARD, END = 9, b'the end of this capture'
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def ip(*words, check=True):
    return subprocess.run(['ip', *map(str, words)], check=check, capture_output=True, text=True, timeout=20)


class Network:
    """The hosts are CLIENT and SERVER; each has a device named wire."""

    def __init__(self, lab):
        self.lab, tag = lab, f'sg-{secrets.token_hex(4)}'
        self.names = (f'{tag}-c', f'{tag}-s')
        lab.open(self)
        for name in self.names:
            ip('netns', 'add', name)
        ip('link', 'add', 'wire', 'netns', self.names[0], 'type', 'veth',
           'peer', 'name', 'wire', 'netns', self.names[1])
        for name, host, host_6 in zip(self.names, HOSTS, HOSTS_6, strict=True):
            ip('-n', name, 'addr', 'add', f'{host}/24', 'dev', 'wire')
            ip('-n', name, 'addr', 'add', f'{host_6}/64', 'dev', 'wire', 'nodad')
            ip('-n', name, 'link', 'set', 'lo', 'up')
            ip('-n', name, 'link', 'set', 'wire', 'up')

    def close(self):
        for name in self.names:
            ip('netns', 'del', name, check=False)

    def prefix(self, side):
        """What makes a program run on that host."""
        return ['nsenter', f'--net=/run/netns/{self.names[side]}']

    def call(self, side, function, *arguments, **keywords):
        """Calls function on that host; the sockets that it makes stay there."""
        result = []

        def work():
            descriptor = os.open(f'/run/netns/{self.names[side]}', os.O_RDONLY)
            if libc.setns(descriptor, CLONE_NEWNET) != 0:
                result.append(OSError(ctypes.get_errno(), 'setns'))
                return
            os.close(descriptor)
            try:
                result.append(function(*arguments, **keywords))
            except BaseException as error:  # noqa: BLE001 - raised below
                result.append(error)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    def server(self, config=''):
        """A server on its host, whose loopback clients may reach: (folder, invite, program)."""
        folder, _, invite = self.lab.init(port=PORT, host=HOSTS[SERVER], listen=[f'0.0.0.0:{PORT}', f'[::]:{PORT}'])
        self.lab.edit_config(folder, config)
        program = self.lab.start('server', 'server', '-c', folder / 'server.yaml', '-v', prefix=self.prefix(SERVER))
        program.ready()
        return folder, invite, program

    def client(self, invite, *options, **keywords):
        return self.lab.client(invite, *options, prefix=self.prefix(CLIENT), **keywords)

    def block_udp(self, side):
        """A firewall in front of that host: UDP that arrives is lost in silence."""
        name = self.names[side]
        rule = ['pref', 10, 'iif', 'wire', 'ipproto', 'udp', 'type', 'blackhole']
        done = ip('-n', name, 'rule', 'add', *rule, check=False)
        if done.returncode != 0:
            pytest.skip(f'this kernel has no routing rules by protocol: {done.stderr.strip()}')
        ip('-n', name, 'rule', 'add', 'pref', 20, 'lookup', 'local')
        ip('-n', name, 'rule', 'del', 'pref', 0)

    def unblock_udp(self, side):
        ip('-n', self.names[side], 'rule', 'del', 'pref', 10)


class Capture:
    """tcpdump on the wire; what passed after stop()."""

    def __init__(self, network):
        self.network = network
        self.path, self.log = network.lab.folder / 'wire.pcap', network.lab.folder / 'tcpdump.log'
        # room for a thousand frames in the kernel, so that none is lost while this program does not run
        options = ['-n', '-U', '--immediate-mode', '--snapshot-length=65600', '--buffer-size=65536', '-Z', 'root']
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen([*network.prefix(SERVER), 'tcpdump', '-i', 'wire', *options,
                                             '-w', str(self.path)], stdin=subprocess.DEVNULL, stderr=log)
        network.lab.open(self)
        wait_for(lambda: 'listening on' in self.log.read_text(), what='tcpdump')
        self.udp, self.streams, self.segments, self.before_udp = [], {}, {}, 0

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Reads the capture: udp is [(source port, target port, payload)], streams is {(source, target): bytes}, and
        before_udp the number of bytes in them before the first datagram."""
        with self.network.call(CLIENT, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(END, (HOSTS[SERVER], DISCARD))
        wait_for(lambda: END in self.path.read_bytes(), what='the end of the capture')
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        text = self.log.read_text()
        assert re.search(r'^0 packets dropped by kernel', text, re.MULTILINE), text
        self.raw = self.path.read_bytes()
        assert self.raw[:4] == b'\xd4\xc3\xb2\xa1'
        at = 24
        while at < len(self.raw):
            size, = struct.unpack('<I', self.raw[at + 8:at + 12])
            self.read_frame(self.raw[at + 16:at + 16 + size])
            at += 16 + size
        self.streams = {ends: join(*segments) for ends, segments in self.segments.items()}
        return self

    def read_frame(self, frame):
        kind, = struct.unpack('!H', frame[12:14])
        packet = frame[14:]
        if kind == 0x0800:
            head = packet[0] % 16 * 4
            size, fragment = struct.unpack('!HxxH', packet[2:8])
            assert fragment & 0x3fff == 0, 'a fragment'
            protocol, hosts, data = packet[9], (packet[12:16], packet[16:20]), packet[head:size]
        elif kind == 0x86dd:
            size, = struct.unpack('!H', packet[4:6])
            protocol, hosts, data = packet[6], (packet[8:24], packet[24:40]), packet[40:40 + size]
        else:
            return
        ports = struct.unpack('!HH', data[:4])
        if protocol == socket.IPPROTO_UDP and ports[1] != DISCARD:
            self.udp.append((*ports, data[8:]))
        elif protocol == socket.IPPROTO_TCP:
            self.read_segment((hosts[0], ports[0]), (hosts[1], ports[1]), data)

    def read_segment(self, source, target, data):
        sequence, = struct.unpack('!I', data[4:8])
        payload = data[data[12] // 16 * 4:]
        if data[13] & 2:  # SYN
            self.segments[source, target] = (sequence + 1, [])
        elif payload:
            self.segments[source, target][1].append((sequence, payload))
            self.before_udp += len(payload) if not self.udp else 0

    def everything(self):
        """All that was carried: the frames as they were, and the bytes of each stream in one piece."""
        return [self.raw, *self.streams.values()]


def join(first, segments):
    """The bytes of a stream whose first byte has the sequence number first; nothing may be missing."""
    stream = bytearray()
    for at, payload in sorted(((sequence - first) % 2**32, payload) for sequence, payload in segments):
        assert at <= len(stream), f'{at - len(stream)} bytes are missing at {len(stream)}'
        stream[at:at + len(payload)] = payload
    return bytes(stream)


def tls_records(stream):
    """[(type, length)] of a stream that must be TLS from its first to its last byte."""
    records, at = [], 0
    while at < len(stream):
        kind, major, _, size = struct.unpack('!BBBH', stream[at:at + 5])
        assert 20 <= kind <= 23 and major == 3 and size <= 16640, f'no TLS at {at}: {stream[at:at + 16]}'
        records.append((kind, size))
        at += 5 + size
    assert at == len(stream), 'the last record is not whole'
    return records
