import { parseArgs } from 'node:util';
import { AppError } from '@backend.ai/core';
import { type ImageName, imageNames } from './recipes.ts';

export interface BuildOptions {
  readonly names: readonly ImageName[];
  readonly install: boolean;
  readonly rebuild: boolean;
  readonly json: boolean;
  /** Only makes what the engine would be given, and keeps it: for an engine that comes later. */
  readonly archives: boolean;
  /** Where the base images of the Dockerfiles are; undefined: images are made of Debian packages. */
  readonly from: string | undefined;
  readonly push: string | undefined;
}

/** @throws AppError `invalid-input` */
export function parseBuildOptions(args: string[]): BuildOptions {
  const { values, positionals } = parse(args);
  const names = positionals.map((name) => {
    const known = imageNames.find((each) => each === name);
    if (!known) throw usage(`"${name}" is none of the images: ${imageNames.join(', ')}.`);
    return known;
  });
  return {
    names: names.length > 0 ? [...new Set(names)] : imageNames,
    install: values.install,
    rebuild: values.rebuild,
    json: values.json,
    archives: values.archives,
    from: place(values.from, '--from'),
    push: place(values.push, '--push'),
  };
}

/** A registry, or a path in one. */
function place(text: string | undefined, option: string): string | undefined {
  if (text === undefined || /^[a-z0-9][a-z0-9.-]*(:\d+)?(\/[a-z0-9._-]+)*\/?$/.test(text))
    return text?.replace(/\/$/, '');
  throw usage(`${option} takes HOST[:PORT][/PATH] in lower case, not "${text}".`);
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        install: { type: 'boolean', default: false },
        rebuild: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        archives: { type: 'boolean', default: false },
        from: { type: 'string' },
        push: { type: 'string' },
      },
    });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

function usage(message: string): AppError {
  return new AppError('invalid-input', message, { hint: 'See: ./scripts/build-images.sh --help' });
}
