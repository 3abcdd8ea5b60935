'use strict';
const fs = require('node:fs');
const { attempt, chunkSize, exitOf, isDiskFull, launch, OutputPipe, signalGroup } = require('./processes.cjs');

const mediaLimit = 8 << 20;
const eventGapMs = 5;
const lingerMs = 500;
/** Until a full disk is tried again. */
const diskRetryMs = 250;
const { constants } = fs;

/**
 * One execution and its journal: append-only JSON lines that the agent reads from its own cursor.
 *
 * What the disk does not take waits and is tried again, so that no line is torn and no end is lost. Output that comes
 * meanwhile is dropped. That the run asks or has ended is told to clients, too, until it stands in the journal.
 */
class Run {
  constructor(runner, id, request) {
    this.runner = runner;
    this.id = id;
    this.mode = request.mode;
    this.request = request;
    this.state = 'queued';
    this.end = 0;
    this.unwritten = undefined;
    this.retry = undefined;
    /** The first error of writing. */
    this.trouble = undefined;
    /** The record by which it asks or ends. */
    this.last = undefined;
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
    if (mime !== undefined) {
      this.append({ t: 'media', m: mime, d: text });
      this.changed();
    } else this.text(kind, text);
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
    this.write(record);
    this.changed();
  }

  /** Output, which a full disk costs. */
  append(record) {
    if (!this.unwritten) this.write(record);
  }

  write(record) {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    this.unwritten = this.unwritten ? Buffer.concat([this.unwritten, line]) : line;
    if (!this.retry) this.flush();
  }

  flush() {
    try {
      while (this.unwritten) {
        const count = fs.writeSync(this.fd, this.unwritten);
        this.end += count;
        this.unwritten = count < this.unwritten.length ? this.unwritten.subarray(count) : undefined;
      }
    } catch (error) {
      if (!this.trouble) this.runner.console(Buffer.from(`runner: journal of ${this.id}: ${error.message}\n`));
      this.trouble ??= error;
      this.retry = setTimeout(() => this.flushAgain(), diskRetryMs);
    }
  }

  flushAgain() {
    this.retry = undefined;
    this.flush();
    if (this.unwritten) return;
    if (this.state === 'finished') this.close();
    this.publish();
  }

  close() {
    clearTimeout(this.retry);
    fs.closeSync(this.fd);
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
    const { id: runId, end, state } = this;
    const isUntold = this.unwritten && (state === 'waiting-input' || state === 'finished');
    return `${JSON.stringify({ ev: 'run', runId, end, state, ...(isUntold ? { last: this.last } : {}) })}\n`;
  }

  ask(password) {
    this.flushDecoders();
    this.state = 'waiting-input';
    this.last = { t: 'waiting-input', p: password };
    this.write(this.last);
    this.publish();
  }

  finish(code, signal) {
    if (this.state === 'finished') return;
    this.flushDecoders();
    this.state = 'finished';
    this.last = {
      t: 'finished',
      x: code,
      ...(signal ? { s: signal } : {}),
      ...(isDiskFull(this.trouble) ? { full: true } : {}),
    };
    this.write(this.last);
    if (!this.unwritten) this.close();
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
      return ['/bin/sh', '-c', `${made}exec "$@"`, 'sh', ...this.run.runner.session.mainCommand];
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
    const { child, input } = launch(runner, argv, pipes, name === 'exec');
    run.child = child;
    run.stdin = input;
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
      input?.close();
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

module.exports = { Batch, Run };
