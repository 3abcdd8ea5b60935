import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';

const here = fileURLToPath(new URL('.', import.meta.url));

/** `seldom`: what is loaded when it is asked for, and stays outside. */
async function bundle(contents: string): Promise<{ files: string[]; builtins: Set<string>; seldom: Set<string> }> {
  const { metafile } = await build({
    stdin: { contents, resolveDir: here, loader: 'ts' },
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    conditions: ['@backend.ai/source'],
    external: ['ws'],
    logLevel: 'silent',
  });
  const [output] = Object.values(metafile.outputs);
  const inputs = Object.entries(output?.inputs ?? {});
  const pathsOf = (which: (each: { readonly path: string; readonly kind: string }) => boolean): Set<string> =>
    new Set((output?.imports ?? []).filter(which).map(({ path }) => path));
  return {
    files: inputs.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([file]) => file),
    builtins: pathsOf(({ kind, path }) => kind !== 'dynamic-import' || path.startsWith('node:')),
    seldom: pathsOf(({ kind, path }) => kind === 'dynamic-import' && !path.startsWith('node:')),
  };
}

describe('a program that uses the SDK', () => {
  const program = bundle(`
    import { createClient } from '@backend.ai/client';
    const client = createClient({ endpoint: 'http://127.0.0.1', accessKey: '', secretKey: '' });
    console.log(await client.auth.whoami());
  `);

  it('contains neither zod nor the contract nor anything of a server', async () => {
    const { files } = await program;
    expect(files.some((file) => file.includes('packages/client/src/run.ts'))).toBe(true);
    expect(files.filter((file) => /node_modules\/(zod|undici|ws|fastify)\//.test(file))).toEqual([]);
    expect(files.filter((file) => file.includes('packages/contract/'))).toEqual([]);
    expect(files.filter((file) => file.includes('/testing/'))).toEqual([]);
  });

  /**
   * `@trpc/client` takes observables, codes and the reader of event streams from `@trpc/server`, which keeps the latter
   * in one file with the server's writer of such streams. What we add to that must be nothing.
   */
  it('contains of @trpc/server only what @trpc/client brings along', async () => {
    const stock = await bundle(`
      console.log(await import('@trpc/client'), await import('@trpc/server/observable'));
    `);
    const ofServer = (files: string[]): string[] => files.filter((file) => file.includes('node_modules/@trpc/server/'));
    expect(ofServer(stock.files).length).toBeGreaterThan(0);
    expect(ofServer((await program).files).filter((file) => !stock.files.includes(file))).toEqual([]);
    expect(ofServer((await program).files).filter((file) => /adapters|initTRPC|rootConfig/.test(file))).toEqual([]);
  });

  it('loads WebSockets only for a terminal or a service', async () => {
    expect([...(await program).seldom]).toEqual(['ws']);
  });

  it('needs no module of Node that serves', async () => {
    const allowed = ['node:crypto', 'node:fs', 'node:fs/promises', 'node:stream/promises'];
    expect([...(await program).builtins].filter((name) => !allowed.includes(name))).toEqual([]);
  });
});
