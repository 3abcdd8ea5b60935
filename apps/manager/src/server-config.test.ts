import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ConfigSources, checkConfig, loadConfig, renderReference, renderSample } from '@backend.ai/runtime';
import { afterAll, describe, expect, it } from 'vitest';
import { parseManagerConfig } from './config.ts';
import { managerConfiguration, managerServerOptions } from './server-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'manager-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const sources = (settings: Record<string, string> = {}, env: ConfigSources['env'] = {}): ConfigSources => ({
  env,
  cwd: folder,
  flags: Object.entries(settings).map(([key, text]) => ({ key, text, flag: `--set ${key}` })),
});
const options = (settings: Record<string, string> = {}, env: ConfigSources['env'] = {}) =>
  managerServerOptions(loadConfig(managerConfiguration, sources(settings, env)).values);
const problems = (settings: Record<string, string>) =>
  checkConfig(managerConfiguration, sources(settings)).problems.map(({ message }) => message);

describe('the configuration of a manager', () => {
  it('is described by the sample and the reference in the repository (npm run configs writes them)', () => {
    const read = (file: string): string => readFileSync(join(repository, file), 'utf8');
    expect(read('configs/manager.sample.toml')).toBe(renderSample(managerConfiguration));
    expect(read('docs/config/manager.md')).toBe(renderReference(managerConfiguration));
  });

  it('needs nothing to be set, and has the defaults of a manager anywhere', () => {
    const server = options();
    expect(server).toMatchObject({
      http: { host: '127.0.0.1', port: 8091 },
      rpc: { host: '127.0.0.1', port: 8092 },
      metrics: { host: '127.0.0.1', port: 18_080 },
      identityFile: '/var/lib/backend.ai/manager/keys/manager.pem',
    });
    const { managerId, installationKeyFile, ...rest } = parseManagerConfig(server.config);
    expect({ managerId, installationKeyFile }).toEqual({
      managerId: `m-${hostname()}`,
      installationKeyFile: '/var/lib/backend.ai/manager/keys/installation.key',
    });
    expect({ installationKeyFile, managerId, ...rest }).toEqual(parseManagerConfig({ installationKeyFile, managerId }));
  });

  it('makes one URL of the parts of a database, with what is special in them escaped', () => {
    const { database } = options(
      { 'database.host': '::1', 'database.name': 'a b', 'database.user': 'us/er' },
      { BACKEND_MANAGER_DATABASE_PASSWORD: 'p@ss:w/d' },
    );
    expect(database.url.reveal()).toBe('postgres://us%2Fer:p%40ss%3Aw%2Fd@[::1]:5432/a%20b');
    expect(String(database.url)).toBe('postgres://us%2Fer:***@[::1]:5432/a%20b');
    const whole = options({}, { BACKEND_MANAGER_DATABASE_URL: 'postgresql://u:p@db/x' });
    expect(whole.database.url.reveal()).toBe('postgresql://u:p@db/x');
  });

  it('reads the certificates of private authorities, and refuses those that would not be used', () => {
    const file = join(folder, 'ca.pem');
    writeFileSync(file, 'PEM');
    const { database, redis, etcd } = options(
      {
        ...{ 'database.ca-file': file, 'redis.ca-file': file, 'etcd.ca-file': file },
        'etcd.endpoints': 'https://etcd:2379',
      },
      { BACKEND_MANAGER_REDIS_URL: 'rediss://redis:6379' },
    );
    expect([database.ca, redis.ca, etcd.ca]).toEqual(['PEM', 'PEM', 'PEM']);
    expect(options()).toMatchObject({ database: { ca: undefined }, redis: { ca: undefined }, etcd: { ca: undefined } });
    expect(problems({ 'redis.ca-file': file, 'etcd.ca-file': file })).toEqual([
      'redis.ca-file is of use with a rediss:// URL only',
      'etcd.ca-file is of use with https:// endpoints only',
    ]);
  });

  it('demands TLS for agents off loopback, both of its files, and reads them', () => {
    expect(problems({ 'rpc.host': '0.0.0.0' })).toEqual([
      'rpc.host is 0.0.0.0: off loopback, tls-cert-file and tls-key-file are mandatory',
    ]);
    writeFileSync(join(folder, 'cert.pem'), 'CERT');
    writeFileSync(join(folder, 'key.pem'), 'KEY');
    const files = { 'rpc.host': '0.0.0.0', 'rpc.tls-cert-file': 'cert.pem', 'rpc.tls-key-file': 'key.pem' };
    expect(options(files).rpc).toMatchObject({ tls: { cert: 'CERT', key: 'KEY' } });
    expect(problems({ 'rpc.tls-cert-file': 'cert.pem' })).toEqual(['rpc.tls-key-file is needed beside tls-cert-file']);
    expect(problems({ ...files, 'rpc.tls-key-file': 'gone.pem' })).toEqual([
      'rpc.tls-key-file names gone.pem, which cannot be read (ENOENT)',
    ]);
  });

  it('is checked where settings depend on each other', () => {
    expect(problems({ 'scheduler.heartbeat-ms': '10000' })).toEqual([
      'scheduler.agent-lost-after-ms is 15000: it takes at least twice heartbeat-ms',
    ]);
    expect(problems({ 'logging.levels': 'htp=debug' })[0]).toMatch(
      /^logging.levels takes a table of http, rpc, scheduler, each/,
    );
    expect(problems({ 'scheduler.deadlines-ms': 'PULING=1' })[0]).toContain('scheduler.deadlines-ms takes a table');
  });
});
