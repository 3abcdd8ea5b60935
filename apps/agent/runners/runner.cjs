'use strict';
/**
 * The kernel runner of Node.js: executes code for an agent that may come and go.
 *
 *     node runner.cjs --run-dir DIR --home DIR [--language node|shell] [--output-limit BYTES] [--shell PATH] [--carried DIR]
 *
 * The same protocol, files and division of work as `supervisor.py`: this process owns the socket, the journals and every
 * pipe and never runs user code; interactive code lives in a child (`node_user.cjs`, or a shell), batch steps in process
 * groups. `--carried` names a folder with programs of the agent's machine that run in any image, with their loader `ld.so`.
 */
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { attempt, exitOf, isDiskFull, lineReader, parse, signalGroup } = require('./processes.cjs');
const { Refusal } = require('./refusal.cjs');
const { Batch, Run } = require('./runs.cjs');

const version = 1;
const lineLimit = 32 << 20;
const backlogLimit = 64 << 20;
const keptRuns = 32;
const queuedRuns = 256;
const consoleBytes = 1 << 20;
const { constants } = fs;

/** A connection from an agent. A slow one loses intermediate events, never replies; it delays nobody. */
class Client {
  constructor(runner, socket) {
    this.socket = socket;
    this.events = new Map();
    const feed = lineReader(lineLimit, (line) => this.request(runner, parse(line)));
    socket.on('data', (chunk) => {
      if (!feed(chunk)) socket.destroy();
    });
    socket.on('drain', () => this.flush());
    socket.on('error', () => {});
    socket.on('close', () => runner.clients.delete(this));
  }

  notify(run) {
    this.events.set(run.id, run.event());
    this.flush();
  }

  flush() {
    if (this.events.size === 0 || this.socket.writableLength > 0) return;
    const pending = [...this.events.values()].join('');
    this.events.clear();
    this.send(pending);
  }

  send(text) {
    if (this.socket.destroyed) return;
    this.socket.write(text);
    if (this.socket.writableLength > backlogLimit) this.socket.destroy();
  }

  request(runner, message) {
    const { seq } = message;
    if (!Number.isSafeInteger(seq)) return this.socket.destroy();
    const reply = (result) => this.send(`${JSON.stringify({ re: seq, ok: true, ...result })}\n`);
    try {
      if (message.op === 'attach' && !runner.warm)
        return this.becomeViewer(runner, message, `${JSON.stringify({ re: seq, ok: true })}\n`);
      const result = runner.handle(message, reply);
      if (result) reply(result);
    } catch (error) {
      const code = error instanceof Refusal ? error.code : 'internal';
      this.send(`${JSON.stringify({ re: seq, ok: false, code, message: String(error.message) })}\n`);
    }
  }

  /** The connection carries frames of a terminal from now on. */
  becomeViewer(runner, message, reply) {
    const { Terminals } = require('./terminals.cjs');
    runner.terminals ??= new Terminals(runner);
    runner.terminals.attach(message, this.socket, reply);
    runner.clients.delete(this);
  }
}

function newSession(runner) {
  if (runner.language === 'shell') {
    const { ShellSession } = require('./shell_session.cjs');
    return new ShellSession(runner);
  }
  const { NodeSession } = require('./node_session.cjs');
  return new NodeSession(runner);
}

class Runner {
  constructor({ language, home, outputLimit, shell, carried }) {
    this.language = language;
    this.home = home;
    this.outputLimit = outputLimit;
    this.shell = shell;
    this.carried = carried;
    this.startedAt = Date.now();
    this.clients = new Set();
    this.runs = new Map();
    this.queue = [];
    this.current = undefined;
    this.session = newSession(this);
    /** It belongs to nobody yet. */
    this.warm = false;
  }

  /** All output of the kernel, in two files of bounded size. */
  console(data) {
    attempt(() => {
      if (this.consoleFd !== undefined && this.consoleSize + data.length > consoleBytes) {
        fs.closeSync(this.consoleFd);
        this.consoleFd = undefined;
        fs.renameSync('console.log', 'console.log.1');
      }
      if (this.consoleFd === undefined) {
        const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = constants;
        this.consoleFd = fs.openSync('console.log', O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0o600);
        this.consoleSize = fs.fstatSync(this.consoleFd).size;
      }
      this.consoleSize += fs.writeSync(this.consoleFd, data);
    });
  }

  /** The socket appears under its name only when it accepts, and replaces one left by an earlier runner. */
  listen() {
    const name = `runner.sock.${process.pid}`;
    attempt(() => fs.unlinkSync(name));
    const server = net.createServer((socket) => {
      const client = new Client(this, socket);
      this.clients.add(client);
      for (const run of this.runs.values()) client.notify(run);
    });
    const mask = process.umask(0o077);
    server.listen(name, () => fs.renameSync(name, 'runner.sock'));
    process.umask(mask);
  }

  /** What an earlier runner left: its runs are over, and their journals say so. */
  adoptJournals() {
    const names = fs.readdirSync('runs').filter((name) => name.endsWith('.jsonl'));
    const aged = names.map((name) => ({ name, age: attempt(() => fs.lstatSync(`runs/${name}`).mtimeMs) ?? 0 }));
    aged.sort((one, other) => one.age - other.age);
    for (const { name } of aged) {
      attempt(() => {
        const { O_RDWR, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = constants;
        const fd = fs.openSync(`runs/${name}`, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
        const tail = Buffer.alloc(256);
        const size = fs.readSync(fd, tail, 0, 256, Math.max(0, fs.fstatSync(fd).size - 256));
        const text = tail.toString('latin1', 0, size);
        if (!text.trimEnd().split('\n').at(-1).startsWith('{"t":"finished"')) {
          const lead = text === '' || text.endsWith('\n') ? '' : '\n';
          fs.writeSync(fd, `${lead}{"t":"finished","x":137,"s":"SIGKILL"}\n`);
        }
        fs.closeSync(fd);
      });
    }
    for (const { name } of aged.slice(0, -keptRuns)) attempt(() => fs.unlinkSync(`runs/${name}`));
  }

  /** Once, by the agent: from now on it is that of a session. No code of a user has run before. */
  claim({ environ }) {
    const isTable = typeof environ === 'object' && environ !== null;
    if (!isTable || !Object.values(environ).every((each) => typeof each === 'string')) {
      throw new Refusal('bad-request', 'The environment is a table of texts.');
    }
    // What the container engine added stays: the host name, a path, what devices are seen.
    Object.assign(process.env, environ, { PYTHONUNBUFFERED: '1' });
    this.warm = false;
    setImmediate(() => this.session.start());
    return {};
  }

  execute(message) {
    const { runId, mode } = message;
    if (typeof runId !== 'string' || !/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/.test(runId)) {
      throw new Refusal('bad-request', 'The run id is not acceptable.');
    }
    if (mode !== 'query' && mode !== 'batch') throw new Refusal('bad-request', 'The mode is query or batch.');
    if (!['code', 'clean', 'build', 'exec'].every((name) => typeof (message[name] ?? '') === 'string')) {
      throw new Refusal('bad-request', 'Code and commands are texts.');
    }
    if (this.runs.has(runId) || fs.existsSync(`runs/${runId}.jsonl`)) return { known: true };
    if (this.queue.length >= queuedRuns) throw new Refusal('busy', 'Too many executions wait.');
    const run = this.newRun(runId, message);
    this.runs.set(runId, run);
    this.queue.push(run);
    if (this.current) run.publish();
    else this.startNext();
    return { known: false };
  }

  newRun(runId, message) {
    try {
      return new Run(this, runId, message);
    } catch (error) {
      throw new Refusal(isDiskFull(error) ? 'disk-full' : 'io', `The journal cannot be written: ${error.message}`);
    }
  }

  startNext() {
    const run = this.current ? undefined : this.queue.shift();
    if (!run) return;
    this.current = run;
    run.setState('running');
    try {
      if (run.mode === 'batch') new Batch(run);
      else this.session.execute(run, run.request.code ?? '');
    } catch (error) {
      run.output('stderr', Buffer.from(`runner: ${error.message}\n`));
      run.finish(126);
    }
  }

  finished(run) {
    const over = [...this.runs.values()].filter((each) => each.state === 'finished');
    for (const old of over.slice(0, -keptRuns)) {
      this.runs.delete(old.id);
      if (old.unwritten) old.close();
      attempt(() => fs.unlinkSync(`runs/${old.id}.jsonl`));
    }
    if (this.current !== run) return;
    this.current = undefined;
    setImmediate(() => this.startNext());
  }

  startedPrograms() {
    const { Programs } = require('./programs.cjs');
    this.programs ??= new Programs(this);
    return this.programs;
  }

  find(message) {
    const run = this.runs.get(message.runId);
    if (!run) throw new Refusal('unknown-run', 'There is no such run.');
    return run;
  }

  handle(message, reply) {
    const { op } = message;
    if (op !== 'ping' && this.warm !== (op === 'claim')) {
      const text = 'This is for a runner that waits for its session.';
      throw new Refusal(this.warm ? 'not-claimed' : 'bad-request', text);
    }
    switch (op) {
      case 'claim':
        return this.claim(message);
      case 'ping': {
        const { language, startedAt } = this;
        return { language, version, pid: process.pid, startedAt, current: this.current?.id ?? null };
      }
      case 'execute':
        return this.execute(message);
      case 'input':
        return this.input(this.find(message), message);
      case 'interrupt':
      case 'kill': {
        const named = op === 'kill' || (message.runId !== undefined && message.runId !== null);
        return { signalled: this.signal(named ? this.find(message) : this.current, op) };
      }
      case 'complete': {
        const { code, cursor } = message;
        if (typeof code !== 'string' || !Number.isSafeInteger(cursor)) {
          throw new Refusal('bad-request', 'Completion needs code and a cursor.');
        }
        this.session.complete(code.slice(0, Math.max(0, cursor)), (found) =>
          reply({ completions: found.slice(0, 1000) }),
        );
        return undefined;
      }
      case 'start-program':
        return this.startedPrograms().start(message);
      case 'program':
        return this.startedPrograms().state(message);
      case 'stop-program':
        return this.startedPrograms().stop(message);
      case 'definitions':
        return this.startedPrograms().definitions(message);
      default:
        throw new Refusal('unknown-op', 'There is no such operation.');
    }
  }

  input(run, message) {
    const text = message.text ?? '';
    if (typeof text !== 'string') throw new Refusal('bad-request', 'Input is a text.');
    if (run.state === 'finished') throw new Refusal('not-waiting', 'The run has finished.');
    if (run.mode === 'query') this.session.input(run, text, message.eof === true);
    else if (run.stdin) this.feed(run, text, message.eof === true);
    else run.input.push({ text, eof: message.eof === true });
    return {};
  }

  feed(run, text, eof) {
    if (run.stdin.backlog + text.length > backlogLimit) {
      throw new Refusal('busy', 'The program does not read its input.');
    }
    run.stdin.write(text, eof);
  }

  signal(run, op) {
    if (!run || run.state === 'finished') return false;
    const name = op === 'kill' ? 'SIGKILL' : 'SIGINT';
    run.cancelled = true;
    if (run !== this.current) {
      this.queue.splice(this.queue.indexOf(run), 1);
      run.finish(...exitOf(0, name));
    } else if (run.mode === 'query') this.session.interrupt();
    else signalGroup(run.child?.pid, name);
    return true;
  }
}

function main(argv) {
  const options = { '--language': 'node', '--output-limit': '67108864' };
  for (let at = 0; at + 1 < argv.length; at += 2) options[argv[at]] = argv[at + 1];
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE']) process.on(name, () => {});
  // Of a shell: what Python programs print comes while they run.
  process.env.PYTHONUNBUFFERED = '1';
  process.chdir(options['--run-dir']);
  fs.mkdirSync('runs', { recursive: true, mode: 0o700 });
  const runner = new Runner({
    language: options['--language'],
    home: path.resolve(options['--home']),
    outputLimit: Number(options['--output-limit']),
    shell: options['--shell'],
    carried: options['--carried'],
  });
  process.on('uncaughtException', (error) => runner.console(Buffer.from(`runner: ${error.stack}\n`)));
  runner.warm = options['--warm'] === 'yes';
  runner.adoptJournals();
  runner.listen();
  // The interpreter starts while the agent finds the socket; what is asked before it is ready waits for it.
  if (!runner.warm) setImmediate(() => runner.session.start());
}

main(process.argv.slice(2));
