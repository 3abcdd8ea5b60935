'use strict';
/** Programs that run beside executions for as long as the kernel does: services. As `programs.py` has them. */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { Refusal } = require('./refusal.cjs');

const most = 64;
const tailBytes = 4096;
const graceMs = 2000;
const mostFiles = 64;
const fileBytes = 1 << 16;

class Programs {
  constructor(runner) {
    this.runner = runner;
    this.all = new Map();
  }

  start({ name, argv, environ }) {
    const isText = (each) => typeof each === 'string' && !each.includes('\0');
    const hasWords = Array.isArray(argv) && argv.length > 0 && argv.every(isText);
    const hasVariables = typeof environ === 'object' && environ !== null && Object.values(environ).every(isText);
    if (typeof name !== 'string' || name === '' || !hasWords || !hasVariables) {
      throw new Refusal('bad-request', 'A program has a name, words and variables.');
    }
    const present = this.all.get(name);
    if (present?.running) return { started: false };
    if (!present && this.all.size >= most) throw new Refusal('busy', 'Too many programs were started.');
    this.all.set(name, this.run(argv, environ));
    return { started: true };
  }

  run([file, ...rest], environ) {
    const { runner } = this;
    const program = { running: true, exitCode: null, tail: Buffer.alloc(0) };
    const child = spawn(file, rest, {
      cwd: fs.existsSync(runner.home) ? runner.home : '/',
      detached: true,
      env: { ...process.env, ...environ },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const sink = (data) => {
      runner.console(data);
      program.tail = Buffer.concat([program.tail, data]).subarray(-tailBytes);
    };
    child.stdout.on('data', sink);
    child.stderr.on('data', sink);
    child.on('error', (error) => {
      sink(Buffer.from(`${error.message}\n`));
      Object.assign(program, { running: false, exitCode: 127 });
    });
    child.on('exit', (code, signal) => {
      const exitCode = signal ? 128 + (os.constants.signals[signal] ?? 0) : (code ?? 0);
      // What it wrote last is read with the next turns.
      setTimeout(() => Object.assign(program, { running: false, exitCode }), 20);
    });
    program.pid = child.pid;
    return program;
  }

  state({ name }) {
    const program = this.all.get(name);
    if (!program) return { known: false };
    const { running, exitCode, tail } = program;
    return { known: true, running, exitCode, tail: tail.toString('utf8') };
  }

  stop({ name }) {
    const program = this.all.get(name);
    const signal = (number) => {
      try {
        if (program?.running && program.pid) process.kill(-program.pid, number);
      } catch {
        // it has ended
      }
    };
    signal('SIGTERM');
    setTimeout(() => signal('SIGKILL'), graceMs);
    return {};
  }

  /** The files of a folder of the image, by name and without `.json`. */
  definitions({ folder }) {
    if (typeof folder !== 'string') throw new Refusal('bad-request', 'A folder has a name.');
    const files = {};
    let names = [];
    try {
      names = fs.readdirSync(folder).filter((name) => name.endsWith('.json'));
    } catch {
      // the image has none
    }
    for (const name of names.sort().slice(0, mostFiles)) {
      try {
        files[name.slice(0, -5)] = fs.readFileSync(path.join(folder, name)).subarray(0, fileBytes).toString('utf8');
      } catch {
        // it cannot be read
      }
    }
    return { files };
  }
}

module.exports = { Programs };
