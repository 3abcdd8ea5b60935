import { AppError } from '@backend.ai/core';
import { z } from 'zod';

/**
 * How a service of an image is started, as the image tells in `/etc/backend.ai/service-defs/<name>.json`. It runs inside
 * the kernel, as its user, so it is not trusted with anything: its form is checked, and that is all.
 */

const text = z.string().max(16_384);
const texts = z.union([text.transform((one) => [one]), z.array(text).max(256)]);

const actionSchema = z.discriminatedUnion('action', [
  z.object({
    action: z.literal('write_file'),
    args: z.object({ filename: text, body: texts, mode: text.optional(), append: z.boolean().optional() }),
  }),
  z.object({
    action: z.literal('write_tempfile'),
    args: z.object({ body: texts, mode: text.optional() }),
    /** The name by which templates find the file. */
    ref: text,
  }),
  z.object({ action: z.literal('mkdir'), args: z.object({ path: text }) }),
  z.object({ action: z.literal('run_command'), args: z.object({ command: z.array(text).min(1).max(256) }) }),
  z.object({ action: z.literal('log'), args: z.object({ body: texts }) }),
]);

export const serviceDefinitionSchema = z.object({
  command: z.union([text, z.array(text).max(256)]).default([]),
  /** It is there without being started. */
  noop: z.boolean().default(false),
  /** Given to whoever asks for the services: where users find it. */
  url_template: text.optional(),
  prestart: z.array(actionSchema).max(64).default([]),
  env: z.record(text, text).default({}),
  allowed_envs: z.array(text).max(256).default([]),
  allowed_arguments: z.array(text).max(256).default([]),
  default_arguments: z.record(text, z.union([z.null(), text, z.array(text).max(64)])).default({}),
});
export type ServiceDefinition = z.infer<typeof serviceDefinitionSchema>;

/** @throws AppError `state-conflict` when the image's definition cannot be understood */
export function parseServiceDefinition(name: string, json: string): ServiceDefinition {
  try {
    return serviceDefinitionSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw new AppError('state-conflict', `The image defines the service "${name}" in a way that is not understood.`, {
      hint: `Look at /etc/backend.ai/service-defs/${name}.json in the image.`,
      cause,
    });
  }
}

export interface ServiceRequest {
  readonly ports: readonly number[];
  readonly envs: Readonly<Record<string, string>>;
  readonly arguments: Readonly<Record<string, string | readonly string[] | null>>;
}

export interface Program {
  readonly argv: readonly string[];
  readonly environ: Readonly<Record<string, string>>;
}

export interface ServicePlan {
  /** To be run one after the other, each to its end. */
  readonly before: readonly Program[];
  /** Null: there is nothing to start. */
  readonly main: Program | null;
}

/**
 * What to run for a service.
 * @throws AppError `invalid-input` for variables and arguments that the definition does not allow, or names of templates
 *   that it does not know
 */
export function planService(name: string, definition: ServiceDefinition, request: ServiceRequest): ServicePlan {
  refuseOthers('variable', Object.keys(request.envs), definition.allowed_envs);
  refuseOthers('argument', Object.keys(request.arguments), definition.allowed_arguments);
  const values = new Map<string, string>();
  for (const [at, port] of request.ports.entries()) values.set(`ports[${at}]`, String(port));
  values.set('port', String(request.ports[0] ?? ''));
  values.set('service_name', name);
  const fill = (template: string): string => fillTemplate(template, values);
  const environ = {
    ...Object.fromEntries(Object.entries(definition.env).map(([key, value]) => [key, fill(value)])),
    ...request.envs,
  };
  const prepare = (step: ServiceDefinition['prestart'][number]): Program => {
    switch (step.action) {
      case 'mkdir':
        return { argv: ['mkdir', '-p', '--', fill(step.args.path)], environ };
      case 'run_command':
        return { argv: step.args.command.map(fill), environ };
      case 'log':
        return { argv: ['printf', '%s\n', step.args.body.map(fill).join('\n')], environ };
      case 'write_tempfile': {
        const file = `/tmp/.service-${name}-${step.ref.replaceAll(/[^A-Za-z0-9_-]/g, '_')}`;
        values.set(step.ref, file);
        return writing(file, step.args.body.map(fill).join('\n'), step.args.mode ?? '644', false);
      }
      case 'write_file': {
        const { filename, body, mode, append } = step.args;
        return writing(fill(filename), body.map(fill).join('\n'), mode ?? '644', append ?? false);
      }
    }
  };
  const before = definition.prestart.map(prepare);
  const words = typeof definition.command === 'string' ? ['/bin/sh', '-c', definition.command] : definition.command;
  if (definition.noop || words.length === 0) return { before, main: null };
  const options = { ...definition.default_arguments, ...request.arguments };
  const argv = [...words.map(fill), ...Object.entries(options).flatMap(([key, value]) => argumentWords(key, value))];
  return { before, main: { argv, environ } };
}

function refuseOthers(what: string, given: readonly string[], allowed: readonly string[]): void {
  const other = given.find((name) => !allowed.includes(name));
  if (other === undefined) return;
  const hint = allowed.length === 0 ? `It takes no ${what}s.` : `Allowed are: ${allowed.join(', ')}`;
  throw new AppError('invalid-input', `The service does not take the ${what} "${other}".`, { hint });
}

function argumentWords(name: string, value: string | readonly string[] | null): string[] {
  if (value === null) return [name];
  return typeof value === 'string' ? [name, value] : [name, ...value];
}

/** `{name}` by its value, `{{` and `}}` by one brace. */
function fillTemplate(template: string, values: ReadonlyMap<string, string>): string {
  return template.replaceAll(/\{\{|\}\}|\{([^{}]*)\}/g, (found, name: string | undefined) => {
    if (found === '{{') return '{';
    if (found === '}}') return '}';
    const value = values.get(name ?? '');
    if (value === undefined)
      throw new AppError('state-conflict', `The service's definition names "${name}", which nothing sets.`);
    return value;
  });
}

/** The script is a constant; names and contents are its arguments. */
function writing(file: string, body: string, mode: string, append: boolean): Program {
  const script = `printf '%s\\n' "$2" ${append ? '>>' : '>'} "$1" && chmod "$3" "$1"`;
  return { argv: ['/bin/sh', '-c', script, 'sh', file, body, /^0?[0-7]{3}$/.test(mode) ? mode : '644'], environ: {} };
}
