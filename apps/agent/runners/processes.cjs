'use strict';
/**
 * Programs of a runner and what they print.
 *
 * Output travels through FIFOs, because the "pipes" of child_process are sockets: programs cannot open /dev/stderr on
 * them. A FIFO is also read synchronously where the present state is needed (the end of a run, a question).
 */
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');

const chunkSize = 65536;
const { constants } = fs;

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

function isDiskFull(error) {
  return error?.code === 'ENOSPC' || error?.code === 'EDQUOT';
}

function parse(line) {
  const value = attempt(() => JSON.parse(line));
  return typeof value === 'object' && value !== null ? value : {};
}

function isExecutable(file) {
  return attempt(() => fs.accessSync(file, constants.X_OK) ?? true) === true;
}

function findProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(':'), '/bin', '/usr/bin'].filter((folder) => folder !== '');
  return folders.map((folder) => `${folder}/${name}`).find(isExecutable);
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

/** Filled by `drain`, which everything of this process waits for: what is read is used up before anything else is. */
const drained = Buffer.allocUnsafeSlow(chunkSize);

/** Bytes that are there; 0: none. Mostly there are none, and the stack of the error that says so would cost the most. */
function readNow(fd, buffer) {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return fs.readSync(fd, buffer);
  } catch {
    return 0;
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
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
      const size = readNow(this.fd, drained);
      if (size === 0) return;
      total += size;
      this.sink(this.kind, drained.subarray(0, size));
    }
  }

  close() {
    this.stream?.destroy();
  }
}

/**
 * What is written to a program's stdin. That is a FIFO, too: `sendfile` from a socket to a pipe, as the cat of BusyBox does
 * it, would hold the pipe up for us until there is more to read.
 */
class InputPipe {
  constructor(stream) {
    this.stream = stream;
    this.isFifo = false;
    /** Whether its reader has it open: one that comes after the last writer has gone would wait for another. */
    this.isOpen = true;
    this.ended = false;
    stream.on('error', () => {});
  }

  static ofFifo(name, isOpen) {
    const fd = fs.openSync(name, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    return Object.assign(new InputPipe(new net.Socket({ fd, readable: false, writable: true })), {
      isFifo: true,
      isOpen,
    });
  }

  get backlog() {
    return this.stream.writableLength;
  }

  get isClosed() {
    return this.stream.destroyed || this.ended;
  }

  write(text, eof) {
    if (this.isClosed) return;
    this.ended = eof;
    this.stream.write(text, () => this.settle());
  }

  opened() {
    this.isOpen = true;
    this.settle();
  }

  settle() {
    if (!this.ended || !this.isOpen || this.backlog > 0) return;
    if (this.isFifo) this.close();
    else this.stream.end();
  }

  close() {
    this.stream.destroy();
  }
}

/** A program with its output pipes in a process group of its own, and the way to its stdin if it has one. */
function launch(runner, argv, pipes, takesInput) {
  const names = makeFifos(pipes.length + (takesInput ? 1 : 0));
  if (names) for (const [index, pipe] of pipes.entries()) pipe.openFifo(names[index]);
  const fifo = takesInput ? names?.at(-1) : undefined;
  let input = fifo && InputPipe.ofFifo(fifo, true);
  const reader = fifo === undefined ? undefined : fs.openSync(fifo, constants.O_RDONLY);
  if (fifo !== undefined) attempt(() => fs.unlinkSync(fifo));
  const child = spawn(argv[0], argv.slice(1), {
    cwd: fs.existsSync(runner.home) ? runner.home : '/',
    detached: true,
    stdio: [takesInput ? (reader ?? 'pipe') : 'ignore', ...pipes.map((pipe) => pipe.writeEnd)],
  });
  for (const [index, pipe] of pipes.entries()) pipe.started(child.stdio[index + 1]);
  if (reader !== undefined) fs.closeSync(reader);
  else if (child.stdin) input = new InputPipe(child.stdin);
  return { child, input };
}

module.exports = {
  attempt,
  chunkSize,
  exitOf,
  findProgram,
  InputPipe,
  isDiskFull,
  isExecutable,
  launch,
  lineReader,
  makeFifos,
  OutputPipe,
  parse,
  signalGroup,
};
