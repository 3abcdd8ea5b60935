import { hostname } from 'node:os';
import { join } from 'node:path';
import { idOfHost, Secret } from '@backend.ai/core';
import type { ListenOptions } from '@backend.ai/rpc';
import {
  type ConfigDefinition,
  type ConfigValues,
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
  readPem,
  readTlsFiles,
  redisSection,
  secret,
  tlsListener,
  url,
} from '@backend.ai/runtime';
import { z } from 'zod';
import { type ManagerConfigInput, managerConfigSchema } from './config.ts';
import type { HttpServerOptions } from './http/server.ts';

/** Meanings, limits and defaults of what both a server and an embedded cluster know are those of `config.ts`. */
const known = managerConfigSchema.shape;
const ms = 'milliseconds';
const sections = {
  manager: z
    .strictObject({
      id: known.managerId.unwrap().optional().meta({
        description: 'Name of this manager, different for each. Unset: m- and the name of the host',
        example: 'm-1',
      }),
      dataDir: path()
        .default('/var/lib/backend.ai/manager')
        .describe('Folder of this manager: its keys, and the socket for commands on this machine'),
      adminEmail: known.adminEmail.describe('Of the first administrator, made with an empty database'),
      stopDeadlineMs: known.stopDeadlineMs.meta({ description: 'All of stopping may take this long', unit: ms }),
    })
    .describe('The manager itself.'),
  http: z
    .strictObject({
      host: host().default('127.0.0.1').describe('Address to listen on. Put a reverse proxy with TLS before it'),
      port: port().default(8091).describe('Port to listen on; 0 takes any free one'),
      pathPrefix: z
        .string()
        .regex(/^\/\S*[^/\s]$/)
        .optional()
        .meta({
          description: 'Path under which a reverse proxy offers the API',
          example: '/api',
          expected: 'a path such as /api',
        }),
      trustProxy: z
        .array(z.string().min(1))
        .default([])
        .meta({
          description: 'Addresses and networks of reverse proxies whose X-Forwarded-* headers are believed',
          example: ['10.0.0.0/8'],
        }),
      keypairCacheMs: known.keypairCacheMs.meta({ description: 'How long a looked-up key pair is believed', unit: ms }),
    })
    .describe('The public API: REST and RPC for users.'),
  rpc: z.strictObject(tlsListener(8092)).describe('Where agents come to.'),
  metrics: metricsSection(18_080),
  database: databaseSection('backend'),
  redis: redisSection('events and values that may be lost'),
  etcd: z
    .strictObject({
      endpoints: z.array(url('http', 'https')).min(1).default(['http://127.0.0.1:2379']).describe('All members'),
      user: z.string().min(1).optional().meta({ description: 'Name to log in with', example: 'backend' }),
      password: secret().optional().meta({ description: 'To log in with', example: 'change me' }),
      caFile: caFile(),
      namespace: z
        .string()
        .regex(/^\/?[A-Za-z0-9._/-]+$/)
        .default('/backend.ai')
        .describe('Before all keys; managers of one installation have the same'),
    })
    .describe('etcd 3.4 or later, which holds settings and elects the leader.'),
  keys: z
    .strictObject({
      identityFile: path()
        .optional()
        .meta({
          description:
            'Private key with which this manager proves itself to agents; made at the first start. ' +
            'Unset: keys/manager.pem in the data folder',
          example: '/var/lib/backend.ai/manager/keys/manager.pem',
        }),
      installationKeyFile: path()
        .optional()
        .meta({
          description:
            'Keys under which secrets in the database are encrypted; one is made at the first start. All managers of one ' +
            'installation need the same: copy the file. It is read every few seconds; replaced by mgr installation-key. ' +
            'Unset: keys/installation.key in the data folder',
          example: '/var/lib/backend.ai/manager/keys/installation.key',
        }),
    })
    .describe('Files with keys, readable by their owner only.'),
  scheduler: z
    .strictObject({
      tickMs: known.tickMs.meta({ description: 'Changes are acted on at once; this often without one', unit: ms }),
      leaderTtlMs: known.leaderTtlMs.meta({
        description: 'Another manager leads this long after a leader fell silent',
        unit: ms,
      }),
      heartbeatMs: known.heartbeatMs.meta({ description: 'How often agents tell how they are', unit: ms }),
      agentLostAfterMs: known.agentLostAfterMs.meta({
        description: 'An agent not heard of for longer is LOST and gets nothing new. At least twice heartbeat-ms',
        unit: ms,
      }),
      agentLostGraceMs: known.agentLostGraceMs.meta({
        description: 'Sessions on an agent that stays LOST for longer are given up',
        unit: ms,
      }),
      orderDeadlineMs: known.orderDeadlineMs.meta({
        description: 'How long an agent may take to answer an order',
        unit: ms,
      }),
      askAgainMs: known.askAgainMs.meta({
        description: 'An order without an answer is asked about after this',
        unit: ms,
      }),
      refusalBackoffMs: known.refusalBackoffMs.meta({
        description: 'First wait before an agent that refused is asked again',
        unit: ms,
      }),
      refusalBackoffMaxMs: known.refusalBackoffMaxMs.meta({ description: 'Longest such wait', unit: ms }),
      deadlinesMs: known.deadlinesMs.meta({
        description: 'How long sessions may stay in a transient state, where another time than the usual is wanted',
        unit: ms,
        example: { PULLING: 7_200_000 },
      }),
    })
    .describe('How sessions find agents and what happens when agents fall silent. Of use to few.'),
  sessions: z
    .strictObject({
      allowPrivateCallbacks: known.allowPrivateCallbacks.describe(
        'Whether callback URLs of sessions may lead to this machine and its networks, as well as to metadata services. ' +
          'Users could reach with it what only this machine should',
      ),
      callbackTimeoutMs: known.callbackTimeoutMs.meta({
        description: 'How long the receiver of a callback may take to answer',
        unit: ms,
      }),
    })
    .describe('What users may ask of sessions.'),
  images: z
    .strictObject({
      pullPolicy: known.imagePullPolicy.describe(
        'When agents fetch images that registries have: digest (absent or another one), tag (absent), none (never)',
      ),
      registryTimeoutMs: known.registryTimeoutMs.meta({
        description: 'How long a registry may take for one answer',
        unit: ms,
      }),
    })
    .describe('Container images.'),
  logging: loggingSection('http', 'rpc', 'scheduler'),
};

type ManagerValues = ConfigValues<typeof sections>;

/** `configs/manager.toml`. */
export const managerConfiguration: ConfigDefinition<typeof sections> = defineConfig({
  component: 'manager',
  command: 'mgr',
  purpose: 'The hub: public API, sessions, scheduling, agents.',
  sections,
  check({ rpc, scheduler, redis, etcd }, say) {
    checkRedis(redis, say);
    if (etcd.caFile !== undefined && !etcd.endpoints.every((endpoint) => endpoint.startsWith('https:'))) {
      say('etcd.ca-file', 'is of use with https:// endpoints only');
    }
    checkTlsListener('rpc', rpc, say);
    if (scheduler.agentLostAfterMs < 2 * scheduler.heartbeatMs) {
      say('scheduler.agent-lost-after-ms', `is ${scheduler.agentLostAfterMs}: it takes at least twice heartbeat-ms`);
    }
    if (etcd.user === undefined && etcd.password !== undefined) say('etcd.user', 'is needed beside a password');
  },
});

/** What a manager process is built from. */
export interface ManagerServerOptions {
  readonly config: ManagerConfigInput;
  readonly http: Omit<HttpServerOptions, 'version'>;
  readonly rpc: ListenOptions;
  readonly metrics: { readonly host: string; readonly port: number };
  readonly database: { readonly url: Secret; readonly ca?: string | undefined; readonly maxConnections: number };
  readonly redis: { readonly url: Secret; readonly ca?: string | undefined };
  readonly etcd: {
    readonly endpoints: readonly string[];
    readonly user: string | undefined;
    readonly password: Secret | undefined;
    readonly ca?: string | undefined;
    readonly namespace: string;
  };
  readonly identityFile: string;
  /** Folder of the admin socket. */
  readonly runDir: string;
}

/** Settings that follow from others and from the machine unless they are set. */
export function derivedManagerSettings({ manager, keys }: Pick<ManagerValues, 'manager' | 'keys'>): {
  readonly [key in 'manager.id' | 'keys.identity-file' | 'keys.installation-key-file']: string;
} {
  return {
    'manager.id': manager.id ?? idOfHost('manager', hostname()),
    'keys.identity-file': keys.identityFile ?? join(manager.dataDir, 'keys', 'manager.pem'),
    'keys.installation-key-file': keys.installationKeyFile ?? join(manager.dataDir, 'keys', 'installation.key'),
  };
}

/** @throws AppError `config-invalid` for TLS files that cannot be read */
export function managerServerOptions(values: ManagerValues): ManagerServerOptions {
  const { manager, http, rpc, metrics, database, redis, etcd, scheduler, sessions, images } = values;
  const tls = readTlsFiles(rpc.tlsCertFile, rpc.tlsKeyFile);
  const derived = derivedManagerSettings(values);
  return {
    config: {
      managerId: derived['manager.id'],
      installationKeyFile: derived['keys.installation-key-file'],
      adminEmail: manager.adminEmail,
      stopDeadlineMs: manager.stopDeadlineMs,
      imagePullPolicy: images.pullPolicy,
      registryTimeoutMs: images.registryTimeoutMs,
      keypairCacheMs: http.keypairCacheMs,
      ...scheduler,
      ...sessions,
    },
    http: {
      host: http.host,
      port: http.port,
      ...(http.pathPrefix === undefined ? {} : { pathPrefix: http.pathPrefix }),
      ...(http.trustProxy.length === 0 ? {} : { trustProxy: http.trustProxy }),
    },
    rpc: { host: rpc.host, port: rpc.port, ...(tls === undefined ? {} : { tls }) },
    metrics,
    database: {
      url: database.url ?? databaseUrl(database),
      ca: readPem(database.caFile),
      maxConnections: database.poolSize,
    },
    redis: { url: redis.url, ca: readPem(redis.caFile) },
    etcd: {
      ...{ endpoints: etcd.endpoints, user: etcd.user, password: etcd.password, namespace: etcd.namespace },
      ca: readPem(etcd.caFile),
    },
    identityFile: derived['keys.identity-file'],
    runDir: join(manager.dataDir, 'run'),
  };
}

function databaseUrl({ host: server, port: number, name, user, password }: ManagerValues['database']): Secret {
  const login = [user, ...(password ? [password.reveal()] : [])].map(encodeURIComponent).join(':');
  const shownHost = server.includes(':') ? `[${server}]` : server;
  return Secret.url(`postgres://${login}@${shownHost}:${number}/${encodeURIComponent(name)}`);
}
