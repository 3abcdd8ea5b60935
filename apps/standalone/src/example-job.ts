import { dirname, join } from 'node:path';
import type { Image } from '@backend.ai/client';
import { AppError } from '@backend.ai/core';
import { findInRepository } from './repository.ts';

/** The job of `quickstart`: a real table of readings, and the same program in each language that may be there. */
export interface ExampleJob {
  readonly image: Image;
  /** Local files to upload. */
  readonly inputs: readonly string[];
  /** Command line inside the session. */
  readonly command: string;
  /** What it writes. */
  readonly results: readonly string[];
}

const programs = [
  { language: 'python', file: 'analyse.py', command: 'python3 analyse.py co2.csv' },
  { language: 'node', file: 'analyse.js', command: 'node analyse.js co2.csv' },
] as const;

/** Python where the machine has it, else Node.js. @throws AppError `unknown-image` */
export function chooseExampleJob(images: readonly Image[]): ExampleJob {
  const folder = exampleFolder();
  for (const { language, file, command } of programs) {
    const candidates = images.filter((image) => image.language === language);
    const image =
      candidates.find(({ aliases }) => aliases.includes(language)) ??
      candidates.find(({ name }) => name.startsWith(`backend.ai/${language}:`)) ??
      candidates[0];
    if (image) {
      const inputs = [join(folder, 'co2.csv'), join(folder, file)];
      return { image, inputs, command, results: ['result.json', 'co2.svg'] };
    }
  }
  throw new AppError('unknown-image', 'No agent offers Python or Node.js.', {
    hint: 'See what was found on this machine with: ./backend.ai doctor',
  });
}

function exampleFolder(): string {
  const table = findInRepository('examples/co2/co2.csv');
  if (!table) throw new AppError('config-invalid', 'The folder examples/co2 is missing.');
  return dirname(table);
}
