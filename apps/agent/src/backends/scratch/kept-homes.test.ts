import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { KeptHomes } from './kept-homes.ts';

const place = { sessionId: 's', clusterRole: 'main', clusterIndex: 1 } as const;
const hourMs = 3_600_000;

async function homes() {
  const folder = await tempDirectory();
  const home = join(folder, 'home');
  mkdirSync(home);
  writeFileSync(join(home, 'notes'), 'kept');
  return { kept: new KeptHomes(join(folder, 'kept')), home };
}

it('a home that nobody comes for is removed after an hour', async () => {
  const { kept, home } = await homes();
  await kept.keep(place, home);
  expect(existsSync(home)).toBe(false);
  expect(await kept.expire(Date.now() + hourMs - 60_000)).toEqual([]);
  expect(kept.owners()).toEqual([process.getuid?.()]);
  expect(await kept.expire(Date.now() + hourMs + 60_000)).toEqual([process.getuid?.()]);
  expect(kept.owners()).toEqual([]);
});

it('a home is not given to a kernel that cannot have its owner', async () => {
  const { kept, home } = await homes();
  await kept.keep(place, home);
  mkdirSync(home);
  expect(kept.take(place, home, () => false)).toBeNull();
  expect(existsSync(join(home, 'notes'))).toBe(false);
  expect(kept.take(place, home, () => true)).toBe(process.getuid?.());
  expect(existsSync(join(home, 'notes'))).toBe(true);
});
