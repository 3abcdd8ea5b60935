/**
 * The thread in which PGlite lives: PostgreSQL's wire protocol in, the same out, one message at a time.
 *
 * Plain JavaScript and outside of src, so that one file serves sources, the build and bundles alike: worker threads do
 * not inherit TypeScript loaders. It imports nothing but PGlite.
 */
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
    database = await PGlite.create(workerData.dataDir === null ? {} : { dataDir: workerData.dataDir });
    port.postMessage('ready');
  } catch (error) {
    fail(error);
  }
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
