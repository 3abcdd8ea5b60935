/**
 * The thread in which PGlite lives: PostgreSQL's wire protocol in, the same out, one message at a time.
 *
 * Plain JavaScript and outside of src, so that one file serves sources, the build and bundles alike: worker threads do
 * not inherit TypeScript loaders. It imports nothing but PGlite and Node.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@electric-sql/pglite';

const port = parentPort;
let last = start();

port.on('message', (message) => {
  last = last.then(() => (message === 'close' ? stop() : answer(message)));
});

let database;

async function start() {
  try {
    const { dataDir, program = await compile() } = workerData;
    database = await PGlite.create({ pgliteWasmModule: program, ...(dataDir === null ? {} : { dataDir }) });
    port.postMessage({ ready: program });
  } catch (error) {
    fail(error);
  }
}

/** In bundles the program lies next to this file. */
async function compile() {
  const beside = new URL('./pglite.wasm', import.meta.url);
  const file = existsSync(beside) ? beside : new URL('./pglite.wasm', import.meta.resolve('@electric-sql/pglite'));
  return await WebAssembly.compile(await readFile(file));
}

async function answer(request) {
  try {
    const reply = await database.execProtocolRaw(request);
    // A view would be cloned with all of the memory behind it.
    const whole = reply.byteLength === reply.buffer.byteLength ? reply : reply.slice();
    port.postMessage(whole, [whole.buffer]);
  } catch (error) {
    fail(error);
  }
}

/** SQL errors travel inside the protocol; what arrives here means that the engine itself broke. */
function fail(error) {
  port.postMessage({ failure: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  port.close();
}

async function stop() {
  try {
    await database.close();
    port.postMessage('closed');
  } catch (error) {
    fail(error);
  }
  port.close();
}
