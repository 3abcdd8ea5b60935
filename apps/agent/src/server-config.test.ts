import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ConfigSources, checkConfig, loadConfig, renderReference, renderSample } from '@backend.ai/runtime';
import { afterAll, describe, expect, it } from 'vitest';
import { parseAgentConfig } from './config.ts';
import { agentConfiguration, agentServerOptions, derivedAgentSettings } from './server-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'agent-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const sources = (settings: Record<string, string> = {}): ConfigSources => ({
  env: {},
  cwd: folder,
  flags: Object.entries(settings).map(([key, text]) => ({ key, text, flag: `--set ${key}` })),
});
const options = (settings: Record<string, string> = {}) =>
  agentServerOptions(loadConfig(agentConfiguration, sources(settings)).values, '/usr/bin');
const problems = (settings: Record<string, string>) =>
  checkConfig(agentConfiguration, sources(settings)).problems.map(({ message }) => message);

describe('the configuration of an agent', () => {
  it('is described by the sample and the reference in the repository (npm run configs writes them)', () => {
    const read = (file: string): string => readFileSync(join(repository, file), 'utf8');
    expect(read('configs/agent.sample.toml')).toBe(renderSample(agentConfiguration));
    expect(read('docs/config/agent.md')).toBe(renderReference(agentConfiguration));
  });

  it('needs nothing to be set, and has the defaults of an agent anywhere', () => {
    const server = options();
    const { agentId, dataDir, ...rest } = parseAgentConfig(server.agent);
    expect({ agentId, dataDir }).toEqual({ agentId: `i-${hostname()}`, dataDir: '/var/lib/backend.ai/agent/data' });
    const listeners = {
      managers: ['ws://127.0.0.1:8092'],
      rpc: { host: '127.0.0.1', port: 6011 },
      dataPort: { host: '127.0.0.1', port: 6012 },
      path: '/usr/bin',
    };
    expect({ agentId, dataDir, ...rest }).toEqual(parseAgentConfig({ agentId, dataDir, ...listeners }));
    expect(server.metrics.port).toBe(6003);
  });

  it('takes its join token from a file', () => {
    writeFileSync(join(folder, 'token'), 'the-token\n', { mode: 0o600 });
    expect(options({ 'manager.join-token-file': 'token' }).agent.joinToken).toBe('the-token');
  });

  it('offers amounts as people write them', () => {
    expect(options({ 'resources.slots': 'cpu=2,mem=1.5g' }).agent.slots).toEqual({ cpu: '2', mem: '1610612736' });
    expect(options({ 'resources.reserved-mem': '2g', 'resources.reserved-cpu': '2' }).agent.reserve).toEqual({
      cpus: 2,
      memoryBytes: 2 * 1024 ** 3,
    });
    expect(
      options({ 'accelerators.plugins': 'mock', 'accelerators.settings': 'mock.devices-file=/m.toml' }).agent,
    ).toMatchObject({
      accelerators: { plugins: ['mock'], settings: { 'mock.devices-file': '/m.toml' } },
    });
    expect(problems({ 'resources.reserved-mem': 'much' })[0]).toContain(
      'resources.reserved-mem takes a size such as "1g"',
    );
    expect(problems({ 'resources.slots': 'cpu=many' })).toEqual([
      'resources.slots takes a table such as { cpu = 4, mem = "8g" }, not {"cpu":"many"}',
    ]);
  });

  it('tells what is taken for a name and a socket that are not set', () => {
    const { values } = loadConfig(agentConfiguration, sources());
    expect(derivedAgentSettings(values)).toEqual({
      'agent.id': `i-${hostname()}`,
      'docker.socket': expect.stringMatching(/^\/.*\.sock$/),
    });
  });

  it('demands TLS on the way to managers and from them off loopback', () => {
    expect(problems({ 'manager.addresses': 'ws://127.0.0.1:1,ws://[::1]:1,wss://m:1,ws://m:1' })).toEqual([
      'manager.addresses has ws://m:1: off loopback, TLS is mandatory (wss://)',
    ]);
    expect(
      problems({ 'rpc.host': '10.0.0.1', 'data-port.host': '10.0.0.1', 'sandbox.allow-unisolated': 'true' }),
    ).toEqual([
      'rpc.host is 10.0.0.1: off loopback, tls-cert-file and tls-key-file are mandatory',
      'data-port.host is 10.0.0.1: off loopback, rpc.tls-cert-file and rpc.tls-key-file are mandatory',
      'sandbox.allow-unisolated is for agents on loopback: set rpc.host to 127.0.0.1 or leave it out',
    ]);
  });
});
