# SPDX-License-Identifier: GPL-2.0-only
"""Two hosts for the tests of the daemon: network namespaces with the real
programs attached and the real daemons, each with a scripted QEMU. All of it is
in a mount namespace of the test's process and goes with it."""

import ctypes
import json
import mmap
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import pathlib
import signal

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COLO = str((ROOT / os.environ.get('BUILD', 'build') / 'colo-bpf').resolve())
WAIT = 5            # s, for what comes at once on an idle machine


def sh(command):
    subprocess.run(command, shell=True, check=True)


def sandbox():
    """Mounts of our own, two hosts a and s with a link, and a third place w."""
    sh('mount --make-rprivate /; mount -t tmpfs none /run; mkdir /run/netns;'
       'umount -l /sys/fs/bpf 2>/dev/null; mount -t bpf none /sys/fs/bpf;'
       'umask 077; head -c 32 /dev/urandom >/run/secret')
    for host in 'as':
        sh(f'ip netns add {host}; ip -n {host} link set lo up;'
           f'ip -n {host} tuntap add dev tap0 mode tap;'
           f'ip -n {host} link add port0 type veth peer name port1')
    sh('ip -n a link add link0 type veth peer name link0 netns s;'
       'ip -n a addr add 10.5.0.1/24 dev link0;'
       'ip -n s addr add 10.5.0.2/24 dev link0')
    sh('ip -n a link add path0 type veth peer name path0 netns s;'
       'ip -n a addr add 10.6.0.1/24 dev path0;'
       'ip -n s addr add 10.6.0.2/24 dev path0')
    # A third place, with one address for both.
    sh('ip netns add w; ip -n w link set lo up; '
       'ip -n w addr add 10.7.0.1/32 dev lo')
    for net, host in enumerate('as', 1):
        sh(f'ip -n w link add {host}0 type veth peer name w0 netns {host};'
           f'ip -n w addr add 10.7.{net}.1/24 dev {host}0;'
           f'ip -n w link set {host}0 up; ip -n {host} link set w0 up;'
           f'ip -n {host} addr add 10.7.{net}.2/24 dev w0;'
           f'ip -n {host} route add 10.7.0.1 via 10.7.{net}.1')
    for host in 'as':
        sh(f'ip -n {host} link set path0 up; '
           f'ip -n {host} link set link0 mtu 1504; for d in tap0 port0 port1 '
           f'link0; do ip -n {host} link set $d up; done')


class Failed(Exception):
    pass


def until(what, test, seconds=WAIT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(0.01)
    raise Failed(f'not in {seconds} s: {what}')


class Qemu:
    """QEMU's end of a QMP socket, with the hooks' commands."""

    def __init__(self, path, hooks=True):
        self.heard = []     # (command, out of band, arguments)
        self.pending = None
        self.mode, self.epoch = 'none', 0
        self.hooks = hooks
        self.refuse = {}    # command: error
        self.replica = {'error': False}
        self.figures = {}   # what x-query-colo-proxy knows of the last one
        self.silent = False     # fails over without a word
        self.waiting = []   # what it has not answered
        self.answered = {}  # when it answered last, out of band or not
        self.deaf = ''      # main: main loop, monitor: all of it
        self.status = 'running'
        self.migration = 'none'
        self.colo = False   # the capability
        self.continued = False
        self.client = None
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(1)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                self.client, _ = self.server.accept()
                self.say({'QMP': {'version': {}, 'capabilities': ['oob']}})
                for line in self.client.makefile():
                    self.answer(json.loads(line))
            except OSError:
                if self.server.fileno() < 0:
                    return

    def answer(self, message):
        command = message.get('execute') or message.get('exec-oob')
        arguments = message.get('arguments', {})
        oob = 'exec-oob' in message
        self.heard.append((command, oob, arguments))
        if self.deaf == 'monitor' or self.deaf == 'main' and not oob:
            self.waiting.append(message)
            return
        self.answered[oob] = time.monotonic()
        value = {}
        if command == 'query-commands':
            names = ['quit', 'x-colo-lost-heartbeat']
            if self.hooks:
                names += ['x-colo-proxy-set', 'x-colo-proxy-checkpoint',
                          'x-colo-proxy-ack', 'x-query-colo-proxy']
            value = [{'name': name} for name in names]
        elif command == 'x-query-colo-proxy':
            value = {'enabled': True, 'ack-timeout': 5000, 'checkpoints': 0,
                     'mode': self.mode, 'epoch': self.epoch}
            value.update(self.figures)
            if self.pending:
                value['pending'] = self.pending
        elif command == 'query-xen-replication-status':
            value = self.replica
        elif command == 'query-yank':
            value = [{'type': 'chardev', 'id': 'monitor'},
                     {'type': 'block-node', 'node-name': 'nbd0'},
                     {'type': 'migration'}]
        elif command == 'query-rx-filter':
            value = [{'name': 'n0', 'main-mac': '02:00:00:00:00:10'}]
        elif command == 'x-colo-proxy-checkpoint':
            value = {'accepted': True}
        elif command == 'x-colo-proxy-ack':
            self.pending = None
        elif command == 'x-colo-lost-heartbeat' and command not in self.refuse:
            self.say({'return': {}, 'id': message['id']})
            if not self.hooks:
                self.mode = 'none'
                self.event('STOP')
                self.event('MIGRATION', status='completed')
                self.event('COLO_EXIT', reason='request')
                self.event('RESUME')
            elif not self.silent:
                self.stage('failover', self.epoch)
            return
        elif command == 'query-colo-status':
            value = {'mode': self.mode, 'last-mode': 'none', 'reason': 'none'}
        elif command == 'query-status':
            value = {'status': self.status, 'running': self.status == 'running'}
        elif command == 'query-migrate-capabilities':
            value = [{'capability': 'x-colo', 'state': self.colo}]
        elif command == 'query-migrate':
            value = {'status': self.migration}
        elif command == 'migrate':
            self.migration = 'pre-switchover'
        elif command == 'migrate_cancel':
            self.migration = 'cancelled'
        elif command == 'migrate-continue' and command not in self.refuse:
            self.migration = self.mode = 'colo'
            self.continued = True
        if command in self.refuse:
            self.say({'error': {'class': 'GenericError',
                                'desc': self.refuse[command]},
                      'id': message['id']})
        else:
            self.say({'return': value, 'id': message['id']})

    def hear(self):
        """It answers again, what it has not answered first."""
        self.deaf = ''
        for message in self.waiting:
            self.answer(message)

    def yanked(self):
        return [a['instances'][0]['type'] for c, oob, a in self.heard
                if c == 'yank' and oob]

    def say(self, message):
        self.client.sendall((json.dumps(message) + '\r\n').encode())

    def event(self, event, when=None, **data):
        """`when`: time.time() of what it tells."""
        when = time.time() if when is None else when
        self.say({'event': event, 'data': data, 'timestamp': {
            'seconds': int(when), 'microseconds': int(when % 1 * 1000000)}})

    def stage(self, stage, epoch, **figures):
        ack = stage not in ('primary-stop', 'primary-resume')
        if ack:
            self.pending = {'stage': stage, 'epoch': epoch}
        self.figures = figures
        self.say({'event': 'COLO_PROXY_STAGE',
                  'data': {'stage': stage, 'epoch': epoch, 'ack': ack,
                           **figures}})

    def acked(self, stage, epoch):
        for command, oob, arguments in self.heard:
            if command == 'x-colo-proxy-ack' and oob and \
               arguments.get('stage') == stage and \
               arguments.get('epoch') == epoch:
                return arguments
        return None

    def asked(self):
        return [a for c, _, a in self.heard if c == 'x-colo-proxy-checkpoint']

    def has(self, command):
        return any(c == command for c, _, _ in self.heard)

    def kill(self):
        self.server.close()
        try:
            self.client.shutdown(socket.SHUT_RDWR)
            self.client.close()
        except (AttributeError, OSError):
            pass    # there was no client, or it is gone


CONFIG = '''role = "%(role)s";
guest = "tap0"; port = "port0"; link = "link0";
primary = { address = "10.5.0.1"; qmp = "/run/a.qmp"; %(p_path)s };
secondary = { address = "10.5.0.2"; qmp = "/run/s.qmp"; %(s_path)s };
secret_file = "/run/secret";
proxy = { max_flows = 1024; max_frames = 512; small_blocks = 512;
  big_blocks = 8; %(proxy)s };
%(more)s
'''


GUEST, CLIENT = bytes([2, 0, 0, 0, 0, 16]), bytes([2, 0, 0, 0, 0, 1])


def frame(packet, tags=()):
    """The guest's, to the client."""
    kind = 0x86dd if packet[0] >> 4 == 6 else 0x800
    return CLIENT + GUEST + b''.join(struct.pack('!HH', *t) for t in tags) + \
        struct.pack('!H', kind) + packet


def ipv4(proto, data):
    return struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(data), 1, 0, 64, proto,
                       0, bytes([10, 9, 0, 10]), bytes([10, 9, 0, 1])) + data


def ipv6(proto, data, source, to='2001:db8::1'):
    return struct.pack('!IHBB', 6 << 28, len(data), proto, 255) + \
        socket.inet_pton(socket.AF_INET6, source) + \
        socket.inet_pton(socket.AF_INET6, to) + data


def checksum(data):
    """Of the Internet; 0 if `data` has a right one in it."""
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


class Ear:
    """What leaves by a host's port."""

    def __init__(self, side):
        self.frames = []
        self.ready = threading.Event()
        threading.Thread(target=self.run, args=(side,), daemon=True).start()
        self.ready.wait()

    def run(self, side):
        libc = ctypes.CDLL(None, use_errno=True)
        net = os.open(f'/run/netns/{side.name}', os.O_RDONLY)
        if libc.setns(net, 0x40000000):
            raise OSError(ctypes.get_errno(), 'setns')
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                             socket.htons(3))
        wire.setsockopt(263, 8, 1)      # PACKET_AUXDATA: the tag is there
        wire.bind(('port1', 3))
        self.ready.set()
        while True:
            data, more, _, _ = wire.recvmsg(2048, 100)
            for _, kind, value in more:
                status, _, _, _, _, tci, tpid = struct.unpack('IIIHHHH', value)
                if kind == 8 and status & 16:
                    data = data[:12] + struct.pack('!HH', tpid, tci) + data[12:]
            self.frames.append(data)


class Side:
    def __init__(self, name, role):
        self.name, self.role = name, role
        self.qmp = f'/run/{name}.qmp'
        self.file = f'/run/{name}.conf'
        self.process = None
        self.log = open(f'/run/{name}.log', 'w+')
        self.config()
        self.colo('attach', '--config', self.file)
        self.boot()

    def boot(self):
        """Another QEMU."""
        pathlib.Path(self.qmp).unlink(missing_ok=True)
        self.qemu = Qemu(self.qmp)

    def colo(self, command, *arguments):
        done = subprocess.run([COLO, command, self.name, '--netns', self.name,
                               *arguments], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.PIPE, timeout=60)
        if done.returncode:
            raise Failed(f'{command}: {done.returncode}: {done.stderr}')
        return done.stdout

    def config(self, more='', path=False, proxy=''):
        """Write its configuration, `more` added to what is always there."""
        paths = [f'paths = ["10.6.0.{n}"];' if path else '' for n in (1, 2)]
        with open(self.file, 'w') as file:
            file.write(CONFIG % {'role': self.role, 'more': more,
                                 'proxy': proxy, 'p_path': paths[0], 's_path': paths[1]})

    def run(self, *more):
        self.process = subprocess.Popen(
            [COLO, 'run', self.name, '--netns', self.name, '--config',
             self.file, *more], stderr=self.log)
        with open(f'/run/{self.name}.pid', 'w') as file:
            file.write(str(self.process.pid))
        return self

    def dies(self):
        """The host is gone, without a last word, and does nothing meanwhile."""
        self.signal(signal.SIGSTOP)
        self.died = time.monotonic()
        for dev in 'link0', 'path0', 'port0':
            sh(f'ip -n {self.name} link set {dev} down')
        self.kill()
        self.qemu.kill()

    def send(self, *frames):
        """The guest sends frames, or a datagram."""
        udp = struct.pack('!4H', 5000, 6000, 12, 0) + b'data'
        frames = frames or (frame(ipv4(17, udp)),)
        code = (
            'import fcntl, struct;'
            'tap = open("/dev/net/tun", "r+b", buffering=0);'
            'fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH", b"tap0", 0x1002'
            '));' + ''.join(f'tap.write(bytes.fromhex("{f.hex()}"));'
                            for f in frames))
        sh(f'nsenter --net=/run/netns/{self.name} {sys.executable} -c '
           f"'{code}'")

    def checkpoints(self, *more):
        return json.loads(self.colo('checkpoints', '-j', *more))

    def status(self):
        return json.loads(self.colo('status', '-j'))

    def state(self):
        daemon = self.status()['daemon']
        return daemon and daemon['state']

    def wait(self, state):
        until(f'{self.name} {state}', lambda: self.state() == state)

    def peer(self, health):
        until(f'{self.name}: peer {health}',
              lambda: (self.status()['daemon'] or {}).get('peer') == health)

    def running(self):
        return self.process.poll() is None

    def ended(self):
        try:
            return self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            raise Failed(f'{self.name}: the daemon goes on') from None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def words(self):
        self.log.flush()
        return open(self.log.name).read()

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        self.qemu.kill()
        subprocess.run(['rm', '-f', self.qmp, f'/run/colo-bpf/{self.name}.sock'])
        try:
            self.colo('detach')
        except Failed:      # built anew meanwhile
            self.colo('detach', '--force')


class Pair:
    def __init__(self):
        self.p = Side('a', 'primary')
        self.s = Side('s', 'secondary')
        self.others = []    # what is to be closed as well

    def ready(self, *more):
        """Both daemons, which know each other."""
        for side in self.p, self.s:
            side.run(*more)
        for side in self.p, self.s:
            side.peer('alive')
            until('channel', lambda s=side: s.status()['daemon']['channel'])
        return self

    def start(self, *more):
        """... and COLO in epoch 1, as QEMU begins it: the secondary first."""
        self.ready(*more)
        for side in self.s, self.p:
            side.qemu.mode, side.qemu.epoch = side.role, 1
            side.qemu.stage(side.role + '-start', 1)
            until('ack', lambda s=side: s.qemu.acked(s.role + '-start', 1))
        for side in self.p, self.s:
            side.wait('colo')
        return self

    def checkpoint(self, epoch, us=100):
        """Each of its eight parts takes us microseconds."""
        stats = {'epoch': epoch, 'ram-bytes': 8192, 'ram-pages': 2,
                 'device-bytes': 500}
        for part in 'request', 'stop', 'device', 'ram', 'transfer':
            stats[part] = us
        load = {'epoch': epoch, 'stop': 1, 'receive': 2, 'flush': 3, 'load': 4}
        self.p.qemu.stage('primary-stop', epoch)
        self.p.qemu.stage('primary-commit', epoch, checkpoint=stats)
        self.s.qemu.stage('secondary-reset', epoch, load=load)
        for side, stage in (self.p, 'primary-commit'), (self.s,
                                                        'secondary-reset'):
            until('ack', lambda s=side, n=stage: s.qemu.acked(n, epoch))
            side.qemu.epoch = epoch + 1
        for part in 'commit', 'load', 'resume':
            stats[part] = us
        self.p.qemu.stage('primary-resume', epoch, checkpoint=stats)

    def config(self, more='', path=False):
        for side in self.p, self.s:
            side.config(more, path)

    def cut(self):
        """The link is cut, and whatever other path there is."""
        self.died = time.monotonic()
        sh('ip -n a link set link0 down; ip -n a link set path0 down')

    def mend(self):
        for dev in 'link0', 'path0', 'port0':
            for host in 'as':
                sh(f'ip -n {host} link set {dev} up')

    def close(self):
        for other in self.others:
            other.close()
        self.mend()
        for side in self.p, self.s:
            side.close()


def config_map(name):
    dump = subprocess.run(
        ['bpftool', '-j', 'map', 'dump', 'pinned',
         f'/sys/fs/bpf/colo-bpf/{name}/maps/config'], stdout=subprocess.PIPE,
        check=True)
    return json.loads(dump.stdout)[0]['formatted']['value']


def check(what, value):
    if not value:
        raise Failed(what)


def same(what, got, wanted):
    if got != wanted:
        raise Failed(f'{what}: {got}, not {wanted}')


class Session:
    """What a side may send, read from its pinned map."""

    def __init__(self, name):
        self.name = name
        path = ctypes.create_string_buffer(
            f'/sys/fs/bpf/colo-bpf/{name}/maps/session'.encode())
        attr = struct.pack('QIII', ctypes.addressof(path), 0, 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.syscall(321, 7, attr, len(attr))     # BPF_OBJ_GET
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), 'BPF_OBJ_GET')
        self.map = mmap.mmap(self.fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ)

    def mode(self):
        return ('shut', 'wire', 'primary', 'secondary', 'active')[
            struct.unpack_from('I', self.map, 8)[0]]

    def lease(self):
        return struct.unpack_from('Q', self.map, 48)[0]

    def sends(self):
        """May its guest send to the clients, at this moment?"""
        mode = self.mode()
        if mode == 'primary':
            lease = self.lease()
            return not lease or time.clock_gettime_ns(
                time.CLOCK_MONOTONIC) < lease
        return mode in ('wire', 'active')

    def close(self):
        self.map.close()
        os.close(self.fd)


class Watch:
    """Looks each millisecond whether both sides may send. One that was fenced
    cannot, whatever its maps say: its wires are cut."""

    def __init__(self):
        self.sessions = [Session('a'), Session('s')]
        self.off = [pathlib.Path(f'/run/{side}.off') for side in 'as']
        self.both = self.looks = 0
        self.since = {}     # when a side came to its mode
        self.ending = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ending:
            # Two looks are two moments: one side's must enclose the other's.
            looks = [self.sends(i) for i in (0, 1, 0, 1)]
            if all(looks[:3]) or all(looks[1:]):
                self.both += 1
            for session in self.sessions:
                self.since.setdefault((session.name, session.mode()),
                                      time.monotonic())
            self.looks += 1
            time.sleep(0.001)

    def sends(self, i):
        return self.sessions[i].sends() and not self.off[i].exists()

    def end(self):
        until('some looks', lambda: self.looks > 100)
        self.ending = True
        self.thread.join()
        for session in self.sessions:
            session.close()
        same('moments in which both may send', self.both, 0)


def main(cases):
    """Run the functions case_* whose names have one of the words of the
    command line in them. The tests make namespaces: they run in their own."""
    if sys.argv[1:2] != ['inside']:
        os.execvp('unshare', ['unshare', '--mount', '--net', sys.executable,
                              sys.argv[0], 'inside', *sys.argv[1:]])
    sandbox()
    cases = [f for n, f in cases.items() if n.startswith('case_')]
    wanted = sys.argv[2:]
    passed = failed = 0
    print(f'1..{len(cases)}')
    for number, case in enumerate(cases, 1):
        if wanted and not any(w in case.__name__ for w in wanted):
            continue
        what = ' '.join(case.__doc__.split())
        pair = Pair()
        try:
            case(pair)
            passed += 1
            print(f'ok {number} - {what}')
        except (Failed, OSError, subprocess.SubprocessError) as why:
            failed += 1
            print(f'not ok {number} - {what}\n# {why}')
            for side in pair.p, pair.s:
                for line in side.words().splitlines():
                    print(f'# {side.name}: {line}')
        finally:
            pair.close()
        sys.stdout.flush()
    print(f'{passed} passed, {failed} failed, 0 skipped')
    sys.exit(failed > 0)
