import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { AppError } from '@backend.ai/core';

const actions = ['start', 'status', 'stop', 'reset'] as const;

export interface DevOptions {
  readonly action: (typeof actions)[number];
  /** Data and secrets. */
  readonly directory: string;
  /** Folder of `*.toml`. */
  readonly configs: string;
  readonly ports: { readonly postgres: number; readonly redis: number; readonly etcd: number };
  readonly install: boolean;
  readonly docker: boolean;
}

/** @throws AppError `invalid-input` */
export function parseOptions(args: string[]): DevOptions {
  const { values, positionals } = parse(args);
  const [action = 'start', ...rest] = positionals;
  const known = actions.find((each) => each === action);
  if (!known || rest.length > 0) throw usage(`"${positionals.join(' ')}" is none of: ${actions.join(', ')}.`);
  const port = (text: string, option: string): number => {
    const number = Number(text);
    if (Number.isInteger(number) && number > 0 && number < 65_536) return number;
    throw usage(`${option} takes a port, not "${text}".`);
  };
  return {
    action: known,
    directory: resolve(values.directory),
    configs: resolve(values.configs),
    ports: {
      postgres: port(values['postgres-port'], '--postgres-port'),
      redis: port(values['redis-port'], '--redis-port'),
      etcd: port(values['etcd-port'], '--etcd-port'),
    },
    install: values.install,
    docker: values.docker,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        directory: { type: 'string', default: '.dev' },
        configs: { type: 'string', default: 'configs' },
        'postgres-port': { type: 'string', default: '5432' },
        'redis-port': { type: 'string', default: '6379' },
        'etcd-port': { type: 'string', default: '2379' },
        install: { type: 'boolean', default: false },
        docker: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw usage((error as Error).message);
  }
}

function usage(message: string): AppError {
  return new AppError('invalid-input', message, { hint: 'See: ./scripts/run-dev.sh --help' });
}
