import { readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type CommandBundle, renderHelp } from '@backend.ai/cli-kit';
import { manifestFile, planBundles, repository } from './bundle-plan.ts';
import { makeBundle } from './make-bundle.ts';

/**
 * Makes the bundles of all commands and the manifest by which the launcher finds them and shows help without loading
 * any. The last step of the build: the manifest names the commit it was made of.
 */
interface Manifest {
  readonly version: string;
  readonly head: string | null;
  /** From first words to files, relative to the repository. */
  readonly bundles: Record<string, string>;
  /** Words that need another one after them. */
  readonly groups: string[];
  readonly help: Record<string, string>;
}

const { gitHead } = createRequire(import.meta.url)('../launcher/git-head.cjs') as {
  gitHead: (root: string) => string | null;
};

const plan = planBundles();
await Promise.all(
  plan.map(async (bundle) => {
    await mkdir(dirname(join(repository, bundle.file)), { recursive: true });
    await makeBundle(bundle, { write: true });
    await rm(join(repository, `${bundle.file}.cache`), { force: true });
  }),
);

const bundles: Record<string, string> = {};
const commands: CommandBundle['commands'][number][] = [];
for (const { entry, file } of plan) {
  const bundle = (await import(pathToFileURL(join(repository, entry)).href)) as CommandBundle;
  for (const command of bundle.commands) {
    commands.push(command);
    for (const [first] of command.paths ?? []) {
      if (first === undefined) continue;
      const other = bundles[first];
      if (other !== undefined && other !== file) throw new Error(`"${first}" begins commands of ${other} and ${file}.`);
      bundles[first] = file;
    }
  }
}

const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { version: string };
const help = renderHelp(commands, version);
const paths = new Set(commands.flatMap((command) => (command.paths ?? []).map((path) => path.join(' '))));
const manifest: Manifest = {
  version,
  head: gitHead(repository),
  bundles,
  groups: Object.keys(help).filter((key) => key !== '' && !paths.has(key)),
  help,
};
const target = join(repository, manifestFile);
await writeFile(`${target}.new`, JSON.stringify(manifest));
await rename(`${target}.new`, target);
// Sources of other apps may hold timers; nothing of them is wanted here.
process.exit(0);
