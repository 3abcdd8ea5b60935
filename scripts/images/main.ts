/** The work of scripts/build-images.sh, whose head says what it does. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '@backend.ai/core';
import { imageContents } from './contents.ts';
import { Engine } from './engine.ts';
import { buildObstacle, dockerfileFacts, machineFacts, missingBuilders } from './machine.ts';
import { type BuildOptions, parseBuildOptions } from './options.ts';
import {
  contentsFingerprint,
  fingerprint,
  type ImageRecipe,
  imageChanges,
  imageRecipe,
  type MachineFacts,
  pushReference,
  recipeFingerprint,
  recipeLabel,
} from './recipes.ts';

const here = dirname(fileURLToPath(import.meta.url));

/** One line of `--json`. */
interface BuiltImage {
  readonly name: string;
  readonly reference: string;
  readonly id: string;
  readonly bytes: number;
  /** False: it was up to date. */
  readonly built: boolean;
  readonly seconds: number;
  readonly pushed: string | null;
}

/** Progress is for people and goes beside the result. */
const say = (text: string): void => console.error(text);

async function buildAll(options: BuildOptions): Promise<BuiltImage[]> {
  const engine = await Engine.connect(process.env);
  const facts = options.from === undefined ? await machineFacts() : dockerfileFacts;
  const recipes = options.names.map((name) => imageRecipe(name, facts));
  const images: BuiltImage[] = [];
  let checked = false;
  for (const recipe of recipes) {
    const start = performance.now();
    const seconds = (): number => Math.round((performance.now() - start) / 100) / 10;
    const tell = (line: string): void => say(`${recipe.reference}  ${seconds().toFixed(1).padStart(6)} s  ${line}`);
    const mark = await recipeMark(recipe, facts, options);
    const present = await engine.findImage(recipe.reference);
    const built = options.rebuild || present?.Config.Labels?.[recipeLabel] !== mark;
    if (built && options.from !== undefined) await buildFromDockerfile(engine, recipe, mark, options.from, tell);
    if (built && options.from === undefined) {
      if (!checked) await ensureBuilders(recipes, options);
      checked = true;
      const cacheDirectory = imageCache();
      const archive = await imageContents(recipe, { facts, cacheDirectory, rebuild: options.rebuild, tell });
      tell('handing it to the engine');
      await engine.importImage(recipe.reference, createReadStream(archive), imageChanges(recipe, mark));
    }
    const pushed = options.push === undefined ? null : pushReference(recipe.reference, options.push);
    if (pushed) {
      tell(`pushing ${pushed}`);
      await engine.pushImage(recipe.reference, pushed, await credentialsOf(pushed), () => {});
    }
    const image = (await engine.findImage(recipe.reference))!;
    tell(`${built ? 'built' : 'up to date'}, ${Math.round(image.Size / 1e6)} MB`);
    const { name, reference } = recipe;
    images.push({ name, reference, id: image.Id, bytes: image.Size, built, seconds: seconds(), pushed });
  }
  return images;
}

/** What a present image must say of itself to be up to date. */
async function recipeMark(recipe: ImageRecipe, facts: MachineFacts, { from }: BuildOptions): Promise<string> {
  const source =
    from === undefined
      ? contentsFingerprint(recipe, facts)
      : fingerprint([from, await readFile(join(here, recipe.name, 'Dockerfile'), 'utf8')]);
  return recipeFingerprint(recipe, source);
}

async function ensureBuilders(recipes: readonly ImageRecipe[], { install }: BuildOptions): Promise<void> {
  const isRoot = process.getuid!() === 0;
  const missing = missingBuilders(recipes);
  if (install && isRoot && missing.length > 0) {
    say(`Installing ${missing.join(', ')}`);
    const child = spawn(join(here, '../install-packages.sh'), missing, { stdio: ['ignore', 2, 2] });
    await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
  }
  const obstacle = buildObstacle(recipes, { isRoot, missing: missingBuilders(recipes) });
  if (obstacle) throw obstacle;
}

async function buildFromDockerfile(
  engine: Engine,
  recipe: ImageRecipe,
  mark: string,
  from: string,
  tell: (line: string) => void,
): Promise<void> {
  const tar = spawn('tar', ['--create', '--directory', join(here, recipe.name), '.'], { stdio: ['ignore', 'pipe', 2] });
  const labels = { ...recipe.labels, [recipeLabel]: mark };
  await engine.buildImage(recipe.reference, tar.stdout!, { labels, arguments: { FROM: from } }, tell);
}

function imageCache(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'backend.ai/images');
}

/** Those of `docker login`; credential helpers are not asked. */
async function credentialsOf(reference: string): Promise<object> {
  const registry = reference.split('/')[0]!;
  const file = join(process.env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json');
  let auths: Record<string, { auth?: string }> = {};
  try {
    auths = (JSON.parse(await readFile(file, 'utf8')) as { auths?: typeof auths }).auths ?? {};
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const [username = '', ...password] = Buffer.from(auths[registry]?.auth ?? '', 'base64')
    .toString()
    .split(':');
  return { username, password: password.join(':'), serveraddress: registry };
}

async function main(): Promise<void> {
  const options = parseBuildOptions(process.argv.slice(2));
  const images = await buildAll(options);
  if (options.json) console.log(JSON.stringify(images, undefined, 2));
}

main().catch((thrown: unknown) => {
  const error = AppError.from(thrown);
  const unexpected = error.code === 'internal' && error.cause !== undefined;
  console.error(`Error: ${unexpected ? String((error.cause as Error).message ?? error.cause) : error.message}`);
  if (!unexpected) console.error(`  ${error.hint}`);
  process.exitCode = 1;
});
