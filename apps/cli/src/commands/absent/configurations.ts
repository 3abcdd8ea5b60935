import {
  type ConfigDefinition,
  caFile,
  checkRedis,
  checkTlsListener,
  databaseSection,
  defineConfig,
  host,
  loggingSection,
  metricsSection,
  path,
  port,
  redisSection,
  secret,
  tlsListener,
  url,
} from '@backend.ai/runtime';
import { z } from 'zod';

/**
 * Where components that are not there yet will listen and whom they will call: what operators open in firewalls and
 * prepare on servers. Each moves to its app when that comes, and gets the settings of what it does there.
 */

const id = (prefix: string) =>
  z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/)
    .optional()
    .meta({ description: `Name among its like. Unset: ${prefix}- and the name of the host`, example: `${prefix}-1` });

const joinToken = (issuer: string) =>
  secret()
    .optional()
    .meta({ description: `Single-use, for the first connection ever; made by the ${issuer}`, example: 'change me' });

const dataDir = (name: string) =>
  path().default(`/var/lib/backend.ai/${name}`).describe('Folder of its keys. Nothing else may lie there');

const plainListener = (defaultPort: number) => ({
  host: host().default('127.0.0.1').describe('Address to listen on. Put a reverse proxy with TLS before it'),
  port: port().default(defaultPort).describe('Port to listen on; 0 takes any free one'),
});

const storageSections = {
  storageProxy: z
    .strictObject({ id: id('s'), dataDir: dataDir('storage-proxy') })
    .describe('The storage proxy itself.'),
  client: z.strictObject(tlsListener(6021)).describe('Where users upload and download.'),
  rpc: z.strictObject(tlsListener(6022)).describe('Where managers reach it.'),
  manager: z
    .strictObject({
      address: url('http', 'https').prefault('http://127.0.0.1:8092').describe('RPC address of a manager'),
      caFile: caFile(),
      joinToken: joinToken('manager'),
    })
    .describe('Where the manager is and how to know it.'),
  metrics: metricsSection(16_023),
  logging: loggingSection('client', 'rpc'),
};

/** `configs/storage-proxy.toml`. */
export const storageConfiguration: ConfigDefinition<typeof storageSections> = defineConfig({
  component: 'storage-proxy',
  command: 'storage',
  purpose: 'Serves virtual folders. Not part of this version: these are its addresses.',
  sections: storageSections,
  check({ client, rpc }, say) {
    checkTlsListener('client', client, say);
    checkTlsListener('rpc', rpc, say);
  },
});

const webSections = {
  http: z.strictObject(plainListener(8090)).describe('Where browsers come to.'),
  manager: z
    .strictObject({
      endpoint: url('http', 'https').prefault('http://127.0.0.1:8091').describe('The public API of the managers'),
      caFile: caFile(),
    })
    .describe('Where the manager is.'),
  redis: redisSection('logins of browsers'),
  metrics: metricsSection(18_090),
  logging: loggingSection('http'),
};

/** `configs/web.toml`. */
export const webConfiguration: ConfigDefinition<typeof webSections> = defineConfig({
  component: 'web',
  command: 'web',
  purpose: 'Hosts the pages of users and administrators. Not part of this version: these are its addresses.',
  sections: webSections,
  check: ({ redis }, say) => checkRedis(redis, say),
});

const coordinatorSections = {
  coordinator: z.strictObject({ dataDir: dataDir('app-proxy-coordinator') }).describe('The coordinator itself.'),
  rpc: z.strictObject(tlsListener(10_200)).describe('Where managers and workers come to.'),
  database: databaseSection('appproxy'),
  redis: redisSection('events between coordinator and workers'),
  metrics: metricsSection(18_200),
  logging: loggingSection('rpc'),
};

/** `configs/app-proxy-coordinator.toml`. */
export const coordinatorConfiguration: ConfigDefinition<typeof coordinatorSections> = defineConfig({
  component: 'app-proxy-coordinator',
  command: 'app-proxy-coordinator',
  purpose: 'Decides which worker serves which app of a session. Not part of this version: these are its addresses.',
  sections: coordinatorSections,
  check({ rpc, redis }, say) {
    checkTlsListener('rpc', rpc, say);
    checkRedis(redis, say);
  },
});

const workerSections = {
  worker: z.strictObject({ id: id('w'), dataDir: dataDir('app-proxy-worker') }).describe('The worker itself.'),
  rpc: z.strictObject(tlsListener(10_201)).describe('Where the coordinator reaches it.'),
  traffic: z
    .strictObject({
      host: host().default('127.0.0.1').describe('Address on which apps of sessions are served'),
      firstPort: port().min(1).default(10_205).describe('First port for apps that have one of their own'),
      lastPort: port().min(1).default(10_300).describe('Last such port'),
    })
    .describe('Where users reach the apps of their sessions.'),
  coordinator: z
    .strictObject({
      address: url('ws', 'wss').prefault('ws://127.0.0.1:10200').describe('RPC address of the coordinator'),
      joinToken: joinToken('coordinator'),
    })
    .describe('Where the coordinator is and how to know it.'),
  redis: redisSection('events between coordinator and workers'),
  metrics: metricsSection(18_201),
  logging: loggingSection('rpc', 'traffic'),
};

/** `configs/app-proxy-worker.toml`. */
export const workerConfiguration: ConfigDefinition<typeof workerSections> = defineConfig({
  component: 'app-proxy-worker',
  command: 'app-proxy-worker',
  purpose: 'Carries traffic to the apps of sessions. Not part of this version: these are its addresses.',
  sections: workerSections,
  check({ rpc, redis, traffic }, say) {
    checkTlsListener('rpc', rpc, say);
    checkRedis(redis, say);
    if (traffic.firstPort > traffic.lastPort) say('traffic.last-port', 'is below first-port');
  },
});
