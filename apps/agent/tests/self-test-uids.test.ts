import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { uidBaseOf } from '../src/resources/uid-pool.ts';
import { agentWorld, startKernel } from './agent-world.ts';

it.runIf(process.getuid?.() === 0)('a self-test uses no user id of a living kernel', async () => {
  const w = await agentWorld({ allowUnisolated: true });
  const first = await w.startAgent();
  const { kernelId } = await startKernel(w, first.api);
  await first.agent.close();
  // As if the ring of ids had come round: the first one of all is the one a start would try first.
  const file = join(w.dataDir, 'scratch', kernelId, 'kernel.json');
  const facts = JSON.parse(readFileSync(file, 'utf8'));
  const taken = [facts.uid, uidBaseOf(facts.installationId)];
  writeFileSync(file, JSON.stringify({ ...facts, uid: taken[1] }));
  const tried = () => w.logs.records.filter(({ msg }) => msg === 'sandbox is tried').map(({ uid }) => uid);
  const before = tried().length;
  await w.startAgent();
  expect(tried().length).toBeGreaterThan(before);
  for (const uid of tried().slice(before)) expect(taken).not.toContain(uid);
});
