import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { Cluster } from '../src/cluster.ts';
import { dataDirectory, ensureAgentId, makeDataDirectory } from '../src/data-directory.ts';

vi.mock('node:os', async (importOriginal) => ({
  ...(await importOriginal<typeof import('node:os')>()),
  hostname: () => 'second.example',
}));

it('an agent keeps its name when the machine gets another one', async () => {
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
