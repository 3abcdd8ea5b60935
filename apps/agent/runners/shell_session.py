"""The supervisor's side of an interactive shell: one shell process that keeps directory, variables and functions.

The shell is interactive (`-i`), because only then does SIGINT abandon the present command and not the shell. It reads
short lines from a pipe, two for each run: `eval CODE`, and a report of its status, which is read even when the first was
interrupted. Programs get a FIFO as stdin, new for each run, so that one run cannot eat the input of the next.
"""

import os

import _signal as signals
from supervisor import Channel, OutputPipe, exit_of, signal_group, spawn

READ_WRAPPER = """
read() {
  __s=''; case " $* " in *' -s '* | *' -rs '* | *' -sr '* | *' -sp '* | *' -rsp '*) __s=s ;; esac
  if [ /dev/fd/0 -ef FIFO ]; then case " $* " in
    *' -t '*) ;; *' -p '*) while [ "$1" != -p ]; do
      __o="${__o-} $1"; shift; done; printf %s "$2"; shift 2; set -- ${__o-} "$@"; unset __o ;;
  esac; printf 'input %s\\n' "$__s" >&REPORT; fi
  unset __s; BUILTIN read "$@"
}
"""


class ShellSession:
    def __init__(self, runner):
        self.runner = runner
        self.loop = runner.loop
        self.run = None
        self.count = 0
        self.stdin = None
        self.input_buffer = bytearray()
        self.ended_input = False
        self.fifo = os.path.abspath('stdin.fifo')
        self.shell = find_shell()
        self.bash = self.shell.endswith('bash')
        # Descriptors of ours in the shell. Only bash knows numbers above 9.
        self.report, self.out, self.err = (250, 251, 252) if self.bash else (9, 8, 7)

    def start(self):
        self.pipes = [OutputPipe(self.loop, kind, self.sink) for kind in ('stdout', 'stderr')]
        out, err = self.pipes
        commands_reader, commands = os.pipe()
        reports, reports_writer = os.pipe()
        null = os.open('/dev/null', os.O_WRONLY)
        environment = dict(os.environ, PS1='', PS2='')
        environment.pop('ENV', None)
        argv = [self.shell, '--noprofile', '--norc', '--noediting', '-i'] if self.bash else [self.shell, '-i']
        extra = ((reports_writer, self.report), (out.write_end, self.out), (err.write_end, self.err))
        # Its first stderr goes nowhere: it complains that there is no terminal.
        self.pid = spawn(argv, self.runner.home, environment, commands_reader, out.write_end, null, extra)
        for fd in (commands_reader, reports_writer, null):
            os.close(fd)
        for pipe in self.pipes:
            pipe.give_away()
        self.commands = Channel(self.loop, commands, None, lambda: None)
        self.reports = Channel(self.loop, reports, self.message, lambda: None)
        self.loop.children[self.pid] = self.ended
        wrapper = READ_WRAPPER.replace('FIFO', quoted(self.fifo)).replace('REPORT', str(self.report))
        if self.bash:
            # An interactive shell announces its end.
            lines = ['export -n PS1 PS2; unset HISTFILE; history -c; set +o history +H', 'exit() { builtin exit "$@" 2>/dev/null; }']
        else:
            lines = ['PS1=; PS2=']
        lines.append('eval ' + quoted(wrapper.replace('BUILTIN', 'builtin' if self.bash else 'command')))
        self.command('; '.join(lines))

    def command(self, line):
        self.commands.send(line.encode('utf-8', 'surrogateescape') + b'\n')

    def sink(self, kind, data):
        self.runner.console(data)
        if self.run is not None:
            self.run.output(kind, data)

    def drain(self):
        for pipe in self.pipes:
            pipe.drain()

    def execute(self, run, code):
        self.drain()
        self.run = run
        self.count += 1
        self.open_stdin()
        code = code.replace('\0', '')
        self.command('exec 1>&%d 2>&%d' % (self.out, self.err))
        # In other shells than bash a syntax error in a plain `eval` throws away the lines that follow.
        evaluate = 'eval' if self.bash else 'command eval'
        values = (evaluate, quoted(' ' + code + '\n'), quoted(self.fifo), self.out, self.err)
        self.command('%s %s <%s %d>&- %d>&-' % values)
        self.report_status()

    def report_status(self):
        self.command('printf "done %d %%s\\n" "$?" >&%d' % (self.count, self.report))

    def open_stdin(self):
        self.close_stdin()
        self.input_buffer.clear()
        self.ended_input = False
        try:
            os.unlink(self.fifo)
        except OSError:
            pass
        os.mkfifo(self.fifo, 0o600)
        self.stdin = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)

    def feed(self, _events=0):
        from select import POLLOUT

        if self.stdin is None:
            return
        self.loop.unwatch(self.stdin)
        try:
            while self.input_buffer:
                count = os.write(self.stdin, memoryview(self.input_buffer)[:4096])
                del self.input_buffer[:count]
        except BlockingIOError:
            return self.loop.watch(self.stdin, self.feed, POLLOUT)
        except OSError:
            return self.close_stdin()
        if self.ended_input:
            self.close_stdin()

    def close_stdin(self):
        if self.stdin is not None:
            self.loop.unwatch(self.stdin)
            os.close(self.stdin)
            self.stdin = None

    def input(self, run, text, ended):
        """Programs do not tell that they read: input is welcome at any time of the run."""
        if run is not self.run:
            from supervisor import Refusal

            raise Refusal('not-waiting', 'The run has not started.')
        self.input_buffer += text.encode('utf-8', 'replace')
        self.ended_input = self.ended_input or ended
        self.feed()
        run.set_state('running')

    def interrupt(self):
        signal_group(self.pid, signals.SIGINT)
        if self.run is not None:
            # The signal may have hit the report itself.
            self.command('printf "done %d 130\\n" >&%d' % (self.count, self.report))

    def message(self, line):
        words = line.decode('utf-8', 'replace').split()
        run = self.run
        if run is None or not words:
            return
        if words[0] == 'input':
            self.drain()
            run.flush_decoders()
            run.state = 'waiting-input'
            run.record({'t': 'waiting-input', 'p': words[1:] == ['s']})
            run.publish()
        elif words[0] == 'done' and len(words) == 3 and words[1] == str(self.count) and words[2].isdigit():
            self.finish(int(words[2]), None)

    def finish(self, code, signal_name):
        self.drain()
        self.close_stdin()
        run, self.run = self.run, None
        run.finish(code, signal_name)

    def ended(self, status):
        """`exit`, `exec` or a crash: its run ends with that status, and a fresh shell takes its place."""
        self.reports.pull()
        self.drain()
        for pipe in self.pipes:
            pipe.close()
        self.commands.close()
        self.reports.close()
        self.start()
        if self.run is not None:
            self.finish(*exit_of(status))

    def complete(self, code, reply):
        """Commands for the first word, files for the others, seen from the shell's directory."""
        line = code.rpartition('\n')[2]
        for separator in ('&&', '||', ';', '|', '(', '`'):
            line = line.rpartition(separator)[2]
        line = line.lstrip()
        word = line.rpartition(' ')[2]
        first = ' ' not in line
        try:
            cwd = os.readlink('/proc/%d/cwd' % self.pid)
        except OSError:
            cwd = self.runner.home
        found = set()
        if first and '/' not in word:
            for folder in os.environ.get('PATH', '').split(':'):
                try:
                    names = os.listdir(folder or '.')
                except OSError:
                    continue
                found.update(
                    each for each in names if each.startswith(word) and os.access(os.path.join(folder, each), os.X_OK)
                )
            found.update(each for each in BUILTINS if each.startswith(word))
        folder, slash, prefix = word.rpartition('/')
        try:
            for each in os.listdir(os.path.join(cwd, folder + slash)):
                if each.startswith(prefix) and (prefix.startswith('.') or not each.startswith('.')):
                    is_folder = os.path.isdir(os.path.join(cwd, folder + slash, each))
                    found.add(folder + slash + each + ('/' if is_folder else ''))
        except OSError:
            pass
        reply(sorted(found))


BUILTINS = 'alias break case cd command continue do done echo elif else esac eval exec exit export false fi for'.split()
BUILTINS += 'function if in local printf pwd read return set shift source test then times trap true type'.split()
BUILTINS += 'ulimit umask unalias unset until wait while'.split()


def find_shell():
    for folder in os.environ.get('PATH', '').split(':') + ['/bin', '/usr/bin']:
        if folder and os.access(os.path.join(folder, 'bash'), os.X_OK):
            return os.path.join(folder, 'bash')
    return '/bin/sh'


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"
