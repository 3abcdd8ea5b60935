'use strict';
/**
 * The supervisor's side of an interactive shell, which keeps its state between executions: bash, dash, or the ash of
 * BusyBox.
 *
 * The shell is interactive (`-i`), because only then does SIGINT abandon the present command and not the shell. It reads
 * short lines, two for each run: `eval CODE`, and a report of its status, which is read even when the first was
 * interrupted. Programs get a FIFO as stdin, new for each run, so that one run cannot eat the input of the next.
 */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { attempt, exitOf, isExecutable, lineReader, makeFifos, signalGroup } = require('./processes.cjs');
const { InputPipe, OutputPipe } = require('./processes.cjs');
const { Refusal } = require('./refusal.cjs');
const { findShell, isBash, quoted } = require('./shells.cjs');

const reportLimit = 4096;
const backlogLimit = 64 << 20;
/** Made with one program, which costs more than a run. */
const fifosAtOnce = 16;
const stuckCheckMs = 100;

/** `read` tells that it waits, and whether for a secret. */
const readWrapper = `
read() {
  __s=''; case " $* " in *' -s '* | *' -rs '* | *' -sr '* | *' -sp '* | *' -rsp '*) __s=s ;; esac
  if [ /dev/fd/0 -ef FIFO ]; then case " $* " in
    *' -t '*) ;; *' -p '*) while [ "$1" != -p ]; do
      __o="\${__o-} $1"; shift; done; printf %s "$2"; shift 2; set -- \${__o-} "$@"; unset __o ;;
  esac; printf 'input %s\\n' "$__s" >&REPORT; fi
  unset __s; BUILTIN read "$@"
}
`;

class ShellSession {
  constructor(runner) {
    this.runner = runner;
    this.run = undefined;
    this.count = 0;
    this.fifo = path.resolve('stdin.fifo');
    this.fifos = [];
    this.shell = findShell(runner.shell);
    this.bash = isBash(this.shell);
    // Descriptors of ours in the shell. Only bash knows numbers above 9.
    [this.report, this.out, this.err] = this.bash ? [250, 251, 252] : [9, 8, 7];
  }

  /** What a batch run executes that does not say what. */
  get mainCommand() {
    return ['/bin/sh', '-c', 'if [ -x main.sh ]; then exec ./main.sh; else exec "$0" main.sh; fi', this.shell];
  }

  start() {
    this.pipes = ['stdout', 'stderr'].map((kind) => new OutputPipe(kind, (...output) => this.sink(...output)));
    const names = makeFifos(2);
    if (names) for (const [index, pipe] of this.pipes.entries()) pipe.openFifo(names[index]);
    // Its own stderr goes nowhere: it complains that there is no terminal.
    const stdio = Array(Math.max(this.report, this.err) + 1).fill('ignore');
    stdio[0] = 'pipe';
    stdio[this.report] = 'pipe';
    [stdio[this.out], stdio[this.err]] = this.pipes.map((pipe) => pipe.writeEnd);
    const { ENV: _, ...environment } = process.env;
    const child = spawn(this.shell, this.bash ? ['--noprofile', '--norc', '--noediting', '-i'] : ['-i'], {
      cwd: fs.existsSync(this.runner.home) ? this.runner.home : '/',
      detached: true,
      env: { ...environment, PS1: '', PS2: '' },
      stdio,
    });
    this.pipes[0].started(child.stdio[this.out]);
    this.pipes[1].started(child.stdio[this.err]);
    this.child = child;
    const feed = lineReader(reportLimit, (line) => this.message(child, line));
    child.stdio[this.report].on('data', (chunk) => {
      if (!feed(chunk)) signalGroup(child.pid, 'SIGKILL');
    });
    for (const stream of [child.stdin, child.stdio[this.report]]) stream.on('error', () => {});
    child.on('error', (error) => this.runner.console(Buffer.from(`runner: ${error.message}\n`)));
    child.on('exit', (code, signal) => this.ended(child, code, signal));
    this.prepare();
  }

  prepare() {
    const wrapper = readWrapper
      .replace('FIFO', quoted(this.fifo))
      .replace('REPORT', this.report)
      .replace('BUILTIN', this.bash ? 'builtin' : 'command');
    const own = this.bash
      ? // An interactive shell announces its end.
        'export -n PS1 PS2; unset HISTFILE; history -c; set +o history +H; exit() { builtin exit "$@" 2>/dev/null; }'
      : 'PS1=; PS2=';
    this.command(`${own}; eval ${quoted(wrapper)}`);
  }

  command(line) {
    this.child.stdin.write(`${line}\n`);
  }

  sink(kind, data) {
    this.runner.console(data);
    this.run?.output(kind, data);
  }

  drain() {
    for (const pipe of this.pipes) pipe.drain();
  }

  execute(run, code) {
    this.drain();
    this.run = run;
    this.count += 1;
    const stdin = this.openStdin() ? quoted(this.fifo) : '/dev/null';
    this.command(`exec 1>&${this.out} 2>&${this.err}`);
    // In other shells than bash a syntax error in a plain `eval` throws away the lines that follow.
    const evaluate = `${this.bash ? '' : 'command '}eval ${quoted(` ${code.replaceAll('\0', '')}\n`)}`;
    const opened = `printf 'open ${this.count}\\n' >&${this.report}`;
    this.command(`{ ${opened}; ${evaluate} ${this.out}>&- ${this.err}>&-; } <${stdin}`);
    this.command(`printf 'done ${this.count} %s\\n' "$?" >&${this.report}`);
  }

  /** False where there are no FIFOs. */
  openStdin() {
    this.stdin?.close();
    this.stdin = undefined;
    if (this.fifos.length === 0) this.fifos = makeFifos(fifosAtOnce) ?? [];
    const name = this.fifos.pop();
    if (name === undefined) return false;
    fs.renameSync(name, this.fifo);
    this.stdin = InputPipe.ofFifo(this.fifo, false);
    return true;
  }

  /** Programs do not tell that they read: input is welcome at any time of the run. */
  input(run, text, eof) {
    const { stdin } = this;
    if (run !== this.run) throw new Refusal('not-waiting', 'The run has not started.');
    if (!stdin || stdin.isClosed) throw new Refusal('not-waiting', 'The run has no input, or its end was told.');
    if (stdin.backlog + text.length > backlogLimit) {
      throw new Refusal('busy', 'The program does not read its input.');
    }
    stdin.write(text, eof);
    run.setState('running');
  }

  interrupt() {
    signalGroup(this.child.pid, 'SIGINT');
    if (!this.run) return;
    // The signal may have hit the report itself.
    this.command(`printf 'done ${this.count} 130\\nsettled\\n' >&${this.report}`);
    clearInterval(this.stuckCheck);
    this.stuckCheck = setInterval(() => this.replaceIfStuck(), stuckCheckMs);
  }

  /**
   * BusyBox jumps out of whatever the signal interrupts. From glibc's `fflush` it takes the lock along, for which it then
   * waits without end: another shell takes its place.
   */
  replaceIfStuck() {
    const { child } = this;
    const waitsIn = attempt(() => fs.readFileSync(`/proc/${child.pid}/wchan`, 'utf8'));
    // A shell has one thread, and nobody to wait for. What the user's code put in its place may.
    const isShell = attempt(() => fs.readlinkSync(`/proc/${child.pid}/exe`) === fs.realpathSync(this.shell));
    if (!isShell || !waitsIn?.startsWith('futex')) return;
    this.run?.output('stderr', Buffer.from('runner: The interrupted shell hung and is replaced: its state is lost.\n'));
    this.stuck = child;
    child.kill('SIGKILL');
  }

  /** The user's code has the same descriptor: nothing here is trusted beyond its form. */
  message(child, line) {
    const { run } = this;
    if (child !== this.child) return;
    const [kind, first, second = ''] = line.split(' ');
    if (kind === 'settled') {
      clearInterval(this.stuckCheck);
    } else if (!run) {
      return;
    } else if (kind === 'input') {
      this.drain();
      run.ask(first === 's');
    } else if (Number(first) !== this.count) {
      return;
    } else if (kind === 'open') {
      this.stdin?.opened();
    } else if (kind === 'done' && /^\d{1,3}$/.test(second)) {
      this.finish(Number(second));
    }
  }

  finish(code, signal) {
    this.drain();
    this.stdin?.close();
    const { run } = this;
    this.run = undefined;
    run.finish(code, signal);
  }

  /** `exit`, `exec` or a crash: its run ends with that status, and a fresh shell takes its place. */
  ended(child, code, signal) {
    clearInterval(this.stuckCheck);
    this.drain();
    for (const pipe of this.pipes) pipe.close();
    child.stdio[this.report].destroy();
    this.start();
    if (this.run) this.finish(...(this.stuck === child ? [130] : exitOf(code, signal)));
  }

  /** Commands for the first word, files for the others, seen from the shell's directory. */
  complete(code, reply) {
    const [command] = code.split(/\n|&&|\|\||[;|(`]/).slice(-1);
    const words = command.trimStart().split(' ');
    const word = words.at(-1);
    const found = new Set();
    if (words.length === 1 && !word.includes('/')) {
      for (const folder of (process.env.PATH ?? '').split(':')) {
        const names = attempt(() => fs.readdirSync(folder || '.')) ?? [];
        for (const name of names) {
          if (name.startsWith(word) && isExecutable(path.join(folder, name))) found.add(name);
        }
      }
      for (const name of builtins) if (name.startsWith(word)) found.add(name);
    }
    const cwd = attempt(() => fs.readlinkSync(`/proc/${this.child.pid}/cwd`)) ?? this.runner.home;
    const [folder, prefix] = [word.slice(0, word.lastIndexOf('/') + 1), word.slice(word.lastIndexOf('/') + 1)];
    for (const name of attempt(() => fs.readdirSync(path.resolve(cwd, folder))) ?? []) {
      if (!name.startsWith(prefix) || (name.startsWith('.') && !prefix.startsWith('.'))) continue;
      const isFolder = attempt(() => fs.statSync(path.resolve(cwd, folder, name)).isDirectory());
      found.add(`${folder}${name}${isFolder ? '/' : ''}`);
    }
    reply([...found].sort());
  }
}

const builtins = [
  ...['alias', 'break', 'case', 'cd', 'command', 'continue', 'do', 'done', 'echo', 'elif', 'else', 'esac', 'eval'],
  ...['exec', 'exit', 'export', 'false', 'fi', 'for', 'function', 'if', 'in', 'local', 'printf', 'pwd', 'read'],
  ...['return', 'set', 'shift', 'source', 'test', 'then', 'times', 'trap', 'true', 'type', 'ulimit', 'umask'],
  ...['unalias', 'unset', 'until', 'wait', 'while'],
];

module.exports = { ShellSession };
