/**
 * Writes what is made from the configuration schemas, `configs/<component>.sample.toml` and `docs/config/<component>.md`,
 * from the tables of states, `docs/dev/lifecycle.md`, and from that of actions, `docs/user/access.md`.
 * With `--make FILE COMPONENT key=value ...`: a configuration from the sample with these values, if there is none yet.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { accessDocument } from '@backend.ai/contract';
import { type ConfigOutline, renderReference, renderSample } from '@backend.ai/runtime';
import { agentConfiguration } from '../apps/agent/src/server-config.ts';
import {
  coordinatorConfiguration,
  storageConfiguration,
  webConfiguration,
  workerConfiguration,
} from '../apps/cli/src/commands/absent/configurations.ts';
import { managerConfiguration } from '../apps/manager/src/server-config.ts';
import { lifecycleDocument } from './lifecycle-document.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

export const configurations: readonly ConfigOutline[] = [
  managerConfiguration,
  agentConfiguration,
  storageConfiguration,
  webConfiguration,
  coordinatorConfiguration,
  workerConfiguration,
];

/** By path, relative to the repository. */
export function generatedFiles(): Map<string, string> {
  return new Map([
    ...configurations.flatMap((definition) => [
      [definition.sampleFile, renderSample(definition)] as const,
      [`docs/config/${definition.component}.md`, renderReference(definition)] as const,
    ]),
    ['docs/dev/lifecycle.md', lifecycleDocument()] as const,
    ['docs/user/access.md', accessDocument()] as const,
  ]);
}

function write(file: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text, { mode });
}

/** @param pairs Values as JSON, or texts. @returns false when the file is there already */
export function makeConfig(file: string, component: string, pairs: readonly string[]): boolean {
  const definition = configurations.find((each) => each.component === component);
  if (!definition) throw new Error(`There is no component ${component}.`);
  if (existsSync(file)) return false;
  const values = Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      const text = pair.slice(at + 1);
      return [pair.slice(0, at), /^[[{"\d]|^(true|false)$/.test(text) ? (JSON.parse(text) as unknown) : text];
    }),
  );
  write(file, renderSample(definition, values), 0o600);
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [option, file = '', component = '', ...pairs] = process.argv.slice(2);
  if (option === '--make') makeConfig(file, component, pairs);
  else for (const [path, text] of generatedFiles()) write(join(root, path), text);
}
