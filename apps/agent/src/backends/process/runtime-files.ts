import { lstatSync, readdirSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { isCovered, linkTarget } from './mount-plan.ts';

/** What an interpreter has told of itself. */
export interface FoundInterpreter {
  readonly language: 'python' | 'node';
  /** Full: `3.11.2`. */
  readonly version: string;
  /** The program itself, not a shim that looks for it. */
  readonly path: string;
  /** Of Python: `sys.prefix` and `sys.base_prefix`. */
  readonly prefixes: readonly string[];
}

export interface Surroundings {
  /** Whose folder no kernel may see. */
  readonly dataDir: string;
  readonly home?: string;
}

/** What an installation of Python consists of. Whatever else lies beside it is somebody's own. */
const partsOfPrefix = /^(bin|include|lib|lib32|lib64|libexec|man|share|ssl|etc|conda-meta|pyvenv\.cfg)$/;
const nodeTools = ['npm', 'npx', 'corepack'];

/**
 * Files and folders an interpreter needs besides the system's. They are shown to every kernel, so they are few: a folder
 * that belongs to the interpreter alone as a whole, one that it shares with other things (a home, `~/.local`) in parts.
 */
export function runtimeFiles(found: FoundInterpreter, surroundings: Surroundings): string[] {
  const files = found.language === 'node' ? nodeFiles(found) : pythonFiles(found, surroundings);
  const shown = files.filter((file) => !isCovered(file) && !touchesPrivate(file, surroundings));
  return outermost(shown);
}

/** Without those that lie in another one of them. */
export function outermost(files: Iterable<string>): string[] {
  const all = new Set(files);
  return [...all].filter((file) => ![...all].some((other) => file !== other && within(file, other)));
}

/** A single file is all of Node.js; its package manager lies beside it. */
function nodeFiles({ path }: FoundInterpreter): string[] {
  const bin = dirname(path);
  const library = join(dirname(bin), 'lib');
  const modules = join(library, 'node_modules');
  const tools = nodeTools.map((name) => join(bin, name)).filter((tool) => within(realpathOf(tool) ?? '', modules));
  return [...linksTo(path), ...matching(library, /^libnode\b/), ...(tools.length > 0 ? [modules, ...tools] : [])];
}

function pythonFiles({ path, version, prefixes }: FoundInterpreter, surroundings: Surroundings): string[] {
  // Links on the way are known by both names, as Python may use either.
  const all = new Set(prefixes.flatMap((prefix) => [prefix, realpathOf(prefix) ?? prefix]));
  return [...linksTo(path), ...[...all].flatMap((prefix) => prefixFiles(prefix, version, surroundings))];
}

function prefixFiles(prefix: string, version: string, surroundings: Surroundings): string[] {
  if (isCovered(prefix)) return [];
  if (!isShared(prefix, surroundings)) {
    const parts = matching(prefix, partsOfPrefix);
    return parts.length === namesIn(prefix).length ? [prefix] : parts;
  }
  const own = `python${version.split('.').slice(0, 2).join('.')}`;
  return [
    ...matching(prefix, /^pyvenv\.cfg$/),
    ...['lib', 'lib64'].flatMap((library) =>
      matching(join(prefix, library), new RegExp(`^(${own.replace('.', '\\.')}|libpython.*)$`)),
    ),
  ];
}

/** Whether programs of all kinds are installed there, or it holds what is nobody's business. */
function isShared(prefix: string, { dataDir, home = homedir() }: Surroundings): boolean {
  const homes = [home, '/root', ...(/^\/home\/[^/]+/.exec(prefix) ?? [])].flatMap((each) => [each, realpathOf(each)]);
  const ownPrograms = homes.flatMap((each) => (each ? [join(each, '.local/bin'), join(each, 'bin')] : []));
  const depth = prefix.split('/').length - 1;
  return depth < 2 || [dataDir, ...ownPrograms].some((each) => within(each, prefix));
}

function touchesPrivate(file: string, { dataDir, home = homedir() }: Surroundings): boolean {
  const privates = [dataDir, home].flatMap((each) => [each, realpathOf(each) ?? each]);
  return privates.some((each) => within(each, file)) || within(file, dataDir);
}

/** A program, the link it is reached by, and the links in between. */
function linksTo(path: string): string[] {
  const links = [path];
  for (let file = path; links.length < 40 && lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink(); ) {
    file = linkTarget(file);
    links.push(file);
  }
  return links;
}

function matching(folder: string, names: RegExp): string[] {
  return namesIn(folder).flatMap((name) => (names.test(name) ? [join(folder, name)] : []));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function realpathOf(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}

function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`);
}
