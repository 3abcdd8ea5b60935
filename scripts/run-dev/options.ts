import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { AppError } from '@backend.ai/core';
import { configuredPorts, defaultPorts } from './ports.ts';

const actions = ['start', 'status', 'stop', 'reset'] as const;

export interface DevOptions {
  readonly action: (typeof actions)[number];
  /** Data and secrets. */
  readonly directory: string;
  /** Folder of `*.toml`. */
  readonly configs: string;
  /** As given, else those of an existing configuration, else the usual ones. */
  readonly ports: { readonly postgres: number; readonly redis: number; readonly etcd: number };
  readonly install: boolean;
  readonly docker: boolean;
}

/** @throws AppError `invalid-input` */
export async function readOptions(args: string[]): Promise<DevOptions> {
  const { values, positionals } = parse(args);
  const [action = 'start', ...rest] = positionals;
  const known = actions.find((each) => each === action);
  if (!known || rest.length > 0) throw usage(`"${positionals.join(' ')}" is none of: ${actions.join(', ')}.`);
  const configs = resolve(values.configs);
  const configured = await configuredPorts(join(configs, 'manager.toml'));
  const port = (name: keyof typeof defaultPorts): number => {
    const option = `--${name}-port` as const;
    const text = values[`${name}-port`];
    if (text === undefined) return configured[name] ?? defaultPorts[name];
    const number = Number(text);
    if (Number.isInteger(number) && number > 0 && number < 65_536) return number;
    throw usage(`${option} takes a port, not "${text}".`);
  };
  return {
    action: known,
    directory: resolve(values.directory),
    configs,
    ports: { postgres: port('postgres'), redis: port('redis'), etcd: port('etcd') },
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
        'postgres-port': { type: 'string' },
        'redis-port': { type: 'string' },
        'etcd-port': { type: 'string' },
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
