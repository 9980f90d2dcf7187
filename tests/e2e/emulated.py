"""Two hosts and a bad network between them: namespaces joined by the emulator of tests/net, which carries what the TUN
device of each takes. Commands are those of tests/net/command.h."""
import json
import os
import pathlib
import re
import secrets
import select
import signal
import subprocess
import time

import pytest

from harness import ROOT, SEALGRAM
from network import CLIENT, HOSTS, HOSTS_6, SERVER, Network, ip

LOSSES = ('lost', 'burst_lost', 'blackholed', 'too_big', 'queue_dropped', 'nat_dropped', 'failed')
DEVICE_MTU, DEVICE_QUEUE = 1500, 100_000


def find_emulator():
    """The tests are built in the directory of the program, or in build-test."""
    near = [pathlib.Path(os.environ[name]).parent for name in ('SEALGRAM_LIMITS',) if name in os.environ]
    for folder in [pathlib.Path(SEALGRAM).parent, *near, ROOT / 'build-test']:
        if (folder / 'tests/net/emulator').exists():
            return folder / 'tests/net/emulator'
    pytest.skip('tests/net/emulator is not built (-Dtests=true)')


class Emulated(Network):
    """A Network whose wire is as bad as its commands say; the first of them may be given here."""

    def __init__(self, lab, *commands, seed=None, mtu=DEVICE_MTU):
        self.lab, tag = lab, f'sg-{secrets.token_hex(4)}'
        self.names = (f'{tag}-c', f'{tag}-s')
        self.emulator, self.log = None, lab.folder / f'{tag}.log'
        lab.open(self)
        for name in self.names:
            ip('netns', 'add', name)
        self.start(commands, seed)
        for name, host, host_6 in zip(self.names, HOSTS, HOSTS_6, strict=True):
            # a queue that is long enough for every burst of a test: the network is the only one that loses
            ip('-n', name, 'link', 'set', 'wire', 'mtu', mtu, 'txqueuelen', DEVICE_QUEUE, 'addrgenmode', 'none')
            ip('-n', name, 'addr', 'add', f'{host}/24', 'dev', 'wire')
            ip('-n', name, 'addr', 'add', f'{host_6}/64', 'dev', 'wire', 'nodad')
            ip('-n', name, 'link', 'set', 'lo', 'up')
            ip('-n', name, 'link', 'set', 'wire', 'up')

    def start(self, commands, seed):
        ends = [f'/run/netns/{name}' for name in self.names]
        argv = [find_emulator(), '--client', ends[CLIENT], '--server', ends[SERVER]]
        with open(self.log, 'wb') as log:
            self.emulator = subprocess.Popen([*argv, *(['--seed', str(seed)] if seed is not None else []), *commands],
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self.unread = b''
        words = re.fullmatch(r'ready seed=(\d+)', self.read_line())
        self.seed = int(words[1])
        print(f'emulator: seed {self.seed}')  # pytest shows it where a test fails

    def read_line(self, seconds=10):
        end = time.monotonic() + seconds
        while b'\n' not in self.unread:
            readable, _, _ = select.select([self.emulator.stdout], [], [], max(0, end - time.monotonic()))
            data = os.read(self.emulator.stdout.fileno(), 65536) if readable else b''
            assert data, f'the emulator does not answer: {self.log.read_text()}'
            self.unread += data
        line, _, self.unread = self.unread.partition(b'\n')
        return line.decode()

    def command(self, text):
        """Runs one command behind all that was sent before; its answer."""
        self.emulator.stdin.write(text.encode() + b'\n')
        self.emulator.stdin.flush()
        answer = json.loads(self.read_line())
        assert 'error' not in answer, f'{text}: {answer}'
        return answer

    def ledger(self):
        """What became of the packets: ['up' or 'down']['udp', 'tcp' or 'other'][what]; every sum is checked."""
        ledger = self.command('ledger')
        for way in ('up', 'down'):
            for kind, lane in ledger[way].items():
                known = lane['delivered'] + lane['queued'] + sum(lane[what] for what in LOSSES)
                assert lane['received'] + lane['duplicated'] == known, f'{way} {kind}: {lane}'
        return ledger

    def device_drops(self, side):
        """Packets that the device of that host lost before the emulator or behind it; no ledger has them."""
        show = json.loads(ip('-n', self.names[side], '-s', '-j', 'link', 'show', 'wire').stdout)[0]['stats64']
        return show['tx']['dropped'] + show['rx']['dropped']

    def seconds_used(self):
        """Of processor time, by the emulator."""
        return int(pathlib.Path(f'/proc/{self.emulator.pid}/schedstat').read_text().split()[0]) / 1e9

    def close(self):
        """Ends the emulator and the hosts; whether the emulator was well is in ended_well()."""
        if self.emulator and self.emulator.poll() is None:
            self.emulator.send_signal(signal.SIGTERM)
            try:
                self.emulator.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.emulator.kill()
                self.emulator.wait()
        super().close()

    def ended_well(self):
        """After close()."""
        log = self.log.read_text()
        assert self.emulator.returncode == 0 and not log, f'emulator: {self.emulator.returncode}: {log}'
        return True
