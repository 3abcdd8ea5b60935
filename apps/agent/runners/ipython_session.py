"""The supervisor's side of an ipykernel, where the interpreter has one: the built-in interpreter takes over when it cannot start."""

import os

from python_session import PythonSession
from supervisor import HERE, exit_of, prepare_child

CANNOT_START = 71  # exit code of the bridge: nothing has been executed
PATH_BYTES = 100  # of a unix socket; the numbers of the channels come behind


def is_offered(path):
    """Without importing anything: whether ipykernel and what it needs lie on this path of modules."""
    has = lambda name: any(os.path.isdir(os.path.join(folder, name)) for folder in path if folder)
    return has('ipykernel') and has('jupyter_client') and has('zmq')


class IPythonSession(PythonSession):
    def __init__(self, runner):
        PythonSession.__init__(self, runner)
        self.connection_file = os.path.abspath('ipython.json')
        self.ready = False
        self.why = 'it ended'
        self.code = ''

    def start(self):
        self.ready = False
        if len(self.connection_file) > PATH_BYTES:
            return self.take_over('the path of its sockets is too long')
        PythonSession.start(self)

    def become_user(self, control):
        try:
            prepare_child(self.runner.home)
            out, err = [pipe.write_end for pipe in self.pipes]
            import ipython_bridge

            ipython_bridge.main(control, out, err, HERE, self.connection_file)
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode('utf-8', 'replace'))
        finally:
            os._exit(70)

    def execute(self, run, code):
        self.code = code
        PythonSession.execute(self, run, code)

    def complete(self, code, reply):
        if not self.ready:
            return reply([])
        PythonSession.complete(self, code, reply)

    def started(self, message):
        if message.get('k') == 'ready':
            self.ready = True
        elif message.get('k') == 'cannot-start':
            self.why = str(message.get('why'))[:500]

    def ended(self, status):
        if self.ready or exit_of(status)[0] != CANNOT_START:
            return PythonSession.ended(self, status)
        self.channel.pull()
        for pipe in self.pipes:
            pipe.drain()
            pipe.close()
        self.channel.close()
        self.take_over(self.why)

    def take_over(self, why):
        """From now on the built-in interpreter executes, beginning with what waits."""
        runner, run = self.runner, self.run
        notice = 'ipykernel could not start (%s); the built-in interpreter is used.\n' % why
        runner.console(notice.encode('utf-8', 'replace'))
        runner.session = PythonSession(runner)
        runner.session.start()
        if run is not None:
            run.rich('log', notice)
            runner.session.execute(run, self.code)
