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
  rpc: ['core', 'telemetry', 'contract'],
  runtime: ['core', 'telemetry'],
  client: ['core', 'contract'],
  'cli-kit': ['core', 'telemetry', 'contract', 'client', 'runtime'],
  testing: ['core', 'telemetry', 'database', 'coordination'],
};

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
        if (!allowed) say(`package ${owner[2]} has no place in the layers; add it to scripts/check-boundaries.ts`);
        else if (!allowed.includes(target))
          say(`imports ${name}: ${owner[2]} may import only ${allowed.join(', ') || 'nothing'}`);
      }
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

function read(file: string, text: string): Source {
  const { program, errors } = parseSync(file, text);
  if (errors[0]) throw new Error(`${file}: ${errors[0].message}`);
  const imports: string[] = [];
  const timers: string[] = [];
  let environment = false;
  let abandoned = 0;
  const takeTimer = (node: { type: string; name?: unknown }): void => {
    if (node.type === 'Identifier' && isTimer(node.name)) timers.push(node.name);
  };
  const takeFrom = ({ source }: { source: unknown }): void => {
    const { value } = (source ?? {}) as { value?: unknown };
    if (typeof value !== 'string') return;
    imports.push(value);
    if (/^(node:)?timers(\/|$)/.test(value)) timers.push(value);
  };
  new Visitor({
    ImportDeclaration: takeFrom,
    ExportNamedDeclaration: takeFrom,
    ExportAllDeclaration: takeFrom,
    ImportExpression: takeFrom,
    TSImportType: takeFrom,
    CallExpression(call) {
      takeTimer(call.callee);
      for (const each of call.arguments) takeTimer(each);
    },
    NewExpression(made) {
      for (const each of made.arguments) takeTimer(each);
    },
    MemberExpression({ object, property }) {
      if (object.type !== 'Identifier') return;
      const name = property.type === 'Identifier' ? property.name : property.type === 'Literal' ? property.value : '';
      if (object.name === 'process' && name === 'env') environment = true;
      if (/^(globalThis|global)$/.test(object.name) && isTimer(name)) timers.push(name);
    },
    ExpressionStatement({ expression }) {
      if (isAbandoned(expression)) abandoned += 1;
    },
    UnaryExpression({ operator, argument }) {
      if (operator === 'void' && isAbandoned(argument)) abandoned += 1;
    },
  }).visit(program);
  return { imports, timers, abandoned, environment };
}

const isTimer = (name: unknown): name is string =>
  typeof name === 'string' && /^set(Interval|Timeout|Immediate)$/.test(name);

/** `(async () => …)()`, in any parentheses. */
function isAbandoned(expression: unknown): boolean {
  const node = expression as { type: string; async?: boolean; expression?: unknown; callee?: unknown };
  if (node.type === 'ParenthesizedExpression') return isAbandoned(node.expression);
  if (node.type !== 'CallExpression') return false;
  let callee = node.callee as typeof node;
  while (callee.type === 'ParenthesizedExpression') callee = callee.expression as typeof node;
  return /^(ArrowFunction|Function)Expression$/.test(callee.type) && callee.async === true;
}

/** Raw timers and the environment, outside of the rooms that own them. */
function checkUses(file: string, { timers, abandoned, environment }: Source): Violation[] {
  const mayReadEnvironment =
    /(^|\/)(config|environment|dev)\.ts$|^packages\/cli-kit\/|^apps\/cli\/|\/commands\/|\/scripts\//.test(file);
  // A timer of the clock keeps no process alive; the SDK and the command line wait for nothing else.
  const mayUseTimers =
    /^packages\/(core\/src\/clock|telemetry\/src\/background|client\/src\/(api-link|run)|cli-kit\/src\/run-commands)\.ts$/.test(
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
