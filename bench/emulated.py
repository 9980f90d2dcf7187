"""A bad network between near and far: the emulator of tests/net, with its commands (tests/net/command.h)."""
import json
import os
import select
import shutil
import subprocess

from lab import READY_SECONDS, Missing, NamespaceBench

NETWORK = '10.77.0.0/24'
DEVICE_QUEUE = 100_000  # longer than every burst: the emulator is the only one that loses
# Lateness is to be the relay's: other work on the machine waits for the relays, and they for what measures them.
RELAY = ('chrt', '--rr', '1')
INSTRUMENT = ('chrt', '--fifo', '2')


class EmulatedBench(NamespaceBench):
    """Near and far on the two sides of an emulator; commands are run at its start."""
    instrument, priority = INSTRUMENT, RELAY

    def __init__(self, *arguments, emulator, seed, congestion, commands=()):
        super().__init__(*arguments)
        self.emulator, self.seed, self.congestion, self.commands = emulator, seed, congestion, commands
        self.wire = None

    def start_targets(self):
        if os.geteuid() != 0:
            raise Missing('needs root')
        if not os.access(self.emulator, os.X_OK) or not os.path.exists('/dev/net/tun') or not shutil.which('chrt'):
            raise Missing(f'needs {self.emulator} (-Dtests=true), /dev/net/tun and chrt')
        super().start_targets()
        self.set_congestion()

    def join(self):
        ends = [word for side, holder in zip(('--client', '--server'), self.holders, strict=True)
                for word in (side, self.namespace(holder))]
        with open(self.folder / 'emulator.log', 'w') as log:
            self.wire = subprocess.Popen([*self.instrument, self.emulator, *ends, '--seed', str(self.seed),
                                          *self.commands], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                         text=True)
        self.started.append(self.wire)
        if not self.answer().startswith('ready'):
            raise Missing(f"emulator: {self.log_of('emulator')}")
        for place in (self.near, self.far):
            self.configure(place, f'ip link set {self.device} txqueuelen {DEVICE_QUEUE} addrgenmode none')
            # a connection does not begin with what an earlier cell taught
            self.configure(place, 'sysctl -q -w net.ipv4.tcp_no_metrics_save=1')

    def set_congestion(self):
        """By the route: in a namespace of its own even root may not make every algorithm the default."""
        for place, host in ((self.near, self.near_host), (self.far, self.far_host)):
            self.configure(place, f'ip route change {NETWORK} dev {self.device} proto kernel scope link src {host} '
                           f'congctl {self.congestion}')

    def answer(self):
        readable, _, _ = select.select([self.wire.stdout], [], [], READY_SECONDS)
        return self.wire.stdout.readline() if readable else ''

    def command(self, text):
        """Runs a command behind all that was sent before; its answer."""
        self.wire.stdin.write(text + '\n')
        self.wire.stdin.flush()
        answer = json.loads(self.answer() or '{"error": "no answer"}')
        if 'error' in answer:
            raise RuntimeError(f"emulator: {text}: {answer['error']}")
        return answer
