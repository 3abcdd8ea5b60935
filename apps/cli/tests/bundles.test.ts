import type { Metafile } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { planBundles } from '../scripts/bundle-plan.ts';
import { makeBundle } from '../scripts/make-bundle.ts';

/** Commands of operators read configurations and so carry the schemas of these, whichever app they come from. */
const isOperators = (entry: string) => /^apps\/(manager|agent)\/|\/absent\//.test(entry);
const users = planBundles().filter(({ entry }) => entry.startsWith('apps/cli/') && !isOperators(entry));

describe('the bundles of user commands', () => {
  it.each(users)('$file carries nothing heavy', async (bundle) => {
    const { outputs } = await makeBundle(bundle, { write: false });
    const [output] = Object.values(outputs);
    const files = Object.entries(output?.inputs ?? {})
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([file]) => file);
    expect(files.filter((file) => /node_modules\/(zod|undici|fastify|pino|drizzle-orm|ws)\//.test(file))).toEqual([]);
    expect(
      files.filter((file) => /^(packages\/(contract|rpc|database|runtime)|apps\/(manager|agent))\//.test(file)),
    ).toEqual([]);
    // All that is not in the file comes with Node.
    const outside = output?.imports.map(({ path }) => path).filter((path) => !/^(node:|[a-z_]+$)/.test(path));
    expect(outside).toEqual([]);
    expect(output?.bytes).toBeLessThan(700_000);
  });
});

/** What runs when a bundle is loaded, before a command asks for more: all that no `import()` stands before. */
function loadedAtOnce({ inputs }: Metafile, entry: string): string[] {
  const loaded = new Set<string>();
  const load = (file: string): void => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const { path, kind } of inputs[file]?.imports ?? []) if (kind !== 'dynamic-import') load(path);
  };
  load(entry);
  return [...loaded];
}

describe('the bundles of components', () => {
  it.each(planBundles().filter(({ entry }) => isOperators(entry)))(
    '$file loads no service and no client of a server for config check and status',
    async (bundle) => {
      const loaded = loadedAtOnce(await makeBundle(bundle, { write: false }), bundle.entry);
      expect(loaded).toContain('packages/runtime/src/config/load-config.ts');
      expect(
        loaded.filter((file) =>
          /^etcd3$|node_modules\/(postgres|drizzle-orm|ioredis|fastify|ws|prom-client|@electric-sql)\//.test(file),
        ),
      ).toEqual([]);
      expect(
        loaded.filter((file) =>
          /^packages\/(database|coordination|rpc|scheduler)\/|^apps\/\w+\/src\/(server|manager|agent|stores)\.ts$/.test(
            file,
          ),
        ),
      ).toEqual([]);
    },
  );
});
