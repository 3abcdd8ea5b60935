"""The interpreter that runs the user's interactive Python: like a notebook cell, on the main thread, nothing beside it."""

import builtins
import io
import os
import sys

import _signal as signals
from wire import Lines, decode, encode

SPARE_DESCRIPTORS = 900  # ours live up here, away from what programs use
TOP_LEVEL_AWAIT = 0x2000
ONLY_AST = 0x400
COROUTINE = 0x80
UNREAD_OF_PIPE = 0x541B  # FIONREAD
UNREAD_OF_SOCKET = 0x5411  # SIOCOUTQ


class Control:
    """The line to the supervisor."""

    def __init__(self, fd):
        self.fd = fd
        self.lines = Lines(64 << 20)
        self.ready = []

    def send(self, message):
        data = encode(message) + b'\n'
        while data:
            data = data[os.write(self.fd, data) :]

    def receive(self):
        while not self.ready:
            data = os.read(self.fd, 1 << 20)
            if not data:
                os._exit(0)
            self.ready = self.lines.feed(data) or []
        return decode(self.ready.pop(0))

    def show(self, kind, data, mime=None):
        """A picture or page. What is printed next travels another way, and must not overtake it."""
        self.send({'k': 'rich', 'type': kind, 'data': data, 'mime': mime})
        # Nobody else keeps this line busy, as a program in the background does stdout.
        wait_until_read(self.fd, UNREAD_OF_SOCKET, 1)


class PipeFile(io.FileIO):
    """stdout or stderr. Before it speaks after the other one, it lets the supervisor read what the other one said."""

    last = None

    def write(self, data):
        if PipeFile.last is not self:
            other, PipeFile.last = PipeFile.last, self
            if other is not None:
                wait_until_read(other.fileno(), UNREAD_OF_PIPE)
        return io.FileIO.write(self, data)


def wait_until_read(fd, unread_request, seconds=0.05):
    """Bounded: order is worth some time, not a hang."""
    from fcntl import ioctl
    from time import monotonic

    deadline = monotonic() + seconds
    unread = bytearray(4)
    try:
        while monotonic() < deadline:
            ioctl(fd, unread_request, unread)
            if not any(unread):
                return
            os.sched_yield()
    except (OSError, ValueError, AttributeError):
        pass


class Input(io.TextIOBase):
    """sys.stdin: each line is a question to whoever follows the run."""

    def __init__(self, user):
        self.user = user
        self.held = ''

    encoding = 'utf-8'
    errors = 'replace'

    def readable(self):
        return True

    def readline(self, size=-1):
        if not self.held:
            answer = self.user.ask(False)
            self.held = '' if answer is None else answer + '\n'
        end = len(self.held) if size is None or size < 0 else size
        line, self.held = self.held[:end], self.held[end:]
        return line

    def read(self, size=-1):
        if size is not None and size >= 0:
            return self.readline(size)
        return ''.join(iter(self.readline, ''))


class User:
    def __init__(self, control, out, err):
        self.control = control
        self.spare = {1: out, 2: err}
        self.identity = {fd: identity(spare) for fd, spare in self.spare.items()}
        self.files = {}
        self.sources = {}
        self.count = 0
        self.future = 0
        self.event_loop = None
        self.running = False
        module = type(sys)('__main__')
        module.__builtins__ = builtins
        sys.modules['__main__'] = module
        self.namespace = module.__dict__

    # The environment of user code

    def prepare(self):
        sys.argv = ['']
        sys.dont_write_bytecode = False
        builtins.input = self.input
        builtins.display = self.display
        sys.displayhook = self.displayhook
        os.environ.setdefault('MPLBACKEND', 'Agg')
        sys.meta_path.insert(0, PyplotFinder)
        for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):
            signals.signal(getattr(signals, name), ignore)
        self.repair()

    def repair(self):
        """User code may have closed or replaced its output; the next execution finds it whole."""
        for fd, spare in self.spare.items():
            if identity(fd) != self.identity[fd]:
                os.dup2(spare, fd)
        for fd, name in ((1, 'stdout'), (2, 'stderr')):
            file = getattr(sys, name, None)
            if file is None or getattr(file, 'closed', True) or file is getattr(sys, '__%s__' % name):
                ours = self.files.get(fd)
                if ours is None or ours.closed:
                    raw = PipeFile(fd, 'w', closefd=False)
                    buffer = io.BufferedWriter(raw, 65536)
                    ours = io.TextIOWrapper(buffer, 'utf-8', 'backslashreplace', line_buffering=True)
                    ours.mode = 'w'
                    self.files[fd] = ours
                setattr(sys, name, ours)
        sys.__stdout__, sys.__stderr__ = self.files[1], self.files[2]
        if not isinstance(sys.stdin, Input) or sys.stdin.closed:
            sys.stdin = sys.__stdin__ = Input(self)
        sys.stdin.held = ''
        getpass = sys.modules.get('getpass')
        if getpass is not None:
            getpass.getpass = self.getpass

    def flush(self):
        for file in (sys.stdout, sys.stderr, self.files[1], self.files[2]):
            try:
                file.flush()
            except (OSError, ValueError, AttributeError):
                pass

    # Questions

    def ask(self, password):
        if os.getpid() != self.pid:
            return None  # a forked worker has nobody to ask
        self.flush()
        self.control.send({'k': 'input', 'password': password})
        while True:
            message = self.control.receive()
            if message and message.get('op') == 'input':
                if message.get('eof') and not message.get('text'):
                    return None
                text = message.get('text') or ''
                return text[:-1] if text.endswith('\n') else text

    def input(self, prompt='', /):
        sys.stdout.write(str(prompt))
        if not isinstance(sys.stdin, Input):
            line = sys.stdin.readline()
            if not line:
                raise EOFError('EOF when reading a line')
            return line[:-1] if line.endswith('\n') else line
        return self.answer(False)

    def getpass(self, prompt='Password: ', stream=None, **_options):
        (stream or sys.stdout).write(str(prompt))
        return self.answer(True)

    def answer(self, password):
        text = self.ask(password)
        if text is None:
            raise EOFError('EOF when reading a line')
        return text

    # Results

    def displayhook(self, value):
        if value is not None:
            builtins._ = value
            self.display(value)

    def display(self, *values):
        for value in values:
            if not self.show_rich(value):
                print(repr(value))

    def show_rich(self, value):
        if isinstance(value, type):
            return False
        for method, kind, mime in (
            ('_repr_png_', 'media', 'image/png'),
            ('_repr_svg_', 'svg', None),
            ('_repr_html_', 'html', None),
        ):
            # An attribute that a __getattr__ makes up for every name is not a representation.
            if not hasattr(type(value), method):
                continue
            try:
                data = getattr(value, method)()
            except Exception:
                continue
            if isinstance(data, (bytes, bytearray)):
                from base64 import b64encode

                data = b64encode(data).decode()
            if isinstance(data, str) and data:
                self.flush()
                self.control.show(kind, data, mime)
                return True
        return False

    def show_figures(self):
        pyplot = sys.modules.get('matplotlib.pyplot')
        if pyplot is None or not hasattr(pyplot, 'get_fignums'):
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            picture = io.BytesIO()
            figure.savefig(picture, format='png', bbox_inches='tight')
            pyplot.close(figure)
            from base64 import b64encode

            self.flush()
            self.control.show('media', b64encode(picture.getvalue()).decode(), 'image/png')

    # Execution

    def execute(self, code):
        self.repair()
        self.count += 1
        name = '<input-%d>' % self.count
        self.sources[name] = code
        self.share_sources()
        exit_code = 0
        try:
            try:
                signals.signal(signals.SIGINT, interrupt)
                self.run(code, name)
                self.show_figures()
            finally:
                signals.signal(signals.SIGINT, ignore)
        except SystemExit as error:
            exit_code = self.exit_code(error.code)
        except BaseException as error:
            exit_code = 130 if isinstance(error, KeyboardInterrupt) else 1
            self.print_error(error, name)
        self.flush()
        return exit_code

    def run(self, code, name):
        import _ast

        flags = self.future | TOP_LEVEL_AWAIT
        tree = compile(code, name, 'exec', ONLY_AST | flags, True)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, _ast.Expr):
            tree.body.pop()
        if tree.body:
            block = compile(tree, name, 'exec', flags, True)
            if '__future__' in code:
                import __future__

                for feature in __future__.all_feature_names:
                    self.future |= block.co_flags & getattr(__future__, feature).compiler_flag
                flags |= self.future
            self.evaluate(block)
        if isinstance(last, _ast.Expr):
            value = self.evaluate(compile(_ast.Expression(last.value), name, 'eval', flags, True))
            sys.displayhook(value)

    def evaluate(self, code):
        if not code.co_flags & COROUTINE:
            return eval(code, self.namespace)
        import asyncio

        if self.event_loop is None or self.event_loop.is_closed():
            self.event_loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.event_loop)
        task = self.event_loop.create_task(eval(code, self.namespace))
        try:
            return self.event_loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            raise

    def exit_code(self, code):
        if code is None:
            return 0
        if isinstance(code, int):
            return code & 0xFF
        try:
            print(code, file=sys.stderr)
        except Exception:
            pass
        return 1

    def share_sources(self):
        linecache = sys.modules.get('linecache')
        if linecache is not None:
            for name, source in self.sources.items():
                linecache.cache[name] = (len(source), None, source.splitlines(True), name)

    def print_error(self, error, name):
        """A traceback that begins in the user's code."""
        try:
            import linecache
            import traceback

            self.share_sources()
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename not in self.sources:
                trace = trace.tb_next
            text = ''.join(traceback.format_exception(type(error), error, trace))
            text = text.replace('File "%s"' % name, 'File "<input>"')
        except BaseException as second:
            text = '%s (its traceback cannot be shown: %s)\n' % (type(error).__name__, type(second).__name__)
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except Exception:
            try:
                os.write(self.spare[2], text.encode('utf-8', 'backslashreplace'))
            except OSError:
                pass

    # Completion

    def complete(self, code):
        start = len(code)
        while start > 0 and (code[start - 1].isalnum() or code[start - 1] in '_.'):
            start -= 1
        word = code[start:]
        path, dot, prefix = word.rpartition('.')
        try:
            signals.signal(signals.SIGINT, interrupt)
            if not dot:
                from keyword import kwlist

                names = set(self.namespace) | set(dir(builtins)) | set(kwlist)
            else:
                first, *rest = path.split('.')
                value = self.namespace[first] if first in self.namespace else getattr(builtins, first)
                for part in rest:
                    value = getattr(value, part)
                names = set(dir(value))
            hidden = not prefix.startswith('_')
            names = [each for each in names if isinstance(each, str) and each.startswith(prefix)]
            names = sorted(each for each in names if not (hidden and each.startswith('_')))
            return [path + dot + each for each in names[:1000]]
        except BaseException:
            return []
        finally:
            signals.signal(signals.SIGINT, ignore)

    def serve(self):
        self.pid = os.getpid()
        while True:
            message = self.control.receive()
            op = message.get('op') if message else None
            if op == 'execute':
                code = self.execute(message['code'])
                if os.getpid() != self.pid:
                    os._exit(code)  # a forked worker that ran past the end of its cell
                self.control.send({'k': 'done', 'code': code})
            elif op == 'complete':
                found = self.complete(message['code'])
                self.control.send({'k': 'completions', 'number': message['number'], 'found': found})


class PyplotFinder:
    """Once user code imports pyplot: show() leaves the figures for the end of the run, as a notebook does."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == 'getpass':
            hook = lambda module: setattr(module, 'getpass', cls.user.getpass)
        elif name == 'matplotlib.pyplot':
            hook = lambda module: setattr(module, 'show', lambda *_arguments, **_options: cls.user.show_figures())
        else:
            return None
        for finder in sys.meta_path:
            spec = None if finder is cls or not hasattr(finder, 'find_spec') else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                load = spec.loader.exec_module

                def exec_module(module):
                    load(module)
                    hook(module)

                spec.loader.exec_module = exec_module
                return spec
        return None


def identity(fd):
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    except OSError:
        return None


def ignore(_signal, _frame):
    """Not SIG_IGN, which programs started from here would inherit."""


def interrupt(_signal, frame):
    """KeyboardInterrupt, but never in the middle of a write: half a message or the same text twice would come of it."""
    if frame is not None and frame.f_code in UNDIVIDED:
        os.kill(os.getpid(), signals.SIGINT)
    else:
        raise KeyboardInterrupt


UNDIVIDED = (Control.send.__code__, PipeFile.write.__code__, wait_until_read.__code__)


def main(control, out, err, runner_directory):
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    try:
        import resource

        high = min(SPARE_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 8)
    except (ImportError, OSError, ValueError):
        high = 200
    control, out, err = [fcntl(fd, F_DUPFD_CLOEXEC, high) for fd in (control, out, err)]
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, control)
    os.closerange(err + 1, err + 64)
    os.set_blocking(control, True)
    sys.path[:] = [''] + [each for each in sys.path if os.path.abspath(each or '.') != runner_directory]
    user = PyplotFinder.user = User(Control(control), out, err)
    user.prepare()
    user.serve()
