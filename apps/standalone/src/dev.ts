import { firstSignal } from '@backend.ai/runtime';
import { Cluster } from './cluster.ts';

/** `npm run dev`: a cluster from the sources in `.dev/cluster`; sessions survive the restarts that edits cause. */
const signal = firstSignal();
const cluster = await Cluster.start({
  dataDir: new URL('../../../.dev/cluster', import.meta.url).pathname,
  logLevel: 'debug',
  path: process.env.PATH ?? '/usr/bin:/bin',
});
const { endpoint } = cluster.credentials;
console.log(`Cluster at ${endpoint}, data in ${cluster.directory.root}, log in ${cluster.directory.logFile}.`);
console.log(`Use it with: BACKEND_DATA_DIR=${cluster.directory.root} ./backend.ai ps`);
await signal;
await cluster.stop({ keepSessions: true });
