import { expect, it } from 'vitest';
import { type WarmKind, warmKey } from './warm-key.ts';

const kind: WarmKind = {
  ...{ image: 'python', architecture: 'x86_64', imageDigest: 'sha256:a', imageManifestDigest: 'sha256:b' },
  ...{ slots: { cpu: '1', mem: '1024' }, shmem: null },
};

it('is the same for the same, however it is written, and another one for all that cannot be changed in a slot', () => {
  expect(warmKey({ ...kind, slots: { mem: '1024', cuda: '0', cpu: '1.0' } })).toBe(warmKey(kind));
  const others: Array<Partial<WarmKind>> = [
    ...[
      { image: 'node' },
      { architecture: 'aarch64' },
      { imageDigest: 'sha256:c' },
      { imageManifestDigest: 'sha256:c' },
    ],
    ...[{ slots: { cpu: '2', mem: '1024' } }, { shmem: 64 }],
  ];
  expect(new Set(others.map((other) => warmKey({ ...kind, ...other })).concat(warmKey(kind))).size).toBe(7);
});
