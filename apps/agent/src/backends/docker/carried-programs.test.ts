import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { carriedCommand, carryPrograms, parseLibraries, sweepCarriedPrograms } from './carried-programs.ts';

describe('programs that are carried into images', () => {
  it('run with their own loader and libraries, without any search path of the machine', async () => {
    const carried = await carryPrograms(await tempDirectory());
    const [file = '', ...words] = carriedCommand(carried!.folder, 'node');
    const code = 'console.log(process.version, require("node:fs").readFileSync("/proc/self/maps", "utf8"))';
    const [version, ...maps] = execFileSync(file, [...words, '-e', code], { env: {}, encoding: 'utf8' }).split(' ');
    expect(version).toBe(process.version);
    const libraries = maps.join(' ').match(/\/\S*\.so\S*/g) ?? [];
    expect(libraries.filter((library) => !library.startsWith(`${carried!.folder}/`))).toEqual([]);
  });

  it('are copied once, until no kernel can have them any more', async () => {
    const dataDir = await tempDirectory();
    const first = await carryPrograms(dataDir);
    const { ino } = statSync(join(first!.folder, 'node'));
    expect(await carryPrograms(dataDir)).toEqual(first);
    expect(statSync(join(first!.folder, 'node')).ino).toBe(ino);
    sweepCarriedPrograms(dataDir);
    expect(readdirSync(dataDir)).toEqual([]);
  });

  it('are found in what ldd of glibc and of musl list', () => {
    const glibc = [
      '\tlinux-vdso.so.1 (0x00007f22f0c8c000)',
      '\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f22f0920000)',
      '\t/lib64/ld-linux-x86-64.so.2 (0x00007f22f0c8e000)',
    ];
    expect([...parseLibraries(glibc.join('\n'))]).toEqual([
      ['libm.so.6', '/lib/x86_64-linux-gnu/libm.so.6'],
      ['ld.so', '/lib64/ld-linux-x86-64.so.2'],
    ]);
    const elsewhere = ['\t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x00007f22f0c8e000)'];
    expect([...parseLibraries(elsewhere.join('\n'))]).toEqual([['ld.so', '/usr/lib64/ld-linux-x86-64.so.2']]);
    const musl = [
      '\t/lib/ld-musl-x86_64.so.1 (0x7f1c2a5f4000)',
      '\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f1c2a5f4000)',
    ];
    expect([...parseLibraries(musl.join('\n')).keys()]).toEqual(['ld.so', 'libc.musl-x86_64.so.1']);
    expect(parseLibraries('\tnot a dynamic executable\n').size).toBe(0);
  });
});
