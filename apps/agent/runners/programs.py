"""Programs that run beside executions for as long as the kernel does: services. Their output is in the kernel's log."""

import os

import _signal as signals
from supervisor import OutputPipe, Refusal, exit_of, signal_group, spawn

MOST = 64
TAIL_BYTES = 4096
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
FILES = 64
FILE_BYTES = 1 << 16


class Programs:
    def __init__(self, runner):
        self.runner = runner
        self.all = {}

    def start(self, message):
        name, argv, environ = message.get('name'), message.get('argv'), message.get('environ')
        texts = isinstance(argv, list) and argv and all(isinstance(each, str) and '\0' not in each for each in argv)
        if not isinstance(name, str) or not name or not texts or not isinstance(environ, dict):
            raise Refusal('bad-request', 'A program has a name, words and variables.')
        if not all(isinstance(each, str) and '\0' not in each for each in environ.values()):
            raise Refusal('bad-request', 'Variables are texts.')
        present = self.all.get(name)
        if present is not None and present.status is None:
            return {'started': False}
        if present is None and len(self.all) >= MOST:
            raise Refusal('busy', 'Too many programs were started.')
        self.all[name] = Program(self.runner, argv, environ)
        return {'started': True}

    def state(self, message):
        program = self.all.get(message.get('name'))
        if program is None:
            return {'known': False}
        code = None if program.status is None else exit_of(program.status)[0]
        tail = bytes(program.tail).decode('utf-8', 'replace')
        return {'known': True, 'running': program.status is None, 'exitCode': code, 'tail': tail}

    def stop(self, message):
        program = self.all.get(message.get('name'))
        if program is not None:
            program.stop()
        return {}

    def definitions(self, message):
        """The files of a folder of the image, by name and without `.json`."""
        folder, found = message.get('folder'), {}
        if not isinstance(folder, str):
            raise Refusal('bad-request', 'A folder has a name.')
        try:
            names = sorted(each for each in os.listdir(folder) if each.endswith('.json'))
        except OSError:
            names = []
        for name in names[:FILES]:
            try:
                with open(os.path.join(folder, name), 'rb') as file:
                    found[name[:-5]] = file.read(FILE_BYTES).decode('utf-8', 'replace')
            except OSError:
                pass
        return {'files': found}


class Program:
    def __init__(self, runner, argv, environ):
        self.runner = runner
        self.status = None
        self.tail = bytearray()
        pipes = [OutputPipe(runner.loop, kind, self.sink) for kind in ('stdout', 'stderr')]
        null = os.open('/dev/null', os.O_RDONLY)
        out, err = pipes
        try:
            self.pid = spawn(argv, runner.home, dict(os.environ, **environ), null, out.write_end, err.write_end)
        finally:
            os.close(null)
            for pipe in pipes:
                pipe.give_away()
        self.pipes = pipes
        runner.loop.children[self.pid] = self.ended

    def sink(self, _kind, data):
        self.runner.console(data)
        self.tail += data
        del self.tail[:-TAIL_BYTES]

    def ended(self, status):
        for pipe in self.pipes:
            pipe.drain()
        self.status = status

    def stop(self):
        if self.status is None:
            signal_group(self.pid, signals.SIGTERM)
            self.runner.loop.after(GRACE, self.kill)

    def kill(self):
        if self.status is None:
            signal_group(self.pid, signals.SIGKILL)
