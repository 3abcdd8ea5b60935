"""Between the supervisor and an ipykernel: the same line to the supervisor as the built-in interpreter has, ZeroMQ to the other side.

A process of its own, as ZeroMQ brings threads and imports that the supervisor does without. It shares its process group
with the kernel, so that an interrupt reaches that one; here it is ignored. When the kernel ends, this ends the same way.
"""

import os
import re
import sys

import _signal as signals
from ipython_session import CANNOT_START
from python_user import Control, PipeFile

READY = 60.0  # seconds; machines under load take long to import everything
SETTLE_MS = 20  # between two messages of one moment on different sockets
SETTLED = 64  # messages after which a question is asked, though another thread goes on printing
COLORS = re.compile('\x1b\\[[0-9;]*m')


class Bridge:
    def __init__(self, control, connection_file):
        self.control = control
        self.files = {'stdout': PipeFile(1, 'w', closefd=False), 'stderr': PipeFile(2, 'w', closefd=False)}
        self.connection_file = connection_file

    def start(self):
        from json import dumps
        from secrets import token_hex
        from subprocess import DEVNULL, Popen
        from time import monotonic

        from jupyter_client import BlockingKernelClient

        base = self.connection_file[: -len('.json')]
        ports = {'%s_port' % name: number for number, name in enumerate(('shell', 'iopub', 'stdin', 'control', 'hb'), 1)}
        connection = {'transport': 'ipc', 'ip': base, 'key': token_hex(32), 'signature_scheme': 'hmac-sha256', **ports}
        for number in ports.values():
            remove('%s-%d' % (base, number))
        remove(self.connection_file)
        fd = os.open(self.connection_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, dumps(connection).encode())
        os.close(fd)
        argv = [
            # Without frozen modules, which its debugger would warn of.
            *(sys.executable, '-Xfrozen_modules=off', '-m', 'ipykernel_launcher', '-f', self.connection_file),
            # Static analysis takes seconds for a first completion; what is asked for is what the live objects have.
            '--IPCompleter.use_jedi=False',
            # What was executed is kept in memory only: a database of it costs each execution a fifth of its time.
            '--HistoryManager.enabled=False',
            # For clients that take a reply for the end of the output; this one waits until the kernel is idle.
            '--IPythonKernel._execute_sleep=0',
        ]
        # What it greets with goes nowhere; output of programs comes through its own channels.
        self.process = Popen(argv, stdin=DEVNULL, stdout=DEVNULL)
        self.client = BlockingKernelClient()
        self.client.load_connection_file(self.connection_file)
        self.client.start_channels()
        deadline = monotonic() + READY
        while True:
            try:
                return self.client.wait_for_ready(timeout=2)
            except RuntimeError:
                if self.process.poll() is not None:
                    raise RuntimeError('it ended with exit code %d' % self.process.returncode)
                if monotonic() > deadline:
                    self.process.kill()
                    raise

    def serve(self):
        import zmq

        client = self.client
        poller = zmq.Poller()
        channels = ((client.iopub_channel, self.output), (client.shell_channel, self.replied), (client.stdin_channel, self.asked))
        # What a client's own methods answer is a message or a coroutine, depending on its version.
        self.sockets = {zmq.Socket(shadow=channel.socket.underlying): handle for channel, handle in channels}
        for socket in self.sockets:
            poller.register(socket, zmq.POLLIN)
        poller.register(self.control.fd, zmq.POLLIN)
        self.run = None
        self.question = None
        self.completions = {}
        while True:
            ready = dict(poller.poll(500))
            for socket, handle in self.sockets.items():
                if socket in ready:
                    handle(self.receive(socket))
            if self.control.fd in ready:
                self.request(self.control.receive())
                while self.control.ready:
                    self.request(self.control.receive())
            if not ready:
                self.end_with_kernel()

    def receive(self, socket):
        """What is needed of a message of Jupyter's protocol (5.x): session.recv() spends more time on it than all the rest here.

        It also checks the signature, whose key every program of this user can read.
        """
        from json import loads

        parts = socket.recv_multipart()
        header, parent, _metadata, content = parts[parts.index(b'<IDS|MSG>') + 2 :][:4]
        return {'msg_type': loads(header)['msg_type'], 'parent_header': loads(parent), 'content': loads(content)}

    def end_with_kernel(self):
        code = self.process.poll()
        if code is None:
            return
        # What it said last is still in the sockets.
        for socket, handle in self.sockets.items():
            while socket.poll(0):
                handle(self.receive(socket))
        if code < 0:
            signals.signal(-code, signals.SIG_DFL) if -code != signals.SIGKILL else None
            os.kill(os.getpid(), -code)
        os._exit(code if code != CANNOT_START else 1)

    def request(self, message):
        op = message.get('op') if message else None
        if op == 'execute':
            self.code = 0
            self.replies = 2  # the reply, and that it is idle again
            # After an error ipykernel would else leave out what comes in the same moment.
            self.run = self.client.execute(message['code'], allow_stdin=True, stop_on_error=False)
        elif op == 'input':
            text = message.get('text') or ''
            at_end = message.get('eof') and not text
            self.question = None
            # What ipykernel takes for the end of the input.
            self.client.input('\x04' if at_end else text[:-1] if text.endswith('\n') else text)
        elif op == 'complete':
            self.completions[self.client.complete(message['code'])] = message

    def output(self, message):
        if message['parent_header'].get('msg_id') != self.run:
            # Of a thread that outlives its run: it belongs to none.
            return self.write(message['content'].get('name'), message['content'].get('text'))
        kind, content = message['msg_type'], message['content']
        if kind == 'stream':
            self.write(content['name'], content['text'])
            # A question that something follows would count as answered.
            if self.question is not None:
                self.control.send(self.question)
        elif kind in ('execute_result', 'display_data'):
            self.show(content['data'])
        elif kind == 'error':
            self.failed(content)
        elif kind == 'status' and content['execution_state'] == 'idle':
            self.finished()

    def write(self, name, text):
        if name in self.files and isinstance(text, str):
            data = text.encode('utf-8', 'replace')
            while data:
                data = data[self.files[name].write(data) :]

    def show(self, data):
        for mime, kind in (('image/png', 'media'), ('image/svg+xml', 'svg'), ('text/html', 'html'), ('image/jpeg', 'media')):
            if mime in data:
                found = data[mime]
                text = ''.join(found) if isinstance(found, list) else found
                return self.control.show(kind, text.replace('\n', '') if kind == 'media' else text, mime)
        if 'text/plain' in data:
            self.write('stdout', data['text/plain'] + '\n')

    def failed(self, content):
        name, value = content.get('ename'), content.get('evalue') or ''
        if name == 'SystemExit':
            self.code = int(value) & 0xFF if value.lstrip('-').isdigit() else 0 if value in ('', 'None') else 1
            if self.code == 1 and value != '1':
                self.write('stderr', value + '\n')
            return
        self.code = 130 if name == 'KeyboardInterrupt' else 1
        self.write('stderr', COLORS.sub('', '\n'.join(content.get('traceback') or [])) + '\n')

    def replied(self, message):
        parent = message['parent_header'].get('msg_id')
        if parent in self.completions:
            return self.completed(self.completions.pop(parent), message['content'])
        if parent == self.run and message['msg_type'] == 'execute_reply':
            content = message['content']
            if content.get('status') == 'error' and self.code == 0 and content.get('ename') != 'SystemExit':
                self.code = 1
            self.finished()

    def finished(self):
        self.replies -= 1
        if self.replies == 0:
            self.run = self.question = None
            self.control.send({'k': 'done', 'code': self.code})

    def completed(self, request, content):
        """Whole words in place of the one before the cursor, as the built-in interpreter offers them."""
        code = request['code']
        start = len(code)
        while start > 0 and (code[start - 1].isalnum() or code[start - 1] in '_.'):
            start -= 1
        lead = code[start : content.get('cursor_start', start)]
        found = [lead + each for each in content.get('matches', []) if not each.startswith('%')]
        self.control.send({'k': 'completions', 'number': request['number'], 'found': found[:1000]})

    def asked(self, message):
        content = message['content']
        # What was printed before travels on another socket, and comes a little later.
        printed = next(socket for socket, handle in self.sockets.items() if handle == self.output)
        for _ in range(SETTLED):
            if not printed.poll(SETTLE_MS):
                break
            self.output(self.receive(printed))
        self.write('stdout', content.get('prompt') or '')
        self.question = {'k': 'input', 'password': content.get('password') is True}
        self.control.send(self.question)


def remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def main(control, out, err, runner_directory, connection_file):
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
        signals.signal(getattr(signals, name), lambda *_: None)
    control = fcntl(control, F_DUPFD_CLOEXEC, 200)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 200)
    os.set_blocking(control, True)
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or '.') != runner_directory]
    bridge = Bridge(Control(control), connection_file)
    try:
        bridge.start()
    except BaseException as error:
        bridge.control.send({'k': 'cannot-start', 'why': '%s: %s' % (type(error).__name__, error)})
        os._exit(CANNOT_START)
    bridge.control.send({'k': 'ready'})
    bridge.serve()
