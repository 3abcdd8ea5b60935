'use strict';
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { attempt, exitOf, lineReader, makeFifos, OutputPipe, parse, signalGroup } = require('./processes.cjs');
const { Refusal } = require('./refusal.cjs');

const lineLimit = 32 << 20;
const completeDeadlineMs = 2000;
/** Code behind an `await` that never yields cannot be interrupted from within. */
const interruptDeadlineMs = 2000;
const { constants } = fs;

/** The supervisor's side of interactive JavaScript: a process that keeps its state between executions. */
class NodeSession {
  constructor(runner) {
    this.runner = runner;
    this.run = undefined;
    this.completions = new Map();
    this.count = 0;
  }

  /** What a batch run executes that does not say what. */
  get mainCommand() {
    return [process.execPath, 'main.js'];
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

module.exports = { NodeSession };
