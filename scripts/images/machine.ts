/** What this machine can build of: its apt sources, programs and rights. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { AppError } from '@backend.ai/core';
import { programPath } from '../dev-servers/programs.ts';
import type { ImageRecipe, MachineFacts } from './recipes.ts';

export const run = promisify(execFile);

/** Packages of which images are made without a registry; the programs they bring are in the path of root. */
const builders = [
  { program: 'mmdebstrap', package: 'mmdebstrap', needed: (recipe: ImageRecipe) => recipe.packages.length > 0 },
  { program: 'busybox', package: 'busybox-static', needed: (recipe: ImageRecipe) => recipe.packages.length === 0 },
];

/** What base images of the Dockerfiles are of. */
export const dockerfileFacts: MachineFacts = { pythonVersion: '3.11', nodeVersion: '20', baseDistro: 'debian12' };

/** @throws AppError `unsupported-feature` where there are no packages to build of */
export async function machineFacts(): Promise<MachineFacts> {
  if (!existsSync('/usr/bin/apt-cache')) throw cannot('This machine has no Debian packages.');
  const { stdout: policy } = await run('apt-cache', ['policy', 'python3'], { env: { ...process.env, LC_ALL: 'C' } });
  const [, pythonVersion] = /Candidate: (\d+\.\d+\.\d+)/.exec(policy) ?? [];
  if (!pythonVersion) throw cannot('The apt sources of this machine offer no python3; see: apt-get update.');
  const release = await readFile('/etc/os-release', 'utf8');
  const value = (name: string): string => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? '';
  return { pythonVersion, nodeVersion: process.versions.node, baseDistro: value('ID') + value('VERSION_ID') };
}

/** Debian's names of what building these lacks. */
export function missingBuilders(recipes: readonly ImageRecipe[]): string[] {
  return builders
    .filter(({ program, needed }) => recipes.some(needed) && !programPath(program))
    .map(({ package: name }) => name);
}

/** Why these cannot be made of Debian packages, given who asks and what is missing. */
export function buildObstacle(
  recipes: readonly ImageRecipe[],
  machine: { readonly isRoot: boolean; readonly missing: readonly string[] },
): AppError | undefined {
  if (!machine.isRoot && recipes.some(({ packages }) => packages.length > 0)) {
    return cannot('Images are made of Debian packages by root only.', 'Run this as root');
  }
  if (machine.missing.length > 0) {
    return cannot(`Not installed here: ${machine.missing.join(', ')}.`, 'As root, add --install');
  }
  return undefined;
}

function cannot(message: string, hint = 'Build where there are'): AppError {
  return new AppError('unsupported-feature', message, {
    hint: `${hint}; or build from a registry with: --from docker.io/library`,
  });
}

/**
 * The sources of Debian itself as lines for apt. Other archives (of programs, of vendors) are left out: their suites are not
 * named after the release.
 */
export async function debianSources(): Promise<string> {
  const format = '$(RELEASE)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)';
  const { stdout } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const release = await readFile('/etc/os-release', 'utf8');
  const codename = /^VERSION_CODENAME="?([^"\n]*)/m.exec(release)?.[1] ?? '';
  const lines = stdout.split('\n').filter((line) => {
    const suite = line.split('|')[0]!;
    return (
      codename !== '' && (suite === codename || suite.startsWith(`${codename}-`) || suite.startsWith(`${codename}/`))
    );
  });
  if (lines.length === 0) throw cannot('apt knows no sources of this release; see: apt-get update.');
  return `${[...new Set(lines)].map((line) => line.slice(line.indexOf('|') + 1)).join('\n')}\n`;
}
