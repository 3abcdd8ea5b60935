"""The kernel runner: executes code for an agent that may come and go.

It runs inside a kernel, under the user's own uid. This process is the supervisor: one thread around poll(2) that owns
the socket, the journals and every pipe, and never runs user code. Interactive code lives in a forked Python, batch
steps in process groups of their own. Endless loops, os._exit and crashes of user code therefore never stop an answer to
the agent, and nothing here waits for an agent: output goes to files, events only tell that they grew.

The imports are C modules on purpose: json, signal, socket and subprocess would triple the start-up time.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

import errno
import select
from time import monotonic, time

import _signal as signals
import _socket
from wire import Lines, encode, decode, quote

VERSION = 1
CHUNK = 65536  # bytes of output in one record at most
PIPE_BYTES = 1 << 20
LINE_LIMIT = 32 << 20  # one request, or one message of the interpreter
MEDIA_LIMIT = 8 << 20
BACKLOG_LIMIT = 64 << 20  # bytes waiting for a reader that does not read
KEPT_RUNS = 32
QUEUED_RUNS = 256
CONSOLE_BYTES = 1 << 20
EVENT_GAP = 0.005  # seconds between two events of one run, unless its state changes
LINGER = 0.5  # seconds that leftovers of a batch step may hold its pipes
COMPLETE_DEADLINE = 2.0
DISK_RETRY = 0.25  # seconds until a full disk is tried again
FULL = (errno.ENOSPC, errno.EDQUOT)
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
ID_CHARACTERS = frozenset('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-')


class Loop:
    """poll(2), timers and the ends of children."""

    def __init__(self):
        self.poller = select.poll()
        self.handlers = {}
        self.timers = []  # [when, callback]; few at any time
        self.children = {}
        wake, waker = os.pipe()
        for fd in (wake, waker):
            os.set_blocking(fd, False)
        signals.signal(signals.SIGCHLD, lambda *_: None)
        signals.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self.wake = wake
        self.watch(wake, self.reap)

    def watch(self, fd, handler, events=select.POLLIN):
        self.handlers[fd] = handler
        self.poller.register(fd, events)

    def unwatch(self, fd):
        if self.handlers.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def after(self, seconds, callback):
        timer = [monotonic() + seconds, callback]
        self.timers.append(timer)
        return timer

    def cancel(self, timer):
        if timer in self.timers:
            self.timers.remove(timer)

    def reap(self, _events):
        """Every zombie, also adopted ones: the runner may be process 1 of its namespace."""
        try:
            os.read(self.wake, 4096)
        except OSError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self.children.pop(pid, None)
            if ended is not None:
                ended(status)

    def run_forever(self):
        while True:
            wait = None
            if self.timers:
                left = min(timer[0] for timer in self.timers) - monotonic()
                wait = int(left * 1000) + 1 if left > 0 else 0
            for fd, events in self.poller.poll(wait):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(events)
            if self.timers:
                now = monotonic()
                for timer in [timer for timer in self.timers if timer[0] <= now]:
                    if timer in self.timers:
                        self.timers.remove(timer)
                        timer[1]()


class Stream:
    """A descriptor that is read and written without waiting, with what the other side has not taken yet."""

    def __init__(self, loop, fd, interest=select.POLLIN):
        self.loop = loop
        self.fd = fd
        self.interest = interest
        self.backlog = bytearray()
        os.set_blocking(fd, False)
        loop.watch(fd, self.ready, interest)

    def ready(self, events):
        if events & select.POLLOUT:
            self.push()
        if self.fd is not None and events & READABLE:
            self.pull()

    def read(self, limit=CHUNK):
        """What is there now, or None. Its end closes this."""
        try:
            data = os.read(self.fd, limit)
        except BlockingIOError:
            return None
        except OSError:
            data = b''
        if not data:
            self.close()
        return data or None

    def push(self):
        try:
            while self.backlog:
                del self.backlog[: os.write(self.fd, memoryview(self.backlog)[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            return self.close()
        self.loop.poller.modify(self.fd, self.interest | (select.POLLOUT if self.backlog else 0))

    def release(self):
        """The descriptor, which belongs to the caller from now on."""
        fd, self.fd = self.fd, None
        self.loop.unwatch(fd)
        return fd

    def close(self):
        if self.fd is not None:
            os.close(self.release())
            self.closed()


class Channel(Stream):
    """One that speaks lines, with a bounded backlog."""

    def __init__(self, loop, fd, on_line, on_end):
        self.lines = Lines(LINE_LIMIT)
        self.on_line = on_line
        self.closed = on_end
        Stream.__init__(self, loop, fd, select.POLLIN if on_line is not None else 0)

    def pull(self):
        while self.fd is not None:
            data = self.read()
            if data is None:
                return
            lines = self.lines.feed(data)
            if lines is None:
                return self.close()
            for line in lines:
                if self.fd is not None:
                    self.on_line(line)
            if len(data) < CHUNK:
                return

    def send(self, data):
        if self.fd is None:
            return
        idle = not self.backlog
        self.backlog += data
        if len(self.backlog) > BACKLOG_LIMIT:
            self.close()
        elif idle:
            self.push()


class Client:
    """A connection from an agent. A slow one loses intermediate events, never replies; it delays nobody."""

    def __init__(self, runner, fd):
        self.runner = runner
        self.events = {}  # the newest event of each run that did not fit yet
        self.channel = Channel(runner.loop, fd, self.request, self.gone)
        ready = self.channel.ready
        runner.loop.handlers[fd] = lambda events: (ready(events), self.flush())

    def gone(self):
        self.runner.clients.discard(self)

    def notify(self, run_id, line):
        self.events[run_id] = line
        self.flush()

    def flush(self):
        if self.events and not self.channel.backlog:
            pending = b''.join(self.events.values())
            self.events.clear()
            self.channel.send(pending)

    def request(self, line):
        message = decode(line)
        if not isinstance(message, dict) or not isinstance(message.get('seq'), int):
            return self.channel.close()
        seq = message['seq']

        def reply(result):
            self.channel.send(encode({'re': seq, 'ok': True, **result}) + b'\n')

        try:
            if message.get('op') == 'attach' and not self.runner.warm:
                return self.become_viewer(message, encode({'re': seq, 'ok': True}) + b'\n')
            result = self.runner.handle(message, reply)
        except Exception as error:
            result = None
            code = error.code if isinstance(error, Refusal) else 'internal'
            self.channel.send(encode({'re': seq, 'ok': False, 'code': code, 'message': str(error)}) + b'\n')
        if result is not None:
            reply(result)


    def become_viewer(self, message, reply):
        """The connection carries frames of a terminal from now on."""
        self.channel.push()
        if self.channel.fd is not None:
            waiting = bytes(self.channel.backlog)
            self.runner.terminals().attach(message, self.channel.release, waiting + reply)
            self.gone()


class Refusal(Exception):
    def __init__(self, code, message):
        Exception.__init__(self, message)
        self.code = code


class OutputPipe:
    """The reading end of a program's stdout or stderr.

    After a small read it rests for a millisecond, so that a program that prints many short lines is read in batches;
    whoever needs the present state (the end of a run, a question) drains it first.
    """

    def __init__(self, loop, kind, sink, on_end=None):
        self.loop = loop
        self.kind = kind
        self.sink = sink
        self.on_end = on_end
        self.fd, self.write_end = os.pipe()
        self.resting = None
        os.set_blocking(self.fd, False)
        try:
            import fcntl

            fcntl.fcntl(self.fd, getattr(fcntl, 'F_SETPIPE_SZ', 1031), PIPE_BYTES)
        except (ImportError, OSError):
            pass
        loop.watch(self.fd, self.ready)

    def ready(self, _events):
        size = self.read()
        if 0 < size < CHUNK and self.fd is not None:
            self.loop.unwatch(self.fd)
            self.resting = self.loop.after(0.001, self.resume)

    def resume(self):
        self.resting = None
        if self.fd is not None:
            self.loop.watch(self.fd, self.ready)

    def read(self):
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b''
        if data:
            self.sink(self.kind, data)
        else:
            self.close()
        return len(data)

    def drain(self):
        """What was written before this call, and not what a busy writer adds meanwhile."""
        total = 0
        while self.fd is not None and total <= 2 * PIPE_BYTES:
            size = self.read()
            if size == 0:
                return
            total += size

    def give_away(self):
        """Closes this process's writing end once the program has its own."""
        if self.write_end is not None:
            os.close(self.write_end)
            self.write_end = None

    def close(self):
        self.give_away()
        if self.fd is None:
            return
        if self.resting is not None:
            self.loop.cancel(self.resting)
        self.loop.unwatch(self.fd)
        os.close(self.fd)
        self.fd = None
        if self.on_end is not None:
            self.on_end()


def spawn(argv, cwd, environment, stdin, stdout, stderr, extra=()):
    """A child in a process group of its own. `extra` are (descriptor here, descriptor there) pairs."""
    pid = os.fork()
    if pid:
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass
        return pid
    try:
        prepare_child(cwd)
        from fcntl import F_DUPFD_CLOEXEC, fcntl

        wanted = ((stdin, 0), (stdout, 1), (stderr, 2)) + tuple(extra)
        # First out of the way: a source may have the number of another's destination.
        for here, there in [(fcntl(here, F_DUPFD_CLOEXEC, 100), there) for here, there in wanted]:
            os.dup2(here, there)
        os.execvpe(argv[0], argv, environment)
    except BaseException as error:
        try:
            os.write(2, ('%s: %s\n' % (argv[0], error)).encode('utf-8', 'replace'))
        except OSError:
            pass
    finally:
        os._exit(127)


def prepare_child(cwd):
    os.setpgid(0, 0)
    reset_child(cwd)


def reset_child(cwd):
    signals.set_wakeup_fd(-1)
    for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGCHLD', 'SIGPIPE', 'SIGXFSZ'):
        signals.signal(getattr(signals, name), signals.SIG_DFL)
    try:
        os.chdir(cwd)
    except OSError:
        os.chdir('/')


def exit_of(status):
    """(exit code, signal name or None) of a wait status."""
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status), None
    number = os.WTERMSIG(status)
    for name in dir(signals):
        if name.startswith('SIG') and not name.startswith('SIG_') and getattr(signals, name) == number:
            return 128 + number, name
    return 128 + number, 'SIG%d' % number


def signal_group(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        pass


class Run:
    """One execution and its journal: append-only JSON lines that the agent reads from its own cursor.

    What the disk does not take waits and is tried again, so that no line is torn and no end is lost. Output that comes
    meanwhile is dropped. That the run asks or has ended is told to clients, too, until it stands in the journal.
    """

    def __init__(self, runner, run_id, mode, request):
        self.runner = runner
        self.id = run_id
        self.mode = mode
        self.request = request
        self.state = 'queued'
        self.end = 0
        self.unwritten = bytearray()
        self.retry = None
        self.trouble = None  # the number of the first error of writing
        self.last = None  # the record by which it asks or ends
        self.left = runner.output_limit
        self.truncated = False
        self.cancelled = False
        self.decoders = {}
        self.published = 0.0
        self.timer = None
        self.step = None
        self.input = bytearray()
        self.input_ended = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open('runs/%s.jsonl' % run_id, flags, 0o600)

    def output(self, kind, data):
        """Bytes from a program. Past the limit they vanish, and the program does not notice."""
        if self.truncated:
            return
        fitting = data[: self.left]
        self.left -= len(fitting)
        decoder = self.decoders.get(kind)
        if decoder is None:
            from codecs import getincrementaldecoder

            decoder = self.decoders[kind] = getincrementaldecoder('utf-8')('replace')
        self.text(kind, decoder.decode(fitting))
        if len(fitting) < len(data):
            self.truncate()

    def rich(self, kind, text, mime=None):
        if self.truncated:
            return
        size = len(text)
        if mime is not None and size > MEDIA_LIMIT:
            return self.text('stderr', 'A result of type %s is larger than 8 MiB and is left out.\n' % mime)
        if size > self.left:
            return self.truncate()
        self.left -= size
        if mime is not None:
            self.append('{"t":"media","m":%s,"d":%s}\n' % (quote(mime), quote(text)))
        else:
            self.text(kind, text)

    def text(self, kind, text):
        for start in range(0, len(text), CHUNK):
            self.append('{"t":"%s","d":%s}\n' % (kind, quote(text[start : start + CHUNK])), False)
        self.changed()

    def truncate(self):
        self.truncated = True
        self.decoders.clear()
        self.record({'t': 'truncated', 'limit': self.runner.output_limit})

    def record(self, record):
        self.write(encode(record) + b'\n')
        self.changed()

    def append(self, line, tell=True):
        """Output, which a full disk costs."""
        if not self.unwritten:
            self.write(line.encode())
        if tell:
            self.changed()

    def write(self, data):
        self.unwritten += data
        if self.retry is None:
            self.flush()

    def flush(self):
        try:
            while self.unwritten:
                count = os.write(self.fd, self.unwritten)
                self.end += count
                del self.unwritten[:count]
        except OSError as error:
            if self.trouble is None:
                self.trouble = error.errno
                self.runner.console(('runner: journal of %s: %s\n' % (self.id, error)).encode())
            self.retry = self.runner.loop.after(DISK_RETRY, self.flush_again)

    def flush_again(self):
        self.retry = None
        self.flush()
        if self.unwritten:
            return
        if self.state == 'finished':
            self.close()
        self.publish()

    def close(self):
        if self.retry is not None:
            self.runner.loop.cancel(self.retry)
        os.close(self.fd)

    def ask(self, password):
        self.flush_decoders()
        self.state = 'waiting-input'
        self.last = {'t': 'waiting-input', 'p': password}
        self.record(self.last)
        self.publish()

    def flush_decoders(self):
        for kind, decoder in self.decoders.items():
            rest = decoder.decode(b'', True)
            if rest:
                self.text(kind, rest)
        self.decoders.clear()

    def set_state(self, state):
        if state != self.state:
            self.state = state
            self.publish()

    def changed(self):
        """Tells the clients: at once after a pause, else together with what follows soon."""
        if self.timer is not None:
            return
        gap = self.published + EVENT_GAP - monotonic()
        if gap <= 0:
            self.publish()
        else:
            self.timer = self.runner.loop.after(gap, self.publish)

    def publish(self):
        if self.timer is not None:
            self.runner.loop.cancel(self.timer)
            self.timer = None
        self.published = monotonic()
        line = self.event()
        for client in list(self.runner.clients):
            client.notify(self.id, line)

    def event(self):
        event = {'ev': 'run', 'runId': self.id, 'end': self.end, 'state': self.state}
        if self.unwritten and self.last is not None and self.state in ('waiting-input', 'finished'):
            event['last'] = self.last
        return encode(event) + b'\n'

    def finish(self, code, signal_name=None):
        if self.state == 'finished':
            return
        self.flush_decoders()
        self.state = 'finished'
        self.last = {'t': 'finished', 'x': code}
        if signal_name is not None:
            self.last['s'] = signal_name
        if self.trouble in FULL:
            self.last['full'] = True
        self.write(encode(self.last) + b'\n')
        if not self.unwritten:
            self.close()
        self.publish()
        self.runner.finished(self)


class BatchStep:
    """One command of a batch run."""

    def __init__(self, run, argv, takes_input, shown, limit_ms, on_end):
        runner = run.runner
        self.shown = shown
        self.late = False
        self.run = run
        self.loop = runner.loop
        self.on_end = on_end
        self.status = None
        self.timer = None
        self.pipes = [OutputPipe(self.loop, kind, self.sink, self.settle) for kind in ('stdout', 'stderr')]
        self.stdin = None
        if takes_input:
            reader, writer = os.pipe()
        else:
            reader, writer = os.open('/dev/null', os.O_RDONLY), None
        out, err = self.pipes
        try:
            self.pid = spawn(argv, runner.home, os.environ, reader, out.write_end, err.write_end)
        finally:
            os.close(reader)
            for pipe in self.pipes:
                pipe.give_away()
        if writer is not None:
            self.stdin = writer
            os.set_blocking(writer, False)
            self.feed()
        self.limit = self.loop.after(limit_ms / 1000, self.give_up) if limit_ms else None
        self.loop.children[self.pid] = self.ended

    def give_up(self):
        self.late = True
        self.run.output('stderr', b'runner: The step took longer than it may.\n')
        self.signal(signals.SIGKILL)

    def sink(self, kind, data):
        self.run.runner.console(data)
        if self.shown:
            self.run.output(kind, data)

    def feed(self, _events=0):
        """Passes on what waits for the program's stdin; a program that does not read holds nobody up."""
        if self.stdin is None:
            return
        self.loop.unwatch(self.stdin)
        try:
            while self.run.input:
                count = os.write(self.stdin, memoryview(self.run.input)[:CHUNK])
                del self.run.input[:count]
        except BlockingIOError:
            return self.loop.watch(self.stdin, self.feed, select.POLLOUT)
        except OSError:
            return self.close_stdin()
        if self.run.input_ended:
            self.close_stdin()

    def close_stdin(self):
        if self.stdin is not None:
            self.loop.unwatch(self.stdin)
            os.close(self.stdin)
            self.stdin = None

    def signal(self, number):
        if self.status is None:
            signal_group(self.pid, number)

    def ended(self, status):
        self.status = status
        if self.limit is not None:
            self.loop.cancel(self.limit)
        self.close_stdin()
        for pipe in self.pipes:
            pipe.drain()
        if self.on_end is not None:
            self.timer = self.loop.after(LINGER, self.sweep)
            self.settle()

    def sweep(self):
        """Leftovers still hold the pipes: they lose them, and those of the same group end."""
        self.timer = None
        signal_group(self.pid, signals.SIGKILL)
        for pipe in self.pipes:
            pipe.drain()
        for pipe in self.pipes:
            pipe.close()

    def settle(self):
        if self.status is None or self.on_end is None or any(pipe.fd is not None for pipe in self.pipes):
            return
        if self.timer is not None:
            self.loop.cancel(self.timer)
        on_end, self.on_end = self.on_end, None
        on_end(*((124, None) if self.late else exit_of(self.status)))


class Batch:
    """clean, build, exec: each may be skipped; exec does not follow a failed build."""

    def __init__(self, run, main_command):
        self.run = run
        self.main_command = main_command
        self.steps = ['clean', 'build', 'exec']
        self.next()

    def argv(self, name):
        command = self.run.request.get(name)
        if not command:
            return None
        return self.usual(name) if command == '*' else ['/bin/sh', '-c', command]

    def usual(self, name):
        """What "*" stands for, by what is in the home folder: None when there is nothing to do."""
        has = lambda *names: any(os.path.exists(os.path.join(self.run.runner.home, each)) for each in names)
        if has('Makefile', 'makefile', 'GNUmakefile'):
            usual = {'clean': 'make clean', 'build': 'make'}
        elif has('setup.py', 'pyproject.toml'):
            usual = {'clean': 'rm -rf build *.egg-info', 'build': shell_words(sys.executable, '-m', 'pip', 'install', '-e', '.')}
        elif self.sources('.c', '.cc', '.cpp', '.cxx'):
            compiler = 'c++' if self.sources('.cc', '.cpp', '.cxx') else 'cc'
            sources = shell_words(*self.sources('.c', '.cc', '.cpp', '.cxx'))
            usual = {'clean': 'rm -f ./main', 'build': '%s -O2 -o main %s -lm -lpthread' % (compiler, sources)}
        else:
            usual = {}
        if name == 'exec':
            # A program that the step before made is there only now.
            made = 'for each in main a.out; do if [ -f $each ] && [ -x $each ]; then exec ./$each; fi; done; '
            return ['/bin/sh', '-c', made + 'exec "$@"', 'sh'] + self.main_command
        return ['/bin/sh', '-c', usual[name]] if name in usual else None

    def sources(self, *endings):
        try:
            return sorted('./' + each for each in os.listdir(self.run.runner.home) if each.endswith(endings))
        except OSError:
            return []

    def next(self):
        if not self.steps:
            return self.run.finish(0)
        name = self.steps.pop(0)
        argv = self.argv(name)
        if argv is None:
            return self.next()
        shown = name != 'build' or self.run.request.get('buildLog') is not False
        limit = (self.run.request.get('timeoutsMs') or {}).get(name)
        self.run.step = BatchStep(self.run, argv, name == 'exec', shown, limit, lambda *end: self.ended(name, *end))

    def ended(self, name, code, signal_name):
        run = self.run
        run.step = None
        if name == 'exec':
            return run.finish(code, signal_name)
        run.flush_decoders()
        record = {'t': name + '-finished', 'x': code}
        if signal_name is not None:
            record['s'] = signal_name
        run.record(record)
        if run.cancelled:
            run.finish(code, signal_name)
        elif name == 'build' and code != 0:
            run.finish(127)
        else:
            self.next()


def shell_words(*words):
    return ' '.join("'%s'" % word.replace("'", "'\\''") for word in words)


class Runner:
    def __init__(self, home, output_limit):
        self.home = home
        self.output_limit = output_limit
        self.started_at = int(time() * 1000)
        self.loop = Loop()
        self.clients = set()
        self.runs = {}  # by id, in the order of their arrival
        self.queue = []
        self.current = None
        self.console_fd = None
        self.console_size = 0
        self.session = None
        self.opened_terminals = None
        self.started_programs = None
        self.warm = False  # it belongs to nobody yet

    def terminals(self):
        if self.opened_terminals is None:
            from terminals import Terminals

            self.opened_terminals = Terminals(self)
        return self.opened_terminals

    def programs(self):
        if self.started_programs is None:
            from programs import Programs

            self.started_programs = Programs(self)
        return self.started_programs

    # Files

    def console(self, data):
        """All output of the kernel, in two files of bounded size."""
        try:
            if self.console_fd is not None and self.console_size + len(data) > CONSOLE_BYTES:
                os.close(self.console_fd)
                self.console_fd = None
                os.rename('console.log', 'console.log.1')
            if self.console_fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                self.console_fd = os.open('console.log', flags, 0o600)
                self.console_size = os.fstat(self.console_fd).st_size
            self.console_size += os.write(self.console_fd, data)
        except OSError:
            pass  # the user may have removed or replaced it: a convenience is no reason to fail

    def listen(self):
        """The socket appears under its name only when it accepts, and replaces one left by an earlier runner."""
        mask = os.umask(0o077)
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        name = 'runner.sock.%d' % os.getpid()
        try:
            os.unlink(name)
        except OSError:
            pass
        listener.bind(name)
        listener.listen(16)
        listener.setblocking(False)
        os.rename(name, 'runner.sock')
        os.umask(mask)

        def accept(_events):
            try:
                fd, _address = listener._accept()
            except OSError:
                return
            client = Client(self, fd)
            self.clients.add(client)
            client.channel.send(b''.join(run.event() for run in self.runs.values()))

        self.loop.watch(listener.fileno(), accept)

    def adopt_journals(self):
        """What an earlier runner left: its runs are over, and their journals say so."""
        try:
            names = [name for name in os.listdir('runs') if name.endswith('.jsonl')]
        except OSError:
            return
        for name in names:
            try:
                fd = os.open('runs/' + name, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                size = os.fstat(fd).st_size
                tail = os.pread(fd, 256, max(0, size - 256))
                if b'{"t":"finished"' not in tail.rstrip(b'\n').rpartition(b'\n')[2]:
                    lead = b'' if tail.endswith(b'\n') or not tail else b'\n'
                    os.write(fd, lead + b'{"t":"finished","x":137,"s":"SIGKILL"}\n')
            except OSError:
                pass
            finally:
                os.close(fd)
        for name in sorted(names, key=journal_age)[:-KEPT_RUNS]:
            remove_quietly('runs/' + name)

    # Runs

    def execute(self, message):
        run_id = message.get('runId')
        mode = message.get('mode')
        if not isinstance(run_id, str) or not 0 < len(run_id) <= 128 or not ID_CHARACTERS.issuperset(run_id) or run_id[0] == '.':
            raise Refusal('bad-request', 'The run id is not acceptable.')
        if mode not in ('query', 'batch'):
            raise Refusal('bad-request', 'The mode is query or batch.')
        if not all(isinstance(message.get(name) or '', str) for name in ('code', 'clean', 'build', 'exec')):
            raise Refusal('bad-request', 'Code and commands are texts.')
        limits = message.get('timeoutsMs')
        if limits is not None and not (isinstance(limits, dict) and all(isinstance(each, int) for each in limits.values())):
            raise Refusal('bad-request', 'Time limits are milliseconds.')
        if run_id in self.runs:
            return {'known': True}
        if len(self.queue) >= QUEUED_RUNS:
            raise Refusal('busy', 'Too many executions wait.')
        try:
            run = Run(self, run_id, mode, message)
        except FileExistsError:
            return {'known': True}
        except OSError as error:
            raise Refusal('disk-full' if error.errno in FULL else 'io', 'The journal cannot be written: %s' % error)
        self.runs[run_id] = run
        self.queue.append(run)
        if self.current is None:
            self.start_next()
        else:
            run.publish()
        return {'known': False}

    def start_next(self):
        if self.current is not None or not self.queue:
            return
        run = self.current = self.queue.pop(0)
        run.set_state('running')
        try:
            if run.mode == 'batch':
                Batch(run, self.main_command())
            else:
                self.session.execute(run, run.request.get('code') or '')
        except OSError as error:
            run.output('stderr', ('runner: %s\n' % error).encode())
            run.finish(126)

    def main_command(self):
        return [sys.executable or 'python3', 'main.py']

    def finished(self, run):
        over = [each for each in self.runs.values() if each.state == 'finished']
        for old in over[:-KEPT_RUNS]:
            del self.runs[old.id]
            if old.unwritten:
                old.close()
            remove_quietly('runs/%s.jsonl' % old.id)
        if self.current is run:
            self.current = None
            # Not from here: the caller still works on the run that ended.
            if self.queue:
                self.loop.after(0, self.start_next)

    def find(self, message):
        run = self.runs.get(message.get('runId'))
        if run is None:
            raise Refusal('unknown-run', 'There is no such run.')
        return run

    # Requests

    def handle(self, message, reply):
        op = message.get('op')
        if op != 'ping' and self.warm != (op == 'claim'):
            raise Refusal('not-claimed' if self.warm else 'bad-request', 'This is for a runner that waits for its session.')
        if op == 'claim':
            return self.claim(message)
        if op == 'ping':
            current = self.current.id if self.current is not None else None
            return {
                'language': 'python',
                'version': VERSION,
                'pid': os.getpid(),
                'startedAt': self.started_at,
                'current': current,
            }
        if op == 'execute':
            return self.execute(message)
        if op == 'input':
            return self.input(self.find(message), message)
        if op == 'interrupt' or op == 'kill':
            run = self.find(message) if op == 'kill' or message.get('runId') is not None else self.current
            return {'signalled': self.signal(run, op)}
        if op == 'complete':
            code, cursor = message.get('code'), message.get('cursor')
            if not isinstance(code, str) or not isinstance(cursor, int):
                raise Refusal('bad-request', 'Completion needs code and a cursor.')
            self.session.complete(code[: max(0, cursor)], lambda found: reply({'completions': found[:1000]}))
            return None
        if op == 'start-program':
            return self.programs().start(message)
        if op == 'program':
            return self.programs().state(message)
        if op == 'stop-program':
            return self.programs().stop(message)
        if op == 'definitions':
            return self.programs().definitions(message)
        raise Refusal('unknown-op', 'There is no such operation.')

    def claim(self, message):
        """Once, by the agent: from now on it is that of a session. No code of a user has run before."""
        environ = message.get('environ')
        if not isinstance(environ, dict) or not all(isinstance(each, str) for each in environ.values()):
            raise Refusal('bad-request', 'The environment is a table of texts.')
        # What the container engine added stays: the host name, a path, what devices are seen.
        os.environ.update(environ)
        os.environ['PYTHONUNBUFFERED'] = '1'
        self.warm = False
        self.loop.after(0, self.session.start)
        return {}

    def input(self, run, message):
        text = message.get('text') or ''
        if not isinstance(text, str):
            raise Refusal('bad-request', 'Input is a text.')
        if run.state == 'finished':
            raise Refusal('not-waiting', 'The run has finished.')
        if run.mode == 'query':
            self.session.input(run, text, bool(message.get('eof')))
        else:
            data = text.encode('utf-8', 'replace')
            if len(run.input) + len(data) > BACKLOG_LIMIT:
                raise Refusal('busy', 'The program does not read its input.')
            run.input += data
            run.input_ended = run.input_ended or bool(message.get('eof'))
            if run.step is not None:
                run.step.feed()
        return {}

    def signal(self, run, op):
        if run is None or run.state == 'finished':
            return False
        number = signals.SIGKILL if op == 'kill' else signals.SIGINT
        run.cancelled = True
        if run is not self.current:
            self.queue.remove(run)
            run.finish(*exit_of(number))
        elif run.mode == 'query':
            self.session.interrupt()
        elif run.step is not None:
            run.step.signal(number)
        return True


def journal_age(name):
    try:
        return os.lstat('runs/' + name).st_mtime
    except OSError:
        return 0


def remove_quietly(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def main(arguments):
    options = {'--output-limit': '67108864', '--interpreter': 'auto', '--warm': 'no'}
    options.update(zip(arguments[::2], arguments[1::2]))
    run_dir, home = options['--run-dir'], os.path.abspath(options['--home'])
    try:
        os.setsid()
    except OSError:
        pass  # already the leader of a session
    for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'):
        signals.signal(getattr(signals, name), lambda *_: None)
    os.environ['PYTHONUNBUFFERED'] = '1'
    sys.dont_write_bytecode = True
    os.chdir(run_dir)
    try:
        os.mkdir('runs', 0o700)
    except FileExistsError:
        pass
    runner = Runner(home, int(options['--output-limit']))
    runner.warm = options['--warm'] == 'yes'
    runner.adopt_journals()
    runner.listen()
    # From here on a vanished reader of our own output cannot hurt; failures go to the console.
    null = os.open('/dev/null', os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    from ipython_session import IPythonSession, is_offered
    from python_session import PythonSession

    Session = IPythonSession if options['--interpreter'] == 'auto' and is_offered(sys.path) else PythonSession
    runner.session = Session(runner)
    if not runner.warm:
        runner.session.start()
    while True:
        try:
            runner.loop.run_forever()
        except Exception:
            import traceback

            runner.console(traceback.format_exc().encode('utf-8', 'replace'))

