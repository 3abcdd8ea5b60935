import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { agentWorld, startKernel } from './agent-world.ts';

it.runIf(process.getuid?.() === 0)('a self-test uses no user id of a living kernel', async () => {
  const w = await agentWorld({ allowUnisolated: true });
  const first = await w.startAgent();
  const uids: unknown[] = [];
  for (let count = 0; count < 3; count++) {
    const { kernelId } = await startKernel(w, first.api);
    uids.push(JSON.parse(readFileSync(join(w.dataDir, 'scratch', kernelId, 'kernel.json'), 'utf8')).uid);
  }
  await first.agent.close();
  const tried = () => w.logs.records.filter(({ msg }) => msg === 'sandbox is tried').map(({ uid }) => uid);
  const before = tried().length;
  await w.startAgent();
  expect(tried().length).toBeGreaterThan(before);
  for (const uid of tried().slice(before)) expect(uids).not.toContain(uid);
});
