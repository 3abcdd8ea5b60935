import { closeSync, openSync, readdirSync, readFileSync, readSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Image } from '@backend.ai/contract';
import { unlessDiskFull } from '../../files/disk-full.ts';
import { askProgram, isProgram, searchFolders } from '../../files/programs.ts';
import { replaceFileSync } from '../../files/replace-file.ts';
import { type FoundInterpreter, runtimeFiles } from './runtime-files.ts';

/** An interpreter of this machine. */
export interface Interpreter extends Omit<FoundInterpreter, 'prefixes'> {
  /** Files and folders it needs besides the system's; see `runtimeFiles`. */
  readonly files: readonly string[];
}

/** An image and what starts it. */
export interface Runtime {
  readonly image: Image;
  readonly interpreter: Interpreter;
}

const pythonQuestion =
  'import json, sys; print(json.dumps([sys.executable, "%d.%d.%d" % sys.version_info[:3], sys.prefix, sys.base_prefix]))';
const nodeQuestion = 'console.log(JSON.stringify([process.execPath, process.versions.node]))';

type Answers = Record<string, { readonly stamp: string; readonly found: FoundInterpreter | null }>;

/** Changes with the meaning of answers. */
const cacheFormat = 2;

interface Cache {
  readonly format: number;
  readonly answers: Answers;
}

/**
 * Asks every candidate for what it really is: a shim may stand for anything. Answers are kept in the data directory for
 * as long as the candidate stays the same file, because asking costs tens of milliseconds each.
 */
export async function findInterpreters(path: string, dataDir: string): Promise<Interpreter[]> {
  const cacheFile = join(dataDir, 'runtimes.json');
  const known = readCache(cacheFile);
  const answers: Answers = {};
  const askAll = async (some: readonly Candidate[]): Promise<void> => {
    const asked = some.map(async ({ file, language }) => {
      const stamp = stampOf(file);
      const earlier = known[file];
      const valid = earlier?.stamp === stamp && (!earlier.found || isProgram(earlier.found.path));
      answers[file] = valid ? earlier : { stamp, found: await ask(file, language) };
    });
    await Promise.all(asked);
  };
  const all = candidates(searchFolders(path));
  await askAll(all.filter(({ file }) => !isScript(file)));
  // Shims are slow, and stand for something that is needed only where the system has nothing.
  const languages = new Set(Object.values(answers).map(({ found }) => found?.language));
  await askAll(all.filter(({ file, language }) => isScript(file) && !languages.has(language)));
  if (JSON.stringify(answers) !== JSON.stringify(known)) {
    // They are asked again.
    unlessDiskFull(() => replaceFileSync(cacheFile, JSON.stringify({ format: cacheFormat, answers } satisfies Cache)));
  }
  return Object.values(answers).flatMap(({ found }) => {
    if (!found) return [];
    const { language, version, path: program } = found;
    return [{ language, version, path: program, files: runtimeFiles(found, { dataDir }) }];
  });
}

interface Candidate {
  readonly file: string;
  readonly language: Interpreter['language'];
}

function candidates(folders: readonly string[]): Candidate[] {
  const found = new Map<string, Interpreter['language']>([[process.execPath, 'node']]);
  for (const folder of folders) {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      continue;
    }
    for (const name of names) {
      const language = /^python3(\.\d+)?$/.test(name) ? 'python' : name === 'node' ? 'node' : null;
      const file = join(folder, name);
      if (language && isProgram(file)) found.set(isLink(file) ? safeRealpath(file) : file, language);
    }
  }
  return [...found].map(([file, language]) => ({ file, language }));
}

/** Two names of one system interpreter are one candidate. Virtual environments are links, too, and stay what they are. */
function safeRealpath(file: string): string {
  const real = realpathSync(file);
  return dirname(real) === realpathSync(dirname(file)) ? real : file;
}

function isScript(file: string): boolean {
  const fd = openSync(file, 'r');
  try {
    const start = Buffer.alloc(2);
    readSync(fd, start);
    return start.toString('latin1') === '#!';
  } finally {
    closeSync(fd);
  }
}

function isLink(file: string): boolean {
  try {
    return realpathSync(file) !== file;
  } catch {
    return false;
  }
}

async function ask(file: string, language: Interpreter['language']): Promise<FoundInterpreter | null> {
  const answer = await askProgram(file, language === 'python' ? ['-c', pythonQuestion] : ['-e', nodeQuestion]);
  try {
    const [path, version, ...prefixes] = JSON.parse(answer ?? 'null') as string[];
    if (!path || !version || !isProgram(path)) return null;
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (language === 'python' && (major !== 3 || minor < 8)) return null;
    return { language, version, path, prefixes };
  } catch {
    return null;
  }
}

function stampOf(file: string): string {
  const stat = statSync(file);
  return `${stat.mtimeMs} ${stat.size}`;
}

function readCache(file: string): Answers {
  try {
    const cache = JSON.parse(readFileSync(file, 'utf8')) as Cache;
    return cache.format === cacheFormat ? cache.answers : {};
  } catch {
    return {};
  }
}

/** One image per minor version of Python and major version of Node.js; the plain names mean the newest of the system. */
export function runtimesOf(interpreters: readonly Interpreter[], architecture: string): Runtime[] {
  const runtimes: Runtime[] = [];
  const add = (
    name: string,
    aliases: string[],
    language: Image['language'],
    memory: number,
    interpreter: Interpreter,
  ) =>
    runtimes.push({
      interpreter,
      image: {
        name: `local/${name}`,
        aliases,
        architecture,
        language,
        minSlots: { cpu: '1', mem: String(memory * 1024 * 1024) },
      },
    });
  const pythons = bestPerKey(interpreters, 'python', (version) => version.split('.').slice(0, 2).join('.'));
  for (const [index, [key, interpreter]] of pythons.entries()) {
    const plain = index === 0 ? ['python:3', 'python', 'local/python', 'local/python:3'] : [];
    add(`python:${key}`, [`python:${key}`, ...plain], 'python', 64, interpreter);
  }
  const nodes = bestPerKey(interpreters, 'node', (version) => version.split('.')[0] ?? version);
  for (const [index, [key, interpreter]] of nodes.entries()) {
    add(`node:${key}`, [`node:${key}`, ...(index === 0 ? ['node', 'local/node'] : [])], 'node', 128, interpreter);
  }
  // The runner for shells is written in Node.js.
  const host = nodes[0]?.[1];
  if (host) add('shell', ['shell', 'local/shell:latest'], 'shell', 64, host);
  return runtimes;
}

function bestPerKey(
  interpreters: readonly Interpreter[],
  language: Interpreter['language'],
  keyOf: (version: string) => string,
): Array<[string, Interpreter]> {
  const rank = ({ path, files }: Interpreter): number =>
    path.startsWith('/usr/bin/') ? 0 : files.length === 0 ? 1 : 2;
  const ordered = interpreters
    .filter((each) => each.language === language)
    .sort((left, right) => rank(left) - rank(right) || compareVersions(right.version, left.version));
  const best = new Map<string, Interpreter>();
  for (const interpreter of ordered) {
    const key = keyOf(interpreter.version);
    if (!best.has(key)) best.set(key, interpreter);
  }
  return [...best];
}

function compareVersions(left: string, right: string): number {
  const [a, b] = [left.split('.').map(Number), right.split('.').map(Number)];
  for (let index = 0; index < 3; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
