import { readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { build, type Metafile, type Plugin } from 'esbuild';
import { type PlannedBundle, repository } from './bundle-plan.ts';

/**
 * One CommonJS file per bundle, from the sources: V8 can cache the compiled form of such a file, and loading one is
 * several times faster than loading its modules one by one.
 */

/**
 * Packages with files of their own beside the code (workers, WebAssembly, binaries), with optional natives, or large
 * and seldom needed.
 */
const external = [
  '@electric-sql/pglite',
  '@lydell/node-pty',
  'bufferutil',
  'cpu-features',
  'dockerode',
  'echarts',
  'etcd3',
  'pino',
  'ssh2',
  'utf-8-validate',
  'ws',
];

export async function makeBundle(
  { entry, file }: PlannedBundle,
  options: { readonly write: boolean },
): Promise<Metafile> {
  const outfile = join(repository, file);
  const result = await build({
    stdin: {
      contents: [
        `import { main as run } from '@backend.ai/cli-kit';`,
        `import { commands } from ${JSON.stringify(`./${entry}`)};`,
        `export { commands };`,
        `export const main = (argv) => run(commands, argv);`,
      ].join('\n'),
      resolveDir: repository,
      sourcefile: `${file}.ts`,
    },
    outfile,
    write: options.write,
    bundle: true,
    metafile: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    // Code that V8 took from its cache cannot import; `require` of an ES module works from Node 20.19 on.
    supported: { 'dynamic-import': false },
    conditions: ['@backend.ai/source'],
    external,
    legalComments: 'none',
    logLevel: 'error',
    logOverride: { 'empty-import-meta': 'error' },
    absWorkingDir: repository,
    plugins: [keepLocations(dirname(outfile))],
  });
  return result.metafile;
}

/** In a bundle, a module of ours that looks for files beside itself believes to be where `tsc` puts it. */
function keepLocations(folder: string): Plugin {
  return {
    name: 'keep-locations',
    setup({ onLoad }) {
      onLoad({ filter: /[\\/](packages|apps)[\\/][^\\/]+[\\/]src[\\/].*\.ts$/ }, async ({ path }) => {
        const source = await readFile(path, 'utf8');
        if (!source.includes('import.meta.')) return undefined;
        const compiled = path.replace(/([\\/](?:packages|apps)[\\/][^\\/]+[\\/])src([\\/].*)\.ts$/, '$1dist$2.js');
        const here = `require('node:path').join(__dirname, ${JSON.stringify(relative(folder, compiled))})`;
        return {
          loader: 'ts',
          contents: source
            .replaceAll('import.meta.url', `require('node:url').pathToFileURL(${here}).href`)
            .replaceAll('import.meta.filename', here)
            .replaceAll('import.meta.dirname', `require('node:path').dirname(${here})`),
        };
      });
    },
  };
}
