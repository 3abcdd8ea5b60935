"""Terminals of a kernel: a shell on a pty, which goes on when nobody looks.

A connection that asked to be attached speaks frames from then on: one byte of kind, four of length (big-endian), the
payload. To here: input (0), size (1: rows and columns, two bytes each), restart (2). From here: output (0), end (1: the exit
code in four bytes), after which the connection ends. Who attaches is shown the last output first. Several may look at
one terminal at a time; one that does not read holds the program up, as a stopped terminal does, and is dropped soon.
"""

import os
import struct
import termios
from fcntl import ioctl

import _signal as signals
from select import POLLIN, POLLOUT
from supervisor import READABLE, Refusal, Stream, exit_of, reset_child, signal_group

MOST = 16
REPLAY_BYTES = 1 << 16
FRAME_LIMIT = 1 << 20
VIEWER_BACKLOG = 1 << 18  # bytes that wait for a viewer before the program has to
STALLED = 10.0  # seconds that a viewer may hold the program up
CHUNK = 16384
NAME_CHARACTERS = frozenset('abcdefghijklmnopqrstuvwxyz0123456789-')


def frame(kind, payload):
    return struct.pack('>BI', kind, len(payload)) + payload


class Terminals:
    def __init__(self, runner):
        self.runner = runner
        self.open = {}

    def attach(self, message, release, reply):
        """Makes the terminal if there is none of this name. From here on the connection is the viewer's."""
        name, term = message.get('terminal'), message.get('term')
        rows, columns = message.get('rows'), message.get('cols')
        if not isinstance(name, str) or not 0 < len(name) <= 32 or not NAME_CHARACTERS.issuperset(name):
            raise Refusal('bad-request', 'The name of the terminal is not acceptable.')
        if not all(isinstance(each, int) and 0 < each < 10000 for each in (rows, columns)):
            raise Refusal('bad-request', 'The size of the terminal is not acceptable.')
        if not isinstance(term, str) or not term.isascii() or not term.isprintable():
            raise Refusal('bad-request', 'The type of the terminal is not acceptable.')
        terminal = self.open.get(name)
        if terminal is None:
            if len(self.open) >= MOST:
                raise Refusal('busy', 'Too many terminals are open.')
            terminal = self.open[name] = Terminal(self, name, term, rows, columns)
        else:
            terminal.resize(rows, columns)
        Viewer(terminal, release(), reply)


class Terminal:
    def __init__(self, terminals, name, term, rows, columns):
        self.terminals = terminals
        self.name = name
        self.term = term
        self.loop = terminals.runner.loop
        self.size = (rows, columns)
        self.viewers = []
        self.last = bytearray()
        self.start()

    def start(self):
        self.input = bytearray()
        self.held = False
        self.restarting = False
        self.master, slave = os.openpty()
        self.resize(*self.size)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self.become_shell(slave)
        finally:
            os.close(slave)
        os.set_blocking(self.master, False)
        self.loop.watch(self.master, self.ready, POLLIN)
        self.loop.children[self.pid] = self.ended

    def become_shell(self, slave):
        try:
            os.setsid()
            ioctl(slave, termios.TIOCSCTTY, 0)
            reset_child(self.terminals.runner.home)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.closerange(3, 256)
            shell = find_shell()
            environment = dict(os.environ, TERM=self.term, SHELL=shell)
            os.execve(shell, [shell, '-i'], environment)
        finally:
            os._exit(127)

    def resize(self, rows, columns):
        self.size = (rows, columns)
        try:
            ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        except OSError:
            pass  # it is ending

    def write(self, data):
        self.input += data
        self.push()

    def push(self):
        try:
            while self.input:
                del self.input[: os.write(self.master, memoryview(self.input)[:4096])]
        except BlockingIOError:
            pass
        except OSError:
            self.input.clear()
        self.watch()

    def watch(self):
        if self.master in self.loop.handlers:
            self.loop.poller.modify(self.master, (0 if self.held else POLLIN) | (POLLOUT if self.input else 0))

    def ready(self, events):
        if events & POLLOUT:
            self.push()
        if events & READABLE and self.pull() is None:
            # Nobody has it open any more; the end of the shell follows.
            self.loop.unwatch(self.master)

    def pull(self):
        """How many bytes were there now; None when no more will come."""
        try:
            data = os.read(self.master, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        if not data:
            return None
        self.last += data
        del self.last[:-REPLAY_BYTES]
        for viewer in list(self.viewers):
            viewer.send(frame(0, data))
        self.hold()
        return len(data)

    def hold(self):
        self.held = any(len(viewer.backlog) > VIEWER_BACKLOG for viewer in self.viewers)
        self.watch()

    def ended(self, status):
        # What it wrote last, and not what programs that it left behind go on writing.
        left = REPLAY_BYTES
        while left > 0:
            size = self.pull()
            if not size:
                break
            left -= size
        self.loop.unwatch(self.master)
        os.close(self.master)
        if self.restarting:
            return self.start()
        self.terminals.open.pop(self.name, None)
        for viewer in list(self.viewers):
            viewer.send(frame(1, struct.pack('>I', exit_of(status)[0])))
            viewer.end()

    def restart(self):
        self.restarting = True
        self.last.clear()
        signal_group(self.pid, signals.SIGHUP)
        signal_group(self.pid, signals.SIGKILL)


class Viewer(Stream):
    def __init__(self, terminal, fd, reply):
        self.terminal = terminal
        self.received = bytearray()
        self.ending = False
        self.stalled = None
        Stream.__init__(self, terminal.loop, fd)
        self.backlog += reply
        terminal.viewers.append(self)
        if terminal.last:
            self.backlog += frame(0, bytes(terminal.last))
        self.push()

    def pull(self):
        data = self.read()
        if data is None:
            return
        self.received += data
        while len(self.received) >= 5:
            kind, length = struct.unpack_from('>BI', self.received)
            if length > FRAME_LIMIT:
                return self.close()
            if len(self.received) < 5 + length:
                return
            payload = bytes(self.received[5 : 5 + length])
            del self.received[: 5 + length]
            if kind == 0:
                self.terminal.write(payload)
            elif kind == 1 and length == 4:
                self.terminal.resize(*struct.unpack('>HH', payload))
            elif kind == 2:
                self.terminal.restart()
        if len(self.terminal.input) > FRAME_LIMIT:
            self.close()  # nothing reads what it types

    def send(self, data):
        if self.fd is not None:
            self.backlog += data
            self.push()

    def push(self):
        Stream.push(self)
        if self.fd is None:
            return
        if self.ending and not self.backlog:
            return self.close()
        full = len(self.backlog) > VIEWER_BACKLOG
        if full and self.stalled is None:
            self.stalled = self.loop.after(STALLED, self.close)
        elif not full and self.stalled is not None:
            self.loop.cancel(self.stalled)
            self.stalled = None
            self.terminal.hold()

    def end(self):
        self.ending = True
        self.push()

    def closed(self):
        if self.stalled is not None:
            self.loop.cancel(self.stalled)
        if self in self.terminal.viewers:
            self.terminal.viewers.remove(self)
        self.terminal.hold()


def find_shell():
    for folder in os.environ.get('PATH', '').split(':') + ['/bin', '/usr/bin']:
        if folder and os.access(os.path.join(folder, 'bash'), os.X_OK):
            return os.path.join(folder, 'bash')
    return '/bin/sh'
