import { describe, expect, it } from 'vitest';
import { planBundles } from '../scripts/bundle-plan.ts';
import { makeBundle } from '../scripts/make-bundle.ts';

const own = planBundles().filter(({ entry }) => entry.startsWith('apps/cli/'));

describe('the bundles of user commands', () => {
  it.each(own)('$file carries nothing heavy', async (bundle) => {
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
