import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Which files the command line is made of. See `CommandBundle` in @backend.ai/cli-kit. */
export interface PlannedBundle {
  /** Exports `commands`. Relative to the repository, as all paths here. */
  readonly entry: string;
  readonly file: string;
}

export const repository: string = fileURLToPath(new URL('../../..', import.meta.url));
export const manifestFile = 'apps/cli/dist/manifest.json';

const groups = [
  'run',
  'session',
  'session-template',
  'dotfile',
  'usage',
  'image',
  'resource',
  'auth',
  'admin',
  'absent',
];
/** Apps that bring commands of their own. One without `src/commands/index.ts` brings none yet. */
const apps = ['standalone', 'agent', 'manager'];

export function planBundles(root: string = repository): PlannedBundle[] {
  const own = groups.map((group) => ({
    entry: `apps/cli/src/commands/${group}/index.ts`,
    file: `apps/cli/dist/commands/${group}.cjs`,
  }));
  const others = apps
    .map((app) => ({ entry: `apps/${app}/src/commands/index.ts`, file: `apps/${app}/dist/commands.cjs` }))
    .filter(({ entry }) => existsSync(join(root, entry)));
  // Their order is that of the categories in the help.
  return [...others.slice(0, 1), ...own, ...others.slice(1)];
}
