import { mkdtempSync, rmSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Cluster } from '../src/cluster.ts';
import { dataDirectory, ensureAgentId, makeDataDirectory } from '../src/data-directory.ts';

it('an agent keeps its name when the machine gets another one', async () => {
  expect(hostname()).not.toBe('first.example');
  const dataDir = mkdtempSync(join(tmpdir(), 'agent-identity-'));
  try {
    makeDataDirectory(dataDirectory(dataDir));
    expect(ensureAgentId(dataDirectory(dataDir), 'first.example')).toBe('i-first.example');
    const cluster = await Cluster.start({ dataDir, port: 0, backend: 'fake', logLevel: 'error' });
    try {
      expect(cluster.agent.status().agentId).toBe('i-first.example');
    } finally {
      await cluster.stop({ keepSessions: false });
    }
  } finally {
    rmSync(dataDir, { recursive: true });
  }
});
