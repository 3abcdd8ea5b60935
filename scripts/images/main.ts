/** The work of scripts/build-images.sh, whose head says what it does. */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runMain } from '../run-main.ts';
import { imageContents, serviceFolder, writeDefinitions } from './contents.ts';
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
  const { facts, recipes } = await plan(options);
  const ensureBuildersOnce = once(() => ensureBuilders(recipes, options));
  const images: BuiltImage[] = [];
  for (const recipe of recipes) {
    const { seconds, tell } = progressOf(recipe);
    const mark = await recipeMark(recipe, facts, options);
    const present = await engine.findImage(recipe.reference);
    const built = options.rebuild || present?.Config.Labels?.[recipeLabel] !== mark;
    if (built && options.from !== undefined) await buildFromDockerfile(engine, recipe, mark, options.from, tell);
    if (built && options.from === undefined) {
      await ensureBuildersOnce();
      const archive = await archiveOf(recipe, facts, options, tell);
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

async function makeArchives(options: BuildOptions): Promise<string[]> {
  const { facts, recipes } = await plan(options);
  await ensureBuilders(recipes, options);
  const archives: string[] = [];
  for (const recipe of recipes) {
    const { tell } = progressOf(recipe);
    archives.push(await archiveOf(recipe, facts, options, tell));
    tell(`is at ${archives.at(-1)}`);
  }
  return archives;
}

async function plan(options: BuildOptions): Promise<{ facts: MachineFacts; recipes: ImageRecipe[] }> {
  const facts = options.from === undefined ? await machineFacts() : dockerfileFacts;
  return { facts, recipes: options.names.map((name) => imageRecipe(name, facts)) };
}

function progressOf({ reference }: ImageRecipe): { seconds: () => number; tell: (line: string) => void } {
  const start = performance.now();
  const seconds = (): number => Math.round((performance.now() - start) / 100) / 10;
  return { seconds, tell: (line) => say(`${reference}  ${seconds().toFixed(1).padStart(6)} s  ${line}`) };
}

function archiveOf(
  recipe: ImageRecipe,
  facts: MachineFacts,
  { rebuild }: BuildOptions,
  tell: (line: string) => void,
): Promise<string> {
  const cacheDirectory = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'backend.ai/images');
  return imageContents(recipe, { facts, cacheDirectory, rebuild, tell });
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= work());
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
  const definitions = await writeDefinitions(recipe);
  const files = ['--directory', join(here, recipe.name), '.', '--directory', definitions, serviceFolder];
  const tar = spawn('tar', ['--create', ...files], { stdio: ['ignore', 'pipe', 2] });
  const labels = { ...recipe.labels, [recipeLabel]: mark };
  await engine.buildImage(recipe.reference, tar.stdout!, { labels, arguments: { FROM: from } }, tell);
  await rm(definitions, { recursive: true });
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
  const made = options.archives ? await makeArchives(options) : await buildAll(options);
  if (options.json) console.log(JSON.stringify(made, undefined, 2));
}

await runMain(main);
