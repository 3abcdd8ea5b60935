/**
 * Who may import whom, as a check (docs/dev/architecture.md shows the picture).
 *
 * Packages form layers; apps import packages and no other app but `standalone`; inside an app `http`, `api`, `services`,
 * then `repositories` and `clients` import only what stands after them; each library that talks to the outside has its
 * one room. Raw timers are kept to the clock, and no function is run without somebody who waits for it, so that everything
 * that waits can run in simulated time and everything started in the background has a request id.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSync, Visitor } from 'vite';

export const root: string = join(dirname(fileURLToPath(import.meta.url)), '..');

export interface Violation {
  readonly file: string;
  readonly message: string;
}

/** For each package, the packages it may import. */
const packageImports: Record<string, readonly string[]> = {
  core: [],
  telemetry: ['core'],
  contract: ['core'],
  scheduler: ['core'],
  database: ['core', 'telemetry', 'runtime'],
  coordination: ['core', 'telemetry', 'database'],
  rpc: ['core', 'telemetry', 'contract', 'runtime'],
  runtime: ['core', 'telemetry'],
  client: ['core', 'contract'],
  'cli-kit': ['core', 'telemetry', 'contract', 'client', 'runtime'],
  testing: ['core', 'telemetry', 'database', 'coordination'],
};

/** Whether a package is made of another one, or is it: what is built with one of these cannot import the other. */
function isMadeOf(name: string, other: string): boolean {
  return name === other || (packageImports[name] ?? []).some((part) => isMadeOf(part, other));
}

const appLayers = ['http', 'rpc', 'api', 'services', 'repositories', 'clients'];
/** `repositories` and `clients` stand side by side at the bottom. */
const mayImportLayer = (from: string, to: string): boolean => {
  const rank = (layer: string): number =>
    layer === 'clients' ? appLayers.indexOf('repositories') : appLayers.indexOf(layer);
  return from === to || rank(from) < rank(to);
};

/** A library and the only places that may import it. */
const libraryRooms: ReadonlyArray<readonly [library: RegExp, rooms: RegExp]> = [
  [
    /^drizzle-orm(\/|$)/,
    /^(packages\/database\/|apps\/[^/]+\/src\/repositories\/|packages\/coordination\/src\/embedded\/|packages\/testing\/)/,
  ],
  [/^(@electric-sql\/pglite|postgres)(\/|$)/, /^(packages\/database\/|bench\/)/],
  [/^(ioredis|etcd3)(\/|$)/, /^packages\/coordination\//],
  [/^dockerode(\/|$)/, /^apps\/agent\/src\/backends\/docker\//],
  [/^fastify(\/|$)|^@fastify\//, /^(apps\/[^/]+\/src\/http\/|bench\/)/],
  [/^(toml-eslint-parser|fastest-levenshtein)(\/|$)/, /^packages\/runtime\/src\/config\//],
  [/^prom-client(\/|$)/, /^packages\/runtime\/src\/metrics\//],
  [/^clipanion(\/|$)/, /^(apps\/cli\/|packages\/cli-kit\/|apps\/[^/]+\/src\/commands\/)/],
];

const isTest = (file: string): boolean => /\.test\.(kit\.)?ts$|\/tests?\/|^tests\/|^bench\/|\/testing\//.test(file);

const entriesOf = new Map<string, ReadonlySet<string>>();

/** What a package exports: `.`, `./testing`, … */
function publicEntries(name: string): ReadonlySet<string> {
  let entries = entriesOf.get(name);
  if (!entries) {
    const file = ['packages', 'apps'].map((folder) => join(root, folder, name, 'package.json')).find(existsSync);
    const { exports = {} } = file ? (JSON.parse(readFileSync(file, 'utf8')) as { exports?: object }) : {};
    entries = new Set(Object.keys(exports));
    entriesOf.set(name, entries);
  }
  return entries;
}

/** @param file its path below the root of the repository */
export function checkFile(file: string, text: string): Violation[] {
  const violations: Violation[] = [];
  const say = (message: string): number => violations.push({ file, message });
  const owner = /^(packages|apps)\/([^/]+)\//.exec(file);
  const source = read(file, text);

  for (const name of source.imports) {
    const scoped = /^@backend\.ai\/([^/]+)(\/.*)?$/.exec(name);
    if (scoped && owner) {
      const [, target = '', subpath] = scoped;
      if (subpath && !publicEntries(target).has(`.${subpath}`))
        say(`imports ${name}: packages are imported by their public entries`);
      const targetIsPackage = target in packageImports;
      if (owner[1] === 'packages' && !isTest(file)) {
        const allowed = packageImports[owner[2] ?? ''];
        if (!allowed) say(`package ${owner[2]} has no place in the layers; add it to scripts/boundaries.ts`);
        else if (!allowed.includes(target))
          say(`imports ${name}: ${owner[2]} may import only ${allowed.join(', ') || 'nothing'}`);
      }
      // Tests beside sources are compiled with them; those of tests/ are not.
      if (isTest(file) && file.startsWith(`${owner[0]}src/`) && target !== owner[2] && isMadeOf(target, owner[2] ?? ''))
        say(`imports ${name}, which is made of ${owner[2]}: neither can be built first`);
      if (owner[1] === 'apps' && !targetIsPackage && owner[2] !== 'standalone' && target !== owner[2]) {
        say(`imports ${name}: only standalone may import apps`);
      }
    }
    if (name.startsWith('.')) {
      const target = normalize(join(dirname(file), name));
      const targetOwner = /^(packages|apps)\/([^/]+)\//.exec(target);
      if (owner && targetOwner && owner[0] !== targetOwner[0]) say(`reaches into ${targetOwner[0]} by a relative path`);
      if (owner?.[1] === 'apps') {
        const layerOf = (path: string): string | undefined =>
          appLayers.find((layer) => path.startsWith(`apps/${owner[2]}/src/${layer}/`));
        const [from, to] = [layerOf(file), layerOf(target)];
        if (from && to && !isTest(file) && !mayImportLayer(from, to)) say(`layer ${from} imports ${to}`);
      }
    }
    if (isTest(file)) continue;
    for (const [library, rooms] of libraryRooms) {
      if (library.test(name) && !rooms.test(file)) say(`imports ${name} outside of its room`);
    }
  }
  if (owner && !isTest(file)) violations.push(...checkUses(file, source));
  return violations;
}

interface Source {
  /** What it imports, reexports or takes types of, as it is written. */
  readonly imports: readonly string[];
  /** Names of timers, wherever it takes them from. */
  readonly timers: readonly string[];
  /** How often it runs an async function of which nobody takes the promise. */
  readonly abandoned: number;
  readonly environment: boolean;
}

/** A node of the syntax tree, as far as it is looked at here. */
interface Node {
  readonly type: string;
  readonly name?: unknown;
  readonly value?: unknown;
  readonly async?: boolean;
  readonly expression?: unknown;
  readonly callee?: unknown;
  readonly object?: unknown;
  readonly property?: unknown;
}

function read(file: string, text: string): Source {
  const { program, errors } = parseSync(file, text);
  if (errors[0]) throw new Error(`${file}: ${errors[0].message}`);
  const imports: string[] = [];
  const timers: string[] = [];
  /** Identifiers that refer to nothing: names of properties and types. A parent is visited before its children. */
  const names = new Set<unknown>();
  const asyncNames = new Set<string>();
  const leftAlone: string[] = [];
  let environment = false;
  let abandoned = 0;
  const takeFrom = ({ source }: { source: unknown }): void => {
    const { value } = (source ?? {}) as { value?: unknown };
    if (typeof value !== 'string') return;
    imports.push(value);
    if (/^(node:)?timers(\/|$)/.test(value)) timers.push(value);
  };
  const takeName = ({ key, value, computed }: { key: unknown; value?: unknown; computed: boolean }): void => {
    if (!computed) names.add(key);
    if (isAsyncFunction(value)) asyncNames.add(nameOf(key));
  };
  new Visitor({
    ImportDeclaration(node) {
      takeFrom(node);
      for (const each of node.specifiers) names.add(each.local).add('imported' in each ? each.imported : undefined);
    },
    ExportNamedDeclaration: takeFrom,
    ExportAllDeclaration: takeFrom,
    ImportExpression: takeFrom,
    TSImportType: takeFrom,
    Identifier(node) {
      if (names.has(node)) return;
      if (isTimer(node.name) || isGlobal(node)) timers.push(node.name);
    },
    MemberExpression({ object, property, computed }) {
      if (!computed) names.add(property);
      const [of, name] = [inside(object), nameOf(property)];
      if (of.name === 'process' && name === 'env') environment = true;
      if (nameOf(of) === 'AbortSignal' && name === 'timeout') timers.push('AbortSignal.timeout');
      if (!isGlobal(of) || (computed && property.type !== 'Literal')) return;
      names.add(of);
      if (isTimer(name)) timers.push(name);
    },
    ObjectPattern({ properties }) {
      for (const each of properties) {
        if (each.type !== 'Property') continue;
        names.add(each.key);
        if (!each.shorthand && isTimer(nameOf(each.key))) timers.push(nameOf(each.key));
      }
    },
    VariableDeclarator({ id, init }) {
      if (id.type === 'Identifier' && isAsyncFunction(init)) asyncNames.add(id.name);
      if (id.type !== 'ObjectPattern' || init === null) return;
      if (isGlobal(inside(init))) names.add(inside(init));
      const taken = id.properties.map((each) => (each.type === 'Property' ? nameOf(each.key) : ''));
      if (nameOf(inside(init)) === 'AbortSignal' && taken.includes('timeout')) timers.push('AbortSignal.timeout');
    },
    FunctionDeclaration({ id, async }) {
      if (id && async) asyncNames.add(id.name);
    },
    Property: takeName,
    MethodDefinition: takeName,
    PropertyDefinition: takeName,
    TSPropertySignature: takeName,
    TSMethodSignature: takeName,
    TSTypeQuery({ exprName }) {
      names.add(exprName);
    },
    ExpressionStatement({ expression }) {
      if (isAbandoned(expression)) abandoned += 1;
    },
    UnaryExpression({ operator, argument }) {
      if (operator !== 'void') return;
      if (isAbandoned(argument)) abandoned += 1;
      else leftAlone.push(calledHere(argument));
    },
  }).visit(program);
  abandoned += leftAlone.filter((name) => asyncNames.has(name)).length;
  return { imports, timers, abandoned, environment };
}

const isTimer = (name: unknown): name is string =>
  typeof name === 'string' && /^set(Interval|Timeout|Immediate)$/.test(name);

const isGlobal = ({ type, name }: Node): boolean =>
  type === 'Identifier' && typeof name === 'string' && /^(globalThis|global)$/.test(name);

const isAsyncFunction = (value: unknown): boolean => {
  const { type, async } = (value ?? {}) as Partial<Node>;
  return /^(ArrowFunction|Function)Expression$/.test(type ?? '') && async === true;
};

/** Without parentheses, and without what is said of its type. */
function inside(expression: unknown): Node {
  const node = expression as Node;
  return /^(ParenthesizedExpression|TS(As|Satisfies|NonNull)Expression)$/.test(node.type)
    ? inside(node.expression)
    : node;
}

/** What an identifier, a private one (with #), a literal or the last part of a path says; '' for anything else. */
function nameOf(named: unknown): string {
  const { type, name, value, property } = named as Node;
  if (type === 'MemberExpression') return nameOf(property);
  if (type === 'Identifier') return String(name);
  if (type === 'PrivateIdentifier') return `#${String(name)}`;
  return type === 'Literal' ? String(value) : '';
}

/** `(async () => …)()`, in any parentheses. */
function isAbandoned(expression: unknown): boolean {
  const { type, callee } = inside(expression);
  return type === 'CallExpression' && isAsyncFunction(inside(callee));
}

/** The name of what is called, where that may be a function of this file: `g()` and `this.g()`. */
function calledHere(expression: unknown): string {
  const { type, callee } = inside(expression);
  if (type !== 'CallExpression') return '';
  const called = inside(callee);
  const isOwn = called.type === 'Identifier' || (called.object as Node | undefined)?.type === 'ThisExpression';
  return isOwn ? nameOf(called) : '';
}

/** Raw timers and the environment, outside of the rooms that own them. */
function checkUses(file: string, { timers, abandoned, environment }: Source): Violation[] {
  const mayReadEnvironment =
    /(^|\/)(config|environment|dev)\.ts$|^packages\/cli-kit\/|^apps\/cli\/|\/commands\/|\/scripts\//.test(file);
  // A timer of the clock keeps no process alive; the SDK and the command line wait for nothing else.
  const mayUseTimers = /^packages\/(core\/src\/clock|client\/src\/(api-link|run)|cli-kit\/src\/run-commands)\.ts$/.test(
    file,
  );
  // What has left this turn of the event loop and comes back in the next one: it waits for nothing.
  const mayUseTurns =
    /^packages\/(rpc\/src\/(outbox|in-process-duplex|websocket-duplex)|coordination\/src\/redis\/redis-server)\.ts$/.test(
      file,
    );
  const violations: Violation[] = [];
  for (const name of timers) {
    if (mayUseTimers || (mayUseTurns && name === 'setImmediate')) continue;
    violations.push({ file, message: `uses ${name}: take a Clock, nextTurn of core, or a ReconcileLoop` });
  }
  for (let each = 0; each < abandoned; each++)
    violations.push({ file, message: 'runs an async function that nobody waits for: take BackgroundTasks' });
  if (environment && !mayReadEnvironment) {
    violations.push({ file, message: 'reads process.env: values travel as arguments from config.ts' });
  }
  return violations;
}
