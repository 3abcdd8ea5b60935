'use strict';
/**
 * The kernel runner for Node.js: executes code for an agent that may come and go.
 *
 *     node runner.cjs --run-dir DIR --home DIR [--output-limit BYTES] [--language node]
 *
 * The same protocol, files and division of work as `supervisor.py`: this process owns the socket, the journals and every
 * pipe and never runs user code; interactive code lives in a child (`node_user.cjs`), batch steps in process groups.
 *
 * Output travels through FIFOs, because the "pipes" of child_process are sockets: programs cannot open /dev/stderr on
 * them. A FIFO is also read synchronously where the present state is needed (the end of a run, a question).
 */
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const version = 1;
const chunkSize = 65536;
const lineLimit = 32 << 20;
const mediaLimit = 8 << 20;
const backlogLimit = 64 << 20;
const keptRuns = 32;
const queuedRuns = 256;
const consoleBytes = 1 << 20;
const eventGapMs = 5;
const lingerMs = 500;
const completeDeadlineMs = 2000;
/** Code behind an `await` that never yields cannot be interrupted from within. */
const interruptDeadlineMs = 2000;
const { constants } = fs;

class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function attempt(work) {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** Calls back with each complete line; false once a line is too long. */
function lineReader(limit, onLine) {
  let parts = [];
  let size = 0;
  return (chunk) => {
    for (let at = 0; ; ) {
      const end = chunk.indexOf(10, at);
      const part = chunk.subarray(at, end < 0 ? chunk.length : end);
      parts.push(part);
      size += part.length;
      if (size > limit) return false;
      if (end < 0) return true;
      const line = Buffer.concat(parts).toString();
      parts = [];
      size = 0;
      at = end + 1;
      if (line) onLine(line);
    }
  };
}

function parse(line) {
  const value = attempt(() => JSON.parse(line));
  return typeof value === 'object' && value !== null ? value : {};
}

/** [exit code, signal name or undefined] */
function exitOf(code, signal) {
  return signal ? [128 + (os.constants.signals[signal] ?? 0), signal] : [code ?? 0, undefined];
}

function signalGroup(pid, signal) {
  if (pid) attempt(() => process.kill(-pid, signal));
}

let fifoCount = 0;

/** Names of new FIFOs, or undefined where there is no `mkfifo`. */
function makeFifos(count) {
  const names = Array.from({ length: count }, () => `fifo.${process.pid}.${++fifoCount}`);
  for (const name of names) attempt(() => fs.unlinkSync(name));
  return spawnSync('mkfifo', ['-m', '600', ...names]).status === 0 ? names : undefined;
}

/** The reading end of a program's stdout or stderr. */
class OutputPipe {
  constructor(kind, sink, onEnd = () => {}) {
    this.kind = kind;
    this.sink = sink;
    this.onEnd = onEnd;
    this.writeEnd = 'pipe';
  }

  openFifo(name) {
    const fd = fs.openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
    this.writeEnd = fs.openSync(name, constants.O_WRONLY);
    attempt(() => fs.unlinkSync(name));
    this.read(new net.Socket({ fd, readable: true, writable: false }), fd);
  }

  /** After the program was started: without FIFOs its own stream is read. */
  started(stream) {
    if (this.stream) {
      fs.closeSync(this.writeEnd);
      this.writeEnd = undefined;
    } else {
      this.read(stream, stream._handle?.fd);
    }
  }

  read(stream, fd) {
    this.stream = stream;
    this.fd = fd;
    stream.on('data', (chunk) => this.sink(this.kind, chunk));
    stream.on('error', () => {});
    stream.on('close', () => {
      this.fd = undefined;
      this.onEnd();
    });
  }

  get isOpen() {
    return this.fd !== undefined;
  }

  /** What was written before this call, and not what a busy writer adds meanwhile. */
  drain() {
    for (let total = 0; this.fd !== undefined && total < 2 << 20; ) {
      const chunk = Buffer.allocUnsafe(chunkSize);
      const size = attempt(() => fs.readSync(this.fd, chunk)) ?? 0;
      if (size === 0) return;
      total += size;
      this.sink(this.kind, chunk.subarray(0, size));
    }
  }

  close() {
    this.stream?.destroy();
  }
}

/** A program with its output pipes in a process group of its own. */
function launch(runner, argv, pipes, extra = [], stdin = 'ignore') {
  const names = makeFifos(pipes.length);
  if (names) for (const [index, pipe] of pipes.entries()) pipe.openFifo(names[index]);
  const child = spawn(argv[0], argv.slice(1), {
    cwd: fs.existsSync(runner.home) ? runner.home : '/',
    detached: true,
    stdio: [stdin, ...pipes.map((pipe) => pipe.writeEnd), ...extra],
  });
  for (const [index, pipe] of pipes.entries()) pipe.started(child.stdio[index + 1]);
  return child;
}

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
      if (message.op === 'attach')
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
    runner.terminals ??= new Terminals(runner, Refusal);
    runner.terminals.attach(message, this.socket, reply);
    runner.clients.delete(this);
  }
}

/** One execution and its journal: append-only JSON lines that the agent reads from its own cursor. */
class Run {
  constructor(runner, id, request) {
    this.runner = runner;
    this.id = id;
    this.mode = request.mode;
    this.request = request;
    this.state = 'queued';
    this.end = 0;
    this.left = runner.outputLimit;
    this.truncated = false;
    this.cancelled = false;
    this.decoders = new Map();
    this.published = 0;
    this.input = [];
    const { O_WRONLY, O_CREAT, O_EXCL, O_APPEND, O_NOFOLLOW } = constants;
    this.fd = fs.openSync(`runs/${id}.jsonl`, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0o600);
  }

  /** Bytes from a program. Past the limit they vanish, and the program does not notice. */
  output(kind, data) {
    if (this.truncated || this.state === 'finished') return;
    const fitting = data.subarray(0, this.left);
    this.left -= fitting.length;
    let decoder = this.decoders.get(kind);
    if (!decoder) {
      decoder = new TextDecoder('utf-8', { ignoreBOM: true });
      this.decoders.set(kind, decoder);
    }
    this.text(kind, decoder.decode(fitting, { stream: true }));
    if (fitting.length < data.length) this.truncate();
  }

  rich(kind, text, mime) {
    if (this.truncated) return;
    if (mime !== undefined && text.length > mediaLimit) {
      return this.text('stderr', `A result of type ${mime} is larger than 8 MiB and is left out.\n`);
    }
    if (text.length > this.left) return this.truncate();
    this.left -= text.length;
    if (mime !== undefined) this.record({ t: 'media', m: mime, d: text });
    else this.text(kind, text);
  }

  text(kind, text) {
    for (let at = 0; at < text.length; ) {
      let end = Math.min(text.length, at + chunkSize);
      if (end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end -= 1;
      this.append({ t: kind, d: text.slice(at, end) });
      at = end;
    }
    this.changed();
  }

  truncate() {
    this.truncated = true;
    this.decoders.clear();
    this.record({ t: 'truncated', limit: this.runner.outputLimit });
  }

  record(record) {
    this.append(record);
    this.changed();
  }

  append(record) {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    try {
      for (let at = 0; at < line.length; ) {
        const count = fs.writeSync(this.fd, line, at);
        at += count;
        this.end += count;
      }
    } catch (error) {
      // A full disk costs output, not the kernel.
      this.runner.console(Buffer.from(`runner: journal of ${this.id}: ${error.message}\n`));
    }
  }

  flushDecoders() {
    for (const [kind, decoder] of this.decoders) {
      const rest = decoder.decode();
      if (rest) this.text(kind, rest);
    }
    this.decoders.clear();
  }

  setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.publish();
  }

  /** Tells the clients: at once after a pause, else together with what follows soon. */
  changed() {
    if (this.timer) return;
    const gap = this.published + eventGapMs - performance.now();
    if (gap <= 0) this.publish();
    else this.timer = setTimeout(() => this.publish(), gap);
  }

  publish() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.published = performance.now();
    for (const client of this.runner.clients) client.notify(this);
  }

  event() {
    return `${JSON.stringify({ ev: 'run', runId: this.id, end: this.end, state: this.state })}\n`;
  }

  ask(password) {
    this.flushDecoders();
    this.state = 'waiting-input';
    this.append({ t: 'waiting-input', p: password });
    this.publish();
  }

  finish(code, signal) {
    if (this.state === 'finished') return;
    this.flushDecoders();
    this.state = 'finished';
    this.append({ t: 'finished', x: code, ...(signal ? { s: signal } : {}) });
    fs.closeSync(this.fd);
    this.publish();
    this.runner.finished(this);
  }
}

/** clean, build, exec: each may be skipped; exec does not follow a failed build. */
class Batch {
  constructor(run) {
    this.run = run;
    this.steps = ['clean', 'build', 'exec'];
    this.next();
  }

  argv(name) {
    const command = this.run.request[name];
    if (!command) return undefined;
    if (command !== '*') return ['/bin/sh', '-c', command];
    return this.usual(name);
  }

  /** What "*" stands for, by what is in the home folder: undefined when there is nothing to do. */
  usual(name) {
    const names = attempt(() => fs.readdirSync(this.run.runner.home)) ?? [];
    const sources = names.filter((each) => /\.(c|cc|cpp|cxx)$/.test(each)).sort();
    if (name === 'exec') {
      // A program that the step before made is there only now.
      const made = 'for each in main a.out; do if [ -f $each ] && [ -x $each ]; then exec ./$each; fi; done; ';
      return ['/bin/sh', '-c', `${made}exec "$@"`, 'sh', process.execPath, 'main.js'];
    }
    if (names.some((each) => ['Makefile', 'makefile', 'GNUmakefile'].includes(each))) {
      return name === 'clean' ? ['make', 'clean'] : ['make'];
    }
    if (sources.length === 0) return undefined;
    if (name === 'clean') return ['rm', '-f', 'main'];
    const compiler = sources.every((each) => each.endsWith('.c')) ? 'cc' : 'c++';
    return [compiler, '-O2', '-o', 'main', ...sources.map((each) => `./${each}`), '-lm', '-lpthread'];
  }

  next() {
    const name = this.steps.shift();
    if (!name) return this.run.finish(0);
    const argv = this.argv(name);
    if (!argv) return this.next();
    this.start(name, argv);
  }

  start(name, argv) {
    const { run } = this;
    const { runner, request } = run;
    const shown = name !== 'build' || request.buildLog !== false;
    let late = false;
    let status;
    let timer;
    const settle = () => {
      if (!status || pipes.some((pipe) => pipe.isOpen)) return;
      clearTimeout(timer);
      const end = status;
      status = undefined;
      this.ended(name, ...(late ? [124] : exitOf(...end)));
    };
    const sink = (kind, data) => {
      runner.console(data);
      if (shown) run.output(kind, data);
    };
    const pipes = ['stdout', 'stderr'].map((kind) => new OutputPipe(kind, sink, settle));
    const child = launch(runner, argv, pipes, [], name === 'exec' ? 'pipe' : 'ignore');
    run.child = child;
    child.stdin?.on('error', () => {});
    child.on('error', (error) => {
      run.output('stderr', Buffer.from(`${error.message}\n`));
      ended(127, null);
    });
    const limitMs = request.timeoutsMs?.[name];
    const limit =
      limitMs > 0 &&
      setTimeout(() => {
        late = true;
        run.output('stderr', Buffer.from('runner: The step took longer than it may.\n'));
        signalGroup(child.pid, 'SIGKILL');
      }, limitMs);
    const ended = (code, signal) => {
      clearTimeout(limit);
      status = [code, signal];
      run.child = undefined;
      child.stdin?.destroy();
      for (const pipe of pipes) pipe.drain();
      // Leftovers that still hold the pipes lose them, and those of the same group end.
      timer = setTimeout(() => {
        signalGroup(child.pid, 'SIGKILL');
        for (const pipe of pipes) pipe.drain();
        for (const pipe of pipes) pipe.close();
      }, lingerMs);
      settle();
    };
    child.on('exit', ended);
    if (name === 'exec') {
      for (const { text, eof } of run.input.splice(0)) this.run.runner.feed(run, text, eof);
    }
  }

  ended(name, code, signal) {
    const { run } = this;
    if (name === 'exec') return run.finish(code, signal);
    run.flushDecoders();
    run.record({ t: `${name}-finished`, x: code, ...(signal ? { s: signal } : {}) });
    if (run.cancelled) run.finish(code, signal);
    else if (name === 'build' && code !== 0) run.finish(127);
    else this.next();
  }
}

/** The supervisor's side of interactive JavaScript: a process that keeps its state between executions. */
class NodeSession {
  constructor(runner) {
    this.runner = runner;
    this.run = undefined;
    this.completions = new Map();
    this.count = 0;
  }

  start() {
    const sink = (kind, data) => {
      this.runner.console(data);
      this.run?.output(kind, data);
    };
    this.pipes = ['stdout', 'stderr'].map((kind) => new OutputPipe(kind, sink));
    const names = makeFifos(3);
    let acknowledgements = 'ignore';
    this.acknowledgements = undefined;
    if (names) {
      for (const [index, pipe] of this.pipes.entries()) pipe.openFifo(names[index]);
      this.acknowledgements = fs.openSync(names[2], constants.O_RDWR | constants.O_NONBLOCK);
      acknowledgements = fs.openSync(names[2], constants.O_RDONLY);
      fs.unlinkSync(names[2]);
    }
    const [out, err] = this.pipes.map((pipe) => pipe.writeEnd);
    const child = spawn(process.execPath, [path.join(__dirname, 'node_user.cjs')], {
      cwd: fs.existsSync(this.runner.home) ? this.runner.home : '/',
      detached: true,
      stdio: ['ignore', out, err, 'pipe', out, err, acknowledgements],
    });
    for (const [index, pipe] of this.pipes.entries()) pipe.started(child.stdio[index + 1]);
    if (names) fs.closeSync(acknowledgements);
    this.child = child;
    this.control = child.stdio[3];
    const feed = lineReader(lineLimit, (line) => this.message(child, parse(line)));
    this.control.on('data', (chunk) => {
      if (!feed(chunk)) signalGroup(child.pid, 'SIGKILL');
    });
    this.control.on('error', () => {});
    child.on('error', () => {});
    // After the control line has ended, too: its last words count.
    child.on('close', (code, signal) => this.ended(code, signal));
    child.on('exit', () => {
      this.drain();
      for (const pipe of this.pipes) pipe.close();
    });
  }

  drain() {
    for (const pipe of this.pipes) pipe.drain();
  }

  send(message) {
    this.control.write(`${JSON.stringify(message)}\n`);
  }

  execute(run, code) {
    this.drain();
    this.run = run;
    this.send({ op: 'execute', code });
  }

  input(run, text, eof) {
    if (run.state !== 'waiting-input' || run !== this.run) {
      throw new Refusal('not-waiting', 'The run does not wait for input.');
    }
    run.setState('running');
    this.send({ op: 'input', text, eof });
  }

  interrupt() {
    const { run, child } = this;
    signalGroup(child.pid, 'SIGINT');
    setTimeout(() => {
      if (run && this.run === run && this.child === child) {
        run.text('stderr', 'The interpreter did not react to the interrupt and was restarted; its state is lost.\n');
        this.hard = true;
        signalGroup(child.pid, 'SIGKILL');
      }
    }, interruptDeadlineMs);
  }

  complete(code, reply) {
    if (this.run) return reply([]);
    const number = ++this.count;
    const timer = setTimeout(() => this.completed(number, []), completeDeadlineMs);
    this.completions.set(number, { reply, timer });
    this.send({ op: 'complete', number, code });
  }

  completed(number, found) {
    const pending = this.completions.get(number);
    if (!pending) return;
    this.completions.delete(number);
    clearTimeout(pending.timer);
    pending.reply(found);
  }

  /** The user's code has the same descriptor: nothing here is trusted beyond its form. */
  message(child, message) {
    if (child !== this.child) return;
    const { run } = this;
    if (message.k === 'sync') {
      this.drain();
      if (this.acknowledgements !== undefined) attempt(() => fs.writeSync(this.acknowledgements, 'x'));
    } else if (message.k === 'completions') {
      const found = Array.isArray(message.found) ? message.found.filter((each) => typeof each === 'string') : [];
      this.completed(message.number, found);
    } else if (!run) {
      return;
    } else if (message.k === 'done' && Number.isSafeInteger(message.code) && message.code >= 0) {
      this.drain();
      this.run = undefined;
      run.finish(message.code);
    } else if (message.k === 'input') {
      this.drain();
      run.ask(message.password === true);
    } else if (message.k === 'rich' && typeof message.data === 'string') {
      this.drain();
      if (message.type === 'media' && typeof message.mime === 'string') run.rich('media', message.data, message.mime);
      else if (['html', 'svg', 'log'].includes(message.type)) run.rich(message.type, message.data);
    }
  }

  /** The interpreter is gone (process.exit, a crash): its run ends, and a fresh one takes its place. */
  ended(code, signal) {
    for (const number of [...this.completions.keys()]) this.completed(number, []);
    if (this.acknowledgements !== undefined) attempt(() => fs.closeSync(this.acknowledgements));
    const { run, hard } = this;
    this.run = undefined;
    this.hard = false;
    this.start();
    if (hard) run?.finish(130);
    else run?.finish(...exitOf(code, signal));
  }
}

class Runner {
  constructor(home, outputLimit) {
    this.home = home;
    this.outputLimit = outputLimit;
    this.startedAt = Date.now();
    this.clients = new Set();
    this.runs = new Map();
    this.queue = [];
    this.current = undefined;
    this.session = new NodeSession(this);
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
    const run = new Run(this, runId, message);
    this.runs.set(runId, run);
    this.queue.push(run);
    if (this.current) run.publish();
    else this.startNext();
    return { known: false };
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
      attempt(() => fs.unlinkSync(`runs/${old.id}.jsonl`));
    }
    if (this.current !== run) return;
    this.current = undefined;
    setImmediate(() => this.startNext());
  }

  startedPrograms() {
    const { Programs } = require('./programs.cjs');
    this.programs ??= new Programs(this, Refusal);
    return this.programs;
  }

  find(message) {
    const run = this.runs.get(message.runId);
    if (!run) throw new Refusal('unknown-run', 'There is no such run.');
    return run;
  }

  handle(message, reply) {
    const { op } = message;
    switch (op) {
      case 'ping': {
        const { startedAt } = this;
        return { language: 'node', version, pid: process.pid, startedAt, current: this.current?.id ?? null };
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
    else if (run.child?.stdin) this.feed(run, text, message.eof === true);
    else run.input.push({ text, eof: message.eof === true });
    return {};
  }

  feed(run, text, eof) {
    const stdin = run.child?.stdin;
    if (!stdin || stdin.destroyed || stdin.writableEnded) return;
    if (stdin.writableLength + text.length > backlogLimit) {
      throw new Refusal('busy', 'The program does not read its input.');
    }
    if (text) stdin.write(text);
    if (eof) stdin.end();
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
  const options = { '--output-limit': '67108864' };
  for (let at = 0; at + 1 < argv.length; at += 2) options[argv[at]] = argv[at + 1];
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE']) process.on(name, () => {});
  process.chdir(options['--run-dir']);
  fs.mkdirSync('runs', { recursive: true, mode: 0o700 });
  const runner = new Runner(path.resolve(options['--home']), Number(options['--output-limit']));
  process.on('uncaughtException', (error) => runner.console(Buffer.from(`runner: ${error.stack}\n`)));
  runner.adoptJournals();
  runner.listen();
  // The interpreter starts while the agent finds the socket; what is asked before it is ready waits for it.
  setImmediate(() => runner.session.start());
}

main(process.argv.slice(2));
