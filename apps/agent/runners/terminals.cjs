'use strict';
/**
 * Terminals of a kernel, as `terminals.py` has them, with the same frames. Node.js has no pty of its own: `script` makes
 * it, that of the image or one that was carried into it, and `stty` gives it its size from outside.
 */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const { attempt, findProgram, isExecutable } = require('./processes.cjs');
const { Refusal } = require('./refusal.cjs');
const { findShell, quoted } = require('./shells.cjs');

const most = 16;
const replayBytes = 1 << 16;
const frameLimit = 1 << 20;
/** Bytes that wait for a viewer before the program has to. */
const viewerBacklog = 1 << 18;
/** A viewer may hold the program up for so long. */
const stalledMs = 10_000;

function frame(kind, payload) {
  const head = Buffer.alloc(5);
  head.writeUInt8(kind, 0);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

/** The words that start it, or undefined. */
function findScript({ carried }) {
  const own = findProgram('script');
  if (own) return [own];
  const program = carried && `${carried}/script`;
  return program && isExecutable(program) ? [`${carried}/ld.so`, '--library-path', carried, program] : undefined;
}

class Terminals {
  constructor(runner) {
    this.runner = runner;
    this.open = new Map();
  }

  /** Makes the terminal if there is none of this name. From here on the connection is the viewer's. */
  attach(message, socket, reply) {
    const { terminal: name, term, rows, cols } = message;
    if (typeof name !== 'string' || !/^[a-z0-9-]{1,32}$/.test(name)) {
      throw new Refusal('bad-request', 'The name of the terminal is not acceptable.');
    }
    if (![rows, cols].every((each) => Number.isSafeInteger(each) && each > 0 && each < 10_000)) {
      throw new Refusal('bad-request', 'The size of the terminal is not acceptable.');
    }
    if (typeof term !== 'string' || !/^[\x20-\x7e]*$/.test(term)) {
      throw new Refusal('bad-request', 'The type of the terminal is not acceptable.');
    }
    let terminal = this.open.get(name);
    if (terminal) {
      terminal.resize(rows, cols);
    } else {
      if (this.open.size >= most) throw new Refusal('busy', 'Too many terminals are open.');
      const script = findScript(this.runner);
      if (!script) throw new Refusal('unknown-op', 'The image has no program "script", which makes terminals.');
      terminal = new Terminal(this, name, script, term, [rows, cols]);
      this.open.set(name, terminal);
    }
    new Viewer(terminal, socket, reply);
  }
}

class Terminal {
  constructor(terminals, name, script, term, size) {
    this.terminals = terminals;
    this.name = name;
    this.script = script;
    this.term = term;
    this.size = size;
    this.viewers = new Set();
    this.last = Buffer.alloc(0);
    this.start();
  }

  start() {
    this.restarting = false;
    const { home, shell } = this.terminals.runner;
    const [rows, cols] = this.size;
    const command = `stty rows ${rows} cols ${cols}; exec ${quoted(findShell(shell))} -i`;
    const [file, ...words] = this.script;
    this.child = spawn(file, [...words, '-q', '-e', '-f', '-c', command, '/dev/null'], {
      cwd: fs.existsSync(home) ? home : '/',
      detached: true,
      env: { ...process.env, TERM: this.term, SHELL: '/bin/sh' },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    this.child.stdin.on('error', () => {});
    this.child.stdout.on('data', (data) => this.output(data));
    this.child.on('error', () => this.ended(127));
    this.child.on('close', (code) => this.ended(code ?? 137));
  }

  output(data) {
    this.last = Buffer.concat([this.last, data]).subarray(-replayBytes);
    for (const viewer of this.viewers) viewer.send(frame(0, data));
    this.hold();
  }

  hold() {
    const { stdout } = this.child;
    if ([...this.viewers].some((viewer) => viewer.isFull)) stdout.pause();
    else stdout.resume();
  }

  resize(rows, cols) {
    this.size = [rows, cols];
    const pty = this.pty();
    if (pty)
      spawn('stty', ['-F', pty, 'rows', String(rows), 'cols', String(cols)], { stdio: 'ignore' }).on('error', () => {});
  }

  /** The name of the pty, as the program on it has it open. */
  pty() {
    const { pid } = this.child;
    const children = attempt(() => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')) ?? '';
    for (const child of children.trim().split(' ').filter(Boolean)) {
      const name = attempt(() => fs.readlinkSync(`/proc/${child}/fd/0`));
      if (name?.startsWith('/dev/pts/')) return name;
    }
    return undefined;
  }

  write(data) {
    this.child.stdin.write(data);
  }

  get unread() {
    return this.child.stdin.writableLength;
  }

  restart() {
    this.restarting = true;
    this.last = Buffer.alloc(0);
    // With its master the pty ends, and the shell with it.
    attempt(() => process.kill(-this.child.pid, 'SIGKILL'));
  }

  ended(code) {
    if (this.restarting) return this.start();
    if (this.terminals.open.get(this.name) !== this) return;
    this.terminals.open.delete(this.name);
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(code);
    for (const viewer of this.viewers) viewer.end(frame(1, payload));
  }
}

class Viewer {
  constructor(terminal, socket, reply) {
    this.terminal = terminal;
    this.socket = socket;
    this.received = Buffer.alloc(0);
    terminal.viewers.add(this);
    socket.removeAllListeners('data');
    socket.removeAllListeners('drain');
    socket.on('data', (data) => this.receive(data));
    socket.on('drain', () => this.drained());
    socket.on('close', () => {
      clearTimeout(this.stalled);
      terminal.viewers.delete(this);
      terminal.hold();
    });
    socket.write(reply);
    if (terminal.last.length > 0) this.send(frame(0, terminal.last));
  }

  get isFull() {
    return this.socket.writableLength > viewerBacklog;
  }

  receive(data) {
    this.received = Buffer.concat([this.received, data]);
    while (this.received.length >= 5) {
      const kind = this.received.readUInt8(0);
      const length = this.received.readUInt32BE(1);
      if (length > frameLimit) return this.socket.destroy();
      if (this.received.length < 5 + length) return;
      const payload = this.received.subarray(5, 5 + length);
      this.received = this.received.subarray(5 + length);
      if (kind === 0) this.terminal.write(payload);
      else if (kind === 1 && length === 4) this.terminal.resize(payload.readUInt16BE(0), payload.readUInt16BE(2));
      else if (kind === 2) this.terminal.restart();
    }
    // Nothing reads what it types.
    if (this.terminal.unread > frameLimit) this.socket.destroy();
  }

  send(data) {
    this.socket.write(data);
    if (this.isFull) this.stalled ??= setTimeout(() => this.socket.destroy(), stalledMs);
  }

  drained() {
    clearTimeout(this.stalled);
    this.stalled = undefined;
    this.terminal.hold();
  }

  end(data) {
    this.socket.end(data);
  }
}

module.exports = { Terminals };
