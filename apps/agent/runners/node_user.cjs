'use strict';
/**
 * The process that runs the user's interactive JavaScript on its main thread.
 *
 * Code is evaluated by the debugger's REPL mode: declarations persist and may be repeated, `await` works at top level.
 * Descriptors: 1 and 2 output, 3 the line to the supervisor, 4 and 5 spares of 1 and 2, 6 acknowledgements.
 */
const fs = require('node:fs');
const inspector = require('node:inspector');
const { createRequire } = require('node:module');
const net = require('node:net');
const path = require('node:path');
const stream = require('node:stream');
const util = require('node:util');
const vm = require('node:vm');

const control = 3;
const spares = { 1: 4, 2: 5 };
const acknowledgements = 6;
const interrupted = Symbol('interrupted');

// Output

const nap = new Int32Array(new SharedArrayBuffer(4));

function writeAll(fd, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(fd, data, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(nap, 0, 0, 1);
    }
  }
}

/** The newline in front ends what an interrupt may have cut short. */
function send(message) {
  writeAll(control, Buffer.from(`\n${JSON.stringify(message)}\n`));
}

let lastWritten = 0;
let afterInterrupt = false;

/**
 * stdout and stderr keep their order: before one speaks after the other, the supervisor reads what the other said.
 * Written past the machinery of streams, because an interrupt may come in the middle and would leave that stuck.
 */
class Output extends stream.Writable {
  constructor(fd) {
    super();
    this.fd = fd;
    this._type = 'pipe';
  }

  write(chunk, encoding, callback) {
    const done = typeof encoding === 'function' ? encoding : callback;
    try {
      const data =
        typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk;
      if (lastWritten !== this.fd && lastWritten !== 0) {
        send({ k: 'sync' });
        fs.readSync(acknowledgements, Buffer.alloc(1));
      }
      lastWritten = this.fd;
      writeAll(this.fd, data);
    } catch (error) {
      if (error instanceof TypeError) throw error;
      // The user closed the descriptor: what is printed there is lost.
    }
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }

  _write(chunk, encoding, done) {
    this.write(chunk, encoding);
    done();
  }

  _destroy(_error, done) {
    done();
  }
}

function identity(fd) {
  try {
    const { dev, ino } = fs.fstatSync(fd);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

function install() {
  for (const [fd, name] of [
    [1, 'stdout'],
    [2, 'stderr'],
  ]) {
    const present = Object.getOwnPropertyDescriptor(process, name)?.value;
    if (present instanceof stream.Writable && !present.destroyed && !present.writableEnded) continue;
    Object.defineProperty(process, name, {
      value: new Output(fd),
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }
}

/** Descriptors are given out from below: opening the spare again fills the gap that a close left. */
function repair() {
  if (identity(0) === undefined) fs.openSync('/dev/null', 'r');
  for (const fd of [1, 2]) {
    if (identity(fd) === identity(spares[fd])) continue;
    try {
      fs.closeSync(fd);
    } catch {
      // it was closed already
    }
    fs.openSync(`/proc/self/fd/${spares[fd]}`, 'w');
  }
  forgetAcknowledgements();
  install();
}

/** One that came after its writer was interrupted would let the next writer through too early. */
function forgetAcknowledgements() {
  if (!afterInterrupt) return;
  afterInterrupt = false;
  const fd = fs.openSync(`/proc/self/fd/${acknowledgements}`, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  try {
    while (fs.readSync(fd, Buffer.alloc(64)) > 0);
  } catch {
    // there is none
  }
  fs.closeSync(fd);
}

// Input

let question;

function ask(password) {
  send({ k: 'input', password });
  return new Promise((resolve) => {
    question = resolve;
  });
}

class Input extends stream.Readable {
  constructor() {
    super({ encoding: 'utf8' });
    this.fd = 0;
  }

  _read() {
    void ask(false).then((text) => this.push(text === null ? null : text.endsWith('\n') ? text : `${text}\n`));
  }

  setRawMode() {
    return this;
  }
}

async function input(prompt = '', { password = false } = {}) {
  process.stdout.write(String(prompt));
  const text = await ask(password);
  if (text === null) throw new Error('There is no more input.');
  return text.replace(/\r?\n$/, '');
}

// Evaluation

const session = new inspector.Session();
session.connect();

function post(method, parameters) {
  return new Promise((resolve, reject) =>
    session.post(method, parameters, (error, result) => (error ? reject(error) : resolve(result))),
  );
}

let enter;
const gate = vm.runInThisContext('(function runner(enter) { return enter(); })');
const guarded = new vm.Script('globalThis[Symbol.for("kernel-runner.gate")]()');
const gateKey = Symbol.for('kernel-runner.gate');
Object.defineProperty(globalThis, gateKey, { value: () => gate(enter), enumerable: false });
let abandon;

/** The synchronous part ends at SIGINT; a pending `await` is abandoned by the handler below. */
function evaluate(expression) {
  return new Promise((resolve) => {
    abandon = () => resolve({ thrown: interrupted });
    enter = () => {
      session.post(
        'Runtime.evaluate',
        { expression, replMode: true, awaitPromise: false, objectGroup: 'run', includeCommandLineAPI: false },
        (error, answer) => resolve(error ? { thrown: new Error(error.message) } : { answer }),
      );
    };
    try {
      guarded.runInThisContext({ breakOnSigint: true });
    } catch (error) {
      resolve({ thrown: error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED' ? interrupted : error });
    }
  });
}

/** The value behind a handle of the debugger. */
async function unwrap(remote) {
  if (!remote.objectId) return remote.value;
  const key = 'kernel-runner.value';
  await post('Runtime.callFunctionOn', {
    objectId: remote.objectId,
    functionDeclaration: `function (v) { globalThis[Symbol.for('${key}')] = v; }`,
    arguments: [{ objectId: remote.objectId }],
  });
  const found = globalThis[Symbol.for(key)];
  delete globalThis[Symbol.for(key)];
  return found;
}

function describeError(thrown) {
  if (!util.types.isNativeError(thrown)) return `Uncaught ${util.inspect(thrown)}`;
  const lines = util.inspect(thrown).split('\n');
  const ours = lines.findIndex((line) => /^\s+at (Session\.post|new Promise|enter|evaluate) /.test(line));
  const rest = ours < 0 ? [] : lines.slice(ours).filter((line) => !/^\s+at /.test(line));
  return [...(ours < 0 ? lines : lines.slice(0, ours)), ...rest].join('\n');
}

/** REPL evaluation has no loader for import(): it is sent to one that resolves from the home folder. */
function withImport(code) {
  return code.replace(/(^|[^\w$.'"`])import(?=\s*\()/g, '$1__import__');
}

async function run(code) {
  repair();
  const { answer, thrown } = await evaluate(`${withImport(code)}\n//# sourceURL=<input>`);
  let exitCode = 0;
  if (thrown === interrupted) {
    afterInterrupt = true;
    process.stderr.write('Interrupted\n');
    exitCode = 130;
  } else if (thrown !== undefined || answer.exceptionDetails) {
    const remote = answer?.exceptionDetails.exception;
    process.stderr.write(`${describeError(thrown ?? (remote ? await unwrap(remote) : undefined))}\n`);
    exitCode = 1;
  } else if (answer.result.type !== 'undefined') {
    await show(answer.result);
  }
  // Without handles there is nothing to release. What an abandoned `await` gives may come before or after this.
  if (answer?.result.objectId || answer?.exceptionDetails || thrown === interrupted) {
    session.post('Runtime.releaseObjectGroup', { objectGroup: 'run' });
  }
  return exitCode;
}

async function show(remote) {
  if (!remote.objectId) {
    const text = remote.unserializableValue ?? util.inspect(remote.value);
    process.stdout.write(`${text}\n`);
    return;
  }
  const result = remote.type === 'symbol' ? remote.description : await unwrap(remote);
  for (const [method, type, mime] of [
    ['_repr_png_', 'media', 'image/png'],
    ['_repr_svg_', 'svg'],
    ['_repr_html_', 'html'],
  ]) {
    if (typeof result?.[method] !== 'function') continue;
    const data = await result[method]();
    const text = Buffer.isBuffer(data) || data instanceof Uint8Array ? Buffer.from(data).toString('base64') : data;
    if (typeof text === 'string') return send({ k: 'rich', type, data: text, mime });
  }
  process.stdout.write(`${remote.type === 'symbol' ? result : util.inspect(result)}\n`);
}

const keywords =
  'async await break case catch class const continue debugger default delete do else export extends false finally for function if import in instanceof let new null of return static super switch this throw true try typeof undefined var void while with yield'.split(
    ' ',
  );

async function complete(code) {
  const [word] = /[\w$.]*$/.exec(code);
  const dot = word.lastIndexOf('.');
  const [base, prefix] = dot < 0 ? ['', word] : [word.slice(0, dot), word.slice(dot + 1)];
  let names;
  if (dot < 0) {
    const lexical = await post('Runtime.globalLexicalScopeNames', {});
    names = [...keywords, ...lexical.names, ...allNames(globalThis)];
  } else {
    const objectGroup = 'completion';
    const { result, exceptionDetails } = await post('Runtime.evaluate', {
      expression: base,
      throwOnSideEffect: true,
      silent: true,
      objectGroup,
    });
    try {
      if (exceptionDetails) return [];
      const found = result.unserializableValue ? 0 : await unwrap(result);
      names = found === undefined || found === null ? [] : allNames(Object(found));
    } finally {
      session.post('Runtime.releaseObjectGroup', { objectGroup });
    }
  }
  const lead = dot < 0 ? '' : `${base}.`;
  return [...new Set(names)]
    .filter((name) => name.startsWith(prefix) && /^[\p{L}_$][\p{L}\p{N}_$]*$/u.test(name))
    .sort()
    .slice(0, 1000)
    .map((name) => lead + name);
}

function allNames(object) {
  const names = [];
  for (let each = object; each; each = Object.getPrototypeOf(each)) names.push(...Object.getOwnPropertyNames(each));
  return names;
}

// The line to the supervisor

async function handle(message) {
  if (message.op === 'execute') {
    send({ k: 'done', code: await run(message.code) });
  } else if (message.op === 'input') {
    const answer = question;
    question = undefined;
    answer?.(message.eof && !message.text ? null : message.text);
  } else if (message.op === 'complete') {
    let found = [];
    try {
      found = await complete(message.code);
    } catch {
      // nothing to offer
    }
    send({ k: 'completions', number: message.number, found });
  }
}

function main() {
  const home = process.cwd();
  Object.defineProperty(process, 'stdin', { value: new Input(), configurable: true, enumerable: true, writable: true });
  install();
  globalThis.console = new console.Console({ stdout: process.stdout, stderr: process.stderr });
  const from = path.join(home, 'input.js');
  globalThis.require = createRequire(from);
  globalThis.__import__ = vm.runInThisContext('(specifier, options) => import(specifier, options)', {
    filename: from,
    importModuleDynamically: vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER ?? ((specifier) => import(specifier)),
  });
  globalThis.input = input;
  const warn = process.emitWarning;
  process.emitWarning = (warning, ...rest) => {
    // About the loader above, which is no business of the user.
    if (!String(warning).includes('USE_MAIN_CONTEXT_DEFAULT_LOADER')) warn.call(process, warning, ...rest);
  };
  for (const name of ['require', '__import__', 'input', 'console']) {
    Object.defineProperty(globalThis, name, { enumerable: false });
  }
  process.argv.length = 1;
  process.on('SIGINT', () => abandon?.());
  process.on('SIGTERM', () => {});
  process.on('SIGHUP', () => {});
  for (const name of ['uncaughtException', 'unhandledRejection']) {
    process.on(name, (error) => process.stderr.write(`${describeError(error)}\n`));
  }
  const line = new net.Socket({ fd: control, readable: true, writable: false, allowHalfOpen: true });
  let held = '';
  line.setEncoding('utf8');
  line.on('data', (text) => {
    const lines = (held + text).split('\n');
    held = lines.pop();
    for (const each of lines) void handle(JSON.parse(each));
  });
  line.on('end', () => process.exit(0));
  line.on('error', () => process.exit(0));
}

main();
