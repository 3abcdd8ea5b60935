import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { explain, parsePort, writeError } from '@backend.ai/cli-kit';
import { AppError, hasCode, newRequestId } from '@backend.ai/core';
import { firstSignal } from '@backend.ai/runtime';
import { runWithRequest } from '@backend.ai/telemetry';
import { Cluster } from './cluster.ts';
import { defaultPort } from './config.ts';

interface DevOptions {
  readonly port: number;
  readonly dataDir: string;
}

/** @throws AppError `invalid-input` */
function parseOptions(args: readonly string[]): DevOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        port: { type: 'string', default: String(defaultPort) },
        'data-dir': { type: 'string', default: new URL('../../../.dev/cluster', import.meta.url).pathname },
      },
    });
    return { port: parsePort('--port', values.port), dataDir: resolve(values['data-dir']) };
  } catch (cause) {
    const hint = 'Usage: npm run dev -- [--port N] [--data-dir PATH]';
    throw new AppError('invalid-input', (cause as Error).message, { hint, cause });
  }
}

/** `npm run dev`: a cluster from the sources in `.dev/cluster`; sessions survive the restarts that edits cause. */
async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  const signal = firstSignal();
  const cluster = await Cluster.start({
    ...options,
    logLevel: 'debug',
    path: process.env.PATH ?? '/usr/bin:/bin',
  }).catch((cause: unknown) => {
    if (!hasCode(cause, 'port-in-use')) throw cause;
    const hint = 'Stop what uses it, or choose another one: npm run dev -- --port N (0: any)';
    throw new AppError('port-in-use', cause.message, { hint, cause });
  });
  const { endpoint } = cluster.credentials;
  console.log(`Cluster at ${endpoint}, data in ${cluster.directory.root}, log in ${cluster.directory.logFile}.`);
  console.log(`Use it with: BACKEND_DATA_DIR=${cluster.directory.root} ./backend.ai ps`);
  await signal;
  await cluster.stop({ keepSessions: true });
}

const requestId = newRequestId();
runWithRequest({ requestId }, main).catch((thrown: unknown) => {
  writeError(process.stderr, explain(thrown, process.env), requestId);
  process.exitCode = 1;
});
