/** Part of this package's build: the data directory that first starts copy, in dist/template. */
import { fileURLToPath } from 'node:url';
import { buildTemplate } from '../src/template.ts';

await buildTemplate(fileURLToPath(new URL('../dist/template', import.meta.url)));
