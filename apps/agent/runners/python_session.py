"""The supervisor's side of interactive Python: a forked interpreter that keeps its state between executions."""

import os
import sys

import _signal as signals
import _socket
from supervisor import CHUNK, HERE, Channel, OutputPipe, Refusal, exit_of, prepare_child, signal_group
from wire import decode, encode


class UserChannel(Channel):
    """The line to the interpreter. What was printed before a message is read before it, and what is printed after it is not."""

    def __init__(self, loop, fd, on_line, read_printed):
        self.read_printed = read_printed
        Channel.__init__(self, loop, fd, on_line, lambda: None)

    def read(self):
        # A message that comes from now on may follow text that comes from now on: it stays for the next time.
        size = unread_bytes(self.fd)
        self.read_printed()
        return Channel.read(self, min(size, CHUNK))


def unread_bytes(fd):
    from fcntl import ioctl

    size = bytearray(4)
    ioctl(fd, 0x541B, size)  # FIONREAD
    # At the end of the stream there is nothing, and reading tells so.
    return int.from_bytes(size, sys.byteorder) or 1


class PythonSession:
    def __init__(self, runner):
        self.runner = runner
        self.loop = runner.loop
        self.run = None
        self.completions = {}
        self.next_completion = 0

    def start(self):
        self.pipes = [OutputPipe(self.loop, kind, self.sink) for kind in ('stdout', 'stderr')]
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.pid = os.fork()
        if self.pid == 0:
            self.become_user(theirs.fileno())
        try:
            os.setpgid(self.pid, self.pid)
        except OSError:
            pass
        theirs.close()
        for pipe in self.pipes:
            pipe.give_away()
        self.channel = UserChannel(self.loop, ours.detach(), self.message, self.drain)
        self.loop.children[self.pid] = self.ended

    def become_user(self, control):
        try:
            prepare_child(self.runner.home)
            out, err = [pipe.write_end for pipe in self.pipes]
            import python_user

            python_user.main(control, out, err, HERE)
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode('utf-8', 'replace'))
        finally:
            os._exit(70)

    def sink(self, kind, data):
        self.runner.console(data)
        if self.run is not None:
            self.run.output(kind, data)

    def started(self, message):
        """For interpreters that take a while, or fail, to start."""

    def drain(self):
        for pipe in self.pipes:
            pipe.drain()

    def execute(self, run, code):
        self.drain()  # what was printed between two runs belongs to neither
        self.run = run
        self.send({'op': 'execute', 'code': code})

    def send(self, message):
        self.channel.send(encode(message) + b'\n')

    def input(self, run, text, ended):
        if run.state != 'waiting-input' or run is not self.run:
            raise Refusal('not-waiting', 'The run does not wait for input.')
        run.set_state('running')
        self.send({'op': 'input', 'text': text, 'eof': ended})

    def interrupt(self):
        signal_group(self.pid, signals.SIGINT)

    def complete(self, code, reply):
        """A busy interpreter cannot answer: it offers nothing rather than making the caller wait."""
        if self.run is not None:
            return reply([])
        self.next_completion += 1
        number = self.next_completion

        def give_up():
            self.completions.pop(number, None)
            self.interrupt()
            reply([])

        from supervisor import COMPLETE_DEADLINE

        self.completions[number] = (reply, self.loop.after(COMPLETE_DEADLINE, give_up))
        self.send({'op': 'complete', 'number': number, 'code': code})

    def message(self, line):
        """The user's code has the same descriptor: nothing here is trusted beyond its form."""
        message = decode(line)
        kind = message.get('k') if isinstance(message, dict) else None
        run = self.run
        if kind in ('ready', 'cannot-start'):
            self.started(message)
        elif kind == 'completions':
            pending = self.completions.pop(message.get('number'), None)
            if pending is not None:
                reply, timer = pending
                self.loop.cancel(timer)
                found = message.get('found')
                reply([each for each in found if isinstance(each, str)] if isinstance(found, list) else [])
        elif run is None:
            return
        elif kind == 'done' and isinstance(message.get('code'), int):
            self.run = None
            run.finish(message['code'])
        elif kind == 'input':
            run.ask(message.get('password') is True)
        elif kind == 'rich' and isinstance(message.get('data'), str):
            mime = message.get('mime')
            if isinstance(mime, str) and message.get('type') == 'media':
                run.rich('media', message['data'], mime)
            elif message.get('type') in ('html', 'svg', 'log'):
                run.rich(message['type'], message['data'])

    def ended(self, status):
        """The interpreter is gone (os._exit, a crash, the OOM killer): its run ends, and a fresh one takes its place."""
        self.channel.pull()  # its last words
        self.drain()
        for pipe in self.pipes:
            pipe.close()
        self.channel.close()
        for reply, timer in self.completions.values():
            self.loop.cancel(timer)
            reply([])
        self.completions.clear()
        run, self.run = self.run, None
        self.start()
        if run is not None:
            run.finish(*exit_of(status))
