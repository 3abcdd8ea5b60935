import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { smallDisk, smallDiskMissing } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { HomeFiles } from './home-files.ts';

it.skipIf(smallDiskMissing)(
  `an upload that finds the disk full says so and leaves nothing${smallDiskMissing ? ` (skipped: ${smallDiskMissing})` : ''}`,
  async () => {
    const disk = await smallDisk('64k');
    const home = join(disk.path, 'home');
    mkdirSync(home);
    const files = new HomeFiles({ home, staging: disk.path, uid: null });
    disk.fill();
    const upload = await files.write('data', 5_000, 0o644);
    await expect(upload.write(Buffer.alloc(5_000, 'x'))).rejects.toMatchObject({ code: 'disk-full' });
    await upload.discard();
    expect(readdirSync(disk.path).sort()).toEqual(['ballast', 'home']);
    disk.free();
    const again = await files.write('data', 5_000, 0o644);
    await again.write(Buffer.alloc(5_000, 'x'));
    await again.commit();
    expect(readFileSync(join(home, 'data'))).toHaveLength(5_000);
  },
);
